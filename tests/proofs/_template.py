"""CATEGORY-NAME: what Incorrect does with the same work, and what Correct does instead."""

from __future__ import annotations

import pytest

from tests.proofs.harness import Block, Witness


def test_incorrect_fails_as_the_rule_says(incorrect: Block, witness: Witness) -> None:
    module = incorrect.run()  # what its line `# given: ...` names goes in here
    pytest.fail(f"fill in: give {module} its work, assert what goes wrong, witness.saw(the error)")
    witness.observed(incorrect="what was counted, on what")


def test_correct_does_not(correct: Block, witness: Witness) -> None:
    module = correct.run()
    pytest.fail(f"fill in: give {module} the same work, and assert what happens instead")
    witness.observed(correct="the same, counted here")
