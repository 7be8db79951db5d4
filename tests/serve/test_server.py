"""The server as a client sees it: in memory, and as a process over stdio."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, JSONRPCNotification, JSONRPCRequest

from packlore.answers import LEAST_BESIDE
from packlore.library import Library
from packlore.pack.model import tokens
from packlore.serve.bind import DATA_KEY
from packlore.serve.server import PAGE, PackServer
from packlore.serve.stdio import Pending
from tests.packs import own, rule, write
from tests.proofs.harness import ROOT

ERROR = (
    "sqlalchemy.exc.MissingGreenlet: greenlet_spawn has not been called; "
    "can't call await_() here. Was IO attempted in an unexpected place?"
)


def text_of(result: Any) -> str:
    return "".join(block.text for block in result.content)


LIBRARY = Library.open([ROOT])


def connect() -> Client:
    """A client in memory; entered by the test itself, for its task must be the one that leaves."""
    return Client(PackServer(LIBRARY))


async def test_the_list_of_tools_costs_at_most_700_tokens() -> None:
    async with connect() as client:
        listed = await client.list_tools()
        assert tokens(listed.model_dump_json(by_alias=True, exclude_none=True)) <= 700
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in listed.tools)
        assert all(tool.output_schema is None for tool in listed.tools)


async def test_an_error_message_gets_its_rule_in_one_call() -> None:
    async with connect() as client:
        result = await client.call_tool("find_rules", {"query": ERROR})
        text = text_of(result)
        assert text.startswith("sqlalchemy-expire-on-commit ")
        assert "expire_on_commit=False" in text
        assert tokens(text) <= 1200


async def test_everyday_words_get_a_fitting_rule() -> None:
    async with connect() as client:
        query = "the client got a success but the row was never saved"
        result = await client.call_tool("find_rules", {"query": query})
        assert text_of(result).startswith("fastapi-transaction-scope ")


async def test_no_text_is_sent_twice() -> None:
    async with connect() as client:
        result = await client.call_tool("find_rules", {"query": ERROR})
        assert result.structured_content is None
        data = (result.meta or {})[DATA_KEY]
        assert data["hits"][0]["id"] == "sqlalchemy-expire-on-commit"
        assert "async_sessionmaker(" not in json.dumps(data)


async def test_structured_content_says_the_same_where_it_is_asked_for() -> None:
    async with Client(PackServer(Library.open([ROOT]), structured=True)) as client:
        result = await client.call_tool("find_rules", {"query": ERROR})
    assert result.structured_content
    best, *others = result.structured_content["hits"]
    told = [row["id"] for row in others if row["score"] > LEAST_BESIDE + 0.001]
    assert f"): {best['sure']} (" in text_of(result)
    assert all(each in text_of(result) for each in (best["id"], *told))


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("read_rules", {"ids": ["asyncio-cancelation"]}, "nearest: asyncio-cancellation"),
        ("load_category", {"category": "sql"}, "there are: asyncio, fastapi, sqlalchemy, pooling"),
        ("find_rules", {"query": "x", "limit": 21}, "limit is 21: give 1 to 20"),
        ("find_rules", {"query": "x", "limit": "many"}, "limit: Input should be a valid integer"),
        (
            "find_rules",
            {"query": "x", "categry": "a"},
            "unknown argument categry: find_rules takes",
        ),
        ("find_rules", {}, "query: Field required"),
        ("find", {"query": "x"}, "Unknown tool"),
    ],
)
async def test_a_bad_call_is_told_what_would_be_accepted(
    tool: str, arguments: dict[str, Any], message: str
) -> None:
    async with connect() as client:
        result = await client.call_tool(tool, arguments)
        assert result.is_error
        assert message in text_of(result)


async def test_a_megabyte_of_query_is_answered() -> None:
    async with connect() as client:
        assert not (await client.call_tool("find_rules", {"query": "pool " * 200_000})).is_error


async def test_every_file_is_a_resource_with_the_bytes_of_the_disk() -> None:
    async with connect() as client:
        listed = (await client.list_resources()).resources
        assert len(listed) > 40
        for resource in listed:
            path = resource.uri.removeprefix("skill://python-backend/")
            (content,) = (await client.read_resource(resource.uri)).contents
            assert content.text.encode() == (ROOT / path).read_bytes()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "uri",
    ["skill://python-backend/../pyproject.toml", "file:///etc/passwd", "skill://x", "nothing"],
)
async def test_nothing_outside_the_snapshot_is_read(uri: str) -> None:
    async with connect() as client:
        with pytest.raises(MCPError) as refused:
            await client.read_resource(uri)
        assert refused.value.error.code == -32602


async def test_prompts_refuse_with_what_exists() -> None:
    async with connect() as client:
        names = [prompt.name for prompt in (await client.list_prompts()).prompts]
        assert names == ["review_code", "plan_work"]
        result = await client.get_prompt("plan_work", {"category": "asyncio", "task": "a crawler"})
        assert "asyncio-taskgroup" in str(result.messages[0].content)
        with pytest.raises(MCPError, match="there are: asyncio"):
            await client.get_prompt("plan_work", {"category": "x"})
        with pytest.raises(MCPError, match="there are: review_code, plan_work"):
            await client.get_prompt("plan", {})
        with pytest.raises(MCPError, match="plan_work needs category") as refused:
            await client.get_prompt("plan_work", {})
        assert refused.value.error.code == INVALID_PARAMS
        with pytest.raises(MCPError, match="unknown argument x: plan_work takes category, task"):
            await client.get_prompt("plan_work", {"category": "asyncio", "x": "y"})


async def test_categories_are_completed_and_free_text_is_not() -> None:
    async with connect() as client:
        from mcp_types import PromptReference

        reference = PromptReference(type="ref/prompt", name="plan_work")
        found = await client.complete(reference, {"name": "category", "value": "sq"})
        assert found.completion.values == ["sqlalchemy"]
        found = await client.complete(reference, {"name": "task", "value": "sq"})
        assert found.completion.values == []


async def test_bytes_that_are_no_text_come_as_a_blob(tmp_path: Path) -> None:
    data = b"\x89PNG\x00\xff"
    crlf = ("\ufeff" + rule()).replace("\n", "\r\n").encode()
    folder = own(tmp_path, **{"assets__a b.png": data, "rules__asyncio-crlf.md": crlf})
    async with Client(PackServer(Library.open([folder]))) as client:
        (content,) = (await client.read_resource("skill://own/assets/a%20b.png")).contents
        assert content.blob == "iVBORwD/"  # type: ignore[union-attr]
        (content,) = (await client.read_resource("skill://own/rules/asyncio-crlf.md")).contents
        served = content.text.encode()  # type: ignore[union-attr]
    assert hashlib.sha256(served).digest() == hashlib.sha256(crlf).digest()


async def test_another_snapshot_takes_the_place_of_the_first(tmp_path: Path) -> None:
    server = PackServer(Library.open([own(tmp_path)]))
    async with Client(server) as client:
        write(tmp_path, {"rules/asyncio-new.md": rule("A rule about walruses")})
        assert "asyncio-new" not in text_of(await client.call_tool("list_rules", {}))
        await server.replace(Library.open([tmp_path]))
        assert "asyncio-new" in text_of(await client.call_tool("list_rules", {}))
        (content,) = (await client.read_resource("skill://own/rules/asyncio-new.md")).contents
        assert "walruses" in content.text  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_process_over_stdio_serves_both_eras(mode: str) -> None:
    command = StdioServerParameters(command=sys.executable, args=["-m", "packlore", "serve"])
    async with Client(stdio_client(command), mode=mode) as client:
        assert client.instructions
        result = await client.call_tool("find_rules", {"query": ERROR})
    assert text_of(result).startswith("sqlalchemy-expire-on-commit ")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
async def test_control_c_ends_a_server_over_stdio() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "packlore", "serve", "--pack", str(ROOT), stdin=-1, stdout=-1
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
    async with asyncio.timeout(30):
        assert await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == -signal.SIGINT


HANDSHAKE = [
    {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    },
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
]


def piped(*messages: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """What a server answers to messages that are all there before it reads, and then end."""
    sent = "".join(f"{json.dumps(each)}\n" for each in (*HANDSHAKE, *messages))
    return subprocess.run(
        [sys.executable, "-m", "packlore", "serve", "--pack", str(ROOT)],
        input=sent,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def call(number: int, query: str = "pool timeout") -> dict[str, Any]:
    params = {"name": "find_rules", "arguments": {"query": query}}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def test_what_was_asked_before_the_end_of_the_input_is_answered() -> None:
    done = piped(*(call(number) for number in range(1, 11)))
    assert sorted(json.loads(line)["id"] for line in done.stdout.splitlines()) == list(range(11))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_request_that_is_given_up_does_not_hold_the_end() -> None:
    pending = Pending()
    pending.asked(JSONRPCRequest(jsonrpc="2.0", id=1, method="tools/call"))
    pending.asked(JSONRPCRequest(jsonrpc="2.0", id=2, method="subscriptions/listen"))
    pending.asked(
        JSONRPCNotification(
            jsonrpc="2.0", method="notifications/cancelled", params={"requestId": 1}
        )
    )
    asyncio.run(asyncio.wait_for(pending.wait(), 10))


async def test_a_long_list_of_resources_comes_in_pages(tmp_path: Path) -> None:
    files = {f"references__{number:03}.md": f"# {number}\n" for number in range(2 * PAGE)}
    async with Client(PackServer(Library.open([own(tmp_path, **files)]))) as client:
        page = await client.list_resources()
        names = [each.name for each in page.resources]
        assert len(names) == PAGE
        while page.next_cursor:
            page = await client.list_resources(cursor=page.next_cursor)
            assert len(page.resources) <= PAGE
            names += [each.name for each in page.resources]
        assert len(names) == len(set(names)) == 2 * PAGE + 3
        with pytest.raises(MCPError, match="bad cursor"):
            await client.list_resources(cursor="bm9wZQ==")


@pytest.mark.parametrize("watched", [False, True])
async def test_change_is_declared_only_where_something_changes(watched: bool) -> None:
    for mode in ("auto", "legacy"):
        async with Client(PackServer(LIBRARY, watched=watched), mode=mode) as client:
            declared = client.server_capabilities
            assert declared.resources
            assert declared.tools
            assert declared.prompts
            modern = mode == "auto"
            assert bool(declared.resources.list_changed) is (watched and modern)
            # The SDK has one switch for all three.
            assert bool(declared.tools.list_changed) is (watched and modern)
            assert bool(declared.prompts.list_changed) is (watched and modern)
