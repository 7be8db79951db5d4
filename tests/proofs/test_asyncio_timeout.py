"""Inside asyncio.timeout() it is CancelledError that arrives; TimeoutError is seen outside."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import redis.exceptions
import sqlalchemy.exc

from tests.proofs.harness import Block, Witness

SECONDS = 0.02


async def _hang() -> None:
    await asyncio.Event().wait()


async def _rates(block: Block) -> tuple[list[float | BaseException], int]:
    """Three calls to a service that hangs: what came out, and how often the fallback ran."""
    fallbacks = 0

    async def fetch_rate(currency: str) -> float:
        if currency == "CHF":
            return 1.1
        if currency == "BUG":
            raise TypeError
        await _hang()
        return 1.0

    def cached_rate(_: str) -> float:
        nonlocal fallbacks
        fallbacks += 1
        return 0.9

    module = block.run(fetch_rate=fetch_rate, cached_rate=cached_rate)
    async with asyncio.timeout(10):
        calls = [module.current_rate(each, SECONDS) for each in ("EUR", "USD", "JPY")]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert await module.current_rate("CHF", 10) == 1.1  # in time
        with pytest.raises(TypeError):
            await module.current_rate("BUG", 10)
    return results, fallbacks


async def test_incorrect_never_runs_its_fallback(incorrect: Block, witness: Witness) -> None:
    results, fallbacks = await _rates(incorrect)
    for each in results:
        assert isinstance(each, TimeoutError)
        assert isinstance(each.__cause__, asyncio.CancelledError)
        witness.saw(each)
    assert (len(results), fallbacks) == (3, 0)
    witness.observed(incorrect="3 timeouts: the fallback ran 0 times, TimeoutError 3 times")


async def test_correct_runs_it_every_time(correct: Block, witness: Witness) -> None:
    results, fallbacks = await _rates(correct)
    assert (results, fallbacks) == ([0.9, 0.9, 0.9], 3)
    witness.observed(correct="3 timeouts: the fallback ran 3 times, TimeoutError 0 times")


async def test_an_outer_timeout_passes_the_handler_of_the_inner_one() -> None:
    inner_handled = False
    inner, outer = asyncio.timeout(10), asyncio.timeout(SECONDS)

    async def run() -> None:
        nonlocal inner_handled
        async with outer:
            try:
                async with inner:
                    await _hang()
            except TimeoutError:
                inner_handled = True

    with pytest.raises(TimeoutError):
        await run()
    assert (inner_handled, inner.expired(), outer.expired()) == (False, False, True)


async def test_an_inner_timeout_leaves_the_outer_one_going() -> None:
    inner_handled = False
    async with asyncio.timeout(10) as outer:
        try:
            async with asyncio.timeout(SECONDS) as inner:
                await _hang()
        except TimeoutError:
            inner_handled = True
        await asyncio.sleep(0)
    assert (inner_handled, inner.expired(), outer.expired()) == (True, True, False)


async def test_expired_tells_its_own_time_from_a_timeout_error_of_the_body() -> None:
    deadline = asyncio.timeout(10)

    async def run() -> None:
        async with deadline:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        await run()
    assert not deadline.expired()


async def test_except_timeout_error_inside_the_block_sees_that_of_an_inner_wait_for() -> None:
    inside = False
    async with asyncio.timeout(10):
        try:
            await asyncio.wait_for(_hang(), SECONDS)
        except TimeoutError:
            inside = True
    assert inside


async def test_an_error_of_the_clean_up_comes_out_in_place_of_the_timeout() -> None:
    deadline = asyncio.timeout(SECONDS)

    async def run() -> None:
        async with deadline:
            try:
                await _hang()
            finally:
                raise ConnectionError

    with pytest.raises(ConnectionError):
        await run()
    assert deadline.expired()


@pytest.mark.parametrize(
    "other",
    [httpx.TimeoutException, sqlalchemy.exc.TimeoutError, redis.exceptions.TimeoutError],
)
def test_the_timeout_errors_of_some_libraries_are_not_the_builtin(other: type[Exception]) -> None:
    assert not issubclass(other, TimeoutError)


async def test_wait_for_cancels_the_task_it_is_given_unless_shielded() -> None:
    given, shielded = asyncio.create_task(_hang()), asyncio.create_task(_hang())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(given, SECONDS)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(shielded), SECONDS)
    assert (given.cancelled(), shielded.done()) == (True, False)
    shielded.cancel()
    await asyncio.wait([shielded], timeout=10)


async def test_around_a_task_group_the_timeout_is_bare_and_in_a_child_it_is_in_a_group() -> None:
    children: list[asyncio.Task[None]] = []

    async def around() -> None:
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            children.extend(group.create_task(_hang()) for _ in range(3))

    async def child() -> None:
        async with asyncio.timeout(SECONDS):
            await _hang()

    async def inside() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    with pytest.raises(TimeoutError):
        await around()
    assert [each.cancelled() for each in children] == [True, True, True]
    with pytest.raises(ExceptionGroup) as caught:
        await inside()
    assert [type(each) for each in caught.value.exceptions] == [TimeoutError]
