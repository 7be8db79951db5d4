import asyncio
from asyncio import shield
from contextlib import asynccontextmanager

import anyio
from fastapi.responses import StreamingResponse
from sse_starlette.sse import EventSourceResponse


async def a_lock_in_redis(name):
    lock = redis.lock(name, timeout=30)
    await lock.acquire()
    try:
        await work(name)
    finally:
        await lock.release()  # finds


async def a_row_that_is_claimed(job):
    await job.claim()
    try:
        await work(job)
    finally:
        if job.mine:
            await jobs.release_claim(job.id, owner=job.owner)  # finds


async def an_advisory_lock(session, key):
    try:
        await session.execute(lock(key))
        await work(key)
    finally:
        await advisory_unlock(session, key)  # finds


async def in_a_shield(account):
    try:
        await work(account)
    finally:
        await shield(put(account))


async def events(room):
    queue = await room.join()
    try:
        while True:
            yield await queue.get()
    finally:
        await room.leave(queue)  # finds


async def lines(path):
    source = await open_file(path)
    try:
        async for line in source:
            yield line
    finally:
        with suppress(OSError):
            await source.close()  # finds


@app.get("/events")
async def read_events(room: Room):
    return EventSourceResponse(events(room))


@app.get("/lines")
async def read_lines(path: str):
    return StreamingResponse(content=lines(path), media_type="text/plain")


async def shielded_lines(path):
    source = await open_file(path)
    try:
        async for line in source:
            yield line
    finally:
        with anyio.CancelScope(shield=True):
            await source.close()


@app.get("/shielded")
async def read_shielded_lines(path: str):
    return StreamingResponse(shielded_lines(path))


async def no_stream_of_a_response(path):
    source = await open_file(path)
    try:
        async for line in source:
            yield line
    finally:
        await source.close()  # finds


@asynccontextmanager
async def opened(path):
    source = await open_file(path)
    try:
        yield source
    finally:
        await source.close()


async def in_a_task_of_its_own(account, owner):
    try:
        await lock(account, owner)
        await work(account)
    finally:
        await finish(unlock(account, owner))


async def a_connection_of_a_pool(pool):
    connection = await pool.acquire()
    try:
        await connection.execute("SELECT 1")
    finally:
        await pool.release(connection)


async def without_an_await(semaphore):
    await semaphore.acquire()
    try:
        await work(1)
    finally:
        semaphore.release()


async def no_clean_up(lock):
    await work(1)
    await lock.release()


async def waited_for_in_a_loop(account):
    task = asyncio.create_task(put(account))
    try:
        await work(account)
    finally:
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                stopped = True
        if stopped:
            raise asyncio.CancelledError


async def released_without_being_taken(key):
    semaphore = semaphores[key]
    try:
        await semaphore.acquire()  # finds
        return await ask(key)
    finally:
        semaphore.release()


async def each_file(paths):
    try:
        return [await transcribe(path) for path in paths]
    finally:
        for path in paths:
            await asyncio.to_thread(os.remove, path)  # finds


async def each_client(clients):
    try:
        await serve(clients)
    finally:
        for client in clients:
            try:
                await client.disconnect()  # finds
            except Exception:
                logger.exception("not disconnected")


async def taken_before(key):
    semaphore = semaphores[key]
    await semaphore.acquire()
    try:
        return await ask(key)
    finally:
        semaphore.release()


async def taken_by_with(key):
    async with semaphores[key]:
        return await ask(key)


async def all_at_once(clients):
    try:
        await serve(clients)
    finally:
        await asyncio.gather(*[client.disconnect() for client in clients], return_exceptions=True)
        for client in clients:
            await asyncio.shield(client.disconnect())
            client.forget()


async def get_session():
    session = make()
    try:
        yield session
    finally:
        await session.close()
