"""First starts without a network: a skill of one rule, and stand-ins for what installs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.packs import own
from tests.proofs.harness import ROOT

PYTHON = Path(sys.base_prefix) / "bin" / "python3"
"""A plain one, with nothing of the environment of the tests, not even pip."""
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
# Installs nothing: what it leaves leads to the environment of the tests.
LEADS_HERE = """#!/bin/sh
while [ "$1" != --target ]; do shift; done
case "$*" in *requirements-check.txt*) ;; *) echo installed >> {log} ;; esac
{more}
echo {site} > "$2/environment.pth"
"""


@dataclass
class Machine:
    """A machine with a Python and these tools, and a data folder of its own."""

    folder: Path
    python: Path = PYTHON

    def __post_init__(self) -> None:
        self.bin.mkdir()
        self.modules.mkdir()
        self.client.mkdir()

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def modules(self) -> Path:
        """Found before the modules that Python has itself."""
        return self.folder / "modules"

    @property
    def client(self) -> Path:
        """The folder in which a client starts its servers: whatever somebody works on."""
        return self.folder / "client"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def places(self) -> list[Path]:
        """The packages that are complete."""
        return [path.parent for path in self.data.glob("packages-*/packlore-ready")]

    def skill(self, name: str = "skill", lock: str | None = None) -> Path:
        """A copy of the skill, by default with its real lock."""
        made = own(self.folder / name)
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "server", made / "server", ignore=unwanted)
        if lock is not None:
            (made / "server" / "requirements.txt").write_text(lock)
            (made / "server" / "requirements-check.txt").unlink()
        return made

    def uv(self, script: str) -> None:
        """Put a program there that is called uv."""
        (self.bin / "uv").write_text(script)
        (self.bin / "uv").chmod(0o755)

    def uv_that_leads_here(self, more: str = "") -> None:
        """A uv with whose packages the server can be served; `installs` counts its runs."""
        site = sysconfig.get_path("purelib")
        self.uv(LEADS_HERE.format(log=self.folder / "installs", site=site, more=more))

    @property
    def installs(self) -> int:
        log = self.folder / "installs"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def pip(self, code: str) -> None:
        """Put a module there that is called pip."""
        (self.modules / "pip.py").write_text(code)

    def environ(self, more: Mapping[str, str]) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "PACKLORE_DATA": str(self.data),
            "HOME": str(self.folder),
            "PYTHONPATH": str(self.modules),
            "PIP_CONFIG_FILE": os.devnull,
            **more,
        }

    def begin(self, skill: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start as a client does."""
        return subprocess.Popen(
            [self.python, skill / "server" / "launch.py", *arguments],
            cwd=self.client,
            env=self.environ(more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, skill: Path, *arguments: str, **more: str) -> Done:
        """Start, ask who is there, and leave."""
        return finish(self.begin(skill, *arguments, **more))


@dataclass(frozen=True)
class Done:
    """What a start has said."""

    code: int
    out: str
    err: str

    @property
    def serves(self) -> bool:
        """Whether the server has said who it is, and all has gone well."""
        lines = self.out.splitlines()
        return (
            self.code == 0
            and len(lines) == 1
            and json.loads(lines[0])["result"]["serverInfo"]["name"] == "packlore"
        )

    @property
    def last(self) -> str:
        return self.err.splitlines()[-1] if self.err else ""


def finish(started: subprocess.Popen[str]) -> Done:
    out, err = started.communicate(json.dumps(INITIALIZE) + "\n", timeout=110)
    return Done(started.returncode, out, err)


def wheel(folder: Path, name: str, files: Mapping[str, str], needs: str = "") -> str:
    """Write a wheel of version 1.0, and give its sha256."""
    info = f"{name}-1.0.dist-info"
    required = f"Requires-Dist: {needs}\n" if needs else ""
    carried = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{required}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},{_digest(text)},{len(text)}\n" for path, text in carried.items()]
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in carried.items():
            archive.writestr(each, text)
        archive.writestr(f"{info}/RECORD", "".join(rows) + f"{info}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(text: str) -> str:
    found = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
    return f"sha256={found.decode()}"
