"""An address of any form connects by asyncpg where the driver is set; else one form of four."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import make_url, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.proofs.harness import Block, Witness
from tests.services import Database

FORMS = ["postgres://", "postgresql://", "postgresql+asyncpg://", "postgresql+asyncpg://?sslmode"]
FROM_2_1 = tuple(map(int, sqlalchemy.__version__.split(".")[:2])) >= (2, 1)


class _Absent(MetaPathFinder):
    """Packages that are not installed."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def only_asyncpg(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that has asyncpg and neither psycopg2 nor psycopg."""
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("psycopg", "psycopg2"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Absent("psycopg", "psycopg2"), *sys.meta_path])


def _address(database: Database, form: str) -> str:
    scheme, _, option = form.partition("?")
    return database.dsn.replace("postgresql://", scheme) + (option and "?sslmode=disable")


async def _driver(engine: AsyncEngine) -> str:
    """The driver that answers."""
    try:
        async with asyncio.timeout(10), engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
            raw = await connection.get_raw_connection()
            return type(raw.driver_connection).__module__.partition(".")[0]
    finally:
        await engine.dispose()


async def _outcomes(
    make: Callable[[str], AsyncEngine], database: Database
) -> dict[str, str | Exception]:
    outcomes: dict[str, str | Exception] = {}
    for form in FORMS:
        try:
            outcomes[form] = await _driver(make(_address(database, form)))
        except Exception as error:
            outcomes[form] = error
    return outcomes


@pytest.mark.usefixtures("only_asyncpg")
async def test_incorrect_connects_with_one_form_of_four(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    outcomes = await _outcomes(incorrect.run().make_engine, database)
    connected = {form: driver for form, driver in outcomes.items() if driver == "asyncpg"}
    assert connected == {"postgresql+asyncpg://": "asyncpg"}
    witness.saw(*outcomes.values())
    assert ("'psycopg'" if FROM_2_1 else "'psycopg2'") in str(outcomes["postgresql://"])
    witness.observed(incorrect="1 of 4 forms of the address connects")


@pytest.mark.usefixtures("only_asyncpg")
async def test_correct_connects_with_all_four(
    correct: Block, database: Database, witness: Witness
) -> None:
    outcomes = await _outcomes(correct.run().make_engine, database)
    assert outcomes == dict.fromkeys(FORMS, "asyncpg")
    witness.observed(correct="4 of 4 forms of the address connect, by asyncpg")


async def test_correct_keeps_what_sslmode_demands(correct: Block, database: Database) -> None:
    address = database.dsn + "?sslmode=require&prepared_statement_cache_size=0"
    engine = correct.run().make_engine(address)
    with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
        await _driver(engine)
    assert dict(engine.url.query) == {"ssl": "require", "prepared_statement_cache_size": "0"}


async def test_psycopg_knows_sslmode(database: Database) -> None:
    url = make_url(_address(database, FORMS[-1])).set(drivername="postgresql+psycopg")
    assert await _driver(create_async_engine(url)) == "psycopg"
    if FROM_2_1:  # what the address without a driver means
        bare = create_async_engine(_address(database, "postgresql://"))
        assert await _driver(bare) == "psycopg"


async def test_other_options_of_libpq_raise_too(database: Database) -> None:
    engine = create_async_engine(database.url() + "?channel_binding=require")
    with pytest.raises(TypeError, match="unexpected keyword argument 'channel_binding'"):
        await _driver(engine)


def test_a_driver_that_is_not_async_is_refused(witness: Witness) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        create_async_engine("sqlite://")
    witness.saw(raised.value)


def test_a_url_as_text_hides_its_password() -> None:
    url = make_url("postgresql://user:secret@host/name").set(drivername="postgresql+asyncpg")
    assert str(url) == "postgresql+asyncpg://user:***@host/name"
    assert url.render_as_string(hide_password=False) == "postgresql+asyncpg://user:secret@host/name"


WITHOUT_GREENLET = """\
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "greenlet":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import asyncio
from sqlalchemy.ext.asyncio import create_async_engine
async def main():
    async with create_async_engine(sys.argv[1]).connect():
        pass
asyncio.run(main())
"""


async def test_without_greenlet_the_first_await_raises(
    database: Database, witness: Witness
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WITHOUT_GREENLET, database.url(), stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    assert process.returncode == 1
    said = "sqlalchemy[asyncio]" if FROM_2_1 else "greenlet library is required"
    assert said in errors.decode()
    witness.saw(errors.decode())
