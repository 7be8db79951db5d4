"""What is left of a query: the words of a message, a note, code, in whatever lines it comes."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from zlib import crc32

import pytest

from benchmarks.finding.queries import load
from packlore.find.features import features
from packlore.find.query import MAX_QUERY, MAX_TERMS, read_query
from packlore.library import Library
from tests.proofs.harness import ROOT

TRACEBACK = """\
Traceback (most recent call last):
  File "/srv/app/stats.py", line 30, in overview
    rows = await asyncio.gather(self.db.execute(first), self.db.execute(second))
sqlalchemy.exc.InterfaceError: cannot perform operation: another operation is in progress
# since the dashboard loads in parallel"""
FORMS: dict[str, Callable[[str], str]] = {
    "with its lines": str,
    "with \\n for them": lambda text: text.replace("\n", "\\n"),
    "as JSON": json.dumps,
    "with spaces for them": lambda text: " ".join(text.split()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_traceback_keeps_its_words_in_every_form(form: str) -> None:
    found = read_query(FORMS[form](TRACEBACK)).weights
    assert {"interfaceerror", "progress", "gath", "dashboard", "parallel"} <= set(found)
    assert not {"fil", "line", "overview", "srv", "30"} & set(found), "what differs by machine"
    assert found["dashboard"] == found["interfaceerror"], "a note says as much as the message"


@pytest.mark.parametrize("form", FORMS)
def test_code_is_code_in_every_form(form: str) -> None:
    code = "@app.get('/x')\nasync def x() -> None:\n    time.sleep(3)\n    await save()\n"
    found = read_query(FORMS[form](code))
    assert found.code
    assert crc32(b">async def>sleep") in features(FORMS[form](code))


@pytest.mark.parametrize("form", [form for form in FORMS if form != "with its lines"])
def test_queries_of_several_lines_are_found_as_well_in_one(form: str) -> None:
    library = Library.open([ROOT])
    first: dict[str, list[bool]] = defaultdict(list)
    for query in load():
        if "\n" in query.text and query.rules:
            for name in ("with its lines", form):
                found = library.search(FORMS[name](query.text), limit=1)
                first[name].append(bool(found) and found[0].item.id in query.rules)
    assert len(first[form]) > 100
    assert sum(first[form]) >= sum(first["with its lines"]) - 3


@pytest.mark.parametrize(
    "part",
    [
        *(
            "\n",
            " \n",
            "\t",
            "\\n",
            "a.b.",
            "a(",
            "a(\n",
            "# ",
            "#\n",
            'File "',
            "Error ",
            "/a",
            "://",
        ),
        *(
            "def ",
            "await a = b ",
            "class A: ",
            "except:",
            "@a ",
            '"""',
            "'\"",
            "a_",
            "aB",
            "\u4e2d",
        ),
        *("0x", "0-", "1.", "x"),
    ],
)
def test_the_time_for_a_query_grows_no_faster_than_its_length(part: str) -> None:
    def best(length: int) -> float:
        text = (part * length)[:length]
        spent = []
        for _ in range(5):
            start = time.thread_time()
            read_query(text)
            spent.append(time.thread_time() - start)
        return min(spent)

    assert best(MAX_QUERY) < 30 * best(MAX_QUERY // 8), "8 times would be linear, 64 quadratic"


def test_of_a_large_query_both_ends_are_read_and_the_heaviest_terms_kept() -> None:
    text = (
        "greenlet_spawn " + "word%d " * 200_000 % tuple(range(200_000)) + " orm.MissingGreenlet: x"
    )
    found = read_query(text).weights
    assert len(found) == MAX_TERMS
    assert {"greenlet_spawn", "missinggreenlet"} <= set(found)
    assert read_query("x" * 1_000_000).weights == {}
