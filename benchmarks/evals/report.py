"""From the verdicts to a table: how many answers had the fault, by rule and arm."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.evals.arms import Arm
from benchmarks.evals.runs import Run


@dataclass(frozen=True, slots=True)
class Count:
    """Of some runs: answers with the fault, those judged, those that could not be, and runs that
    gave none."""

    faults: int
    judged: int
    unusable: int
    without_answer: int

    def __str__(self) -> str:
        beside = [f"{self.unusable} unusable"] * bool(self.unusable)
        beside += [f"{self.without_answer} without answer"] * bool(self.without_answer)
        return f"{self.faults}/{self.judged}" + (f" ({', '.join(beside)})" if beside else "")


def count(runs: Sequence[Run]) -> Count:
    """Count runs that were made; those that still wait for an agent are left out."""
    verdicts = [run.verdict for run in runs]
    ended = [verdict.ended for verdict in verdicts if verdict]
    return Count(
        ended.count("fault"),
        ended.count("fault") + ended.count("right"),
        ended.count("unusable"),
        sum(bool(run.told and run.told.problem) for run in runs),
    )


def table(runs: Sequence[Run]) -> str:
    """The report as Markdown: faults of judged answers, by rule and arm, the sum, and the cost."""
    chosen = [arm for arm in Arm if any(run.arm is arm for run in runs)]
    rows = [["rule", *chosen, ""], ["---"] * (len(chosen) + 2)]
    for rule in sorted({run.case.rule for run in runs}):
        of = {
            arm: [run for run in runs if (run.case.rule, run.arm) == (rule, arm)] for arm in chosen
        }
        counts = {arm: count(of[arm]) for arm in chosen}
        rows.append([rule, *(str(counts[arm]) for arm in chosen), _said(counts)])
    by_arm = {arm: [run for run in runs if run.arm is arm] for arm in chosen}
    rows.append(["all", *(str(count(by_arm[arm])) for arm in chosen), ""])
    rows.append(["seconds (median)", *(_median(by_arm[arm], "seconds") for arm in chosen), ""])
    rows.append(["tokens (median)", *(_median(by_arm[arm], "tokens") for arm in chosen), ""])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _said(counts: dict[Arm, Count]) -> str:
    """Which arms did better or worse than the task alone."""
    base = counts.get(Arm.WITHOUT)
    if not base or not base.judged:
        return ""
    said = []
    for arm, mine in counts.items():
        if arm is Arm.WITHOUT or not mine.judged:
            continue
        difference = mine.faults * base.judged - base.faults * mine.judged
        if difference:
            said.append(f"{arm} {'worse' if difference > 0 else 'better'}")
    return ", ".join(said)


def _median(runs: Sequence[Run], name: str) -> str:
    """Of the runs that an agent answered and told of."""
    told = [run.told for run in runs]
    known = [getattr(each, name) for each in told if each and not each.problem and each.seconds]
    known = [value for value in known if value is not None]
    return f"{statistics.median(known):.0f}" if known else "not told"
