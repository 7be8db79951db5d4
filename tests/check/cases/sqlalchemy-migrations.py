import asyncio
import os

from alembic import command, context, op
from alembic.config import Config

config = context.config
config.set_main_option("sqlalchemy.url", os.environ["DATABASE_URL"])  # finds


def with_settings(settings: Settings) -> Config:
    made = Config("alembic.ini")
    made.set_main_option("sqlalchemy.url", str(settings.database_url))  # finds
    made.set_main_option("script_location", settings.folder)
    return made


def with_a_text(user: str, password: str) -> None:
    config.set_main_option("sqlalchemy.url", f"postgresql+asyncpg://{user}:{password}@db/app")  # finds


async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    command.upgrade(Config("alembic.ini"), "head")  # finds
    yield


async def in_a_test(config: Config) -> None:
    command.downgrade(config, "base")  # finds


def downgrade() -> None:
    op.drop_constraint(None, "orders", type_="foreignkey")  # finds
    with op.batch_alter_table("orders") as batch:
        batch.drop_constraint(None, type_="unique")  # finds
        batch.drop_constraint("uq_orders_number", type_="unique")
    op.drop_constraint("fk_orders_user", "orders", type_="foreignkey")
    op.create_foreign_key(None, "orders", "users", ["user_id"], ["id"])


def an_address_of_a_test(made: Config) -> None:
    made.set_main_option("sqlalchemy.url", "postgresql+asyncpg://app@localhost/test")


def main() -> None:
    command.upgrade(Config("alembic.ini"), "head")


async def in_a_thread(config: Config) -> None:
    await asyncio.to_thread(command.upgrade, config, "head")
    await asyncio.to_thread(lambda: command.upgrade(config, "head"))


async def something_else(command: Command) -> None:
    command.upgrade("head")
