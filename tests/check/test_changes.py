"""What has changed, by git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from packlore.check import changes
from packlore.errors import BadArgumentError
from tests.check.test_sources import repository
from tests.packs import write


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(repository(tmp_path), {"a.py": "1\n2\n3\n4\n", "old.py": "1\n", 'q"é\t.py': "1\n"})
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_changed_lines_are_those_of_the_files_as_they_are_now(folder: Path) -> None:
    write(folder, {"a.py": "1\n2b\n3\n4\n5\n6\n", "b/new.py": "1\n", 'q"é\t.py': "1\n2\n"})
    git(folder, "mv", "old.py", "moved.py")
    found = changes.since("HEAD", folder)
    assert found.root.samefile(folder)
    assert found.lines["a.py"] == {2, 5, 6}
    assert found.lines['q"é\t.py'] == {2}
    assert found.lines["moved.py"] == {1}
    assert 17 in found.lines["b/new.py"]
    assert "old.py" not in found.lines


def test_what_is_staged_is_not_what_lies_there(folder: Path) -> None:
    write(folder, {"a.py": "1\n2\n3\n4\n5\n"})
    git(folder, "add", "a.py")
    write(folder, {"a.py": "0\n1\n2\n3\n4\n5\n", "new.py": "1\n"})
    found = changes.staged(folder)
    assert found.lines == {"a.py": {5}}
    assert changes.staged_bytes(found.root, "a.py") == b"1\n2\n3\n4\n5\n"


def test_lines_that_are_only_gone_are_no_change(folder: Path) -> None:
    write(folder, {"a.py": "1\n4\n"})
    assert changes.since("HEAD", folder).lines == {}


@pytest.mark.parametrize("reference", ["nonsense", "--output=x", "-h"])
def test_a_commit_that_is_none_is_a_wrong_call(folder: Path, reference: str) -> None:
    with pytest.raises(BadArgumentError):
        changes.since(reference, folder)
    assert not (folder / "x").exists()


def test_a_folder_without_a_repository_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(BadArgumentError, match="not a git repository"):
        changes.staged(tmp_path)
