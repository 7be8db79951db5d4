"""Which files are checked, and their text."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from packlore.check import Trouble
from packlore.check.sources import ENCODINGS, MAX_FILE, Source, read, sources, text_of
from packlore.errors import BadArgumentError
from tests.packs import write


def found(folder: Path, *given: str, exclude: tuple[str, ...] = ()) -> list[str]:
    paths = [folder / each for each in given] or [folder]
    return [str(getattr(each, "path", "")) for each in sources(paths, folder, ["Python"], exclude)]


def repository(folder: Path) -> Path:
    for command in (
        ["init", "-q"],
        ["config", "user.email", "a@example.org"],
        ["config", "user.name", "a"],
    ):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


FILES = {
    "a.py": "",
    "b/c.py": "",
    "b/c.txt": "",
    "b/é 日.py": "",
    "node_modules/d.py": "",
    ".hidden/e.py": "",
    "env/pyvenv.cfg": "",
    "env/f.py": "",
}


def test_files_of_folders_are_found_in_order_without_those_of_others(tmp_path: Path) -> None:
    write(tmp_path, {**FILES})
    assert found(tmp_path) == ["a.py", "b/c.py", "b/é 日.py"]
    assert found(tmp_path, "b", "a.py", "b/c.py") == ["b/c.py", "b/é 日.py", "a.py"]


def test_what_git_ignores_is_left_out_and_what_it_does_not_know_yet_is_not(tmp_path: Path) -> None:
    write(repository(tmp_path), {**FILES, ".gitignore": "b/c.py\nenv\n", "gone.py": ""})
    subprocess.run(["git", "-C", str(tmp_path), "add", "a.py", "gone.py"], check=True)
    (tmp_path / "gone.py").unlink()
    assert found(tmp_path) == [".hidden/e.py", "a.py", "b/é 日.py", "node_modules/d.py"]


def test_a_file_that_is_named_is_meant_whatever_it_is_called(tmp_path: Path) -> None:
    write(tmp_path, {"b/c.txt": "", "b/x.py": ""})
    assert found(tmp_path, "b/c.txt", exclude=("b",)) == ["b/c.txt"]
    assert found(tmp_path, exclude=("b/*.py",)) == []
    assert found(tmp_path, exclude=("x.py",)) == []
    assert found(tmp_path, exclude=("c",)) == ["b/x.py"]


def test_a_path_that_is_not_there_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(BadArgumentError, match=r"nothing at .*gone"):
        found(tmp_path, "gone")


@pytest.mark.skipif(os.name == "nt", reason="Windows wants a privilege for links")
def test_links_out_of_the_folder_are_told_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path, {"in/a.py": "", "out/b.py": ""})
    (tmp_path / "in/out.py").symlink_to(tmp_path / "out/b.py")
    (tmp_path / "in/itself.py").symlink_to(tmp_path / "in/itself.py")
    (tmp_path / "in/same.py").symlink_to("a.py")
    (tmp_path / "in/folder").symlink_to(tmp_path / "out")
    every = list(sources([tmp_path / "in"], tmp_path / "in", ["Python"]))
    assert [each.path for each in every if isinstance(each, Source)] == ["a.py", "same.py"]
    assert [str(each) for each in every if isinstance(each, Trouble)] == [
        "itself.py: not checked: a link that leaves the folder",
        "out.py: not checked: a link that leaves the folder",
    ]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"x = 1\r\ny = 2\r", "x = 1\ny = 2\n"),
        (b"\xef\xbb\xbfx = 1\n", "x = 1\n"),
        ("# coding: latin-1\né\n".encode("latin-1"), "# coding: latin-1\né\n"),
        ("x = '日'\n".encode(), "x = '日'\n"),
    ],
)
def test_code_is_read_in_the_encoding_that_it_names(data: bytes, text: str) -> None:
    assert text_of("x.py", data) == text


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_each_encoding_is_read_in_a_time_that_grows_with_the_text(name: str) -> None:
    assert codecs.lookup(name).name == name

    def spent(size: int) -> float:
        times = []
        for piece in (b"a", b"-", b"\xa1\xa2", b"\x81\x40"):
            start = time.thread_time()
            text_of("x.py", f"# coding: {name}\n".encode() + piece * (size // len(piece)))
            times.append(time.thread_time() - start)
        return max(times)

    small = large = float("inf")
    for _ in range(8):  # a machine that does something else is seen in some of them
        small, large = min(small, spent(30_000)), min(large, spent(240_000))
        if large < 24 * max(small, 0.0005):
            break
    assert large < 24 * max(small, 0.0005), "8 times would be linear, 64 quadratic"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"x = '\xff'\n", "not checked: "),
        (b"# coding: nonsense\n", "unknown encoding"),
        (b"# coding: latin-1\n# coding: utf-8\n\xff\0", "NUL byte"),
        (b"x\0", "NUL byte"),
        *(
            (f"# coding: {each}\nx = 1".encode(), f"not checked: its encoding is {each}")
            for each in ("idna", "utf-7", "unicode_escape", "raw_unicode_escape", "hz")
        ),
        (
            b"# coding: punycode\nx = 1",
            "not checked: its encoding is punycode"
            if sys.version_info < (3, 14)  # which refuses it first
            else "not checked: invalid or missing encoding declaration",
        ),
        (b"# coding: rot13\nx = 1", "not checked: "),
        ("x".encode("utf-16"), "not checked: "),
    ],
)
def test_what_is_no_text_is_told(data: bytes, said: str) -> None:
    trouble = text_of("x.py", data)
    assert isinstance(trouble, Trouble)
    assert said in trouble.reason


def test_the_cells_of_a_notebook_are_read_without_its_commands() -> None:
    cells = [
        {"cell_type": "code", "source": ["import time\n", "%time x\n", "time.sleep(1)"]},
        {"cell_type": "markdown", "source": ["# time.sleep(2)"]},
        {"cell_type": "code", "source": "!pip install x\ny = 1"},
    ]
    text = text_of("x.ipynb", json.dumps({"cells": cells}).encode())
    assert text == "import time\n\ntime.sleep(1)\n\n\ny = 1"


@pytest.mark.parametrize(
    "data", [b"{}", b"[]", b"x", b'{"cells": 5}', b'{"cells": [5]}', b"[" * 9999]
)
def test_what_is_no_notebook_is_told(data: bytes) -> None:
    assert isinstance(text_of("x.ipynb", data), Trouble)


def test_files_that_no_people_wrote_are_told(tmp_path: Path) -> None:
    write(tmp_path, {"large.py": b"x" * (MAX_FILE + 1)})
    (tmp_path / "folder.py").mkdir()
    reasons = [
        str(read(Source(tmp_path / name, name))) for name in ("large.py", "folder.py", "no.py")
    ]
    assert reasons == [
        "large.py: not checked: over 524,288 bytes",
        "folder.py: not checked: not a regular file",
        "no.py: not checked: No such file or directory",
    ]
