"""The `packlore` command: which command is meant, and how the process ends."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

from packlore.cli import terminal
from packlore.cli.arguments import ASK, parser
from packlore.errors import PackError

ODD = "backslashreplace"
"""What becomes of text that is none, as the bytes of a file name may be."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; answers with its exit code."""
    closed = terminal.open_closed()
    # Answers hold more than a code page can; arguments and paths hold bytes that are no text.
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, ODD), (sys.stderr, ODD)):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors=errors)
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == [ASK]:
        from packlore.cli.complete import answer

        for each in answer(argv[1:]):
            terminal.say(each)
        return 0
    known = parser()
    arguments = known.parse_args(argv)
    arguments.closed = closed
    if arguments.version:
        terminal.say(_version())
        return 0
    if not arguments.command:
        known.print_help()
        return 2
    try:
        code = _run(arguments.command, arguments)
        sys.stdout.flush()
    except (PackError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # `packlore list | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        terminal.tell(f"packlore: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    return code


def command() -> NoReturn:
    """The `packlore` of the command line. A process that answers one question ends when it has
    said its answer: collecting garbage and taking everything apart would be a sixth of its time."""
    # What multiprocessing starts would else look for modules in the current folder first, which
    # may be the code that is checked (https://docs.python.org/3/using/cmdline.html).
    os.environ["PYTHONSAFEPATH"] = "1"
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


def _run(name: str, arguments: object) -> int:
    """The command `name`. Only its own module is imported: a search has no time for others."""
    module, _, function = COMMANDS[name].partition(".")
    code: int = getattr(import_module(f"packlore.cli.{module}"), function)(arguments)
    return code


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"packlore {version('packlore')}"
    except PackageNotFoundError:
        return "packlore (not installed)"


COMMANDS: Mapping[str, str] = {
    "search": "reading.search",
    "show": "reading.show",
    "list": "reading.list_all",
    "agents-md": "reading.agents_md",
    "check": "checking.check",
    "hook": "hooking.hook",
    "init": "authoring.init",
    "new": "authoring.new",
    "lint": "authoring.lint",
    "build": "authoring.build",
    "serve": "serving.serve",
    "completion": "complete.completion",
}
"""Each command and the function that does it."""
