"""The forms in which findings are read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from packlore.check import Finding, Level, Trouble, report

ONE = Finding(
    "app/é, x.py", 3, 5, 3, 18, "loops-x", "loops-x", Level.ERROR, "50% waits", "wait", "sleep(1)"
)
TWO = replace(ONE, path="b.py", level=Level.HINT, rule="loops-y")


def test_text_says_where_what_and_what_to_do() -> None:
    assert report.text([ONE]) == (
        "app/é, x.py:3:5: error: loops-x: 50% waits\n"
        "    | sleep(1)\n"
        "  do: wait (packlore show loops-x)\n"
    )
    assert "\x1b" not in report.text([replace(ONE, path="a\x1b[31m\n.py")])
    assert report.text([replace(ONE, path="a\n.py")]).startswith("a\\n.py:3:5")


def test_a_summary_counts_by_level_and_says_what_is_left_out() -> None:
    less = {"in the baseline": 2, "silenced": 0}
    assert report.summary([ONE, TWO, TWO], 1200, less) == (
        "1 errors, 2 hints in 1,200 files; 2 in the baseline"
    )
    assert report.summary([], 1, {}) == "nothing found in 1 files"


def test_data_has_all_that_a_finding_has() -> None:
    found = report.data([ONE], [Trouble("x.py", "not checked: why")], 2)
    assert found == {
        "files": 2,
        "findings": [
            {
                "path": "app/é, x.py",
                "line": 3,
                "column": 5,
                "end_line": 3,
                "end_column": 18,
                "rule": "loops-x",
                "detector": "loops-x",
                "level": "error",
                "message": "50% waits",
                "note": "wait",
                "code": "sleep(1)",
            }
        ],
        "troubles": [{"path": "x.py", "reason": "not checked: why"}],
    }


def test_annotations_are_escaped_as_github_reads_them() -> None:
    assert report.github([ONE, TWO]) == (
        "::error file=app/é%2C x.py,line=3,col=5,endLine=3,title=loops-x::"
        "50%25 waits Do: wait (packlore show loops-x)\n"
        "::notice file=b.py,line=3,col=5,endLine=3,title=loops-y::"
        "50%25 waits Do: wait (packlore show loops-y)\n"
    )


def test_sarif_has_what_its_schema_requires() -> None:
    found: dict[str, Any] = report.sarif(
        [ONE, TWO, ONE], [Trouble("x y.py", "why")], {"loops-x": "Do not wait"}, "1.2.3"
    )
    (run,) = found["runs"]
    assert found["version"] == "2.1.0"
    assert [each["id"] for each in run["tool"]["driver"]["rules"]] == ["loops-x", "loops-y"]
    assert [each["ruleIndex"] for each in run["results"]] == [0, 1, 0]
    assert [each["level"] for each in run["results"]] == ["error", "note", "error"]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "app/%C3%A9%2C%20x.py"
    assert place["region"]["startLine"] == 3
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "why"
