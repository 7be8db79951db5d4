"""`asyncio` for a block whose seconds would make a proof long."""

from __future__ import annotations

import asyncio
from typing import Any


class Hurried:
    """Stands for the module `asyncio` in a block: divides its timeouts, and keeps what they were."""

    def __init__(self, by: float) -> None:
        self.seconds: list[float] = []
        self._by = by

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def timeout(self, seconds: float) -> asyncio.Timeout:
        self.seconds.append(seconds)
        return asyncio.timeout(seconds / self._by)
