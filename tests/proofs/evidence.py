"""What the proofs observed: one JSON file for each environment, and references/evidence.md."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.proofs.harness import ROOT, RuleFile, Witness

ENVIRONMENTS = ("newest", "oldest")
FOLDER = Path(__file__).parent / "observed"
MARKDOWN = ROOT / "references" / "evidence.md"
LIBRARIES = (
    "fastapi",
    "starlette",
    "uvicorn",
    "pydantic",
    "pydantic-settings",
    "sqlalchemy",
    "asyncpg",
    "psycopg",
    "alembic",
    "aiohttp",
    "httpx",
    "redis",
    "prometheus-client",
)


def load(environment: str) -> dict[str, Any]:
    """The recorded observations of one environment; without a record, an empty one."""
    path = FOLDER / f"{environment}.json"
    if not path.exists():
        return {"versions": {}, "rules": {}}
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def record(environment: str, witnesses: dict[str, Witness], postgres: str) -> None:
    """Write what `witnesses` saw; rules that did not run keep what they had."""
    rules = load(environment)["rules"]
    for rule_id, witness in witnesses.items():
        rule = RuleFile.load(rule_id)
        unseen = witness.unseen(rule.symptoms)
        rules[rule_id] = {
            "incorrect": witness.incorrect,
            "correct": witness.correct,
            "symptoms": [symptom for symptom in rule.symptoms if symptom not in unseen],
        }
    versions = {"Python": platform.python_version(), "PostgreSQL": postgres}
    versions |= {name: version(name) for name in LIBRARIES}
    FOLDER.mkdir(exist_ok=True)
    data = {"versions": versions, "rules": dict(sorted(rules.items()))}
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    (FOLDER / f"{environment}.json").write_text(text, encoding="utf-8")


def render() -> str:
    """references/evidence.md as the records say it."""
    newest, oldest = load("newest"), load("oldest")
    lines = [
        "---",
        "title: Evidence",
        "category: all",
        "tags:",
        "  - evidence",
        "  - versions",
        "rules: all",
        "---",
        "# Evidence",
        "",
        "Derived by `make evidence` from what the proofs in `tests/proofs/` observed.",
        "Each proof runs the two blocks of its rule as they stand.",
        "",
        "| ran with | newest | oldest |",
        "| --- | --- | --- |",
    ]
    for name in newest["versions"]:
        lines.append(
            f"| {name} | {newest['versions'][name]} | {oldest['versions'].get(name, '')} |"
        )
    for rule_id in sorted(newest["rules"]):
        new, old = newest["rules"][rule_id], oldest["rules"].get(rule_id)
        lines += ["", f"## {rule_id}", "", "| block | newest | oldest |", "| --- | --- | --- |"]
        for side in ("incorrect", "correct"):
            before = "" if old is None else "the same" if old[side] == new[side] else old[side]
            lines.append(f"| {side.capitalize()} | {new[side]} | {before} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    MARKDOWN.parent.mkdir(exist_ok=True)
    MARKDOWN.write_bytes(render().encode())
    sys.stdout.write(f"wrote {MARKDOWN.relative_to(ROOT)}\n")
