from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, selectinload


def totals(session: Session) -> dict[int, int]:
    found = session.scalars(select(Order).where(Order.paid)).all()
    return {order.id: sum(line.price for line in order.lines) for order in found}  # finds


def in_loops(session: Session) -> list[str]:
    names = []
    result = session.execute(select(Author))
    for author in result.scalars().all():
        for book in author.books:  # finds
            names.append(f"{author.name}: {book.title}")
    return names


def without_a_name(session: Session) -> None:
    for author in session.query(Author).filter(Author.alive):
        print([book.title for book in author.books])  # finds


def counted(session: Session) -> int:
    return sum(sum(1 for _ in author.books) for author in session.scalars(select(Author)))  # finds


async def awaited(session: AsyncSession) -> None:
    for order in await session.scalars(select(Order)):
        print(len(await order.awaitable_attrs.lines))  # finds


async def awaited_in_a_list(orders: list[Order]) -> list[list[Line]]:
    return [await order.awaitable_attrs.lines for order in orders]  # finds


async def loaded_with_the_query(session: AsyncSession) -> int:
    orders = await session.scalars(select(Order).options(selectinload(Order.lines)))
    return sum(line.price for order in orders for line in order.lines)


def loaded_with_a_query(session: Session) -> None:
    for author in session.query(Author).options(selectinload(Author.books)):
        print([book.title for book in author.books])


def of_one_object(session: Session, key: int) -> list[str]:
    author = session.get(Author, key)
    return [book.title for book in author.books]


async def of_one_order(order: Order) -> list[Line]:
    return [line for line in await order.awaitable_attrs.lines]


def columns(session: Session) -> list[str]:
    rows = session.execute(select(Author.id, Author.name)).all()
    return [f"{row.id}: {row.name}" for row in rows]


def objects_without_a_query(shelves: list[Shelf]) -> list[str]:
    return [book.title for shelf in shelves for book in shelf.books]
