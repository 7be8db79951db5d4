"""The commands that read packs: search, show, list, agents-md."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from packlore.cli import terminal
from packlore.errors import NotFoundError, PackError
from packlore.find import Entry
from packlore.library import Library
from packlore.locate import locate
from packlore.pack import Document, Rule
from packlore.project import Project


def search(arguments: argparse.Namespace) -> int:
    """`packlore search`."""
    from packlore import answers

    library = _library(arguments)
    if arguments.stdin:
        if not arguments.json:
            raise PackError("--stdin goes with --json: one object a line")
        if arguments.query:
            raise PackError("give a query or --stdin, not both")
        for line in sys.stdin:
            query = line.rstrip("\r\n")
            found = _hits(library, query, arguments) if query.strip() else []
            terminal.plain(json.dumps({"query": query, "hits": found}) + "\n")  # ASCII
        return 0
    query = " ".join(arguments.query)
    if query == "-" or not (arguments.query or sys.stdin.isatty()):
        query = sys.stdin.read()
    if arguments.json:
        terminal.data({"query": query, "hits": _hits(library, query, arguments)})
        return 0
    filters = _filters(arguments)
    hits = library.search(query, limit=arguments.limit, **filters)
    text = answers.hits(library, query, hits, library.where(**filters))
    terminal.markdown(text, arguments.color)
    return 0


def show(arguments: argparse.Namespace) -> int:
    """`packlore show`."""
    from packlore import render

    library = _library(arguments)
    entries = [_hidden(library, each) or library.get(each) for each in arguments.ids]
    if arguments.json:
        known = render.item_rows(library, entries)
        library.project = None  # a row says it; the text is the rule's own
        rows = [
            {**row, "path": entry.item.path, "text": render.whole(library, [entry])}
            for entry, row in zip(entries, known, strict=True)
        ]
        terminal.data({"items": rows})
        return 0
    text = render.in_brief if arguments.brief else render.whole
    if not terminal.is_laid_out(arguments.color):
        terminal.markdown(text(library, entries), arguments.color)
        return 0
    for entry in entries:
        terminal.markdown(text(library, [entry]), arguments.color, head(library, entry))
    return 0


def head(library: Library, entry: Entry) -> str:
    """What a person wants to know of an item before its text: its id, impact or kind, the
    versions it holds for, and its path in the pack."""
    item = entry.item
    known = [library.name(entry.pack, item)]
    if isinstance(item, Rule):
        known.append(item.impact.label)
        known += [f"{name} {versions}" for name, versions in item.applies.items()]
    elif not item.path.startswith("rules/_"):
        known.append(item.kind)
    return " · ".join(dict.fromkeys((*known, item.path)))


def list_all(arguments: argparse.Namespace) -> int:
    """`packlore list`."""
    from packlore import render

    library = _library(arguments)
    if arguments.json:
        wanted = library.category_id(arguments.category) if arguments.category else ""
        entries = [
            entry
            for entry in (*library.rules(), *library.documents())
            if wanted in ("", entry.item.category)
        ]
        terminal.data({"items": render.item_rows(library, entries)})
        return 0
    terminal.markdown(render.catalogue(library, category=arguments.category), arguments.color)
    return 0


def agents_md(arguments: argparse.Namespace) -> int:
    """`packlore agents-md`."""
    from packlore.outline import outline

    terminal.plain(outline(_library(arguments)))
    return 0


def _hidden(library: Library, name: str) -> Entry | None:
    """A file that authors ask for and agents do not, such as `_template`: the whole of it, for its
    frontmatter is what is wanted. None for a name that is none."""
    wanted = name.strip().removesuffix(".md")
    found = [
        Entry(key, Document(place, file.path, "reference", place, "", (), (), text, 1, None))
        for key, pack in library.packs.items()
        for file in pack.files
        if file.path.startswith("rules/_") and file.path.endswith(".md")
        for place in [file.path.removesuffix(".md").removeprefix("rules/")]
        if wanted in (place, f"rules/{place}", f"{key}/{place}", f"{key}/rules/{place}")
        for text in [file.data.decode("utf-8", "replace")]
    ]
    if len(found) > 1:
        names = ", ".join(f"{entry.pack}/{entry.item.id}" for entry in found[:5])
        raise NotFoundError(f"{name!r} is in several packs: ask for one of {names}")
    return found[0] if found else None


def _library(arguments: argparse.Namespace) -> Library:
    library = Library.open(locate(arguments.pack))
    if not getattr(arguments, "no_versions", True):
        library.project = Project(Path())
    return library


def _filters(arguments: argparse.Namespace) -> dict[str, str]:
    given = arguments
    filters = {"category": given.category, "impact": given.min_impact}
    return filters | {"tag": given.tag, "kind": given.kind}


def _hits(library: Library, query: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from packlore import answers

    found = library.search(query, limit=arguments.limit, **_filters(arguments))
    return answers.hit_rows(library, found)
