"""No regular expression of the server takes more than linear time, whatever text it is given.

Each has a text here that it matches. From that text inputs are made as one would to attack it:
every piece of it is repeated, with what came before and after, and with an end that does not fit.
"""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest

from packlore.pack import categories, lint
from tests.proofs.harness import ROOT

PACKAGE = ROOT / "server" / "packlore"
MOST = 28.0
"""Eight times the length may take 8 times as long, and 64 times where the cost is quadratic."""
LONGEST = 40
"""Characters of a text below, so that its pieces are few."""

TEXTS: dict[str, str] = {
    "check.detectors._NAME": "a_1.b.C",
    "check.edits._PATCHED": "*** Update File: a b",
    "check.ignores._COMMENT": "a  # packlore: ignore[b, c-d] e",
    "check.imports._BETWEEN": "from a import (b, # c\n d)",
    "check.lookups._ALONE": "$NAME_1",
    "check.lookups._CAUGHT": "$$$NAME_1",
    "check.lookups._PLAIN": "a_1",
    "check.literals._CHARACTER": "a_1",
    "check.literals._CLASS": r"[^]a\]b[:alpha:]c-d]",
    "check.literals._ESCAPE": r"\p{Greek}\x{1F}\pL\x41\u0041\w",
    "check.literals._FOLDS": "(?si)a",
    "check.literals._GROUP": "(?P<name>(?s:",
    "check.literals._REPEAT": "{1,23}?*+?",
    "check.words._VARIABLE": "$$$A_1 b",
    "check.words._WORD": "async def a_1",
    "check.places._TEST_FILE": "a_test.py",
    "check.places._STARS": "a*b**c",
    "check.plain._ATOM": r"(?is:[^a\]b-c].\w)(?P<a>d)",
    "check.plain._FLAGS": "(?is)a",
    "check.plain._MEMBER": r"a-\]\wb",
    "check.plain._COUNT": r"^(?:[^\n;]*[\n;]){399}",
    "check.scan._VARIABLE": "a $B_1 $$C",
    "cli.complete._SAFE": "a@b%c+d=e:f,g./h-1",
    "cli.terminal._HEADER": "---\na: b\nc: d\n---\n",
    "cli.terminal._TICKS": "a```b`",
    "find.features._WORD": "pool_size 漢字 é12 404",
    "find.language._WORD": "la règle_1 a",
    "find.query._CODE": "async def a\n  x[1] = 2\na.b(c)\n",
    "find.query._COMMENT": 'a = 1  # b\n"""c"""',
    "find.query._FLAT_CODE": "async def f(a): b = await c(d)",
    "find.query._INDENT": "with a:  b: c.d(e)",
    "find.query._LINE_START": "def f(): for a in b: from c import d",
    "find.query._MESSAGE": "a.b.CError: c d.E.F: ERROR g",
    "find.query._NOISE[0]": "at 0x7fff12ab00",
    "find.query._NOISE[1]": "12345678-1234-1234-1234-123456789abc",
    "find.query._NOISE[2]": "C:/a.b/c-d\\e/ /f/g",
    "find.query._NOISE[3]": "2026-01-02T03:04:05.678Z",
    "find.query._NOISE[4]": "10.1.22.33:5432",
    "find.query._NOISE[5]": "(Background on this error at: https://a)",
    "find.query._NOISE[6]": 'File "/a/b.py", line 12, in <module>',
    "find.query._NOISE[7]": "Traceback (most recent call last):",
    "find.query._NOTE": "a  # b c\n#\td",
    "find.shapes._BLOCK": "async with a(b) as c: d",
    "find.shapes._CALL": "a.b_1(c(é(",
    "find.shapes._FRESH": "async  def f",
    "find.shapes._NAME": "a_1.é",
    "find.shapes._SAID": "await a; return b; pass",
    "find.why._WORD": "pool_size é12 x",
    "find.terms._CAMEL": "HTTPServer2Error",
    "find.terms._HAN": "a漢字b",
    "find.terms._WORD": "pool_size 漢字 é12 404",
    "pack.build._LINK": "[a](https://b.c/d) [e](http://f)",
    "pack.build._LIST": "<!-- rules -->\na\n<!-- /rules -->",
    "pack.build._VERSION": '{"version":  "1.2.3"}',
    "pack.categories._FIELD": "**Impact:** HIGH\n**B**: c",
    "pack.categories._IMPACT": "MEDIUM-HIGH or LOW",
    "pack.categories._SECTION": "1. Asyncio x (asyncio-1, HIGH) y",
    "pack.form.LINK": "[a b]( <c.md> 'd')",
    "pack.form._RANGE": ">=3.11,<4, != 3.12.1",
    "pack.lint.VERSION": "12.3.45rc1",
    "pack.lint._ADDRESS": "https+a.b-c:d",
    "pack.lint._NAME": "ab-c1-d",
    "pack.lint._NAMED": "a `b-c` d_e `f`",
    "pack.lint._SPAN": "a `b c` ``d`",
    "pack.lint._WORD": "a-b_c é",
    "pack.markdown.FENCE": "a\n```py\nb\n``\n```\n ~~~~\nc\n~~~~~ \n",
    "pack.markdown.HEADING": "# a\n##\tb c\n",
    "pack.parse._ODD_SPACE": "a\u3000b",
    "pack.parse._LABEL": "** ❌ do not (anti-pattern):**",
    "pack.scaffold._DETECTOR": "rules/a.b.yml",
    "pack.scaffold._FIELDS[category]": "title: a\ncategory: b\n",
    "pack.scaffold._FIELDS[impact]": "impact: a\r\nb: c",
    "pack.scaffold._FIELDS[title]": "title: a b\n",
    "pack.scaffold._HEADER": "---\na: b\n---\nc",
    "pack.scaffold._ID": "ab-c1-d",
    "pack.scaffold._LANGUAGE": "a: b\nlanguage:  c\n",
    "pack.scaffold._TITLE": "# a\n# b\r\n",
    "pack.values._ODD": "a\x1b[2Jb\u202ec",
    "project.folder._BELOW": "a-b_1.txt",
    "project.folder._REQUIREMENTS": "requirements-a.b.txt",
    "project.locks._COMMENT": "a #b \t# c",
    "project.locks._ENTRY": 'version = "1.2"  ',
    "project.locks._OPTIONS": "a==1 --hash=b\t-c",
    "project.locks._PYTHON": "cpython-3.12.4",
    "project.locks._REQUIREMENT": "a-b.c [d,e] (>=1.2,<3) ; f == 'g'",
    "project.locks._TABLE": "[[packages]]  ",
    "project.note._BULLET": "- a\n- b",
    "project.note._END": "a.  b! c?\nd",
    "project.note._SAID": "py-a.b 1.2 to 3.4.",
    "project.versions._CLAUSE": ">= 1.2.3+a-b!c.*",
    "project.versions._NAME": "a-b_c.1d",
    "project.versions._RUN": "a-_.b--c",
    "project.versions._VERSION": "v1!2.3.4-rc_1.post2.dev3+a.b-1",
    "render._DROPPED": "Incorrect: a",
    "render._GAP": "a\n\n\n\nb",
    "render._MARK": "```\na\n```",
    "serve.http._PORT": "localhost:8765",
}
BOUNDED: dict[str, Callable[[str], object]] = {"pack.categories._SECTION": categories.section}
"""Where what is given to a pattern is cut first, the function that cuts it."""
DYNAMIC = {
    "check.places._name",
    "cli.hooking._depends",
    "pack.lint._stands",
}
"""Functions that make a pattern of what they are given."""


def modules() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.stem.startswith("__"):
            yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def within(name: str, value: object) -> Iterator[tuple[str, re.Pattern[Any]]]:
    """The patterns in a value of a module, by their names."""
    if isinstance(value, re.Pattern):
        yield name, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from within(f"{name}[{key}]", each)
    elif isinstance(value, (list, tuple)):
        for number, each in enumerate(value):
            yield from within(f"{name}[{number}]", each)


def patterns() -> dict[str, re.Pattern[Any]]:
    """Every compiled pattern by its module and name; one that is imported counts where it is from."""
    found: dict[str, re.Pattern[Any]] = {}
    for module in modules():
        tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        own = {
            target.id
            for node in tree.body
            if isinstance(node, (ast.Assign, ast.AnnAssign))
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        values = vars(importlib.import_module(f"packlore.{module}"))
        for name in own:
            found |= within(f"{module}.{name}", values.get(name))
    return found


PATTERNS = patterns()


def used(name: str) -> set[str]:
    """The methods that the server calls of a pattern."""
    last = re.escape(name.rpartition(".")[2].partition("[")[0])
    sources = (path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    return {each for text in sources for each in re.findall(rf"\b{last}(?:\[\w+\])?\.(\w+)", text)}


def work(name: str, pattern: re.Pattern[Any]) -> Callable[[str], object]:
    """What is done with a pattern: one that is only matched is not looked for at each place."""
    if name in BOUNDED:
        return BOUNDED[name]
    anchored = used(name)
    if anchored and anchored <= {"match", "fullmatch"}:
        return lambda text: [getattr(pattern, each)(text) for each in anchored]
    if isinstance(pattern.pattern, bytes):
        return lambda text: [*pattern.finditer(text.encode())]
    return lambda text: [*pattern.finditer(text)]


def attacks(text: str) -> Iterator[Callable[[int], str]]:
    """Texts of any length that are made of this one, with each piece of it repeated."""

    def made(head: str, pump: str, tail: str, length: int) -> str:
        return head + pump * (length // len(pump)) + tail

    words = [each.span() for each in re.finditer(r"\w+|\s+|[^\w\s]", text)]
    pieces = {(start, end) for start, _ in words for _, end in words if start < end}
    pieces |= {(i, i + n) for n in (1, 2) for i in range(len(text) - n + 1)}
    known = {
        (text[: start * kept], text[start:end], tail)
        for start, end in pieces
        for kept in (0, 1)
        for tail in (text[end:], "\0\n", "")
    }
    for each in sorted(known):
        yield partial(made, *each)


def growth(use: Callable[[str], object], made: Callable[[int], str]) -> float:
    """How many times longer a text of eight times the length takes; in time of this thread, of
    each the best. Short texts come first: there the worst of patterns is seen, too."""

    def spent(text: str, times: int) -> float:
        start = time.thread_time()
        for _ in range(times):
            use(text)
        return (time.thread_time() - start) / times

    found = 0.0
    for length, times in ((60, 16), (500, 2)):
        small, large = made(length), made(8 * length)
        best_small = best_large = float("inf")
        for _ in range(5):
            best_small = min(best_small, spent(small, times))
            best_large = min(best_large, spent(large, 1))
            found = best_large / max(best_small, 1e-7)
            if found < MOST / 2:
                break
        if found >= MOST:
            break
    return found


def slow(use: Callable[[str], object], text: str) -> str | None:
    """The beginning of an attack that takes more than linear time; None where none does."""
    return next((made(20) for made in attacks(text) if growth(use, made) >= MOST), None)


def test_each_pattern_has_a_text_and_each_text_a_pattern() -> None:
    assert set(TEXTS) == set(PATTERNS)


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_no_text_takes_a_pattern_more_than_linear_time(name: str) -> None:
    text, pattern = TEXTS[name], PATTERNS[name]
    assert len(text) <= LONGEST
    given: Any = text.encode() if isinstance(pattern.pattern, bytes) else text
    assert pattern.search(given), "the text is to be one that the pattern matches"
    assert slow(work(name, pattern), text) is None


@pytest.mark.parametrize(
    ("planted", "text"),
    [
        (r"^(.+?)\s*\(([a-z]+)([^)]*)\)$", "a (b, c)"),
        (r"\s+$", "a "),
        (r"<!-- rules[^>]*-->.*?<!-- /rules -->", "<!-- rules --> a <!-- /rules -->"),
        (r"\[[^\]]*\]\(([^)]+)\)", "[a](b)"),
        (r"(```+).*\n", "```\n"),
    ],
)
def test_a_planted_pattern_is_seen(planted: str, text: str) -> None:
    pattern = re.compile(planted)
    assert slow(lambda given: [*pattern.finditer(given)], text)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Calls of `re` in functions, by the name of the function."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for each in ast.walk(node):
                if (
                    isinstance(each, ast.Call)
                    and isinstance(each.func, ast.Attribute)
                    and ast.unparse(each.func.value) == "re"
                    and each.func.attr != "escape"
                ):
                    yield node.name, each


def in_functions(sources: Iterable[tuple[str, str]]) -> set[str]:
    return {
        f"{name}.{function}" for name, text in sources for function, _ in calls(ast.parse(text))
    }


def test_no_function_has_a_pattern_of_its_own() -> None:
    """A pattern has a name in its module: only so is it seen here."""
    sources = [
        (name, (PACKAGE / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))
        for name in modules()
    ]
    assert in_functions(sources) == DYNAMIC
    planted = ("x", "import re\ndef f(a):\n    return re.sub('a', 'b', a)\n")
    assert in_functions([planted]) == {"x.f"}


@pytest.mark.parametrize("rule", ["a.a", "a b", "..", "a.a.a.a.a.a.a.b"])
def test_an_id_is_looked_for_in_linear_time(rule: str) -> None:
    assert slow(lambda text: lint._stands(rule, text), rule) is None
