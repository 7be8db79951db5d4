"""The Skills extension: manifests, pages, directories and refusals."""

from __future__ import annotations

import base64
import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import Request, RequestParams
from pydantic import BaseModel, ConfigDict

from packlore.library import Library
from packlore.serve.server import PackServer
from packlore.serve.skills import IDENTIFIER, PAGE
from tests.packs import own, write


class AnyResult(BaseModel):
    model_config = ConfigDict(extra="allow")


class AnyParams(RequestParams):
    model_config = ConfigDict(extra="allow")


async def ask(client: Client, method: str, **params: Any) -> dict[str, Any]:
    request: Any = Request[AnyParams, str](method=method, params=AnyParams(**params))
    result = await client.session.send_request(request, AnyResult)
    return result.model_dump()


def serve(folder: Path, mode: str = "auto") -> Client:
    return Client(PackServer(Library.open([folder])), mode=mode)


async def test_a_manifest_has_every_file_with_the_digest_of_what_is_served(tmp_path: Path) -> None:
    folder = own(
        tmp_path, **{"assets__a.bin": b"\xff\x00\r\n", "references__b.md": "\ufeff# B\r\n"}
    )
    async with serve(folder) as client:
        (skill,) = (await ask(client, "skills/list"))["skills"]
        assert skill["uri"] == "skill://own/SKILL.md"
        assert skill["frontmatter"]["metadata"] == {"version": "1.2.3"}
        assert len(skill["resources"]) == 5
        for row in skill["resources"]:
            (content,) = (await client.read_resource(row["uri"])).contents
            blob = getattr(content, "blob", None)
            data = base64.b64decode(blob) if blob is not None else content.text.encode()  # type: ignore[union-attr]
            assert row["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
            assert row["size"] == len(data)


async def test_get_is_the_entry_of_the_list_and_both_say_how_long_they_hold(tmp_path: Path) -> None:
    async with serve(own(tmp_path)) as client:
        listed = await ask(client, "skills/list")
        got = await ask(client, "skills/get", uri="skill://own/SKILL.md")
        assert got["skill"] == listed["skills"][0]
        for result in (listed, got):
            assert (result["resultType"], result["cacheScope"]) == ("complete", "public")
            assert result["ttlMs"] > 0
        assert client.server_capabilities.extensions == {IDENTIFIER: {"directoryRead": True}}


async def test_many_skills_come_in_pages_that_make_the_whole(tmp_path: Path) -> None:
    names = [f"skill-{n:03}" for n in range(2 * PAGE + 1)]
    for name in names:
        own(tmp_path / "skills" / name, name)
    async with serve(tmp_path) as client:
        found: list[str] = []
        pages, params = 0, dict[str, str]()
        while True:
            page = await ask(client, "skills/list", **params)
            found += [skill["uri"] for skill in page["skills"]]
            pages += 1
            if "nextCursor" not in page:
                break
            params = {"cursor": page["nextCursor"]}
    assert pages == 3
    assert found == [f"skill://skills/{name}/SKILL.md" for name in names]


@pytest.mark.parametrize(
    "cursor", ["", "0", "50", "garbage", "cGFja2xvcmU6NTE=", "é", "A" * 100_000]
)
@pytest.mark.parametrize("method", ["skills/list", "resources/directory/read"])
async def test_a_cursor_that_is_not_ours_is_refused(
    tmp_path: Path, cursor: str, method: str
) -> None:
    async with serve(own(tmp_path)) as client:
        with pytest.raises(MCPError, match="bad cursor") as refused:
            await ask(client, method, cursor=cursor, uri="skill://own")
    assert refused.value.error.code == -32602


async def test_a_cursor_is_good_for_the_list_that_it_came_from(tmp_path: Path) -> None:
    for n in range(PAGE + 1):
        own(tmp_path / "skills" / f"skill-{n:03}", f"skill-{n:03}")
    server = PackServer(Library.open([tmp_path]), watched=True)
    async with Client(server) as client:
        cursor = (await ask(client, "skills/list"))["nextCursor"]
        assert len((await ask(client, "skills/list", cursor=cursor))["skills"]) == 1
        folder = {"uri": "skill://skills", "cursor": cursor}
        with pytest.raises(MCPError, match="bad cursor"):
            await ask(client, "resources/directory/read", **folder)
        shutil.rmtree(tmp_path / "skills" / "skill-000")
        own(tmp_path / "skills" / "skill-999", "skill-999")
        await server.replace(Library.open([tmp_path]))
        with pytest.raises(MCPError, match="bad cursor"):
            await ask(client, "skills/list", cursor=cursor)


async def test_directories_list_their_children(tmp_path: Path) -> None:
    folder = own(tmp_path / "a" / "own", **{"references__deep__x.md": "# X"})
    assert folder
    async with serve(tmp_path) as client:

        async def children(uri: str) -> dict[str, str]:
            rows = (await ask(client, "resources/directory/read", uri=uri))["resources"]
            return {row["uri"]: row["mimeType"] for row in rows}

        assert await children("skill://a") == {"skill://a/own": "inode/directory"}
        assert await children("skill://a/own") == {
            "skill://a/own/SKILL.md": "text/markdown",
            "skill://a/own/references": "inode/directory",
            "skill://a/own/rules": "inode/directory",
        }
        assert list(await children("skill://a/own/references/deep")) == [
            "skill://a/own/references/deep/x.md"
        ]


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        ("skills/get", "skill://own"),
        ("skills/get", "skill://other/SKILL.md"),
        ("skills/get", "skill://own/rules/asyncio-timeout.md"),
        ("resources/directory/read", "skill://own/"),
        ("resources/directory/read", "skill://own/SKILL.md"),
        ("resources/directory/read", "skill://own/.."),
        ("resources/directory/read", "skill:/"),
        ("resources/directory/read", ""),
    ],
)
async def test_what_does_not_exist_is_an_invalid_parameter(
    tmp_path: Path, method: str, uri: str
) -> None:
    async with serve(own(tmp_path)) as client:
        with pytest.raises(MCPError) as refused:
            await ask(client, method, uri=uri)
    assert refused.value.error.code == -32602


async def test_a_skill_beyond_the_limits_says_dynamic(tmp_path: Path) -> None:
    folder = write(own(tmp_path), {f"references/{n}.md": "x" for n in range(510)})
    async with serve(folder) as client:
        (skill,) = (await ask(client, "skills/list"))["skills"]
    assert skill["resources"] == "dynamic"


async def test_a_pack_without_a_readable_skill_file_is_no_skill(tmp_path: Path) -> None:
    write(own(tmp_path), {"SKILL.md": b"\xff"})
    async with serve(tmp_path) as client:
        assert (await ask(client, "skills/list"))["skills"] == []
        assert len((await client.list_resources()).resources) == 3


async def test_skills_of_one_path_are_kept_apart(tmp_path: Path) -> None:
    own(tmp_path / "one", "same")
    own(tmp_path / "two", "same")
    async with serve(tmp_path) as client:
        uris = [skill["uri"] for skill in (await ask(client, "skills/list"))["skills"]]
    assert uris == ["skill://same/SKILL.md", "skill://2/same/SKILL.md"]


async def test_older_clients_do_not_see_the_methods(tmp_path: Path) -> None:
    async with serve(own(tmp_path), mode="legacy") as client:
        with pytest.raises(MCPError) as refused:
            await ask(client, "skills/list")
    assert refused.value.error.code == -32601


async def test_a_pack_that_is_watched_is_not_to_be_kept(tmp_path: Path) -> None:
    async with Client(PackServer(Library.open([own(tmp_path)]), watched=True)) as client:
        assert (await ask(client, "skills/list"))["ttlMs"] == 0
        assert (await client.list_tools()).ttl_ms == 0


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("a/b", "skill://a%2Fb/SKILL.md"),
        ("..", "skill://pack/SKILL.md"),
        ("ü", "skill://%C3%BC/SKILL.md"),
    ],
)
async def test_a_name_is_one_segment_of_its_address(tmp_path: Path, name: str, uri: str) -> None:
    folder = own(tmp_path, name=f'"{name}"')
    async with serve(folder) as client:
        (skill,) = (await ask(client, "skills/list"))["skills"]
        assert skill["uri"] == uri
        assert (await client.read_resource(uri)).contents
