import aiohttp
import httpx
import ollama
import openai
import requests
from fastapi import APIRouter, Depends
from httpx import AsyncClient as Client
from openai import AsyncOpenAI

router = APIRouter()


@router.get("/a")
async def with_aiohttp() -> bytes:
    async with aiohttp.ClientSession() as session:  # finds
        return await session.get(url)


@router.post("/b", status_code=201)
async def by_another_name() -> None:
    async with Client(timeout=5) as client:  # finds
        await client.get(url)


@router.api_route("/c", methods=["GET"])
def in_a_thread() -> None:
    client = httpx.Client()  # finds
    client.get(url)


async def fetch(url: str) -> bytes:
    async with httpx.AsyncClient() as client:  # finds
        return (await client.get(url)).content


async def lifespan(app: object):
    async with httpx.AsyncClient() as client:
        app.state.http = client
        yield


@asynccontextmanager
async def clients():
    async with aiohttp.ClientSession() as session:
        yield session


@router.get("/d")
async def shared(http: httpx.AsyncClient = Depends(get_http)) -> bytes:
    return (await http.get(url)).content


async def within_the_process(app: object) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as client:
        await client.get("/")


client = httpx.AsyncClient()


# Clients of services, each with a pool of its own.


async def complete(prompt: str) -> str:
    client = AsyncOpenAI(api_key=key)  # finds
    return await client.responses.create(input=prompt)


def get_client(asynchronous: bool):
    if asynchronous:
        return openai.AsyncClient(base_url=url)  # finds
    return openai.Client(base_url=url)  # finds


async def chat(prompt: str) -> str:
    async with ollama.AsyncClient(host=host) as client:  # finds
        return await client.chat(prompt)


def weather(city: str) -> dict[str, str]:
    return requests.get(f"{url}/{city}").json()  # finds


shared_model = AsyncOpenAI(api_key=key)


@lru_cache
def cached_client():
    return openai.AsyncClient(base_url=url)


class Model:
    def __init__(self) -> None:
        self.client = AsyncOpenAI(api_key=key)

    def weather(self, city: str) -> dict[str, str]:
        return requests.get(f"{url}/{city}", timeout=5).json()


def global_client():
    global kept
    kept = kept or AsyncOpenAI(api_key=key)
    if kept is None:
        kept = AsyncOpenAI(api_key=key)
    return kept


async def of_the_application(app: FastAPI) -> None:
    app.state.model = AsyncOpenAI(api_key=key)
