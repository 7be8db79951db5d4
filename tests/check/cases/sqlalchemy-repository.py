from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session


class UserRepository:
    def __init__(self, db: AsyncSession) -> None:
        self.db = db

    async def create(self, **values: object) -> User:
        user = User(**values)
        self.db.add(user)
        await self.db.commit()  # finds
        await self.db.refresh(user)
        return user


class OrderRepo(Base[Order]):
    def rename(self, order: Order, name: str) -> None:
        order.name = name
        self._session.flush()
        self._session.commit()  # finds


class CRUDBase:
    def remove(self, db: Session, *, id: int) -> None:
        db.delete(db.get(self.model, id))
        db.commit()  # finds


class ItemDAO:
    @staticmethod
    async def add(session: AsyncSession, item: Item) -> Item:
        session.add(item)
        try:
            await session.commit()  # finds
        except IntegrityError:
            await session.rollback()
            raise
        return item


class PaymentRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def create(self, amount: int) -> Payment:
        payment = Payment(amount=amount)
        self.session.add(payment)
        await self.session.flush()
        return payment


class AttemptRepository:
    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self.sessions = sessions

    async def record(self, name: str) -> None:
        async with self.sessions() as session:
            session.add(Attempt(name=name))
            await session.commit()


class SqlRepository:
    """A unit of work that is called so: others say when it commits."""

    async def add(self, item: Item) -> None:
        self.session.add(item)

    async def commit(self) -> None:
        await self.session.commit()


class GitRepository:
    def save(self, path: str) -> None:
        self.git.add(path)
        self.git.commit()


class CheckoutService:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def run(self) -> None:
        self.session.add(Order())
        await self.session.commit()
