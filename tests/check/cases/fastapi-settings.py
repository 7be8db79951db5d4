import json
import os
from functools import lru_cache
from os import environ, getenv

from fastapi import APIRouter, Depends, FastAPI
from pydantic import PostgresDsn
from pydantic_settings import BaseSettings
from sqlalchemy.ext.asyncio import create_async_engine

router = APIRouter()
URL = os.environ["ORDERS_URL"]
DEBUG = bool(os.getenv("DEBUG", "False"))  # finds
TRACE = bool(environ.get("TRACE", 0))  # finds


class Settings(BaseSettings):
    database_url: PostgresDsn
    replica_url: str


settings = Settings()
engine = create_async_engine(settings.database_url, pool_size=5)  # finds


@router.get("/token")
async def token() -> str:
    return sign(environ["SECRET_KEY"])  # finds


@router.get("/limits")
async def limits() -> object:
    if getenv("MODE") == "open":  # finds
        return {}
    return json.loads(os.environ.get("LIMITS", "{}"))  # finds


def get_timeout() -> float:
    return float(getenv("TIMEOUT"))  # finds


@router.get("/slow")
async def slow(timeout: float = Depends(get_timeout)) -> float:
    return timeout


HAS_KEY = bool(os.getenv("API_KEY"))
IS_DEBUG = os.getenv("DEBUG", "false").lower() == "true"
WORKERS = int(os.getenv("WORKERS", "2"))
other = create_async_engine(str(settings.database_url))
replica = create_async_engine(settings.replica_url)


def get_workers() -> int:
    return WORKERS


@router.get("/workers")
async def workers(number: int = Depends(get_workers)) -> int:
    return number


@lru_cache
def get_settings() -> Settings:
    return Settings()


def create_app() -> FastAPI:
    return FastAPI(title=os.environ["TITLE"], debug=bool(settings.debug))


@router.post("/zone")
async def zone(name: str) -> None:
    os.environ["TZ"] = name


class Client:
    def __init__(self) -> None:
        self.key = os.environ["API_KEY"]


def ask_model(question: str) -> str:
    key = os.environ["MODEL_KEY"]  # finds
    return client(key).ask(question)


async def embed(texts: list[str], key: str | None = None) -> list[float]:
    used = key or os.getenv("EMBED_KEY")  # finds
    if not used:
        raise ValueError("EMBED_KEY is required")
    return await client(used).embed(texts)


def sign(payload: dict[str, str]) -> str:
    if not SIGNING_KEY:  # finds
        raise HTTPException(500, "SIGNING_KEY is not configured")
    return encode(payload, SIGNING_KEY)


# Right: at the start, with a default, or of a feature that may be off.

FROM_THE_START = os.environ["MODEL_KEY"]


def load_settings() -> Settings:
    return Settings(key=os.environ["MODEL_KEY"])


def with_a_default() -> str:
    region = os.getenv("REGION", "eu")
    return region


def only_of_use() -> None:
    proxy = os.getenv("HTTP_PROXY")
    if proxy:
        use(proxy)


def of_a_feature() -> None:
    if not ENABLE_EXPORT:
        raise HTTPException(404)


async def trace(question: str) -> None:
    if os.environ.get("TRACING_SECRET_KEY"):  # finds
        await send(question)


async def lifespan(app: FastAPI) -> None:
    app.state.key = os.environ.get("TRACING_SECRET_KEY")
