"""The linter holds a pack to our own form."""

from __future__ import annotations

from pathlib import Path

import pytest

from packlore import author
from packlore.pack.lint import CHECKS
from packlore.pack.model import WARNINGS
from packlore.pack.read import read
from tests.packs import own, rule, write

DOCUMENT = (
    "---\ntitle: T\ncategory: asyncio\ntags:\n  - a\nrules:\n  - asyncio-timeout\n---\n# T\n\n"
)


def problems(folder: Path) -> list[tuple[str, str]]:
    return [(each.path, each.code) for pack in read(folder) for each in author.problems(pack)]


def test_a_pack_in_our_form_is_clean(tmp_path: Path) -> None:
    item = "- [ ] Bound each call (`asyncio-timeout`)\n"
    assert problems(own(tmp_path, **{"checklists__a.md": DOCUMENT + item})) == []


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("impactDescription: the call never returns\n", "", "field-missing"),
        ("tags:\n  - timeout\n", "tags: timeout\n", "field-type"),
        ("related: []\n", "related: []\nauthor: me\n", "field-unknown"),
        ("aliases:\n  - waits for ever\n", "aliases: []\n", "field-empty"),
        ('applies:\n  python: ">=3.11"', "applies: {}", "field-empty"),
        (
            "impactDescription: the call never returns",
            'impactDescription: ""',
            "impact-description",
        ),
        ("category: asyncio", "category: pooling", "file-name"),
        ("impact: HIGH", "impact: SEVERE", "impact"),
        ("Bound each call", "Bound " + "each " * 20 + "call", "title-length"),
        ('">=3.11"', '"3.11+"', "applies"),
        ("related: []", "related:\n  - asyncio-none", "rule-unknown"),
        ("ends\n\n```python", "ends\n\n" + "Word. " * 700 + "\n\n```python", "rule-length"),
        ("# Bound each call", "# Another title", "title-heading"),
        ("A call without a bound waits for ever.\n", "", "why"),
        ("## Exceptions", "## Notes", "headings"),
        ("## Exceptions", "```python\nx\n```\n\n## Exceptions", "blocks"),
        ("ends\n\n```python", "ends\n\n```", "language"),
        ("## Incorrect: it waits for ever", "## Incorrect", "label"),
        ("- [asyncio](https://docs.python.org/3/library/asyncio-task.html)", "-", "references"),
        ("- None.", "- See [more](../references/none.md).", "link"),
        ("impact: HIGH", "impact: [HIGH", "frontmatter-yaml"),
        ("impact: HIGH", "impact: HIGH\nimpact: LOW", "frontmatter-yaml"),
        ("title: Bound each call", "title:", "field-type"),
        ("category: asyncio", "category: [asyncio]", "field-type"),
        ('applies:\n  python: ">=3.11"', "applies: [python]", "field-type"),
        ("- None.", "- None.\0", "encoding"),
    ],
)
def test_each_fault_of_a_rule_is_named(tmp_path: Path, old: str, new: str, code: str) -> None:
    text = rule()
    assert old in text
    folder = own(tmp_path, **{"rules__asyncio-timeout.md": text.replace(old, new)})
    assert ("rules/asyncio-timeout.md", code) in problems(folder)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("license: MIT", "tags: a", "skill-field"),
        ("name: own", "name: Own Pack", "skill-name"),
        ("description: A pack for tests.", "description: " + "x" * 1025, "skill-description"),
        ('"1.2.3"', '"new"', "skill-version"),
        ("`asyncio-timeout`", "`other`", "skill-rule"),
        ("bound it", "bound it " * 900, "skill-length"),
    ],
)
def test_each_fault_of_the_skill_file_is_named(
    tmp_path: Path, old: str, new: str, code: str
) -> None:
    text = (own(tmp_path) / "SKILL.md").read_text()
    assert old in text
    write(tmp_path, {"SKILL.md": text.replace(old, new)})
    assert ("SKILL.md", code) in problems(tmp_path)


def test_a_checklist_item_without_a_rule_is_named_with_its_line(tmp_path: Path) -> None:
    own(tmp_path, **{"checklists__a.md": DOCUMENT + "- [ ] Be careful\n"})
    found, _ = [each for pack in read(tmp_path) for each in author.problems(pack)]
    assert str(found).startswith("checklists/a.md:11: error: item-rule ")


def test_a_checklist_item_may_name_the_file_behind_it(tmp_path: Path) -> None:
    item = "- [ ] Be careful. `assets/service.py`\n"
    own(tmp_path, **{"checklists__a.md": DOCUMENT + item})
    assert ("checklists/a.md", "item-rule") in problems(tmp_path)
    write(tmp_path, {"assets/service.py": "run()\n"})
    assert ("checklists/a.md", "item-rule") not in problems(tmp_path)


def test_a_document_says_what_it_belongs_to(tmp_path: Path) -> None:
    own(tmp_path, references__a="", **{"references__b.md": "# B\n"})
    assert ("references/b.md", "field-missing") in problems(tmp_path)


def test_a_link_in_code_is_no_link(tmp_path: Path) -> None:
    text = rule().replace("- None.", "- Not `[x](none.md)`.\n\n```md\n[x](none.md)\n```")
    own(tmp_path, **{"rules__asyncio-timeout.md": text})
    assert ("rules/asyncio-timeout.md", "link") not in problems(tmp_path)


def test_a_rule_that_no_checklist_names_is_told(tmp_path: Path) -> None:
    item = "- [ ] Bound each call (`asyncio-timeout`)\n"
    folder = own(tmp_path, **{"rules__asyncio-other.md": rule("Another")})
    write(folder, {"SKILL.md": (folder / "SKILL.md").read_text() + "- `asyncio-other`\n"})
    assert problems(folder) == []  # a pack may have no checklists
    write(folder, {"checklists/a.md": DOCUMENT + item})
    assert problems(folder) == [("rules/asyncio-other.md", "checklist-rule")]
    write(folder, {"checklists/b.md": DOCUMENT + "Of `asyncio-other` in no item.\n"})
    assert problems(folder) == [("rules/asyncio-other.md", "checklist-rule")]
    write(folder, {"checklists/b.md": DOCUMENT + "- [ ] The other (`asyncio-other`)\n"})
    assert problems(folder) == []


def test_a_detector_goes_by_the_name_of_its_rule(tmp_path: Path) -> None:
    detector = (
        "id: asyncio-timeout\nlanguage: Python\nmessage: it waits\nnote: bound it\n"
        "rule: {pattern: read()}\n"
    )
    folder = own(tmp_path, **{"rules__asyncio-timeout.yml": detector, "rules___x.yml": "id: b\n"})
    assert problems(folder) == []
    (pack,) = read(folder)
    assert [each.path for each in pack.documents] == ["SKILL.md"]
    write(folder, {"rules/asyncio-gone.yml": "id: c\n"})
    assert problems(folder) == [("rules/asyncio-gone.yml", "detector-rule")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("aliases:\n  - waits for ever\n", "aliases: []\n"),
        ('applies:\n  python: ">=3.11"', "applies: {}"),
        ("tags:\n  - timeout\n", "tags: []\n"),
        ("Bound each call", "Bound " + "each " * 20 + "call"),
        ("ends\n\n```python", "ends\n\n```"),
    ],
)
def test_what_leaves_a_rule_right_but_poorer_is_a_warning(
    tmp_path: Path, old: str, new: str
) -> None:
    folder = own(tmp_path, **{"rules__asyncio-timeout.md": rule().replace(old, new)})
    found = [each for pack in read(folder) for each in author.problems(pack)]
    assert {each.level for each in found} == {"warning"}
    assert {each.code for each in found} <= WARNINGS


def test_what_stands_as_in_the_packs_own_template_is_a_warning(tmp_path: Path) -> None:
    template = rule("A title").replace("waits for ever.", "stays as it is, says the template.")
    folder = own(tmp_path, **{"rules___template.md": template})
    names = "impactDescription, tags, symptoms, aliases"
    (pack,) = read(folder)
    found = [(each.line, each.message) for each in author.problems(pack) if each.code == "unfilled"]
    assert (1, f"as in the template: {names}") in found
    heading = "## Incorrect: it waits for ever"
    line = (folder / "rules/asyncio-timeout.md").read_text().split("\n").index(heading) + 1
    assert (line, f"as in the template: {heading}") in found
    assert not any("without a bound" in message for _, message in found)
    assert not any("await" in message for _, message in found)  # code is no sentence


def test_each_check_is_described() -> None:
    assert all(check.__doc__ for check in CHECKS)


def test_what_cannot_be_read_is_told_once(tmp_path: Path) -> None:
    text = rule().replace("impact: HIGH", "\timpact: HIGH")
    folder = own(tmp_path, **{"rules__asyncio-timeout.md": text})
    assert problems(folder) == [("rules/asyncio-timeout.md", "frontmatter-yaml")]


def test_what_is_taken_for_no_rule_and_no_category_is_told(tmp_path: Path) -> None:
    sections = "# Categories\n\n## Asyncio (asyncio)\n\n## Pooling (Pooling)\n"
    folder = own(tmp_path, **{"rules__asyncio-x.MD": rule(), "rules___sections.md": sections})
    found = [str(each) for each in author.problems(read(folder)[0])]
    assert found == [
        "rules/_sections.md:5: error: section no category: its heading is `## Title (id)`, id in lower case",
        "rules/asyncio-x.MD:1: error: not-a-rule a rule is a file in rules/ that ends in .md, its detector one in .yml",
    ]
