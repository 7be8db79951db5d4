"""What is read again when a pack changes, and who is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Self

import anyio
import pytest
from mcp import Client
from mcp.server.subscriptions import ResourceUpdated

from packlore.library import Library
from packlore.serve.server import PackServer
from packlore.serve.watch import watching
from tests.packs import own, rule, write


class Changes:
    """Waits for the libraries that the watcher gives."""

    def __init__(self) -> None:
        self.send, self.receive = anyio.create_memory_object_stream[Library](10)

    async def replace(self, library: Library) -> None:
        await self.send.send(library)

    async def next(self) -> Library:
        with anyio.fail_after(20):
            return await self.receive.receive()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.send.close()
        self.receive.close()


async def said(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Waits until the watcher has said it; a file that is half written is told of as well."""
    found = ""
    with anyio.fail_after(20):
        while text not in found:
            await anyio.sleep(0.01)
            found += capsys.readouterr().err


async def test_a_new_changed_or_removed_file_gives_a_new_library(tmp_path: Path) -> None:
    folder = own(tmp_path)
    async with (
        Changes() as changes,
        watching([folder], Library.open([folder]), changes.replace, interval=0.01),
    ):
        write(folder, {"rules/asyncio-new.md": rule("New")})
        assert (await changes.next()).get("asyncio-new").item.title == "New"
        write(folder, {"rules/asyncio-new.md": rule("Changed title")})
        assert (await changes.next()).get("asyncio-new").item.title == "Changed title"
        (folder / "rules" / "asyncio-new.md").unlink()
        assert len(list((await changes.next()).rules())) == 1


async def test_a_broken_edit_keeps_the_last_good_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own(tmp_path / "pack")
    async with (
        Changes() as changes,
        watching([folder], Library.open([folder]), changes.replace, interval=0.01),
    ):
        write(folder, {"rules/asyncio-timeout.md": "---\ntitle: [x\n---\n"})
        await said(capsys, "kept the last good state: rules/asyncio-timeout.md: frontmatter-yaml")
        shutil.move(folder, tmp_path / "away")
        await said(capsys, "kept the last good state: no folder at")
        shutil.move(tmp_path / "away", folder)
        write(folder, {"rules/asyncio-timeout.md": rule("Mended")})
        library = await changes.next()
    assert library.get("asyncio-timeout").item.title == "Mended"


async def test_a_link_to_nowhere_hides_no_edit(tmp_path: Path) -> None:
    folder = own(tmp_path)
    for number in range(3):
        (folder / "rules" / f"link-{number}.md").symlink_to(tmp_path / "nowhere")
    async with (
        Changes() as changes,
        watching([folder], Library.open([folder]), changes.replace, interval=0.01),
    ):
        for title in ("One", "Two"):
            write(folder, {"rules/asyncio-timeout.md": rule(title)})
            assert (await changes.next()).get("asyncio-timeout").item.title == title


async def test_a_pack_in_a_folder_with_a_dot_is_watched(tmp_path: Path) -> None:
    """As `skills add` lays it out."""
    folder = own(tmp_path / ".agents" / "skills" / "own")
    async with (
        Changes() as changes,
        watching([tmp_path], Library.open([tmp_path]), changes.replace, interval=0.01),
    ):
        write(folder, {"rules/asyncio-timeout.md": rule("Changed")})
        assert (await changes.next()).get("asyncio-timeout").item.title == "Changed"


async def test_no_edit_ends_the_watcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own(tmp_path)
    good = Library.open([folder])

    def stumble(_: object) -> Library:
        raise RuntimeError("nobody thought of this")

    async with Changes() as changes, watching([folder], good, changes.replace, interval=0.01):
        with monkeypatch.context() as patched:
            patched.setattr(Library, "open", stumble)
            write(folder, {"rules/asyncio-timeout.md": rule("Odd")})
            await said(capsys, "kept the last good state: nobody thought of this")
        write(folder, {"rules/asyncio-timeout.md": rule("Mended")})
        assert (await changes.next()).get("asyncio-timeout").item.title == "Mended"


async def test_a_pack_that_was_odd_before_is_still_read_again(tmp_path: Path) -> None:
    folder = own(tmp_path, **{"rules__asyncio-odd.md": "---\ntitle: [x\n---\n"})
    async with (
        Changes() as changes,
        watching([folder], Library.open([folder]), changes.replace, interval=0.01),
    ):
        write(folder, {"rules/asyncio-timeout.md": rule("Changed")})
        assert (await changes.next()).get("asyncio-timeout").item.title == "Changed"


async def test_who_subscribed_to_a_file_is_told_when_it_changes(tmp_path: Path) -> None:
    folder = own(tmp_path, **{"rules__asyncio-new.md": rule("New")})
    server = PackServer(Library.open([folder]), watched=True)
    async with Client(server) as client:
        uris = [str(each.uri) for each in (await client.list_resources()).resources]
        (changed,) = [uri for uri in uris if uri.endswith("asyncio-new.md")]
        async with client.listen(resource_subscriptions=uris) as events:
            for change in (rule("Newer"), rule("Newest")):
                write(folder, {"rules/asyncio-new.md": change})
                await server.replace(Library.open([folder]))
                with anyio.fail_after(20):
                    told = await anext(aiter(events))
                assert isinstance(told, ResourceUpdated)
                assert str(told.uri) == changed


async def test_listeners_are_told(tmp_path: Path) -> None:
    folder = own(tmp_path)
    server = PackServer(Library.open([folder]), watched=True)
    async with Client(server) as client, client.listen(resources_list_changed=True) as events:
        write(folder, {"rules/asyncio-new.md": rule("New")})
        await server.replace(Library.open([folder]))
        with anyio.fail_after(20):
            event = await anext(aiter(events))
    assert type(event).__name__ == "ResourcesListChanged"
