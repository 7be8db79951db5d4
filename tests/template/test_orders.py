"""Orders, as a client sees them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import httpx
import pytest

from tests.services import (
    Database,
    Program,
)
from tests.template.harness import (
    POOL_SIZE,
    altered,
    assert_problem,
    create,
    locked,
    until,
    waiting,
)


async def test_an_order_that_was_created_can_be_read(
    client: httpx.AsyncClient, shop: Database
) -> None:
    before = datetime.now(UTC)
    created = await create(client, 7)
    assert created.status_code == 201
    order = created.json()
    assert set(order) == {"id", "number", "created_at"}
    assert before <= datetime.fromisoformat(order["created_at"]) <= datetime.now(UTC)
    read = await client.get(f"/orders/{order['id']}")
    assert (read.status_code, read.json()) == (200, order)
    assert float(read.headers["Server-Timing"].removeprefix("app;dur=")) > 0
    assert await shop.fetchval("SELECT created_at FROM orders") >= before


async def test_an_order_is_readable_after_its_commit(extra: httpx.AsyncClient) -> None:
    assert (await extra.post("/extra/committed")).json() == 3


async def test_an_order_that_does_not_exist_is_a_404(client: httpx.AsyncClient) -> None:
    answer = await client.get("/orders/1")
    assert_problem(answer, 404)
    assert answer.json()["detail"] == "There is no such order."


async def test_a_duplicate_is_a_409_and_no_row(client: httpx.AsyncClient, shop: Database) -> None:
    assert (await create(client, 7)).status_code == 201
    answer = await create(client, 7)
    assert_problem(answer, 409)
    assert answer.json()["detail"] == "There is an order with this number."
    assert await shop.fetchval("SELECT count(*) FROM orders") == 1


async def test_a_duplicate_that_only_the_commit_notices_is_a_409_and_no_row(
    client: httpx.AsyncClient, shop: Database
) -> None:
    drop = "orders DROP CONSTRAINT uq_orders_number"
    add = "ADD CONSTRAINT uq_orders_number UNIQUE (number)"
    async with altered(shop, f"{drop}, {add} DEFERRABLE INITIALLY DEFERRED", undo=f"{drop}, {add}"):
        assert (await create(client, 7)).status_code == 201
        assert_problem(await create(client, 7), 409)
        assert await shop.fetchval("SELECT count(*) FROM orders") == 1


async def test_of_duplicates_at_the_same_time_one_is_created(
    client: httpx.AsyncClient, shop: Database
) -> None:
    async with asyncio.TaskGroup() as group, locked(shop):
        tasks = [group.create_task(create(client, 7)) for _ in range(POOL_SIZE)]
        await until(lambda: waiting(shop, POOL_SIZE))
    assert sorted(task.result().status_code for task in tasks) == [201, 409]
    assert await shop.fetchval("SELECT count(*) FROM orders") == 1


async def test_a_key_that_the_sequence_gives_twice_is_no_conflict(
    client: httpx.AsyncClient, shop: Database
) -> None:
    first = (await create(client, 1)).json()["id"]
    await shop.execute(f"ALTER SEQUENCE orders_id_seq RESTART WITH {first}")
    assert_problem(await create(client, 2), 500)
    assert (await create(client, 3)).status_code == 201


async def test_another_violated_constraint_is_no_conflict_and_its_detail_is_logged(
    client: httpx.AsyncClient, shop: Database, program: Program
) -> None:
    async with altered(
        shop, "orders ADD CONSTRAINT even CHECK (number % 2 = 0)", "orders DROP CONSTRAINT even"
    ):
        assert_problem(await create(client, 4711), 500)
    # SQLAlchemy hides what was sent, PostgreSQL does not.
    await until(lambda: "DETAIL:  Failing row contains (" in program.output())
    assert "4711" in program.output()
    assert "[SQL parameters hidden due to hide_parameters=True]" in program.output()
    assert "[parameters: " not in program.output()


async def test_the_largest_number_that_the_column_holds_is_kept(client: httpx.AsyncClient) -> None:
    answer = await create(client, 2**63 - 1)
    assert (answer.status_code, answer.json()["number"]) == (201, 2**63 - 1)


@pytest.mark.parametrize("number", [0, 2**63])
async def test_a_number_that_the_column_does_not_hold_is_a_422(
    client: httpx.AsyncClient, number: int
) -> None:
    assert_problem(await create(client, number), 422)
    assert_problem(await client.get(f"/orders/{number}"), 422)
