"""What an agent pays from its query to the text of the right rule."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mcp import Client

from benchmarks.finding.queries import Query
from packlore import answers, render
from packlore.library import Library
from packlore.pack.model import tokens
from packlore.serve.server import PackServer


@dataclass(frozen=True)
class Path:
    """Calls and tokens of answers until the rule was read; `found` where it was."""

    calls: int
    tokens: int
    found: bool


def path(library: Library, query: Query) -> Path:
    """One search; a second call reads the right rule where it came, but not first."""
    hits = library.search(query.text)
    spent = tokens(answers.hits(library, query.text, hits))
    ids = [hit.item.id for hit in hits]
    if not set(ids) & set(query.rules):
        return Path(1, spent, found=False)
    if ids[0] in query.rules:
        return Path(1, spent, found=True)
    wanted = next(each for each in ids if each in query.rules)
    spent += tokens(render.in_brief(library, [library.get(wanted)]))
    return Path(2, spent, found=True)


def standing(library: Library) -> int:
    """Tokens that every session pays before it asks: the list of tools and the instructions."""

    async def ask() -> int:
        async with Client(PackServer(library)) as client:
            listed = await client.list_tools()
            text = listed.model_dump_json(by_alias=True, exclude_none=True)
            return tokens(text) + tokens(client.instructions or "")

    return asyncio.run(ask())
