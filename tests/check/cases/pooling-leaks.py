from sqlalchemy.ext.asyncio import AsyncSession


async def a_session(order_id: int) -> object:
    session = SessionFactory()
    order = await session.get(Order, order_id)
    await session.close()  # finds
    return order


async def a_connection(query: object) -> list[object]:
    connection = await engine.connect()
    result = await connection.execute(query)
    rows = result.all()
    await connection.close()  # finds
    return rows


async def closed_after_some_errors(order: object) -> None:
    db: AsyncSession = AsyncSession(engine)
    try:
        await db.execute(query)
        await db.commit()
    except ValueError:
        await db.rollback()
    await db.close()  # finds


async def closed_whatever_happens() -> None:
    session = SessionFactory()
    try:
        await session.execute(query)
    finally:
        await session.close()


async def closed_by_with() -> None:
    async with SessionFactory() as session:
        await session.execute(query)


async def of_the_caller(session: AsyncSession) -> None:
    await session.execute(query)
    await session.close()


async def something_else() -> None:
    reader = open_reader()
    await reader.read()
    await reader.close()


def by_hand(name: str) -> list[int]:
    db = next(get_db())  # finds
    return db.execute(name).all()


def closed_where_all_went_well(name: str) -> list[int]:
    db = SessionLocal()
    found = db.query(Order).filter_by(name=name).all()
    db.close()  # finds
    return found


def closed_whatever_happens(name: str) -> list[int]:
    db = SessionLocal()
    try:
        return db.query(Order).filter_by(name=name).all()
    finally:
        db.close()


def of_a_with(name: str) -> list[int]:
    with SessionLocal() as db:
        return db.query(Order).filter_by(name=name).all()


def of_another_generator(lines) -> str:
    return next(get_lines(lines))
