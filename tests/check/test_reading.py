"""The detectors of a pack are read leniently: one that is odd is a Problem and costs only itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from packlore.check import Detectors, Level, detectors
from packlore.check.scan import scan
from packlore.pack import read
from tests.packs import own as clean
from tests.packs import rule, write

GOOD = """\
id: asyncio-timeout
language: python
severity: error
message: "it  waits"
note: wait otherwise
rule: {pattern: time.sleep($$$)}
"""


def turning(times: int) -> str:
    """A rule that looks up and down again, so often within itself."""
    rule = "kind: string"
    for _ in range(times):
        rule = f"inside: {{stopBy: end, has: {{stopBy: end, all: [{{kind: call}}, {{{rule}}}]}}}}"
    return f"kind: call, {rule}"


def pack(tmp_path: Path, *files: tuple[str, str]) -> Path:
    """A pack with the rules asyncio-timeout and pooling-other, and these detectors."""
    folder = clean(tmp_path, **{"rules__pooling-other.md": rule(category="pooling")})
    return write(folder, {path: text.encode("utf-8", "surrogateescape") for path, text in files})


def found(folder: Path) -> tuple[list[str], list[str]]:
    (own,) = read(folder)
    known, problems = detectors(own)
    return [each.id for each in known], [str(each) for each in problems]


def test_a_detector_is_read_as_it_stands(tmp_path: Path) -> None:
    (own,) = read(pack(tmp_path, ("rules/asyncio-timeout.yml", GOOD)))
    ((each,), problems) = detectors(own)
    assert problems == ()
    assert (each.rule, each.language, each.level) == ("asyncio-timeout", "Python", Level.ERROR)
    assert (each.message, each.note) == ("it waits", "wait otherwise")
    assert not own.problems


def test_neither_detectors_nor_utilities_are_asked_for_by_themselves(tmp_path: Path) -> None:
    (own,) = read(
        pack(tmp_path, ("rules/asyncio-timeout.yml", GOOD), ("assets/_utils/x.yml", "id: x"))
    )
    assert {document.path for document in own.documents} == {"SKILL.md"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "not a mapping"),
        ("5", "not a mapping"),
        ("a: [", "not readable as YAML"),
        ("a: \x01", "not readable as YAML"),
        ("a: !!python/object:os.system {}", "not readable as YAML"),
        ("\udcff", "not readable as YAML"),
        ("x: " + "[" * 3000, "not readable as YAML"),
        ("x: 0x" + "f" * 6000, "unknown key"),
        ("a: " + "x" * 70_000, "at most 65,536 are read"),
        ("x: " + "[" * 60_000, "not readable as YAML: "),
        ("- " * 30_000 + "x", "more than 32 lists and mappings within each other"),
        ("? a\n: " + "- " * 30_000 + "x", "more than 32 lists and mappings within each other"),
        (GOOD.replace("{pattern: time.sleep($$$)}", "&r {any: [*r, *r]}"), "an alias: write its"),
        (GOOD.replace("error", "*x") + "metadata: {x: &x 1}", "not readable as YAML: "),
        (f"{GOOD}metadata: {{x: &x [1], y: *x}}", "an alias: write its value out"),
        (GOOD.replace("error", "0x" + "f" * 10_000), "severity is none of error, warning, hint"),
        (GOOD.replace("error", "1e999999"), "severity is none of error, warning, hint"),
        (GOOD.replace("error", "!!bool maybe"), "not readable as YAML"),
        (GOOD.replace("error", "!!timestamp 9999-99-99"), "not readable as YAML"),
        (GOOD + "? [a]\n: b", "not readable as YAML"),
        (GOOD + "id: twice", "'id' stands twice"),
        (GOOD.replace("message:", "massage:"), "unknown key massage"),
        (GOOD.replace("asyncio-timeout", "pooling-other"), "its id is asyncio-timeout, or begins"),
        (GOOD.replace("python", "cobol"), "unknown language 'cobol'"),
        (GOOD.replace("pattern: time.sleep($$$)", turning(3)), "looks up and down again 3 times within"),
        (GOOD.replace("pattern: time.sleep($$$)", turning(5)), "looks up and down again 5 times within"),
        (GOOD.replace("pattern: time.sleep($$$)", "matches: a") + "utils: {" + ", ".join(
            f"{one}: {{kind: call, inside: {{matches: {two}}}}}" for one, two in ("ab", "cd", "ef")) + ", "
         + ", ".join(f"{one}: {{has: {{matches: {two}}}}}" for one, two in ("bc", "de", "fg"))
         + ", g: {kind: call}}", "looks up and down again 3 times within"),
        (GOOD.replace("python", "yaml"), "Yaml is not checked here, but Cpp, Go, JavaScript"),
        (GOOD.replace("python", "java"), "Java is not checked here, but Cpp, Go, JavaScript"),
        (GOOD.replace("error", "fatal"), "severity is none of error, warning, hint"),
        (GOOD.replace("wait otherwise", "''"), "note is missing"),
        (GOOD.replace("wait otherwise", "x" * 400), "note has 400 characters, at most 300"),
        (GOOD.replace("{pattern: time.sleep($$$)}", "{patern: x}"), "ast-grep: unknown field `patern`"),
        (GOOD.replace("{pattern: time.sleep($$$)}", "{kind: nonsense}"), "ast-grep: "),
        (GOOD.replace("{pattern: time.sleep($$$)}", "5"), "ast-grep: "),
        (GOOD + "utils: 5", "utils is not a mapping"),
        (GOOD + "files: x.py", "files is not a list of globs"),
        (GOOD + "files: ['" + "**/a/" * 9 + "']", "has over 200 characters or 6 stars"),
        (GOOD + "metadata: 5", "metadata is not a mapping"),
        (GOOD + "metadata: {names: 5}", "metadata.names is a list"),
        (GOOD + "metadata: {names: ['a b']}", "metadata.names has no name 'a b'"),
        (GOOD.replace("pattern: time.sleep($$$)", "kind: call, follows: {kind: call, stopBy: end}"), "look at the neighbour only"),
    ],
)  # fmt: skip
def test_what_is_odd_costs_only_itself(tmp_path: Path, text: str, said: str) -> None:
    other = GOOD.replace("asyncio-timeout", "pooling-other")
    ids, problems = found(
        pack(tmp_path, ("rules/asyncio-timeout.yml", text), ("rules/pooling-other.yml", other))
    )
    assert ids == ["pooling-other"]
    (problem,) = problems
    assert problem.startswith("rules/asyncio-timeout.yml:")
    assert said in problem
    assert problem.isprintable()


def test_a_hostile_utility_costs_only_itself(tmp_path: Path) -> None:
    texts = ["[" * 60_000, "- " * 30_000, "a: &a [*a]", "id: !!bool x", "\udcff", "id: x\nid: x"]
    files = [(f"assets/_utils/{n}.yml", text) for n, text in enumerate(texts)]
    ids, problems = found(pack(tmp_path, ("rules/asyncio-timeout.yml", GOOD), *files))
    assert ids == ["asyncio-timeout"]
    assert len(problems) == len(texts)


def test_what_our_own_code_stumbles_over_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbles(*_: object) -> str:
        raise TypeError("two\nlines")

    monkeypatch.setattr(sys.modules["packlore.check.detectors"], "reason_against", stumbles)
    _, problems = found(pack(tmp_path, ("rules/asyncio-timeout.yml", GOOD)))
    assert problems == [
        "rules/asyncio-timeout.yml:1: error: detector left out: TypeError: two lines"
    ]


def test_one_of_several_in_a_file_costs_only_itself(tmp_path: Path) -> None:
    second = GOOD.replace("id: asyncio-timeout", "id: asyncio-timeout-two")
    third = second.replace("time.sleep", "time.time")
    ids, problems = found(
        pack(tmp_path, ("rules/asyncio-timeout.yml", f"{GOOD}---\n{second}---\n{third}---\n- 5\n"))
    )
    assert ids == ["asyncio-timeout", "asyncio-timeout-two"]
    assert [each.partition("left out: ")[2].partition(":")[0] for each in problems] == [
        "detector 3",
        "detector 4",
    ]


def test_two_that_spell_a_name_differently_do_not_both_count(tmp_path: Path) -> None:
    one = f"{GOOD}metadata: {{names: {{time.sleep: time.sleep}}}}\n"
    other = one.replace("asyncio-timeout", "pooling-other").replace("{time.sleep:", "{sleep:")
    ids, problems = found(
        pack(tmp_path, ("rules/asyncio-timeout.yml", one), ("rules/pooling-other.yml", other))
    )
    assert ids == ["asyncio-timeout"]
    assert "spells time.sleep as sleep, and another detector as time.sleep" in problems[0]


def test_utilities_are_shared_and_one_that_is_odd_costs_its_users_alone(tmp_path: Path) -> None:
    uses = GOOD.replace("time.sleep($$$)}", "time.sleep($$$), matches: in-function}")
    bad = uses.replace("asyncio-timeout", "pooling-other").replace("in-function", "bad")
    folder = pack(
        tmp_path,
        ("rules/asyncio-timeout.yml", uses),
        ("rules/pooling-other.yml", bad),
        (
            "assets/_utils/in-function.yml",
            "id: in-function\nlanguage: Python\nrule: {inside: {matches: function, stopBy: end}}",
        ),
        ("assets/_utils/function.yml", "id: function\nlanguage: py\nrule: {kind: function_definition}"),
        ("assets/_utils/bad.yml", "id: bad\nlanguage: Python\nrule: {kind: nonsense}"),
        ("assets/_utils/none.yml", "language: Python"),
    )  # fmt: skip
    ids, problems = found(folder)
    assert ids == ["asyncio-timeout"]
    assert [each.partition(":")[0] for each in problems] == [
        "assets/_utils/none.yml",
        "rules/pooling-other.yml",
    ]
    (own,) = read(folder)
    code = "time.sleep(1)\ndef f():\n    time.sleep(2)\n"
    seen = scan("x.py", code, "Python", Detectors(detectors(own)[0])).findings
    assert [each.line for each in seen] == [3]


def test_a_detector_may_look_up_and_down_again_twice(tmp_path: Path) -> None:
    text = GOOD.replace("pattern: time.sleep($$$)", turning(2))
    assert found(pack(tmp_path, ("rules/asyncio-timeout.yml", text))) == (["asyncio-timeout"], [])


def test_a_pack_of_another_language_has_detectors_too(tmp_path: Path) -> None:
    text = (
        "id: asyncio-timeout\nlanguage: TypeScript\nmessage: '$X is awaited in turn'\n"
        "note: await Promise.all\nrule:\n  pattern: await $X\n  inside: {kind: for_in_statement, stopBy: end}\n"
    )
    (own,) = read(pack(tmp_path, ("rules/asyncio-timeout.yml", text)))
    code = "for (const id of ids) {\n  await load(id);\n}\n"
    known = Detectors(detectors(own)[0])
    (seen,) = scan("src/a.ts", code, "TypeScript", known).findings
    assert (seen.line, seen.column, seen.message) == (2, 3, "load(id) is awaited in turn")
    assert scan("src/a.py", "await x", "Python", known).findings == ()
