"""Says what differs between the recorded evidence and a run of the proofs on other releases:
python scripts/changes.py RECORDED SEEN OUTCOMES, two folders of evidence and the file that pytest's
`--outcomes` writes. Prints an issue in Markdown, its title first; nothing where nothing differs."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIDES = ("incorrect", "correct")


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """What each rule's proof observed, by the rule's id."""
    return {path.stem: json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))}


def versions(observations: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The versions that the proofs ran with; where rules differ, all of them."""
    seen: dict[str, set[str]] = {}
    for observation in observations.values():
        for name, told in observation["versions"].items():
            seen.setdefault(name, set()).update(told.split(" and "))
    return {name: " and ".join(sorted(told)) for name, told in seen.items()}


def moved(recorded: dict[str, dict[str, Any]], seen: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Rows of a table: what the rules that were seen run in another version now, both versions."""
    before = versions({rule: told for rule, told in recorded.items() if rule in seen})
    after = versions(seen)
    for name in sorted({*before, *after}, key=str.lower):
        old, new = before.get(name, "none"), after.get(name, "none")
        if old != new:
            yield f"| {name} | {old} | {new} |"


def failing(outcomes: dict[str, dict[str, str]]) -> Iterator[str]:
    """Bullets: the tests of each proof that failed."""
    for proof, ended in sorted(outcomes.items()):
        if failed := sorted(name for name, outcome in ended.items() if outcome == "failed"):
            yield f"- `{proof}`: {', '.join(f'`{name}`' for name in failed)}"


def otherwise(
    recorded: dict[str, dict[str, Any]], seen: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """Bullets: what a block did otherwise, and which message of a rule no longer came."""
    for rule, now in sorted(seen.items()):
        before = recorded.get(rule, now)
        for side in SIDES:
            if now[side] and now[side] != before[side]:  # a proof that failed may have said nothing
                yield f"- {rule}, {side.capitalize()}: “{now[side]}”; before: “{before[side]}”"
        gone = [each for each in before["symptoms"] if each not in now["symptoms"]]
        for symptom in gone:
            yield f"- {rule}, not seen any more: `{symptom}`"


def report(
    recorded: dict[str, dict[str, Any]],
    seen: dict[str, dict[str, Any]],
    outcomes: dict[str, dict[str, str]],
    today: str,
) -> str:
    """The issue, or an empty text."""
    if not outcomes:
        return f"Newest releases of {today}: the proofs did not run\n\nThe log says why.\n"
    failed, other = list(failing(outcomes)), list(otherwise(recorded, seen))
    table = list(moved(recorded, seen))
    if not failed and not other and not table:
        return ""
    proofs = "1 proof fails" if len(failed) == 1 else f"{len(failed)} proofs fail"
    lines = [f"Newest releases of {today}: {proofs if failed else 'all proofs hold'}", ""]
    for title, found in (("Failing tests", failed), ("Observed otherwise", other)):
        if found:
            lines += [f"## {title}", "", *found, ""]
    if table:
        lines += [
            "## Versions",
            "",
            "| what | recorded | today |",
            "| --- | --- | --- |",
            *table,
            "",
        ]
    lines += ["Where they hold, renew `constraints.txt` and run `make evidence build`."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    outcomes_file = Path(sys.argv[3])
    sys.stdout.write(
        report(
            load(Path(sys.argv[1])),
            load(Path(sys.argv[2])),
            json.loads(outcomes_file.read_bytes()) if outcomes_file.exists() else {},
            dt.datetime.now(dt.UTC).date().isoformat(),
        )
    )
