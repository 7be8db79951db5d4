from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session


async def not_found(db: AsyncSession, email: str) -> User:
    result = await db.execute(select(User).where(User.email == email))
    user = result.scalar_one_or_none()
    if not user:  # finds
        user = User(email=email)
        db.add(user)
        await db.commit()
    return user


async def by_key(db: AsyncSession, key: int) -> None:
    row = await db.get(Setting, key)
    if row is None:  # finds
        db.add(Setting(id=key))
    else:
        row.value = 1
    await db.commit()


def found(session: Session, model, **kwargs):
    instance = session.query(model).filter_by(**kwargs).first()
    if instance:  # finds
        return instance
    instance = model(**kwargs)
    session.add(instance)
    session.commit()
    return instance


async def found_else(session: AsyncSession, model, **kwargs):
    instance = (await session.execute(select(model).filter_by(**kwargs))).scalars().first()
    if instance is not None:  # finds
        return instance, False
    else:
        instance = model(**kwargs)
        session.add(instance)
        await session.flush()
        return instance, True


async def one_that_was_there(session: AsyncSession, name: str) -> int:
    query = insert(Tag).values(name=name)
    return (await session.execute(query.on_conflict_do_nothing().returning(Tag.id))).scalar_one()  # finds


async def guarded(db: AsyncSession, email: str) -> User:
    user = await db.scalar(select(User).where(User.email == email))
    if user is None:
        user = User(email=email)
        try:
            async with db.begin_nested():
                db.add(user)
        except IntegrityError:
            user = (await db.scalars(select(User).where(User.email == email))).one()
    return user


async def refuses(db: AsyncSession, email: str) -> None:
    user = await db.scalar(select(User).where(User.email == email))
    if user is None:
        raise LookupError(email)
    db.add(Login(user_id=user.id))


async def reads(db: AsyncSession, email: str) -> User | None:
    user = await db.scalar(select(User).where(User.email == email))
    if user:
        return user
    return None


def remembers(seen: set[int], cache: dict[int, object], key: int) -> None:
    value = cache.get(key)
    if value is None:
        seen.add(key)


async def created_or_not(session: AsyncSession, name: str) -> bool:
    query = insert(Tag).values(name=name).on_conflict_do_nothing().returning(Tag.id)
    return (await session.execute(query)).scalar_one_or_none() is not None
