"""`check_code`: findings with their lines, and the worst one's rule in brief."""

from __future__ import annotations

from pathlib import Path

import pytest

from packlore.errors import BadArgumentError
from packlore.library import Library
from packlore.serve.review import MAX_CODE, MAX_FILES
from packlore.serve.server import PackServer
from packlore.serve.tools import Tools
from tests.check.test_reading import GOOD
from tests.packs import own, rule, write

HINT = (
    GOOD.replace("error", "hint")
    .replace("asyncio-timeout", "pooling-other")
    .replace("sleep", "time")
)
WARNING = (
    GOOD.replace("error", "warning")
    .replace("asyncio-timeout", "asyncio-timeout-two")
    .replace("sleep", "slept")
)
CODE = "    import time\n\n    async def f():\n        time.sleep(1)\n"


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    more = {
        "rules__pooling-other.md": rule(category="pooling"),
        "rules__asyncio-timeout.yml": f"{GOOD}---\n{WARNING}",
        "rules__pooling-other.yml": HINT,
    }
    return Tools(Library.open([own(tmp_path / "pack", **more)]))


def test_each_finding_has_its_line_and_the_worst_has_its_rule(tools: Tools) -> None:
    answer = tools.check_code(f"{CODE}    time.slept(0)\n    time.time()\n    time.sleep(2)\n")
    rows = answer.text.split("\n")
    assert rows[:6] == [
        "- line 4, asyncio-timeout (error): it waits. wait otherwise",
        "- line 7, asyncio-timeout (error): it waits. wait otherwise",
        "- line 5, asyncio-timeout (warning): it waits. wait otherwise",
        "Worth a look: pooling-other (1).",
        "",
        "asyncio-timeout:",
    ]
    assert "await read_bounded()" in answer.text
    assert "await read()" not in answer.text
    assert [each["line"] for each in answer.data["findings"]] == [4, 5, 6, 7]


def test_where_nothing_is_seen_it_says_so_in_a_line(tools: Tools) -> None:
    answer = tools.check_code("async def f() -> None: ...")
    assert answer.text == "Nothing that breaks a rule is seen in 1 piece of code.\n"
    assert answer.data == {"findings": []}


def test_many_findings_are_counted(tools: Tools) -> None:
    answer = tools.check_code("time.sleep(1)\n" * 100)
    assert answer.text.count("(error)") == 30
    assert "- and 70 more\n" in answer.text


def test_files_below_the_working_folder_are_checked(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "work", {"app/a.py": "time.sleep(1)\n", "app/b.py": b"\xff"})
    monkeypatch.chdir(folder)
    answer = tools.check_code(paths=["app"])
    assert answer.text.startswith("- app/a.py:1, asyncio-timeout (error): it waits.")
    assert "\n- app/b.py: not checked: " in answer.text
    write(folder, {f"many/{n}.py": "" for n in range(MAX_FILES + 1)})
    for paths, said in (
        (["many"], "name fewer, or run `packlore check`"),
        (["../pack"], "not below the working folder"),
        (["/etc"], "not below the working folder"),
        (["gone"], "nothing at"),
    ):
        with pytest.raises(BadArgumentError, match=said):
            tools.check_code(paths=paths)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give code or paths"),
        ({"code": "x", "paths": ["x"]}, "give code or paths"),
        ({"code": " \n"}, "give code or paths"),
        ({"code": "x" * (MAX_CODE + 1)}, "at most 65,536"),
    ],
)
def test_what_cannot_be_checked_is_a_wrong_call(
    tools: Tools, given: dict[str, object], said: str
) -> None:
    with pytest.raises(BadArgumentError, match=said):
        tools.check_code(**given)  # type: ignore[arg-type]


def test_a_pack_without_detectors_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadArgumentError, match="no rule here has a detector"):
        Tools(Library.open([own(tmp_path)])).check_code("x = 1")


def test_code_is_read_in_the_language_that_it_is_in(tmp_path: Path) -> None:
    typescript = (
        "id: pooling-other\nlanguage: TypeScript\nseverity: error\nmessage: in turn\n"
        "note: at once\nrule: {pattern: await $X, inside: {kind: for_in_statement, stopBy: end}}\n"
    )
    more = {
        "rules__pooling-other.md": rule(category="pooling"),
        "rules__asyncio-timeout.yml": GOOD,
        "rules__pooling-other.yml": typescript,
    }
    tools = Tools(Library.open([own(tmp_path, **more)]))
    assert "pooling-other" in tools.check_code("for (const i of x) {\n  await f(i);\n}").text
    assert "asyncio-timeout" in tools.check_code("def f(x):\n    time.sleep(1)\n").text


@pytest.mark.parametrize("local", [True, False])
async def test_over_http_no_path_is_taken(tools: Tools, local: bool) -> None:
    server = PackServer(tools.library, local=local)
    (tool,) = [each for each in await server.list_tools() if each.name == "check_code"]
    assert set(tool.input_schema["properties"]) == {"code", *(["paths"] if local else [])}
