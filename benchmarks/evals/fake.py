"""An agent that knows no more than the rules: `python -m benchmarks.evals.fake correct` answers each
task with the Correct block, `incorrect` with the other. It tests the harness: 100 % and 0 %."""

from __future__ import annotations

import sys

from benchmarks.evals import cases


def main() -> None:
    """Read a task, and answer with a block of the rule that it belongs to."""
    task, which = sys.stdin.read(), sys.argv[1]
    for rule in cases.rules():
        case = cases.load(rule)
        if task.startswith(case.prompt):
            print(f"Here it is.\n\n```python\n{case.block(correct=which == 'correct').code}\n```")
            return
    sys.exit("this is no task of evals/")


if __name__ == "__main__":
    main()
