"""Code as trees: all that is known of ast-grep.

`ast-grep-py` is a compiled package that some machines have no wheel of. Everything but checking
works without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from packlore.errors import PackError

if TYPE_CHECKING:
    from ast_grep_py import SgNode

PYTHON = "Python"
SUFFIXES: Mapping[str, str] = {
    ".py": PYTHON,
    ".pyi": PYTHON,
    ".ipynb": PYTHON,
    ".bash": "Bash",
    ".sh": "Bash",
    ".c": "C",
    ".cc": "Cpp",
    ".cpp": "Cpp",
    ".cs": "CSharp",
    ".css": "Css",
    ".ex": "Elixir",
    ".exs": "Elixir",
    ".go": "Go",
    ".hs": "Haskell",
    ".html": "Html",
    ".java": "Java",
    ".js": "JavaScript",
    ".cjs": "JavaScript",
    ".mjs": "JavaScript",
    ".jsx": "JavaScript",
    ".json": "Json",
    ".kt": "Kotlin",
    ".lua": "Lua",
    ".nix": "Nix",
    ".php": "Php",
    ".rb": "Ruby",
    ".rs": "Rust",
    ".scala": "Scala",
    ".swift": "Swift",
    ".ts": "TypeScript",
    ".cts": "TypeScript",
    ".mts": "TypeScript",
    ".tsx": "Tsx",
    ".yaml": "Yaml",
    ".yml": "Yaml",
}
"""The languages by the ends of file names (https://ast-grep.github.io/reference/languages.html).
One that is not among them makes ast-grep-py panic, so it is never asked for one."""
_NAMES = {name.lower(): name for name in SUFFIXES.values()}
_NAMES |= {"py": PYTHON, "js": "JavaScript", "ts": "TypeScript", "golang": "Go", "c++": "Cpp"}
CHECKED = frozenset(
    {PYTHON, "Cpp", "Go", "JavaScript", "Json", "Kotlin", "Php", "Ruby", "Tsx", "TypeScript"}
)
"""The languages whose parsers take any text in a time that grows with it. Of the others YAML's ends
the process, and those of Java, C, Rust, Scala, Swift, Bash, Haskell and Elixir take the square of a
text, or more; the rest was not measured to its end. A parser runs in this process, and nothing can
stop it."""

LARGE = 8_000
"""Characters; up to here even the deepest nesting costs little."""
SAMPLE = 200
MAX_DEPTH = 100
"""Of the mean node of a text. People's code has less than 30; what looks around each node of a tree
takes its size times its depth."""
MAX_ARGUMENTS = 1_000
"""Of a call. What looks at the place of an argument among others takes the square of it."""


class NoGrepError(PackError):
    """There is no ast-grep-py for this Python."""


def language(name: str) -> str | None:
    """The name by which ast-grep knows a language; None where it does not."""
    return _NAMES.get(name.strip().lower())


def language_of(path: str) -> str | None:
    """The language of a file, by the end of its name."""
    return SUFFIXES.get(PurePath(path).suffix.lower())


@cache
def _sg_root() -> Any:
    try:
        from ast_grep_py import SgRoot
    except ImportError as error:
        message = "checking code needs the package ast-grep-py: install packlore[check]"
        raise NoGrepError(f"{message} ({error})") from error
    return SgRoot


def available() -> bool:
    """Whether code can be checked here."""
    try:
        _sg_root()
    except NoGrepError:
        return False
    return True


def tree(text: str, name: str) -> SgNode:
    """The tree of a text in the language `name`, as `language` gives it. Errors in the text are
    nodes of the tree. NoGrepError where there is no ast-grep."""
    root: SgNode = _sg_root()(text, name).root()
    return root


@cache
def root_kind(name: str) -> str:
    """What a language calls the root of its trees: `module`. NoGrepError as `tree`."""
    return str(tree("", name).kind())


def search(root: SgNode, config: Mapping[str, Any]) -> list[SgNode]:
    """All nodes of a tree that a rule of ast-grep matches; `config` is that rule as data."""
    given: Any = dict(config)
    found: list[SgNode] = root.find_all(given)
    return found


def likeliest(text: str, names: Iterable[str]) -> str | None:
    """Of some languages, the one in which a text has the fewest errors; the first of equal ones."""
    known = list(names)
    if len(known) < 2:
        return next(iter(known), None)
    errors = {"rule": {"kind": "ERROR"}}
    return min(known, key=lambda each: len(search(tree(text, each), errors)))


def reason_against(config: Mapping[str, Any], name: str) -> str:
    """Why ast-grep refuses a rule, on one line; empty where it takes it."""
    try:
        search(tree("", name), config)
    except NoGrepError:
        raise
    except Exception as error:  # noqa: BLE001 - it raises Exception itself, for what stands in data
        lines = [each.strip(" |") for each in str(error).splitlines()]
        return "; ".join(dict.fromkeys(each for each in lines if each))[:300]
    return ""


def oddity(root: SgNode, text: str) -> str:
    """Why looking around each node of a tree would take quadratic time; empty where it does not.
    Some nodes, evenly spread over the text, speak for all."""
    if len(text) <= LARGE:
        return ""
    nodes = search(root, {"rule": {"pattern": "$_"}})
    sample = nodes[:: len(nodes) // SAMPLE | 1]  # odd: code repeats itself in pairs and fours
    if sum(len(each.ancestors()) for each in sample) > MAX_DEPTH * len(sample):
        return "its code is nested too deep"
    lists = {each for node in sample if (each := node.parent()) and "argument" in each.kind()}
    if any(len(each.children()) > 2 * MAX_ARGUMENTS for each in lists):
        return f"a call in it has over {MAX_ARGUMENTS:,} arguments"
    return ""
