"""Shells complete commands, options, ids and categories."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from packlore import cli
from packlore.cli.arguments import ASK, SHELLS
from packlore.cli.commands import COMMANDS
from packlore.cli.complete import answer
from tests.cli.terminal import SERVER, Terminal
from tests.packs import own, rule

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def pack(tmp_path: Path) -> str:
    more = {"rules__asyncio-shield.md": rule("Shield"), "references__a.md": "# A\n"}
    return str(own(tmp_path / "pack", **more))


def offered(line: str, pack: str = "") -> list[str]:
    """What is offered for the last word of a line."""
    words = line.split(" ")
    if pack:
        words[2:2] = ["--pack", pack]
    return answer([str(len(words) - 1), *words])


def test_commands_and_options_are_offered() -> None:
    assert offered("packlore ") == sorted(COMMANDS)
    assert offered("packlore se") == ["search", "serve"]
    assert offered("packlore --") == ["--help", "--version"]
    assert offered("packlore search --m") == ["--min-impact"]
    assert "--strict" in offered("packlore lint --")
    assert offered("packlore nothing ") == []


def test_ids_and_categories_are_offered(pack: str) -> None:
    assert offered("packlore show asyncio-", pack) == ["asyncio-shield", "asyncio-timeout"]
    assert offered("packlore show asyncio-shield asyncio-t", pack) == ["asyncio-timeout"]
    assert offered("packlore show references/", pack) == ["references/a.md"]
    assert offered("packlore show _", pack) == ["_sections", "_template"]
    assert offered("packlore list ", pack) == ["asyncio"]
    assert offered("packlore search --category a", pack) == ["asyncio"]
    assert offered("packlore search --category = a", pack) == ["asyncio"]
    assert offered("packlore search --category=a", pack) == ["--category=asyncio"]
    assert offered("packlore search --category =", pack) == ["asyncio"]
    assert offered("packlore search --tag ti", pack) == ["timeout"]
    assert offered("packlore search --kind re") == ["reference"]
    assert offered("packlore search --min-impact M") == ["MEDIUM", "MEDIUM-HIGH"]
    assert offered("packlore show --color a") == ["always", "auto"]
    assert offered("packlore new ", pack) == ["asyncio-", "pooling-"]
    assert offered("packlore completion ") == sorted(SHELLS)


def test_where_anything_may_stand_nothing_is_offered(pack: str, tmp_path: Path) -> None:
    assert offered("packlore search asyncio", pack) == []
    assert offered("packlore lint ", pack) == []
    assert offered("packlore serve --pack ") == []
    assert offered("packlore show a", str(tmp_path / "none")) == []
    assert answer([]) == []
    assert answer(["x"]) == []
    assert answer(["7", "packlore"]) != []  # the cursor is past the words: a new one begins


def test_a_name_that_a_shell_would_run_is_not_offered(tmp_path: Path) -> None:
    names = ("$(touch x)", "a b", "`id`", "a;b", "\x1b[2J", "\u202ex")
    files = {f"references__{name}.md": "# A\n" for name in names}
    pack = str(own(tmp_path, **files))
    assert offered("packlore show references", pack) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_that_asks_the_hidden_command(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["completion", shell]) == 0
    assert f" {ASK} " in capsys.readouterr().out
    assert cli.main([]) == 2
    assert ASK not in capsys.readouterr().out
    if shutil.which(shell):
        script = subprocess.run([sys.executable, "-m", "packlore", "completion", shell],
                                capture_output=True, check=True, env=environ()).stdout  # fmt: skip
        done = subprocess.run([shell, "-n"], input=script, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


def environ(bin_: Path | None = None) -> dict[str, str]:
    path = f"{bin_}{os.pathsep}{os.environ['PATH']}" if bin_ else os.environ["PATH"]
    return {**os.environ, "PYTHONPATH": SERVER, "PATH": path}


@pytest.fixture
def bin_(tmp_path: Path) -> Path:
    """A folder with the command `packlore`, as an installation has it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "packlore"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m packlore "$@"\n')
    command.chmod(0o755)
    return folder


@needs_bash
def test_bash_completes_what_a_person_types(pack: str, bin_: Path) -> None:
    path = environ(bin_)["PATH"]
    shell = Terminal(["bash", "--norc", "--noprofile", "-i"], {"PATH": path, "PS1": "$ "}, 200)
    try:
        shell.type('eval "$(packlore completion bash)"; echo rea""dy\n')
        shell.until("ready")
        for typed, completed in (
            ("packlore sh\t", "packlore show "),
            (f"packlore list --pack {pack} as\t", "asyncio "),
            (f"packlore show --pack {pack} asyncio-sh\t", "asyncio-shield "),
            (f"packlore search --pack {pack} --category=as\t", "--category=asyncio "),
            (f"packlore lint {bin_.parent}/b\t", f"{bin_}/"),  # a folder
            (f"packlore new --pack {pack} po\tx\n", "pooling-x"),
        ):
            shell.said = ""
            shell.type(typed)
            assert completed in shell.until(completed)
            shell.type("\x15")  # the line goes
    finally:
        shell.type("\x15exit\n")
        shell.end()
    assert (Path(pack) / "rules" / "pooling-x.md").is_file()


@needs_bash
def test_the_bash_script_lists_all_candidates(pack: str, bin_: Path) -> None:
    program = (
        'eval "$(packlore completion bash)"\n'
        f"COMP_WORDS=(packlore show --pack '{pack}' asyncio); COMP_CWORD=4\n"
        "_packlore packlore asyncio show\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
        "complete -p packlore\n"
    )
    done = subprocess.run(
        ["bash", "-c", program], env=environ(bin_), capture_output=True, text=True, check=True
    )
    *found, registered = done.stdout.splitlines()
    assert found == ["asyncio-shield", "asyncio-timeout"]
    assert "_packlore" in registered
