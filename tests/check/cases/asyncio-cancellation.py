import asyncio
import contextlib
from asyncio import CancelledError
from contextlib import suppress


async def a_bare_except(rows):
    for row in rows:
        try:
            await send(row)
        except:  # finds
            logger.exception("row failed")


async def a_loop_without_end(queue):
    while True:
        try:
            async with lock:
                job = await queue.get()
                await job.run()
        except (ValueError, BaseException) as error:  # finds
            errors.append(error)


async def a_retry(request):
    for _ in range(3):
        try:
            return await fetch(request)
        except BaseException as error:  # finds
            last = error
            await asyncio.sleep(1)
    raise last


async def by_its_name(subscription):
    async for message in subscription:
        try:
            await handle(message)
        except (asyncio.CancelledError, Exception):  # finds
            logger.exception("message failed")


async def by_its_bare_name():
    while True:
        try:
            await poll()
        except CancelledError:  # finds
            logger.info("stopped")
        except Exception:
            logger.exception("poll failed")


async def suppressed(rows):
    for row in rows:
        with suppress(Exception, CancelledError):  # finds
            await send(row)
    while True:
        with contextlib.suppress(BaseException):  # finds
            await poll()


async def only_errors(rows):
    for row in rows:
        try:
            await send(row)
        except Exception:
            logger.exception("row failed")
        with suppress(OSError):
            await send(row)


async def raised_again(rows):
    for row in rows:
        try:
            await send(row)
        except BaseException:
            await undo(row)
            raise
        try:
            await send(row)
        except asyncio.CancelledError:
            raise
        except BaseException:
            logger.exception("row failed")


async def the_loop_ends():
    while True:
        try:
            await poll()
        except asyncio.CancelledError:
            logger.info("stopped")
            break
    while True:
        try:
            await poll()
        except asyncio.CancelledError:
            return


async def around_the_loop():
    try:
        while True:
            await poll()
    except asyncio.CancelledError:
        pass


async def its_own_children(tasks):
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    for task in tasks:
        try:
            await task
        except BaseException:
            logger.exception("task failed")
    for child in tasks:
        child.cancel()
        try:
            await asyncio.wait_for(child, 5)
        except asyncio.CancelledError:
            pass


async def nothing_to_cancel(rows):
    for row in rows:
        try:
            parse(row)
        except:
            logger.exception("row failed")


def in_no_coroutine(rows):
    for row in rows:
        try:
            send(row)
        except BaseException:
            logger.exception("row failed")


async def handed_to_who_waits(queue):
    while True:
        future, call = await queue.get()
        try:
            result = await call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)


async def all_of_them_then_the_first(exits):
    errors = []
    for each in exits:
        try:
            await each.aclose()
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]


async def results_of_children(tasks):
    for task in asyncio.as_completed(tasks):
        try:
            result = await task
        except asyncio.CancelledError:
            continue
        use(result)


# The coroutine ends as if nobody had stopped it, or goes on.


async def a_stream(chain):
    try:
        async for token in chain.stream():
            yield token
    except asyncio.CancelledError:  # finds
        logger.warning("the client has left")
        return


async def a_stream_that_says_so(chain):
    try:
        yield await chain.first()
    except (asyncio.CancelledError, Exception) as error:  # finds
        yield f"error: {error}"


async def a_stream_with_all_errors(chain):
    try:
        async for token in chain.stream():
            yield token
    except BaseException:  # finds
        logger.exception("the stream has ended")


async def a_call(model):
    try:
        return await model.ask()
    except asyncio.CancelledError:  # finds
        return None


async def in_a_group(read, write):
    async with ClientSession(read, write) as session:
        try:
            await session.initialize()
        except:  # finds
            logger.warning("no session")


async def stop(task):
    task.cancel()
    try:
        await task
    except BaseException:  # finds
        pass


async def a_stream_that_raises_it(chain):
    try:
        async for token in chain.stream():
            yield token
    except asyncio.CancelledError:
        logger.warning("the client has left")
        raise


async def a_stream_with_errors_only(chain):
    try:
        async for token in chain.stream():
            yield token
    except Exception:
        logger.exception("the stream has ended")


async def a_stream_with_both(chain):
    try:
        async for token in chain.stream():
            yield token
    except asyncio.CancelledError:
        raise
    except BaseException:
        logger.exception("the stream has ended")


async def that_runs_until_it_is_stopped(queue):
    try:
        while True:
            await queue.handle()
    except asyncio.CancelledError:
        logger.info("stopped")


async def wait_for_the_end(task):
    task.cancel()
    await asyncio.wait([task])
    try:
        await task
    except asyncio.CancelledError:
        pass


async def keeps_it_for_later(waiter, task):
    stopped = None
    try:
        await asyncio.wait({waiter, task})
    except asyncio.CancelledError as error:
        stopped = error
    finally:
        waiter.cancel()
    if stopped is not None:
        raise stopped


async def goes_on_knowingly(model):
    try:
        return await model.ask()
    except asyncio.CancelledError:
        asyncio.current_task().uncancel()
        return None


def a_stream_without_a_loop(chain):
    try:
        yield from chain.stream()
    except BaseException:
        logger.exception("the stream has ended")
