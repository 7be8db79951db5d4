"""The MCP Inspector: every list, and skills whose digests it checks itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.tools import Person


def ask(person: Person, method: str, *more: str, era: str = "modern") -> Any:
    command = ["mcp-inspector", "--cli", sys.executable, "-m", "packlore", "serve"]
    options = ["--protocol-era", era, "--method", method, *more, "--format", "json", "-q"]
    answer = json.loads(person.run(*command, *options).stdout)
    return answer.get("result", answer)


@pytest.fixture
def with_pack(person: Person, clone: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    env = {**person.env, "PACKLORE_PACK": str(clone)}
    monkeypatch.setattr(Person, "env", property(lambda _: env))
    return person


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_it_lists_tools_prompts_and_resources(with_pack: Person, era: str) -> None:
    tools = ask(with_pack, "tools/list", era=era)["tools"]
    assert [tool["name"] for tool in tools] == [
        "find_rules",
        "read_rules",
        "load_category",
        "list_rules",
        "check_code",
    ]
    assert len(ask(with_pack, "resources/list", era=era)["resources"]) > 50
    assert len(ask(with_pack, "prompts/list", era=era)["prompts"]) == 2


def test_it_verifies_every_digest(with_pack: Person) -> None:
    found = ask(with_pack, "skills/list", "--verify")
    assert "python-backend" in json.dumps(found)


def test_a_call_answers_with_the_rule(with_pack: Person) -> None:
    arguments = ["--tool-name", "find_rules", "--tool-arg", "query=QueuePool limit of size 5"]
    assert "pooling-database" in json.dumps(ask(with_pack, "tools/call", *arguments))
