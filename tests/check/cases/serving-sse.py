import json

from fastapi.responses import StreamingResponse
from starlette.responses import StreamingResponse as Streaming


def event(data):
    return f"data: {json.dumps(data)}\n\n"


async def chat(agent, prompt):
    return StreamingResponse(tokens(agent, prompt), media_type="text/event-stream")  # finds


async def with_status(agent, prompt):
    return Streaming(  # finds
        content=tokens(agent, prompt),
        status_code=200,
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "Connection": "keep-alive"},
    )


async def by_header(agent, prompt):
    headers = {"Content-Type": "text/event-stream"}
    return StreamingResponse(tokens(agent, prompt), headers=headers)


async def by_type(agent, prompt):
    return StreamingResponse(  # finds
        tokens(agent, prompt), headers={"Content-Type": "text/event-stream; charset=utf-8"}
    )


async def download(rows):
    return StreamingResponse(rows, media_type="text/csv")
