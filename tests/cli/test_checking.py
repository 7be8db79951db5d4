"""`packlore check` as people and CI call it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from packlore.cli import main
from tests.check.test_reading import GOOD
from tests.check.test_sources import repository
from tests.packs import own, rule, write

BAD = "import time\n\n\ndef f():\n    time.sleep(1)\n"
HINT = GOOD.replace("error", "hint").replace("asyncio-timeout", "pooling-other")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, a git repository; the pack of its owner lies beside it."""
    pack = own(tmp_path / "pack", **{"rules__pooling-other.md": rule(category="pooling")})
    write(
        pack,
        {
            "rules/asyncio-timeout.yml": GOOD,
            "rules/pooling-other.yml": HINT.replace("sleep", "time"),
        },
    )
    folder = repository(write(tmp_path / "project", {"app/a.py": BAD, "app/b.py": "x = 1\n"}))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PACKLORE_PACK", str(pack))
    return folder


def commit(folder: Path) -> None:
    for command in (["add", "."], ["commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["check", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_finding_says_where_what_and_what_to_do(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = check(capsys)
    assert (code, err) == (1, "packlore: 1 errors in 2 files\n")
    assert out.split("\n") == [
        "app/a.py:5:5: error: asyncio-timeout: it waits",
        "    | time.sleep(1)",
        "  do: wait otherwise (packlore show asyncio-timeout)",
        "",
    ]


def test_where_there_is_nothing_it_says_so(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(capsys, "app/b.py") == (0, "", "packlore: nothing found in 1 files\n")


def test_paths_are_shown_from_where_one_stands(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, {"pyproject.toml": "[tool.packlore]\nexclude = ['app/b.py']\n"})
    monkeypatch.chdir(project / "app")
    code, out, err = check(capsys)
    assert (code, out.split(":")[0], err) == (1, "a.py", "packlore: 1 errors in 1 files\n")


def test_less_sure_findings_are_counted_and_told_on_request(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, {"app/a.py": "import time\ntime.time()\n"})
    code, out, err = check(capsys)
    assert (code, out) == (0, "")
    assert err == (
        "packlore: nothing found in 2 files; 1 below error (--min-level hint shows all)\n"
    )
    assert check(capsys, "--min-level", "hint")[0] == 1
    write(project, {"pyproject.toml": "[tool.packlore]\nmin-level = 'hint'\n"})
    assert check(capsys)[0] == 1
    assert check(capsys, "--min-level", "warning")[0] == 0


def test_rules_and_categories_are_selected_and_ignored(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(capsys, "--select", "asyncio")[0] == 1
    assert check(capsys, "--select", "pooling-other")[0] == 0
    assert check(capsys, "--ignore", "asyncio-timeout")[0] == 0
    write(project, {"pyproject.toml": "[tool.packlore]\nignore = ['asyncio']\n"})
    assert check(capsys)[0] == 0
    code, _, err = check(capsys, "--select", "asyncio-timeuot")
    assert (code, err) == (
        2,
        "packlore: no rule or category 'asyncio-timeuot'; nearest: asyncio-timeout\n",
    )


def test_with_diff_only_changed_lines_are_spoken_of(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(project)
    assert check(capsys, "--diff", "HEAD")[0] == 0
    write(project, {"app/a.py": f"{BAD}    time.sleep(2)\n", "app/new.py": BAD})
    code, out, _ = check(capsys, "--diff", "HEAD")
    assert (code, [row.split(" ")[0] for row in out.split("\n") if row.startswith("app")]) == (
        1,
        ["app/a.py:6:5:", "app/new.py:5:5:"],
    )
    assert check(capsys, "--diff", "nonsense")[0] == 2


def test_with_staged_the_text_of_the_next_commit_is_read(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(project)
    write(project, {"app/b.py": BAD})
    subprocess.run(["git", "add", "app/b.py"], check=True)
    write(project, {"app/b.py": "\n\n\nx = 1\n", "app/c.py": BAD})
    code, out, err = check(capsys, "--staged")
    assert (code, out.split(" ")[0], err) == (1, "app/b.py:5:5:", "packlore: 1 errors in 1 files\n")
    assert check(capsys, "--staged", "--diff", "HEAD")[0] == 2


EVASIONS: dict[str, dict[str, str | bytes]] = {
    "lone CRs above": {"app/a.py": b"# " + b"\r" * 20 + b"\n" + BAD.encode()},
    "binary by its attributes": {"app/a.py": BAD, ".gitattributes": "*.py -diff\n"},
    "a line like the head of a file": {"app/a.py": f"x\n'\n++ b/none.py\n'\nx = 1\n{BAD}"},
    "a line like the head of a hunk": {"app/a.py": f"x\n@@ -1 +1 @@\n{BAD}"},
    "a name with what git quotes": {'app/n\x01é"\\.py': BAD},
    "a name like a stage": {"0:a.py": BAD, "a.py": "x = 1\n"},
    "a name like a magic": {":(exclude)a.py": BAD},
}


@pytest.mark.skipif(os.name == "nt", reason="Windows has none of the names")
@pytest.mark.parametrize("kind", EVASIONS)
def test_no_commit_hides_its_lines_from_a_diff(
    project: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write(project, {"app/a.py": "x\n'\n'\nx = 1\n"})
    commit(project)
    write(project, EVASIONS[kind])
    subprocess.run(["git", "add", "."], check=True)
    for arguments in (["--staged"], ["--diff", "HEAD"]):
        code, out, _ = check(capsys, *arguments)
        assert (code, out.count(": error: ")) == (1, 1)
    commit(project)
    assert check(capsys, "--diff", "HEAD~1")[0] == 1
    assert check(capsys, "--diff", "HEAD")[0] == 0


def test_no_commit_hides_its_lines_from_a_diff_by_an_encoding(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Git would write the file as UTF-16, which here is readable code, and compare what it keeps."""
    write(project, {"app/a.py": "x = 1\n"})
    commit(project)
    code = (BAD + " " * (len(BAD) % 2)).encode()
    attributes = "app/a.py working-tree-encoding=UTF-16LE\n"
    write(project, {"app/a.py": code, ".gitattributes": attributes})
    commit(project)
    (project / "app/a.py").unlink()
    subprocess.run(["git", "checkout", "-q", "app/a.py"], check=True)
    assert (project / "app/a.py").read_bytes() == code
    assert check(capsys, "--diff", "HEAD~1")[0] == 1


def test_a_baseline_is_written_and_then_only_new_findings_are_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = check(capsys, "--write-baseline", "known.json")
    assert (code, err) == (0, "packlore: 1 findings are known by known.json\n")
    assert check(capsys, "--baseline", "known.json")[2] == (
        "packlore: nothing found in 2 files; 1 in the baseline\n"
    )
    write(
        project, {"app/b.py": BAD, "pyproject.toml": "[tool.packlore]\nbaseline = 'known.json'\n"}
    )
    code, out, _ = check(capsys)
    assert (code, out.split(" ")[0]) == (1, "app/b.py:5:5:")
    assert check(capsys, "--baseline", "gone.json")[0] == 2


def test_programs_get_json_and_sarif_and_github_gets_annotations(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, {"app/broken.py": b"\xff"})
    code, out, _ = check(capsys, "--json")
    found = json.loads(out)
    assert (code, found["files"], len(found["findings"]), len(found["troubles"])) == (1, 3, 1, 1)
    code, out, _ = check(capsys, "--sarif")
    (run,) = json.loads(out)["runs"]
    assert (code, run["tool"]["driver"]["version"], len(run["results"])) == (1, "1.2.3", 1)
    assert run["tool"]["driver"]["rules"][0]["shortDescription"]["text"] == "Bound each call"
    code, out, err = check(capsys, "--github")
    assert (code, out.split(",")[0]) == (1, "::error file=app/a.py")
    assert "app/broken.py: not checked:" in err


def test_no_code_and_no_name_is_a_command_in_a_log_of_github(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The runner takes a line for one that begins with `::` after spaces, or holds `##[`."""
    call = 'time.sleep("""##[add-mask]x\n::stop-commands::x""", ::x)\n'
    names: dict[str, str | bytes] = {"::error ::a.py": f"import time\n{call}", "##[a].py": b"\xff"}
    write(
        project,
        {
            "app/a.py": f'x = """\n::stop-commands::t""", {call}',
            **({} if os.name == "nt" else names),
        },
    )
    for arguments in ([], ["--json"], ["--sarif"], ["--github"]):
        _, out, err = check(capsys, *arguments)
        rows = (out + err).splitlines()
        assert not [each for each in rows if "##[" in each and not each.startswith("::error file")]
        begun = [each for each in rows if each.strip().startswith("::")]
        assert bool(begun) == ("--github" in arguments)
        assert all(each.startswith("::error file=") for each in begun)
    found = json.loads(check(capsys, "--json")[1])["findings"]
    assert any("##[add-mask]" in each["code"] for each in found)


def test_a_pack_without_detectors_has_nothing_to_ask(
    project: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = check(capsys, "--pack", str(own(tmp_path / "none")))
    assert (code, err) == (
        2,
        "packlore: there is no detector to ask: no rule that is meant has one\n",
    )


def test_without_ast_grep_it_says_what_is_missing(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from packlore.check import syntax

    monkeypatch.setitem(__import__("sys").modules, "ast_grep_py", None)
    syntax._sg_root.cache_clear()
    try:
        code, _, err = check(capsys)
        assert code == 2
        assert err.startswith("packlore: checking code needs the package ast-grep-py: install ")
        assert main(["list"]) == 0
        capsys.readouterr()
        main(["lint", str(project.parent / "pack")])
        assert "detector" not in capsys.readouterr().out
        assert main(["search", "a call without a bound"]) == 0
    finally:
        syntax._sg_root.cache_clear()
