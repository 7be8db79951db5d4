"""Decisions, forbidden things, checklists and examples: complete, short, and of known rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from packlore.pack.model import tokens
from packlore.pack.parse import Parsed, parse
from tests.proofs.harness import ROOT

RULES = {path.stem for path in (ROOT / "rules").glob("[!_]*.md")}
CATEGORIES = ("asyncio", "fastapi", "sqlalchemy", "pooling", "serving", "testing", "jobs")
CHECKLISTS = {
    "async-implementation-checklist": "asyncio",
    "connection-pool-checklist": "pooling",
    "fastapi-production-checklist": "fastapi",
    "jobs-checklist": "jobs",
    "serving-checklist": "serving",
    "sqlalchemy-async-checklist": "sqlalchemy",
    "testing-checklist": "testing",
}
EXAMPLES = {
    "asyncio-examples": "asyncio",
    "connection-pooling-examples": "pooling",
    "fastapi-lifespan": "fastapi",
    "jobs-examples": "jobs",
    "serving-examples": "serving",
    "sqlalchemy-async-examples": "sqlalchemy",
}
MAX_TOKENS = {"checklists": 1_000, "references": 2_000, "examples": 1_800}
"""Tokens of a file's body; of the references, only decisions and forbidden."""

DECISIONS = {
    "task spawning": "asyncio-taskgroup",
    "timeouts": "asyncio-timeout",
    "concurrency limit": "asyncio-structured",
    "sync bridge": "asyncio-to-thread",
    "cancellation": "asyncio-cancellation",
    "lifespan": "fastapi-lifespan",
    "dependencies": "fastapi-dependencies",
    "settings": "fastapi-settings",
    "response": "fastapi-response-models",
    "health": "fastapi-health-checks",
    "session scope": "sqlalchemy-sessions",
    "lazy loading": "sqlalchemy-relationships",
    "eager loading": "sqlalchemy-relationships",
    "`expire_on_commit`": "sqlalchemy-expire-on-commit",
    "pool": "pooling-database",
}
FORBIDDEN = {
    "`asyncio.gather` in new code where a failure matters": "asyncio-taskgroup",
    "A swallowed `CancelledError`": "asyncio-cancellation",
    "`time.sleep`, `requests.get` or another sync call that blocks": "asyncio-to-thread",
    "Global mutable state for sessions": "sqlalchemy-sessions",
    "A session made in a route, past the dependency": "sqlalchemy-sessions",
    "An `AsyncSession` shared between tasks": "sqlalchemy-shared-session",
    "A sync `Session` in async code": "asyncio-to-thread",
    "An engine or pool for each request": "pooling-engine-lifetime",
    "A pool left open at shutdown": "pooling-engine-lifetime",
}

DOCUMENTS = sorted(
    path
    for folder in ("references", "examples", "checklists")
    for path in (ROOT / folder).rglob("*.md")
)
OWN = sorted(
    [ROOT / "references" / f"{name}.md" for name in ("decisions", "forbidden")]
    + [ROOT / "checklists" / f"{name}.md" for name in CHECKLISTS]
    + [ROOT / "examples" / f"{name}.md" for name in EXAMPLES]
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def load(path: Path) -> Parsed:
    return parse(path.read_text("utf-8"), name_of(path))


def prose(path: Path) -> str:
    """The body without its blocks."""
    return re.sub(r"^```.*?^```$", "", load(path).body, flags=re.MULTILINE | re.DOTALL)


def named_rules(text: str) -> set[str]:
    """What stands in backticks and begins as a rule's id does."""
    return set(re.findall(rf"`((?:{'|'.join(CATEGORIES)})-[a-z-]+)`", text))


def items(path: Path) -> list[str]:
    return [line for line in prose(path).splitlines() if line.startswith("- ")]


@pytest.mark.parametrize("path", OWN, ids=name_of)
def test_each_file_is_short(path: Path) -> None:
    assert tokens(load(path).body) <= MAX_TOKENS[path.parent.name]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_each_rule_that_is_named_exists(path: Path) -> None:
    assert named_rules(prose(path)) <= RULES


@pytest.mark.parametrize("path", OWN, ids=name_of)
def test_the_frontmatter_names_the_rules_of_the_text(path: Path) -> None:
    fields = load(path).frontmatter
    category = {**CHECKLISTS, **EXAMPLES}.get(path.stem, "all")
    assert fields["category"] == category
    assert f"# {fields['title']}\n" in load(path).body
    listed = fields["rules"]
    if category == "all":
        assert listed == "all"
    else:
        assert isinstance(listed, list)
        assert set(listed) == named_rules(prose(path))
        assert len(listed) == len(set(listed))


@pytest.mark.parametrize("path", OWN, ids=name_of)
def test_the_words_are_plain(path: Path) -> None:
    text = prose(path)
    assert "**" not in text
    assert "!" not in text
    assert text.isascii() or set(text) - set(map(chr, range(128))) <= {"×", "…"}


@pytest.mark.parametrize(("name", "category"), CHECKLISTS.items())
def test_a_checklist_holds_every_rule_of_its_category(name: str, category: str) -> None:
    path = ROOT / "checklists" / f"{name}.md"
    of_category = {rule for rule in RULES if rule.startswith(f"{category}-")}
    assert of_category
    assert of_category <= named_rules(prose(path))


@pytest.mark.parametrize("name", CHECKLISTS)
def test_each_item_is_a_statement_that_ends_with_its_rule_or_the_file_that_has_it(
    name: str,
) -> None:
    for item in items(ROOT / "checklists" / f"{name}.md"):
        found = re.fullmatch(r"- \[ \] [A-Z`/].*\. `(assets/[a-z-]+\.py|[a-z-]+)`", item)
        assert found, item
        if found[1].startswith("assets/"):
            shown = (ROOT / found[1]).read_text("utf-8")
            assert named_rules(item) == set()
            assert not [each for each in re.findall(r"`([^`]+)`", item)[:-1] if each not in shown]
        else:
            assert named_rules(item) == {found[1]}


def test_each_decision_has_its_choice_its_reason_and_its_rule() -> None:
    rows: dict[str, list[str]] = {}
    for line in prose(ROOT / "references" / "decisions.md").splitlines():
        if line.startswith("|"):
            name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[name] = cells
    assert rows.pop("decision") == ["choice", "reason", "rule"]
    assert rows.pop("---")
    for name, cells in rows.items():
        assert len(cells) == 3, name
        assert all(cells), name
        assert named_rules(cells[2]), name
    for name, rule in DECISIONS.items():
        assert rule in named_rules(rows[name][2]), name


def test_each_forbidden_thing_has_its_reason_and_its_rule() -> None:
    found = items(ROOT / "references" / "forbidden.md")
    for item in found:
        assert re.fullmatch(r"- .+: .+\. `[a-z-]+`", item), item
        assert len(named_rules(item)) == 1
    for thing, rule in FORBIDDEN.items():
        (item,) = [each for each in found if each.startswith(f"- {thing}")]
        assert named_rules(item) == {rule}


def test_what_has_exceptions_is_not_called_forbidden_without_any() -> None:
    path = ROOT / "references" / "forbidden.md"
    intro, _ = prose(path).split("\nTasks\n")
    assert not re.search(r"\b(never|always)\b", intro)
    assert "exceptions" in intro
    for rule in named_rules(prose(path)):
        text = (ROOT / "rules" / f"{rule}.md").read_text("utf-8")
        assert re.search(r"^## Exceptions\n\n- ", text, re.MULTILINE), rule


def test_the_issue_form_asks_for_task_rule_and_what_was_seen() -> None:
    """GitHub ignores a form that has a key it does not know."""
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "rule.yml").read_text("utf-8"))
    assert set(form) == {"name", "description", "title", "labels", "body"}
    kinds = {each["id"]: each["type"] for each in form["body"]}
    assert kinds == {
        "task": "textarea",
        "said": "textarea",
        "seen": "textarea",
        "versions": "input",
    }
    for each in form["body"]:
        assert set(each["attributes"]) <= {"label", "description", "placeholder"}
    needed = {each["id"] for each in form["body"] if each.get("validations", {}).get("required")}
    assert needed == {"task", "said", "seen"}
