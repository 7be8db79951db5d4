"""A task that nobody holds or awaits may be collected, cut off at shutdown, and fail unheard."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from tests.proofs.harness import Block, RuleFile, Witness
from tests.services import Database


async def _sent_after_a_collection(block: Block, orders: int) -> int:
    """How many receipts go out whose mail server answers after the collector has run.

    The client of that server knows its pending replies weakly, as many clients do.
    """
    replies: weakref.WeakValueDictionary[int, asyncio.Future[None]] = weakref.WeakValueDictionary()
    sent: list[int] = []

    async def send_receipt(order_id: int) -> None:
        reply = asyncio.get_running_loop().create_future()
        replies[order_id] = reply
        await reply
        sent.append(order_id)

    async with block.run(send_receipt=send_receipt).Receipts() as receipts:
        for order_id in range(orders):
            receipts.send_later(order_id)
        await asyncio.sleep(0)
        assert len(replies) == orders
        gc.collect()
        for reply in list(replies.values()):
            reply.set_result(None)
        await asyncio.sleep(0)
    return len(sent)


async def test_incorrect_loses_waiting_tasks_to_the_collector(
    incorrect: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    assert await _sent_after_a_collection(incorrect, 20) == 0
    assert caplog.text.count("Task was destroyed but it is pending!") == 20
    witness.observed(incorrect="20 of 20 waiting tasks were collected; at shutdown 0 of 3 rows")


async def test_correct_keeps_waiting_tasks(
    correct: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    assert await _sent_after_a_collection(correct, 20) == 20
    assert not caplog.records
    witness.observed(correct="20 of 20 waiting tasks ended; at shutdown 3 of 3 rows")


async def test_sleeping_tasks_survive_the_collector_unheld() -> None:
    ended: list[int] = []

    async def sleep(number: int) -> None:
        await asyncio.sleep(0.01)
        ended.append(number)

    for number in range(20):
        asyncio.create_task(sleep(number))
    await asyncio.sleep(0)
    gc.collect()
    async with asyncio.timeout(10):
        while len(ended) < 20:
            await asyncio.sleep(0.01)


async def _rows_of_a_service_that_ends(block: Block, database: Database) -> int:
    """The rows of three receipts that were to be sent as the service was told to stop."""
    await database.execute("CREATE TABLE receipts (order_id int)")

    async def send_receipt(order_id: int) -> None:
        await database.execute("INSERT INTO receipts VALUES ($1)", order_id)

    async def main() -> None:
        async with block.run(send_receipt=send_receipt).Receipts() as receipts:
            for order_id in range(3):
                receipts.send_later(order_id)

    await asyncio.to_thread(asyncio.run, main())
    rows: int = await database.fetchval("SELECT count(*) FROM receipts")
    return rows


async def test_incorrect_is_cut_off_when_the_service_ends(
    incorrect: Block, database: Database
) -> None:
    assert await _rows_of_a_service_that_ends(incorrect, database) == 0


async def test_correct_ends_its_work_when_the_service_ends(
    correct: Block, database: Database
) -> None:
    assert await _rows_of_a_service_that_ends(correct, database) == 3


@pytest.mark.parametrize("client_first", [True, False])
async def test_receipts_entered_before_their_client_find_it_closed(
    client_first: bool, correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[int] = []
    closing = asyncio.Event()
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(204)))

    async def send_receipt(order_id: int) -> None:
        await closing.wait()
        await client.post("http://mail.example")
        sent.append(order_id)

    receipts = correct.run(send_receipt=send_receipt).Receipts()
    async with AsyncExitStack() as lifespan:
        for each in (client, receipts) if client_first else (receipts, client):
            await lifespan.enter_async_context(each)
        receipts.send_later(7)
        closing.set()
    closed = "RuntimeError: Cannot send a request, as the client has been closed"
    assert (sent, closed in caplog.text) == (([7], False) if client_first else ([], True))


async def test_correct_waits_no_longer_than_its_grace(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[int] = []

    async def send_receipt(order_id: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)  # its clean-up
            ended.append(order_id)

    async with asyncio.timeout(10):
        async with correct.run(send_receipt=send_receipt).Receipts(grace=0.01) as receipts:
            receipts.send_later(1)
        assert ended == [1]
    assert [record.message for record in caplog.records] == ["1 receipts are cut off"]


async def test_correct_awaits_what_a_task_starts_during_the_stop(correct: Block) -> None:
    sent: list[int] = []
    stopping = asyncio.Event()

    async def send_receipt(order_id: int) -> None:
        await stopping.wait()
        await asyncio.sleep(0)
        if order_id < 3:
            receipts.send_later(order_id + 1)
        sent.append(order_id)

    async with asyncio.timeout(10):
        async with correct.run(send_receipt=send_receipt).Receipts() as receipts:
            receipts.send_later(1)
            stopping.set()
        assert sent == [1, 2, 3]


async def test_correct_leaves_no_task_behind_when_its_stop_is_cancelled(correct: Block) -> None:
    ended: list[int] = []

    async def send_receipt(order_id: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(order_id)
            if order_id == 1:
                receipts.send_later(2)  # what starts during the cancelling is cancelled too
                await asyncio.sleep(0)

    receipts = correct.run(send_receipt=send_receipt).Receipts()

    async def service() -> None:
        async with receipts:
            receipts.send_later(1)
            await asyncio.sleep(0)

    stop = asyncio.create_task(service())
    for _ in range(5):
        await asyncio.sleep(0)
    stop.cancel()
    await asyncio.wait([stop], timeout=10)
    assert (ended, stop.cancelled()) == ([1, 2], True)


async def test_correct_forgets_a_task_that_has_ended() -> None:
    correct = RuleFile.load("asyncio-task-references").block(correct=True)
    tasks: list[weakref.ref[asyncio.Task[Any]]] = []

    async def send_receipt(_: int) -> None:
        current = asyncio.current_task()
        assert current
        tasks.append(weakref.ref(current))

    receipts = correct.run(send_receipt=send_receipt).Receipts()
    receipts.send_later(1)
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert [each() for each in tasks] == [None]


async def _failing_task(block: Block) -> None:
    async def send_receipt(order_id: int) -> None:
        raise ConnectionError

    async with block.run(send_receipt=send_receipt).Receipts() as receipts:
        receipts.send_later(7)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    gc.collect()


async def test_incorrect_leaves_the_error_to_asyncio(
    incorrect: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    await _failing_task(incorrect)
    assert [record.name for record in caplog.records] == ["asyncio"]
    assert "Task exception was never retrieved" in caplog.text


async def test_correct_logs_the_error_with_its_task(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    await _failing_task(correct)
    assert [record.message for record in caplog.records] == ["receipt-7 failed"]


async def test_a_task_group_cancels_the_other_tasks_on_a_failure() -> None:
    async def fail() -> None:
        raise ConnectionError

    others: list[asyncio.Task[None]] = []

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            others.append(group.create_task(asyncio.sleep(10)))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup):
        await both()
    assert others[0].cancelled()
