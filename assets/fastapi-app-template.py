"""One FastAPI service on PostgreSQL that obeys the rules of this pack.

    pip install "fastapi>=0.121" "sqlalchemy[asyncio]>=2.0" asyncpg pydantic-settings httpx \
        prometheus-client uvicorn
    cp fastapi-app-template.py app.py
    export DATABASE_URL=postgresql+asyncpg://user:password@localhost/shop
    uvicorn app:app --no-access-log --timeout-graceful-shutdown 30

Tables are a matter of Alembic; for a first try, CREATE_TABLES=true makes them at the start.
A name such as `fastapi-lifespan` in a comment is the rule behind it: rules/fastapi-lifespan.md.
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import responses
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Annotated, Any, Generic, TypeVar, cast

import httpx
from fastapi import BackgroundTasks, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from pydantic import BaseModel, Field, HttpUrl, PositiveFloat, PositiveInt, PostgresDsn
from pydantic.networks import UrlConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import BigInteger, DateTime, MetaData, exc, text, update
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import QueuePool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("app")
request_id: ContextVar[str] = ContextVar("request_id", default="-")


class Settings(BaseSettings):
    """Each from the environment, else from `.env`; times in seconds. fastapi-settings."""

    model_config = SettingsConfigDict(env_file=".env", hide_input_in_errors=True)

    database_url: Annotated[PostgresDsn, UrlConstraints(allowed_schemes=["postgresql+asyncpg"])]
    create_tables: bool = False
    # The pool, and one for the health check: over all processes fewer than the server's
    # max_connections. pooling-server-limit
    pool_size: PositiveInt = 10
    max_overflow: int = Field(0, ge=0)
    pool_timeout: PositiveFloat = 1  # less than the caller waits. pooling-database
    pool_recycle: PositiveInt = 240  # less than a firewall waits. pooling-stale-connections
    connect_timeout: PositiveFloat = 5
    command_timeout: PositiveFloat = 5  # for each statement, and the ping of a silent connection
    ready_timeout: PositiveFloat = 2  # with 2 s to close, less than the orchestrator's probe waits
    http_timeout: PositiveFloat = 5
    webhook_url: HttpUrl | None = None  # is told of every order
    # A JSON list. No "*", and no slash at the end of an origin. fastapi-cors
    cors_origins: tuple[Annotated[str, Field(pattern=r"^https?://[^/*]+$")], ...] = ()


settings = Settings.model_validate({})  # here: a fault stops the start, not the first request


class Base(DeclarativeBase):
    """Times have a zone, constraints have names. sqlalchemy-timestamps, sqlalchemy-migrations."""

    type_annotation_map = {datetime: DateTime(timezone=True), int: BigInteger}
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))
    notified_at: Mapped[datetime | None]
    # A relation would be `relationship(lazy="raise")`. sqlalchemy-relationships


Model = TypeVar("Model", bound=Base)


class Repository(Generic[Model]):
    """Flushes, and leaves the commit to whoever opened the session. sqlalchemy-repository."""

    def __init__(self, session: AsyncSession, model: type[Model]) -> None:
        self._session = session
        self._model = model

    async def add(self, item: Model) -> Model:
        self._session.add(item)
        await self._session.flush()
        return item

    async def get(self, key: int) -> Model | None:
        return await self._session.get(self._model, key)


@dataclass(frozen=True)
class Resources:
    engine: AsyncEngine
    probe: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    http: httpx.AsyncClient
    metrics: CollectorRegistry


def pool_metrics(pool: QueuePool) -> CollectorRegistry:
    """Where those in use stay at the limit, requests wait. pooling-tuning."""
    registry = CollectorRegistry()
    limit = Gauge("db_pool_limit", "Connections that the pool may open.", registry=registry)
    limit.set(settings.pool_size + settings.max_overflow)
    used = Gauge("db_pool_checked_out", "Connections in use.", registry=registry)
    used.set_function(pool.checkedout)
    idle = Gauge("db_pool_idle", "Connections that are open and not in use.", registry=registry)
    idle.set_function(pool.checkedin)
    return registry


async def close(resource: str, closing: Callable[[], Awaitable[None]]) -> None:
    await closing()
    logger.info("closed", extra={"fields": {"resource": resource}})


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Make what all requests share; the stack closes it, the last first. fastapi-lifespan."""
    configure_logging()
    url = str(settings.database_url)
    timeouts = {"timeout": settings.connect_timeout, "command_timeout": settings.command_timeout}
    async with AsyncExitStack() as stack:
        # Not at import: an engine belongs to one process and one loop. pooling-engine-lifetime
        engine = create_async_engine(
            url,
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            pool_timeout=settings.pool_timeout,
            pool_recycle=settings.pool_recycle,
            pool_pre_ping=True,
            connect_args=timeouts,
            hide_parameters=True,  # PostgreSQL's DETAIL may still log a value
        )
        stack.push_async_callback(close, "engine", engine.dispose)
        # Of one connection: with NullPool a flood of checks takes all that the server has.
        probe = create_async_engine(
            url, pool_size=1, max_overflow=0, pool_pre_ping=True, connect_args=timeouts
        )
        stack.push_async_callback(close, "probe", probe.dispose)
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=20)
        cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # keeps none
        http = httpx.AsyncClient(  # pooling-http
            timeout=settings.http_timeout, limits=limits, cookies=cookies
        )
        stack.push_async_callback(close, "http", http.aclose)
        if settings.create_tables:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
        # Values stay readable after the commit. sqlalchemy-expire-on-commit
        sessions = async_sessionmaker(engine, expire_on_commit=False)
        metrics = pool_metrics(cast("QueuePool", engine.pool))
        api.state.resources = Resources(engine, probe, sessions, http, metrics)
        yield


class Problem(BaseModel):
    """RFC 9457, with the request's id. fastapi-problem-details."""

    title: str
    status: int
    detail: str | None = None
    request_id: str
    errors: list[dict[str, str]] | None = None


PROBLEM_JSON = "application/problem+json"
documented = {"content": {PROBLEM_JSON: {"schema": Problem.model_json_schema()}}}
api = FastAPI(lifespan=lifespan, responses={"default": {"description": "Problem", **documented}})


def problem(status: int, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
    title = responses.get(status, "Error")
    body = Problem(title=title, status=status, request_id=request_id.get(), **members)
    return Response(body.model_dump_json(exclude_none=True), status, headers, PROBLEM_JSON)


@api.exception_handler(HTTPException)  # Starlette's, since the router's 404 and 405 are of it
async def on_http_error(request: Request, error: HTTPException) -> Response:
    if error.status_code in {204, 304}:  # no body may follow
        return Response(status_code=error.status_code, headers=error.headers)
    return problem(error.status_code, error.headers, detail=str(error.detail))


@api.exception_handler(RequestValidationError)
async def on_invalid_request(request: Request, error: RequestValidationError) -> Response:
    # Not error.errors() as it is: that repeats the input, a password too.
    errors = [
        {"detail": each["msg"], "location": "/".join(map(str, each["loc"]))}
        for each in error.errors()
    ]
    return problem(422, detail="The request is not valid.", errors=errors)


@api.exception_handler(exc.IntegrityError)
async def on_conflict(request: Request, error: exc.IntegrityError) -> Response:
    if getattr(error.orig, "sqlstate", None) != "23505":  # unique_violation
        raise error
    return problem(409, detail="It exists already.")


@api.exception_handler(exc.TimeoutError)  # the pool is exhausted. pooling-database
@api.exception_handler(TimeoutError)  # the server does not answer
@api.exception_handler(ConnectionError)  # nobody listens; asyncpg raises it bare
async def on_unavailable(request: Request, error: Exception) -> Response:
    return problem(503, {"Retry-After": "1"}, detail="The database is not available.")


@api.exception_handler(Exception)  # uvicorn logs the traceback
async def on_unhandled(request: Request, error: Exception) -> Response:
    return problem(500)


async def get_resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


Shared = Annotated[Resources, Depends(get_resources)]


async def get_session(shared: Shared) -> AsyncIterator[AsyncSession]:
    """One for each request, committed where it succeeds. sqlalchemy-sessions."""
    async with shared.sessions.begin() as session:
        yield session


# Without function scope the commit runs after the response: where it fails, a 200 is a lie.
# fastapi-transaction-scope
Session = Annotated[AsyncSession, Depends(get_session, scope="function")]


class OrderService:
    def __init__(self, session: AsyncSession) -> None:
        self._orders = Repository(session, Order)

    async def place(self, number: int) -> Order:
        # No look whether it exists: only the unique constraint sees a request beside this one.
        return await self._orders.add(Order(number=number))

    async def get(self, order_id: int) -> Order:
        if order := await self._orders.get(order_id):
            return order
        raise HTTPException(404, "There is no such order.")


# Not Depends(OrderService): arguments of its constructor would be of the API. fastapi-dependencies
async def get_orders(session: Session) -> OrderService:
    return OrderService(session)


Orders = Annotated[OrderService, Depends(get_orders)]
BigInt = Annotated[int, Field(gt=0, lt=2**63)]  # a larger one would be a 500 of the database


class OrderIn(BaseModel):
    number: BigInt


class OrderOut(BaseModel):
    id: int
    number: int
    created_at: datetime


async def notify(shared: Resources, order_id: int, number: int) -> None:
    """Run after the response: own session, own error handling. fastapi-background."""
    try:
        # Without a connection in hand. pooling-held-connections
        headers = {"Idempotency-Key": f"order-{order_id}", "X-Request-ID": request_id.get()}
        url = str(settings.webhook_url)
        response = await shared.http.post(url, json={"number": number}, headers=headers)
        if not response.is_success:  # raise_for_status() would put the secret address in the log
            status = response.status_code
            return logger.error("the webhook was not told of order %d: %d", order_id, status)
        notified = update(Order).where(Order.id == order_id).values(notified_at=datetime.now(UTC))
        async with shared.sessions.begin() as session:
            await session.execute(notified)
    except Exception:
        logger.exception("the webhook was not told of order %d", order_id)


# Both send the fields of OrderOut and no others. fastapi-response-models
@api.post("/orders", status_code=201, response_model=OrderOut)
async def add_order(body: OrderIn, orders: Orders, shared: Shared, tasks: BackgroundTasks) -> Order:
    order = await orders.place(body.number)
    if settings.webhook_url:
        tasks.add_task(notify, shared, order.id, order.number)
    return order


@api.get("/orders/{order_id}", response_model=OrderOut)
async def read_order(order_id: BigInt, orders: Orders) -> Order:
    return await orders.get(order_id)


@api.get("/health/live", include_in_schema=False)
async def live() -> dict[str, str]:
    return {"process": "up"}  # asks nothing: a restart does not mend a database


async def state(engine: AsyncEngine) -> str:
    try:
        async with asyncio.timeout(settings.ready_timeout), engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except Exception as error:
        logger.warning("not ready: %r", error)
        return "down"
    return "up"


@api.get("/health/ready", include_in_schema=False)
async def ready(shared: Shared, response: Response) -> dict[str, str]:
    """Ask the database over a connection of its own. fastapi-health-checks."""
    # And the pool, since every route needs it. Without "pool" a busy process stays ready: choose
    # that where all processes would be busy at once.
    engines = {"database": shared.probe, "pool": shared.engine}
    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(state(engine)) for name, engine in engines.items()}
    states = {name: task.result() for name, task in tasks.items()}
    response.status_code = 503 if "down" in states.values() else 200
    return states


@api.get("/metrics", include_in_schema=False)
async def metrics(shared: Shared) -> Response:
    return Response(generate_latest(shared.metrics), media_type=CONTENT_TYPE_LATEST)


class JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # INFO has the webhook's whole address


@dataclass
class RequestIDMiddleware:
    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id.get()
            await send(message)

        token = request_id.set(uuid.uuid4().hex)
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            request_id.reset(token)


@dataclass
class TimingMiddleware:
    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = time.perf_counter()

        async def send_with_time(message: Message) -> None:
            if message["type"] == "http.response.start":
                took = (time.perf_counter() - started) * 1000
                MutableHeaders(scope=message)["Server-Timing"] = f"app;dur={took:.1f}"
            await send(message)

        return await self.app(scope, receive, send_with_time)


@dataclass
class LoggingMiddleware:
    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = time.perf_counter()
        line = {"method": scope["method"], "path": scope["path"], "status": None}

        async def send_and_see(message: Message) -> None:
            if message["type"] == "http.response.start":
                line["status"] = message["status"]
            await send(message)
            # Here, since background tasks run on after the body.
            line["ms"] = round((time.perf_counter() - started) * 1000, 1)

        try:
            return await self.app(scope, receive, send_and_see)
        except Exception as error:
            line["error"] = type(error).__name__
            raise
        finally:
            logger.info("request", extra={"fields": line})


# The outermost first, and pure ASGI. They stand around the app: what stands in it does not see the
# answer to an unhandled error. So a 500 too has an id, a log line with this id, and CORS headers.
# fastapi-middleware, fastapi-pure-asgi, fastapi-cors
app = CORSMiddleware(
    RequestIDMiddleware(TimingMiddleware(LoggingMiddleware(api))),
    allow_origins=settings.cors_origins,
    allow_credentials=True,
    allow_methods=["GET", "POST"],
    allow_headers=["Authorization", "Content-Type"],
    expose_headers=["X-Request-ID"],
)
