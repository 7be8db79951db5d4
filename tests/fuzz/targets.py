"""What is tried: each step of the server's own, from bytes of a pack to messages of a client."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from packlore import answers, author, render
from packlore.errors import PackError
from packlore.find.language import english
from packlore.find.model import FILE
from packlore.find.query import MAX_TERMS, read_query
from packlore.library import Library
from packlore.pack.assemble import assemble
from packlore.pack.build import derived
from packlore.pack.lint import VERSION
from packlore.pack.model import Pack, PackFile, tokens
from packlore.pack.parse import parse
from packlore.serve.tools import Prompts, Tools
from tests.fuzz import texts
from tests.fuzz.run import Target
from tests.fuzz.servers import applications, messages, over_http, over_stdio, requests, wire
from tests.packs import SECTIONS, SKILL, rule

ODD = {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160), 0x202E, 0xD800)}
"""Some of what no answer may hold."""
FEW = 1.1
"""How far beyond its limit an answer may go for what is said of the cut."""
BASE = {
    "SKILL.md": SKILL.format(name="own").encode(),
    "rules/_sections.md": SECTIONS.encode(),
    "rules/asyncio-timeout.md": rule().encode(),
}


def pack(files: dict[str, bytes]) -> Pack:
    """A sound pack with these files in it."""
    served = {**BASE, **files}
    kept = tuple(PackFile(path, data, _mime(path)) for path, data in sorted(served.items()))
    return assemble(kept, (), folder="", folder_name="own")


def _mime(path: str) -> str:
    return "text/plain" if path.endswith((".md", ".py", ".txt")) else "application/octet-stream"


def _parse(text: str) -> None:
    found = parse(text, "rules/a.md")
    json.dumps(found.frontmatter, allow_nan=False)
    lines = text.count("\n") + text.count("\r") + 2
    for section in found.sections:
        assert 1 <= section.line <= lines
    for example in found.examples:
        assert example.line <= lines
    for problem in found.problems:
        assert str(problem).isprintable()


def _lint(files: dict[str, bytes]) -> None:
    made = pack(files)
    assert "asyncio-timeout" in {each.id for each in made.rules} or files
    for problem in author.problems(made):
        assert problem.line >= 1
        assert problem.path
    if VERSION.fullmatch(made.version):
        with suppress(PackError):
            list(derived(made, Path("nowhere")))


def _query(text: str) -> None:
    assert len(read_query(text).weights) <= MAX_TERMS
    english(text)
    if text.strip():
        answer = answers.hits(_LIBRARY, text, _LIBRARY.search(text))
        assert tokens(answer) <= render.MAX_ANSWER * FEW


_LIBRARY = Library([pack({})])


def _render(given: tuple[dict[str, bytes], str]) -> None:
    files, query = given
    library = Library([pack(files)])
    tools, prompts = Tools(library), Prompts(library)
    answers = [render.catalogue(library), prompts.plan_work(next(iter(library.categories)), query)]
    if query.strip():
        answers.append(tools.find_rules(query).text)
    for entry in (*library.rules(), *library.documents()):
        answers.append(render.whole(library, [entry]))
        answers.append(render.in_brief(library, [entry]))
    for category in library.categories:
        loaded = tools.load_category(category)
        answers += [loaded.text, prompts.review_code(category, query)]
        assert loaded.data["items"]
    for answer in answers:
        assert answer.strip()
        assert set(answer) & ODD == set()
        assert tokens(answer) <= render.MAX_ANSWER * FEW + 3 * len(query)


def _model(given: tuple[str, str]) -> None:
    words, query = given
    made = pack({FILE: words.encode("utf-8", "surrogatepass")})
    author.problems(made)
    library = Library([made])
    assert all(hit.score > 0 for hit in library.search(query + "x"))
    library.nearest(query)


def _pairs(*strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(*strategies)


TARGETS = {
    "parse": Target.of(texts.markdown, _parse),
    "lint": Target.of(texts.packs, _lint),
    "query": Target.of(texts.queries, _query),
    "render": Target.of(_pairs(texts.packs, texts.queries), _render),
    "model": Target.of(_pairs(texts.models, texts.queries), _model),
    "http": Target(requests, applications),
    "http bytes": Target(wire, over_http),
    "stdio": Target(messages, over_stdio),
}
