"""The `packlore` command: arguments in, text out. Nothing else prints."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from packlore.errors import PackError
from packlore.library import MAX_LIMIT, Library
from packlore.locate import VARIABLE, locate

EPILOG = f"""\
Without --pack, {VARIABLE} names the folders (separated as in PATH); without it, the pack that
comes with this package is meant. Exit codes: 0 done, 1 problems found, 2 a wrong call.
With `serve --http`, PACKLORE_TOKEN is the bearer token that clients must send."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; answers with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8")  # answers hold more than a code page can
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        print(_version())
        return 0
    if not arguments.command:
        parser.print_help()
        return 2
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except PackError as error:
        print(f"packlore: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `packlore list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="packlore",
        description="Find and serve proven rules for coding agents.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="show the version and leave")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], text: str, example: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument(
            "--pack", action="append", default=[], metavar="DIR", help="a pack; may be repeated"
        )
        command.set_defaults(run=run)
        return command

    command = add(
        "search",
        search,
        "find rules by an error message, code, a task or words",
        'packlore search "greenlet_spawn has not been called"',
    )
    command.add_argument("query", nargs="*", help="what you have; - reads it from standard input")
    command.add_argument("--category", default="", help="only rules of this category")
    command.add_argument("--min-impact", default="", help="LOW to CRITICAL: the lowest wanted")
    command.add_argument("--tag", default="", help="only what has this tag")
    command.add_argument("--kind", default="", help="rule, reference, example, checklist or asset")
    command.add_argument("--limit", type=int, default=5, help=f"hits, 1 to {MAX_LIMIT} (5)")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--stdin", action="store_true", help="with --json: one query a line, one answer a line"
    )
    command = add("show", show, "print rules and documents", "packlore show asyncio-cancellation")
    command.add_argument("ids", nargs="+", metavar="ID", help="an id or a path in the pack")
    command.add_argument("--brief", action="store_true", help="without the wrong example and links")
    command.add_argument("--json", action="store_true", help="for programs")
    command = add("list", list_all, "list categories, rules and documents", "packlore list asyncio")
    command.add_argument("category", nargs="?", default="", help="only this category")
    command.add_argument("--json", action="store_true", help="for programs")
    command = add("lint", lint, "check a pack; exit 1 where it has errors", "packlore lint .")
    command.add_argument("path", nargs="?", default="", help="the pack's folder")
    command.add_argument("--json", action="store_true", help="for programs")
    command = add("build", build, "write the files that derive from a pack", "packlore build")
    command.add_argument("--check", action="store_true", help="only say which are stale; exit 1")
    command = add("serve", serve, "serve packs over MCP", "packlore serve --pack ./my-pack")
    command.add_argument("--http", action="store_true", help="streamable HTTP in place of stdio")
    command.add_argument("--host", default="127.0.0.1", help="with --http (127.0.0.1)")
    command.add_argument("--port", type=int, default=8765, help="with --http (8765)")
    command.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="HOST",
        help="with --http: a Host header that is served, as in mcp.example.com or 10.0.0.7:8765; "
        "may be repeated; needed where --host is not this machine alone",
    )
    command.add_argument(
        "--allowed-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="with --http: an Origin header that is served; may be repeated",
    )
    command.add_argument(
        "--sessions", action="store_true", help="with --http: keep sessions of older clients"
    )
    command.add_argument("--workers", type=int, default=1, help="with --http: processes (1)")
    command.add_argument(
        "--watch", action="store_true", help="read a changed file again; for people who write rules"
    )
    command.add_argument(
        "--structured",
        action="store_true",
        help="send data as structured content, for hosts that show a model both it and the text",
    )
    return parser


def search(arguments: argparse.Namespace) -> int:
    """`packlore search`."""
    from packlore import render

    library = _library(arguments)
    if arguments.stdin:
        if not arguments.json:
            raise PackError("--stdin goes with --json: one object a line")
        for query in _lines(sys.stdin):
            print(json.dumps({"query": query, "hits": _hits(library, query, arguments)}))
        return 0
    query = " ".join(arguments.query)
    if query in ("", "-"):
        query = sys.stdin.read()
    if arguments.json:
        _print_json({"query": query, "hits": _hits(library, query, arguments)})
        return 0
    print(render.hits(library, _found(library, query, arguments)), end="")
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
    from packlore.lint import lint as problems_of

    given = [*arguments.pack, *([arguments.path] if arguments.path else [])]
    library = Library.open(locate(given))
    problems = [problem for pack in library.packs.values() for problem in problems_of(pack)]
    if arguments.json:
        rows = [
            {name: getattr(each, name) for name in ("path", "line", "code", "message")}
            for each in problems
        ]
        _print_json({"problems": rows})
    else:
        for each in problems:
            print(each)
        rules = sum(len(pack.rules) for pack in library.packs.values())
        print(f"{len(problems)} problems in {rules} rules", file=sys.stderr)
    return 1 if problems else 0


def build(arguments: argparse.Namespace) -> int:
    """`packlore build`."""
    from packlore.build import build as derive

    folders = locate(arguments.pack)
    stale = [name for folder in folders for name in derive(folder, check=arguments.check)]
    for name in stale:
        print(f"{'stale' if arguments.check else 'wrote'} {name}")
    if arguments.check and stale:
        print("packlore: run `packlore build` and commit what it writes", file=sys.stderr)
        return 1
    return 0


def serve(arguments: argparse.Namespace) -> int:
    """`packlore serve`."""
    from packlore.run import Options, serve_http, serve_stdio

    options = Options(
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
    (serve_http if arguments.http else serve_stdio)(options)
    return 0


def _library(arguments: argparse.Namespace) -> Library:
    return Library.open(locate(arguments.pack))


def _found(library: Library, query: str, arguments: argparse.Namespace) -> Any:
    return library.search(
        query,
        category=arguments.category,
        impact=arguments.min_impact,
        tag=arguments.tag,
        kind=arguments.kind,
        limit=arguments.limit,
    )


def _hits(library: Library, query: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from packlore import render

    if not query.strip():
        return []
    return render.hit_rows(library, _found(library, query, arguments))


def _lines(stream: TextIO) -> list[str]:
    return [line.rstrip("\r\n") for line in stream]


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"packlore {version('packlore')}"
    except PackageNotFoundError:
        return "packlore (not installed)"
