"""What a client says of an edit that its agent has just made: which files, and which lines in them.

Claude Code and Codex send `PostToolUse` (https://code.claude.com/docs/en/hooks,
https://developers.openai.com/codex/hooks), Cursor `afterFileEdit` (https://cursor.com/docs/hooks).
No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PATCHED = re.compile(r"^\*\*\* (?:Add|Update) File: (.+)$|^\*\*\* Move to: (.+)$")


@dataclass(frozen=True, slots=True)
class Edit:
    """An edited file as the client calls it, and the texts that were put into it; none where the
    whole file is new."""

    path: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the hook. `folder` is where the agent works, `session` the same for all calls of
    one conversation; `cursor` says whose form an answer has."""

    edits: tuple[Edit, ...]
    folder: str
    session: str
    cursor: bool


def call(given: object) -> Call | None:
    """The call in what a client sent; None where it tells of no edit."""
    if not isinstance(given, Mapping):
        return None
    tool = _mapping(given.get("tool_input"))
    roots = given.get("workspace_roots")
    folder = _string(given.get("cwd")) or _string(
        roots[0] if isinstance(roots, list) and roots else ""
    )
    session = _string(given.get("session_id")) or _string(given.get("conversation_id"))
    cursor = given.get("hook_event_name") == "afterFileEdit"
    found = _edits({**tool, **given} if cursor else tool)
    edits = tuple(each for each in found if each.path)
    return Call(edits, folder, session, cursor) if edits else None


def changed(text: str, edit: Edit) -> frozenset[int] | None:
    """The lines of a file that an edit has put there, counted from 1; None for all of them. An
    edit that is not there any more has none."""
    if not edit.texts:
        return None
    lines: set[int] = set()
    for each in edit.texts:
        at = text.find(each) if each.strip() else -1
        if at >= 0:
            first = text.count("\n", 0, at) + 1
            lines |= set(range(first, first + each.rstrip("\n").count("\n") + 1))
    return frozenset(lines)


def answer(call: Call, text: str) -> dict[str, Any]:
    """What is sent back, so that the agent reads `text`; nothing of it blocks."""
    if call.cursor:
        return {"additional_context": text}
    said = {"hookEventName": "PostToolUse", "additionalContext": text}
    return {"hookSpecificOutput": said}


def _edits(tool: Mapping[str, Any]) -> Iterator[Edit]:
    path = _string(tool.get("file_path"))
    if path:
        many = tool.get("edits")
        texts = (
            [_mapping(each).get("new_string") for each in many] if isinstance(many, list) else []
        )
        texts.append(tool.get("new_string"))
        yield Edit(path, tuple(each for each in map(_string, texts) if each))
    else:
        yield from _patched(_string(tool.get("command")) or _string(tool.get("input")))


def _patched(patch: str) -> Iterator[Edit]:
    """The files of a patch as Codex's `apply_patch` takes it, with the runs of lines that it adds."""
    path = ""
    runs: list[list[str]] = []
    for row in [*patch.split("\n"), "*** Update File: "]:
        head = _PATCHED.match(row)
        if head or row.startswith("*** "):
            if path and any(runs) and not (head and head[2]):
                yield Edit(path, tuple("\n".join(each) for each in runs if each))
                path, runs = "", []
            path = (head[1] or head[2] if head else "") or path
        elif row.startswith("+"):
            runs = runs or [[]]
            runs[-1].append(row[1:])
        elif not runs or runs[-1]:
            runs.append([])


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
