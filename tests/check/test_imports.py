"""Names by what they mean."""

from __future__ import annotations

import pytest

from packlore.check.imports import GROWTH, resolve
from packlore.check.syntax import PYTHON, tree

NAMES = {
    "asyncio.gather": "asyncio.gather",
    "time.sleep": "time.sleep",
    "requests": "requests",
    "fastapi.Depends": "Depends",
    "fastapi.params.Depends": "Depends",
    "lib.ext.aio.Session": "Session",
}


def resolved(code: str) -> str:
    return resolve(tree(code, PYTHON), code, NAMES).text


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("from asyncio import gather\ngather()", "asyncio.gather()"),
        ("from asyncio import gather as g\ng()", "asyncio.gather()"),
        ("import asyncio as aio\naio.gather()", "asyncio.gather()"),
        ("import asyncio as aio\naio.sleep()", "aio.sleep()"),
        ("import asyncio\nasyncio.gather()", "asyncio.gather()"),
        ("from time import (\n  sleep as s, # why\n  time,\n)\ns(time())", "time.sleep(time_other())"),
        ("import requests as r\nr.get(r.post)", "requests.get(requests.post)"),
        ("from requests import get\nget()", "requests.get()"),
        ("from fastapi import params as p\np.Depends(f)", "Depends(f)"),
        ("import fastapi\nfastapi.Depends(f)", "Depends(f)"),
        ("import lib.ext.aio as sa\nx: sa.Session", "x: Session"),
        ("import lib.ext.aio\nlib.ext.aio.Session.get()", "Session.get()"),
        ("import time\ntime.sleep(time=time.time())", "time.sleep(time=time.time())"),
        ("if x:\n  try:\n    import requests as r\n  except E:\n    r = None\nr.get()", "requests.get()"),
        ("def f():\n  from time import sleep\n  sleep()", "  time.sleep()"),
        ("from fastapi import Depends as D\nx = y.D\nD(a.D)", "Depends(a.D)"),
    ],
)  # fmt: skip
def test_an_imported_name_is_written_as_patterns_spell_it(code: str, wanted: str) -> None:
    assert resolved(code).split("\n")[-1] == wanted


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("from injector import Depends\nDepends(f)", "Depends_other(f)"),
        ("from . import Depends\nDepends(f)", "Depends_other(f)"),
        ("from datetime import time\ntime.sleep()", "time_other.sleep()"),
        ("def f(requests): requests.get(1)", "def f(requests_other): requests_other.get(1)"),
        ("def f(*requests): requests.get(1)", "def f(*requests_other): requests_other.get(1)"),
        ("f = lambda time: time.sleep()", "f = lambda time_other: time_other.sleep()"),
        ("x = [requests.get(1) for requests in y]", "x = [requests_other.get(1) for requests_other in y]"),
        ("with open(f) as requests: requests.get(1)", "with open(f) as requests_other: requests_other.get(1)"),
        ("def Depends(f): pass\nDepends(1)", "Depends_other(1)"),
        ("class Session: pass\nSession()", "Session_other()"),
        ("requests = {}\ndef f():\n  return requests.get(1)", "  return requests_other.get(1)"),
        ("a, (requests, b) = c\nrequests.get(1)", "requests_other.get(1)"),
    ],
)  # fmt: skip
def test_a_name_that_only_looks_like_it_is_not(code: str, wanted: str) -> None:
    assert resolved(code).split("\n")[-1] == wanted


@pytest.mark.parametrize(
    "code",
    [
        "Depends(f)\nasyncio.gather()\nrequests.get(1)",  # pasted without its imports
        "from fastapi import *\nDepends(f)",
        "def f(x: Depends = Depends(y)): pass",
        "x.requests.get(1)\nf(requests=1)",
    ],
)
def test_a_name_that_nothing_binds_stays(code: str) -> None:
    assert resolved(code) == code


def test_a_parameter_hides_an_import_in_its_function_alone() -> None:
    code = "import requests\ndef f(requests): requests.get(1)\ndef g(): requests.get(2)"
    assert resolved(code).split("\n")[1:] == [
        "def f(requests_other): requests_other.get(1)",
        "def g(): requests.get(2)",
    ]


def test_offsets_lead_back_to_the_text_as_it_was() -> None:
    code = "from time import sleep as s\nimport asyncio as a\né = s(1); a.gather(s(2), s(3)); end"
    found = resolve(tree(code, PYTHON), code, NAMES)
    assert found.text.split("\n")[-1] == (
        "é = time.sleep(1); asyncio.gather(time.sleep(2), time.sleep(3)); end"
    )
    for sought in ("(1)", "(2)", "(3)", "end", "é"):
        at = found.original(found.text.index(sought))
        assert code[at : at + len(sought)] == sought


@pytest.mark.parametrize(
    "code", ["import", "from", "from x import", "import (", "def f(:\n gather("]
)
def test_broken_code_is_no_error(code: str) -> None:
    resolved(f"{code}\nfrom time import sleep\nsleep(1)")


class Counted(dict[str, str]):
    """Names that count how often one is looked up."""

    lookups = 0

    def __contains__(self, name: object) -> bool:
        self.lookups += 1
        return super().__contains__(name)


@pytest.mark.parametrize(
    "code",
    [
        "import asyncio as a\na" + ".b" * 2_000,
        "from asyncio.gather" + ".b" * 2_000 + " import g\n" + "g\n" * 5,
        "import asyncio.gather" + ".b" * 2_000 + " as g\n" + "g\n" * 5,
        "from asyncio.gather" + ".b" * 2_000 + " import " + ", ".join("cdefg"),
    ],
)
def test_a_long_name_is_looked_up_a_few_times(code: str) -> None:
    names = Counted(NAMES)
    resolve(tree(code, PYTHON), code, names)
    assert names.lookups < 100


@pytest.mark.parametrize(
    "code",
    [
        "from asyncio import gather as g\n" + "g\n" * 5_000,
        f"from asyncio.gather import {'b' * 90} as g\n" + "g\n" * 5_000,
        "from asyncio.gather" + ".b" * 2_000 + " import g\n" + "g\n" * 50,
    ],
)
def test_a_text_grows_to_twice_its_length_and_a_little(code: str) -> None:
    found = resolve(tree(code, PYTHON), code, NAMES)
    assert len(found.text) <= 2 * len(code) + GROWTH


def test_a_text_that_would_grow_beyond_is_left_and_that_is_told() -> None:
    code = "from asyncio import gather as g\n" + "g\n" * 5_000
    found = resolve(tree(code, PYTHON), code, NAMES)
    assert (found.text, found.edits) == (code, [])
    assert found.odd == "with its names written in full it is too long"


def test_a_short_text_may_grow_as_it_likes() -> None:
    code = "from asyncio import gather as g\n" + "g()\n" * 100
    assert resolved(code).count("asyncio.gather()") == 100
