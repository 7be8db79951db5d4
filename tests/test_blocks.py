"""The Python that agents copy from the pack compiles, and passes ruff and mypy."""

from __future__ import annotations

from pathlib import Path

from tests.blocks import check, pack_files, python_blocks
from tests.packs import write


def test_every_block_of_the_pack_is_sound() -> None:
    assert check(pack_files()) == []


def test_there_are_blocks_to_check() -> None:
    blocks = [copied for path in pack_files() for _, copied in python_blocks(path)]
    assert blocks.count(True) >= blocks.count(False) > 30


def test_each_kind_of_fault_is_found_at_its_line(tmp_path: Path) -> None:
    text = "# T\n\n## Correct\n\n```python\n{}\n```\n"
    faults = {
        "syntax.md": ("def broken(:", "invalid syntax"),
        "ruff.md": ("import os", "F401"),
        "mypy.md": ("number: int = 'text'", "Incompatible types"),
        "given.md": ("# given: other\nmissing()", "F821"),
    }
    for name, (code, wanted) in faults.items():
        path = write(tmp_path, {name: text.format(code)}) / name
        (first, *_) = check([path])
        assert wanted in first
        line = 7 if name == "given.md" else 6
        assert first.startswith(f"{path}:{line}:")
