"""The conformance suite over HTTP, with the exact number of checks: a skipped one exits with 0."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.clients.tools import run
from tests.services import Program

CHECKS = {
    "sep-2640-skills-enumeration": 32,
    "sep-2640-skills-manifest": 6,
    "sep-2640-skills-directory": 7,
    "caching": 8,
    "http-header-validation": 14,
    "server-initialize": 3,
    "server-session-lifecycle": 3,
    "ping": 2,
    "tools-list": 3,
    "resources-list": 2,
    "prompts-list": 2,
    "sep-2164-resource-not-found": 4,
    "dns-rebinding-protection": 2,
}


@pytest.mark.parametrize(("scenario", "checks"), CHECKS.items())
def test_a_scenario_passes_whole(node: Path, http: Program, scenario: str, checks: int) -> None:
    options = ["--url", f"{http.url}/mcp", "--scenario", scenario]
    done = run([node / "node", node / "conformance", "server", *options], check=False)
    assert re.findall(r"Passed: .*", done.stdout) == [
        f"Passed: {checks}/{checks}, 0 failed, 0 warnings"
    ], done.stdout
    assert done.returncode == 0
