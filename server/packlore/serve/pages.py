"""A long list in pages, as the protocol has them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import TypeVar

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

Row = TypeVar("Row")


def paged(
    method: str, rows: Sequence[Row], uris: Sequence[str], cursor: str | None, size: int
) -> tuple[Sequence[Row], str | None]:
    """The `size` rows at `cursor`, and the cursor of the next page, if there is one. A cursor is
    good for the very list that it came from: where that has changed, a page would skip rows.
    MCPError for any other."""
    whole = hashlib.sha256("\n".join((method, *uris)).encode()).digest()
    pages = {_cursor(whole, start): start for start in range(size, len(rows), size)}
    start = 0 if cursor is None else pages.get(cursor, -1)
    if start < 0:
        raise MCPError(code=INVALID_PARAMS, message="bad cursor: start again without one")
    end = start + size
    return rows[start:end], _cursor(whole, end) if end < len(rows) else None


def _cursor(whole: bytes, offset: int) -> str:
    return base64.urlsafe_b64encode(b"%b:%d" % (whole[:12], offset)).decode()
