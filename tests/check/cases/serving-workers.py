from collections import Counter, defaultdict
from typing import Any

from fastapi import APIRouter, FastAPI, WebSocket

app = FastAPI()
router = APIRouter()
tasks: dict[str, Any] = {}
carts = defaultdict(list)
seen = set()
hits = Counter()
history: list[str] = []
LIMITS = {"free": 10}
sockets: set[WebSocket] = set()


@app.post("/tasks")
async def start(name: str):
    task_id = new_id()
    tasks[task_id] = {"name": name, "status": "pending"}  # finds
    return task_id


@router.get("/items")
async def items(user: str):
    hits[user] += 1  # finds
    seen.add(user)  # finds
    return []


@router.post("/carts/{user}")
async def put(user: str, item: str):
    carts[user].append(item)
    history.append(item)  # finds
    local = {}
    local[user] = item
    return local


@app.delete("/tasks/{task_id}")
async def stop(task_id: str):
    del tasks[task_id]  # finds


@app.get("/tasks/{task_id}")
async def read(task_id: str):
    return tasks.get(task_id), LIMITS["free"]


@app.websocket("/updates")
async def updates(socket: WebSocket):
    sockets.add(socket)


def remember(name):
    history.append(name)
