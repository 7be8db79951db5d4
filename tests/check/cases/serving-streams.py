import anyio
from fastapi.responses import StreamingResponse
from sse_starlette.sse import EventSourceResponse


async def chat(session, client, prompt):
    parts = []
    async for chunk in client.stream(prompt):
        parts.append(chunk)
        yield chunk
    session.add(Message(text="".join(parts)))
    await session.commit()  # finds


async def events(chat_id, agent):
    text = ""
    async for event in agent.events():
        text += event.text
        yield f"data: {event.text}\n\n"
    yield "data: [DONE]\n\n"
    await save_message(chat_id, text)  # finds


async def with_an_error(chat_id, agent):
    text = ""
    try:
        async for event in agent.events():
            if event.text:
                text += event.text
                yield event.text
        async with AsyncSessionLocal() as session:  # finds
            session.add(Message(chat_id=chat_id, text=text))
            await session.commit()
    except Exception:
        yield "failed"


async def polled(jobs, history, job):
    while not job.done:
        yield await jobs.state(job)
    await history.store(job)  # finds


async def kept(chat_id, agent):
    text = ""
    try:
        async for event in agent.events():
            text += event.text
            yield event.text
    finally:
        with anyio.move_on_after(5, shield=True):
            await save_message(chat_id, text)


async def first(session, rows):
    await session.commit()
    async for row in rows:
        yield row


async def imported(session, rows):
    async for row in rows:
        session.add(row)
    await session.commit()


async def read(SessionFactory, statement):
    async with SessionFactory() as session:
        async for row in await session.stream(statement):
            yield row
