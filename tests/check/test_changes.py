"""What has changed, by git."""

from __future__ import annotations

import os
import random
import time
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from packlore.check import changes
from packlore.check.changes import new_lines
from packlore.check.sources import Source, read
from packlore.errors import BadArgumentError
from tests.check.test_sources import git, repository
from tests.packs import write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(repository(tmp_path), {"a.py": "1\n2\n3\n4\n", "old.py": "1\n", 'q"é\t.py': "1\n"})
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def seen(found: changes.Changes, path: str) -> set[int] | str | None:
    """The new lines of a file; `all` of them, or None where it is as it was."""
    source = changes.changed(found, Source(found.root / path, path))
    if source is None:
        return None
    text = read(source)
    lines = changes.lines(found, source, text if isinstance(text, str) else "")
    return "all" if lines is None else {*lines}


def test_changed_lines_are_those_of_the_files_as_they_are_now(folder: Path) -> None:
    write(folder, {"a.py": "1\n2b\n3\n4\n5\n6\n", "b/new.py": "1\n", 'q"é\t.py': "1\n2\n"})
    git(folder, "mv", "old.py", "moved.py")
    found = changes.since("HEAD", folder)
    assert found.root.samefile(folder)
    assert seen(found, "a.py") == {2, 5, 6}
    assert seen(found, 'q"é\t.py') == {2}
    assert seen(found, "moved.py") == "all"
    assert seen(found, "b/new.py") == "all"


def test_what_is_staged_is_not_what_lies_there(folder: Path) -> None:
    write(folder, {"a.py": "1\n2\n3\n4\n5\n", "empty.py": ""})
    git(folder, "add", "a.py", "empty.py")
    write(folder, {"a.py": "0\n1\n2\n3\n4\n5\n", "new.py": "1\n", "old.py": "2\n"})
    found = changes.staged(folder)
    assert [seen(found, each) for each in ("a.py", "new.py", "old.py")] == [{5}, None, None]
    (source, empty) = (Source(folder / each, each) for each in ("a.py", "empty.py"))
    assert changes.changed(found, source) == Source(folder / "a.py", "a.py", b"1\n2\n3\n4\n5\n")
    assert changes.changed(found, empty) == Source(folder / "empty.py", "empty.py", b"")


def test_before_the_first_commit_all_that_is_staged_is_new(tmp_path: Path) -> None:
    write(repository(tmp_path), {"a.py": "1\n"})
    git(tmp_path, "add", ".")
    assert seen(changes.staged(tmp_path), "a.py") == "all"


def test_lines_that_are_only_gone_are_no_change(folder: Path) -> None:
    write(folder, {"a.py": "1\n4\n"})
    assert seen(changes.since("HEAD", folder), "a.py") == set()


def test_what_only_ends_its_lines_otherwise_has_not_changed(folder: Path) -> None:
    write(folder, {"a.py": b"1\r\n2\r\n3\r\n4\r\n"})
    assert seen(changes.since("HEAD", folder), "a.py") is None
    write(folder, {"a.py": b"1\r\n2\r\n3\r\n4\r\n5\r\n"})
    assert seen(changes.since("HEAD", folder), "a.py") == {5}


@pytest.mark.skipif(os.name == "nt", reason="Windows wants a privilege for links")
def test_a_link_has_changed_where_it_leads_elsewhere(folder: Path) -> None:
    for target in ("a.py", "old.py"):
        (folder / "link.py").unlink(missing_ok=True)
        (folder / "link.py").symlink_to(target)
        found = changes.since("HEAD", folder)
        assert seen(found, "link.py") is not None
        git(folder, "add", "link.py")
        git(folder, "commit", "-qm", target)
        assert seen(changes.since("HEAD", folder), "link.py") is None


@pytest.mark.parametrize("reference", ["nonsense", "--output=x", "-h", "HEAD:"])
def test_a_commit_that_is_none_is_a_wrong_call(folder: Path, reference: str) -> None:
    with pytest.raises(BadArgumentError):
        changes.since(reference, folder)
    assert not (folder / "x").exists()


def test_a_folder_without_a_repository_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(BadArgumentError, match="not a git repository"):
        changes.staged(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("abcd", "abcd", []),
        ("abcd", "abxcd", [3]),
        ("abcd", "xabcdy", [1, 6]),
        ("abcd", "badc", [1, 3]),  # moved lines are new where they now stand
        ("aaaa", "aaaaa", [5]),
        ("a-b-c", "a-x-b-y-c", [3, 4, 6, 7]),
        ("", "ab", [1, 2]),
        ("ab", "", []),
    ],
)
def test_new_lines_are_those_that_did_not_stand_there(old: str, new: str, lines: list[int]) -> None:
    assert sorted(new_lines(old, new)) == lines


def test_no_line_that_is_new_passes_for_an_old_one() -> None:
    """What is said to have stayed stands in the old text, in that order."""
    chance = random.Random(7)
    more = least = 0
    for _ in range(400):
        old = [chance.choice("abcdefghijklmnopqrstuvwxyz-") for _ in range(chance.randrange(40))]
        new = [each for each in old if chance.random() > 0.1]
        for _ in range(chance.randrange(4)):
            new.insert(chance.randrange(len(new) + 1), chance.choice("abc-!"))
        found = new_lines(old, new)
        stayed = iter(old)
        assert all(each in stayed for at, each in enumerate(new, start=1) if at not in found)
        blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
        least += len(new) - sum(each.size for each in blocks)
        more += len(found)
    assert more < 2 * least


def test_new_lines_are_found_in_a_time_that_grows_with_the_text() -> None:
    def spent(size: int) -> float:
        found = []
        for old, new in (
            (["a"] * size, ["b", "a"] * size),
            ([*map(str, range(size))], [*map(str, range(size, 0, -1))]),
            (["a", "b"] * size, ["b", "a", "c"] * size),
        ):
            start = time.thread_time()
            new_lines(old, new)
            found.append(time.thread_time() - start)
        return max(found)

    assert min(spent(32_000) for _ in range(3)) < 24 * min(spent(4_000) for _ in range(3))
