"""`python -m tests.fuzz --seconds 60`: try all targets, and print what was found.

Exit code 0 where nothing was, 1 where an input did harm; it is kept in the folder.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import Outcome, run
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run, print, and answer with the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--seed", type=int, help="repeats a run, as far as its time reaches")
    parser.add_argument(
        "--only", action="append", choices=TARGETS, help="a target; may be repeated"
    )
    parser.add_argument("--folder", type=Path, help="where failing inputs are kept")
    given = parser.parse_args()
    chosen = random.randrange(2**32) if given.seed is None else given.seed
    folder = given.folder or Path(tempfile.gettempdir(), "packlore-fuzz")
    _say(f"seed {chosen}, {given.seconds:.0f} s; failing inputs are kept in {folder}")
    targets = {name: TARGETS[name] for name in given.only or TARGETS}
    outcome = run(targets, seconds=given.seconds, chosen=chosen, folder=folder)
    _tell(outcome)
    return 1 if outcome.findings else 0


def _tell(outcome: Outcome) -> None:
    for name, tried in outcome.tried.items():
        slowest = outcome.slowest[name] * 1000
        _say(f"{name:12} {tried:8} inputs, the slowest {slowest:.0f} ms of this process")
    for each in outcome.findings:
        value = each.value if len(each.value) < 500 else f"{each.value[:500]}…"
        _say(f"\n{each.target}: {each.place}\n{value}\n{each.trace}")
    _say(f"{sum(outcome.tried.values())} inputs, {len(outcome.findings)} findings")


def _say(text: str) -> None:
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
