"""Holds each reference's tests to run all its blocks, or those of the file of `--correct`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blocks import python_blocks
from tests.references.harness import BLOCKS, RAN


@pytest.fixture(scope="module", autouse=True)
def reference(request: pytest.FixtureRequest) -> str:
    """The name of the reference; with `--correct` its blocks are those of that Markdown file."""
    name = request.path.stem.removeprefix("test_").replace("_", "-")
    if file := request.config.getoption("--correct"):
        BLOCKS[name] = [block for block, _ in python_blocks(Path(file))]
    return name


@pytest.fixture(scope="module", autouse=True)
def _every_block_is_run(request: pytest.FixtureRequest, reference: str) -> Iterator[None]:
    """Where all tests of the file were asked for."""
    yield
    asked = {
        item.originalname
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    }
    if asked == {each for each in vars(request.module) if each.startswith("test_")}:
        blocks = {(reference, block.line) for block in BLOCKS.get(reference, ())}
        assert blocks <= RAN, f"blocks of {reference} that no test ran: {blocks - RAN}"
