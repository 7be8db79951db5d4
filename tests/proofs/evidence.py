"""What the proofs observed: a JSON file for each rule and side, and references/evidence.md."""

from __future__ import annotations

import json
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

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
SHOWN = {"redis": "redis-py"}  # beside the server of that name
SERVERS = ("PostgreSQL", "PgBouncer", "Redis", "nginx")
# What a text that names one library runs besides.
BRINGS = {"fastapi": ("starlette", "pydantic"), "serving": ("uvicorn",), "sqlalchemy": ("asyncpg",)}


class Observation(TypedDict):
    """What one proof saw on one side. `versions` is in the order of the table."""

    incorrect: str
    correct: str
    symptoms: list[str]
    versions: dict[str, str]


def load(environment: str) -> dict[str, Observation]:
    """The recorded observations of one side by the rule's id."""
    paths = sorted((FOLDER / environment).glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def symptoms(environment: str, rule_id: str) -> list[str]:
    """The symptoms that the proof of this rule saw on one side; none without a record."""
    path = FOLDER / environment / f"{rule_id}.json"
    return json.loads(path.read_text(encoding="utf-8"))["symptoms"] if path.exists() else []


def libraries(*texts: str) -> list[str]:
    """Those of LIBRARIES that the blocks and the proof in `texts` name, and what these bring."""
    text = "\n".join(texts)
    named = set()
    for word in {*LIBRARIES, *BRINGS}:
        if re.search(rf"\b{re.escape(word.replace('-', '_'))}", text):
            named |= {word, *BRINGS.get(word, ())}
    return [name for name in LIBRARIES if name in named]


def _texts(rule: RuleFile) -> list[str]:
    """The blocks of a rule, its proof, and the helpers beside the proof that it imports."""
    proof = Path(__file__).parent / f"test_{rule.id.replace('-', '_')}.py"
    source = proof.read_text(encoding="utf-8")
    helpers = set(re.findall(r"^from tests\.proofs\.(\w+) import", source, re.MULTILINE))
    blocks = [rule.block(correct=correct).code for correct in (False, True)]
    beside = [proof.parent / f"{name}.py" for name in sorted(helpers - {"harness"})]
    return [*blocks, source, *(path.read_text(encoding="utf-8") for path in beside)]


def record(folder: Path, witnesses: dict[str, Witness]) -> None:
    """Write what `witnesses` saw; rules that did not run keep what they had."""
    folder.mkdir(parents=True, exist_ok=True)
    for rule_id, witness in witnesses.items():
        rule = RuleFile.load(rule_id)
        unseen = witness.unseen(rule.symptoms)
        versions = {"Python": platform.python_version()}
        versions |= {name: version(name) for name in libraries(*_texts(rule))}
        for name in SERVERS:
            if seen := witness.servers.get(name):
                versions[name] = " and ".join(sorted(seen))
        observation = Observation(
            incorrect=witness.incorrect,
            correct=witness.correct,
            symptoms=[symptom for symptom in rule.symptoms if symptom not in unseen],
            versions=versions,
        )
        text = json.dumps(observation, indent=1, ensure_ascii=False) + "\n"
        (folder / f"{rule_id}.json").write_text(text, encoding="utf-8")


def versions_of(observations: dict[str, Observation]) -> dict[str, str]:
    """All versions that the rules of one side were seen with, each once."""
    seen: dict[str, set[str]] = {}
    for observation in observations.values():
        for name, told in observation["versions"].items():
            seen.setdefault(name, set()).update(told.split(" and "))
    order = ("Python", *LIBRARIES, *SERVERS)
    return {name: " and ".join(sorted(seen[name])) for name in order if name in seen}


def _with(observation: Observation) -> str:
    versions = observation["versions"].items()
    return ", ".join(f"{SHOWN.get(name, name)} {told}" for name, told in versions)


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
        "The rule's own table says which releases and servers its proof ran with.",
        "",
        "| ran with | newest | oldest |",
        "| --- | --- | --- |",
    ]
    new_versions, old_versions = versions_of(newest), versions_of(oldest)
    for name, told in new_versions.items():
        lines.append(f"| {SHOWN.get(name, name)} | {told} | {old_versions.get(name, '')} |")
    for rule_id in sorted(newest):
        new, old = newest[rule_id], oldest.get(rule_id)
        lines += ["", f"## {rule_id}", "", "| block | newest | oldest |", "| --- | --- | --- |"]
        rows = (
            ("Incorrect", new["incorrect"], "" if old is None else old["incorrect"]),
            ("Correct", new["correct"], "" if old is None else old["correct"]),
        )
        for label, now, before in rows:
            lines.append(f"| {label} | {now} | {'the same' if before == now else before} |")
        lines.append(f"| with | {_with(new)} | {'' if old is None else _with(old)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    MARKDOWN.parent.mkdir(exist_ok=True)
    MARKDOWN.write_bytes(render().encode())
    sys.stdout.write(f"wrote {MARKDOWN.relative_to(ROOT)}\n")
