"""Globs, whatever they are."""

from __future__ import annotations

import time

import pytest

from packlore.check.places import matches


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("a.py", "a.py x/a.py x/y/a.py a.py/b", "b.py aa.py a.pyc xa.py"),
        ("/a.py", "a.py a.py/b", "x/a.py"),
        ("./a", "a a/b", "x/b"),
        ("a/", "a a/b x/a/b", "b/c"),
        ("a/b", "a/b a/b/c", "x/a/b a/x/b b"),
        ("a/*.py", "a/b.py a/.py", "a/b/c.py a.py x/a/b.py"),
        ("a/**", "a/b a/b/c", "a b/a/c"),
        ("**/a/**", "a/b x/a/b x/y/a/b/c", "a x/a ab/c"),
        ("a/**/b.py", "a/b.py a/x/b.py a/x/y/b.py", "b.py a/xb.py x/a/b.py"),
        ("**/*.py", "a.py x/a.py", "a.pyc"),
        ("a?c", "abc x/abc", "ac abbc a/c"),
        ("*a*b*", "ab xaxbx b/ab", "ba a/b"),
        ("*ab*ab", "abab xabxab", "ab aab abx"),
        ("a**b", "ab axb", "a/b"),
        ("[ab].(py)", "[ab].(py)", "a.py"),
        ("**", "a a/b", ""),
        ("**/**/a/**/**/b", "a/b x/y/a/z/b", "a b/a"),
        ("*\n", "\n", "a"),
    ],
)
def test_a_glob_is_that_of_these_paths(glob: str, yes: str, no: str) -> None:
    assert [each for each in yes.split(" ") if not matches(each, (glob,))] == []
    assert [each for each in no.split(" ") if each and matches(each, (glob,))] == []


@pytest.mark.parametrize("piece", ["*a", "**/", "**/a/", "*/", "?*", "*a?", "a*a"])
@pytest.mark.parametrize("name", ["a", "a/", "ab"])
def test_no_glob_takes_more_than_its_length_times_that_of_a_path(piece: str, name: str) -> None:
    def spent(size: int) -> float:
        glob, path = piece * (size // len(piece)) + "b", name * (4 * size // len(name)) + "c"
        best = 9.0
        for _ in range(3):
            start = time.thread_time()
            matches(path, (glob,))
            best = min(best, time.thread_time() - start)
        return best

    assert spent(200) < 40 * max(spent(50), 0.0005)
