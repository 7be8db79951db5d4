"""What a detector asks of a whole file, asked once and not at each place.

`inside: {kind: module, stopBy: end, ...}` looks through the file from each node that it is asked
of, which takes the square of the file. Two forms of it are read here for what they mean, and
answered by one search each; ast-grep itself reads them as they stand, to the same end:

- a fact, with no variable that is caught: the file is so, or it is not.
- a name that is looked up, `{pattern: $NAME, inside: {kind: module, stopBy: end, has: {stopBy: end,
  ...}}}`, where $NAME is all that `...` catches: the node reads as one of the names that it found.
  Without the second `stopBy` they are those that stand at the top of the file.

`module` is what the language calls the root of a tree. No I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packlore.check.syntax import search
from packlore.check.utilities import used

if TYPE_CHECKING:
    from ast_grep_py import SgNode

FORM = (
    "a look-up in the whole file is `pattern: $NAME` beside `inside: {kind, stopBy: end, has: "
    "{stopBy: end, ...}}` (or has: {...}), where ... catches $NAME alone; beside them is no `any`, and in them no "
    "look-up"
)
"""What is said of a look-up in another form: its time would be quadratic."""
MAX_NAME = 200
"""Characters of a name that is looked up; a longer one is none."""
MAX_PATTERN = 60_000
"""Characters of a regular expression: ast-grep refuses one that takes 10 MiB once it is compiled,
and a character takes about a hundred bytes."""
_NEVER = {"regex": r"[^\s\S]"}
_CAUGHT = re.compile(r"\$([A-Z][A-Z0-9_]*)")
_ALONE = re.compile(r"\$([A-Z][A-Z0-9_]*)")
_PLAIN = re.compile(r"\w", re.ASCII)


Parts = frozenset[int]
"""Mappings and lists, by `id`."""


@dataclass(slots=True)
class Lookups:
    """One tree, and what was asked of the whole of it."""

    root: SgNode
    known: dict[str, Any] = field(default_factory=dict)
    """What was answered, by what was asked as JSON: detectors ask the same things."""

    def answered(self, config: Mapping[str, Any], parts: Parts | None = None) -> Mapping[str, Any]:
        """The rule, with what it asks of the whole file replaced by what is so here; `parts` are
        those of the rule that ask."""
        parts = asking(config, self.root.kind()) if parts is None else parts
        answered: Mapping[str, Any] = self._answered(config, config.get("utils") or {}, parts)
        return answered

    def _answered(self, given: Any, utils: Mapping[str, Any], parts: Parts) -> Any:
        if id(given) not in parts:
            return given
        if isinstance(given, list):
            return [self._answered(each, utils, parts) for each in given]
        made = {key: self._answered(value, utils, parts) for key, value in given.items()}
        if _asks(given, self.root.kind()):
            inside = given["inside"]
            if _caught(inside, utils):
                del made["inside"]
                made["any"] = [{"regex": each} for each in self._names(given, utils)] or [_NEVER]
            else:
                made["inside"] = _bare(inside) if self._is_so(inside, utils) else _NEVER
        return made

    def _names(self, given: Mapping[str, Any], utils: Mapping[str, Any]) -> Sequence[str]:
        """Regular expressions that match the names that are found, and nothing else."""
        name = given["pattern"].removeprefix("$")
        has = given["inside"]["has"]
        rule: dict[str, Any] = {key: value for key, value in has.items() if key != "stopBy"}
        if "stopBy" not in has:
            rule = {"all": [{"inside": {"kind": self.root.kind()}}, rule]}
        asked = _config(rule, utils)
        key = json.dumps([name, asked], default=str)
        if key not in self.known:
            found = (each.get_match(name) for each in search(self.root, asked))
            texts = dict.fromkeys(each.text() for each in found if each)
            self.known[key] = [*_expressions([each for each in texts if len(each) <= MAX_NAME])]
        names: Sequence[str] = self.known[key]
        return names

    def _is_so(self, inside: Mapping[str, Any], utils: Mapping[str, Any]) -> bool:
        asked = _config({key: value for key, value in inside.items() if key != "stopBy"}, utils)
        key = json.dumps(asked, default=str)
        if key not in self.known:
            self.known[key] = bool(search(self.root, asked))
        so: bool = self.known[key]
        return so


def asks(config: object, kind: str) -> bool:
    """Whether a rule asks anything of the whole file; `kind` is that of the root of a tree."""
    return any(_asks(each, kind) for each in _rules(config))


def asking(config: object, kind: str) -> Parts:
    """The mappings and lists of a rule that ask, or in which one does. They are known while the
    rule lives, and are few: the others stand in an answered rule as they are."""
    inner: Iterable[object] = ()
    if isinstance(config, dict):
        inner = config.values()
    elif isinstance(config, list):
        inner = config
    parts: Parts = frozenset().union(*(asking(each, kind) for each in inner))
    return parts | {id(config)} if parts or _asks(config, kind) else parts


def is_odd(config: Mapping[str, Any], kind: str) -> bool:
    """Whether what a rule asks of the whole file is in neither form: its time is quadratic."""
    utils = config.get("utils") or {}
    for each in _rules(config):
        if not _asks(each, kind):
            continue
        inside = each["inside"]
        caught = _caught(inside, utils)
        if asks(_config(inside, utils), kind) or (caught and not _is_lookup(each, caught)):
            return True
    return False


def _is_lookup(given: Mapping[str, Any], caught: set[str]) -> bool:
    inside = given["inside"]
    has = inside.get("has")
    return (
        {*inside} == {"kind", "stopBy", "has"}
        and inside["stopBy"] == "end"
        and isinstance(has, dict)
        and has.get("stopBy", "end") == "end"
        and "field" not in has
        and "any" not in given
        and caught == set(_ALONE.findall(str(given.get("pattern"))))
        and _ALONE.fullmatch(str(given["pattern"])) is not None
    )


def _asks(given: object, kind: str) -> bool:
    inside = given.get("inside") if isinstance(given, dict) else None
    return (
        isinstance(inside, dict)
        and inside.get("kind") == kind
        and not {*inside} <= {"kind", "stopBy"}
    )


def _bare(inside: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in inside.items() if key in ("kind", "stopBy")}


def _config(rule: Mapping[str, Any], utils: Mapping[str, Any]) -> dict[str, Any]:
    needed = used(rule, utils)
    return {"rule": rule, "utils": needed} if needed else {"rule": rule}


def _rules(given: object) -> Iterator[dict[str, Any]]:
    """Each mapping in a rule, and the rule itself."""
    left = [given]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            yield each
            left += each.values()
        elif isinstance(each, list):
            left += each


def _caught(rule: Mapping[str, Any], utils: Mapping[str, Any]) -> set[str]:
    """The variables that a rule, and what it uses, catches: $NAME, and not $_NAME."""
    patterns = [each.get("pattern") for each in _rules(_config(rule, utils))]
    texts = [each.get("context") if isinstance(each, dict) else each for each in patterns]
    return {name for each in texts for name in _CAUGHT.findall(str(each or ""))}


def _expressions(names: Sequence[str]) -> Iterator[str]:
    """Regular expressions for names, as few as ast-grep takes."""
    part: list[str] = []
    size = 0
    for each in names:
        escaped = "".join(one if _PLAIN.match(one) else f"\\x{{{ord(one):x}}}" for one in each)
        if size + len(escaped) > MAX_PATTERN and part:
            yield rf"\A(?:{'|'.join(part)})\z"
            part, size = [], 0
        part.append(escaped)
        size += len(escaped)
    if part:
        yield rf"\A(?:{'|'.join(part)})\z"
