"""A large repository, checked by `packlore check` and by `ast-grep scan` with the same rules."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
PART = 4
"""Of so many files, one is in the smaller part."""
CHECK = (sys.executable, "-m", "packlore", "check", ".", "--json", "--min-level", "hint")
SAMPLED = 0.1
"""Seconds between two looks at the memory."""


def large(code: Path) -> None:
    """Print how long both take for a folder of code, in turns, and the memory of ours."""
    files = [each for each in code.rglob("*.py") if each.is_file()]
    lines = sum(each.read_bytes().count(b"\n") for each in files)
    print(f"\n{code.name}: {len(files):,} files, {lines:,} lines, median of {ROUNDS}, in turns")
    grep = shutil.which(
        "ast-grep", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if grep is None:
        print("  there is no ast-grep to compare with")
        return
    scan = (grep, "scan", "--config", str(ROOT / "sgconfig.yml"), "--json=stream", ".")
    spent: tuple[list[float], list[float]] = ([], [])
    memory = 0.0
    for _ in range(ROUNDS):
        spent[0].append(run(scan, code)[0])
        seconds, used = run(CHECK, code)
        spent[1].append(seconds)
        memory = max(memory, used)
    theirs, ours = (statistics.median(each) for each in spent)
    print(f"  ast-grep scan                    {theirs * 1000:7.0f} ms")
    print(f"  packlore check                   {ours * 1000:7.0f} ms   {ours / theirs:.2f} times")
    with tempfile.TemporaryDirectory() as folder:
        for each in files[::PART]:
            place = Path(folder, each.relative_to(code))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(each, place)
        part = run(CHECK, Path(folder))[1]
    print(f"  peak memory of all its processes, a quarter of the files {part / 1e6:5.0f} MB")
    print(f"  peak memory of all its processes, all of the files       {memory / 1e6:5.0f} MB")


def run(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds that a command takes, and the most bytes that it and its processes held at once, as
    `ps` counts them: what they share counts for each. What it finds is no failure of it."""
    environment = os.environ | {"PACKLORE_PACK": str(ROOT)}
    begin = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        most = 0.0
        try:
            while process.poll() is None:
                most = max(most, _held(process.pid))
                time.sleep(SAMPLED)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
        spent = time.perf_counter() - begin
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return spent, most


def _held(group: int) -> float:
    """Bytes that the processes of a group hold."""
    rows = subprocess.check_output(["ps", "-A", "-o", "pgid=,rss="], text=True).splitlines()
    return sum(float(row.split()[1]) for row in rows if row.split()[0] == str(group)) * 1024
