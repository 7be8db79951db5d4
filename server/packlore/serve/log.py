"""Lines on stderr that hold nobody up: who reads them slowly, or not at all, loses lines."""

from __future__ import annotations

import atexit
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from packlore.pack import visible

MAX_WAITING = 1_000
"""Lines that wait for a reader of stderr; what comes beyond is counted and left out."""
FINAL = 1.0
"""Seconds that the last lines have at the end of the process."""
RARELY = 60.0
"""Seconds between two lines that say that no file can be opened any more."""

_lines: queue.Queue[str] = queue.Queue(MAX_WAITING)
_state = threading.Lock()
_writer: threading.Thread | None = None
_left_out = 0


def say(line: str) -> None:
    """Write one line to stderr, later and by another thread. What cannot be seen in it is shown as
    escapes."""
    global _writer, _left_out  # noqa: PLW0603 one stderr, one writer
    with _state:
        if _writer is None:
            _writer = threading.Thread(target=_write, daemon=True, name="log")
            _writer.start()
            atexit.register(finish)
        try:
            _lines.put_nowait(visible(line).replace("\n", "\\n"))
        except queue.Full:
            _left_out += 1


def _write() -> None:
    global _left_out
    while (line := _lines.get()) is not None:
        with _state:
            left, _left_out = _left_out, 0
        try:
            sys.stderr.write(f"{line}\n")
            if left:
                sys.stderr.write(f"packlore: {left} lines left out: stderr was not read\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # nobody is there any more
            pass
        finally:
            _lines.task_done()


def finish() -> None:
    """Give the last lines their time to be read."""
    until = time.monotonic() + FINAL
    while _lines.unfinished_tasks and time.monotonic() < until:
        time.sleep(0.01)


class Lines(logging.Handler):
    """What libraries log, by the same way. The SDK would take rich where it is installed, which
    opens files when it logs: not to be had where no file can be opened any more."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line a record, its traceback in it where it can be had."""
        try:
            line = self.format(record)
        except Exception as failed:  # noqa: BLE001 who logs must not fail by it
            # From Python 3.15 on a first traceback imports, which opens files.
            told = f"{record.msg} {record.args}" if record.args else record.msg
            line = f"packlore: {record.levelname} {told} ({failed})"
        say(line)


def set_up() -> None:
    """Before the SDK does."""
    logging.basicConfig(
        handlers=[Lines()], format="packlore: %(levelname)s %(message)s", force=True
    )
    logging.getLogger("asyncio").addFilter(Rarely())


@contextmanager
def without_rich() -> Iterator[None]:
    """The SDK imports rich for its log where it is installed; that would be a tenth of a start."""
    names = ("rich.console", "rich.logging")
    before = {name: sys.modules[name] for name in names if name in sys.modules}
    sys.modules |= dict.fromkeys(names)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules |= before


class Rarely(logging.Filter):
    """Lets a message through once in RARELY seconds. With all descriptors taken asyncio says so
    for each connection that it cannot accept: 50 MB in some seconds."""

    _last = -RARELY

    def filter(self, record: logging.LogRecord) -> bool:
        if "out of system resource" not in record.getMessage():
            return True
        now = time.monotonic()
        if now - self._last < RARELY:
            return False
        self._last = now
        return True
