"""Runs a server: over stdio, or over streamable HTTP for a team."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio

from packlore.errors import BadArgumentError, PackError
from packlore.library import Library
from packlore.project import Project
from packlore.serve import log, stdio
from packlore.serve.log import say
from packlore.serve.server import PackServer
from packlore.serve.watch import watching

TOKEN = "PACKLORE_TOKEN"  # noqa: S105 the name of a variable
OPTIONS = "PACKLORE_OPTIONS"
"""Carries the options to the worker processes; of no use to people."""
MAX_WORKERS = 64
STARTUP_FAILED = 3
"""The exit code where there is no address to serve on, or no pack any more."""
BACKLOG = 512
"""Connections that wait to be accepted; they are accepted all at once."""
STOP_TIMEOUT = 10
"""Seconds that running requests have after SIGTERM."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve. `hosts` and `origins` are the header values that are let in. `versions` is
    heeded over stdio alone: over HTTP the working folder is not the caller's."""

    packs: tuple[str, ...]
    structured: bool = False
    versions: bool = True
    watch: bool = False
    host: str = "127.0.0.1"
    port: int = 8765
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    workers: int = 1
    sessions: bool = False
    digest: str = ""
    """Of the library at the start, for workers that start later."""


def let_ctrl_c_end() -> None:
    """Leave SIGINT to the system. Python's own handler waits for the thread that reads stdin, which
    ends with the next line, and while modules are imported it can lose the signal."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def serve_stdio(options: Options) -> None:
    """Serve one client over stdin and stdout until it leaves."""
    let_ctrl_c_end()
    log.set_up()
    folders = [Path(each) for each in options.packs]
    library = Library.open(folders)
    project = Project(Path()) if options.versions else None
    server = PackServer(
        library,
        structured=options.structured,
        watched=options.watch,
        local=True,
        project=project,
    )

    async def run() -> None:
        async with _watch(options, server, library):
            await stdio.serve(server)

    anyio.run(run)


def serve_http(options: Options) -> None:
    """Serve many clients over HTTP until SIGTERM or SIGINT. BadArgumentError for what cannot be."""
    import uvicorn

    from packlore.serve.connections import FEWEST, SPARE, Protocol, most_open
    from packlore.serve.http import LOOPBACK
    from packlore.serve.workers import Workers

    if not 1 <= options.workers <= MAX_WORKERS:
        raise BadArgumentError(f"--workers is {options.workers}: give 1 to {MAX_WORKERS}")
    if options.sessions and options.workers > 1:
        raise BadArgumentError("--sessions needs one worker: a session lives in one process")
    if not 0 <= options.port <= 65535:
        raise BadArgumentError(f"--port is {options.port}: give 0 to 65535")
    if options.host not in LOOPBACK and not options.hosts:
        raise BadArgumentError(
            f"--host {options.host} is reached from outside: name the Host headers to serve with "
            "--allowed-host"
        )
    if odd := [each for each in options.hosts if "/" in each or "*" in each]:
        raise BadArgumentError(
            f"--allowed-host {odd[0]} is no Host header: give one such as mcp.example.com"
        )
    if TOKEN in os.environ and not os.environ[TOKEN].strip():
        raise BadArgumentError(f"{TOKEN} is empty: set a token, or unset it to serve everyone")
    if not _is_utf8(os.environ.get(TOKEN, "")):
        raise BadArgumentError(f"{TOKEN} is no UTF-8: set a token of letters and digits")
    if most_open() < FEWEST:
        raise BadArgumentError(
            f"this process may open {most_open() + SPARE} files, and a server needs "
            f"{FEWEST + SPARE}: allow it more, as with `ulimit -n 1024`"
        )
    log.set_up()
    library = Library.open(map(Path, options.packs))  # fails here, not in each worker
    os.environ[OPTIONS] = json.dumps({**asdict(options), "digest": library.digest})
    if TOKEN not in os.environ and options.host not in LOOPBACK:
        say(f"packlore: no {TOKEN} is set, so everyone who reaches it can read")
    config = uvicorn.Config(
        "packlore.serve.run:application",
        factory=True,
        host=options.host,
        port=options.port,
        workers=options.workers,
        http=Protocol,
        ws="none",
        loop="asyncio",
        backlog=min(BACKLOG, most_open()),
        log_config=None,  # uvicorn's own would wait for who reads stderr
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_TIMEOUT,
        log_level="warning",
    )
    listener = config.bind_socket()
    listener.listen(config.backlog)  # who comes before the server is there waits
    port = listener.getsockname()[1]
    serving = f"{options.workers} workers serve" if options.workers > 1 else "serving"
    host = f"[{options.host}]" if ":" in options.host else options.host
    say(f"packlore: {serving} http://{host}:{port}/mcp")
    if options.workers > 1:
        workers = Workers(config, sockets=[listener])
        workers.run()
        if workers.gave_up:
            raise SystemExit(STARTUP_FAILED)
        return
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    if not server.started:
        raise SystemExit(STARTUP_FAILED)


def _is_utf8(text: str) -> bool:
    """Whether a variable is text: what was no UTF-8 in it is half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def application(environ: Mapping[str, str] = os.environ) -> Any:
    """The ASGI application of one worker, by the options that `serve_http` left it."""
    from packlore.serve.http import guard
    from packlore.serve.workers import end_with_parent, is_worker

    end_with_parent()
    log.set_up()
    stored: dict[str, Any] = json.loads(environ[OPTIONS])
    lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
    options = Options(**{**stored, **lists})
    try:
        library = Library.open(map(Path, options.packs))
    except (PackError, OSError) as error:
        if not is_worker():
            raise
        say(f"packlore: a worker cannot start: {error}")
        raise SystemExit(STARTUP_FAILED) from None
    if library.digest != options.digest and not options.watch:
        say("packlore: the packs have changed since the start: restart the server")
    server = PackServer(library, structured=options.structured, watched=options.watch)
    return guard(
        server,
        lifespan=lambda: _watch(options, server, library),
        host=options.host,
        hosts=tuple(each.lower() for each in options.hosts),
        origins=options.origins,
        token=environ.get(TOKEN, "").strip(),  # a file of a secret ends in a line end
        sessions=options.sessions,
    )


def _watch(
    options: Options, server: PackServer, library: Library
) -> AbstractAsyncContextManager[object]:
    if not options.watch:
        return nullcontext()
    return watching([Path(each) for each in options.packs], library, server.replace)
