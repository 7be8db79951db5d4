"""What the command line takes, and its help. No work is done here."""

from __future__ import annotations

import argparse
from pathlib import Path

from packlore.library import MAX_LIMIT
from packlore.locate import VARIABLE

COLORS = ("auto", "always", "never")
LEVELS = ("hint", "warning", "error")
SHELLS = ("bash", "zsh", "fish")
ASK = "_complete"
"""The hidden command that the scripts of `completion` run: the number of the word in question,
then all words of the line."""

EPILOG = f"""\
Without --pack, {VARIABLE} names the folders (separated as in PATH); without it, the pack that
comes with this package is meant; new, lint and build mean the current folder. Exit codes: 0 done,
1 errors found, 2 a wrong call or a file that cannot be read or written, 3 no address to serve on,
or no worker that could start.
At a terminal Markdown is laid out in colours; where NO_COLOR is set, without them.
With `serve --http`, PACKLORE_TOKEN is the bearer token that clients must send."""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; the name of the command is in `command`."""
    made = argparse.ArgumentParser(
        prog="packlore",
        description="Find and serve proven rules for coding agents.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="store_true", help="show the version and leave")
    commands = made.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, text: str, example: str, *, pack: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if pack:
            command.add_argument(
                "--pack", action="append", default=[], metavar="DIR", help="a pack; may be repeated"
            )
        return command

    def reads(command: argparse.ArgumentParser) -> None:
        command.add_argument("--json", action="store_true", help="for programs")
        command.add_argument(
            "--color",
            choices=COLORS,
            default="auto",
            help="auto (the default) lays Markdown out and colours it at a terminal; always does "
            "so in a pipe, too; never sends no colours",
        )

    def noted(command: argparse.ArgumentParser, more: str = "") -> None:
        text = (
            "do not say where a rule does not apply to a version that the project of the working "
            "folder has locked, or asks for in its pyproject.toml"
        )
        command.add_argument("--no-versions", action="store_true", help=text + more)

    command = add(
        "search",
        "find rules by an error message, code, a task or words",
        'packlore search "TimeoutError: the pool is exhausted"',
    )
    command.add_argument("query", nargs="*", help="what you have; - reads it from standard input")
    command.add_argument("--category", default="", help="only rules of this category")
    command.add_argument("--min-impact", default="", help="LOW to CRITICAL: the lowest wanted")
    command.add_argument("--tag", default="", help="only what has this tag")
    command.add_argument("--kind", default="", help="rule, reference, example, checklist or asset")
    command.add_argument("--limit", type=int, default=5, help=f"hits, 1 to {MAX_LIMIT} (5)")
    noted(command)
    reads(command)
    command.add_argument(
        "--stdin", action="store_true", help="with --json: one query a line, one answer a line"
    )
    command = add("show", "print rules and documents", "packlore show asyncio-cancellation")
    command.add_argument(
        "ids",
        nargs="+",
        metavar="ID",
        help="an id or a path in the pack; also _template and _sections",
    )
    command.add_argument("--brief", action="store_true", help="without the wrong example and links")
    noted(command)
    reads(command)
    command = add("list", "list categories, rules and documents", "packlore list asyncio")
    command.add_argument("category", nargs="?", default="", help="only this category")
    reads(command)
    add(
        "agents-md",
        "print an index of the rules to paste into a project's AGENTS.md or CLAUDE.md",
        "packlore agents-md >> AGENTS.md",
    )
    command = add(
        "check", "find code that breaks rules; exit 1 where it does", "packlore check src"
    )
    command.add_argument(
        "paths", nargs="*", metavar="PATH", help="files and folders (the current folder)"
    )
    command.add_argument("--diff", metavar="REF", help="only lines that differ from a commit")
    command.add_argument("--staged", action="store_true", help="only what the next commit changes")
    command.add_argument(
        "--min-level", choices=LEVELS, help="the least sure findings that are told (error)"
    )
    command.add_argument(
        "--select", action="append", default=[], metavar="RULE", help="only this rule, or category"
    )
    command.add_argument(
        "--ignore", action="append", default=[], metavar="RULE", help="not this rule, or category"
    )
    command.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="not these files of folders"
    )
    command.add_argument("--baseline", metavar="FILE", help="tell only what is not known in it")
    command.add_argument(
        "--write-baseline", metavar="FILE", help="write what is found now, as known from now on"
    )
    forms = command.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="for programs")
    forms.add_argument("--sarif", action="store_true", help="SARIF 2.1.0, for code scanning")
    forms.add_argument("--github", action="store_true", help="annotations of a GitHub workflow")
    add("hook", "what a client runs after an edit: JSON in, JSON out", "packlore hook < edit.json")
    command = add("init", "begin a pack of your own", "packlore init our-rules", pack=False)
    command.add_argument("folder", metavar="DIR", help="its folder; made where it is missing")
    command.add_argument(
        "--name", default="", help="the skill's name, lower-case words with hyphens (the folder's)"
    )
    command = add("new", "begin a rule: its files to fill in", "packlore new loops-shared-iterator")
    command.add_argument("id", metavar="CATEGORY-NAME", help="the id of the rule")
    command.add_argument("path", nargs="?", default="", metavar="DIR", help="the pack's folder")
    command = add("lint", "check a pack; exit 1 where it has errors", "packlore lint .")
    command.add_argument("path", nargs="?", default="", metavar="DIR", help="the pack's folder")
    command.add_argument("--strict", action="store_true", help="exit 1 for warnings, too")
    command.add_argument("--json", action="store_true", help="for programs")
    command = add("build", "write the files that derive from a pack", "packlore build .")
    command.add_argument("path", nargs="?", default="", metavar="DIR", help="the pack's folder")
    command.add_argument("--check", action="store_true", help="only say which are stale; exit 1")
    command.add_argument(
        "--asked",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="queries by the rules that answer them, as JSON, from which search learns how "
        "people ask; may be repeated",
    )
    command = add("serve", "serve packs over MCP", "packlore serve --pack ./my-pack")
    command.add_argument("--http", action="store_true", help="streamable HTTP in place of stdio")
    command.add_argument("--host", help="with --http (127.0.0.1)")
    command.add_argument("--port", type=int, help="with --http (8765)")
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
    command.add_argument("--workers", type=int, help="with --http: processes (1)")
    command.add_argument(
        "--watch", action="store_true", help="read a changed file again; for people who write rules"
    )
    command.add_argument(
        "--structured",
        action="store_true",
        help="send data as structured content, for hosts that show a model both it and the text",
    )
    noted(command, "; over HTTP that is never said")
    command = add(
        "completion",
        "print a script by which a shell completes commands, ids and categories",
        'eval "$(packlore completion bash)"',
        pack=False,
    )
    command.add_argument("shell", choices=SHELLS, help="bash, zsh or fish")
    return made
