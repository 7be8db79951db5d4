"""At a terminal Markdown is laid out, and nothing in a pack can steer the terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from packlore import answers, render
from packlore.cli import main, terminal
from packlore.cli.terminal import LANGUAGES, MAX_BLOCK, MAX_COLOURED, PLAIN, lexer
from packlore.library import Library
from tests.cli.terminal import SEQUENCE, SERVER, Terminal, at_terminal
from tests.packs import own, rule, write

pytest.importorskip("rich", reason="the command line lays out with it")
from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]  # it comes with rich

HOSTILE = "".join(map(chr, [*range(9), *range(11, 32), *range(0x7F, 0xA0)])) + (
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
"""Every control character but tab and line end, and what turns the direction of a line."""
ATTACKS = (
    "\x1b[2J\x1b[H",  # clears the screen
    "\x1b]0;owned\x07",  # names the window
    "\x1b]52;c;cm0gLXJm\x07",  # fills the clipboard
    "\x9b31m",  # the same as ESC [ in one character
    "\u202egnihtemos\u2066",  # reads backwards
)


@pytest.fixture
def pack(tmp_path: Path) -> str:
    return str(own(tmp_path / "pack"))


def bare(text: str) -> str:
    return SEQUENCE.sub("", text)


def test_markdown_is_laid_out_in_the_width_of_the_terminal(pack: str) -> None:
    long = rule().replace("A call without a bound waits for ever.", "A call that waits. " * 30)
    write(Path(pack), {"rules/asyncio-timeout.md": long})
    for columns in (40, 72):
        code, out = at_terminal("show", "--pack", pack, "asyncio-timeout", columns=columns)
        assert code == 0
        widths = [len(line) for line in bare(out).splitlines()]
        assert columns - 20 < max(widths) <= columns
        assert "##" not in out
        assert "```" not in out
        assert SEQUENCE.search(out)


def test_code_is_highlighted(pack: str) -> None:
    _, out = at_terminal("show", "--pack", pack, "asyncio-timeout")
    (line,) = [line for line in out.splitlines() if "read_bounded" in line]
    assert re.search(r"\x1b\[[39][1-6]mawait\x1b\[0m", line)


def test_each_language_that_gets_colours_is_one_of_pygments() -> None:
    for name in (*LANGUAGES, PLAIN):
        assert get_lexer_by_name(name)


@pytest.mark.parametrize(
    ("info", "size", "wanted"),
    [
        ("python", MAX_BLOCK, "python"),
        ("Python title='x'", 1, "python"),
        ("python", MAX_BLOCK + 1, PLAIN),
        ("adl", 1, PLAIN),
        ("", 1, PLAIN),
        ("  ", 1, PLAIN),
    ],
)
def test_few_languages_and_short_blocks_get_colours(info: str, size: int, wanted: str) -> None:
    assert lexer(info, size) == wanted


def coloured_lines(text: str) -> int:
    shown = terminal._laid_out(text, "always", "")
    return sum("await" in line and "mawait" in line for line in shown.splitlines())


def test_code_gets_colours_up_to_a_bound_and_is_shown_whole() -> None:
    block = "```python\n" + "await read_all()\n" * 200 + "```\n\n"
    blocks = MAX_COLOURED // 3_400 + 3
    shown = bare(terminal._laid_out(block * blocks, "always", ""))
    assert shown.count("await read_all()") == 200 * blocks
    assert coloured_lines(block) == 200
    assert coloured_lines(block * blocks) == MAX_COLOURED // 3_400 * 200
    long = "```python\n" + "await read_all()\n" * 300 + "```\n"
    assert coloured_lines(long) == 0
    assert bare(terminal._laid_out(long, "always", "")).count("await read_all()") == 300


@pytest.mark.parametrize("language", ["adl", "python"])
def test_a_block_takes_no_more_time_than_it_has_bytes(language: str) -> None:
    """Eight times the size may take 8 times as long, and 64 times where the cost is quadratic."""

    def spent(size: int) -> float:
        blocks = (f"```{language}\n{unit * size}x\n```\n\n" for unit in (" ", " \n", '"', "{"))
        text = "".join(blocks)
        best = float("inf")
        for _ in range(2):
            start = time.thread_time()
            terminal._laid_out(text, "always", "")
            best = min(best, time.thread_time() - start)
        return best

    spent(10)
    assert spent(16_000) < 28 * spent(2_000)


def test_a_link_shows_where_it_leads(pack: str) -> None:
    """A terminal's own links hide their address behind their text."""
    _, out = at_terminal("show", "--pack", pack, "asyncio-timeout", columns=200)
    assert "\x1b]" not in out
    assert "asyncio (https://docs.python.org/3/library/asyncio-task.html)" in bare(out)


def test_show_begins_with_id_impact_versions_and_path(pack: str) -> None:
    _, out = at_terminal("show", "--pack", pack, "asyncio-timeout", "SKILL.md")
    heads = [line for line in bare(out).splitlines() if " · " in line]
    assert heads[0] == "asyncio-timeout · HIGH · python >=3.11 · rules/asyncio-timeout.md"
    assert heads[1] == "SKILL.md · skill"
    assert bare(out).startswith(heads[0])


def test_a_pipe_gets_plain_markdown_byte_for_byte(pack: str) -> None:
    library = Library.open([Path(pack)])
    entry = library.get("asyncio-timeout")
    wanted = {
        ("show", "asyncio-timeout"): render.whole(library, [entry]),
        ("show", "--brief", "asyncio-timeout"): render.in_brief(library, [entry]),
        ("list",): render.catalogue(library),
        ("search", "bound each call"): answers.hits(
            library, "bound each call", library.search("bound each call")
        ),
    }
    for arguments, text in wanted.items():
        for more in ([], ["--color", "auto"], ["--color", "never"]):
            assert piped(*arguments, "--pack", pack, *more) == text.encode()


def piped(*arguments: str, environ: dict[str, str] | None = None) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "packlore", *arguments],
        env={**os.environ, "PYTHONPATH": SERVER, "TERM": "xterm-256color", **(environ or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    return done.stdout


def test_colours_are_sent_where_they_are_wanted(pack: str) -> None:
    show = ("show", "--pack", pack, "asyncio-timeout")
    plain = at_terminal(*show, "--color", "never")[1]
    assert "\x1b" not in plain
    assert plain == at_terminal(*show, environ={"NO_COLOR": "1"})[1]
    assert plain == at_terminal(*show, environ={"TERM": "dumb"})[1]
    laid_out = [line.rstrip() for line in plain.splitlines()]
    coloured = at_terminal(*show)[1]
    assert [line.rstrip() for line in bare(coloured).splitlines()] == laid_out
    assert coloured == at_terminal(*show, environ={"NO_COLOR": ""})[1]
    assert coloured == at_terminal(*show, "--color", "always", environ={"NO_COLOR": "1"})[1]
    for environ in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"}):
        always = piped(*show, "--color", "always", environ=environ).decode()
        assert SEQUENCE.search(always)
        assert [line.rstrip() for line in bare(always).splitlines()] == laid_out


def test_an_unknown_colour_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["list", "--color", "blue"])
    assert left.value.code == 2
    assert "always" in capsys.readouterr().err


def hostile(folder: Path) -> str:
    """A pack that attacks in every place that is shown."""
    attack = "".join(ATTACKS) + HOSTILE
    inline = json.dumps(attack, ensure_ascii=True)[1:-1]
    attack = attack.replace("\0", "")  # with it a file is no text
    text = rule().replace("A call without", f"Before{attack}after &#x202e;&#27;[2J. A call without")
    text = text.replace("await read()", f"await read('{attack}')")
    text = text.replace("## Incorrect: it waits", f"## Incorrect: {attack}it waits")
    text = text.replace("docs.python.org/3/", f"docs.python.org/{attack.replace(chr(10), '')}")
    text = text.replace("title: Bound each call", f'title: "Bound each call {inline}"')
    text = text.replace("  - timeout\n", f'  - "timeout{inline}"\n')
    text = text.replace('python: ">=3.11"', f'python: "{inline}>=3.11"')
    skill = (own(folder) / "SKILL.md").read_text().replace("name: own", f'name: "own{inline}"')
    write(folder, {"rules/asyncio-timeout.md": text, "SKILL.md": skill})
    write(folder, {"rules/asyncio-\x1b]0;x\x07\u202e.txt": "x", "rules/asyncio-a\nb.md": "# T\n"})
    return str(folder)


@pytest.mark.parametrize("color", ["auto", "always", "never"])
def test_control_characters_of_a_pack_reach_a_terminal_as_escapes(
    tmp_path: Path, color: str
) -> None:
    pack = hostile(tmp_path / "pack")
    for arguments in (
        ("show", "asyncio-timeout", "rules/asyncio-timeout.md"),
        ("show", "--brief", "asyncio-timeout"),
        ("list",),
        ("search", "bound each call"),
    ):
        _, out = at_terminal(*arguments, "--pack", pack, "--color", color, columns=500)
        assert_harmless(out)
        shown = bare(out)
        assert "\\x1b[2J\\x1b[H" in shown
        assert "\\u202egnihtemos" in shown


def assert_harmless(out: str) -> None:
    """Nothing but colours and weights of letters is left of what a terminal obeys."""
    left = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert set(left) & set(HOSTILE) - {"\r"} == set(), ascii(left)
    assert "\r" not in left


def test_what_is_said_of_a_hostile_pack_is_harmless_too(tmp_path: Path) -> None:
    pack = hostile(tmp_path / "pack")
    code, out = at_terminal("lint", pack)
    assert code == 1
    assert_harmless(out)
    assert "rules/asyncio-\\x1b]0;x\\x07\\u202e.txt:1: error: file-name" in out
    assert "rules/asyncio-a\\nb.md:1: error: " in out
    for arguments in (
        ("lint", "--json", pack),
        ("show", "--json", "--pack", pack, "asyncio-timeout"),
        ("list", "--json", "--pack", pack),
        ("show", "--pack", pack, "asyncio-timeuot"),
        ("show", "--pack", pack, "\x1b[2Jrules"),
        ("list", "--pack", pack, "none"),
        ("search", "--pack", pack, "--tag", "timeout", "x"),
        ("build", pack),
    ):
        assert_harmless(at_terminal(*arguments)[1])


def test_the_lines_of_lint_are_one_line_each_in_a_pipe_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = hostile(tmp_path / "pack")
    main(["lint", pack])
    out = capsys.readouterr().out
    assert_harmless(out)
    assert all(line.startswith(pack) for line in out.splitlines())


def test_json_at_a_terminal_says_the_same_to_a_program(tmp_path: Path) -> None:
    pack = hostile(tmp_path / "pack")
    arguments = ("show", "--json", "--pack", pack, "asyncio-timeout")
    assert json.loads(at_terminal(*arguments)[1]) == json.loads(piped(*arguments))


def test_without_rich_a_terminal_gets_plain_text(tmp_path: Path) -> None:
    write(tmp_path / "without", {"rich.py": "raise ImportError\n"})
    pack = hostile(tmp_path / "pack")
    environ = {"PYTHONPATH": f"{tmp_path / 'without'}{os.pathsep}{SERVER}"}
    code, out = at_terminal("show", "--pack", pack, "asyncio-timeout", environ=environ)
    assert code == 0
    assert_harmless(out)
    assert "## Correct: it ends\n\n```python\n" in out
    assert out.partition("\n")[0].endswith(" · rules/asyncio-timeout.md")


def test_the_template_is_shown_with_its_frontmatter(pack: str) -> None:
    write(Path(pack), {"rules/_template.md": rule("A template")})
    code, out = at_terminal("show", "--pack", pack, "_template")
    assert code == 0
    assert "impactDescription: the call never returns" in bare(out)
    assert "A template" in bare(out)


def test_serve_at_a_terminal_says_what_it_waits_for_and_how_to_connect(pack: str) -> None:
    serving = Terminal([sys.executable, "-m", "packlore", "serve", "--pack", pack, "--watch"])
    said = serving.until("--http").replace("\r\n", "\n")
    assert said.startswith("packlore: serving 1 rules; waiting for an MCP client")
    command = ["-P", "-m", "packlore", "serve", "--pack", str(Path(pack).resolve()), "--watch"]
    assert f"claude mcp add packlore -- {sys.executable} {' '.join(command)}\n" in said
    (config,) = re.findall(r"\{.*\}", said)
    server = json.loads(config)["mcpServers"]["packlore"]
    assert server == {"command": sys.executable, "args": command}
    serving.type("\x03")
    code, _ = serving.end()
    assert code == -2  # also where it came before the server had begun


def test_serve_in_a_pipe_says_nothing(pack: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "packlore", "serve", "--pack", pack],
        env={**os.environ, "PYTHONPATH": SERVER},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
