"""What a comment in the code takes out: `# packlore: ignore[rule] reason`, on the line of the
finding or alone on the line above it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packlore.check.model import Finding, Level
from packlore.pack import visible

_COMMENT = re.compile(
    r"(?<![`'\"])(?P<mark>\#|//|--|/\*)[ \t]{0,8}packlore:[ \t]{0,8}ignore"
    r"(?:\[(?P<rules>[^\]\n]{0,400})\])?(?P<reason>[^\n]{0,400})"
)
UNUSED = "unused-ignore"


@dataclass(frozen=True, slots=True)
class Ignore:
    """A comment: where it stands, the lines that it speaks of, its rules and its reason."""

    line: int
    column: int
    lines: tuple[int, ...]
    rules: frozenset[str]
    reason: str
    code: str


def ignores(text: str) -> tuple[Ignore, ...]:
    """All such comments of a text."""
    if "packlore:" not in text:
        return ()
    return tuple(_ignores(text))


def _ignores(text: str) -> Iterator[Ignore]:
    for number, row in enumerate(text.split("\n"), start=1):
        if "packlore:" not in row or not (found := _COMMENT.search(row)):
            continue
        alone = not row[: found.start()].strip()
        rules = frozenset(each.strip() for each in (found["rules"] or "").split(",")) - {""}
        yield Ignore(
            line=number,
            column=found.start() + 1,
            lines=(number, number + 1) if alone else (number,),
            rules=rules,
            reason=found["reason"].strip(" \t:*/-"),
            code=visible(row.strip()[:200]),
        )


def applied(
    path: str, findings: Iterable[Finding], comments: Iterable[Ignore]
) -> tuple[list[Finding], int]:
    """The findings that no comment takes out, with one for each comment that takes out none; and
    how many were taken out."""
    left: list[Finding] = []
    used: set[Ignore] = set()
    silenced = 0
    known = tuple(comments)
    for finding in findings:
        by = [
            each
            for each in known
            if finding.line in each.lines and {finding.rule, finding.detector} & each.rules
        ]
        used |= set(by)
        silenced += bool(by)
        if not by:
            left.append(finding)
    left += [_unused(path, each) for each in known if each not in used]
    return left, silenced


def _unused(path: str, comment: Ignore) -> Finding:
    if comment.rules:
        message = visible(f"no finding of {', '.join(sorted(comment.rules))} here to ignore")
        note = "take the comment out"
    else:
        message = "ignores nothing: it names no rule"
        note = "write `packlore: ignore[rule] reason`"
    return Finding(
        path=path,
        line=comment.line,
        column=comment.column,
        end_line=comment.line,
        end_column=comment.column + 1,
        rule=UNUSED,
        detector=UNUSED,
        level=Level.WARNING,
        message=message,
        note=note,
        code=comment.code,
    )
