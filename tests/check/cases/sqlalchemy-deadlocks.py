from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession


async def an_update_for_each(db: AsyncSession, items: list[Item]) -> None:
    for item in items:
        await db.execute(  # finds
            update(Product).where(Product.id == item.product_id).values(stock=Product.stock - item.count)
        )
    await db.commit()


async def a_pair(session: AsyncSession, amounts: dict[int, int]) -> None:
    for key, amount in amounts.items():
        await session.execute(update(Account).where(Account.id == key).values(balance=amount))  # finds


async def a_lock_for_each(session: AsyncSession, ids: list[int]) -> None:
    for each in ids:
        account = await session.get(Account, each, with_for_update=True)  # finds
        account.balance = 0


async def many_under_a_lock(session: AsyncSession, ids: list[int]) -> None:
    await session.scalars(select(Account).where(Account.id.in_(ids)).with_for_update())  # finds


async def many_in_lines(session: AsyncSession, ids: list[int]) -> None:
    query = (
        select(Account)  # finds
        .where(Account.id.in_(ids))
        .with_for_update(of=Account)
    )
    await session.execute(query)


async def sorted_first(db: AsyncSession, ids: list[int]) -> None:
    for each in sorted(ids):
        await db.execute(update(Account).where(Account.id == each).values(balance=0))
        await db.get(Account, each, with_for_update=True)


async def a_transaction_for_each(db: AsyncSession, ids: list[int]) -> None:
    for each in ids:
        await db.execute(update(Account).where(Account.id == each).values(balance=0))
        await db.commit()


async def a_session_for_each(factory: object, ids: list[int]) -> None:
    for each in ids:
        async with factory.begin() as session:
            await session.execute(update(Account).where(Account.id == each).values(balance=0))


async def another_row(db: AsyncSession, key: int, values: list[int]) -> None:
    for value in values:
        await db.execute(update(Account).where(Account.id == key).values(balance=value))


async def in_order(session: AsyncSession, ids: list[int]) -> None:
    rows = select(Account).where(Account.id.in_(ids))
    await session.scalars(rows.order_by(Account.id).with_for_update())
    await session.scalars(
        select(Account).where(Account.id.in_(ids)).with_for_update().order_by(Account.id)
    )
    await session.scalars(select(Job).where(Job.state.in_(["new"])).with_for_update(skip_locked=True))


async def one(session: AsyncSession, key: int) -> None:
    await session.scalars(select(Account).where(Account.id == key).with_for_update())
