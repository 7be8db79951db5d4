"""Hostile files and detectors: no crash, and no more than linear time."""

from __future__ import annotations

import ast
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from packlore.check import Detectors
from packlore.check.imports import resolve
from packlore.check.model import Checked
from packlore.check.scan import scan
from packlore.check.sources import text_of
from packlore.check.syntax import CHECKED, PYTHON, tree
from tests.check.detectors import CASES, own, pack, python

SEED = random.randrange(1 << 32)
FILES = 1_000


def _damaged(code: str, chance: random.Random) -> bytes:
    """The code with some bytes lost, doubled, exchanged or made up."""
    data = bytearray(code.encode())
    for _ in range(chance.randrange(1, 12)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                del data[at : at + chance.randrange(40)]
            case 1:
                data[at:at] = data[chance.randrange(len(data) + 1) :][: chance.randrange(60)]
            case 2:
                data[at:at] = chance.choice(
                    [b"(", b")", b"'", b'"""', b":", b"\t", b"\n", b"async "]
                )
            case 3:
                data[at:at] = chance.choice([chance.randbytes(2), b"\x0c", *[b" lambda x: "] * 20])
            case _:
                data[at:at] = chance.choice(["é", "日", "\u202e", "\x1b[31m", "𝒳"]).encode()
    return bytes(data)


def test_damaged_and_random_files_are_checked_or_told() -> None:
    print(f"seed {SEED}")  # noqa: T201 - shown where the test fails
    chance = random.Random(SEED)
    codes = [code for _, code in python()]
    codes += [each.fence.code for rule in pack().rules for each in rule.examples]
    checked = told = 0
    for number in range(FILES):
        data = (
            chance.randbytes(chance.randrange(400))
            if number % 10 == 0
            else _damaged(chance.choice(codes), chance)
        )
        text = text_of("app/x.py", data)
        if not isinstance(text, str):
            told += 1
            continue
        found = scan("app/x.py", text, "Python", own())
        assert isinstance(found, Checked)
        rows = text.split("\n")
        for each in found.findings:
            assert 1 <= each.line <= len(rows)
            assert 1 <= each.column <= len(rows[each.line - 1]) + 1
            assert each.message.isprintable()
            assert each.code.isprintable() or "\t" in each.code
        checked += 1
    assert checked > FILES / 2
    assert told


def test_names_are_resolved_to_code_that_is_still_code() -> None:
    for place, code in python():
        found = resolve(tree(code, PYTHON), code, own().names)
        ast.parse(found.text)
        lines = found.text.count("\n")
        assert lines <= code.count("\n"), place


SHAPES: dict[str, Callable[[int], str]] = {
    "calls in a coroutine": lambda n: "async def f():\n" + "    time.sleep(g(1))\n" * n,
    "awaits in a coroutine": lambda n: "async def f(s: AsyncSession):\n" + "    await s.commit()\n    yield s\n" * n,
    "coroutines": lambda n: "".join(f"@router.get('/')\nasync def f{i}(db: Session = Depends(g)): db.add({i})\n" for i in range(n)),
    "arguments": lambda n: f"asyncio.gather({', '.join(['f(s)'] * 80)})\n" * (n // 60),
    "imports": lambda n: "".join(f"from fastapi import Depends as d{i}\nd{i}()\n" for i in range(n)),
    "try": lambda n: "async def f():\n" + "    try:\n        await g()\n    except Exception:\n        pass\n" * n,
    "with": lambda n: "async def f():\n" + "    async with engine.begin() as c:\n        await c.execute(q)\n" * n,
    "strings": lambda n: "x = '''\n" + "time.sleep(1)\n" * n + "'''\n",
    "comments": lambda n: "# packlore: ignore[a]\ntime.sleep(1)\n" * n,
    "chain": lambda n: "async def f():\n    x = a" + ".b(time.sleep(1))" * (n // 20) + "\n",
    "nested": lambda n: "async def f():\n    " + "g(" * (n // 40) + "time.sleep(1)" + ")" * (n // 40) + "\n",
    "one line": lambda n: "time.sleep(1); " * n,
    "blank": lambda n: "\n" * n * 20,
    "classes": lambda n: "".join(f"class C{i}(Base):\n    x: Mapped[datetime] = mapped_column()\n" for i in range(n)),
}  # fmt: skip


PIECES = ("(", "{[", '"', "- ", "`${", "x=>", 'r#"', "a?b:", "a<", "x: A<", "f(a,", 'f"{')


@pytest.mark.parametrize("name", sorted(CHECKED))
def test_no_text_takes_a_parser_more_than_linear_time(name: str) -> None:
    """In a process of its own: a parser may end it."""
    command = [sys.executable, "-c", PARSING, name, *PIECES]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr[-400:]) == (0, "", "")


PARSING = """
import sys, time
from ast_grep_py import SgRoot
def spent(text):
    start = time.thread_time()
    SgRoot(text, sys.argv[1]).root().find_all({"rule": {"kind": "ERROR"}})
    return time.thread_time() - start
SgRoot("".join(" " * n + "a:\\n" for n in range(340)), sys.argv[1]).root()
for piece in sys.argv[2:]:
    small, large = (piece * (size // len(piece)) for size in (8_000, 64_000))
    if spent(large) > 28 * max(spent(small), 0.02) and min(
        spent(large) for _ in range(2)) > 28 * max(spent(small), 0.02):
        print(ascii(piece))
"""


def _numbered(code: str, often: int) -> str:
    """The code over and over, what it makes under other names each time: none is found early."""
    made = {
        node.name if isinstance(node, _NAMED) else node.id
        for node in ast.walk(ast.parse(code))
        if isinstance(node, _NAMED) or (isinstance(node, ast.Name) and _is_made(node))
    }
    names = re.compile(rf"\b({'|'.join(map(re.escape, sorted(made)))})\b")
    return "".join(names.sub(rf"\1_{number}", code) for number in range(often))


_NAMED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _is_made(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store) and not node.id.startswith("__")


@pytest.mark.parametrize("again", [str.__mul__, _numbered], ids=["same", "numbered"])
@pytest.mark.parametrize("rule", sorted({each.rule for each in own().all}))
def test_no_detector_takes_more_than_linear_time_for_what_it_finds(
    rule: str, again: Callable[[str, int], str]
) -> None:
    """The cases of its rule, over and over: each place in them is one that it looks at."""
    cases = (CASES / f"{rule}.py").read_text(encoding="utf-8")
    asked = Detectors(tuple(each for each in own().all if each.rule == rule))
    often = max(1, 24_000 // len(cases))
    _is_linear(again(cases, often), again(cases, often * 4), asked)


STATEMENTS = {
    "clients": "    c{0} = httpx.Client()\n    c{0}.get(u)\n",
    "unused clients": "    c{0} = httpx.Client()\n    d{0}.get(u)\n",
    "gathers": "    t{0} = [g(x) for x in y]\n    await asyncio.gather(*t{0})\n",
    "tasks": "    t{0} = asyncio.create_task(g())\n    u{0}.cancel()\n",
    "sessions": "    s{0} = Session()\n    s{0}.add(x)\n    r{0}.commit()\n",
    "lists": "    t{0}.append(g(x))\n    await asyncio.gather(*t{0})\n",
}
"""Lines of one function, each with names of its own."""


@pytest.mark.parametrize("end", ["\n", ";"])
@pytest.mark.parametrize("name", STATEMENTS)
def test_no_detector_takes_more_than_linear_time_in_one_function(name: str, end: str) -> None:
    def code(often: int) -> str:
        lines = "".join(STATEMENTS[name].format(number) for number in range(often))
        rows = lines if end == "\n" else f"    {'; '.join(map(str.strip, lines.splitlines()))}\n"
        imports = "import asyncio, httpx\nfrom sqlalchemy.orm import Session\n"
        return f"{imports}\nasync def f(y, u):\n{rows}"

    _is_linear(code(200), code(800), own())


def _is_linear(code: str, four: str, asked: Detectors) -> None:
    """Four times the code takes at most nine times as long; sixteen would be quadratic."""
    once, fourfold = _cpu(code, asked), _cpu(four, asked)
    for _ in range(2):
        if fourfold <= 9 * max(once, 0.02):
            break
        once, fourfold = min(once, _cpu(code, asked)), min(fourfold, _cpu(four, asked))
    assert fourfold <= 9 * max(once, 0.02)


def _cpu(code: str, detectors: Detectors) -> float:
    start = time.process_time()
    scan("app/x.py", code, "Python", detectors)
    return time.process_time() - start


@pytest.mark.parametrize("shape", SHAPES)
def test_no_detector_takes_more_than_linear_time(shape: str) -> None:
    """Four times the code takes at most nine times as long; sixteen would be quadratic."""
    make = SHAPES[shape]
    for each in (*((one,) for one in own().all), own().all):
        asked = Detectors(each)
        code, four = make(400), make(1_600)
        if not asked.of("Python", "app/x.py", code):
            continue
        once, fourfold = _cpu(code, asked), _cpu(four, asked)
        for _ in range(2):
            if fourfold <= 9 * max(once, 0.01):
                break
            once, fourfold = min(once, _cpu(code, asked)), min(fourfold, _cpu(four, asked))
        assert fourfold <= 9 * max(once, 0.01), each[0].id
