"""The line where somebody asks: over stdio and in a terminal, with one flag nowhere, and never over
HTTP."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from packlore.cli import main
from packlore.cli.arguments import parser
from packlore.cli.complete import answer
from packlore.cli.serving import hints
from packlore.library import Library
from packlore.project import Project
from packlore.serve.bind import DATA_KEY
from packlore.serve.server import PackServer
from tests.cli.terminal import SERVER
from tests.packs import own, rule, write
from tests.serve.test_http import serving

SAID = "Applies to python >=3.11; .python-version has 3.10."
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("find_rules", {"query": "bound each call"}),
    ("read_rules", {"ids": ["asyncio-timeout"]}),
    ("read_rules", {"ids": ["asyncio-timeout"], "brief": True}),
    ("load_category", {"category": "asyncio"}),
)
QUIET = ("list_rules", {"category": "asyncio"})


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return own(tmp_path / "pack")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, below the root of its repository."""
    root = write(tmp_path / "project", {".python-version": "3.10\n", "src/a.py": ""})
    (root / ".git").mkdir()
    monkeypatch.chdir(root / "src")
    return root


async def answers(client: Client) -> list[bool]:
    """Whether each answer has the line: as text, and where it has rows in its first row."""
    found = []
    for name, arguments in (*CALLS, QUIET):
        result = await client.call_tool(name, arguments)
        (content,) = result.content
        data = (result.meta or {}).get(DATA_KEY, {})
        rows = data.get("hits") or data.get("items") or []
        told = SAID in content.text  # type: ignore[union-attr]
        assert content.text.count("Applies to") == told  # type: ignore[union-attr]
        assert [row["versions"] for row in rows[:1] if "versions" in row] == [SAID] * told
        found.append(told)
    return found


@pytest.mark.parametrize(("flags", "told"), [([], True), (["--no-versions"], False)])
async def test_over_stdio_the_line_is_told_but_with_the_flag(
    pack: Path, project: Path, flags: list[str], told: bool
) -> None:
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "packlore", "serve", "--pack", str(pack), *flags],
        cwd=project / "src",
        env={**os.environ, "PYTHONPATH": SERVER},
    )
    async with Client(stdio_client(command)) as client:
        assert await answers(client) == [*[told] * len(CALLS), False]
        (project / ".python-version").write_text("3.12.1\n", encoding="utf-8")
        assert not any(await answers(client))


@pytest.mark.parametrize("flags", [[], ["--sessions"], ["--no-versions"]])
async def test_over_http_no_lock_is_read(pack: Path, project: Path, flags: list[str]) -> None:
    with serving(pack, *flags, PYTHONPATH=SERVER) as program:
        async with Client(f"{program.url}/mcp") as client:
            assert not any(await answers(client))


async def test_a_pack_that_is_read_again_has_the_line_still(pack: Path, project: Path) -> None:
    server = PackServer(Library.open([pack]), watched=True, project=Project(project))
    write(pack, {"rules/asyncio-timeout.md": rule("Bound each call well")})
    async with Client(server) as client:
        await server.replace(Library.open([pack]))
        assert await answers(client) == [*[True] * len(CALLS), False]


@pytest.mark.parametrize(
    "words",
    [
        ["search", "bound each call"],
        ["search", "--json", "bound each call"],
        ["show", "asyncio-timeout"],
        ["show", "--brief", "asyncio-timeout"],
        ["show", "--json", "asyncio-timeout"],
    ],
)
def test_the_commands_that_show_rules_tell_it_but_with_the_flag(
    pack: Path, project: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main([*words, "--pack", str(pack)]) == 0
    assert capsys.readouterr().out.count(SAID) == 1
    assert main([*words, "--pack", str(pack), "--no-versions"]) == 0
    assert "Applies to" not in capsys.readouterr().out


def test_in_json_the_line_is_a_field_and_the_text_is_the_rules_own(
    pack: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["show", "--json", "asyncio-timeout", "--pack", str(pack)])
    (row,) = json.loads(capsys.readouterr().out)["items"]
    assert row["versions"] == SAID
    assert row["text"].startswith("# Bound each call\n")


def test_a_list_tells_no_versions(
    pack: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["list"], ["list", "--json"], ["check", "."]):
        main([*words, "--pack", str(pack)])
        assert "Applies to" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["search", "show", "serve"])
def test_help_and_completion_name_the_flag(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(["2", "packlore", command, "--no"]) == ["--no-versions"]
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--no-versions" in capsys.readouterr().out


def test_the_command_that_a_client_is_told_has_the_flag(pack: Path) -> None:
    arguments = parser().parse_args(["serve", "--no-versions", "--watch"])
    assert any(" serve --watch --no-versions" in each for each in hints(arguments, [pack], 1))


@pytest.mark.skipif(sys.platform == "win32", reason="there a working folder stays")
def test_in_a_folder_that_is_gone_rules_are_shown_as_well(
    pack: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "src" / "a.py").unlink()
    (project / "src").rmdir()
    assert main(["show", "asyncio-timeout", "--pack", str(pack)]) == 0
    assert capsys.readouterr().out.startswith("# Bound each call\n")
