"""Text to frontmatter, sections and fences with their lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packlore.pack.frontmatter import MAX_FRONTMATTER
from packlore.pack.parse import parse
from tests.packs import FOREIGN_RULE, rule


def codes(text: str) -> list[str]:
    return [problem.code for problem in parse(text, "x.md").problems]


def test_a_delimiter_counts_only_on_a_line_of_its_own() -> None:
    parsed = parse("---\ntitle: a --- b\ntext: '---x'\n---\nbody\n---\nmore\n", "x.md")
    assert parsed.frontmatter == {"title": "a --- b", "text": "---x"}
    assert parsed.body == "body\n---\nmore\n"
    assert parsed.body_line == 5


def test_a_byte_order_mark_and_windows_line_ends_change_nothing() -> None:
    plain = parse(rule(), "x.md")
    assert parse("\ufeff" + rule().replace("\n", "\r\n"), "x.md") == plain


def test_lines_of_blocks_are_those_of_the_file() -> None:
    text = rule()
    for example in parse(text, "x.md").examples:
        first = example.fence.code.splitlines()[0]
        assert text.splitlines()[example.fence.line - 1] == first


def test_headings_label_the_blocks_below_them() -> None:
    wrong, right = parse(rule(), "x.md").examples
    assert (wrong.correct, wrong.label) == (False, "Incorrect: it waits for ever")
    assert (right.correct, right.fence.language) == (True, "python")


def test_bold_labels_are_as_good_as_headings() -> None:
    wrong, right = parse(FOREIGN_RULE, "x.md").examples
    assert (wrong.correct, wrong.label) == (False, "Incorrect (it waits)")
    assert (right.correct, right.fence.code) == (True, "await bounded(read())\n")


def test_a_heading_inside_a_block_is_code() -> None:
    parsed = parse("# One\n\n```python\n# no heading\n```\n\n# Two\n", "x.md")
    assert [section.title for section in parsed.sections] == ["One", "Two"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("---\ntitle: [a\n---\nbody\n", "frontmatter-yaml"),
        ("---\ntitle: a: b\n---\nbody\n", "frontmatter-yaml"),
        ("---\n- a\n---\nbody\n", "frontmatter-yaml"),
        ("---\ntitle: x\nbody without an end\n", "frontmatter-open"),
        ("---\na: " + "x" * MAX_FRONTMATTER + "\n---\n", "frontmatter-size"),
        ("---\na: " + "[" * 5000 + "\n---\n", "frontmatter-yaml"),
        ("---\na: &a\n  b: *a\n---\n", "frontmatter-yaml"),
        ("---\na: \x00\n---\n", "frontmatter-yaml"),
        ("---\na: !!bool maybe\n---\n", "frontmatter-yaml"),
        ("---\na: !!int ''\n---\n", "frontmatter-yaml"),
        ("---\na: !!float ''\n---\n", "frontmatter-yaml"),
        ("---\na: !!timestamp abc\n---\n", "frontmatter-yaml"),
        ("---\na: !!python/object/apply:os.system ['true']\n---\n", "frontmatter-yaml"),
    ],
)
def test_a_broken_frontmatter_is_one_problem_and_the_body_stays(text: str, code: str) -> None:
    assert codes(text) == [code]


def test_a_problem_of_yaml_has_its_line() -> None:
    problem = parse("---\ntitle: a\ntags: [a\n---\n", "rules/x.md").problems[0]
    assert (problem.path, problem.code) == ("rules/x.md", "frontmatter-yaml")
    assert problem.line >= 3


def test_aliases_are_refused_for_they_grow_without_bound() -> None:
    rows = ["a0: &a0 [x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (problem,) = parse("---\n" + "\n".join(rows) + "\n---\n", "x.md").problems
    assert (problem.line, problem.code) == (3, "frontmatter-yaml")
    assert problem.message == "broken YAML: an alias: write its value out"
    assert codes("---\na: 2 * 3\nb: '*'\n---\n") == []


@pytest.mark.parametrize(
    "value",
    [
        "[" * 33 + "]" * 33,
        "[" * 30_000 + "]" * 30_000,
        "{a: " * 33 + "1" + "}" * 33,
        "\n" + "\n".join(" " * n + "a:" for n in range(1, 40)),
        "\n " + "- " * 40 + "x",
        "\n " + "? " * 40 + "x",
        "1\n? b\n: " + "- " * 40 + "x",
        "1\n? b\n: " + "? " * 40 + "x",
        "1\n? [b]\n: " + "- - ? " * 15 + "x",
        "1\n? " + "? - " * 20 + "x",
    ],
)
def test_what_is_too_deep_for_the_stack_is_refused(value: str) -> None:
    (problem,) = parse(f"---\na: {value}\n---\nbody\n", "x.md").problems
    ours, libyaml = "more than 32 lists and mappings within each other", "maximum nesting depth"
    assert ours in problem.message or libyaml in problem.message


@pytest.mark.parametrize(
    ("label", "correct"),
    [
        ("**Do not do this:**", False),
        ("**Don’t:**", False),
        ("**Better not:**", False),
        ("**Never do this:**", False),
        ("**Do this:**", True),
        ("**Better:**", True),
    ],
)
def test_a_label_that_forbids_is_not_taken_for_one_that_advises(label: str, correct: bool) -> None:
    (example,) = parse(f"# T\n\n{label}\n\n```python\nx\n```\n", "x.md").examples
    assert example.correct is correct


def test_many_lists_beside_each_other_are_read() -> None:
    rows = "\n".join(f"k{n}: [{{a: [1, 2]}}]" for n in range(100))
    assert codes(f"---\n{rows}\n---\n") == []


def test_values_are_those_that_json_can_carry() -> None:
    parsed = parse("---\nday: 2026-11-21\nbad: .nan\n1: one\nset: !!set {a, b}\n---\n", "x.md")
    assert parsed.frontmatter["day"] == "2026-11-21"
    assert json.loads(json.dumps(parsed.frontmatter, allow_nan=False))["1"] == "one"


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    for each in (text, f"---\n{text}\n---\n{text}", f"---\na: {text}\n---\n"):
        json.dumps(dict(parse(each, "x.md").frontmatter), allow_nan=False)
