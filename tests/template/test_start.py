"""It starts with sound settings alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.services import (
    Postgres,
    ServiceFailed,
)
from tests.template.harness import (
    ALLOWED,
    TEMPLATE,
    connected,
    metrics,
    ready,
    running,
)


def test_the_start_fails_and_names_the_address_that_is_missing(folder: Path) -> None:
    with pytest.raises(ServiceFailed) as failed, running(folder):
        pass
    assert "1 validation error for Settings\ndatabase_url\n  Field required" in str(failed.value)


def test_the_start_fails_and_names_all_faults_without_the_password(folder: Path) -> None:
    with (
        pytest.raises(ServiceFailed) as failed,
        running(
            folder,
            database_url="postgresql://postgres:hunter2@db/shop",  # asks for another driver
            cors_origins=json.dumps(["*", f"{ALLOWED}/", ALLOWED]),
            pool_size=0,
        ),
    ):
        pass
    message = str(failed.value)
    assert "4 validation errors for Settings\n" in message
    for name in ("database_url", "pool_size", "cors_origins.0", "cors_origins.1"):
        assert f"\n{name}\n" in message
    assert "hunter2" not in message


async def test_settings_are_read_from_a_dotenv_file(tmp_path: Path, server: Postgres) -> None:
    shutil.copy(TEMPLATE, tmp_path / "app.py")
    url = server.url(driver="asyncpg")
    (tmp_path / ".env").write_text(f"DATABASE_URL={url}\nPOOL_SIZE=7\nMAX_OVERFLOW=1\n")
    with running(tmp_path) as program:
        async with connected(program) as client:
            assert (await metrics(client))["db_pool_limit"] == 8
            assert await ready(client)
