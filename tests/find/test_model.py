"""How people ask: learnt from queries with known answers, and what search makes of it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from packlore import cli
from packlore.author import problems
from packlore.find import learn, model, train
from packlore.find.features import features
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


def taught(tmp_path: Path) -> model.Model:
    folder = write_pack(tmp_path)
    return learn.model(rules(folder), learn.read_asked((tmp_path / "asked.json").read_text()))


def test_words_speak_for_the_rule_that_is_asked_for_with_them(tmp_path: Path) -> None:
    known = taught(tmp_path)
    found, outside = model.said(known, "an empty page after lunch")
    assert found["asyncio-timeout"] > max(found["asyncio-other"], outside)
    found, outside = model.said(known, "tulips in the garden")
    assert outside > max(found.values())
    assert sum(map(math.exp, (*found.values(), outside))) == pytest.approx(1, abs=1e-6)


def test_a_misspelt_word_and_half_a_word_speak_as_well(tmp_path: Path) -> None:
    known = taught(tmp_path)
    for query in ("emty pages aftr lunchtime", "EMPTY_PAGE", "lunches"):
        found, outside = model.said(known, query)
        assert found["asyncio-timeout"] > max(found["asyncio-other"], outside), query


def test_what_was_never_asked_is_outside(tmp_path: Path) -> None:
    known = taught(tmp_path)
    for query in ("", "qqq \u4e00"):
        assert model.said(known, query) == (dict.fromkeys(known.rules, model.LEAST), 0.0)


def test_a_feature_that_came_seldom_is_chance_and_a_rules_own_words_count(tmp_path: Path) -> None:
    folder = write_pack(tmp_path)
    asked = [learn.Asked("a till", ("asyncio-other",), "")] * learn.ENOUGH
    rare = [learn.Asked("zeppelin", ("asyncio-other",), "")] * (train.SEEN - 1)
    known = set(learn.model(rules(folder), [*asked, *rare]).rows)
    assert known >= set(features("till"))
    assert not known & set(features("zeppelin"))
    more = learn.model(rules(folder), [*asked, *rare, rare[0]])
    assert set(more.rows) >= set(features("zeppelin"))


def test_of_many_features_those_that_tell_most_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = taught(tmp_path)
    monkeypatch.setattr(train, "MOST", 40)
    small = learn.model(
        rules(tmp_path / "pack"), learn.read_asked((tmp_path / "asked.json").read_text())
    )
    assert len(small.rows) == 40 < len(whole.rows)
    assert set(small.rows) < set(whole.rows)
    found, outside = model.said(small, "an empty page after lunch")
    assert found["asyncio-timeout"] > max(found["asyncio-other"], outside)


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
        for query in ("empty after lunch", "lock the row")
    }
    assert found == {
        "empty after lunch": ["asyncio-timeout"],
        "lock the row": ["asyncio-other"],
    }


def test_what_is_written_is_what_is_read_in_short_lines(tmp_path: Path) -> None:
    known = taught(tmp_path)
    text = model.encode(known)
    again = model.decode(text)
    assert again.rows == known.rows
    assert again.weights == known.weights
    assert (again.rules, again.biases, again.scale, again.learnt) == (
        known.rules,
        known.biases,
        known.scale,
        known.learnt,
    )
    assert known.rows
    assert max(map(len, text.split("\n"))) <= model.LINE + 3


def test_what_is_learnt_twice_is_the_same(tmp_path: Path) -> None:
    assert model.encode(taught(tmp_path)) == model.encode(taught(tmp_path))


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


def broken(change: Mapping[str, object], tmp_path: Path) -> str:
    """The text of a sound model with some fields changed; None takes one out."""
    sound = json.loads(model.encode(taught(tmp_path / "sound")))
    return json.dumps({key: each for key, each in (sound | change).items() if each is not None})


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": "1"},
        {"rules": []},
        {"rules": [1, 2]},
        {"rules": ["a"] * 3_000},
        {"biases": [0.0]},
        {"biases": None},
        {"biases": [1e999, 0, 0]},
        {"biases": ["x", 0, 0]},
        {"scale": 1e300},
        {"scale": float("nan")},
        {"keys": ["AAAA"]},
        {"keys": ["%"]},
        {"keys": 7},
        {"weights": []},
        {"weights": ["AAAA", None]},
        {"learnt": None},
    ],
    ids=str,
)
def test_a_broken_model_costs_only_itself(change: dict[str, object], tmp_path: Path) -> None:
    text = broken(change, tmp_path)
    folder = own(tmp_path / "pack", **{model.FILE.replace("/", "__"): text})
    with pytest.raises(ValueError, match="no model"):
        model.decode(text)
    assert Library.open([folder]).search("bound each call")
    assert [each.code for each in problems(read(folder)[0])].count("model") == 1


@pytest.mark.parametrize("text", ["{", "[]", "{}", "7", "[" * 100_000, ""])
def test_what_is_no_model_at_all_costs_only_itself(text: str, tmp_path: Path) -> None:
    folder = own(tmp_path / "pack", **{model.FILE.replace("/", "__"): text})
    assert Library.open([folder]).search("bound each call")
    assert [each.code for each in problems(read(folder)[0])].count("model") == 1


def test_lint_sees_features_that_are_not_in_order(tmp_path: Path) -> None:
    known = taught(tmp_path / "sound")
    text = model.encode(replace(known, rows=dict([*known.rows.items()][::-1])))
    folder = own(tmp_path / "pack", **{model.FILE.replace("/", "__"): text})
    (problem,) = [each for each in problems(read(folder)[0]) if each.code == "model"]
    assert "not in order" in problem.message
    assert Library.open([folder]).index.search("bound each call") is not None


def test_lint_names_a_rule_that_is_gone(pack: Path) -> None:
    (pack / "rules" / "asyncio-other.md").unlink()
    (problem,) = [each for each in problems(read(pack)[0]) if each.path == model.FILE]
    assert problem.code == "rule-unknown"
    assert "'asyncio-other'" in problem.message
    assert Library.open([pack]).search("why an empty page after lunch")


def test_check_says_when_it_is_stale_and_learns_nothing(
    pack: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["build", "--check", "--pack", str(pack), "--asked", str(tmp_path / "asked.json")]
    monkeypatch.setattr(train, "train", None)
    assert cli.main(command) == 0
    assert cli.main([each for each in command if each != "--check"]) == 0
    (tmp_path / "asked.json").write_text(json.dumps({"asked": {"asyncio-timeout": LUNCH}}))
    capsys.readouterr()
    assert cli.main(command) == 1
    assert capsys.readouterr().out == f"stale {(pack / model.FILE).as_posix()}\n"


def test_a_rules_own_words_make_a_model_stale(pack: Path, tmp_path: Path) -> None:
    rule = pack / "rules" / "asyncio-timeout.md"
    rule.write_text(rule.read_text().replace("waits for ever", "waits for years"))
    command = ["build", "--check", "--pack", str(pack), "--asked", str(tmp_path / "asked.json")]
    assert cli.main(command) == 1


def test_learning_without_its_packages_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_pack(tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    command = ["build", "--pack", str(folder), "--asked", str(tmp_path / "asked.json")]
    assert cli.main(command) == 2
    assert "packlore[learn]" in capsys.readouterr().err
    assert not (folder / model.FILE).exists()


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
