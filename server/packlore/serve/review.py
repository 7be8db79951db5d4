"""What check_code answers: the findings in code, each with its line, and the rule of the worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from packlore import render
from packlore.check import (
    PASTED,
    Finding,
    Level,
    Trouble,
    pasted,
    report,
    run,
    sources,
    worst_first,
)
from packlore.errors import BadArgumentError, NotFoundError
from packlore.library import Library
from packlore.pack import line

MAX_CODE = 64 * 1024
"""Characters of code in one call; what an agent writes at once is far shorter."""
MAX_FILES = 50
"""Files of one call. More are for `packlore check`."""
MAX_LISTED = 30
"""Findings that are listed."""


@dataclass(frozen=True, slots=True)
class Review:
    """What was seen, and in how many files or pieces of code."""

    findings: tuple[Finding, ...]
    troubles: tuple[Trouble, ...] = ()
    files: int = 1


def of_code(library: Library, code: str) -> Review:
    """What is seen in code. BadArgumentError where there is none, or too much; NoGrepError where
    code cannot be checked."""
    if not code.strip():
        raise BadArgumentError("code is empty: give the code that you wrote")
    if len(code) > MAX_CODE:
        raise BadArgumentError(f"code has {len(code):,} characters, at most {MAX_CODE:,}")
    if not library.detectors.all:
        raise BadArgumentError("no rule here has a detector: ask find_rules with the code")
    checked = pasted(code, library.detectors)
    return Review(checked.findings, (checked.trouble,) if checked.trouble else ())


def of_files(library: Library, paths: Sequence[str], root: Path) -> Review:
    """What is seen in files at or below `root`, and in no others. Git is not asked which of them it
    ignores: who lets an agent ask has not said that this repository may be trusted."""
    places = [Path(root, each) for each in paths]
    for each in places:
        if not each.resolve().is_relative_to(root.resolve()):
            raise BadArgumentError(f"{str(each)[:200]} is not below the working folder")
    languages = {each.language for each in library.detectors.all}
    found = list(sources.sources(places, root, languages, with_git=False))
    files = [each for each in found if isinstance(each, sources.Source)]
    if len(files) > MAX_FILES:
        raise BadArgumentError(
            f"{len(files):,} files, at most {MAX_FILES}: name fewer, or run `packlore check`"
        )
    checked = list(run.check(files, library.detectors))
    troubles = [each for each in found if isinstance(each, Trouble)]
    return Review(
        tuple(finding for each in checked for finding in each.findings),
        (*troubles, *(each.trouble for each in checked if each.trouble)),
        len(files),
    )


def shown(library: Library, review: Review) -> str:
    """The findings, surest first, and in brief the rule of the first; hints by number alone."""
    told = worst_first(each for each in review.findings if each.level > Level.HINT)
    rows = [_row(each) for each in told[:MAX_LISTED]]
    if len(told) > MAX_LISTED:
        rows.append(f"- and {len(told) - MAX_LISTED} more")
    if not rows:
        rows.append(f"Nothing that breaks a rule is seen in {_counted(review.files)}.")
    hints = Counter(each.rule for each in review.findings if each.level == Level.HINT)
    if hints:
        rows.append(f"Worth a look: {', '.join(f'{rule} ({n})' for rule, n in hints.items())}.")
    rows += [
        f"- {report.brief(each.path)}: {line(each.reason)}" for each in review.troubles[:MAX_LISTED]
    ]
    for worst in told[:1]:
        with suppress(NotFoundError):  # a comment that ignores nothing breaks no rule
            rows += ["", f"{worst.rule}:", "", render.in_brief(library, [library.get(worst.rule)])]
    return "\n".join(rows).rstrip() + "\n"


def _row(finding: Finding) -> str:
    path = report.brief(finding.path)
    where = f"line {finding.line}" if finding.path == PASTED else f"{path}:{finding.line}"
    return f"- {where}, {finding.rule} ({finding.level.label}): {finding.message}. {finding.note}"


def _counted(files: int) -> str:
    return "1 piece of code" if files == 1 else f"{files} files"
