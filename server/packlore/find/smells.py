"""What Python code shows by its shape, said in the words that people have for it. No I/O.

A fault in code is often something that is missing, and what is missing has no term of its own.
Each shape here is one that a reader sees at once; it adds words to a query, and judges nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

MAX_LINES = 400
"""Lines of code that are looked at."""
MAX_LINE = 400
"""Characters of a line: with it the time for a query is bounded."""

# Each is looked for in one line at a time; none can take more than linear time in it.
_MARKS = {
    "async": r"^\s*async def ",
    "bare task": r"^\s*(?:asyncio\.|loop\.)?(?:create_task|ensure_future)\(",
    "task": r"create_task\(|ensure_future\(",
    "gather": r"\bgather\(",
    "group": r"TaskGroup\(",
    "timeout": r"\btimeout\(",
    "semaphore": r"Semaphore\(",
    "forever": r"^\s*while\s+True:",
    "loop": r"^\s*(?:async )?for \w+",
    "catch all": r"^\s*except(?: BaseException| Exception|)\b[^:]*:|except .*CancelledError",
    "cancelled": r"except .*CancelledError|suppress\(.*CancelledError",
    "raise": r"^\s*raise\b",
    "finally": r"^\s*finally:",
    "await": r"\bawait ",
    "yield": r"\byield\b",
    "context manager": r"contextmanager",
    "blocking": r"\b(?:requests\.\w|time\.sleep|bcrypt\.\w|subprocess\.run|urlopen|smtplib|"
    r"pd\.read_|Image\.open|boto3\.|open\()",
    "session": r"\b(?:session|db)\b",
    "open": r"= (?:await )?\w*(?:[sS]ession\w*|[fF]actory|engine\.connect|acquire|engine\.begin)\(\)",
    "global session": r"^\w*[sS]ession\w* = \w*[sS]ession\w*\(",
    "with session": r"async with .*(?:[sS]ession\w*|\.begin|acquire|connect)\(",
    "query": r"\.(?:execute|scalars?|get|refresh|fetch\w*)\(",
    "commit": r"\.commit\(\)",
    "return attribute": r"^\s*return \w+(?:\.\w+)?$",
    "change in place": r"\.\w+ [+-]= |\.(\w+) = \w+\.\1 [+-] ",
    "http call": r"await \w*(?:client|http|llm|openai|gateway|api|sdk)\w*\.\w|\.(?:post|request)\(",
    "stream": r"StreamingResponse\(",
    "now": r"datetime\.(?:utcnow|now)\b|Mapped\[datetime",
    "add": r"\.add\(|add_all\(",
    "engine": r"create_async_engine\(|create_pool\(",
    "client": r"AsyncClient\(|ClientSession\(",
    "add task": r"\.add_task\(",
    "base middleware": r"BaseHTTPMiddleware|middleware\(.http.\)",
    "add middleware": r"add_middleware\(",
    "cors": r"CORSMiddleware|allow_origins",
    "on event": r"on_event\(",
    "environment": r"os\.environ|getenv\(",
    "route": r"^\s*@\w+\.(?:get|post|put|patch|delete)\(",
    "returns nothing": r"^\s*async def \w+\(.*\):$",
    "sizes": r"math\.ceil|pool_size|max_overflow",
    "ddl": r"\bop\.\w+\(",
    "alembic": r"run_migrations|context\.configure",
    "repository": r"class \w*Repo\w*",
    "forbidden": r"HTTPException\(.*40[13]",
    "bundle": r"except\* |ExceptionGroup",
    "fork": r"fork|preload|multiprocessing",
    "redis": r"[rR]edis",
}


@cache
def _compiled() -> dict[str, re.Pattern[str]]:
    """Not at import: most queries are no code."""
    return {name: re.compile(mark) for name, mark in _MARKS.items()}


def smells(code: str) -> Iterator[str]:
    """The words for each shape that the code has."""
    marks = _compiled()
    lines = [line[:MAX_LINE] for line in code.split("\n")[:MAX_LINES]]
    found = {name for name, mark in marks.items() for line in lines if mark.search(line)}
    inner = [line for line in lines if line[:1] in (" ", "\t")]
    yield from (said for said, needed, absent in _SHAPES if needed <= found and not absent & found)
    if "async" in found:
        yield from (_INSIDE[name] for name in _INSIDE if any(map(marks[name].search, inner)))
    after_finally = any(
        marks["finally"].search(line) and marks["await"].search(following)
        for line, following in pairwise(lines)
    )
    if after_finally:
        yield "cleanup await in finally cancelled shield"
    if sum(1 for line in lines if marks["add middleware"].search(line)) > 1:
        yield "middleware order registration reversed"
    if sum(1 for line in lines if marks["with session"].search(line)) > 1:
        yield "second connection while holding one"


# Words, marks that are there, marks that are not.
_SHAPES: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = tuple(
    (said, frozenset(needed.split(", ")), frozenset(absent.split(", ") if absent else ()))
    for said, needed, absent in (
        ("create_task without keeping reference", "bare task", "group"),
        ("gather fan-out siblings running", "gather", ""),
        ("worker loop swallows cancel", "forever, catch all, await", "raise"),
        ("swallow CancelledError without raise", "cancelled", "raise"),
        ("yield inside timeout generator", "yield, timeout", "context manager"),
        ("yield inside taskgroup generator", "yield, group", "context manager"),
        ("semaphore over all tasks memory workers queue", "semaphore, task", ""),
        ("catch exceptiongroup", "group, catch all", "bundle"),
        ("blocking call in coroutine stops event loop thread", "async, blocking", ""),
        ("connection session without context manager never closed leak", "open", "with session"),
        ("module global session", "global session", ""),
        ("query for each item in loop", "loop, query", "add"),
        ("read add write increment lost update concurrent", "change in place", ""),
        ("one session shared by tasks", "session, gather", ""),
        ("one session shared by tasks", "session, group", "with session"),
        ("slow http call while holding connection session", "session, http call", ""),
        ("stream response holds connection", "stream, session", ""),
        ("attribute after commit expire", "commit, return attribute", ""),
        ("commit after yield response sent", "yield, commit", ""),
        ("repository commits flush", "repository, commit", ""),
        ("naive timestamp timezone", "now", ""),
        ("bulk insert many rows", "loop, add", ""),
        ("background task uses request session", "add task, session", ""),
        ("background task after response", "add task", ""),
        ("BaseHTTPMiddleware pure asgi", "base middleware", ""),
        ("cors origins credentials", "cors", ""),
        ("on_event lifespan startup shutdown", "on event", ""),
        ("settings from environment validate", "environment", ""),
        ("response model missing return type", "route, returns nothing", ""),
        ("pool size formula", "sizes", "engine"),
        ("migration ddl lock table", "ddl", ""),
        ("alembic env", "alembic", ""),
        ("authentication check in each route", "route, forbidden", ""),
        ("engine after fork", "engine, fork", ""),
        ("redis pool", "redis", ""),
    )
)
_INSIDE = {"engine": "engine for each request", "client": "client for each request"}
