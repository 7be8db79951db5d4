"""Detectors that ask only some files, by their names."""

from __future__ import annotations

import pytest

from tests.check.detectors import findings

CREATE = """\
from sqlalchemy.orm import Session

def create_user(*, session: Session, values: dict[str, object]) -> User:
    user = User(**values)
    session.add(user)
    session.commit()
    return user
"""
COLUMN = """\
import sqlalchemy as sa

column = sa.Column("paid_at", sa.DateTime(), nullable=True)
"""


@pytest.mark.parametrize(
    ("path", "code", "wanted"),
    [
        ("app/crud.py", CREATE, {"sqlalchemy-repository-module"}),
        ("app/repositories/users.py", CREATE, {"sqlalchemy-repository-module"}),
        ("app/routes/users.py", CREATE, {"sqlalchemy-repository-helper"}),
        ("app/models.py", COLUMN, {"sqlalchemy-timestamps-naive"}),
        ("app/alembic/versions/1.py", COLUMN, set()),
    ],
)
def test_a_detector_asks_the_files_that_it_names(path: str, code: str, wanted: set[str]) -> None:
    assert {each.detector for each in findings(code, path)} == wanted
