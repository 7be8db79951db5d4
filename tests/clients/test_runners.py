"""uv and pipx, as they are: they run the server from the wheel, and uv installs for the launcher."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.clients import tools
from tests.clients.tools import ANSWER, Person, ask
from tests.proofs.harness import ROOT

pytestmark = pytest.mark.timeout(600)
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def uv() -> Path:
    return tools.python_tools(tools.UV)


@pytest.fixture(scope="module")
def pipx() -> Path:
    return tools.python_tools(tools.PIPX)


@pytest.fixture(scope="module")
def environ(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Somebody with an empty home and a plain Python, who gets the releases we test with."""
    home = tmp_path_factory.mktemp("home")
    pins = str(ROOT / "constraints.txt")
    return {
        **Person(home, clone, home / "nothing").env,
        **tools.uv_environ(),
        "UV_CONSTRAINT": pins,
        "PIP_CONSTRAINT": pins,
        "PIPX_DEFAULT_BACKEND": "pip",
    }


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


async def answer_of(tools: Path, start: str, wheel: Path, env: dict[str, str], cwd: Path) -> str:
    """What a search answers after the README's line that begins with `start`."""
    (line,) = [each.strip() for each in README.splitlines() if each.startswith(f"    {start}")]
    command, *arguments = shlex.split(line.replace("WHEEL", str(wheel)))
    return await ask([tools / command, *arguments], env=env, cwd=cwd)


async def test_uvx_runs_the_server_from_the_wheel(
    uv: Path, wheel: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    assert (await answer_of(uv, "uvx ", wheel, environ, tmp_path)).startswith(ANSWER)


async def test_uv_tool_run_is_the_same(
    uv: Path, wheel: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    command: list[str | Path] = [uv / "uv", "tool", "run", "--from", wheel, "packlore", "serve"]
    assert (await ask(command, env=environ, cwd=tmp_path)).startswith(ANSWER)


async def test_pipx_runs_the_server_from_the_wheel(
    pipx: Path, wheel: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    assert (await answer_of(pipx, "pipx run ", wheel, environ, tmp_path)).startswith(ANSWER)


NOWHERE = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}


@pytest.mark.parametrize(
    ("has_uv", "more", "installer"),
    [(True, {}, "uv"), (False, {}, "pip"), (True, NOWHERE, "pip")],
    ids=["uv", "no uv", "uv that reaches no index"],
)
async def test_the_first_start_installs_with_uv_where_it_can(
    uv: Path,
    clone: Path,
    environ: dict[str, str],
    tmp_path: Path,
    has_uv: bool,
    more: dict[str, str],
    installer: str,
) -> None:
    (tmp_path / "bin").mkdir()
    if has_uv:  # alone: the folder of the tools has a Python, too
        (tmp_path / "bin" / "uv").symlink_to(uv / "uv")
    data = tmp_path / "data"
    path = {"PATH": f"{tmp_path / 'bin'}:{environ['PATH']}", "PACKLORE_DATA": str(data)}
    python = Path(sys.base_prefix) / "bin" / "python3"
    env = {**environ, **path, **more}
    answer = await ask([python, clone / "server" / "launch.py"], env=env, cwd=tmp_path)
    assert answer.startswith(ANSWER)
    names = {file.read_text().strip() for file in data.glob("packages-*/*.dist-info/INSTALLER")}
    assert names == {installer}
    assert not list(data.glob("building-*"))


@pytest.mark.parametrize("has_uv", [True, False], ids=["uv", "no uv"])
def test_a_file_that_the_lock_does_not_name_is_refused(
    uv: Path, clone: Path, environ: dict[str, str], tmp_path: Path, has_uv: bool
) -> None:
    """As if somebody had put another anyio on the index: its real files have other hashes."""
    skill = tmp_path / "skill"
    shutil.copytree(clone, skill)
    lock = skill / "server" / "requirements.txt"
    before, name, after = re.split(r"(?m)^(anyio==\S+)", lock.read_text())
    hashes, rest = re.split(r"(?m)^(?=attrs==)", after)
    hashes = re.sub(r"(?<=sha256:)[0-9a-f]{8}", "0" * 8, hashes)
    lock.write_text(before + name + hashes + rest)
    (tmp_path / "bin").mkdir()
    if has_uv:
        (tmp_path / "bin" / "uv").symlink_to(uv / "uv")
    data = tmp_path / "data"
    path = {"PATH": f"{tmp_path / 'bin'}:{environ['PATH']}", "PACKLORE_DATA": str(data)}
    python = Path(sys.base_prefix) / "bin" / "python3"
    done = tools.run([python, skill / "server" / "launch.py"], env={**environ, **path}, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        f"packlore: refused: {name} is not the file that server/requirements.txt names; none is "
        "installed"
    )
    assert not list(data.glob("packages-*"))
