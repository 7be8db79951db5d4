"""The monthly issue says what changed, and there is none where nothing did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.proofs.harness import ROOT

SEEN = {
    "incorrect": "3 of 4 failed",
    "correct": "4 of 4 answered",
    "symptoms": ["RuntimeError: gone …"],
    "versions": {"Python": "3.14.8", "PostgreSQL": "18.6", "PgBouncer": "1.18.0 and 1.24.1"},
}
PASSED = {"test_pooling_leaks.py": {"test_incorrect": "passed", "test_correct": "passed"}}


def changed(**changes: Any) -> dict[str, Any]:
    return {**SEEN, **changes}


def told(
    tmp_path: Path, seen: dict[str, Any], outcomes: dict[str, dict[str, str]] | None
) -> tuple[str, str]:
    """The title and the rest of what the script prints for one rule; two empty texts for none."""
    for name, observation in (("recorded", SEEN), ("seen", seen)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "pooling-leaks.json").write_text(json.dumps(observation))
    if outcomes is not None:
        (tmp_path / "outcomes").write_text(json.dumps(outcomes))
    places = [tmp_path / name for name in ("recorded", "seen", "outcomes")]
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / "changes.py", *places]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    title, _, body = done.stdout.partition("\n")
    return title, body


def test_there_is_no_issue_where_nothing_changed(tmp_path: Path) -> None:
    assert told(tmp_path, SEEN, PASSED) == ("", "")


def test_a_newer_release_is_named_with_the_recorded_one(tmp_path: Path) -> None:
    newer = {"Python": "3.15.0", "PostgreSQL": "18.6", "PgBouncer": "1.18.0 and 1.26.1"}
    title, body = told(tmp_path, changed(versions=newer), PASSED)
    assert title.endswith(": all proofs hold")
    assert "| Python | 3.14.8 | 3.15.0 |\n" in body
    assert "| PgBouncer | 1.18.0 and 1.24.1 | 1.18.0 and 1.26.1 |\n" in body
    assert "PostgreSQL" not in body


def test_what_came_and_what_went_is_named_too(tmp_path: Path) -> None:
    _, body = told(tmp_path, changed(versions={"Python": "3.14.8", "Redis": "8.0.2"}), PASSED)
    assert "| PostgreSQL | 18.6 | none |\n" in body
    assert "| Redis | none | 8.0.2 |\n" in body


def test_a_rule_that_did_not_run_says_nothing_of_its_releases(tmp_path: Path) -> None:
    (tmp_path / "recorded").mkdir()
    other = changed(versions={"Redis": "8.0.2"})
    (tmp_path / "recorded" / "pooling-redis.json").write_text(json.dumps(other))
    assert told(tmp_path, SEEN, PASSED) == ("", "")


def test_failing_tests_are_named_by_their_proof(tmp_path: Path) -> None:
    outcomes = {
        "test_pooling_leaks.py": {"test_incorrect": "failed", "test_correct": "passed"},
        "test_pooling_http.py": {"test_correct": "skipped"},
    }
    silent = changed(incorrect="", symptoms=[])
    title, body = told(tmp_path, silent, outcomes)
    assert title.endswith(": 1 proof fails")
    assert "- `test_pooling_leaks.py`: `test_incorrect`\n" in body
    assert "test_pooling_http" not in body
    assert "Incorrect:" not in body
    assert "- pooling-leaks, not seen any more: `RuntimeError: gone …`\n" in body


def test_what_a_block_did_otherwise_stands_beside_what_was_recorded(tmp_path: Path) -> None:
    title, body = told(tmp_path, changed(incorrect="4 of 4 failed"), PASSED)
    assert title.endswith(": all proofs hold")
    assert "- pooling-leaks, Incorrect: “4 of 4 failed”; before: “3 of 4 failed”\n" in body


def test_proofs_that_did_not_run_are_an_issue(tmp_path: Path) -> None:
    title, _ = told(tmp_path, SEEN, None)
    assert title.endswith(": the proofs did not run")
