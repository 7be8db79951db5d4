"""Validators of other people find nothing: in the repository, and in what users install of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.tools import run


@pytest.fixture(params=["clone", "released"])
def folder(request: pytest.FixtureRequest) -> Path:
    value: Path = request.getfixturevalue(request.param)
    return value


def test_skills_ref_finds_the_skill_valid(validators: Path, folder: Path) -> None:
    assert "Valid skill" in run([validators / "agentskills", "validate", folder]).stdout


def test_agnix_finds_nothing(validators: Path, folder: Path) -> None:
    out = run([validators / "agnix", "--strict", "."], cwd=folder, check=False).stdout
    assert "0 errors, 0 warnings" in out or "No issues found" in out, out


def test_skillsaw_finds_nothing(validators: Path, folder: Path) -> None:
    out = run([validators / "skillsaw", "lint", folder], check=False).stdout
    assert "Errors:   0" in out, out
    assert "Warnings: 0" in out, out
