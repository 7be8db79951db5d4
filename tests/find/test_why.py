"""What an answer says of itself: how sure it is, and why it was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from packlore import answers
from packlore.find import Hit
from packlore.find.filter import LIKELY, SURE
from packlore.library import Library
from tests.find.terraform import terraform


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library.open([terraform(tmp_path_factory.mktemp("terraform"))])


def hit(library: Library, name: str, score: float, why: str = "") -> Hit:
    entry = library.get(name)
    return Hit(entry.pack, entry.item, score, why)


def test_a_score_has_a_word(library: Library) -> None:
    words = {score: hit(library, "state-plan", score).sure for score in (1, SURE, LIKELY, 0.1)}
    assert words == {1: "sure", SURE: "sure", LIKELY: "likely", 0.1: "weak"}
    assert hit(library, "state-plan", SURE - 0.01).sure == "likely"
    assert hit(library, "state-plan", LIKELY - 0.01).sure == "weak"


def test_the_symptom_that_was_asked_for_is_named(library: Library) -> None:
    found = hit(library, "state-locking", 0.9)
    said = library.index.why(
        "Releasing... Error acquiring the state lock: Conditional check", found
    )
    assert said == "symptom: Error acquiring the state lock"


def test_else_the_words_that_the_item_has_are_named_as_they_were_written(library: Library) -> None:
    found = hit(library, "config-for-each", 0.9)
    said = library.index.why("all Instances are recreated when I remove one", found)
    assert said.startswith("words: ")
    assert set(said.removeprefix("words: ").split(", ")) <= {"Instances", "recreated", "remove"}
    assert library.index.why("tulips", found) == ""


def test_what_is_known_already_is_said(library: Library) -> None:
    found = hit(library, "config-for-each", 0.9, "line 3: count = 2")
    assert library.index.why("tulips", found) == "line 3: count = 2"


def test_a_sure_answer_is_the_rule_and_a_weak_one_says_what_it_is_about(library: Library) -> None:
    query = "Error acquiring the state lock"
    found = hit(library, "state-locking", 0.9)
    sure = answers.hits(library, query, [found])
    assert sure.startswith("state-locking (HIGH, whole ")
    assert "): sure (symptom: Error acquiring the state lock)\n" in sure
    assert "use_lockfile" in sure
    weak = answers.hits(library, query, [hit(library, "state-locking", 0.2), found])
    assert "weak match" in weak.split("\n")[0]
    assert "Keep state in a backend that locks\n- symptom: Error acquiring" in weak
    assert "use_lockfile" not in weak
    assert "Also:" in weak
    assert answers.hit_rows(library, [found])[0]["sure"] == "sure"


def test_beside_a_sure_answer_only_likelier_others_are_named(library: Library) -> None:
    def named(score: float, other: float) -> bool:
        found = [hit(library, "state-locking", score), hit(library, "state-plan", other)]
        return "state-plan" in answers.hits(library, "state lock", found)

    assert named(0.9, answers.LEAST_BESIDE)
    assert not named(0.9, answers.LEAST_BESIDE - 0.001)
    assert named(0.7, 0.001)
    assert named(0.1, 0.001)


def test_a_document_comes_before_no_rule_unless_it_is_asked_for(tmp_path: Path) -> None:
    folder = terraform(tmp_path)
    (folder / "references").mkdir()
    text = "# Locks of state\n\n" + "Error acquiring the state lock. " * 20
    (folder / "references" / "locks.md").write_text(f"---\ntitle: Locks\n---\n{text}\n")
    library = Library.open([folder])
    query = "Error acquiring the state lock"
    assert next(each.item.id for each in library.search(query)) == "state-locking"
    assert [each.item.id for each in library.search(query, kind="reference")] == [
        "references/locks.md"
    ]


def test_what_only_lists_rules_never_comes_first_unless_it_is_asked_for(tmp_path: Path) -> None:
    folder = terraform(tmp_path)
    (folder / "checklists").mkdir()
    text = "# Zeppelins\n\n" + "- [ ] moor the zeppelin\n" * 9
    (folder / "checklists" / "air.md").write_text(f"---\ntitle: Zeppelins\n---\n{text}")
    with (folder / "SKILL.md").open("a") as skill:
        skill.write("\nMoor the zeppelin.\n" * 9)
    library = Library.open([folder])
    assert library.search("moor the zeppelin") == ()
    found = library.search("moor the zeppelin", kind="checklist")
    assert [each.item.id for each in found] == ["checklists/air.md"]
