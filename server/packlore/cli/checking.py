"""The command that reads code: check."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from packlore.check import (
    Detectors,
    Finding,
    Level,
    Trouble,
    baseline,
    changes,
    report,
    run,
    settings,
    sources,
)
from packlore.cli import terminal
from packlore.errors import BadArgumentError, NotFoundError
from packlore.library import Library
from packlore.locate import locate

STEP = 50
"""Files between two tidings of progress."""


@dataclass
class _Seen:
    """All that was seen, and how much of it is not told, by the reason."""

    files: int = 0
    findings: list[Finding] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    less: dict[str, int] = field(default_factory=dict)


def check(arguments: argparse.Namespace) -> int:
    """`packlore check`."""
    here = Path.cwd()
    given = settings.load(here)
    library = Library.open(locate(arguments.pack))
    seen = _seen(arguments, given, _asked(arguments, given, library))
    level = Level.parse(arguments.min_level or "") or given.min_level or Level.ERROR
    if arguments.write_baseline:
        place = Path(arguments.write_baseline)
        place.write_text(
            baseline.written(seen.findings),
            encoding="utf-8",
            errors="backslashreplace",
            newline="\n",
        )
        terminal.tell(f"packlore: {len(seen.findings)} findings are known by {place}")
        return 0
    known = arguments.baseline or (given.root / given.baseline if given.baseline else "")
    if known:
        new = baseline.new(seen.findings, baseline.load(Path(known)))
        seen.less["in the baseline"] = len(seen.findings) - len(new)
        seen.findings = new
    told = [each for each in seen.findings if each.level >= level]
    if below := len(seen.findings) - len(told):
        seen.less[f"below {level.label} (--min-level hint shows all)"] = below
    _tell(arguments, library, seen, told, given.root)
    return 1 if told else 0


def _asked(arguments: argparse.Namespace, given: settings.Settings, library: Library) -> Detectors:
    """The detectors that are asked, by --select and --ignore. NotFoundError for what is neither a
    rule nor a category."""
    select, ignore = arguments.select or given.select, [*arguments.ignore, *given.ignore]
    category = {
        library.name(entry.pack, entry.item): entry.item.category for entry in library.rules()
    }
    for each in (*select, *ignore):
        if each not in category and each not in category.values():
            near = get_close_matches(each, [*category, *category.values()], n=1)
            hint = f"; nearest: {near[0]}" if near else ""
            raise NotFoundError(f"no rule or category {each!r}{hint}")

    def is_in(rule: str, names: Iterable[str]) -> bool:
        return any(each in (rule, category.get(rule)) for each in names)

    found = tuple(
        each
        for each in library.detectors.all
        if (not select or is_in(each.rule, select)) and not is_in(each.rule, ignore)
    )
    if not found:
        raise BadArgumentError("there is no detector to ask: no rule that is meant has one")
    return Detectors(found)


def _seen(arguments: argparse.Namespace, given: settings.Settings, detectors: Detectors) -> _Seen:
    seen = _Seen()
    changed = _changed(arguments)
    wanted: list[sources.Source] = []
    for each in _sources(arguments, given, detectors):
        if isinstance(each, Trouble):
            seen.troubles.append(each)
        elif meant := changes.changed(changed, each) if changed else each:
            wanted.append(meant)
    for source, checked in zip(wanted, run.check(wanted, detectors), strict=True):
        seen.files += 1
        if not seen.files % STEP:
            terminal.progress(f"checked {seen.files:,} of {len(wanted):,} files")
        if checked.trouble:
            seen.troubles.append(checked.trouble)
        found = checked.findings
        if changed and found:
            found = _in_changes(changed, source, found)
        seen.findings += found
        seen.less["silenced"] = seen.less.get("silenced", 0) + checked.silenced
    terminal.progress("")
    return seen


def _sources(
    arguments: argparse.Namespace, given: settings.Settings, detectors: Detectors
) -> Iterator[sources.Source | Trouble]:
    paths = [Path(each) for each in arguments.paths] or [Path()]
    exclude = (*given.exclude, *arguments.exclude)
    languages = {each.language for each in detectors.all}
    return sources.sources(paths, given.root, languages, exclude)


def _changed(arguments: argparse.Namespace) -> changes.Changes | None:
    """What may be spoken of; None where it is all."""
    if arguments.staged and arguments.diff:
        raise BadArgumentError("give --diff or --staged, not both")
    if arguments.staged:
        return changes.staged(Path.cwd())
    return changes.since(arguments.diff, Path.cwd()) if arguments.diff else None


def _in_changes(
    changed: changes.Changes, source: sources.Source, found: tuple[Finding, ...]
) -> tuple[Finding, ...]:
    text = sources.read(source)
    lines = changes.lines(changed, source, text) if isinstance(text, str) else None
    return found if lines is None else tuple(each for each in found if _touches(each, lines))


def _touches(finding: Finding, lines: frozenset[int]) -> bool:
    """Whether a finding begins on a changed line, or is short and has one."""
    last = min(max(finding.line, finding.end_line), finding.line + 9)
    return any(each in lines for each in range(finding.line, last + 1))


def _tell(
    arguments: argparse.Namespace,
    library: Library,
    seen: _Seen,
    told: list[Finding],
    root: Path,
) -> None:
    if arguments.json:
        terminal.data(report.data(told, seen.troubles, seen.files))
        return
    if arguments.sarif:
        titles = {
            library.name(entry.pack, entry.item): entry.item.title for entry in library.rules()
        }
        version = next(iter(library.packs.values())).version
        terminal.data(report.sarif(told, seen.troubles, titles, version))
        return
    if arguments.github:
        terminal.plain(report.github(told))
    else:
        shown = [
            replace(each, path=Path(os.path.relpath(root / each.path)).as_posix()) for each in told
        ]
        terminal.plain(terminal.inert(report.text(shown)))
    for each in seen.troubles:
        terminal.tell(f"packlore: {each}")
    terminal.tell(f"packlore: {report.summary(told, seen.files, seen.less)}")
