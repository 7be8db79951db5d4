"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from packlore import cli
from packlore.locate import VARIABLE
from tests.packs import own, rule, write

COMMANDS = ("serve", "search", "show", "list", "lint", "build")


@pytest.fixture
def pack(tmp_path: Path) -> str:
    return str(own(tmp_path / "pack"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    out = capsys.readouterr().out
    assert left.value.code == 0
    assert f"example:\n  packlore {command}" in out
    assert "--pack" in out


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 2
    assert all(command in out for command in COMMANDS)


def test_search_prints_the_rule_or_data(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = run(capsys, "search", "--pack", pack, "bound", "each", "call")
    assert text.startswith("asyncio-timeout (HIGH")
    code, out, _ = run(capsys, "search", "--pack", pack, "--json", "bound each call")
    found: dict[str, Any] = json.loads(out)
    assert code == 0
    assert found["query"] == "bound each call"
    assert found["hits"][0]["id"] == "asyncio-timeout"
    assert found["hits"][0]["score"] > 0
    assert found["hits"][0]["category"] == "asyncio"


def test_search_answers_a_line_for_each_line(
    pack: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["bound each call", "", "zebra giraffe", "完全无关", "bound each call"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    code, out, _ = run(capsys, "search", "--pack", pack, "--json", "--stdin")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["query"] for row in rows] == lines
    assert [bool(row["hits"]) for row in rows] == [True, False, False, False, True]


def test_search_reads_a_traceback_from_standard_input(
    pack: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("TimeoutError: it\ntook too long\n"))
    assert run(capsys, "search", "--pack", pack, "-")[1].startswith("asyncio-timeout")


def test_show_prints_rules_as_they_stand(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", "--pack", pack, "asyncio-timeout")
    assert code == 0
    assert out.startswith("# Bound each call\n")
    assert "await read()" in out
    assert (
        "await read()" not in run(capsys, "show", "--pack", pack, "--brief", "asyncio-timeout")[1]
    )
    (item,) = json.loads(run(capsys, "show", "--pack", pack, "--json", "asyncio-timeout")[1])[
        "items"
    ]
    assert item["path"] == "rules/asyncio-timeout.md"
    assert item["text"] == out


def test_list_prints_the_catalogue(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "asyncio-timeout (HIGH" in run(capsys, "list", "--pack", pack)[1]
    items = json.loads(run(capsys, "list", "--pack", pack, "--json", "asyncio")[1])["items"]
    assert [item["id"] for item in items] == ["asyncio-timeout"]


def test_lint_exits_with_1_where_there_is_a_problem(
    pack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "lint", pack)[0] == 0
    write(Path(pack), {"rules/asyncio-bad.md": "# Bad\n"})
    code, out, _ = run(capsys, "lint", pack)
    assert code == 1
    assert "rules/asyncio-bad.md:1: error: frontmatter-missing" in out
    problems = json.loads(run(capsys, "lint", "--json", pack)[1])["problems"]
    assert {"path", "line", "level", "code", "message"} == set(problems[0])
    assert len(problems) == len(out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "asyncio-timeot"], "nearest: asyncio-timeout"),
        (["search", "--limit", "0", "a"], "give 1 to 20"),
        (["search", "--tag", "timeuot", "a"], "no tag 'timeuot'; nearest: timeout;"),
        (["search", "--stdin", "a"], "--stdin goes with --json"),
        (["list", "none"], "there are: asyncio"),
        (["serve", "--http", "--port", "70000"], "give 0 to 65535"),
        (["serve", "--http", "--workers", "0"], "give 1 to 64"),
        (["serve", "--http", "--allowed-host", "https://x"], "give one such as mcp.example.com"),
        (["serve", "--http", "--host", "0.0.0.0"], "--allowed-host"),
    ],
)
def test_a_wrong_call_exits_with_2_and_one_line(
    pack: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = run(capsys, *arguments, "--pack", pack)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("packlore: ")
    assert len(err.splitlines()) == 1


def test_packs_come_from_the_option_the_variable_or_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = str(own(tmp_path / "one", "one")), str(own(tmp_path / "two", "two"))
    monkeypatch.setenv(VARIABLE, two)
    assert "# two 1.2.3" in run(capsys, "list")[1]
    out = run(capsys, "list", "--pack", one, "--pack", two)[1]
    assert "# one 1.2.3" in out
    assert "# two 1.2.3" in out
    monkeypatch.delenv(VARIABLE)
    assert "# python-backend" in run(capsys, "list")[1]
    code, _, err = run(capsys, "list", "--pack", str(tmp_path / "none"))
    assert code == 2
    assert "no folder at" in err


def test_a_closed_pipe_is_no_error(pack: str) -> None:
    command = f"{sys.executable} -m packlore list --pack {pack} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_output_is_utf8_whatever_the_terminal_says(pack: str) -> None:
    write(Path(pack), {"rules/asyncio-timeout.md": rule("Größe 中")})
    done = subprocess.run(
        [sys.executable, "-m", "packlore", "show", "--json", "--pack", pack, "asyncio-timeout"],
        env={
            "PYTHONIOENCODING": "ascii",
            "PATH": "",
            "PYTHONPATH": str(Path(cli.__file__).parents[2]),
        },
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout.decode())["items"][0]["title"] == "Größe 中"


def test_a_process_says_all_it_has_to_say_before_it_ends(tmp_path: Path) -> None:
    """It leaves without taking anything apart: nothing may be left in a buffer by then."""
    long = rule("Long").replace("- None.", "- None.\n\n" + "Word and word. " * 40_000)
    folder = own(tmp_path, **{"rules__asyncio-long.md": long})

    def packlore(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "packlore", *arguments, "--pack", str(folder)]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    shown = packlore("show", "--json", "asyncio-long")
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["items"][0]["id"] == "asyncio-long"
    linted = packlore("lint")
    assert linted.returncode == 1
    assert "rule-length" in linted.stdout
    assert linted.stderr.endswith(" in 2 rules\n")
    unknown = packlore("show", "asyncio-lang")
    assert unknown.returncode == 2
    assert "asyncio-long" in unknown.stderr


def test_lint_and_build_mean_the_current_folder(
    pack: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pack)
    assert run(capsys, "build", "--check")[1].splitlines() == ["stale metadata.json"]
    write(Path(pack), {"rules/asyncio-odd.md": "# T\n"})
    _, out, err = run(capsys, "lint")
    assert out.startswith("rules/asyncio-odd.md:1: ")
    assert err.endswith(" warnings in 2 rules\n")
    monkeypatch.chdir(Path(pack).parent)
    for arguments in (("lint",), ("lint", "pack"), ("lint", "--pack", pack)):
        assert f"pack/{out.splitlines()[0]}" in run(capsys, *arguments)[1]
    monkeypatch.chdir(Path(pack) / "rules")
    code, _, err = run(capsys, "build")
    assert (code, err.split(":")[1].strip()) == (2, "no pack in .")


def process(*arguments: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "packlore", *arguments]
    return subprocess.Popen(command, **{**pipes, **options})


def test_each_line_is_answered_when_it_comes(pack: str) -> None:
    with process("search", "--pack", pack, "--json", "--stdin") as running:
        assert running.stdin
        assert running.stdout
        for query in ("bound each call", "caf\u00e9"):
            running.stdin.write(f"{query}\n".encode())
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["query"] == query
        running.stdin.write(b"caf\xe9\n")
        running.stdin.close()
        assert json.loads(running.stdout.readline())["query"] == "caf\ufffd"
        assert running.wait(20) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there arguments are text")
def test_bytes_that_are_no_text_are_shown(pack: str) -> None:
    with process("search", "--pack", pack, "--json", b"bound each call \xe9") as running:
        out, err = running.communicate(timeout=20)
        assert json.loads(out)["hits"][0]["id"] == "asyncio-timeout"
        assert (running.returncode, err) == (0, b"")
    with process("lint", b"/nowhere\xe9") as running:
        _, err = running.communicate(timeout=20)
        assert running.returncode == 2
        assert err.startswith(b"packlore: no folder at /nowhere\\udce9:")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_what_cannot_be_written_is_told(pack: str) -> None:
    with (
        Path("/dev/full").open("wb") as full,
        process("list", "--pack", pack, stdout=full) as running,
    ):
        _, err = running.communicate(timeout=20)
    assert (running.returncode, err.decode()) == (
        2,
        "packlore: [Errno 28] No space left on device\n",
    )


def test_a_query_and_a_stream_of_them_do_not_go_together(
    pack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "search", "--pack", pack, "--json", "--stdin", "x")
    assert (code, err) == (2, "packlore: give a query or --stdin, not both\n")
    assert run(capsys, "search", "--pack", pack, "--json", "")[0] == 2


@pytest.mark.parametrize("user", ["unknown-to-all", "a" * 300])
@pytest.mark.parametrize("command", ["search bound", "list", "serve", "lint", "build"])
def test_the_home_of_a_user_who_is_unknown_is_a_wrong_call(
    command: str, user: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = command.split()
    code, out, err = run(capsys, name, "--pack", f"~{user}/x", *rest)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err.count("\n") == 1
    assert err.startswith("packlore: ~")


@pytest.mark.parametrize("command", ["init ~unknown-to-all/x", "lint ~unknown-to-all/x"])
def test_the_home_of_a_user_who_is_unknown_is_no_place_for_a_pack(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *command.split())
    assert (code, out) == (2, "")
    assert err == (
        "packlore: ~unknown-to-all/x: no home of ~unknown-to-all is known here; give the folder "
        "in full\n"
    )


def test_a_variable_may_name_no_unknown_home_either(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "~unknown-to-all/x")
    code, _, err = run(capsys, "list")
    assert code == 2
    assert err.startswith("packlore: ~unknown-to-all/x: no home of ~unknown-to-all is known here")


@pytest.mark.skipif(sys.platform == "win32", reason="the users of POSIX")
def test_a_user_whose_home_is_not_there_has_no_pack(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As nobody on Debian: a home is on record, and there is no such folder."""
    import pwd

    class Nobody:
        pw_dir = str(tmp_path / "nonexistent")

    monkeypatch.setattr(pwd, "getpwnam", lambda _: Nobody)
    code, out, err = run(capsys, "list", "--pack", "~nobody/x")
    assert (code, out) == (2, "")
    assert err.startswith("packlore: ")
    assert str(tmp_path / "nonexistent" / "x") in err
