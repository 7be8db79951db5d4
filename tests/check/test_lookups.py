"""What a detector asks of the whole file is asked once, and means what it means to ast-grep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from packlore.check import Detectors, detectors
from packlore.check.lookups import Lookups, asks, is_odd
from packlore.check.scan import scan
from packlore.check.syntax import root_kind, search, tree
from packlore.pack import read
from tests.check.test_reading import GOOD
from tests.check.test_reading import pack as written

HANDLER = """\
rule:
  kind: function_definition
  has: {field: name, matches: is-registered}
utils:
  is-registered:
    pattern: $NAME
    inside:
      kind: module
      stopBy: end
      has: {stopBy: end, pattern: $_.register($NAME)}
"""
FACT = """\
rule:
  pattern: load($$$)
  not: {inside: {kind: module, stopBy: end, has: {stopBy: end, pattern: prepare($$$)}}}
"""
CODE = "bus.register(b)\ndef a(): load(1)\ndef b(): load(2)\nclass C:\n    def c(self): bus.register(c)\n"


def lines(config: dict[str, Any], code: str, *, answered: bool) -> list[int]:
    root = tree(code, "Python")
    given = Lookups(root).answered(config) if answered else config
    return [each.range().start.line + 1 for each in search(root, given)]


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize(
    ("text", "code", "wanted"),
    [
        (HANDLER, CODE, [3, 5]),
        (HANDLER, CODE.replace("bus.", ""), []),
        (HANDLER, "def f(): pass\nbus.register(f, 1)\n", []),
        (HANDLER, "def f\u00e9(): pass\nbus.register(f\u00e9)\n", [1]),
        (HANDLER, "def f_(): pass\ndef f(): pass\nbus.register(f_)\n", [1]),
        (
            HANDLER.replace("{stopBy: end, ", "{has: {")
            .replace("}}", "}}")
            .replace("($NAME)}", "($NAME)}}"),
            CODE,
            [3],
        ),
        (FACT, CODE, [2, 3]),
        (FACT, CODE + "prepare()\n", []),
        (FACT.replace("not: ", "all: [").replace("}}}", "}}}]"), CODE, []),
        (FACT.replace("not: ", "all: [").replace("}}}", "}}}]"), CODE + "prepare()\n", [2, 3]),
    ],
)
def test_it_finds_what_ast_grep_finds(
    text: str, code: str, wanted: list[int], *, answered: bool
) -> None:
    config = yaml.safe_load(text)
    assert asks(config, "module")
    assert not is_odd(config, "module")
    assert lines(config, code, answered=answered) == wanted


def test_many_names_are_more_than_one_regular_expression() -> None:
    names = [f"the_long_name_of_a_function_{n:05}" for n in range(6_000)]
    code = "".join(f"def {each}(): pass\n" for each in names)
    code += "".join(f"bus.register({each})\n" for each in names[1:])
    found = lines(yaml.safe_load(HANDLER), code, answered=True)
    assert found == list(range(2, 6_001))


def test_what_several_detectors_ask_is_asked_once() -> None:
    lookups = Lookups(tree(CODE, "Python"))
    for _ in range(3):
        lookups.answered(yaml.safe_load(HANDLER))
        lookups.answered(yaml.safe_load(FACT))
    assert len(lookups.known) == 2


@pytest.mark.parametrize(
    "change",
    [
        ("    pattern: $NAME\n", "    kind: identifier\n"),
        ("    pattern: $NAME\n", "    pattern: f($NAME)\n"),
        ("    pattern: $NAME\n", "    pattern: $NAME\n    any: [{kind: identifier}]\n"),
        ("      stopBy: end\n", ""),
        ("{stopBy: end, pattern: $_", "{stopBy: neighbor, pattern: $_"),
        ("{stopBy: end, pattern: $_", "{stopBy: end, field: body, pattern: $_"),
        ("$_.register", "$BUS.register"),
        ("kind: module\n", "kind: module\n      regex: x\n"),
        ("pattern: $_.register($NAME)", "matches: is-registered"),
    ],
)
def test_another_form_of_it_is_a_problem(change: tuple[str, str], tmp_path: Path) -> None:
    assert change[0] in HANDLER
    text = GOOD.replace("rule: {pattern: time.sleep($$$)}\n", HANDLER.replace(*change))
    (own,) = read(written(tmp_path, ("rules/asyncio-timeout.yml", text)))
    known, problems = detectors(own)
    assert known == ()
    (problem,) = problems
    assert problem.code in ("detector-lookup", "detector")
    assert str(problem).isprintable()


def test_a_pack_of_another_language_looks_up_too(tmp_path: Path) -> None:
    assert root_kind("TypeScript") == "program"
    text = (
        "id: asyncio-timeout\nlanguage: TypeScript\nmessage: $F blocks\nnote: wait\n"
        "rule:\n  kind: function_declaration\n  has: {field: name, pattern: $F, matches: is-used}\n"
        "utils:\n  is-used:\n    pattern: $N\n    inside: {kind: program, stopBy: end, has: "
        "{stopBy: end, pattern: 'app.use($N)'}}\n"
    )
    (own,) = read(written(tmp_path, ("rules/asyncio-timeout.yml", text)))
    known, problems = detectors(own)
    assert problems == ()
    code = "function a() {}\nfunction b() {}\napp.use(b)\n"
    (found,) = scan("src/a.ts", code, "TypeScript", Detectors(known)).findings
    assert (found.line, found.message) == (2, "b blocks")
