"""The command that serves, and what it says to who started it by hand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packlore.cli import terminal
from packlore.errors import BadArgumentError
from packlore.library import Library
from packlore.locate import locate

HTTP_ONLY = {
    "host": "host",
    "port": "port",
    "allowed_host": "hosts",
    "allowed_origin": "origins",
    "sessions": "sessions",
    "workers": "workers",
}
"""Arguments that mean something with --http alone, and the options that they become."""


def serve(arguments: argparse.Namespace) -> int:
    """`packlore serve`."""
    given = {name: getattr(arguments, name) for name in HTTP_ONLY}
    given = {
        name: value
        for name, value in given.items()
        if value is not None and value is not False and value != []  # 0 is a port
    }
    if given and not arguments.http:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise BadArgumentError(
            f"{names}: only with --http; without it one client is served over stdin and stdout"
        )
    missing = [each for each in ("stdin", "stdout") if each in arguments.closed]
    if missing and not arguments.http:
        raise BadArgumentError(
            f"{' and '.join(missing)} closed: a client writes to stdin and reads stdout; "
            "with --http it needs neither"
        )
    from packlore.serve import run

    folders = locate(arguments.pack)
    more: dict[str, Any] = {
        HTTP_ONLY[name]: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
    }
    options = run.Options(
        packs=tuple(map(str, folders)),
        structured=arguments.structured,
        watch=arguments.watch,
        versions=not arguments.no_versions,
        **more,
    )
    if not arguments.http and sys.stdin.isatty():
        run.let_ctrl_c_end()  # before a hint promises it
        rules = sum(1 for _ in Library.open(folders).rules())
        for text in hints(arguments, folders, rules):
            terminal.tell(f"packlore: {text}")
    (run.serve_http if arguments.http else run.serve_stdio)(options)
    return 0


def hints(arguments: argparse.Namespace, folders: Sequence[Path], rules: int) -> tuple[str, ...]:
    """For who typed the command: what it waits for, and how to connect a client."""
    import json
    import shlex

    command, *first = program(sys.argv[0])
    words = [*first, "serve"]
    if arguments.pack:
        words += [word for each in folders for word in ("--pack", str(each.resolve()))]
    flags = ("structured", "watch", "no_versions")
    words += [f"--{name.replace('_', '-')}" for name in flags if getattr(arguments, name)]
    config = {"mcpServers": {"packlore": {"command": command, "args": words}}}
    return (
        f"serving {rules} rules; waiting for an MCP client on this terminal's input; Ctrl-C ends it",
        f"a client starts this by itself: claude mcp add packlore -- {shlex.join([command, *words])}",
        f"or in its configuration: {json.dumps(config)}",
        "people ask with `packlore search`; many clients are served with `packlore serve --http`",
    )


def program(name: str) -> list[str]:
    """The words that start this program again, whoever's folder is the current one."""
    import shutil

    path = Path(name)
    if path.name == "__main__.py":
        return [sys.executable, "-P", "-m", "packlore"]  # no module of the folder
    if path.suffix == ".py":
        return [sys.executable, str(path.resolve())]
    found = shutil.which(name)
    return [str(Path(found).absolute()) if found else "packlore"]
