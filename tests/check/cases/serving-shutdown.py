import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from uvicorn import Config
from uvicorn import run as serve

app = FastAPI()


@app.get("/events")
async def events() -> StreamingResponse:
    return StreamingResponse(ticks(), media_type="text/event-stream")


uvicorn.run(app, host="0.0.0.0", port=8000)  # finds
uvicorn.run("main:app", workers=4, timeout_keep_alive=75)  # finds
serve(app)  # finds
server = uvicorn.Server(Config(app, port=8000))  # finds

uvicorn.run(app, timeout_graceful_shutdown=15)
uvicorn.run(app, **options)
server = uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=grace))
asyncio.run(app)
runner.run(app, port=8000)
