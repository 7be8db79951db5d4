"""The evidence of each rule says with which releases and servers its proof ran."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.proofs import evidence
from tests.proofs.harness import Witness

RULE = "pooling-redis"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(evidence, "FOLDER", tmp_path)
    return tmp_path


def witness(incorrect: str = "30 of 40 refused") -> Witness:
    return Witness(
        incorrect=incorrect,
        correct="40 of 40 answered",
        servers={"Redis": {"8.0.2"}, "PgBouncer": {"1.24.1", "1.18.0"}},
    )


def test_a_rule_has_a_file_of_its_own_on_each_side(folder: Path) -> None:
    (folder / "newest").mkdir()
    (folder / "newest" / "another-rule.json").write_text("{}")
    evidence.record(folder / "newest", {RULE: witness()})
    assert {path.name for path in (folder / "newest").iterdir()} == {
        "another-rule.json",
        f"{RULE}.json",
    }
    assert (folder / "newest" / "another-rule.json").read_text() == "{}"


def test_it_names_python_the_libraries_of_the_proof_and_its_servers(folder: Path) -> None:
    evidence.record(folder / "newest", {RULE: witness()})
    seen = evidence.load("newest")[RULE]["versions"]
    assert seen["Python"] == platform.python_version()
    assert seen["redis"] == version("redis")
    assert seen["Redis"] == "8.0.2"
    assert seen["PgBouncer"] == "1.18.0 and 1.24.1"
    assert "alembic" not in seen
    assert "PostgreSQL" not in seen


def test_a_library_is_named_with_what_it_brings() -> None:
    assert evidence.libraries("from fastapi import FastAPI") == ["fastapi", "starlette", "pydantic"]
    assert evidence.libraries("from prometheus_client import Gauge") == ["prometheus-client"]
    assert evidence.libraries("async with serving(app):") == ["uvicorn"]
    assert evidence.libraries("import asyncio") == []


def test_the_page_shows_both_sides_of_a_rule(folder: Path) -> None:
    evidence.record(folder / "newest", {RULE: witness()})
    evidence.record(folder / "oldest", {RULE: witness("29 of 40 refused")})
    page = evidence.render()
    assert "| Incorrect | 30 of 40 refused | 29 of 40 refused |\n" in page
    assert "| Correct | 40 of 40 answered | the same |\n" in page
    (row,) = [line for line in page.splitlines() if line.startswith("| with |")]
    assert row.count("PgBouncer 1.18.0 and 1.24.1, Redis 8.0.2 |") == 2
    assert f"redis-py {version('redis')}" in row


def test_versions_of_all_rules_stand_at_the_top(folder: Path) -> None:
    evidence.record(folder / "newest", {RULE: witness()})
    other = Witness(incorrect="one", correct="two")
    other.servers = {"PgBouncer": {"1.26.1"}}
    evidence.record(folder / "newest", {"pooling-pgbouncer": other})
    assert "| PgBouncer | 1.18.0 and 1.24.1 and 1.26.1 |  |\n" in evidence.render()
