"""server/requirements.txt, from which the launcher installs: hashes for all that the server needs,
and the releases that are tested here. server/requirements-check.txt has what only checking needs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution, packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from launcher.install import CHECKING, IMPORTED
from tests.proofs.harness import ROOT

TEXT = (ROOT / "server" / "requirements.txt").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MACHINES = {
    "Linux x86-64": {"sys_platform": "linux", "platform_machine": "x86_64", "os_name": "posix"},
    "Linux arm64": {"sys_platform": "linux", "platform_machine": "aarch64", "os_name": "posix"},
    "macOS arm64": {"sys_platform": "darwin", "platform_machine": "arm64", "os_name": "posix"},
    "macOS x86-64": {"sys_platform": "darwin", "platform_machine": "x86_64", "os_name": "posix"},
    "Windows": {"sys_platform": "win32", "platform_machine": "AMD64", "os_name": "nt"},
}
PYTHONS = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each]


def entries(text: str) -> dict[Requirement, list[str]]:
    """What is pinned, each with its hashes."""
    joined = re.sub(r"\\\n", "", re.sub(r"(?m)^#.*\n", "", text))
    found = {}
    for line in joined.splitlines():
        if line and not line.startswith("--"):
            pin, *hashes = re.split(r"\s+--hash=", line)
            found[Requirement(pin)] = hashes
    return found


LOCKED = entries(TEXT)
TEXT_CHECK = (ROOT / "server" / "requirements-check.txt").read_text("utf-8")
LOCKED_CHECK = entries(TEXT_CHECK)


def environment(machine: str, python: str) -> dict[str, str]:
    """What markers see there."""
    given = MACHINES[machine]
    system = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[given["sys_platform"]]
    return {
        **given,
        "platform_system": system,
        "python_version": python,
        "python_full_version": f"{python}.1",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


def holds(requirement: Requirement, where: dict[str, str], extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**where, "extra": extra})


def pinned(where: dict[str, str]) -> dict[str, str]:
    """The releases that would be installed there. No name twice."""
    pins = [
        (canonicalize_name(each.name), str(each.specifier).removeprefix("=="))
        for each in LOCKED
        if holds(each, where)
    ]
    assert len(pins) == len(dict(pins))
    return dict(pins)


def unmet(needed: Iterable[Requirement], there: dict[str, str], where: dict[str, str]) -> list[str]:
    """What is needed there, and by what is needed, and is not in the lock."""
    missing, known = [], set()
    waiting = [(each, "") for each in needed]
    while waiting:
        each, extra = waiting.pop()
        name = canonicalize_name(each.name)
        if not holds(each, where, extra):
            continue
        if name not in there or not each.specifier.contains(there[name]):
            missing.append(str(each))
            continue
        if (name, *each.extras) in known:
            continue
        known.add((name, *each.extras))
        waiting += [
            (asked, of) for of in ("", *each.extras) for asked in _asked(name, there[name], where)
        ]
    return missing


def _asked(name: str, release: str, where: dict[str, str]) -> Iterator[Requirement]:
    """What a package asks for, as the one that is installed here tells it."""
    if where["sys_platform"] != sys.platform and not _here(name):
        return  # only for that platform, such as pywin32
    yield from map(Requirement, distribution(name).requires or ())


def _here(name: str) -> bool:
    return any(canonicalize_name(each.name) == name and not each.marker for each in LOCKED)


def test_every_entry_is_one_release_with_its_hashes() -> None:
    assert len(LOCKED) > 30
    for pin, hashes in [*LOCKED.items(), *LOCKED_CHECK.items()]:
        assert re.fullmatch(r"==[\w.+!]+", str(pin.specifier)), pin
        assert hashes, pin
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), pin


def test_it_is_for_wheels_alone_and_names_no_place() -> None:
    for text in (TEXT, TEXT_CHECK):
        options = [line for line in text.splitlines() if line.startswith("--")]
        assert options == ["--only-binary :all:"]
        assert "/" not in text


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_it_has_all_that_pyproject_asks_for_and_what_that_asks_for(
    machine: str, python: str
) -> None:
    where = environment(machine, python)
    needed = [Requirement(each) for each in PROJECT["dependencies"]]
    assert unmet(needed, pinned(where), where) == [], "make hashes"


def test_a_range_that_it_does_not_satisfy_and_a_name_that_it_lacks_are_seen() -> None:
    where = environment("Linux x86-64", "3.13")
    for planted in ("anyio>=99", "ast-grep-cli"):
        assert unmet([Requirement(planted)], pinned(where), where) == [planted]
    there = pinned(where)
    del there["mcp-types"]
    assert len(unmet([Requirement("mcp")], there, where)) == 1


def test_its_releases_are_those_that_are_tested_here() -> None:
    tested: dict[str, set[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if "==" in line:
            pin = Requirement(line)
            tested.setdefault(canonicalize_name(pin.name), set()).add(str(pin.specifier))
    for pin in (*LOCKED, *LOCKED_CHECK):
        known = tested.get(canonicalize_name(pin.name))
        if known is None:  # what is not for Linux
            assert re.search(r'sys_platform == "(win32|emscripten)"', str(pin.marker)), pin
        else:
            assert str(pin.specifier) in known, f"{pin}: make hashes"


def test_it_covers_what_the_server_imports() -> None:
    code = (
        "import importlib, pkgutil, sys, packlore\n"
        f"names = {IMPORTED!r}\n"
        "found = pkgutil.walk_packages(packlore.__path__, 'packlore.')\n"
        "names += tuple(each.name for each in found if not each.name.endswith('__main__'))\n"
        "for each in names: importlib.import_module(each)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    owners = packages_distributions()
    used = {
        canonicalize_name(owner)
        for module in out.stdout.split()
        for owner in owners.get(module, ())
        if module not in sys.stdlib_module_names
    }
    assert {"mcp", "pyyaml", "uvicorn", "cryptography"} <= used
    assert used - {"packlore"} <= set(pinned(environment("Linux x86-64", PYTHONS[-1])))


def test_what_an_installation_is_tried_with_is_what_the_server_imports() -> None:
    """Each dependency is tried, but for rich, without which the command line does, too."""
    owners = packages_distributions()
    tried = {canonicalize_name(owners[each.partition(".")[0]][0]) for each in IMPORTED}
    asked = {canonicalize_name(Requirement(each).name) for each in PROJECT["dependencies"]}
    assert tried == asked - {"rich"}


def test_what_only_checking_needs_is_the_extra_of_that_name() -> None:
    """And each is tried by importing it."""
    (asked,) = map(Requirement, PROJECT["optional-dependencies"]["check"])
    (pin,) = LOCKED_CHECK
    assert canonicalize_name(pin.name) == canonicalize_name(asked.name) == "ast-grep-py"
    assert asked.specifier.contains(str(pin.specifier).removeprefix("=="))
    needed = [each for each in distribution(pin.name).requires or () if "extra ==" not in each]
    assert needed == []
    owners = packages_distributions()
    assert {canonicalize_name(owners[each][0]) for each in CHECKING} == {"ast-grep-py"}


def test_make_looks_for_wheels_for_each_python_that_we_claim() -> None:
    (line,) = re.findall(r"^PYTHONS := (.*)$", MAKEFILE, re.MULTILINE)
    assert line.split() == PYTHONS
