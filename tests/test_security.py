"""What SECURITY.md promises is held by tests, and users find the file."""

from __future__ import annotations

import ast
import re

from tests.proofs.harness import ROOT

TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
NAMED = re.findall(r"`(test_\w+)`", TEXT)


def promises(text: str) -> list[list[str]]:
    """The tests of each row that promises something."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [row.strip("| ").split(" | ") for row in rows if " held by" not in row]
    return [re.findall(r"`(test_\w+)`", last) for _, last in cells if set(last) != {"-"}]


def test_each_promise_names_tests_and_each_of_them_exists_once() -> None:
    there = [
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(promises(TEXT)) > 15
    assert all(promises(TEXT))
    assert {name: there.count(name) for name in NAMED} == dict.fromkeys(NAMED, 1)


def test_a_promise_without_a_test_is_seen() -> None:
    table = "| x | held by |\n| --- | --- |\n| a | `test_b` |\n| c | soon |\n"
    assert promises(table) == [["test_b"], []]


def test_those_who_use_it_and_those_who_work_on_it_are_led_there() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        assert "[SECURITY.md](SECURITY.md)" in (ROOT / name).read_text("utf-8")
