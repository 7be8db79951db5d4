"""Servers for every test that asks for one."""

import json
import os
import random
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from tests.proofs import evidence
from tests.services import Database, Nginx, PgBouncer, Postgres, Redis, Server, ServiceMissing

P = ParamSpec("P")
S = TypeVar("S", bound=Server)


MISSING = pytest.StashKey[set[Path]]()
"""The files with a test that was skipped since a server is missing."""


@contextmanager
def skip_where_missing(item: pytest.Item) -> Iterator[None]:
    """Skip a test whose server or client is not installed. CI installs all of them, so there it
    fails; so it does where other code is judged, which a skipped test would call right."""
    try:
        yield
    except ServiceMissing as missing:
        if os.environ.get("CI") == "true" or item.config.getoption("--correct"):
            raise
        item.config.stash.setdefault(MISSING, set()).add(item.path)
        pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    with skip_where_missing(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    with skip_where_missing(item):
        yield


# Servers that run already, by the name of their fixture: the session does not start or end them.
RUNNING = pytest.StashKey[dict[str, Any]]()


@contextmanager
def running(request: pytest.FixtureRequest, make: Callable[[], S]) -> Iterator[S]:
    """The server of a session's fixture: one that runs already, else one of the session's own."""
    found = request.config.stash.get(RUNNING, {}).get(request.fixturename or "")
    if found is not None:
        yield found
        return
    with make() as server:
        yield server


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """One PostgreSQL for the whole session."""
    with running(request, Postgres) as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    """A database of the test's own."""
    fresh = postgres.create_database()
    yield fresh
    postgres.start()  # the test may have stopped it
    fresh.drop()


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """One Redis for the whole session."""
    with running(request, Redis) as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[PgBouncer]:
    """One PgBouncer before 1.21, in transaction mode, in front of `postgres`."""
    with running(request, lambda: PgBouncer(postgres, release="old")) as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer_current(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[PgBouncer]:
    """One PgBouncer of 1.21 or later, in transaction mode, in front of `postgres`."""
    with running(request, lambda: PgBouncer(postgres, release="current")) as server:
        yield server


@pytest.fixture
def nginx() -> Callable[..., Nginx]:
    """What makes an nginx in front of a port."""
    return Nginx


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("proofs")
    group.addoption(
        "--exchange",
        action="store_true",
        help="give every proof Correct for Incorrect and the other way round: all must fail",
    )
    group.addoption(
        "--correct",
        metavar="FILE",
        help="code for the Correct block of the one rule, or Markdown for the one reference, tested",
    )
    group.addoption(
        "--environment",
        choices=evidence.ENVIRONMENTS,
        default="newest",
        help="which set of versions this is; decides which record of observations is meant",
    )
    group.addoption(
        "--mutant-seed",
        type=int,
        default=random.randrange(10**6),
        help="draw the mutants that this seed draws; the header of a run tells its own",
    )
    group.addoption("--outcomes", metavar="FILE", help="write how each test ended, as JSON")
    group.addoption(
        "--record",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        const=evidence.FOLDER,
        help="write down what the proofs observe, into a folder for each environment",
    )


def pytest_report_header(config: pytest.Config) -> str:
    return f"--mutant-seed {config.getoption('--mutant-seed')}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--exchange` only what is given a block is of interest; with `--correct`, that one."""
    blocks = (
        {"incorrect", "correct"} if config.getoption("--exchange") else {"correct", "reference"}
    )
    if config.getoption("--exchange") or config.getoption("--correct"):
        items[:] = [item for item in items if blocks & set(getattr(item, "fixturenames", ()))]
    if config.getoption("--correct") and len({item.path for item in items}) > 1:
        raise pytest.UsageError("--correct FILE is for one proof: name its file")


OUTCOMES = pytest.StashKey[dict[str, dict[str, str]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" or report.outcome != "passed":
        ended = item.config.stash.setdefault(OUTCOMES, {}).setdefault(item.path.name, {})
        ended[item.name] = report.outcome
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if path := session.config.getoption("--outcomes"):
        Path(path).write_text(json.dumps(session.config.stash.get(OUTCOMES, {})))
