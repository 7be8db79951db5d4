from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session


async def with_the_key(session: AsyncSession, key: int) -> None:
    account = await session.get(models.Account, key)
    if account is None:
        raise LookupError(key)
    account.balance -= 5  # finds


async def with_a_select(session: AsyncSession, user_id: int, cost: int) -> None:
    result = await session.execute(select(User).where(User.id == user_id))
    user = result.unique().scalar_one_or_none()
    user.credit = user.credit - cost  # finds
    await session.commit()


async def with_scalars(session: AsyncSession, code: str) -> None:
    invite = (await session.scalars(select(Invite).where(Invite.code == code))).first()
    if invite.uses_count >= invite.max_uses:
        raise ValueError(code)
    invite.uses_count += 1  # finds


def with_a_query(session: Session) -> None:
    record = session.query(Record).filter_by(name="seen").first()
    record.seen = (record.seen or 0) + 1  # finds
    session.commit()


async def with_scalar(session: AsyncSession, page_id: int) -> None:
    page = await session.scalar(select(Page).where(Page.id == page_id))
    page.views += 1  # finds


async def a_row_of_the_caller(session: AsyncSession, user: User, reward: int) -> int:
    user.points = user.points + reward  # finds
    await session.commit()
    await session.refresh(user)
    return user.points


async def the_database_adds(session: AsyncSession, key: int) -> None:
    product = await session.get(Product, key)
    product.stock = Product.stock + 1
    await session.execute(update(Product).values(stock=Product.stock + 1))


async def a_locked_row(session: AsyncSession, key: int) -> None:
    product = await session.get(Product, key, with_for_update=True)
    product.stock += 1


async def a_locked_select(session: AsyncSession, key: int) -> None:
    query = select(Product).where(Product.id == key).with_for_update()
    product = (await session.scalars(query)).one()
    product.stock += 1


async def an_object_that_is_new(session: AsyncSession) -> None:
    product = Product(stock=0)
    product.stock += 1
    session.add(product)
    await session.commit()
    await session.refresh(product)


async def a_value_that_is_set(session: AsyncSession, key: int, stock: int) -> None:
    product = await session.get(Product, key)
    product.stock = stock + 1


async def an_object_of_another_kind(session: AsyncSession, key: int) -> int:
    product = await session.get(Product, key)
    summary = Summary()
    summary.total += product.price
    return summary.total


def a_cache(cache: dict[str, State]) -> None:
    state = cache.get("state")
    state.count += 1


class Counter:
    async def of_the_process(self, session: AsyncSession) -> None:
        total = await session.scalar(select(func.count(Product.id)))
        self.total += total
        await session.commit()


def counts_by_query(session, name):
    base = (
        session.query(KnowledgeBase)
        .filter(KnowledgeBase.name == name)
        .first()
    )
    base.file_count += 1  # finds
    session.add(File(name))


async def merges(session, file_id, data):
    file = (await session.execute(select(File).filter_by(id=file_id))).scalars().first()
    file.data = {**(file.data or {}), **data}  # finds
    await session.commit()


async def toggles(session, file_id):
    file = await session.get(File, file_id)
    file.shown = not file.shown  # finds
    await session.commit()


async def copies_first(session, user_id, data):
    user = await session.get(User, user_id)
    settings = dict(user.settings or {})
    settings.update(data)
    user.settings = settings  # finds
    await session.commit()


async def of_a_repository(repo, db, book_id):
    book = await repo.get_book(book_id)
    book.loans += 1  # finds
    await db.commit()


async def in_place(session, chat):
    chat.meta["tags"] = []
    flag_modified(chat, "meta")  # finds
    await session.commit()


async def merges_a_locked_row(session, file_id, data):
    file = (await session.execute(select(File).filter_by(id=file_id).with_for_update())).scalars().first()
    file.data = {**(file.data or {}), **data}
    book = await repo.get_book(file_id)
    book.loans += 1
    file.meta["tags"] = []
    flag_modified(file, "meta")
    await session.commit()


async def replaces(session, file_id, data):
    file = await session.get(File, file_id)
    file.data = {**data, "name": file_id}
    file.shown = not data.hidden
    settings = dict(data)
    file.settings = settings
    file.name = file.name or "unnamed"
    flag_modified(file, "data")
    await session.commit()


async def counts_in_memory(db, items):
    result = await load(items)
    report = Report()
    report.count += 1
    for item in items:
        report.count += item.size
    await db.commit()
    return result, report


async def counts_in_sql(session, book_id):
    await session.execute(update(Book).values(loans=Book.loans + 1).where(Book.id == book_id))
    await session.commit()
