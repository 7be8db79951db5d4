"""Made-up texts: pieces of what readers look for, in any order and any number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from packlore.find.features import features
from packlore.find.model import FILE, Model, begins, encode

ODD = ("\x1b[2J", "\u202e", "\r", "\r\n", "\u2028", "\x85", "\0", "\ufeff", "\u200b", "é", "漢字")
WORDS = ("zebra", "timeout", "TimeoutError: ", "pool_pre_ping", "AsyncSession", "a", " ", "\n")
MARKDOWN = (
    *("# ", "## ", "## Incorrect: x\n", "## Correct\n", "## References\n", "## Exceptions\n"),
    *("```", "```python\n", "```\n", "~~~~\n", "    code\n", "`", "``"),
    *("> ", "- ", "1. ", "- [ ] `asyncio-x`\n", "* * *\n", "---\n", "===\n", "|a|b|\n|-|-|\n"),
    *("[", "](", "[a](b.md)", '[a]: b "', "![](", "<a href=", "<!--", "&#27;", "\\", "**Bad**\n"),
    *("**Impact:** HIGH\n", "(asyncio)", "## A (a)\n", "<!-- rules -->\n", "<!-- /rules -->\n"),
)
YAML = (
    *("title: ", "impact: HIGH\n", "category: asyncio\n", "tags: [", "symptoms:\n", "  - ", "a, "),
    *(
        "aliases: ",
        "applies:\n  python: ",
        "related: []\n",
        "name: own\n",
        "description: ",
        "rules: ",
    ),
    *("metadata:\n  version: ", "]", "{", "}", ": ", "? ", "- ", "|\n", ">\n", "'", '"', "#", "%"),
    *("&a ", "*a", "<<: ", "!!int ", "!!float ", "!!timestamp ", "!!binary ", "!!set ", "!!omap "),
    *("!!python/object/apply:os.system ", "0x", "ffffffff", "1:00", ":59", ".", "e9", "~", "yes"),
    *("---\n", "...\n", "\t", "  ", "\\e[2J", "\\ud800", "\\u202e"),
)
CODE = (
    *(
        "import x\n",
        "from a import b\n",
        "async def f(",
        "def f():\n",
        "class A:\n",
        "@a\n",
        "):\n",
    ),
    *(
        "await ",
        "async with x(",
        "for a in b:\n",
        "try:\n",
        "except A:\n",
        "    ",
        "return ",
        " = ",
    ),
    *(
        "# ",
        '"""',
        "\\n",
        "\\n    ",
        "Traceback (most recent call last):\n",
        'File "a", line 1, in f',
    ),
    *(
        "ValueError: ",
        "a.b.C: ",
        "ERROR ",
        "0x7fff0000",
        "/a/b/c",
        "https://a.b/",
        "2026-01-01 00:00",
    ),
    *("12345678-1234-1234-1234-123456789012", "1.2.3.4:5", "(Background on this error at: "),
)


def pieces(parts: Sequence[str], most: int = 30) -> st.SearchStrategy[str]:
    """Texts of these pieces and of letters of all kinds; some pieces many times."""
    piece = st.one_of(st.sampled_from(parts), st.sampled_from(parts), st.text(max_size=6))
    times = st.sampled_from((1, 1, 1, 1, 2, 3, 40, 400, 4_000))
    many = st.builds(lambda part, number: part * number, piece, times)
    return st.lists(many, max_size=most).map("".join)


headers = pieces((*YAML, *WORDS, *ODD))
bodies = pieces((*MARKDOWN, *WORDS, *ODD))
queries = pieces((*CODE, *WORDS, *ODD, "\ud800", *MARKDOWN[:6]))
markdown = st.one_of(bodies, st.builds("---\n{}\n---\n{}".format, headers, bodies))
names = st.text(
    st.characters(exclude_characters="/", codec="utf-8"), min_size=1, max_size=20
).filter(
    str.isprintable  # others are refused when a pack is read
)


def _model(parts: tuple[list[str], dict[int, list[int]], Any]) -> str:
    """A sound model, with one field changed."""
    rules, rows, (field, value) = parts
    places = len(rules) + 1
    weights = bytes(each % 256 for row in rows.values() for each in (row * places)[:places])
    made = Model(tuple(rules), begins(sorted(rows), places), weights, 0.1, (0.5,) * places, "")
    return json.dumps(json.loads(encode(made)) | {field: value})


_numbers = st.one_of(st.integers(-2, 300), st.just(10**400), st.floats(), st.booleans())
_fields = ("version", "rules", "scale", "biases", "keys", "weights", "learnt", "x")
models = st.one_of(
    st.tuples(
        st.lists(st.sampled_from(("asyncio-timeout", "", "none")), min_size=1, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from(features("zebra pool")), st.integers(0, 2**32 - 1)),
            st.lists(st.integers(0, 255), min_size=1, max_size=4),
            max_size=8,
        ),
        st.tuples(
            st.sampled_from(_fields),
            st.one_of(_numbers, st.lists(_numbers, max_size=4), st.text(max_size=8), st.none()),
        ),
    ).map(_model),
    pieces(('{"rules":', "[", "]", "{", "}", '"version":', '"keys":', ",", "1", "null", '"a"')),
)
PLACES = (
    *(
        "SKILL.md",
        "rules/_sections.md",
        "rules/_template.md",
        "rules/_index.md",
        "rules/asyncio-x.md",
    ),
    *(
        "rules/asyncio-y.md",
        "rules/README.md",
        "references/x.md",
        "checklists/x.md",
        "examples/x.py",
    ),
    *("rules/asyncio-x.yml", "rules/deep/x.md", "assets/x.bin", "rules/x.txt"),
)
packs = st.builds(
    dict[str, bytes].__or__,
    st.dictionaries(
        st.one_of(st.sampled_from(PLACES), names.map("rules/{}.md".format)),
        st.one_of(markdown.map(lambda text: text.encode()), st.binary(max_size=40)),
        max_size=6,
    ),
    st.one_of(st.just({}), models.map(lambda text: {FILE: text.encode()})),
)
"""The files of a pack, by their paths in it."""
