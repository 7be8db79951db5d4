"""`python -m benchmarks.evals.others` writes `evals/evals.json`: the tasks in the form that
skill-creator reads, for those who run its evals."""

from __future__ import annotations

import json

from benchmarks.evals import cases

PATH = cases.FOLDER / "evals.json"


def text() -> str:
    """All tasks, each with what is expected of an answer."""
    evals = []
    for number, rule in enumerate(cases.rules(), 1):
        case = cases.load(rule)
        expected = {"expected_output": case.outcome, "files": [], "expectations": [case.outcome]}
        evals.append({"id": number, "prompt": case.prompt, **expected})
    return json.dumps({"skill_name": "python-backend", "evals": evals}, indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), "utf-8")
