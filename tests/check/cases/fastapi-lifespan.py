import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from fastapi import FastAPI
from fastapi import FastAPI as Application
from starlette.applications import Starlette


@contextlib.asynccontextmanager
async def two_closes(app: FastAPI) -> AsyncIterator[None]:
    app.state.engine = make_engine()
    app.state.client = httpx.AsyncClient()
    yield
    logger.info("stopping")
    await app.state.client.aclose()  # finds
    await app.state.engine.dispose()


@asynccontextmanager
async def untyped(_app):
    pool = await create_pool()
    await fill_cache(pool)
    yield {"pool": pool}
    await pool.close()  # finds


first = FastAPI(lifespan=untyped)


@asynccontextmanager
async def opened_in_turn(app: Application) -> AsyncIterator[None]:
    consumer = await start_consumer()
    producer = await start_producer()
    try_something()
    yield
    # the consumer first
    await consumer.stop()  # finds
    await producer.stop()


@first.on_event("startup")  # finds
async def on_startup() -> None:
    await fill_cache()


first.add_event_handler("shutdown", stop)  # finds

second = Starlette(routes, on_startup=[start], lifespan=untyped)  # finds


@asynccontextmanager
async def on_a_stack(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        engine = make_engine()
        stack.push_async_callback(engine.dispose)
        await ask(engine)
        yield
        logger.info("stopping")


@asynccontextmanager
async def one_resource(app: FastAPI) -> AsyncIterator[None]:
    app.state.engine = make_engine()
    yield
    await app.state.engine.dispose()


@asynccontextmanager
async def nothing_open_when_it_fails(app: FastAPI) -> AsyncIterator[None]:
    logger.info("starting")
    await migrate()
    pool = await create_pool(make_settings())
    app.state.pool = pool
    yield
    await pool.close()


@asynccontextmanager
async def nested(app: FastAPI) -> AsyncIterator[None]:
    engine = make_engine()
    try:
        await ask(engine)
        async with httpx.AsyncClient() as client:
            app.state.client = client
            yield
    finally:
        await engine.dispose()


@asynccontextmanager
async def only_at_the_start(app: FastAPI) -> AsyncIterator[None]:
    await fill_cache()
    await warm_up()
    yield
    logger.info("stopping")


@asynccontextmanager
async def of_no_app(url: str) -> AsyncIterator[object]:
    connection = await connect(url)
    await connection.ping()
    yield connection
    await connection.flush()
    await connection.close()


third = FastAPI(lifespan=None)


@third.on_event("startup")
async def is_called() -> None:
    await fill_cache()


fourth = FastAPI(on_startup=[fill_cache])


@router.on_event("startup")
async def of_a_router() -> None:
    await fill_cache()


@asynccontextmanager
async def opens_and_leaves(app: FastAPI) -> AsyncIterator[None]:
    app.state.cache = Redis.from_url(url)  # finds
    yield


@asynccontextmanager
async def takes_it_from_a_stack(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        app.state.cache = Redis.from_url(url)
        stack.push_async_callback(app.state.cache.aclose)
        yield


@asynccontextmanager
async def keeps_what_is_given(app: FastAPI) -> AsyncIterator[None]:
    app.state.settings = Settings()
    yield
