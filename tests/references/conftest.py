"""Holds each reference's tests to run all its blocks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.references.harness import BLOCKS, RAN


@pytest.fixture(scope="module", autouse=True)
def _every_block_is_run(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where all tests of the file were asked for."""
    yield
    name = request.path.stem.removeprefix("test_").replace("_", "-")
    asked = {
        item.originalname
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    }
    if asked == {each for each in vars(request.module) if each.startswith("test_")}:
        blocks = {(name, block.line) for block in BLOCKS.get(name, ())}
        assert blocks <= RAN, f"blocks of {name} that no test ran: {blocks - RAN}"
