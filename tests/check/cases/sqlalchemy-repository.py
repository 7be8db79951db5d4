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


def create_token(user_id: str, db: Session) -> str:
    db.add(Token(user_id))
    db.commit()  # finds
    return user_id


class Users:
    async def rename(self, user_id: str, name: str, db: AsyncSession | None = None) -> None:
        async with get_db_context(db) as session:
            user = await session.get(User, user_id)
            user.name = name
            await session.commit()  # finds


@with_session
def remove_documents(session, name):
    session.query(Document).filter(Document.name == name).delete()
    session.commit()  # finds


def store(row, db=None):
    db = db or SessionLocal()
    db.add(row)
    db.commit()  # finds


# Right: the session was opened here, or comes by a route.


def opens_its_own(name: str) -> None:
    with SessionLocal() as session:
        session.add(Document(name))
        session.commit()


@router.post("/documents")
async def a_route(name: str, db: AsyncSession) -> None:
    db.add(Document(name))
    await db.commit()


async def that_is_a_dependency(db: AsyncSession = Depends(get_db)) -> None:
    db.add(Document(1))
    await db.commit()


async def that_yields_it(db: AsyncSession):
    yield db
    await db.commit()


def that_flushes(row, session):
    session.add(row)
    session.flush()


def of_another_kind(index, changes):
    index.add(changes)
    index.commit()
