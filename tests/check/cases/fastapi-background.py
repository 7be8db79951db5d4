import asyncio
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Request
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.asyncio import AsyncSession as Connection
from sqlmodel import Session as SqlModelSession
from starlette.background import BackgroundTask

router = APIRouter()
Database = Annotated[AsyncSession, Depends(get_db)]


@router.post("/by-default-value")
async def by_default_value(tasks: BackgroundTasks, db: AsyncSession = Depends(get_db)) -> None:
    db.add(Order())
    tasks.add_task(send_receipt, db)  # finds


@router.post("/by-keyword")
def by_keyword(
    later: BackgroundTasks, session: Annotated[Connection, Depends(get_db)]
) -> dict[str, str]:
    later.add_task(  # finds
        import_rows,
        rows=[1, 2],
        session=session,
    )
    later.add_task(audit, session)  # finds
    return {"status": "accepted"}


@router.post("/by-alias")
async def by_alias(background_tasks: BackgroundTasks, database: Database) -> None:
    if database.dirty:
        background_tasks.add_task(reindex, 7, database)  # finds


@router.post("/by-the-name-of-an-alias")
async def by_the_name(tasks: BackgroundTasks, session: SessionDep, number: int) -> None:
    tasks.add_task(reindex, session, number)  # finds


@router.post("/a-method-of-a-service")
async def a_method(tasks: BackgroundTasks, database: Database) -> None:
    service = reports.ReportService(session=database)
    report = await service.create()
    tasks.add_task(service.build, report.id)  # finds
    tasks.add_task(ReportService(database).send, report.id)  # finds


class ReportService:
    async def start(self, tasks: BackgroundTasks, db: SqlModelSession) -> None:
        tasks.add_task(self.build, db)  # finds


@router.get("/on-the-response")
async def on_the_response(db: Database) -> JSONResponse:
    return JSONResponse({}, background=BackgroundTask(log_visit, db))  # finds


@router.post("/in-a-task")
async def in_a_task(number: int, db: AsyncSession = Depends(get_db)) -> None:
    asyncio.create_task(send_receipt(number, db))  # finds


@router.post("/ids-only")
async def ids_only(tasks: BackgroundTasks, db: Database) -> None:
    order = Order()
    db.add(order)
    await db.flush()
    tasks.add_task(send_receipt, order.id)


@router.post("/a-result-of-a-service")
async def a_result(tasks: BackgroundTasks, database: Database) -> None:
    report = ReportService(database).number()
    mail = Mail(settings)
    tasks.add_task(mail.send, report)
    tasks.add_task(send_receipt, await number_of(database))


@router.post("/the-factory")
async def the_factory(tasks: BackgroundTasks, db: Database) -> None:
    tasks.add_task(send_receipt, SessionFactory, number=1)


@router.post("/what-a-query-gave")
async def what_a_query_gave(tasks: BackgroundTasks, db: Database) -> None:
    tasks.add_task(send_receipt, await db.scalar(select(Order.id)))


@router.post("/a-login")
async def a_login(tasks: BackgroundTasks, session: UserSession, request: Request) -> None:
    tasks.add_task(forget, session)
    tasks.add_task(forget, request.session)


@router.post("/awaited")
async def awaited(db: Database) -> None:
    task = asyncio.create_task(send_receipt(1, db))
    await task


async def add_to_a_list(tasks: TaskList, db: AsyncSession) -> None:
    await tasks.add_task(db)


def in_a_worker(tasks: BackgroundTasks) -> None:
    with SqlModelSession(engine) as db:
        tasks.add_task(send_receipt, db.get(Order, 1).id)
