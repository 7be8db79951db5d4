"""What the manifests of all clients say of the plugin is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from packlore.pack.build import MANIFESTS
from tests.proofs.harness import ROOT

PLUGINS = [
    name
    for name in MANIFESTS
    if not name.endswith("marketplace.json") and "check-plugin" not in name
]


def load(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((ROOT / name).read_text("utf-8"))
    return read


@pytest.mark.parametrize("name", PLUGINS)
def test_a_manifest_says_what_claude_codes_says(name: str) -> None:
    ours, theirs = load(".claude-plugin/plugin.json"), load(name)
    same = {"name", "version", "description", "author", "license", "keywords"} & set(theirs)
    assert {"name", "version", "description"} <= same
    assert {key: theirs[key] for key in same} == {key: ours[key] for key in same}


@pytest.mark.parametrize("name", PLUGINS)
def test_a_manifest_starts_the_launcher(name: str) -> None:
    ((server, config),) = load(name)["mcpServers"].items()
    assert (server, config["command"]) == ("packlore", "python3")
    assert config["args"][-1].replace("${/}", "/").endswith("server/launch.py")
    assert (ROOT / "server" / "launch.py").is_file()


def test_no_client_has_a_second_copy_of_the_skill(clone: Path) -> None:
    assert list(clone.rglob("SKILL.md")) == [clone / "SKILL.md"]
    assert not (clone / "skills").exists()  # Claude Code and Cursor would read only that
