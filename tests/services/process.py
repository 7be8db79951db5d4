"""What every server program needs: a port, a folder, a log, and an end."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

HOST = "127.0.0.1"

# Reads the process groups to guard, one a line, until its input ends: because the folder is closed,
# or because the test process is gone, however it went. Then it ends the last one and removes $1.
# QUIT comes first since PostgreSQL answers it by ending its backends, which are not in its group.
_GUARD = """
while read -r line; do group=$line; done
if [ -n "$group" ]; then
    kill -s QUIT -- "-$group"; sleep 0.3; kill -s KILL -- "-$group"
fi
rm -rf -- "$1"
"""


class ServiceMissing(RuntimeError):
    """The program is not installed; the message names what to install."""


class ServiceFailed(RuntimeError):
    """The program did not start, or not in time; the message ends with the tail of its log."""


def free_port() -> int:
    """Give a loopback port that nothing listens on.

    It lies below the range from which Linux and macOS pick ports for outgoing connections. There,
    a client that tries again while its server is down can be given the server's own port.
    """
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError("no free port between 20000 and 32000")


def unprivileged_user() -> pwd.struct_passwd | None:
    """Whom to run a server as that refuses root; None where the tests do not run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServiceMissing("as root, this needs a user called postgres or nobody to run as")


class GuardedFolder:
    """A temporary folder and one process group: both go when the test process goes."""

    def __init__(self, owner: pwd.struct_passwd | None = None) -> None:
        # root's TMPDIR may be closed to the owner; /tmp is open to everyone.
        self.path = Path(tempfile.mkdtemp(prefix="packlore-", dir="/tmp" if owner else None))
        if owner is not None:
            os.chown(self.path, owner.pw_uid, owner.pw_gid)
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def watch(self, group: int | None) -> None:
        """End this process group with the test process; None once it has ended by itself."""
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{group or ''}\n")
        self._guard.stdin.flush()

    def close(self) -> None:
        """End the group, if one is still watched, and remove the folder."""
        self._guard.communicate()


def spawn(
    argv: Sequence[str | Path],
    folder: GuardedFolder,
    *,
    env: Mapping[str, str] | None = None,
    user: pwd.struct_passwd | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, out of Ctrl-C's reach; it writes to folder/log."""
    with (folder.path / "log").open("ab") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            start_new_session=True,
        )
    folder.watch(process.pid)
    return process


class _Inherited:
    """A process that a parent of this one started, and waits for: the part of Popen that we use."""

    def __init__(self, process: subprocess.Popen[bytes] | _Inherited) -> None:
        self.pid: int = process.pid
        self._process = process  # which would warn, once forgotten, that nobody waited for it

    def poll(self) -> int | None:
        """Give None while it runs. What it ended with is the parent's to know."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def send_signal(self, how: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, how)

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return 0


class Server(ABC):
    """A server program on 127.0.0.1. As a context manager it starts, and in the end is removed.

    `start` and `stop` may alternate: the port and the data stay the same until `close`.
    """

    host = HOST
    name: str
    version: str  # as the program tells it
    started: ClassVar[list[Server]] = []  # all of this process, in their order
    start_timeout = 90.0  # seconds: initdb takes over 30 on a machine that does twenty things
    stop_timeout = 20.0  # seconds, then it is forced
    stop_signal = signal.SIGTERM

    def __init__(self, user: pwd.struct_passwd | None = None) -> None:
        self.port = free_port()
        self._user = user
        self._folder: GuardedFolder | None = None
        self._process: subprocess.Popen[bytes] | _Inherited | None = None

    def inherited(self) -> None:
        """Use it in a child made by `os.fork()`, whose parent ends it and looks at `running`."""
        if self._process is not None:
            self._process = _Inherited(self._process)

    @abstractmethod
    def _argv(self) -> Sequence[str | Path]:
        """Give the command that runs the server in the foreground, at `self.port`."""

    @abstractmethod
    def _answers(self, pid: int) -> bool:
        """Tell whether a client is served; OSError where nobody listens."""

    def _prepare(self, folder: GuardedFolder) -> None:  # noqa: B027  (most need nothing)
        """Lay out a new folder before the first start."""

    def _opened(self) -> GuardedFolder:
        if self._folder is None:
            self._folder = GuardedFolder(self._user)
        return self._folder

    @property
    def folder(self) -> Path:
        """The folder for data and log, made when it is first asked for."""
        return self._opened().path

    @property
    def log(self) -> str:
        """What the server wrote to stdout and stderr since its first start."""
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and return when clients are served; nothing where it runs already."""
        if self.running:
            return
        first = self._process is None
        if first:
            Server.started.append(self)
            self._prepare(self._opened())
        for _ in range(5):
            already = len(self.log)
            if self._launch():
                return
            # Once others know the port, it must not change.
            if not first or "ddress already in use" not in self.log[already:]:
                break
            self.port = free_port()
        raise ServiceFailed(f"{self.name} did not start:\n{self.log[-2000:]}")

    def _launch(self) -> bool:
        """Start the program once; False where it ended, or did not answer in time."""
        self._process = spawn(self._argv(), self._opened(), user=self._user, cwd=self.folder)
        deadline = time.monotonic() + self.start_timeout
        while self.running and time.monotonic() < deadline:
            with suppress(OSError):
                if self._answers(self._process.pid):
                    return True
            time.sleep(0.01)
        self._end(signal.SIGQUIT)
        return False

    def stop(self) -> None:
        """Stop; nothing where it is stopped already."""
        self._end(self.stop_signal)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None or self._folder is None:
            return
        for force in (how, signal.SIGQUIT, signal.SIGKILL):
            self._process.send_signal(force)  # does nothing where the process has ended
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self.stop_timeout)
                break
        self._folder.watch(None)

    def close(self) -> None:
        """Stop, and remove the folder. What a child has started in its place ends with the folder."""
        if self.running:
            self.stop()
        if self._folder is not None:
            self._folder.close()
        self._folder = self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def find_program(name: str, *folders: str) -> Path | None:
    """Find a program on PATH, then in these folders."""
    for path in (os.environ.get("PATH"), os.pathsep.join(folders)):
        if found := shutil.which(name, path=path):
            return Path(found)
    return None


def unpacked(name: str) -> list[Path]:
    """Find the folders into which `make servers` laid this program, each from a Debian release.

    First come those of this environment alone, then those of all.
    """
    own = Path(sys.prefix)
    servers = Path(os.environ.get("PACKLORE_DEV") or own.parent, "servers")
    return [
        each for place in (servers / own.name, servers) for each in sorted(place.glob(f"{name}-*"))
    ]


def command(place: Path, name: str) -> list[str | Path]:
    """Give the command that starts a program, which lies in a folder of `unpacked` or is `place`."""
    if place.is_dir():
        return [place / "loader", "--library-path", place, place / name]
    return [place]


def version_of(program: Sequence[str | Path], option: str = "--version") -> str:
    """Ask a server program for its version; ServiceMissing where it does not run here."""
    try:
        told = subprocess.run([*program, option], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as broken:
        raise ServiceMissing(f"{program[-1]} does not run: {broken}") from None
    found = re.search(r"\d+(\.\d+|(beta|rc)\d+)+", told.stdout or told.stderr)
    assert found, told
    return found[0]
