"""What all references have."""

from __future__ import annotations

import re

import pytest

from packlore.pack.model import tokens
from packlore.pack.parse import parse
from tests.references.harness import (
    NAMES,
    PATHS,
    RULES,
)


@pytest.mark.parametrize("name", NAMES)
def test_a_reference_is_short_and_names_rules_that_exist(name: str) -> None:
    parsed = parse(PATHS[name].read_bytes().decode(), PATHS[name].name)
    header = parsed.frontmatter
    assert set(header) == {"title", "category", "tags", "rules"}
    assert header["category"] in {"asyncio", "fastapi", "sqlalchemy", "pooling"}
    assert isinstance(header["rules"], list)
    assert set(header["rules"]) <= RULES
    first, *_ = parsed.sections
    assert (first.level, first.title) == (1, header["title"])
    body = PATHS[name].read_text("utf-8").split("\n---\n", 1)[1]
    assert tokens(body) <= 1400
    named = set(re.findall(r"`((?:asyncio|fastapi|sqlalchemy|pooling)-[a-z-]+)`", body))
    assert named <= RULES
    # What is said right before a block names the rule behind it.
    for before in re.split(r"^```\w*\n.*?^```$", body, flags=re.MULTILINE | re.DOTALL)[:-1]:
        assert set(re.findall(r"`([\w-]+)`", before)) & RULES or name == "fastapi-app-boilerplate"
