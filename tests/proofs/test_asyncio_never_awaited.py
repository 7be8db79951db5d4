"""What an async function returns does nothing until it is awaited, and is true meanwhile."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, serving


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    blocked: Mapped[bool]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int]


BLOCKED, OTHER, UNKNOWN = 1, 2, 3


async def _ordered(block: Block, database: Database) -> tuple[list[int], list[int], list[str]]:
    """The statuses of one order of each customer and four more, whose orders are stored, warnings."""
    async with engine_with(Base, database.url()) as engine:
        factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        async with engine.begin() as connection:
            rows = [{"id": BLOCKED, "blocked": True}, {"id": OTHER, "blocked": False}]
            await connection.execute(insert(Customer), rows)
        module = block.run(SessionFactory=factory, Customer=Customer, Order=Order)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("default")
            async with (
                serving(module.app) as served,
                httpx.AsyncClient(base_url=served.url) as client,
            ):
                statuses = [
                    (await client.post(f"/customers/{customer}/orders")).status_code
                    for customer in (BLOCKED, UNKNOWN, *[OTHER] * 5)
                ]
            gc.collect()
        async with engine.connect() as connection:
            stored = list(await connection.scalars(select(Order.customer_id)))
    return statuses, stored, [f"RuntimeWarning: {each.message}" for each in warned]


async def test_incorrect_lets_everybody_pass_and_stores_nothing(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    statuses, stored, warned = await _ordered(incorrect, database)
    assert (statuses, stored) == ([201] * 7, [])
    assert warned == [
        "RuntimeWarning: coroutine 'may_order' was never awaited",
        "RuntimeWarning: coroutine 'AsyncSession.commit' was never awaited",
    ]
    witness.saw(*warned)
    witness.observed(incorrect="7 orders, 2 of them not allowed: all 201, 0 stored, 2 warnings")


async def test_correct_refuses_and_stores(
    correct: Block, database: Database, witness: Witness
) -> None:
    statuses, stored, warned = await _ordered(correct, database)
    assert (statuses, stored) == ([403] * 2 + [201] * 5, [OTHER] * 5)
    assert warned == []
    witness.observed(correct="7 orders, 2 of them not allowed: 403 and 5 times 201, 5 stored")


async def find() -> str:
    return "found"


def plain() -> None:
    pass


async def _attribute() -> None:
    find().scalars  # type: ignore[attr-defined]  # noqa: B018


async def _called() -> None:
    find()()  # type: ignore[operator]


async def _iterated() -> None:
    list(find())  # type: ignore[call-overload]


async def _subscripted() -> None:
    find()[0]  # type: ignore[index]


async def _iterated_asynchronously() -> None:
    async for _ in find():  # type: ignore[attr-defined]
        pass


async def _opened() -> None:
    async with find():  # type: ignore[attr-defined]
        pass


async def _awaited_a_plain_function() -> None:
    await plain()  # type: ignore[func-returns-value,misc]


async def _gave_the_function() -> None:
    await asyncio.create_task(find)  # type: ignore[arg-type]


async def _awaited_twice() -> None:
    found = find()
    assert await found == "found"
    await found


NOT_AWAITED = "TypeError: object NoneType can't be used in 'await' expression"
if sys.version_info >= (3, 14):
    NOT_AWAITED = "TypeError: 'NoneType' object can't be awaited"


@pytest.mark.filterwarnings("ignore:coroutine 'find' was never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (_attribute, "AttributeError: 'coroutine' object has no attribute 'scalars'"),
        (_called, "TypeError: 'coroutine' object is not callable"),
        (_iterated, "TypeError: 'coroutine' object is not iterable"),
        (_subscripted, "TypeError: 'coroutine' object is not subscriptable"),
        (_iterated_asynchronously, "TypeError: 'async for' requires an object with __aiter__"),
        (_opened, "TypeError: 'coroutine' object does not support the asynchronous context"),
        (_awaited_a_plain_function, NOT_AWAITED),
        (_gave_the_function, "TypeError: a coroutine was expected, got <function find"),
        (_awaited_twice, "RuntimeError: cannot reuse already awaited coroutine"),
    ],
)
async def test_what_is_used_before_it_is_awaited_raises(
    mistake: Callable[[], Awaitable[None]], message: str, witness: Witness
) -> None:
    with pytest.raises((AttributeError, TypeError, RuntimeError)) as raised:
        await mistake()
    witness.saw(raised.value)
    assert f"{raised.typename}: {raised.value}".startswith(message)
    del raised  # its frames may hold the coroutine, which warns when it is collected
    gc.collect()


async def test_a_plain_method_has_run_before_its_await_fails() -> None:
    session = AsyncSession()
    order = Order(customer_id=1)
    with pytest.raises(TypeError, match="NoneType"):
        await session.add(order)  # type: ignore[func-returns-value,misc]
    assert order in session


async def test_a_background_task_is_given_the_function(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[int] = []
    app = FastAPI()

    async def send(number: int) -> None:
        sent.append(number)

    called_already: Any = send(7)

    @app.get("/called")
    async def called(tasks: BackgroundTasks) -> None:
        tasks.add_task(called_already)

    @app.get("/given")
    async def given(tasks: BackgroundTasks) -> None:
        tasks.add_task(send, 7)

    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.get("/given")).status_code == 200
        assert (await client.get("/called")).status_code == 200
    called_already.close()  # or it would warn
    assert sent == [7]
    assert "TypeError: the first argument must be callable" in caplog.text
    witness.saw(caplog.text)


async def test_a_thread_gives_the_coroutine_of_an_async_function_back() -> None:
    given: Any = await asyncio.to_thread(find)
    assert asyncio.iscoroutine(given)
    assert await given == "found"


async def test_several_places_can_wait_for_one_task() -> None:
    task = asyncio.create_task(find())
    assert list(await asyncio.gather(_wait(task), _wait(task))) == ["found"] * 2


async def _wait(task: asyncio.Task[str]) -> str:
    return await task


SCRIPT = """
import asyncio

async def save():
    pass

async def main():
    save()

def run():
    asyncio.run(main())
"""
TESTS = f"""
import pytest
{SCRIPT}
def test_by_the_settings():
    run()

@pytest.mark.filterwarnings("default")
def test_by_default():
    run()
"""


async def _child(*argv: Any, **environment: str) -> str:
    """What a Python process prints, in an environment of its own."""
    env = {"PATH": "", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [sys.executable, *argv]
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


async def test_pytest_finds_it_where_warnings_are_errors(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    config = tmp_path / "pyproject.toml"
    config.write_text('[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n')
    options = ("-p", "no:cacheprovider", "-c", config, tmp_path)
    printed = await _child("-m", "pytest", *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    (failed,) = [line for line in printed.splitlines() if line.startswith("FAILED")]
    assert failed.split(" - ")[0].endswith("::test_by_the_settings")
    assert "1 failed, 1 passed, 1 warning" in printed
    assert "coroutine 'save' was never awaited" in printed


async def test_debug_mode_shows_where_it_was_created(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"{SCRIPT}\nrun()\n")
    for debug, created in (("", False), ("1", True)):
        printed = await _child(script, PYTHONASYNCIODEBUG=debug)
        assert "coroutine 'save' was never awaited\n" in printed
        assert ("Coroutine created at" in printed) is created
