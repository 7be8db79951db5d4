"""Answers as Markdown: what is kept, what is cut, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from packlore import answers, render
from packlore.find.filter import Entry
from packlore.library import Library
from packlore.pack.model import Rule, tokens
from tests.packs import FOREIGN_RULE, own, rule


def open_pack(folder: Path, **more: str | bytes) -> Library:
    return Library.open([own(folder, **more)])


def first(library: Library, name: str) -> Rule:
    item = library.get(name).item
    assert isinstance(item, Rule)
    return item


def test_brief_is_the_rule_without_its_wrong_block_and_links(tmp_path: Path) -> None:
    text = render.brief(first(open_pack(tmp_path), "asyncio-timeout"))
    assert text.startswith("# Bound each call\n\nA call without a bound waits for ever.\n")
    assert "await read_bounded()" in text
    assert "## Exceptions" in text
    for gone in ("Incorrect", "await read()", "References", "docs.python.org", "symptoms"):
        assert gone not in text


def test_brief_leaves_out_what_was_measured_and_nothing_beside_it(tmp_path: Path) -> None:
    text = rule("Bound it").replace(
        "waits for ever.\n\n## Incorrect",
        "waits for ever.\n\n**Measured:** 3 of 3.\n\nBound it. **Measured:** 2.\n\n## Incorrect",
    )
    item = first(open_pack(tmp_path, **{"rules__asyncio-bound.md": text}), "asyncio-bound")
    assert "3 of 3" in item.body
    assert "3 of 3" not in render.brief(item)
    assert "waits for ever.\n\nBound it. **Measured:** 2.\n" in render.brief(item)


def test_brief_of_bold_labels_drops_the_wrong_block_and_its_label(tmp_path: Path) -> None:
    library = open_pack(tmp_path, **{"rules__pooling-wait.md": FOREIGN_RULE})
    text = render.brief(first(library, "pooling-wait"))
    assert text == (
        "## Bound each wait\n\nProse first.\n\n**Correct (it ends):**\n\n"
        "```typescript\nawait bounded(read())\n```\n"
    )


def test_a_hit_is_brief_and_the_others_are_one_line(tmp_path: Path) -> None:
    library = open_pack(tmp_path, **{"rules__asyncio-other.md": rule("Bound the other call")})
    found = [replace(hit, score=0.7) for hit in library.search("bound call")]
    text = answers.hits(library, "bound call", found)
    assert text.count("```python") == 1
    head, others = text.split("\nAlso:\n")
    assert head.startswith("asyncio-")
    assert len(others.strip().splitlines()) == len(library.search("bound call")) - 1
    assert all(" tokens): " in line for line in others.strip().splitlines())


def test_where_nothing_fits_one_line_names_the_categories_and_the_nearest(tmp_path: Path) -> None:
    more = {"references__garden.md": "# The bounds of my garden\n"}  # no rule, however near
    library = open_pack(tmp_path, **{"rules__asyncio-other.md": rule("Water the garden")}, **more)
    assert answers.hits(library, "bounds of my garden", ()) == (
        "Nothing fits. The rules here are about: asyncio."
        " Nearest: asyncio-other (Water the garden).\n"
    )
    assert (
        answers.hits(library, "xyzzy", ()) == "Nothing fits. The rules here are about: asyncio.\n"
    )


def test_a_cut_text_is_within_its_limit_and_says_what_is_missing() -> None:
    text = "Word.\n\n```python\n" + "x = 1\n\n" * 4000 + "```\n"
    short = render.cut(text, 100)
    assert tokens(short) <= 110
    assert short.count("```") % 2 == 0
    assert "tokens more" in short
    assert render.cut("short\n", 100) == "short\n"
    assert tokens(render.cut("ü" * 1000, 100)) <= 110


def test_an_answer_that_is_too_long_names_what_it_leaves_out(tmp_path: Path) -> None:
    long = rule("Long").replace("- None.", "- None.\n\n" + "Word and word. " * 4000)
    names = [f"asyncio-long{n}" for n in range(5)]
    library = open_pack(tmp_path, **{f"rules__{name}.md": long for name in names})
    text = render.whole(library, library.category("asyncio"))
    assert tokens(text) <= render.MAX_ANSWER + 200
    assert "Left out" in text.splitlines()[-1]


def test_the_catalogue_lists_each_rule_and_document_once(tmp_path: Path) -> None:
    library = open_pack(tmp_path, references__notes="# Notes")
    text = render.catalogue(library)
    assert text.count("asyncio-timeout (HIGH") == 1
    assert text.count("references/notes (reference") == 1


def test_the_catalogue_of_one_pack_leaves_the_others_out(tmp_path: Path) -> None:
    folders = [own(tmp_path / name, name=name) for name in ("one", "two")]
    library = Library.open(folders)
    assert "two/asyncio-timeout" in render.catalogue(library)
    assert "two/asyncio-timeout" not in render.catalogue(library, pack="one", category="asyncio")


def test_a_large_library_is_listed_by_category(tmp_path: Path) -> None:
    more = {f"rules__asyncio-r{n}.md": rule(f"Rule number {n}") for n in range(400)}
    library = open_pack(tmp_path, **more)
    text = render.catalogue(library)
    assert "asyncio (401 rules" in text
    assert "asyncio-r7" not in text
    assert tokens(text) < 300


def test_rows_for_programs_say_what_the_text_says(tmp_path: Path) -> None:
    library = open_pack(tmp_path)
    found = library.search("bound call")
    text = answers.hits(library, "bound call", found)
    for row in answers.hit_rows(library, found):
        assert row["id"] in text
        assert str(row["tokens"]) in text
    (row,) = render.item_rows(library, [Entry("own", first(library, "asyncio-timeout"))])
    assert row["impact"] == "HIGH"
