"""`packlore hook` as a client runs it."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from packlore.cli import main
from tests.check.test_reading import GOOD
from tests.packs import own, write

CODE = "import time\n\n\ndef f():\n    time.sleep(1)\n    time.sleep(2)\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that depends on what the pack is about."""
    applies = 'applies:\n  python: ">=3.11"\n  somelib: ">=1"'
    text = (own(tmp_path / "pack") / "rules/asyncio-timeout.md").read_text(encoding="utf-8")
    text = text.replace('applies:\n  python: ">=3.11"', applies)
    write(tmp_path / "pack", {"rules/asyncio-timeout.yml": GOOD, "rules/asyncio-timeout.md": text})
    folder = write(tmp_path / "project", {"app/a.py": CODE, "requirements.txt": "SomeLib[x]>=2\n"})
    monkeypatch.setenv("PACKLORE_PACK", str(tmp_path / "pack"))
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    return folder


def _memory() -> Path:
    """Where the hook keeps what it has said; the user's home is a folder of the test."""
    home = Path(os.environ["HOME"])
    inside = home / "Library/Caches" if sys.platform == "darwin" else home
    return inside / "packlore/hook"


def edit(folder: Path, new: str = "", path: str = "app/a.py", **more: Any) -> dict[str, Any]:
    tool = {"file_path": str(folder / path), **({"new_string": new} if new else {"content": "x"})}
    return {
        "session_id": "one",
        "cwd": str(folder),
        "hook_event_name": "PostToolUse",
        "tool_name": "Edit",
        "tool_input": tool,
        **more,
    }


def said(given: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The text that the agent gets to read; empty where it gets none."""
    text = given if isinstance(given, str) else json.dumps(given)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["hook"]) == 0
    out = capsys.readouterr().out
    if not out:
        return ""
    found: str = json.loads(out)["hookSpecificOutput"]["additionalContext"]
    return found


def test_what_the_edit_put_there_is_told_once_in_a_session(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = edit(project, "    time.sleep(2)\n")
    assert said(given, capsys, monkeypatch) == (
        "What was just written breaks a rule:\n"
        "- app/a.py:6, asyncio-timeout: it waits. Do: wait otherwise\n"
        "read_rules: asyncio-timeout"
    )
    assert said(given, capsys, monkeypatch) == ""
    assert "a.py:6" in said({**given, "session_id": "two"}, capsys, monkeypatch)
    whole = said(edit(project), capsys, monkeypatch)
    assert "a.py:5" in whole
    assert "a.py:6" not in whole


@pytest.mark.parametrize(
    "change",
    [
        {"app/a.py": "x = 1\n"},
        {"app/a.py": CODE.replace("(1)", "(1)  # packlore: ignore[asyncio-timeout] a script")},
        {"pyproject.toml": "[tool.packlore]\nhook = false\n"},
        {"pyproject.toml": "[tool.packlore]\nignore = ['asyncio-timeout']\n"},
        {"pyproject.toml": "[tool.packlore]\nexclude = ['app']\n"},
        {"requirements.txt": "somelib-other\n"},
        {"pyproject.toml": "[tool.packlore]\nnonsense = 1\n"},
        {"app/a.py": b"\xff"},
    ],
)
def test_where_there_is_nothing_to_say_nothing_is_said(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str | bytes],
) -> None:
    write(project, change)
    assert said(edit(project, "    time.sleep(1)"), capsys, monkeypatch) == ""


@pytest.mark.parametrize(
    "given", ["", "{", "[]", "null", '{"tool_input": {"file_path": "gone.py"}}', "[" * 9999]
)
def test_what_is_no_edit_is_no_failure(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    given: str,
) -> None:
    assert said(given, capsys, monkeypatch) == ""


def test_files_in_other_languages_are_not_read(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, {"app/a.txt": CODE})
    assert said(edit(project, path="app/a.txt"), capsys, monkeypatch) == ""


def test_many_findings_are_counted(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, {"app/a.py": "".join(f"time.sleep({n})\n" for n in range(20))})
    text = said(edit(project), capsys, monkeypatch)
    assert text.count("asyncio-timeout: it waits") == 8
    assert "- and 12 more: packlore check" in text


def test_what_a_project_depends_on_is_read_to_a_limit(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = Path("/proc/self/pagemap")
    if not endless.exists():
        pytest.skip("there is none")
    (project / "requirements.txt").unlink()
    (project / "requirements.txt").symlink_to(endless)
    write(project, {"uv.lock": "somelib"})
    assert "a.py:6" in said(edit(project, "    time.sleep(2)\n"), capsys, monkeypatch)
    write(project, {f"requirements/{n}.txt": "other" for n in range(100)})
    write(project, {"uv.lock": "other", "package.json": "somelib"})
    assert said(edit(project, "    time.sleep(1)\n"), capsys, monkeypatch) == ""


def test_a_folder_of_somebody_else_is_not_trusted(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a memory each finding is told again, which is better than not at all."""
    monkeypatch.setattr("os.getuid", lambda: 4242)
    for _ in range(2):
        assert "a.py:6" in said(edit(project, "    time.sleep(2)\n"), capsys, monkeypatch)


@pytest.mark.skipif(os.name == "nt", reason="links and modes of POSIX")
@pytest.mark.parametrize("planted", ["link", "file", "pipe", "open to others", "link above"])
def test_what_others_could_have_put_there_is_not_used_and_silences_nothing(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    planted: str,
) -> None:
    folder = _memory()
    elsewhere = write(project.parent / "elsewhere", {"hook/x": ""})
    folder.parent.mkdir(parents=True)
    match planted:
        case "link":
            folder.symlink_to(elsewhere)
        case "file":
            folder.touch()
        case "pipe":
            os.mkfifo(folder)
        case "open to others":
            folder.mkdir()
            folder.chmod(0o777)
        case _:
            folder.parent.rmdir()
            folder.parent.symlink_to(elsewhere)
    for _ in range(2):
        assert "a.py:6" in said(edit(project, "    time.sleep(2)\n"), capsys, monkeypatch)
    assert [each.name for each in elsewhere.rglob("*") if each.is_file()] == ["x"]


def test_what_was_said_long_ago_is_forgotten(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = edit(project, "    time.sleep(2)\n")
    assert said(given, capsys, monkeypatch)
    (kept,) = _memory().iterdir()
    os.utime(kept, (1, 1))
    assert said({**given, "session_id": "two"}, capsys, monkeypatch)
    assert kept not in [*_memory().iterdir()]


def test_what_is_remembered_may_be_anything(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = edit(project, "    time.sleep(2)\n")
    assert said(given, capsys, monkeypatch)
    (kept,) = _memory().iterdir()
    for text in ("5", "{", "[" * 9_999, "x" * 2_000_000, "null"):
        kept.write_text(text)
        assert "a.py:6" in said(given, capsys, monkeypatch)


def test_without_a_folder_of_ones_own_all_is_told(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, "relative")
    for _ in range(2):
        assert "a.py:6" in said(edit(project, "    time.sleep(2)\n"), capsys, monkeypatch)
    assert not (project / "relative").exists()
