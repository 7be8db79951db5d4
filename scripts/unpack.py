"""Takes programs out of a Debian release into a folder each, with the libraries that they need and
the loader that starts them: python scripts/unpack.py FOLDER PROGRAM:SUITE:PACKAGE[+PACKAGE]...

So a machine can have one program in two releases. Nothing is installed, and nobody has to be root:
apt fetches the packages with lists of its own, from the mirror that this machine uses. A Python
comes with its standard library, and its bin/python3 starts it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# A package of shared libraries. What else a package depends on serves its installation.
LIBRARY = re.compile(r"z?lib(?!perl)")
PYTHON = re.compile(r"python3\.\d+")
VERSION = {"nginx": "-v"}  # how a program is asked for its version where not by --version
WHEELS = "usr/share/python-wheels"  # where Debian's ensurepip looks for pip


class UnpackError(RuntimeError):
    """Why a program is not to be had here."""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints; UnpackError with what it says where it fails."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd)
    except FileNotFoundError:
        raise UnpackError(f"no {command[0]}: this needs Debian or a relative of it") from None
    except subprocess.CalledProcessError as failed:
        raise UnpackError(f"{command[0]} failed:\n{failed.stderr.strip()}") from None
    return done.stdout


def mirror() -> str:
    """The address from which this machine takes Debian's packages."""
    told = run(
        "apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"
    )
    for line in told.splitlines():
        origin, _, address = line.partition(" ")
        if origin == "Debian" and "security" not in address:
            return address
    raise UnpackError("apt knows no mirror of Debian: run `apt-get update`, or use Debian")


@dataclass(frozen=True)
class Release:
    """A Debian release with lists of its own in `folder`, as if nothing were installed."""

    suite: str
    folder: Path

    def open(self, address: str) -> None:
        for name in ("lists/partial", "cache/archives/partial", "packages"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "status").touch()
        (self.folder / "sources.list").write_text(f"deb {address} {self.suite} main\n")
        self.apt("apt-get", "update")

    def apt(self, program: str, *arguments: str) -> str:
        options = {
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",  # the folder is closed to `_apt`
            "APT::Update::Error-Mode": "any",
            "Debug::NoLocking": "true",
        }
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return run(program, *given, *arguments, cwd=self.folder / "packages")

    def unpack(self, *packages: str) -> Path:
        """The root of a tree that holds the packages and their libraries."""
        plan = self.apt("apt-get", "--simulate", "install", *packages)
        planned = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
        wanted = [name for name in planned if LIBRARY.match(name) or name in packages]
        self.apt("apt-get", "download", *wanted)
        root = self.folder / packages[0]
        for archive in (self.folder / "packages").glob("*.deb"):
            run("dpkg-deb", "--extract", archive, root)
            archive.unlink()
        return root


def lay(root: Path, program: str, to: Path) -> None:
    """Copy a program of the tree, its libraries and its loader into the new folder `to`."""
    binary = next((path for path in root.glob(f"usr/*bin/{program}") if path.is_file()), None)
    loaders = [path for path in root.rglob("ld-linux-*.so.*") if path.is_file()]
    if binary is None or not loaders:
        raise UnpackError(f"no {program} or no loader in {root.name}")
    loader = loaders[0]
    folders = {path.parent for path in root.rglob("*.so.*")}
    listed = run(loader, "--library-path", ":".join(map(str, folders)), "--list", binary)
    libraries = [Path(path) for path in re.findall(r" => (\S+) \(0x", listed)]
    to.mkdir(parents=True)
    shutil.copy(binary, to / program)
    shutil.copy(loader, to / "loader")
    for library in libraries:
        shutil.copy(library, to / library.name)
    asked = VERSION.get(program, "--version")
    run(to / "loader", "--library-path", to, to / program, asked)


def lay_python(root: Path, program: str, to: Path, place: Path) -> None:
    """As `lay`, with what makes a Python of it; it runs once `to` has been moved to `place`.

    The kernel starts a program with the loader that its path names, so bin/ has a script that starts
    it with ours. `--argv0` lets Python take the script for itself: environments link to it.
    """
    lay(root, program, to)
    for library in root.glob("usr/lib/*-linux-gnu*/*.so.*"):  # its modules load them
        shutil.copy(library, to / library.name)
    library = to / "lib" / program
    unusable = shutil.ignore_patterns("sitecustomize.py")  # a link to /etc
    shutil.copytree(root / "usr/lib" / program, library, symlinks=True, ignore=unusable)
    shutil.copytree(root / WHEELS, to / "wheels")
    for told in library.glob("_sysconfig*"):
        if not told.is_symlink():
            text = told.read_text("utf-8").replace(f"/{WHEELS}", f"{place}/wheels")
            told.write_text(text, "utf-8")
    script = to / "bin" / program
    script.parent.mkdir()
    started = f'--argv0 "$0" --library-path "{place}" "{place}/{program}"'
    script.write_text(f'#!/bin/sh\nexec "{place}/loader" {started} "$@"\n', "utf-8")
    script.chmod(0o755)
    (script.parent / "python3").symlink_to(program)


def main(arguments: list[str]) -> None:
    """Lay each program into FOLDER/PROGRAM-SUITE, in place of what lies there.

    A PROGRAM may stand in a folder: newest/redis-server.
    """
    folder, *asked = arguments
    address = mirror()
    with tempfile.TemporaryDirectory() as scratch:
        releases: dict[str, Release] = {}
        for each in asked:
            program, suite, packages = each.split(":")
            if suite not in releases:
                releases[suite] = Release(suite, Path(scratch, suite))
                releases[suite].open(address)
            new = Path(scratch, "new")
            root, name = releases[suite].unpack(*packages.split("+")), Path(program).name
            place = Path(folder, f"{program}-{suite}").absolute()
            if PYTHON.fullmatch(name):
                lay_python(root, name, new, place)
            else:
                lay(root, name, new)
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(new, place)
            sys.stdout.write(f"{place}\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UnpackError as problem:
        sys.exit(f"scripts/unpack.py: {problem}")
