"""FastMCP's client, which is not of the SDK's authors, reads the skill through the extension."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients import tools
from tests.clients.tools import run
from tests.services import Program

SCRIPT = """
import asyncio, json, sys
from fastmcp import Client
from fastmcp.skills import SkillsClientExtension

async def main():
    async with Client(sys.argv[1], extensions=[SkillsClientExtension()]) as client:
        listed = await client.list_tools()
        (skill,) = await client.list_skills()
        result = await client.call_tool("find_rules", {"query": "QueuePool limit of size 5"})
        print(json.dumps({
            "tools": len(listed),
            "skill": skill.uri if hasattr(skill, "uri") else str(skill),
            "answer": result.content[0].text,
        }))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def fastmcp() -> Path:
    return tools.python_tools(tools.FASTMCP)


def test_it_lists_the_skill_and_calls_a_tool(fastmcp: Path, http: Program, tmp_path: Path) -> None:
    (tmp_path / "ask.py").write_text(SCRIPT)
    done = run([fastmcp / "python", tmp_path / "ask.py", f"{http.url}/mcp"], check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tools"] == 5
    assert "skill://python-backend" in found["skill"]
    assert found["answer"].startswith("pooling-database ")
