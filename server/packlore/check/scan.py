"""One source text, and what the detectors see in it. No I/O."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from packlore.check.ignores import UNUSED, applied, ignores
from packlore.check.imports import Text, resolve
from packlore.check.literals import Clauses
from packlore.check.lookups import Lookups, Parts, asking
from packlore.check.model import Checked, Detector, Finding, Level, Trouble
from packlore.check.places import matches, place
from packlore.check.plain import ends, plain
from packlore.check.syntax import PYTHON, NoGrepError, likeliest, oddity, root_kind, search, tree
from packlore.check.words import clauses, may_hold
from packlore.pack import visible

if TYPE_CHECKING:
    from ast_grep_py import SgNode

PASTED = "code"
"""What pasted code is called."""
MAX_QUERY = 16 * 1024
"""Characters of a query that are looked at."""
MAX_SHOWN = 60
"""Characters of code that a message shows."""
MAX_ROW = 200
"""Characters of a line that is shown."""
MAX_FINDINGS = 500
"""Findings of one detector in one text: a generated file is not listed to its end."""
_VARIABLE = re.compile(r"\$([A-Z_][A-Z0-9_]*)")


@dataclass(frozen=True)
class Detectors:
    """The detectors of some packs, as they are asked: those of one language together."""

    all: tuple[Detector, ...]

    @cached_property
    def names(self) -> dict[str, str]:
        """How all patterns spell the qualified names that they know."""
        return {name: spelled for each in self.all for name, spelled in each.names.items()}

    @cached_property
    def loud(self) -> Detectors:
        """Those whose findings are more than hints."""
        return Detectors(tuple(each for each in self.all if each.level > Level.HINT))

    @cached_property
    def named(self) -> dict[str, Clauses]:
        """The last parts of the names that a detector knows, by its id: a text that holds none of
        them is not searched by it."""
        last = {each.id: {name.rpartition(".")[2] for name in each.names} for each in self.all}
        return {name: (tuple(sorted(words)),) if words else () for name, words in last.items()}

    @cached_property
    def needed(self) -> dict[str, Clauses]:
        """What a text whose names are resolved must hold for a detector to find anything."""
        return {each.id: clauses(each.config, each.language) for each in self.all}

    @cached_property
    def _forms(self) -> dict[tuple[str, bool], tuple[Mapping[str, Any], Parts]]:
        return {}

    @cached_property
    def _plain(self) -> dict[str, tuple[dict[str, Any], int]]:
        return {}

    def config(self, detector: Detector, size: int) -> tuple[Mapping[str, Any], Parts]:
        """A detector's rule in the form that is cheapest for a text of so many `ends`, and what of
        it asks something of the whole file."""
        if detector.id not in self._plain:
            self._plain[detector.id] = plain(detector.config)
        made, fewer = self._plain[detector.id]
        form = (detector.id, size < fewer)
        if form not in self._forms:
            config = made if size < fewer else detector.config
            self._forms[form] = config, asking(config, root_kind(detector.language))
        return self._forms[form]

    def of(self, language: str, path: str, text: str) -> list[Detector]:
        """Those that could find something in a text."""
        known: dict[str, bool] = {}
        return [
            each
            for each in self.all
            if each.language == language
            and may_hold(text, self.named[each.id], known)
            and not (each.files and not matches(path, each.files))
            and not matches(path, each.ignores)
        ]

    def still(self, asked: Sequence[Detector], resolved: str) -> list[Detector]:
        """Those of them that could, once names are resolved."""
        known: dict[str, bool] = {}
        return [each for each in asked if may_hold(resolved, self.needed[each.id], known)]


def scan(path: str, text: str, language: str, detectors: Detectors) -> Checked:
    """What is seen in a text. `path` is relative, with `/`: it says how mildly to judge."""
    comments = ignores(text)
    asked = detectors.of(language, path, text)
    found: list[Finding] = []
    if asked:
        root = tree(text, language)
        if odd := oddity(root, text):
            return Checked(path, trouble=Trouble(path, f"not checked: {odd}"))
        resolved = resolve(root, text, detectors.names) if language == PYTHON else Text(text)
        if resolved.odd:
            return Checked(path, trouble=Trouble(path, f"not checked: {resolved.odd}"))
        if resolved.edits:
            root = tree(resolved.text, language)
        found = [*_findings(path, text, root, resolved, detectors, asked)]
    if place(path):
        found = [replace(each, level=Level.HINT) for each in found]
    left, silenced = applied(path, found, comments)
    ordered = sorted(left, key=lambda each: (each.line, each.column, each.rule, each.detector))
    return Checked(path, tuple(ordered), silenced=silenced)


def pasted(code: str, detectors: Detectors) -> Checked:
    """What is seen in code that has no path, in the language that it most likely is in."""
    text = dedent(code)
    language = likeliest(text, dict.fromkeys(each.language for each in detectors.all))
    return scan(PASTED, text, language, detectors) if language else Checked(PASTED)


def broken(query: str, detectors: Detectors) -> list[Finding]:
    """The first finding of each rule that code in a query breaks, the surest first; none where
    code cannot be checked."""
    try:
        found = worst_first(pasted(query[:MAX_QUERY], detectors.loud).findings)
    except NoGrepError:
        return []
    rules: dict[str, Finding] = {}
    for each in found:
        if each.rule != UNUSED:
            rules.setdefault(each.rule, each)
    return list(rules.values())


def _findings(
    path: str,
    text: str,
    root: SgNode,
    resolved: Text,
    detectors: Detectors,
    asked: Sequence[Detector],
) -> Iterator[Finding]:
    starts = _line_starts(text)
    seen: set[tuple[str, int]] = set()  # of several detectors of a rule, the first speaks
    lookups, size = Lookups(root), ends(resolved.text)
    for detector in detectors.still(asked, resolved.text):
        config, parts = detectors.config(detector, size)
        if parts:
            config = lookups.answered(config, parts)
        for match in search(root, config)[:MAX_FINDINGS]:
            at = (match.get_match(detector.at) if detector.at else None) or match
            span = at.range()
            begin, end = (resolved.original(each.index) for each in (span.start, span.end))
            if (detector.rule, begin) in seen:
                continue
            seen.add((detector.rule, begin))
            line, column = _place(starts, begin)
            end_line, end_column = _place(starts, max(begin, end))
            yield Finding(
                path=path,
                line=line,
                column=column,
                end_line=end_line,
                end_column=end_column,
                rule=detector.rule,
                detector=detector.id,
                level=detector.level,
                message=_filled(detector.message, match),
                note=_filled(detector.note, match),
                code=_row(text, starts[line - 1]),
            )


def _filled(message: str, match: SgNode) -> str:
    """The message with what its metavariables stand for."""

    def shown(variable: re.Match[str]) -> str:
        node = match.get_match(variable[1])
        return visible(" ".join(node.text()[:400].split())[:MAX_SHOWN]) if node else variable[0]

    return _VARIABLE.sub(shown, message)


def _row(text: str, start: int) -> str:
    """The line that begins at `start`, or as much of it as is shown."""
    end = text.find("\n", start)
    return visible(text[start : len(text) if end < 0 else end][:1000].strip()[:MAX_ROW])


def _line_starts(text: str) -> list[int]:
    return [0, *accumulate(len(row) + 1 for row in text.split("\n"))]


def _place(starts: list[int], offset: int) -> tuple[int, int]:
    line = bisect_right(starts, offset)
    return line, offset - starts[line - 1] + 1


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """The surest first, then by place."""
    return sorted(findings, key=lambda each: (-each.level, each.path, each.line, each.column))
