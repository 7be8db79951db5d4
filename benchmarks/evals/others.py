"""What is derived for those who run evals of other kinds.

`python -m benchmarks.evals.others` writes `evals/evals.json` and `evals/trigger.json` in the forms
that skill-creator reads. With a folder it also writes there a case for `claude plugin eval` of each
prompt that should load the skill or should not: `claude plugin eval --eval-dir FOLDER`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.evals import cases, triggers


def tasks() -> str:
    """All tasks, each with what is expected of an answer."""
    evals = []
    for number, rule in enumerate(cases.rules(), 1):
        case = cases.load(rule)
        expected = {"expected_output": case.outcome, "files": [], "expectations": [case.outcome]}
        evals.append({"id": number, "prompt": case.prompt, **expected})
    named = {"skill_name": "python-backend", "evals": evals}
    return json.dumps(named, indent=1, ensure_ascii=False) + "\n"


WRITTEN = {"evals.json": tasks, "trigger.json": triggers.as_json}


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="for the cases of triggering")
    folder = parser.parse_args().folder
    for name, text in WRITTEN.items():
        (cases.FOLDER / name).write_text(text(), "utf-8")
    if folder:
        triggers.write_cases(folder)


if __name__ == "__main__":
    main()
