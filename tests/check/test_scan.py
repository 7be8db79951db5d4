"""One text: where a finding stands, what it says, and how mildly it is judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from packlore.check import Detectors, Level
from packlore.check.model import Detector
from packlore.check.scan import broken, pasted, scan


def detector(rule: dict[str, Any], **given: Any) -> Detector:
    """A detector of Python for the rule `loops-x`."""
    known: dict[str, Any] = {
        "id": "loops-x",
        "rule": "loops-x",
        "language": "Python",
        "level": Level.ERROR,
        "message": "it waits",
        "note": "wait otherwise",
        "names": {},
        "at": "",
        "files": (),
        "ignores": (),
    }
    return Detector(**(known | {"config": {"rule": rule}} | given))


SLEEP = detector({"pattern": "time.sleep($SECONDS)"}, names={"time": "time"})


def rows(code: str, *detectors: Detector, path: str = "app/x.py") -> list[tuple[int, int, str]]:
    found = scan(path, code, "Python", Detectors(detectors)).findings
    return [(each.line, each.column, each.level.label) for each in found]


def test_a_place_counts_lines_and_characters_from_one() -> None:
    code = 'import time\n\nif x:\n\té = "日本"; time.sleep(1)\n'
    (found,) = scan("x.py", code, "Python", Detectors((SLEEP,))).findings
    assert (found.line, found.column, found.end_line, found.end_column) == (4, 12, 4, 25)
    assert found.code == 'é = "日本"; time.sleep(1)'


def test_a_place_under_another_name_is_that_of_the_name_as_written() -> None:
    code = "from time import sleep as s\ns(1); s(\n  2)\n"
    found = scan("x.py", code, "Python", Detectors((SLEEP,))).findings
    spans = [(each.line, each.column, each.end_line, each.end_column) for each in found]
    assert spans == [(2, 1, 2, 5), (2, 7, 3, 5)]


def test_a_message_shows_what_its_variables_stand_for() -> None:
    given = detector(
        {"pattern": "time.sleep($SECONDS)"}, message="$SECONDS seconds, $OTHER", note="not $SECONDS"
    )
    code = "time.sleep(a(\n  1,\n  2))\ntime.sleep('\x1b[31m')\n" + f"time.sleep({'x' * 900})\n"
    found = scan("x.py", code, "Python", Detectors((given,))).findings
    assert [each.message for each in found][:2] == [
        "a( 1, 2) seconds, $OTHER",
        "'\\x1b[31m' seconds, $OTHER",
    ]
    assert len(found[2].message) < 100
    assert "\x1b" not in found[1].code


def test_a_finding_stands_where_the_detector_says() -> None:
    given = detector(
        {
            "kind": "function_definition",
            "has": {"pattern": "$CALL", "kind": "call", "stopBy": "end"},
        },
        at="CALL",
    )
    assert rows("def f():\n    x = 1\n    g(x)\n", given) == [(3, 5, "error")]


def test_of_several_detectors_of_a_rule_the_first_speaks_of_a_place() -> None:
    second = detector({"kind": "call"}, id="loops-x-any", level=Level.HINT)
    assert rows("time.sleep(1)\nf()\n", SLEEP, second) == [(1, 1, "error"), (2, 1, "hint")]


@pytest.mark.parametrize(
    "path",
    [
        "tests/x.py",
        "app/test_x.py",
        "app/conftest.py",
        "src/pkg/testing/x.py",
        "scripts/x.py",
        "migrations/versions/x.py",
        "app/alembic/versions/x.py",
        "docs/x.py",
        "x.ipynb",
    ],
)  # fmt: skip
def test_tests_scripts_migrations_and_notebooks_are_judged_mildly(path: str) -> None:
    assert rows("time.sleep(1)\n", SLEEP, path=path) == [(1, 1, "hint")]


@pytest.mark.parametrize("path", ["app/x.py", "src/latest/x.py", "contest.py", "app/protests/x.py"])
def test_all_else_is_not(path: str) -> None:
    assert rows("time.sleep(1)\n", SLEEP, path=path) == [(1, 1, "error")]


def test_globs_of_a_detector_say_which_files_it_is_asked_of() -> None:
    only = detector({"kind": "call"}, files=("app/**/*.py",), ignores=("**/skip.py", "old"))
    assert rows("f()", only, path="app/a/x.py") == [(1, 1, "error")]
    for path in ("x.py", "app/a/skip.py", "app/old/x.py", "app/x.pyi"):
        assert rows("f()", only, path=path) == []


def test_a_comment_takes_out_the_finding_of_its_rule() -> None:
    code = (
        "time.sleep(1)  # packlore: ignore[loops-x] a start script\n"
        "# packlore: ignore[loops-x, other] the next line\n"
        "time.sleep(2)\n"
        "time.sleep(3)  # packlore: ignore[other] not this one\n"
        "x = 1  # packlore: ignore[loops-x]\n"
        "y = 2  # packlore: ignore\n"
        '"""write `# packlore: ignore[loops-x] why` to silence it"""\n'
    )
    checked = scan("x.py", code, "Python", Detectors((SLEEP,)))
    assert checked.silenced == 2
    assert [(each.line, each.rule) for each in checked.findings] == [
        (4, "loops-x"),
        (4, "unused-ignore"),
        (5, "unused-ignore"),
        (6, "unused-ignore"),
    ]


def test_code_that_no_people_write_is_left_out_and_told() -> None:
    for deep in (
        "f" + "()" * 40_000,
        "(" * 9_000 + ")" * 9_000,
        "a" + ".a" * 40_000,
        "not " * 40_000 + "x",
    ):
        checked = scan("x.py", f"time.sleep(1)\n{deep}\n", "Python", Detectors((SLEEP,)))
        assert checked.findings == ()
        assert checked.trouble
        assert "nested too deep" in checked.trouble.reason
    checked = scan("x.py", f"time.sleep({'f(s), ' * 4_000})\n", "Python", Detectors((SLEEP,)))
    assert str(checked.trouble) == "x.py: not checked: a call in it has over 1,000 arguments"


def test_long_code_is_not_deep() -> None:
    code = "".join(
        f"def f{n}():\n    time.sleep({n})\n    x = [a(b(c({n}))), {{'k': 1}}]\n"
        for n in range(900)
    )
    assert len(rows(code, SLEEP)) == 500  # of one detector in one file


def test_code_in_a_query_is_asked_for_more_than_hints() -> None:
    hint = replace(
        detector({"pattern": "save($$$)"}), id="loops-y", rule="loops-y", level=Level.HINT
    )
    asked = Detectors((SLEEP, hint))
    code = "import time\ntime.sleep(1)\nsave(1)\ntime.sleep(2)\n"
    assert [each.rule for each in pasted(code, asked).findings] == ["loops-x", "loops-y", "loops-x"]
    assert [(each.rule, each.line) for each in broken(code, asked)] == [("loops-x", 2)]
    assert asked.loud.all == (SLEEP,)


def test_a_text_whose_names_would_make_it_too_long_is_told() -> None:
    code = "from time import sleep as s\n" + "s\n" * 5_000
    checked = scan("app/x.py", code, "Python", Detectors((SLEEP,)))
    assert checked.findings == ()
    assert checked.trouble
    assert "too long" in checked.trouble.reason
