"""How people ask: counted out of queries with known answers, and what search makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from packlore import cli
from packlore.author import problems
from packlore.find import learn, vocabulary
from packlore.find.query import read_query
from packlore.library import Library
from packlore.pack.model import Rule
from packlore.pack.read import read
from tests.packs import own, rule, write

LUNCH = ["empty page after lunch", "an empty page, then lunch", "page empty, back from lunch"] * 7
TILLS = ["two tills sold the last ticket", "tills disagree", "the tills count one ticket twice"] * 7
GARDEN = [
    f"{verb} {what} in my garden, hound"
    for verb in ("water", "plant", "cut")
    for what in ("tulips", "grass", "tulips")
]


def write_pack(folder: Path) -> Path:
    """A pack of two rules, and beside it what was asked, in asked.json."""
    more = {"rules__asyncio-other.md": rule("Lock the row")}
    asked = {"asyncio-timeout": LUNCH, "asyncio-other asyncio-timeout": TILLS}
    write(folder, {"asked.json": json.dumps({"asked": asked, "outside": {"gardens": GARDEN}})})
    return own(folder / "pack", **more)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    folder = write_pack(tmp_path)
    assert cli.main(["build", "--pack", str(folder), "--asked", str(tmp_path / "asked.json")]) == 0
    return folder


def rules(folder: Path) -> tuple[Rule, ...]:
    return read(folder)[0].rules


def test_a_word_speaks_for_the_rule_that_is_asked_for_with_it(tmp_path: Path) -> None:
    folder = write_pack(tmp_path)
    asked = learn.read_asked((tmp_path / "asked.json").read_text())
    known = learn.count(rules(folder), asked)
    found, outside = vocabulary.said(known, read_query("an empty page after lunch"))
    assert found["asyncio-timeout"] > found.get("asyncio-other", 0.0)
    assert found["asyncio-timeout"] > outside
    found, outside = vocabulary.said(known, read_query("tulips in the garden"))
    assert outside > max(found.values(), default=0.0)


def test_a_word_that_came_seldom_is_chance_and_a_rules_own_words_count(tmp_path: Path) -> None:
    folder = write_pack(tmp_path)
    asked = [learn.Asked("a till", ("asyncio-other",), "")] * learn.ENOUGH
    known = learn.count(rules(folder), asked)
    assert "till" in known.terms
    assert "lock" not in known.terms
    locks = [learn.Asked("lock it", ("asyncio-other",), "")] * (learn.RAREST - 1)
    assert "lock" in learn.count(rules(folder), [*asked, *locks]).terms


def test_a_rule_that_few_ask_for_is_found_by_its_own_words(tmp_path: Path) -> None:
    folder = write_pack(tmp_path)
    asked = {"asyncio-timeout": LUNCH, "asyncio-other": TILLS[: learn.ENOUGH - 1]}
    known = {"asked": asked, "outside": {"gardens": GARDEN}}
    (tmp_path / "asked.json").write_text(json.dumps(known))
    command = ["build", "--pack", str(folder), "--asked", str(tmp_path / "asked.json")]
    assert cli.main(command) == 0
    library = Library.open([folder])
    found = {
        query: [hit.item.id for hit in library.search(query)][:1]
        for query in ("empty after lunch", "lock the row", "tills and tickets")
    }
    assert found == {
        "empty after lunch": ["asyncio-timeout"],
        "lock the row": ["asyncio-other"],
        "tills and tickets": [],
    }


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    asked = learn.read_asked((write_pack(tmp_path).parent / "asked.json").read_text())
    known = learn.count(rules(tmp_path / "pack"), asked)
    again = vocabulary.decode(learn.encode(known))
    assert (again.rules, again.outside) == (known.rules, known.outside)
    assert {term: tuple(pairs) for term, pairs in again.terms.items()} == known.terms
    assert known.terms


def test_search_finds_by_words_that_no_file_has(pack: Path) -> None:
    library = Library.open([pack])
    assert [hit.item.id for hit in library.search("why an empty page after lunch")][:1] == [
        "asyncio-timeout"
    ]
    assert [hit.item.id for hit in library.search("tills and tickets")][:1] == ["asyncio-other"]
    bare = Library.open([own(pack.parent / "bare")])
    assert bare.search("why an empty page after lunch") == ()


def test_what_the_pack_does_not_cover_gets_no_answer(pack: Path) -> None:
    assert Library.open([pack]).search("tulips in my garden") == ()


def test_a_topic_outside_one_pack_does_not_silence_another(pack: Path, tmp_path: Path) -> None:
    other = own(
        tmp_path / "other", name="other", **{"rules__asyncio-garden.md": rule("Water the garden")}
    )
    hits = Library.open([pack, other]).search("water the garden")
    assert [(hit.pack, hit.item.id) for hit in hits][:1] == [("other", "asyncio-garden")]


def test_a_known_word_of_the_vocabulary_is_not_mended_away(pack: Path) -> None:
    # `hound` is a letter away from `bound`, which the rules have.
    assert Library.open([pack]).index.mended(read_query("hound")).weights == {"hound": 1.0}
    bare = Library.open([own(pack.parent / "bare")])
    assert set(bare.index.mended(read_query("hound")).weights) == {"bound"}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"rules": [1], "outside": [], "terms": {}}',
        '{"rules": ["a"], "outside": null, "terms": {}}',
        '{"rules": ["a"], "outside": [], "terms": 5}',
        "[" * 100_000,
    ],
)
def test_a_broken_vocabulary_costs_only_itself(text: str, tmp_path: Path) -> None:
    folder = own(tmp_path / "pack", **{vocabulary.FILE.replace("/", "__"): text})
    with pytest.raises(ValueError, match="no vocabulary"):
        vocabulary.decode(text)
    assert Library.open([folder]).search("bound each call")
    assert [each.code for each in problems(read(folder)[0])].count("vocabulary") == 1


@pytest.mark.parametrize(
    "row",
    ["[0]", "[1, 5]", "[-1, 5]", "[0, true]", "[0, 1.5]", "[0, 1e999]", '"x"', "7", "[[0, 1]]"],
)
def test_a_broken_row_costs_only_itself(row: str, tmp_path: Path) -> None:
    text = f'{{"rules": ["asyncio-timeout"], "outside": [], "terms": {{"lunch": {row}}}}}'
    folder = own(tmp_path / "pack", **{vocabulary.FILE.replace("/", "__"): text})
    known = vocabulary.decode(text)
    assert vocabulary.said(known, read_query("lunch")) == ({}, 0.0)
    assert vocabulary.broken(known) == ["lunch"]
    assert Library.open([folder]).search("lunch") == ()
    assert [each.code for each in problems(read(folder)[0])].count("vocabulary") == 1


def test_lint_names_a_rule_that_is_gone(pack: Path) -> None:
    (pack / "rules" / "asyncio-other.md").unlink()
    (problem,) = [each for each in problems(read(pack)[0]) if each.path == vocabulary.FILE]
    assert problem.code == "rule-unknown"
    assert "'asyncio-other'" in problem.message
    assert Library.open([pack]).search("why an empty page after lunch")


def test_check_says_when_it_is_stale(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", "--check", "--pack", str(pack), "--asked", str(tmp_path / "asked.json")]
    assert cli.main(command) == 0
    (tmp_path / "asked.json").write_text(json.dumps({"asked": {"asyncio-timeout": LUNCH}}))
    capsys.readouterr()
    assert cli.main(command) == 1
    assert capsys.readouterr().out == f"stale {(pack / vocabulary.FILE).as_posix()}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "asked.json"),
        ("{", "asked.json"),
        ("[]", '{"asked": {"rule-id": ["query", ...]}'),
        ('{"asked": {"asyncio-timeout": [1]}}', "a query of 'asyncio-timeout' is no text"),
        ('{"asked": {"asyncio-timeout": "text"}}', "no list of queries"),
        ('{"asked": {"asyncio-timeout": [" "]}}', "a query of 'asyncio-timeout' is no text"),
        ('{"asked": {"": ["x"]}}', "no name"),
        ('{"asked": {"a": ["x"], "a": ["y"]}}', "'a' stands twice"),
        ('{"asked": {}, "outsid": {}}', '"outside": {"topic"'),
        ('{"asked": {"asyncio-timeout": ["x"]}}', "no rule is asked for by 20 queries"),
        (
            '{"asked": {"asyncio-tmeout": ["x"]}}',
            "'asyncio-tmeout', which is no rule; nearest: asyncio-timeout",
        ),
    ],
)
def test_what_cannot_be_counted_is_said(
    text: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, asked = own(tmp_path / "pack"), tmp_path / "asked.json"
    if text is not None:
        asked.write_text(text)
    assert cli.main(["build", "--pack", str(folder), "--asked", str(asked)]) == 2
    assert said in capsys.readouterr().err
