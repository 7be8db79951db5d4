"""What clients say of an edit."""

from __future__ import annotations

from typing import Any

import pytest

from packlore.check.edits import Edit, answer, call, changed

EDIT = {
    "session_id": "s1",
    "cwd": "/work",
    "hook_event_name": "PostToolUse",
    "tool_name": "Edit",
    "tool_input": {"file_path": "/work/a.py", "old_string": "x", "new_string": "y\nz\n"},
    "tool_response": {"success": True},
}
PATCH = """\
*** Begin Patch
*** Update File: a.py
@@ def f():
-    old()
+    new()
+    more()
 same
+    last()
*** Update File: old.py
*** Move to: moved.py
+x
*** Add File: b.py
+y
*** Delete File: c.py
*** End Patch
"""


def of(tool: str, **tool_input: Any) -> tuple[Edit, ...]:
    found = call({**EDIT, "tool_name": tool, "tool_input": tool_input})
    return found.edits if found else ()


def test_claude_code_tells_of_edits_and_of_whole_files() -> None:
    found = call(EDIT)
    assert found
    assert (found.folder, found.session, found.cursor) == ("/work", "s1", False)
    assert found.edits == (Edit("/work/a.py", ("y\nz\n",)),)
    assert of("Write", file_path="a.py", content="x") == (Edit("a.py", ()),)
    many = [{"old_string": "a", "new_string": "b"}, {"old_string": "c", "new_string": ""}, 5]
    assert of("MultiEdit", file_path="a.py", edits=many) == (Edit("a.py", ("b",)),)


def test_cursor_tells_of_edits() -> None:
    found = call(
        {
            "conversation_id": "c1",
            "hook_event_name": "afterFileEdit",
            "workspace_roots": ["/work"],
            "file_path": "/work/a.py",
            "edits": [{"old_string": "", "new_string": "x"}],
        }
    )
    assert found
    assert (found.folder, found.session, found.cursor) == ("/work", "c1", True)
    assert found.edits == (Edit("/work/a.py", ("x",)),)
    assert answer(found, "t") == {"additional_context": "t"}


def test_codex_tells_of_patches() -> None:
    assert of("apply_patch", command=PATCH) == (
        Edit("a.py", ("    new()\n    more()", "    last()")),
        Edit("moved.py", ("x",)),
        Edit("b.py", ("y",)),
    )


@pytest.mark.parametrize(
    "given",
    [None, [], "x", {}, {"tool_input": 5}, {"tool_input": {"command": "ls -l"}}, {"workspace_roots": [5]},
     {"tool_input": {"file_path": 5}}, {"hook_event_name": "afterFileEdit", "edits": 5},
     {"tool_input": {"command": "*** Add File: \n+x"}}],
)  # fmt: skip
def test_what_tells_of_no_edit_is_no_call(given: object) -> None:
    assert call(given) is None


def test_the_lines_of_an_edit_are_where_its_text_now_stands() -> None:
    text = "a\nb\nc\nd\n"
    assert changed(text, Edit("x", ("b\nc\n",))) == frozenset({2, 3})
    assert changed(text, Edit("x", ("d", "a"))) == frozenset({1, 4})
    assert changed(text, Edit("x", ("gone", " \n"))) == frozenset()
    assert changed(text, Edit("x", ())) is None


def test_an_answer_is_context_and_blocks_nothing() -> None:
    found = call(EDIT)
    assert found
    assert answer(found, "t") == {
        "hookSpecificOutput": {"hookEventName": "PostToolUse", "additionalContext": "t"}
    }
