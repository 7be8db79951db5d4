"""What every proof is given: the two blocks of its rule, and a witness."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import MISSING
from tests.proofs import evidence
from tests.proofs.harness import Block, RuleFile, Witness
from tests.services import Server

SHARED = {"postgres", "pgbouncer", "pgbouncer_current", "redis_server"}
WITNESSES = pytest.StashKey[dict[str, Witness]]()


def _rule(module: str) -> RuleFile:
    return RuleFile.load(Path(module).stem.removeprefix("test_").replace("_", "-"))


@pytest.fixture
def incorrect(request: pytest.FixtureRequest) -> Block:
    """The rule's Incorrect block; with `--exchange` its Correct one."""
    exchanged = bool(request.config.getoption("--exchange"))
    return _rule(request.node.path.name).block(correct=exchanged)


@pytest.fixture
def correct(request: pytest.FixtureRequest) -> Block:
    """The rule's Correct block; with `--exchange` its Incorrect one, with `--correct` a file's."""
    exchanged = bool(request.config.getoption("--exchange"))
    block = _rule(request.node.path.name).block(correct=not exchanged)
    if file := request.config.getoption("--correct"):
        return replace(block, code=Path(file).read_text("utf-8"))
    return block


@pytest.fixture(scope="module", autouse=True)
def _module_witness(request: pytest.FixtureRequest) -> Iterator[Witness]:
    config = request.config
    witness = Witness()
    before = len(Server.started)
    yield witness
    for server in Server.started[before:]:
        witness.ran_on(server)
    whole = not config.getoption("-k") and not any("::" in str(arg) for arg in config.args)
    if not whole or config.getoption("--exchange") or config.getoption("--correct"):
        return
    if request.node.path in config.stash.get(MISSING, ()):
        return  # who cannot run all of a proof does not see all of it
    assert request.node.path
    rule = _rule(request.node.path.name)
    config.stash.setdefault(WITNESSES, {})[rule.id] = witness
    if config.getoption("--record"):
        return  # what only the other environment prints may not be on record yet
    here = config.getoption("--environment")
    elsewhere = {
        symptom
        for environment in evidence.ENVIRONMENTS
        if environment != here
        for symptom in evidence.symptoms(environment, rule.id)
    }
    unseen = [symptom for symptom in witness.unseen(rule.symptoms) if symptom not in elsewhere]
    assert not unseen, f"{rule.path} lists symptoms that its proof never saw: {unseen}"
    assert witness.incorrect, f"the proof of {rule.id} does not say what Incorrect did"
    assert witness.correct, f"the proof of {rule.id} does not say what Correct did"


@pytest.fixture
def witness(
    request: pytest.FixtureRequest, _module_witness: Witness, caplog: pytest.LogCaptureFixture
) -> Iterator[Witness]:
    """Remembers what the proof saw. Log lines of tests that run Incorrect count by themselves."""
    yield _module_witness
    if "incorrect" in request.fixturenames:
        formatter = logging.Formatter("%(levelname)s %(name)s: %(message)s")
        _module_witness.saw(*map(formatter.format, caplog.get_records("call")))


@pytest.fixture(autouse=True)
def _shared_servers(request: pytest.FixtureRequest, _module_witness: Witness) -> None:
    """Remembers those of the session's servers that this test is given."""
    for name in SHARED & set(request.fixturenames):
        _module_witness.ran_on(request.getfixturevalue(name))


@pytest.fixture(scope="session", autouse=True)
def _record(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    config = request.config
    if folder := config.getoption("--record"):
        folder /= config.getoption("--environment")
        evidence.record(folder, config.stash.get(WITNESSES, {}))
