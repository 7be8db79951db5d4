"""Have an agent do the tasks of `evals/`, with the pack and without, and let the proofs judge.

An agent is a command that takes a task on its standard input, or where `{task}` stands in it, and
writes `solution.py` into its working folder or answers with a fenced block. Without one, the tasks
are laid out in the results' folder, and whatever `solution.py` lies beside a task is judged. What
is there already is not done again.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.evals import cases
from benchmarks.evals.arms import Arm
from benchmarks.evals.report import table
from benchmarks.evals.runs import Run, planned
from packlore.library import Library
from packlore.locate import locate


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evals", description=__doc__)
    parser.add_argument("rules", nargs="*", metavar="RULE", help="only the tasks of these rules")
    parser.add_argument("--agent", metavar="COMMAND", default="", help="what answers a task")
    parser.add_argument(
        "--arms",
        metavar="ARM,…",
        default=",".join(Arm),
        help="; ".join(f"{arm}: {arm.about}" for arm in Arm),
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each task and arm (3)")
    parser.add_argument("--limit", type=float, default=600, help="seconds for an answer (600)")
    parser.add_argument("--jobs", type=int, default=1, help="agents at once (1)")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="where runs are kept")
    options = parser.parse_args(given)
    known = cases.rules()
    for rule in options.rules:
        if rule not in known:
            near = difflib.get_close_matches(rule, known, 1)
            parser.error(f"no task for {rule}" + (f"; did you mean {near[0]}?" if near else ""))
    try:
        options.arms = [Arm(each) for each in options.arms.split(",")]
    except ValueError as error:
        parser.error(f"{error}: the arms are {', '.join(Arm)}")
    if options.runs < 1 or options.jobs < 1 or options.limit <= 0:
        parser.error("--runs, --jobs and --limit take numbers above 0")
    if options.results is None:
        dev = os.environ.get("PACKLORE_DEV")
        if not dev:
            parser.error("--results FOLDER says where runs are kept; `make evals` has a place")
        options.results = Path(dev, "evals")
    return options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(given: Sequence[str] | None = None) -> int:
    """Answer, judge and print the table; 0 where all runs have a verdict, 1 where some wait."""
    options = _arguments(given)
    chosen = [cases.load(rule) for rule in options.rules or cases.rules()]
    library = Library.open(locate())
    runs = list(planned(chosen, options.arms, options.runs, options.results))
    for arm in Arm:  # a draft is there before its review
        _answer([run for run in runs if run.arm is arm], library, options)
    waiting = _judge(runs)
    print(table(runs), end="")
    if waiting:
        _say(f"{waiting} tasks in {options.results} wait for an answer beside their task.md")
    return 1 if waiting else 0


def _answer(runs: Sequence[Run], library: Library, options: argparse.Namespace) -> None:
    todo = [run for run in runs if not run.solution.exists() and run.lay(library)]
    if not options.agent:
        return

    def one(run: Run) -> tuple[Run, str]:
        return run, run.ask(options.agent, options.limit).problem or "answered"

    with ThreadPoolExecutor(options.jobs) as pool:
        for done, (run, how) in enumerate(pool.map(one, todo), 1):
            _say(f"{done}/{len(todo)} {run.case.rule} {run.arm} {run.number}: {how}")


def _judge(runs: Sequence[Run]) -> int:
    """Judge what has no verdict yet; how many have no answer."""
    waiting = [run for run in runs if not run.solution.exists()]
    todo = [run for run in runs if run.solution.exists() and run.verdict is None]
    for done, run in enumerate(todo, 1):
        verdict = run.grade()
        why = "".join(f"\n    {name}: {text}" for name, text in verdict.failed.items())
        _say(f"{done}/{len(todo)} {run.case.rule} {run.arm} {run.number}: {verdict.ended}{why}")
    return len(waiting)


if __name__ == "__main__":
    sys.exit(main())
