"""Validators of other people find nothing."""

from __future__ import annotations

from pathlib import Path

from tests.clients.tools import run


def test_skills_ref_finds_the_skill_valid(validators: Path, clone: Path) -> None:
    assert "Valid skill" in run([validators / "agentskills", "validate", clone]).stdout


def test_agnix_finds_nothing(validators: Path, clone: Path) -> None:
    out = run([validators / "agnix", "--strict", "."], cwd=clone, check=False).stdout
    assert "0 errors, 0 warnings" in out or "No issues found" in out, out


def test_skillsaw_finds_no_error(validators: Path, clone: Path) -> None:
    out = run([validators / "skillsaw", "lint", clone], check=False).stdout
    assert "Errors:   0" in out, out
    assert "Warnings: 0" in out, out
