"""The commands of who writes a pack: init, new, lint, build."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from packlore.cli import terminal
from packlore.errors import BadArgumentError
from packlore.locate import home, locate
from packlore.pack import read


def init(arguments: argparse.Namespace) -> int:
    """`packlore init`."""
    from packlore import author

    folder = home(arguments.folder)
    new = author.init(folder, arguments.name)
    where = shlex.quote(arguments.folder)
    last = (
        f"packlore build {where}, then packlore lint {where}",
        f"packlore serve --pack {where}",
    )
    _wrote(folder, (*new.files, "metadata.json"), (*new.steps, *last))
    return 0


def new(arguments: argparse.Namespace) -> int:
    """`packlore new`."""
    from packlore import author

    folders = _own(arguments)
    if len(folders) != 1:
        raise BadArgumentError("a rule goes into one pack: give one folder")
    made = author.add_rule(folders[0], arguments.id)
    place = folders[0].as_posix()
    where = "" if place == "." else f" {shlex.quote(place)}"
    last = f"packlore build{where}, then packlore lint --strict{where}"
    _wrote(folders[0], made.files, (*made.steps, last))
    return 0


def lint(arguments: argparse.Namespace) -> int:
    """`packlore lint`."""
    from packlore import author

    packs = [(folder, pack) for folder in _own(arguments) for pack in read(folder)]
    problems = [
        replace(problem, path=(folder / pack.folder / problem.path).as_posix())
        for folder, pack in packs
        for problem in author.problems(pack)
    ]
    errors = sum(each.level == "error" for each in problems)
    if arguments.json:
        names = ("path", "line", "level", "code", "message")
        rows = [{name: getattr(each, name) for name in names} for each in problems]
        terminal.data({"problems": rows})
    else:
        for each in problems:
            terminal.say(str(each))
        rules = sum(len(pack.rules) for _, pack in packs)
        terminal.tell(f"{errors} errors, {len(problems) - errors} warnings in {rules} rules")
    return 1 if errors or (arguments.strict and problems) else 0


def build(arguments: argparse.Namespace) -> int:
    """`packlore build`."""
    from packlore import author

    stale = [
        (folder / name).as_posix()
        for folder in _own(arguments)
        for name in author.derive(folder, check=arguments.check, asked=arguments.asked)
    ]
    for name in stale:
        terminal.say(f"{'stale' if arguments.check else 'wrote'} {name}")
    if arguments.check and stale:
        terminal.tell("packlore: run this without --check and commit what it writes")
        return 1
    return 0


def _wrote(folder: Path, names: Iterable[str], steps: Iterable[str]) -> None:
    """What was written, and what is next."""
    for name in names:
        terminal.say(f"wrote {(folder / name).as_posix()}")
    terminal.say("next:")
    for number, step in enumerate(steps, start=1):
        terminal.say(f"{number}. {step}")


def _own(arguments: argparse.Namespace) -> tuple[Path, ...]:
    """The folders of who works on a pack: not the pack that comes with this package."""
    given = [*arguments.pack, *([arguments.path] if arguments.path else [])]
    return locate(given or ["."])
