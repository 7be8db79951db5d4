import aiohttp
import httpx
from fastapi import APIRouter, Depends
from httpx import AsyncClient as Client

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
