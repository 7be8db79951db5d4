import os

from fastapi import FastAPI
from sqlalchemy import create_engine, exc
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

app = FastAPI()
engine = create_async_engine(os.environ["DATABASE_URL"], echo=False)  # finds
reports = create_async_engine(settings.reports_url)  # finds
SessionFactory = async_sessionmaker(create_async_engine(url, connect_args={"ssl": True}))  # finds
synchronous = create_engine(str(settings.database_url))  # finds


@app.exception_handler(DBAPIError)
@app.exception_handler(TimeoutError)  # finds
async def busy(request: Request, error: Exception) -> Response:
    return Response(status_code=503)


bounded = create_async_engine(url, pool_size=10, max_overflow=0, pool_timeout=1)
without_a_pool = create_async_engine(url, poolclass=NullPool)
by_settings = create_async_engine(url, **settings.engine)
a_file = create_async_engine("sqlite+aiosqlite:///app.db")


def made_where_it_is_configured(url: str) -> AsyncEngine:
    return create_async_engine(url)


@app.exception_handler(exc.IntegrityError)
async def conflict(request: Request, error: Exception) -> Response:
    return Response(status_code=409)


class Vectors:
    engine = create_engine(url, pool_size=10)  # finds


def make_engine(url: str) -> AsyncEngine:
    return create_async_engine(url, pool_pre_ping=True)  # finds


with_timeouts = create_async_engine(url, pool_size=5, connect_args={"timeout": 5, "command_timeout": 5})
