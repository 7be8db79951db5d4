import sqlalchemy.ext.asyncio as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

engine = create_async_engine(url)
Factory = async_sessionmaker(bind=engine, autoflush=False)  # finds
Explicit = async_sessionmaker(engine, expire_on_commit=True)  # finds
Aliased = sa.async_sessionmaker(engine)  # finds
Older = sessionmaker(engine, class_=AsyncSession, autocommit=False)  # finds
OlderSync = sessionmaker(create_async_engine(url), class_=AsyncSession)  # finds


async def place(number: int) -> int:
    async with AsyncSession(engine) as session:  # finds
        order = Order(number=number)
        session.add(order)
        await session.commit()
        return order.id


async def get_session():
    async with AsyncSession(engine) as session:  # finds
        yield session


Kept = async_sessionmaker(engine, expire_on_commit=False)
KeptOlder = sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)
Sync = sessionmaker(engine)
BySettings = async_sessionmaker(engine, expire_on_commit=settings.expire)
ByKeywords = async_sessionmaker(engine, **options)


async def place_kept(number: int) -> int:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        order = Order(number=number)
        session.add(order)
        await session.commit()
        return order.id


async def read(number: int) -> int:
    async with AsyncSession(engine) as session:
        return await session.scalar(query)


def typed(factory: async_sessionmaker[AsyncSession]) -> None:
    factory()
