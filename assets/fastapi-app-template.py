"""One FastAPI service on PostgreSQL that obeys the rules of this pack.

    pip install "fastapi>=0.121" "sqlalchemy[asyncio]>=2.0" "pydantic-settings>=2.11" \
        asyncpg httpx prometheus-client uvicorn
    cp fastapi-app-template.py app.py
    export SHOP_DATABASE_URL=postgresql+asyncpg://user:password@localhost/shop
    export PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)
    uvicorn app:app --workers 2 --no-access-log --timeout-graceful-shutdown 15 \
        --timeout-keep-alive 75 --proxy-headers --forwarded-allow-ips 127.0.0.1

- pydantic-settings before 2.11 takes DATABASE_URL in `.env`, which may be another program's, for
  SHOP_DATABASE_URL.
- Tables are a matter of Alembic. For a first try, SHOP_CREATE_TABLES=true makes them at the start.
- `--forwarded-allow-ips` names the address of the proxy, which sends X-Forwarded-Proto and
  X-Forwarded-For. uvicorn believes nobody else; behind a proxy that is not named, a redirect of an
  https request goes to http.
- `--timeout-keep-alive` is longer than the proxy keeps an idle connection: nginx closes after 60
  seconds. serving-keep-alive
- Each worker has a pool of its own. Whichever worker answers `/metrics` gives the sum of all: they
  share files in PROMETHEUS_MULTIPROC_DIR, a new folder for every start.
- After SIGTERM `/health/ready` answers 503, and all else is answered as before, for
  SHOP_DRAIN_TIME seconds. Then uvicorn takes no new connections, and after
  `--timeout-graceful-shutdown` seconds more it cancels what still runs. What is cancelled has
  SHOP_STOP_TIMEOUT seconds to clean up. Let nobody kill the service before the sum of the three.
  Ctrl-C skips the drain; for `--reload` set SHOP_DRAIN_TIME=0.

A name such as `fastapi-lifespan` in a comment is the rule behind it: rules/fastapi-lifespan.md.
"""

import asyncio
import json
import logging
import os
import re
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import responses
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast

import httpx
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from pydantic import (
    BaseModel,
    Field,
    HttpUrl,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PostgresDsn,
    model_validator,
)
from pydantic.networks import UrlConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import BigInteger, DateTime, MetaData, event, exc, text, update
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import AsyncAdaptedQueuePool, PoolProxiedConnection
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("app")
request_id: ContextVar[str] = ContextVar("request_id", default="-")


class Settings(BaseSettings):
    """SHOP_DATABASE_URL and so on, from the environment, else from `.env`; times in seconds.

    fastapi-settings.
    """

    model_config = SettingsConfigDict(
        env_prefix="SHOP_", env_file=".env", hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def leave_out_names_of_others(cls, given: dict[str, Any]) -> dict[str, Any]:
        """In `.env` stand names of other programs too; SHOP_POOL_SISE stops the start."""
        ours = {*cls.model_fields}
        return {key: given[key] for key in given if key in ours or key.startswith("shop_")}

    database_url: Annotated[PostgresDsn, UrlConstraints(allowed_schemes=["postgresql+asyncpg"])]
    create_tables: bool = False
    # The pool, and one for the health check: over all processes fewer than the server's
    # max_connections. pooling-server-limit
    pool_size: PositiveInt = 10
    max_overflow: NonNegativeInt = 0
    pool_timeout: PositiveFloat = 1  # less than the caller waits. pooling-database
    pool_recycle: PositiveInt = 180  # less than a firewall waits. pooling-stale-connections
    connect_timeout: PositiveFloat = 5
    statement_timeout: PositiveFloat = 5  # the server ends a slow statement: 500
    lock_timeout: PositiveFloat = 3  # and one that waits for another's lock
    idle_timeout: PositiveFloat = 10  # and a transaction that does nothing: sqlalchemy-time-limits
    silence_timeout: PositiveFloat = 7  # longer: the server has not even ended it: 503
    ready_timeout: PositiveFloat = 0.8  # less than the orchestrator's probe waits
    drain_time: NonNegativeFloat = 5  # longer than a load balancer needs to see a 503
    stop_timeout: PositiveFloat = 5  # for the clean-up of requests that uvicorn cancelled
    http_timeout: PositiveFloat = 5
    max_body: PositiveInt = 1_000_000  # bytes
    trust_request_id: bool = False  # true where the proxy sets or removes X-Request-ID itself
    webhook_url: HttpUrl | None = None  # is told of every order
    # A JSON list. No "*", and no slash at the end of an origin. fastapi-cors
    cors_origins: tuple[Annotated[str, Field(pattern=r"^https?://[^/*]+$")], ...] = ()


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


class UnavailableError(Exception):
    """The database cannot be asked now; the cause says why."""


def is_unavailable(error: BaseException) -> bool:
    """Whether the error says so: starting or ending (57P0x), full, not reachable, or silent."""
    # A TimeoutError is an OSError. asyncpg's errors come bare while it connects.
    sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
    return isinstance(error, OSError) or sqlstate.startswith(("08", "53300", "57P0"))


def on_statement_error(context: ExceptionContext) -> Exception | None:
    # Errors of other classes keep theirs: a partner's TimeoutError says nothing of the database.
    error = context.original_exception
    lost = context.is_disconnect and isinstance(error, Exception)  # not a CancelledError
    if context.connection is None or not (lost or is_unavailable(error)):
        return None  # without a connection it is the pool's ping, which replaces a dead one
    return UnavailableError()


class Pool(AsyncAdaptedQueuePool):
    """Measures the wait for a connection, and says where there is none. pooling-tuning."""

    def connect(self) -> PoolProxiedConnection:
        try:
            with pool_waiting.track_inprogress(), pool_wait.time():
                return super().connect()
        except Exception as error:
            if is_unavailable(error):
                raise UnavailableError from error
            raise


# With several workers each writes files, and whichever is asked sums them up.
metrics_folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
registry = CollectorRegistry()
if metrics_folder:
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
own = None if metrics_folder else registry
# Where those in use stay at the limit and requests wait, the pool is exhausted.
pool_limit = Gauge(
    "db_pool_limit", "Connections it may open.", registry=own, multiprocess_mode="livesum"
)
pool_checked_out = Gauge(
    "db_pool_checked_out", "Connections in use.", registry=own, multiprocess_mode="livesum"
)
pool_waiting = Gauge(
    "db_pool_waiting", "Tasks that wait for one.", registry=own, multiprocess_mode="livesum"
)
pool_wait = Histogram("db_pool_wait_seconds", "The wait for a connection.", registry=own)


def forget_killed_workers(folder: str) -> None:
    """A worker that was killed has no connections any more."""
    for path in Path(folder).glob("gauge_live*.db"):
        pid = int(path.stem.rsplit("_", 1)[1])
        try:
            os.kill(pid, 0)  # sends nothing
        except OSError:  # there is none, or it is somebody else's by now
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def make_engine(settings: Settings) -> AsyncEngine:
    """Bounded in everything. pooling-database, pooling-stale-connections."""
    engine = create_async_engine(
        str(settings.database_url),
        poolclass=Pool,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_timeout=settings.pool_timeout,
        pool_recycle=settings.pool_recycle,
        pool_pre_ping=True,
        connect_args={
            "timeout": settings.connect_timeout,
            "command_timeout": settings.silence_timeout,
            # PgBouncer refuses these: set them in its configuration and with ALTER ROLE.
            "server_settings": {
                "statement_timeout": f"{settings.statement_timeout * 1000:.0f}",  # ms
                "lock_timeout": f"{settings.lock_timeout * 1000:.0f}",
                "idle_in_transaction_session_timeout": f"{settings.idle_timeout * 1000:.0f}",
                "tcp_keepalives_idle": "60",  # no firewall on the way forgets the connection
            },
        },
        hide_parameters=True,  # PostgreSQL's DETAIL may still log a value
    )
    event.listen(engine.sync_engine, "handle_error", on_statement_error)
    pool = cast("Pool", engine.pool)
    pool_limit.set(settings.pool_size + settings.max_overflow)
    event.listen(pool, "checkout", lambda *_: pool_checked_out.set(pool.checkedout()))
    # When it is called, the connection is still counted.
    event.listen(pool, "checkin", lambda *_: pool_checked_out.set(pool.checkedout() - 1))
    return engine


# Requests with their background tasks, and looks at the database: the lifespan waits for them.
running: set[asyncio.Task[Any]] = set()


@dataclass
class Readiness:
    """Asks the database over a connection of its own, once for all who ask at the same time.

    A busy pool is no reason to be not ready: all processes are busy together, and would all be
    taken out of service. fastapi-health-checks.
    """

    probe: AsyncEngine
    timeout: float
    draining: bool = False
    _look: asyncio.Task[bool] | None = None

    async def database(self) -> bool:
        look = self._look
        if look is None or look.done():
            look = self._look = asyncio.create_task(self._ask())
            running.add(look)
            look.add_done_callback(running.discard)
        # It goes on where who waits is cancelled, and while a silent connection is being closed.
        await asyncio.wait({look}, timeout=self.timeout)
        return look.done() and look.result()

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(self.timeout), self.probe.connect():
                return True  # pool_pre_ping has asked
        except Exception as error:
            logger.warning("not ready: %r", error)
            return False


def drain_on_sigterm(readiness: Readiness, seconds: float) -> None:
    """Be not ready for a while, so that no new requests come; then let the server stop."""
    stop = signal.getsignal(signal.SIGTERM)
    if not callable(stop):
        return  # no server waits for the signal, as in a test

    loop = asyncio.get_running_loop()

    def drain(number: int, frame: Any) -> None:
        readiness.draining = True
        loop.call_soon_threadsafe(loop.call_later, seconds, stop, number, None)

    signal.signal(signal.SIGTERM, drain)


async def wait_for_running(seconds: float) -> None:
    """uvicorn does not wait for what it has cancelled, and that may use what is closed next."""
    if running:
        _, late = await asyncio.wait(running, timeout=seconds)
        for task in late:
            logger.error("still running: %r", task)


@dataclass(frozen=True)
class Resources:
    settings: Settings
    sessions: async_sessionmaker[AsyncSession]
    http: httpx.AsyncClient
    readiness: Readiness


async def close(resource: str, closing: Callable[[], Awaitable[None]]) -> None:
    await closing()
    logger.info("closed", extra={"fields": {"resource": resource}})


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Make what all requests share; the stack closes it, the last first. fastapi-lifespan."""
    configure_logging()
    settings = Settings.model_validate({})  # not at import: uvicorn would start it over and over
    if metrics_folder:
        forget_killed_workers(metrics_folder)
    async with AsyncExitStack() as stack:
        # Not at import: an engine belongs to one process and one loop. pooling-engine-lifetime
        engine = make_engine(settings)
        stack.push_async_callback(close, "engine", engine.dispose)
        probe = create_async_engine(str(settings.database_url), pool_pre_ping=True)
        stack.push_async_callback(close, "probe", probe.dispose)
        cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # keeps none
        http = httpx.AsyncClient(timeout=settings.http_timeout, cookies=cookies)  # pooling-http
        stack.push_async_callback(close, "http", http.aclose)
        stack.push_async_callback(wait_for_running, settings.stop_timeout)
        if settings.create_tables:
            async with engine.begin() as connection:
                # Of several workers one makes them, and the others wait until it has.
                await connection.execute(text("SELECT pg_advisory_xact_lock(4711)"))
                await connection.run_sync(Base.metadata.create_all)
        # Values stay readable after the commit. sqlalchemy-expire-on-commit
        sessions = async_sessionmaker(engine, expire_on_commit=False)
        readiness = Readiness(probe, settings.ready_timeout)
        drain_on_sigterm(readiness, settings.drain_time)
        api.state.resources = Resources(settings, sessions, http, readiness)
        api.state.stack = in_middleware(api, settings)
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


@api.exception_handler(AnyHTTPException)  # not FastAPI's: the router's 404 and 405 are no such
async def on_http_error(request: Request, error: AnyHTTPException) -> Response:
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


# By the constraint: another one that is violated is a fault of ours, a 500.
CONFLICTS = {"uq_orders_number": "There is an order with this number."}


@api.exception_handler(exc.IntegrityError)
async def on_conflict(request: Request, error: exc.IntegrityError) -> Response:
    cause = getattr(error.orig, "__cause__", None)  # asyncpg's error
    constraint = getattr(cause, "constraint_name", None)
    if constraint not in CONFLICTS:
        raise error
    return problem(409, detail=CONFLICTS[constraint])


@api.exception_handler(UnavailableError)
async def on_unavailable(request: Request, error: UnavailableError) -> Response:
    logger.warning("the database is not available: %r", error.__cause__)
    return problem(503, {"Retry-After": "1"}, detail="The database is not available.")


@api.exception_handler(exc.TimeoutError)  # no connection of the pool was free in time
async def on_busy(request: Request, error: exc.TimeoutError) -> Response:
    return problem(503, {"Retry-After": "1"}, detail="The service is busy.")


@api.exception_handler(Exception)  # LoggingMiddleware logs the traceback
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
        url = str(shared.settings.webhook_url)
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
    if shared.settings.webhook_url:
        tasks.add_task(notify, shared, order.id, order.number)
    return order


@api.get("/orders/{order_id}", response_model=OrderOut)
async def read_order(order_id: BigInt, orders: Orders) -> Order:
    return await orders.get(order_id)


GET_AND_HEAD = ["GET", "HEAD"]


@api.api_route("/health/live", methods=GET_AND_HEAD, include_in_schema=False)
async def live() -> dict[str, str]:
    return {"process": "up"}  # asks nothing: a restart does not mend a database


@api.api_route("/health/ready", methods=GET_AND_HEAD, include_in_schema=False)
async def ready(shared: Shared, response: Response) -> dict[str, str]:
    if shared.readiness.draining:
        response.status_code = 503
        return {"process": "draining"}
    up = await shared.readiness.database()
    response.status_code = 200 if up else 503
    return {"database": "up" if up else "down"}


@api.get("/metrics", include_in_schema=False)
def metrics() -> Response:  # in a thread, since it reads files
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


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
    logging.getLogger("uvicorn").handlers = [handler]
    logging.getLogger("httpx").setLevel(logging.WARNING)  # INFO has the webhook's whole address


@dataclass
class RunningMiddleware:
    """Knows the tasks of all requests, for `wait_for_running`."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] == "lifespan" or task is None:
            return await self.app(scope, receive, send)
        running.add(task)
        try:
            await self.app(scope, receive, send)
        finally:
            running.discard(task)


@dataclass
class RequestIDMiddleware:
    app: ASGIApp
    trusts_given: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        chosen = uuid.uuid4().hex
        if self.trusts_given:
            given = Headers(scope=scope).get("X-Request-ID", "")
            chosen = given if re.fullmatch(r"[0-9A-Za-z._-]{8,128}", given) else chosen

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = chosen
            await send(message)

        # Not reset: what uvicorn logs after this, in the same task, has the id too.
        request_id.set(chosen)
        return await self.app(scope, receive, send_with_id)


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
        complete = False

        async def send_and_see(message: Message) -> None:
            nonlocal complete
            if message["type"] == "http.response.start":
                line["status"] = message["status"]
            await send(message)
            complete = message["type"] == "http.response.body" and not message.get("more_body")
            # Here, since background tasks run on after the body.
            line["ms"] = round((time.perf_counter() - started) * 1000, 1)

        try:
            return await self.app(scope, receive, send_and_see)
        except BaseException as error:  # CancelledError too
            line["error"] = type(error).__name__
            if not complete or not isinstance(error, Exception):
                raise  # uvicorn logs it, and ends the connection, so that the client sees it
            # Here it goes no further: uvicorn would end the connection, on which the client may
            # have sent its next request.
            logger.exception("the request failed")
        finally:
            logger.info("request", extra={"fields": line})


@dataclass
class BodyLimitMiddleware:
    """Counts what is received, since a request need not say how long its body is."""

    app: ASGIApp
    limit: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        received = 0

        async def receive_and_count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                # Of FastAPI's class: of any other error in a body it makes a 400.
                raise HTTPException(413, f"The limit is {self.limit} bytes.")
            return message

        return await self.app(scope, receive_and_count, send)


def in_middleware(api: ASGIApp, settings: Settings) -> ASGIApp:
    """Put layers around the app, all of them pure ASGI; the last one here is the outermost.

    A layer in the app does not see the answer to an unhandled error. Around it, a 500 too has an
    id, a log line with this id, and CORS headers. fastapi-middleware, fastapi-pure-asgi
    """
    limited = BodyLimitMiddleware(api, settings.max_body)
    logged = TimingMiddleware(LoggingMiddleware(limited))
    identified = RequestIDMiddleware(logged, settings.trust_request_id)
    return CORSMiddleware(
        RunningMiddleware(identified),
        allow_origins=settings.cors_origins,
        allow_credentials=True,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization"],
        expose_headers=["X-Request-ID"],
    )


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The lifespan comes first, and makes the layers, which need the settings."""
    await (api if scope["type"] == "lifespan" else api.state.stack)(scope, receive, send)
