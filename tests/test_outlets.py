"""Whatever a pack, a name, a header or a query holds: what leaves the process is visible, bounded
and never empty.

Two things leave as they are: the bytes of a file that is read as a resource, for which its digest
stands, and the frontmatter of a skill, which hosts compare with the file's own.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference

from packlore import render
from packlore.cli import main
from packlore.cli.commands import COMMANDS
from packlore.library import Library
from packlore.pack.model import tokens
from packlore.project import Project
from packlore.serve.bind import DATA_KEY
from packlore.serve.server import PackServer
from packlore.serve.tools import PROMPTS, TOOLS
from tests.packs import SECTIONS, own, write
from tests.serve.test_http import HEADERS, INITIALIZE, serving
from tests.services.process import HOST

CONTROLS = [chr(code) for code in (*range(9), *range(11, 32), *range(0x7F, 0xA0))]
UNSEEN = list("\xad\u061c\u200b\u200e\u200f\u2028\u2029\u2060\u2066\u2069\ufeff\ufff9\U000e0041")
BIDI = [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]
ODD = {*CONTROLS, *UNSEEN, *BIDI, "\ud800"}
SEQUENCES = ("\x1b[2J", "\x1b]52;c;aGk=\x07", "\x1b]0;x\x07", "\x9b31m", "\u202eevil")


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("PACKLORE_SEED") or random.randrange(2**32))
    print(f"PACKLORE_SEED={seed}")  # noqa: T201 to repeat a failure
    return random.Random(seed)


def attack(chance: random.Random) -> str:
    """Some of what no text may hold, but for what makes a file none."""
    some = chance.sample([*ODD - {"\0", "\r", "\ud800"}], 6)
    return f"A{''.join(some)}{chance.choice(SEQUENCES)}Z"


def hostile(folder: Path, chance: random.Random) -> Path:
    """A pack with an attack in each place where somebody may write one."""

    def plain() -> str:
        return attack(chance)

    def quoted() -> str:
        """As YAML escapes it: a pair of `\\u`, as JSON has it, would break the frontmatter."""
        return "".join(f"\\U{ord(each):08x}" for each in attack(chance))

    def frontmatter(**more: str) -> str:
        rows = {"title": quoted(), "category": "asyncio", "impactDescription": quoted(), **more}
        lists = "".join(
            f'{name}: ["{quoted()}", x]\n' for name in ("tags", "symptoms", "aliases", "related")
        )
        named = "".join(f'{name}: "{value}"\n' for name, value in rows.items())
        applies = f'applies: {{"{quoted()}": "{quoted()}", zebra: ">=2.0"}}\n'
        return f'---\n{named}{lists}{applies}"{quoted()}": 1\n---\n'

    body = (
        f"# Zebra {plain()}\n\nzebra {plain()} &#27;[2J\n\n## Incorrect: {plain()}\n\n"
        f"```python\nzebra('{plain()}')\n```\n\n## Correct: {plain()}\n\n```python\n{plain()}\n```\n"
        f"\n## Exceptions\n\n- Zebra before 2.0 is {plain()}.\n"
        f"\n## References\n\n- [{plain()}](nowhere{plain()}.md)\n"
    )
    skill = f'---\nname: "own{quoted()}"\ndescription: "{quoted()}"\nmetadata:\n  version: "1.0.0{quoted()}"\n---\n'
    files: dict[str, str | bytes] = {
        "SKILL.md": f"{skill}# {plain()}\n",
        "rules/_sections.md": SECTIONS + f"\n## {plain()} (other)\n\n{plain()}\n",
        "rules/_template.md": f"{frontmatter()}{body}",
        "rules/asyncio-zebra.md": f"{frontmatter()}{body}",
        "rules/asyncio-empty.md": frontmatter(impact=quoted()),
        "rules/other-zebra.md": f"{frontmatter(category=quoted())}{body}",
        "rules/broken.md": f"---\ntitle: [{plain()}\n---\n{plain()}\n",
        "references/x.md": f"{frontmatter()}{body}",
        "checklists/x.md": f"---\ntitle: x\ncategory: asyncio\n---\n# X\n\n- [ ] {plain()} `{plain()}`\n",
        "examples/x.py": f"# {plain()}\r\nx = 1\r\n",
        "assets/x.txt": plain(),
        "rules/asyncio-zebra.yml": (
            f'id: asyncio-zebra\nlanguage: Python\nseverity: error\nmessage: "{quoted()} $A"\n'
            f'note: "{quoted()}"\nrule: {{pattern: zebra($A)}}\n'
        ),
        "rules/other-zebra.yml": f'id: "{quoted()}"\n"{quoted()}": 1\n',
        "assets/_model.json": json.dumps({"version": plain(), "rules": [plain()]}),
    }
    write(own(folder), files)
    for number, character in enumerate(chance.sample(CONTROLS[1:] + BIDI, 6)):
        with suppress(OSError, ValueError):  # Windows takes few of them
            write(folder, {f"rules/a{character}{number}.md": "# T\n"})
    return folder


def works_on(folder: Path, chance: random.Random) -> Path:
    """A project with an attack in each place of a lock and of what it asks for."""
    (folder / ".git").mkdir(parents=True)
    tables = "".join(
        f'[[package]]\nname = "{name}"\nversion = "{version}"\n'
        for name in ("zebra", f"zebra{attack(chance)}")
        for version in ("1.0", f"1.0{attack(chance)}")
    )
    asked = json.dumps([f"zebra>=1{attack(chance)}", "zebra>=1"])
    project = f"[project]\ndependencies = {asked}\n"
    return write(folder, {"uv.lock": tables, "pyproject.toml": project})


def named_oddly(folder: Path) -> None:
    """Code in files whose names hold what no text may, and bytes that are none."""
    for each in (*SEQUENCES, "\n- evil", "\u2028", "\udcff", "x" * 240):
        with suppress(OSError, ValueError):  # Windows takes few of them
            write(folder, {f"a{each}.py": "zebra(1)\n", f"b{each}.py": b"\xff"})


def strings(value: Any) -> Iterator[str]:
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from (*strings(key), *strings(each))
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from strings(each)


def assert_clean(value: Any) -> None:
    for text in strings(value.model_dump(by_alias=True) if hasattr(value, "model_dump") else value):
        assert set(text) & ODD == set(), ascii(text)


def test_each_text_is_seen_as_one_that_is_not_clean(chance: random.Random) -> None:
    for each in (*SEQUENCES, attack(chance)):
        with pytest.raises(AssertionError):
            assert_clean({"a": [f"x{each}"]})


CALLS: dict[str, list[dict[str, Any]]] = {
    "find_rules": [
        {"query": "zebra"},
        {"query": "tulips \x1b[2J \u202e"},
        {"query": "zebra", "category": "x\x1b[2J"},
        {"query": "zebra", "tag": "\u202e"},
        {"query": "zebra", "kind": "\x9b31m", "\x1b[2J": 1},
        {"query": "zebra", "limit": "\u202e"},
    ],
    "read_rules": [
        {"ids": ["asyncio-zebra", "references/x.md", "examples/x.py", "assets/x.txt", "\x1b[2J"]},
        {"ids": ["asyncio-empty", "checklists/x.md", "broken"], "brief": True},
        {"ids": ["\u202e\x1b"]},
        {"ids": "\x1b[2J", "\x1b": "\u202e"},
    ],
    "load_category": [{"category": "asyncio"}, {"category": "asyncio", "whole": True}],
    "check_code": [
        {"code": "zebra('\x1b[2J\u202e')\nzebra(1)  # packlore: ignore[\u202e]\n"},
        {"code": ""},
        {"code": "x", "paths": ["\x1b[2J"]},
    ],
    "list_rules": [{}, {"category": "asyncio"}, {"pack": "\x1b[2J"}, {"category": "\u202e"}],
    "\x1b[2Jnone\u202e": [{}],
}
ASKED: dict[str, list[dict[str, str]]] = {
    "review_code": [
        {"category": "asyncio", "code": "x = '\u202e\x1b[2J'\r\n"},
        {"category": "\x1b[2J"},
        {"category": "asyncio", "\x1b[2J": "\u202e"},
    ],
    "plan_work": [{"category": "asyncio", "task": "zebra \x1b[2J\u202e\ud800"}],
    "\x1b[2Jnone": [{}],
}


def test_each_tool_and_prompt_is_called_here() -> None:
    assert set(TOOLS) < set(CALLS)
    assert set(PROMPTS) < set(ASKED)


@pytest.mark.parametrize("structured", [False, True])
async def test_what_a_client_is_told_is_clean(
    tmp_path: Path, chance: random.Random, structured: bool
) -> None:
    library = Library.open([hostile(tmp_path / "pack", chance)])
    project = Project(works_on(tmp_path / "project", chance))
    server = PackServer(library, structured=structured, project=project)
    async with Client(server, mode="auto") as client:
        assert_clean(client.instructions)
        assert_clean(client.server_info)
        for listed in (await client.list_tools(), await client.list_prompts()):
            assert_clean(listed)
        for name, calls in CALLS.items():
            for arguments in calls:
                result = await client.call_tool(name, arguments)
                assert_clean(result)
                (content,) = result.content
                assert content.text.strip()  # type: ignore[union-attr]
                assert tokens(content.text) <= render.MAX_ANSWER * 1.1  # type: ignore[union-attr]
                data = result.structured_content or (result.meta or {}).get(DATA_KEY, {})
                assert len(data.get("items", [])) <= render.MAX_ROWS
                if arguments in ({"query": "zebra"}, {"category": "asyncio"}):
                    noted = "Applies to zebra >=2.0; uv.lock has 1.0. Zebra before 2.0 is A"
                    assert (noted in content.text) is (name != "list_rules")  # type: ignore[union-attr]
                if name == "load_category":
                    assert data["items"]
        for name, asked in ASKED.items():
            for given in asked:
                try:
                    assert_clean(await client.get_prompt(name, given))
                except MCPError as error:
                    assert_clean(str(error))
        reference = PromptReference(type="ref/prompt", name="review_code")
        assert_clean(await client.complete(reference, {"name": "category", "value": ""}))
        resources = await client.list_resources()
        assert_clean(resources)
        assert len(resources.resources) >= 10
        for uri in ("skill://none/\u202e", "skill://none/%1b[2J"):
            with pytest.raises(MCPError) as refused:
                await client.read_resource(uri)
            assert_clean(str(refused.value))


async def test_what_a_client_is_told_of_files_is_clean_whatever_their_names(
    tmp_path: Path, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library.open([hostile(tmp_path / "pack", chance)])
    named_oddly(tmp_path / "code")
    monkeypatch.chdir(tmp_path)
    for structured in (False, True):
        server = PackServer(library, structured=structured, local=True)
        async with Client(server, mode="auto") as client:
            result = await client.call_tool("check_code", {"paths": ["code"]})
            assert_clean(result)
            assert b"zebra(1)" in result.model_dump_json().encode()  # as it is sent
            text = result.content[0].text  # type: ignore[union-attr]
            rows = text.partition("asyncio-zebra:")[0].splitlines()
            assert len(rows) >= (2 if os.name == "nt" else 12)
            assert all(not row or row.startswith("- ") for row in rows[:-1])
            assert max(map(len, rows)) < 600


LINES: dict[str, list[list[str]]] = {
    "search": [["zebra"], ["--json", "zebra"], ["--tag", "\x1b[2J", "zebra"]],
    "show": [
        ["asyncio-zebra", "asyncio-empty", "references/x.md", "examples/x.py", "assets/x.txt"],
        ["--brief", "asyncio-zebra"],
        ["--json", "asyncio-zebra", "examples/x.py"],
        ["_template"],
        ["\x1b[2J"],
    ],
    "check": [
        ["code"],
        ["--min-level", "hint", "code"],
        ["--json", "code"],
        ["--sarif", "code"],
        ["--github", "code"],
        ["--write-baseline", "known.json", "code"],
        ["--baseline", "known.json", "code"],
        ["\x1b[2J"],
        ["--select", "\u202e"],
    ],
    "hook": [[]],
    "agents-md": [[]],
    "list": [[], ["--json"], ["asyncio"], ["\u202e"]],
    "lint": [[], ["--json"], ["--strict"]],
    "build": [["--check"], []],
    "new": [["asyncio-made"], ["\x1b[2J"]],
    "init": [["\x1b[2Jmade"]],
    "completion": [["bash"]],
    "serve": [["--port", "1"], ["--http", "--allowed-host", "\x1b[2J/"]],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_command_line_says_is_clean(
    command: str,
    tmp_path: Path,
    chance: random.Random,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = hostile(tmp_path / "pack", chance)
    written = {f"code/a{name}.py": f"zebra('{attack(chance)}')\n" for name in SEQUENCES}
    write(works_on(tmp_path / "project", chance), {**written, "code/b.py": b"\xff"})
    named_oddly(tmp_path / "project" / "code")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr("sys.stdin", io.StringIO(f'{{"\x1b[2J": "{attack(chance)}'))
    packs = [] if command in ("init", "completion") else ["--pack", str(folder)]
    for arguments in LINES[command]:
        code = main([command, *packs, *arguments])
        said = capsys.readouterr()
        assert_clean([said.out, said.err])
        assert said.out + said.err or code == 0
        if arguments in (["zebra"], ["--json", "zebra"], ["--brief", "asyncio-zebra"]):
            assert "Applies to zebra >=2.0; uv.lock has 1.0." in said.out
        if "--json" in arguments:
            assert_clean(json.loads(said.out))


def test_each_command_has_a_line_here() -> None:
    assert set(LINES) == set(COMMANDS)


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM")
def test_what_the_log_says_is_clean_and_a_line_a_request(
    tmp_path: Path, chance: random.Random
) -> None:
    folder = hostile(tmp_path / "pack", chance)
    with serving(folder, "--watch") as program:
        for path in ("/a%0A127.0.0.1%20GET%20/health%20200", "/%1b[2J%E2%80%AE", f"/{'x' * 9_000}"):
            httpx.get(f"{program.url}{path}")
        forged = {"X-Forwarded-For": f"1.2.3.4 GET /forged 200 {'y' * 9_000}", "Origin": "\x80a"}
        rows = [
            (name.encode(), value.encode("latin-1"))
            for name, value in {**HEADERS, **forged}.items()
        ]
        httpx.post(f"{program.url}/mcp", json=INITIALIZE, headers=rows)
        for data in (
            b"GET / HTTP/1.1\r\nHost: \x1b[2J\xe2\x80\xae\r\n\r\n",
            b"M" * 9_000 + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\x1b]0;x\x07\r\n\r\n",
            b"GET /\x1b[2J HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ):
            with socket.create_connection((HOST, program.port), timeout=30) as made:
                made.sendall(data)
                made.recv(100)
        write(folder, {"rules/asyncio-zebra.md": f"---\ntitle: [{attack(chance)}\n---\n"})
        for _ in range(600):
            if "kept the last good state" in program.output():
                break
            time.sleep(0.1)
        assert program.terminate(60) in (0, -signal.SIGTERM)
        said = program.output()
    assert "kept the last good state" in said
    assert_clean(said)
    lines = said.splitlines()
    assert max(map(len, lines)) < 600
    requests = [line.split() for line in lines if not line.startswith("packlore: ")]
    assert {len(words) for words in requests} == {6}
    assert "/forged" not in {words[2] for words in requests}
