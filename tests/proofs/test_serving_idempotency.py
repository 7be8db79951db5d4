"""A POST that is sent again with its key: how many orders there are, and what the client reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, Header
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.network import Network
from tests.proofs.tables import engine_with
from tests.services import Database, serving

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]
    product_id: Mapped[int]


class Answer(Base):
    __tablename__ = "answers"
    user_id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str | None]
    body: Mapped[str]


def _user(x_user: Annotated[int, Header()] = 1) -> int:
    return x_user


class Shop:
    """A block that is served, and a client that sends its orders."""

    def __init__(self, database: Database, engine: AsyncEngine, client: httpx.AsyncClient) -> None:
        self.database = database
        self.engine = engine
        self.client = client

    async def order(self, key: str = "k", product: int = 7, user: int = 1) -> tuple[int, Any]:
        headers = {"Idempotency-Key": key, "X-User": str(user)}
        answer = await self.client.post("/orders", json={"product_id": product}, headers=headers)
        if answer.status_code == 500:
            return 500, answer.text
        later = {} if answer.is_success else {"Retry-After": answer.headers.get("Retry-After")}
        return answer.status_code, {**answer.json(), **later}

    async def waits(self) -> None:
        while not await self.database.fetchval(WAITING, self.database.name):
            await asyncio.sleep(0.01)

    async def stored(self) -> list[tuple[int, int]]:
        rows = await self.database.fetch("SELECT user_id, product_id FROM orders ORDER BY id")
        return [(row["user_id"], row["product_id"]) for row in rows]


@asynccontextmanager
async def _shop(block: Block, database: Database, url: str = "") -> AsyncIterator[Shop]:
    async with asyncio.timeout(60), engine_with(Base, url or database.url()) as engine:
        factory: Any = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)
        user: Any = Annotated[int, Depends(_user)]
        module = block.run(SessionFactory=factory, Order=Order, Answer=Answer, UserId=user)
        async with (
            serving(module.app) as served,
            httpx.AsyncClient(base_url=served.url, timeout=15) as client,
        ):
            yield Shop(database, engine, client)


async def _two_at_once(block: Block, database: Database) -> tuple[list[int], list[Any]]:
    """The statuses of two requests with one key, and the orders; the first one has to wait."""
    async with _shop(block, database) as shop:
        async with shop.engine.begin() as gate:
            await gate.execute(text("LOCK TABLE orders IN SHARE MODE"))
            first = asyncio.create_task(shop.order())
            await shop.waits()
            second = asyncio.create_task(shop.order())
            while not second.done() and await database.fetchval(WAITING, database.name) < 2:
                await asyncio.sleep(0.01)
        return [(await each)[0] for each in (first, second)], await shop.stored()


async def test_incorrect_stores_two_orders_of_two_requests_at_once(
    incorrect: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    statuses, orders = await _two_at_once(incorrect, database)
    assert (sorted(statuses), orders) == ([201, 500], [(1, 7), (1, 7)])
    witness.observed(
        incorrect="two requests with one key at once: 201 and 500, 2 orders; "
        "a failure before the answer was stored, then a retry: 2 orders; another body: 201"
    )


async def test_correct_answers_409_while_the_first_request_runs(
    correct: Block, database: Database, witness: Witness
) -> None:
    statuses, orders = await _two_at_once(correct, database)
    assert (statuses, orders) == ([201, 409], [(1, 7)])
    witness.observed(
        correct="two requests with one key at once: 201 and 409, 1 order; "
        "a failure before the answer was stored, then a retry: 1 order; another body: 422"
    )


async def test_correct_gives_a_client_that_left_the_same_answer(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as shop:
        async with shop.engine.begin() as gate:
            await gate.execute(text("LOCK TABLE orders IN SHARE MODE"))
            with pytest.raises(httpx.ReadTimeout):
                await shop.client.post(
                    "/orders",
                    json={"product_id": 7},
                    headers={"Idempotency-Key": "k"},
                    timeout=0.3,
                )
            await shop.waits()
            status, told = await shop.order()
            assert (status, told["Retry-After"]) == (409, "1")
        while not await shop.stored():
            await asyncio.sleep(0.01)
        answers = [await shop.order() for _ in range(2)]
        assert answers == [(201, {"order_id": 1})] * 2
        assert await shop.stored() == [(1, 7)]


async def _after_a_failure(block: Block, database: Database) -> tuple[list[int], list[Any]]:
    """The answer to the first request cannot be stored; the client sends it again."""
    async with _shop(block, database) as shop:
        await database.execute("ALTER TABLE answers ADD CONSTRAINT no CHECK (key <> 'k')")
        statuses = [(await shop.order())[0]]
        await database.execute("ALTER TABLE answers DROP CONSTRAINT no")
        statuses.append((await shop.order())[0])
        return statuses, await shop.stored()


async def test_incorrect_stores_two_orders_where_the_answer_was_not_stored(
    incorrect: Block, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    assert await _after_a_failure(incorrect, database) == ([500, 201], [(1, 7), (1, 7)])


async def test_correct_stores_no_order_without_its_answer(
    correct: Block, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    assert await _after_a_failure(correct, database) == ([500, 201], [(1, 7)])


async def _another_body(block: Block, database: Database) -> tuple[list[Any], list[Any]]:
    async with _shop(block, database) as shop:
        answers = [await shop.order(product=product) for product in (7, 8)]
        return answers, await shop.stored()


async def test_incorrect_answers_another_body_with_the_first_order(
    incorrect: Block, database: Database
) -> None:
    answers, orders = await _another_body(incorrect, database)
    assert (answers, orders) == ([(201, {"order_id": 1})] * 2, [(1, 7)])


async def test_correct_refuses_another_body(correct: Block, database: Database) -> None:
    answers, orders = await _another_body(correct, database)
    assert ([status for status, _ in answers], orders) == ([201, 422], [(1, 7)])
    assert answers[1][1]["detail"] == "the key belongs to another request"


async def test_correct_knows_a_request_again_after_a_deploy_that_adds_fields(
    correct: Block, database: Database
) -> None:
    new = "product_id: int\n    note: str | None = None"
    told = "order_id: int\n    note: str | None = None"
    later = correct.code.replace("product_id: int", new, 1).replace("order_id: int", told, 1)
    assert later.count("note: str") == 2
    async with _shop(correct, database) as shop:
        assert await shop.order() == (201, {"order_id": 1})
    async with _shop(replace(correct, code=later), database) as shop:
        assert await shop.order() == (201, {"order_id": 1, "note": None})
        assert (await shop.order(product=8))[0] == 422
        assert await shop.stored() == [(1, 7)]


@pytest.mark.parametrize(("digested", "statuses"), [("", [201, 201]), (" {shop_id}", [201, 422])])
async def test_a_parameter_of_the_path_belongs_into_the_digest(
    database: Database, digested: str, statuses: list[int]
) -> None:
    block = RuleFile.load("serving-idempotency").block(correct=True)
    code = block.code
    for line, other in (
        ('"/orders"', '"/shops/{shop_id}/orders"'),
        ("(body: NewOrder", "(shop_id: int, body: NewOrder"),
        ('"create_order ', f'"create_order{digested} '),
    ):
        assert code.count(line) == 1
        code = code.replace(line, other)
    async with _shop(replace(block, code=code), database) as shop:
        answers = [
            await shop.client.post(
                f"/shops/{number}/orders", json={"product_id": 7}, headers={"Idempotency-Key": "k"}
            )
            for number in (1, 2)
        ]
        assert [answer.status_code for answer in answers] == statuses
        assert await shop.stored() == [(1, 7)]


async def test_correct_holds_up_only_the_same_key_of_the_same_user(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as shop:
        async with shop.engine.begin() as holder:
            await holder.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('1 k', 0))"))
            sent = ((1, "k"), (2, "k"), (1, "l"))
            statuses = [(await shop.order(user=user, key=key))[0] for user, key in sent]
            assert statuses == [409, 201, 201]
        answers = [await shop.order(user=user, key=key) for user, key in sent]
        assert answers == [(201, {"order_id": number}) for number in (3, 1, 2)]
        assert await shop.stored() == [(2, 7), (1, 7), (1, 7)]


async def test_correct_answers_after_a_commit_that_got_no_answer(
    correct: Block, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with Network(database) as network, _shop(correct, database, network.url()) as shop:
        network.lose_answer_to = b"COMMIT;"
        statuses = [(await shop.order())[0] for _ in range(2)]
        assert (statuses, await shop.stored()) == ([500, 201], [(1, 7)])


async def test_correct_refuses_a_request_without_a_usable_key(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as shop:
        answer = await shop.client.post("/orders", json={"product_id": 7})
        assert answer.status_code == 422
        statuses = [(await shop.order(key=key))[0] for key in ("", "x" * 256, "x" * 255, "x")]
        assert statuses == [422, 422, 201, 201]
