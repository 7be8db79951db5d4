import smtplib
import subprocess
import time
from asyncio import run_coroutine_threadsafe
from concurrent.futures import ThreadPoolExecutor
from time import sleep as pause
from urllib import request
from urllib.request import urlopen

import boto3
import httpx
import redis
import redis.asyncio as aredis
import requests
from openai import AsyncOpenAI, OpenAI
from sqlalchemy.orm import Session

s3 = boto3.client("s3")
cache = redis.Redis.from_url(url)
acache = aredis.Redis.from_url(url)
llm = OpenAI()
allm = AsyncOpenAI()
session = requests.Session()


async def a_plain_call() -> None:
    time.sleep(1)  # finds


async def by_another_name() -> None:
    pause(1)  # finds


async def inside_of_blocks(url: str) -> None:
    async with lock:
        for _ in range(3):
            requests.post(url)  # finds


async def of_the_standard_library(url: str) -> None:
    with urlopen(url) as answer:  # finds
        text = answer.read() + request.urlopen(url).read()  # finds
    subprocess.run(["convert", text], check=True)  # finds
    server = smtplib.SMTP(host)  # finds
    return httpx.get(url).json()  # finds


async def of_a_client_of_the_module(key: str) -> None:
    s3.upload_file(key, bucket, key)  # finds
    cache.get(key)  # finds
    answer = llm.chat.completions.create(model=model)  # finds
    session.headers.update(token)
    return session.post(answer)  # finds


async def of_a_client_of_its_own(url: str) -> None:
    client = httpx.Client(timeout=5)
    client.get(url)  # finds
    with requests.Session() as http:
        http.get(url)  # finds


class Answers:
    def __init__(self) -> None:
        self.client = OpenAI()
        self.other = AsyncOpenAI()

    async def answer(self, question: str) -> str:
        return self.client.responses.create(input=question).output_text  # finds

    async def answer_async(self, question: str) -> str:
        answer = await self.other.responses.create(input=question)
        return answer.output_text

    def answer_sync(self, question: str) -> str:
        return self.client.responses.create(input=question).output_text


async def waits_for_a_thread(work, loop) -> None:
    with ThreadPoolExecutor() as pool:
        pool.submit(work).result()  # finds
    run_coroutine_threadsafe(work(), loop).result(5)  # finds


async def with_a_synchronous_session(order_id: int, db: Session) -> None:
    order = db.get(Order, order_id)  # finds
    order.sent = True
    db.commit()  # finds


async def handed_to_a_synchronous_function(order_id: int, db: Session = depends) -> None:
    await asyncio.sleep(0)
    service = OrderService(db)
    return orders.find_order(order_id, session=db)  # finds


def in_a_thread(url: str, db: Session) -> None:
    requests.get(url)
    db.commit()
    cache.get(url)


async def handed_to_a_thread(url: str, db: Session) -> None:
    await asyncio.to_thread(requests.get, url)
    await loop.run_in_executor(None, lambda: requests.get(url))
    await loop.run_in_executor(None, lambda: db.commit())
    await run_in_threadpool(find_order, db)
    await find_order_async(db)
    service = OrderService(db)

    def work() -> None:
        time.sleep(1)
        db.commit()

    await asyncio.to_thread(work)
    await asyncio.to_thread(session.get, url)


async def a_parameter_of_that_name(requests: dict[str, str]) -> None:
    requests.get("key")


async def that_wait_for_nobody(key: str) -> None:
    s3.generate_presigned_url(key)
    await acache.get(key)
    await allm.chat.completions.create(model=model)
    async with httpx.AsyncClient() as client:
        await client.get(key)
    raise requests.HTTPError(key)


async def a_session_of_its_own(name: str) -> None:
    with SessionLocal() as db:
        db.execute(select(User))  # finds
        user = db.scalar(select(User))
    with get_session_with_tenant(tenant_id) as rows:
        tenant = rows.query(Tenant).filter_by(name=name).first()  # finds
    with sessions.session_scope() as work:
        work.add(user)
        work.commit()  # finds
    return tenant


async def a_session_that_is_handed_on(token: str) -> User:
    with SessionLocal() as db:
        return user_of(token, db)  # finds


async def a_session_of_its_own_by_keyword(token: str) -> User:
    with Session(engine) as db:
        return users.of_token(token, session=db)  # finds


async def an_untyped_session(db=Depends(get_db)) -> list[User]:
    found = db.query(User).filter(User.active).all()  # finds
    db.commit()  # finds
    return found


async def files(upload, folder: Path) -> dict:
    with open(folder / upload.filename, "wb") as out:  # finds
        shutil.copyfileobj(upload.file, out)  # finds
    settings = json.loads((folder / "settings.json").read_text())  # finds
    for each in folder.iterdir():  # finds
        use(each, settings)
    return settings


async def passwords(user, form) -> None:
    if not verify_password(form.password, user.hashed):  # finds
        raise Unknown
    user.hashed = pwd_context.hash(form.new)  # finds
    user.older = security.get_password_hash(form.new)  # finds


async def rows_by_name(query: str) -> None:
    message = add_message_to_db(query=query)  # finds
    user = UserService.get_by_id(message.user_id)  # finds
    book = Book.get_or_none(Book.author == user)  # finds
    return Book.objects.filter(title=book.title)  # finds


# Right: a thread, an async session, or work that does not block.


async def async_sessions(token: str) -> User:
    async with SessionLocal() as db:
        await db.execute(select(User))
        user = await user_of(token, db)
        await db.commit()
    async with await anyio.open_file(path) as out:
        await out.write(token)
    async with aiofiles.open(path) as out:
        await out.write(token)
    await anyio.Path(path).read_text()
    return user


def in_a_thread(token: str) -> User:
    with SessionLocal() as db:
        found = db.query(User).filter(User.active).all()
        db.commit()
        with open(path) as file:
            shutil.copyfileobj(file, out)
        return user_of(token, db), found, verify_password(token, user.hashed)


async def hands_it_to_a_thread(form) -> None:
    with SessionLocal() as db:
        user = await asyncio.to_thread(user_of, form.token, db)
    text = await asyncio.to_thread(path.read_text)
    known = await asyncio.to_thread(verify_password, form.password, user.hashed)
    await run_in_threadpool(shutil.copyfileobj, form.file, text)
    with requests_mock.Session() as mocked:
        mocked.get(known)
    return lambda: path.read_text()


async def other_things(items, form) -> None:
    found = items.query(form).order()
    repo = await UserService.get_by_id(1)
    row = await add_message_to_db(repo)
    tasks = [asyncio.create_task(UserService.get_by_id(each)) for each in found]
    await asyncio.gather(UserService.get_by_id(2), *tasks)
    validate_password(form.password)
    await git.commit()
    return await Book.get_or_none(id=row.id)


# One call further.


def wait_a_little(attempt: int) -> None:
    time.sleep(2**attempt)


def fetch_page(url: str) -> str:
    return requests.get(url, timeout=5).text


def joins(words: list[str]) -> str:
    return " ".join(words)


async def through_functions(url: str) -> str:
    wait_a_little(1)  # finds
    page = fetch_page(url)  # finds
    other = await asyncio.to_thread(fetch_page, url)
    return joins([page, other])


class Pages:
    def _load(self, name: str) -> Page:
        with SessionLocal() as session:
            return session.get(Page, name)

    def _size(self, page: Page) -> int:
        return len(page.text)

    async def show(self, name: str) -> int:
        page = self._load(name)  # finds
        return self._size(page)

    async def show_later(self, name: str) -> int:
        return self._size(await asyncio.to_thread(self._load, name))


def of_threads_only(url: str) -> str:
    wait_a_little(2)
    return fetch_page(url)
