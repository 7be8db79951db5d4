from fastapi import APIRouter, BackgroundTasks
from sqlalchemy import update

router = APIRouter()


@router.post("/users")
async def register(user: UserIn, session: Session, background_tasks: BackgroundTasks) -> None:
    session.add(User(email=user.email))
    await session.commit()
    background_tasks.add_task(send_welcome_email, user.email)  # finds


@router.post("/orders/{number}/pay")
async def pay(number: int, db: Session, tasks: BackgroundTasks) -> None:
    await db.execute(update(Order).where(Order.number == number).values(state="paid"))
    tasks.add_task(mailer.send_receipt, number)  # finds


@router.post("/refunds")
async def refund(number: int, tasks: BackgroundTasks) -> None:
    async with SessionFactory.begin() as session:
        session.add(Refund(number=number))
    tasks.add_task(refund_order, number=number)  # finds


@router.post("/log")
async def log(number: int, db: Session, tasks: BackgroundTasks) -> None:
    db.add(Visit(number=number))
    tasks.add_task(count_visit, number)  # a count may be lost
    tasks.add_task(warm_cache, number)


@router.get("/ask")
async def ask(tasks: BackgroundTasks) -> None:
    tasks.add_task(send_page_view)  # belongs to no change


async def with_celery(session: AsyncSession, order: Order) -> None:
    session.add(order)
    await session.flush()
    send_receipt.delay(order.id)  # finds
    await session.commit()


async def with_arq(db: AsyncSession, redis: ArqRedis) -> None:
    db.add(Order())
    job = await redis.enqueue_job("send_receipt", 1)  # finds
    await db.commit()


async def in_a_block(broker: Broker) -> None:
    async with SessionFactory.begin() as session:
        session.add(Order())
        await send_receipt.kiq(1)  # finds


def sync_code(session: OrmSession, order: Order) -> None:
    session.add(order)
    ship.apply_async((order.id,), countdown=5)  # finds
    session.commit()


async def after_the_commit(session: AsyncSession, order: Order) -> None:
    session.add(order)
    await session.commit()
    send_receipt.delay(order.id)


async def two_changes(session: AsyncSession, order: Order) -> None:
    async with SessionFactory.begin() as session:
        session.add(order)
    send_receipt.delay(order.id)


async def not_in_the_transaction() -> None:
    refresh.delay()
    async with SessionFactory.begin() as session:
        session.add(Order())


async def something_else(animation: Animation, session: AsyncSession) -> None:
    session.add(Order())
    animation.delay = 5
    await asyncio.sleep(animation.delay)
    await session.commit()
