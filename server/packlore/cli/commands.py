"""The `packlore` command: arguments in, text out. Nothing else prints."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from packlore.cli.arguments import parser
from packlore.errors import PackError
from packlore.library import Library
from packlore.locate import locate
from packlore.pack import read

ODD = "backslashreplace"
"""What becomes of text that is none, as the bytes of a file name may be."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; answers with its exit code."""
    # Answers hold more than a code page can; arguments and paths hold bytes that are no text.
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, ODD), (sys.stderr, ODD)):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors=errors)
    known = parser()
    arguments = known.parse_args(argv)
    if arguments.version:
        print(_version())
        return 0
    if not arguments.command:
        known.print_help()
        return 2
    try:
        code = COMMANDS[arguments.command](arguments)
        print(end="", flush=True)
    except (PackError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # `packlore list | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"packlore: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return code


def command() -> NoReturn:
    """The `packlore` of the command line. A process that answers one question ends when it has
    said its answer: collecting garbage and taking everything apart would be a sixth of its time."""
    serves = "serve" in sys.argv[1:2]
    if not serves:
        gc.disable()
    code = main()
    if serves:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def search(arguments: argparse.Namespace) -> int:
    """`packlore search`."""
    from packlore import render

    library = _library(arguments)
    if arguments.stdin:
        if not arguments.json:
            raise PackError("--stdin goes with --json: one object a line")
        if arguments.query:
            raise PackError("give a query or --stdin, not both")
        for line in sys.stdin:
            query = line.rstrip("\r\n")
            found = _hits(library, query, arguments) if query.strip() else []
            print(json.dumps({"query": query, "hits": found}), flush=True)
        return 0
    query = " ".join(arguments.query)
    if query == "-" or not (arguments.query or sys.stdin.isatty()):
        query = sys.stdin.read()
    if arguments.json:
        _print_json({"query": query, "hits": _hits(library, query, arguments)})
        return 0
    filters = _filters(arguments)
    hits = library.search(query, limit=arguments.limit, **filters)
    print(render.hits(library, query, hits, library.where(**filters)), end="")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """`packlore show`."""
    from packlore import render

    library = _library(arguments)
    entries = [library.get(each) for each in arguments.ids]
    if arguments.json:
        rows = [
            {**row, "path": entry.item.path, "text": render.whole(library, [entry])}
            for entry, row in zip(entries, render.item_rows(library, entries), strict=True)
        ]
        _print_json({"items": rows})
        return 0
    text = (render.in_brief if arguments.brief else render.whole)(library, entries)
    print(text, end="")
    return 0


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
        _print_json({"items": render.item_rows(library, entries)})
        return 0
    print(render.catalogue(library, category=arguments.category), end="")
    return 0


def lint(arguments: argparse.Namespace) -> int:
    """`packlore lint`."""
    from packlore import author

    packs = [(folder, pack) for folder in _own(arguments) for pack in read(folder)]
    problems = [
        replace(problem, path=(folder / pack.folder / problem.path).as_posix())
        for folder, pack in packs
        for problem in author.problems(pack)
    ]
    if arguments.json:
        rows = [
            {name: getattr(each, name) for name in ("path", "line", "code", "message")}
            for each in problems
        ]
        _print_json({"problems": rows})
    else:
        for each in problems:
            print(each)
        rules = sum(len(pack.rules) for _, pack in packs)
        print(f"{len(problems)} problems in {rules} rules", file=sys.stderr)
    return 1 if problems else 0


def build(arguments: argparse.Namespace) -> int:
    """`packlore build`."""
    from packlore import author

    stale = [
        (folder / name).as_posix()
        for folder in _own(arguments)
        for name in author.derive(folder, check=arguments.check, asked=arguments.asked)
    ]
    for name in stale:
        print(f"{'stale' if arguments.check else 'wrote'} {name}")
    if arguments.check and stale:
        print("packlore: run this without --check and commit what it writes", file=sys.stderr)
        return 1
    return 0


def serve(arguments: argparse.Namespace) -> int:
    """`packlore serve`."""
    from packlore.serve import run

    options = run.Options(
        packs=tuple(map(str, locate(arguments.pack))),
        structured=arguments.structured,
        watch=arguments.watch,
        host=arguments.host,
        port=arguments.port,
        hosts=tuple(arguments.allowed_host),
        origins=tuple(arguments.allowed_origin),
        workers=arguments.workers,
        sessions=arguments.sessions,
    )
    (run.serve_http if arguments.http else run.serve_stdio)(options)
    return 0


def _library(arguments: argparse.Namespace) -> Library:
    return Library.open(locate(arguments.pack))


def _own(arguments: argparse.Namespace) -> tuple[Path, ...]:
    """The folders of who works on a pack: not the pack that comes with this package."""
    given = [*arguments.pack, *([arguments.path] if arguments.path else [])]
    return locate(given or ["."])


def _filters(arguments: argparse.Namespace) -> dict[str, str]:
    given = arguments
    filters = {"category": given.category, "impact": given.min_impact}
    return filters | {"tag": given.tag, "kind": given.kind}


def _hits(library: Library, query: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from packlore import render

    found = library.search(query, limit=arguments.limit, **_filters(arguments))
    return render.hit_rows(library, found)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"packlore {version('packlore')}"
    except PackageNotFoundError:
        return "packlore (not installed)"


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "search": search,
    "show": show,
    "list": list_all,
    "lint": lint,
    "build": build,
    "serve": serve,
}
