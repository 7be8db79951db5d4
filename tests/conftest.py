"""Servers for every test that asks for one."""

import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.proofs import evidence
from tests.services import Database, PgBouncer, Postgres, Redis, ServiceMissing


@contextmanager
def skip_where_missing() -> Iterator[None]:
    """Skip a test whose server is not installed. CI installs all of them, so there it fails."""
    try:
        yield
    except ServiceMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for the whole session."""
    with Postgres() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    """A database of the test's own."""
    fresh = postgres.create_database()
    yield fresh
    postgres.start()  # the test may have stopped it
    fresh.drop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """One Redis for the whole session."""
    with skip_where_missing():
        server = Redis()
    with server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgres: Postgres) -> Iterator[PgBouncer]:
    """One PgBouncer before 1.21, in transaction mode, in front of `postgres`."""
    with skip_where_missing():
        server = PgBouncer(postgres, release="old")
    with server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer_current(postgres: Postgres) -> Iterator[PgBouncer]:
    """One PgBouncer of 1.21 or later, in transaction mode, in front of `postgres`."""
    with skip_where_missing():
        server = PgBouncer(postgres, release="current")
    with server:
        yield server


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("proofs")
    group.addoption(
        "--exchange",
        action="store_true",
        help="give every proof Correct for Incorrect and the other way round: all must fail",
    )
    group.addoption(
        "--environment",
        choices=evidence.ENVIRONMENTS,
        default="newest",
        help="which set of versions this is; decides which record of observations is meant",
    )
    group.addoption("--outcomes", metavar="FILE", help="write how each test ended, as JSON")
    group.addoption("--record", action="store_true", help="write down what the proofs observe")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--exchange` only what is given a block is of interest."""
    if config.getoption("--exchange"):
        blocks = {"incorrect", "correct"}
        items[:] = [item for item in items if blocks & set(getattr(item, "fixturenames", ()))]


OUTCOMES = pytest.StashKey[dict[str, dict[str, str]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" or report.outcome == "failed":
        ended = item.config.stash.setdefault(OUTCOMES, {}).setdefault(item.path.name, {})
        ended[item.name] = report.outcome
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if path := session.config.getoption("--outcomes"):
        Path(path).write_text(json.dumps(session.config.stash.get(OUTCOMES, {})))
