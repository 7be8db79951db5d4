"""What a shell offers when its user asks for the rest of a word."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from packlore.cli import terminal
from packlore.cli.arguments import parser
from packlore.errors import PackError
from packlore.library import Library
from packlore.locate import locate
from packlore.pack import KINDS, Impact

_SAFE = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
"""What a shell takes as it stands. The name of a file in a pack may hold a command."""

SCRIPTS = {
    "bash": """\
# packlore, for bash: eval "$(packlore completion bash)"
_packlore() {
    local found
    COMPREPLY=()
    while IFS= read -r found; do
        COMPREPLY+=("$found")
    done < <("$1" _complete "$COMP_CWORD" "${COMP_WORDS[@]}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *- ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o default -F _packlore packlore
""",
    "zsh": """\
#compdef packlore
# packlore, for zsh, after compinit: eval "$(packlore completion zsh)"
_packlore() {
    local -a found
    found=("${(@f)$("$words[1]" _complete "$((CURRENT - 1))" "${words[@]}" 2>/dev/null)}")
    found=(${found:#})
    if (( ! $#found )); then
        _files
        return
    fi
    compadd -- ${found:#*-}
    compadd -S '' -- ${(M)found:#*-}
}
compdef _packlore packlore
""",
    "fish": """\
# packlore, for fish: packlore completion fish | source
function __packlore
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    $words[1] _complete (count $words) $words "$current" 2>/dev/null
end
complete -c packlore -f -a '(__packlore)'
complete -c packlore -n '__fish_seen_subcommand_from build init lint new serve' -F
""",
}


def completion(arguments: argparse.Namespace) -> int:
    """`packlore completion`."""
    terminal.plain(SCRIPTS[arguments.shell])
    return 0


def answer(words: Sequence[str]) -> list[str]:
    """The candidates for the words that a script hands over; none where they make no sense."""
    if not words or not words[0].isdigit():
        return []
    number, line = int(words[0]), list(words[1:])
    current = line[number] if number < len(line) else ""
    try:
        found = _candidates([each for each in line[1:number] if each != "="], current)
    except (PackError, OSError):  # no pack, no candidates
        return []
    return sorted({each for each in found if _SAFE.fullmatch(each)})


def _candidates(before: Sequence[str], current: str) -> Iterable[str]:
    known = parser()
    commands = next(each for each in _actions(known) if isinstance(each.choices, dict)).choices
    command = next((each for each in before if not each.startswith("-")), "")
    made = commands.get(command) if isinstance(commands, dict) else None
    options = {name: each for each in _actions(made or known) for name in each.option_strings}
    lead, equals, rest = current.partition("=")
    if equals and lead in options:  # zsh and fish leave `--category=…` in one word
        return [f"{lead}={each}" for each in _values(options[lead], before, rest)]
    current = "" if current == "=" else current
    asked = options.get(before[-1]) if before else None
    if asked is not None and asked.nargs != 0:
        return _values(asked, before, current)
    if current.startswith("-"):
        return [name for name in options if name.startswith("--") and name.startswith(current)]
    if made is None:
        return [] if command else [each for each in commands or () if each.startswith(current)]
    places = [each for each in _actions(made) if not each.option_strings]
    return _values(places[0], before, current) if places else []


def _values(action: argparse.Action, before: Sequence[str], current: str) -> list[str]:
    """The values of an option or a place that begin as the word does; none for a free one."""
    packs = [after for each, after in pairwise(before) if each == "--pack"]
    found: Iterable[str] = ()
    if action.choices:
        found = action.choices
    elif action.dest == "kind":
        found = KINDS
    elif action.dest == "min_impact":
        found = [each.label for each in Impact]
    elif action.dest in ("category", "ids", "tag"):
        library = Library.open(locate(packs))
        entries = [*library.rules(), *library.documents()]
        if action.dest == "category":
            found = library.categories
        elif action.dest == "tag":
            found = [tag for entry in entries for tag in entry.item.tags]
        else:
            found = [library.name(entry.pack, entry.item) for entry in entries]
            hidden = current.startswith("_")
            found = ["_sections", "_template"] if hidden else found
    elif action.dest == "id":
        library = Library.open(locate(packs or ["."]))
        packs_ = library.packs.values()
        found = [f"{each.id}-" for pack in packs_ for each in pack.categories]
    return [each for each in found if each.startswith(current)]


def _actions(known: argparse.ArgumentParser) -> list[argparse.Action]:
    return known._actions  # noqa: SLF001 argparse has no other list of what it takes
