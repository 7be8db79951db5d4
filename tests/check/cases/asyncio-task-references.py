import asyncio
import asyncio as aio
from asyncio import create_task, ensure_future


async def dropped(order_id):
    asyncio.create_task(send(order_id), name="send")  # finds
    aio.ensure_future(send(order_id))  # finds
    create_task(send(order_id))  # finds


def by_the_loop(order_id):
    asyncio.get_running_loop().create_task(send(order_id))  # finds
    loop = asyncio.get_event_loop()
    if order_id:
        loop.create_task(send(order_id))  # finds


def with_a_callback(order_id):
    asyncio.create_task(send(order_id)).add_done_callback(log)  # finds
    for each in order_id:
        task = ensure_future(send(each))  # finds
        task.add_done_callback(log)


async def never_looked_at():
    heartbeat = asyncio.create_task(beat())  # finds
    await work()


async def kept(self, order_id):
    task = asyncio.create_task(send(order_id))
    self.tasks.add(task)
    task.add_done_callback(self.tasks.discard)
    self.tasks.append(asyncio.create_task(send(order_id)))
    self.task = asyncio.create_task(send(order_id))
    tasks = [asyncio.create_task(send(each)) for each in order_id]
    await asyncio.wait(tasks)


async def awaited(order_id):
    task = asyncio.create_task(send(order_id))
    await other()
    await task
    await asyncio.create_task(send(order_id))


async def cancelled_at_the_end():
    heartbeat = asyncio.create_task(beat())
    try:
        await work()
    finally:
        heartbeat.cancel()


async def held_by_a_group(order_id):
    async with asyncio.TaskGroup() as group:
        group.create_task(send(order_id))
        for each in order_id:
            group.create_task(send(each))


def returned(order_id):
    task = asyncio.create_task(send(order_id))
    return task


def held_by_the_module():
    global watcher
    watcher = asyncio.create_task(watch())


def another_create_task(create_task, order_id):
    create_task(order_id)


async def a_stream(chain, callback):
    task = asyncio.create_task(chain.run(callback))  # finds
    async for token in callback.tokens():
        yield token
    await task


@asynccontextmanager
async def lifespan(app):
    app.state.cleaner = asyncio.create_task(clean_up())  # finds
    yield
    app.state.cleaner.cancel()


def from_a_thread(loop, session):
    loop.call_soon_threadsafe(lambda: asyncio.create_task(session.close()))  # finds


async def a_stream_that_ends_its_task(chain, callback):
    task = asyncio.create_task(chain.run(callback))
    try:
        async for token in callback.tokens():
            yield token
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def lifespan_that_waits(app):
    app.state.cleaner = asyncio.create_task(clean_up())
    yield
    app.state.cleaner.cancel()
    await asyncio.wait([app.state.cleaner])


def a_factory_of_tasks(start):
    start(lambda: asyncio.create_task(work()))
    return asyncio.run_coroutine_threadsafe(work(), start.loop)
