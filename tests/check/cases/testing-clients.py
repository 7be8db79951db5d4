import httpx
import pytest
from httpx import ASGITransport
from httpx_sse import aconnect_sse
from sqlalchemy import select


@pytest.fixture
async def client():
    async with httpx.AsyncClient(transport=ASGITransport(app=app), base_url="http://test") as client:
        yield client


async def test_first_event(client):
    async with client.stream("GET", "/events") as response:  # finds
        assert await anext(response.aiter_lines()) == "data: 1"


async def test_chat(client):
    async with client.stream('POST', "/chat", json={"text": "hello"}) as response:  # finds
        async for line in response.aiter_lines():
            break


async def test_by_name(client):
    async with client.stream(method="GET", url="/events") as response:  # finds
        pass


async def test_sse(client):
    async with aconnect_sse(client, "GET", "/events") as events:  # finds
        pass


async def test_answers_at_once(client):
    assert (await client.get("/orders")).status_code == 200


async def test_rows(session):
    async for row in await session.stream(select(Order)):
        pass
