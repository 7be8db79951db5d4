"""What was found, in the forms that people and programs read. Text in, text out; no I/O."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from packlore.check.model import Finding, Level, Trouble
from packlore.pack import line

_SARIF = {Level.ERROR: "error", Level.WARNING: "warning", Level.HINT: "note"}
MAX_PATH = 200
"""Characters of a path that an agent is told."""
_GITHUB = {Level.ERROR: "error", Level.WARNING: "warning", Level.HINT: "notice"}


def text(findings: Sequence[Finding]) -> str:
    """Three lines for each: where and what, the code, what to do. None of them begins with what
    stands in a file, since in a log of GitHub a line that begins with `::` is a command."""
    return "".join(
        f"{_begun(line(each.path))}:{each.line}:{each.column}: {each.level.label}: {each.rule}: "
        f"{each.message}\n    | {each.code}\n  do: {each.note} (packlore show {each.rule})\n"
        for each in findings
    )


def _begun(path: str) -> str:
    return f"./{path}" if path.startswith((":", " ")) else path


def summary(findings: Sequence[Finding], files: int, less: Mapping[str, int]) -> str:
    """One line: how much was found in how much, and what was left out, by reason."""
    counts = Counter(each.level for each in findings)
    levels = [f"{counts[each]} {each.label}s" for each in reversed(Level) if counts[each]]
    found = ", ".join(levels) or "nothing found"
    left = "".join(f"; {count} {reason}" for reason, count in less.items() if count)
    return f"{found} in {files:,} files{left}"


def data(findings: Sequence[Finding], troubles: Sequence[Trouble], files: int) -> dict[str, Any]:
    """For programs: the same names as `Finding`, and how many files were looked at."""
    return {
        "files": files,
        "findings": [row(each) for each in findings],
        "troubles": [{"path": line(each.path), "reason": line(each.reason)} for each in troubles],
    }


def row(finding: Finding) -> dict[str, Any]:
    """One finding for programs. What cannot be seen in the name of its file is an escape."""
    names = ("path", "line", "column", "end_line", "end_column", "rule", "detector")
    found: dict[str, Any] = {name: getattr(finding, name) for name in names}
    found |= {
        "path": line(finding.path),
        "level": finding.level.label,
        "message": finding.message,
        "note": finding.note,
    }
    return found | {"code": finding.code}


def github(findings: Sequence[Finding]) -> str:
    """Annotations of GitHub's workflow commands
    (https://docs.github.com/actions/reference/workflow-commands-for-github-actions)."""

    def value(said: str) -> str:
        return said.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    def property_(said: object) -> str:
        return value(str(said)).replace(":", "%3A").replace(",", "%2C")

    rows = []
    for each in findings:
        fields = {
            "file": line(each.path),
            "line": each.line,
            "col": each.column,
            "endLine": each.end_line,
            "title": each.rule,
        }
        listed = ",".join(f"{name}={property_(said)}" for name, said in fields.items())
        said = f"{each.message} Do: {each.note} (packlore show {each.rule})"
        rows.append(f"::{_GITHUB[each.level]} {listed}::{value(said)}\n")
    return "".join(rows)


def brief(path: str) -> str:
    """A path for an agent, which reads many of them: the end of a long one."""
    shown = line(path)
    return shown if len(shown) <= MAX_PATH else f"…{shown[-MAX_PATH:]}"


def sarif(
    findings: Sequence[Finding],
    troubles: Sequence[Trouble],
    titles: Mapping[str, str],
    version: str,
) -> dict[str, Any]:
    """SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/). `titles` are those of rules
    by id."""
    used = sorted({each.rule for each in findings})
    rules = [
        {"id": each, "shortDescription": {"text": titles.get(each, each)}}
        | {"help": {"text": f"packlore show {each}"}}
        for each in used
    ]
    notes = [
        {
            "level": "warning",
            "message": {"text": line(each.reason)},
            "locations": [{"physicalLocation": {"artifactLocation": _artifact(each.path)}}],
        }
        for each in troubles
    ]
    run = {
        "tool": {"driver": {"name": "packlore", "version": version or "0", "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
        "results": [_result(each, used.index(each.rule)) for each in findings],
    }
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return {"$schema": schema, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding, index: int) -> dict[str, Any]:
    region = {
        "startLine": finding.line,
        "startColumn": finding.column,
        "endLine": finding.end_line,
        "endColumn": finding.end_column,
        "snippet": {"text": finding.code},
    }
    place = {"artifactLocation": _artifact(finding.path), "region": region}
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _SARIF[finding.level],
        "message": {"text": f"{finding.message} {finding.note}"},
        "locations": [{"physicalLocation": place}],
    }


def _artifact(path: str) -> dict[str, str]:
    return {"uri": quote(os.fsencode(path), safe="/")}  # a name may be no text
