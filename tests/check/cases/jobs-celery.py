import asyncio

from app.db import AsyncSessionLocal
from celery import Celery, shared_task
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

app = Celery("mail")
engine = create_async_engine(settings.url, pool_pre_ping=True)
other = create_async_engine(settings.url, poolclass=NullPool)


@app.task
def by_name(order_id: int) -> None:
    asyncio.run(send(order_id))  # finds


@app.task(bind=True, max_retries=3)
def with_arguments(self, order_id: int) -> int:
    try:
        return asyncio.run(send(order_id))  # finds
    except OSError as error:
        raise self.retry(exc=error) from error


@shared_task(name="shared")
def shared() -> None:
    result = asyncio.run(send(1), debug=False)  # finds
    print(result)


@mail.celery_app.task
def of_a_module() -> None:
    asyncio.run(send(2))  # finds


def no_task() -> None:
    asyncio.run(send(3))


@app.task
def sync_code() -> None:
    run(send(4))


if __name__ == "__main__":
    asyncio.run(main())
