"""A fault in the environment stops the start only where the settings are built and validated."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from pydantic import ValidationError
from pydantic_settings import BaseSettings
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.proofs.harness import ROOT, Block, Witness
from tests.services import Database, ServiceFailed, serving

Environment = Callable[..., None]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """Set variables of the service by their names without prefix; at first there is none."""
    monkeypatch.chdir(tmp_path)
    names = ("ORDERS_DATABASE_URL", "ORDERS_POOL_SIZE", "ORDERS_POOLSIZE")

    def change(**values: str) -> None:
        for name in names:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(f"ORDERS_{name}".upper(), value)

    change()
    return change


async def _status(block: Block) -> int:
    """The status of a first request; ServiceFailed where the service does not start."""
    module = block.run()
    async with serving(module.app) as served, httpx.AsyncClient(base_url=served.url) as client:
        status = (await client.get("/now")).status_code
    if status == 200 and hasattr(module, "get_engine"):
        await module.get_engine().dispose()
    return status


async def _refusal(block: Block) -> str:
    """Why the service does not start."""
    with pytest.raises(ServiceFailed) as failed:
        await _status(block)
    assert isinstance(failed.value.__cause__, ValidationError)
    return "".join(traceback.format_exception_only(failed.value.__cause__))


async def test_incorrect_starts_with_bad_values_and_answers_500(
    incorrect: Block,
    database: Database,
    environment: Environment,
    witness: Witness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    environment(database_url=database.url())
    assert await _status(incorrect) == 200
    environment(pool_size="5")
    assert await _status(incorrect) == 500
    environment(database_url=database.url(), pool_size="ten")
    assert await _status(incorrect) == 500
    witness.observed(incorrect="no address, or a pool size of ten: started, then 500")


async def test_correct_does_not_start_with_bad_values_and_names_both(
    correct: Block,
    database: Database,
    environment: Environment,
    witness: Witness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    environment(database_url=database.url())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a bare generator as a lifespan is deprecated
        assert await _status(correct) == 200
    environment(pool_size="ten")
    refusal = await _refusal(correct)
    assert "2 validation errors for Settings\ndatabase_url\n" in refusal
    assert "\npool_size\n" in refusal
    witness.saw(refusal, caplog.text)
    witness.observed(correct="no address and a pool size of ten: not started, both named")


async def test_an_engine_refuses_an_address_that_is_no_string(
    correct: Block, database: Database, environment: Environment, witness: Witness
) -> None:
    environment(database_url=database.url())
    settings = correct.run().Settings.model_validate({})
    # SQLAlchemy 2.0.0 fails with AttributeError.
    with pytest.raises((ArgumentError, AttributeError), match="PostgresDsn") as refused:
        create_async_engine(settings.database_url)
    witness.saw(refused.value)


async def test_the_password_is_logged_only_where_input_is_shown(
    correct: Block, environment: Environment
) -> None:
    environment(database_url="mysql://orders:secret@db/orders")
    assert "secret" not in await _refusal(correct)
    code = correct.code.replace("hide_input_in_errors=True", "")
    assert "secret" in await _refusal(replace(correct, code=code))
    environment(database_url="postgresql+asyncpg://orders:secret@db/orders")
    assert "secret" in repr(correct.run().Settings.model_validate({}))


async def test_the_environment_wins_over_the_file(
    correct: Block, database: Database, environment: Environment
) -> None:
    Path(".env").write_text(f"ORDERS_DATABASE_URL={database.url()}\nORDERS_POOL_SIZE=3\n")
    environment(pool_size="4")
    assert await _status(correct) == 200
    assert correct.run().Settings.model_validate({}).pool_size == 4
    environment()
    assert correct.run().Settings.model_validate({}).pool_size == 3


async def test_correct_gives_the_engine_its_pool_size_and_closes_it(
    correct: Block, database: Database, environment: Environment
) -> None:
    environment(database_url=database.url(), pool_size="2")
    module = correct.run()
    async with serving(module.app) as served, httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.get("/now")).status_code == 200
        pool: Any = module.app.state.engine.pool
        assert (pool.size(), pool.checkedin()) == (2, 1)
    assert module.app.state.engine.pool.checkedin() == 0
    environment(database_url=database.url())
    assert module.Settings.model_validate({}).pool_size == 5
    environment(database_url=database.url(), pool_size="0")
    assert "pool_size\n  Input should be greater than 0" in await _refusal(correct)


async def test_an_unknown_name_is_ignored_in_the_file_only_where_extra_says_so(
    correct: Block, database: Database, environment: Environment
) -> None:
    environment(database_url=database.url(), poolsize="4")
    Path(".env").write_text("COMPOSE_PROJECT_NAME=orders\n")
    assert await _status(correct) == 200
    code = correct.code.replace('extra="ignore", ', "")
    assert "Extra inputs are not permitted" in await _refusal(replace(correct, code=code))
    Path(".env").unlink()
    assert await _status(replace(correct, code=code)) == 200


async def test_a_misspelt_name_of_its_own_is_hidden_by_extra_and_refused_by_a_validator(
    correct: Block, database: Database, environment: Environment
) -> None:
    environment(database_url=database.url())
    Path(".env").write_text("COMPOSE_PROJECT_NAME=orders\nORDERS_POOLSIZE=4\n")
    assert await _status(correct) == 200
    assert correct.run().Settings.model_validate({}).pool_size == 5
    template = (ROOT / "assets" / "fastapi-app-template.py").read_text("utf-8")
    validator = re.search(r"^    @model_validator\(.*?\n\n", template, re.MULTILINE | re.DOTALL)
    assert validator
    field = "    database_url: PostgresDsn\n"
    code = correct.code.replace('extra="ignore", ', "")
    code = code.replace(field, validator[0].replace("shop_", "orders_") + field)
    code = f"from typing import Any\nfrom pydantic import model_validator\n{code}"
    refusing = replace(correct, code=code)
    assert "1 validation error for Settings\norders_poolsize\n  Extra" in await _refusal(refusing)
    Path(".env").write_text("COMPOSE_PROJECT_NAME=orders\n")
    environment(database_url=database.url(), poolsize="4")
    assert await _status(refusing) == 200


async def test_a_relative_file_is_looked_for_in_the_working_directory(
    correct: Block, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text(f"ORDERS_DATABASE_URL={database.url()}\n")
    assert await _status(correct) == 200
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "database_url\n  Field required" in await _refusal(correct)


FAILING = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "ValidationError"})
"""
FAILING_AT_IMPORT = "raise ValueError('ValidationError')"


def _uvicorn(code: str, *options: str) -> subprocess.Popen[str]:
    """Start uvicorn with the code as its program."""
    Path("main.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "uvicorn", "main:app", "--port", "0", *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize(("code", "status"), [(FAILING, 3), (FAILING_AT_IMPORT, 1)])
def test_a_start_that_fails_ends_uvicorn_with_3_in_the_lifespan_and_1_at_import(
    code: str, status: int
) -> None:
    with _uvicorn(code) as process:
        process.communicate(timeout=60)
    assert process.returncode == status


@pytest.mark.parametrize("code", [FAILING, FAILING_AT_IMPORT])
def test_a_start_that_fails_makes_uvicorn_start_workers_without_end(code: str) -> None:
    with _uvicorn(code, "--workers", "2") as process:
        assert process.stderr
        failed = 0
        for line in process.stderr:
            failed += "ValidationError" in line
            if failed == 6:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    ends = code == FAILING and version("uvicorn") != "0.30.0"
    assert (failed < 6, process.returncode) == ((True, 0) if ends else (False, -signal.SIGKILL))


async def test_a_cached_dependency_validates_at_the_first_request_only(correct: Block) -> None:
    settings: Any = correct.run().Settings
    get_settings = lru_cache(lambda: settings.model_validate({}))
    app = FastAPI()

    @app.get("/")
    async def read(_: Any = Depends(get_settings)) -> None: ...

    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.get("/")).status_code == 500


def test_only_a_field_reads_false_as_false(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flags(BaseSettings):
        debug: bool

    monkeypatch.setenv("DEBUG", "false")
    assert bool("false")
    assert not Flags.model_validate({}).debug
