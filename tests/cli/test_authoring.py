"""The commands of who writes a pack: what they say, and how they end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from packlore import cli
from tests.packs import own, rule, write


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_init_says_what_it_wrote_and_what_is_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "our rules")
    code, out, err = run(capsys, "init", folder, "--name", "our-rules")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert f"wrote {folder}/SKILL.md" in lines
    assert f"wrote {folder}/metadata.json" in lines
    assert all(
        Path(line.removeprefix("wrote ")).is_file() for line in lines[: lines.index("next:")]
    )
    assert lines[-1] == f"5. packlore serve --pack '{folder}'"
    assert run(capsys, "lint", "--strict", folder) == (0, "", "0 errors, 0 warnings in 1 rules\n")
    assert run(capsys, "build", "--check", folder)[0] == 0


def test_init_refuses_to_write_over_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "x", {"SKILL.md": "mine"})
    code, out, err = run(capsys, "init", str(tmp_path / "x"))
    assert (code, out) == (2, "")
    assert err == f"packlore: {tmp_path}/x/SKILL.md is there already: nothing was written\n"
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["SKILL.md"]


def test_new_says_what_to_fill_in_and_in_which_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own(tmp_path, **{"tests__proofs__test_x.py": ""})
    monkeypatch.chdir(folder)
    code, out, _ = run(capsys, "new", "pooling-idle-timeout")
    assert code == 0
    proof = "tests/proofs/test_pooling_idle_timeout.py"
    rest = "all else, by what you saw: symptoms first, then why, then the rest"
    assert out.splitlines() == [
        "wrote rules/pooling-idle-timeout.md",
        f"wrote {proof}",
        "next:",
        "1. rules/pooling-idle-timeout.md: the title, and the blocks Incorrect and Correct",
        f"2. {proof}: what each block does with the same work; run it",
        f"3. rules/pooling-idle-timeout.md: {rest}",
        "4. packlore build, then packlore lint --strict",
    ]
    code, out, err = run(capsys, "new", "pooling-idle-timeout")
    assert (code, out) == (2, "")
    assert "rules/pooling-idle-timeout.md is there already: nothing was written" in err
    code, out, err = run(capsys, "new", "poling-idle-timeout")
    assert (code, out) == (2, "")
    assert err.startswith("packlore: no category 'poling'; nearest: pooling;")


def test_new_takes_the_folder_of_its_pack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own(tmp_path / "pack")
    assert run(capsys, "new", "pooling-a", str(folder))[0] == 0
    code, out, _ = run(capsys, "new", "pooling-b", "--pack", str(folder))
    assert code == 0
    assert f"wrote {folder}/rules/pooling-b.md" in out
    assert f"packlore lint --strict {folder}" in out
    code, _, err = run(capsys, "new", "pooling-c", str(tmp_path), "--pack", str(folder))
    assert (code, err) == (2, "packlore: a rule goes into one pack: give one folder\n")


def test_lint_fails_on_errors_and_on_warnings_if_it_is_strict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(own(tmp_path))
    poorer = rule().replace("aliases:\n  - waits for ever\n", "aliases: []\n")
    write(tmp_path, {"rules/asyncio-timeout.md": poorer})
    code, out, err = run(capsys, "lint", folder)
    assert (code, err) == (0, "0 errors, 1 warnings in 1 rules\n")
    assert out.endswith("rules/asyncio-timeout.md:1: warning: field-empty aliases is empty\n")
    assert run(capsys, "lint", "--strict", folder)[0] == 1
    (row,) = json.loads(run(capsys, "lint", "--json", folder)[1])["problems"]
    assert (row["level"], row["code"]) == ("warning", "field-empty")
    write(tmp_path, {"rules/asyncio-timeout.md": poorer.replace("impact: HIGH", "impact: SEVERE")})
    code, out, err = run(capsys, "lint", folder)
    assert (code, err) == (1, "2 errors, 1 warnings in 1 rules\n")
    assert "rules/asyncio-timeout.md:1: error: impact " in out
    rows = json.loads(run(capsys, "lint", "--json", "--strict", folder)[1])["problems"]
    assert sorted(row["level"] for row in rows) == ["error", "error", "warning"]


def test_show_prints_the_template_and_the_sections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = rule("A template")
    folder = own(tmp_path, **{"rules___template.md": template})
    show = ("show", "--pack", str(folder))
    for name in (
        "_template",
        "_template.md",
        "rules/_template",
        "rules/_template.md",
        "own/_template",
    ):
        assert run(capsys, *show, name) == (0, template, "")
    sections = (folder / "rules" / "_sections.md").read_text()
    assert run(capsys, *show, "_sections")[1] == sections
    (item,) = json.loads(run(capsys, *show, "--json", "_sections")[1])["items"]
    assert (item["id"], item["path"]) == ("_sections", "rules/_sections.md")
    assert item["text"] == sections
    code, _, err = run(capsys, *show, "_templat")
    assert code == 2
    assert "no rule or file '_templat'" in err
    other = own(tmp_path / "other", "other", **{"rules___template.md": template})
    code, _, err = run(capsys, *show, "--pack", str(other), "_template")
    assert code == 2
    assert "ask for one of own/_template, other/_template" in err


def test_the_pack_that_comes_with_packlore_shows_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(capsys, "show", "_template")[1].startswith("---\ntitle: An instruction")
    assert "(asyncio)" in run(capsys, "show", "_sections")[1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--host", "127.0.0.1"], "--host: only with --http"),
        (["--port", "0"], "--port: only with --http"),
        (["--workers", "1"], "--workers: only with --http"),
        (["--sessions"], "--sessions: only with --http"),
        (["--allowed-host", "a"], "--allowed-host: only with --http"),
        (["--allowed-origin", "a"], "--allowed-origin: only with --http"),
        (["--host", "a", "--port", "1"], "--host, --port: only with --http"),
    ],
)
def test_what_is_for_http_alone_is_an_error_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    code, out, err = run(capsys, "serve", *arguments, "--pack", str(own(tmp_path)))
    assert (code, out) == (2, "")
    assert named in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("started_as", "words"),
    [
        ("/x/packlore/__main__.py", [sys.executable, "-P", "-m", "packlore"]),
        ("server/launch.py", [sys.executable, str(Path.cwd() / "server/launch.py")]),
        (sys.executable, [sys.executable]),
        ("packlore-that-is-nowhere", ["packlore"]),
    ],
)
def test_a_hint_names_what_starts_this_program_again(started_as: str, words: list[str]) -> None:
    from packlore.cli.serving import program

    assert program(started_as) == words
