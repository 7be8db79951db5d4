"""Names by what they mean: `gather`, `aio.gather` and `g` are one function, if it is imported so.

A detector's patterns spell a name in one way. Before they are matched, each name that an import
brings in is written as the patterns spell it, and one that only looks like it (a parameter called
`requests`, a function of one's own) is written so that no pattern has it. A name that nothing
binds stays: half a function, pasted without its imports, is read as it looks. Places are those of
the text as it was. No I/O.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from packlore.check.syntax import search

if TYPE_CHECKING:
    from ast_grep_py import SgNode

OTHER = "_other"
"""What is put after a name that means something else than the patterns do."""
MORE = 100
"""Characters that a qualified name may have beyond the longest that a detector knows; no pattern
looks further. A longer name would be written anew at each use."""
GROWTH = 8_000
"""Characters by which a text may grow beyond twice its length."""

_BETWEEN = re.compile(r"#[^\n]*|[()\\]")
"""Comments and what else may stand between the names of an import."""
_IMPORTS = {"rule": {"any": [{"kind": "import_statement"}, {"kind": "import_from_statement"}]}}
_SCOPES = frozenset([
    "function_definition", "lambda", "list_comprehension", "set_comprehension",
    "dictionary_comprehension", "generator_expression", "module",
])  # fmt: skip
_HOLDS = frozenset([
    "pattern_list", "tuple_pattern", "list_pattern", "as_pattern_target", "list_splat_pattern",
    "dictionary_splat_pattern", "parenthesized_expression", "tuple",
])  # fmt: skip
"""Where a name that is bound may stand among others."""
_BINDS = {
    "assignment": "left", "augmented_assignment": "left", "for_statement": "left",
    "for_in_clause": "left", "named_expression": "name", "function_definition": "name",
    "class_definition": "name", "default_parameter": "name", "typed_default_parameter": "name",
}  # fmt: skip
"""Kinds of nodes that bind a name, and the field where it stands."""


class Names:
    """The qualified names that patterns know: `spellings` as `resolve` takes them, and `roots` how
    the spellings begin."""

    def __init__(self, spellings: Mapping[str, str]) -> None:
        self.spellings = spellings
        self.roots = {spelled.partition(".")[0] for spelled in spellings.values()}
        self._longest = max(map(len, spellings), default=0) + MORE

    @cached_property
    def above(self) -> set[str]:
        """What the names lie in. Most code that is asked about imports none of them."""
        return {each[:at] for each in self.spellings for at in _ends(each)[1:]}

    def spelling(self, meant: str) -> str | None:
        """How the patterns spell a qualified name, by the longest of theirs that it begins with."""
        for at in _ends(meant) if len(meant) <= self._longest else ():
            if meant[:at] in self.spellings:
                return self.spellings[meant[:at]] + meant[at:]
        return None

    def leads(self, meant: str) -> bool:
        """Whether a qualified name is one of theirs, lies in one, or holds one."""
        return meant in self.above or self.spelling(meant) is not None


def _ends(name: str) -> list[int]:
    """Where a name and the names around it end, the longest first."""
    return [len(name), *(at for at in range(len(name) - 1, 0, -1) if name[at] == ".")]


@dataclass(slots=True)
class Text:
    """A text whose names are written as patterns spell them. `edits` are the places in it where
    it differs: its own offset there, and by how much offsets of the original are greater. `odd`
    says why its names stand as they were, where they would make it too long."""

    text: str
    edits: list[tuple[int, int]] = field(default_factory=list)
    odd: str = ""

    def original(self, offset: int) -> int:
        """The offset in the original text."""
        at = bisect_right(self.edits, (offset, 1 << 60)) - 1
        return offset + (self.edits[at][1] if at >= 0 else 0)


def resolve(root: SgNode, text: str, names: Mapping[str, str]) -> Text:
    """`text`, whose tree is `root`, with its names as `names` spells what they mean: qualified
    name to spelling."""
    known = Names(names)
    scopes: dict[object, dict[str, str]] = {}
    for node in search(root, _IMPORTS):
        bound = scopes.setdefault(_key(_scope(node)), {})
        for here, meant in _bound(node.text()):
            if here in known.roots or known.leads(meant):
                bound[here] = meant
    wanted = known.roots | {here for bound in scopes.values() for here in bound}
    wanted = {each for each in wanted if each in text}
    if not wanted:
        return Text(text)
    regex = f"^(?:{'|'.join(map(re.escape, sorted(wanted)))})$"
    found = search(root, {"rule": {"kind": "identifier", "regex": regex}})
    found = [each for each in found if not _is_label(each)]
    found = [each for each in found if not any(_is_import(one) for one in each.ancestors()[:3])]
    others: dict[object, set[str]] = {}
    for node in (each for each in found if _is_bound(each)):
        parent = node.parent()
        named = parent is not None and parent.kind() in ("function_definition", "class_definition")
        scope = _scope(parent if named and parent else node)
        others.setdefault(_key(scope), set()).add(node.text())
    edits: list[tuple[int, int, str]] = []
    room = len(text) + GROWTH
    for node in found:
        if edit := _edit(node, known, scopes, others):
            edits.append(edit)
            room -= len(edit[2]) - (edit[1] - edit[0])
        if room < 0:
            return Text(text, odd="with its names written in full it is too long")
    return _edited(text, edits)


def _edit(
    node: SgNode,
    names: Names,
    scopes: Mapping[object, Mapping[str, str]],
    others: Mapping[object, set[str]],
) -> tuple[int, int, str] | None:
    """Start, end and new text of a name, or None where it stays."""
    here = node.text()
    meant = None
    for scope in _scopes(node):
        key = _key(scope)
        meant = scopes.get(key, {}).get(here)
        if meant is not None or here in others.get(key, ()):
            break
    else:
        return None  # nothing binds it
    start = node.range().start.index
    if meant is None or not names.leads(meant):
        return (start, start + len(here), here + OTHER) if here in names.roots else None
    spelling = names.spelling(meant)
    end = node
    while spelling is None and meant in names.above:
        parent = end.parent()
        if parent is None or parent.kind() != "attribute" or parent.field("object") != end:
            break
        attribute = parent.field("attribute")
        meant = f"{meant}.{attribute.text() if attribute else ''}"
        end, spelling = parent, names.spelling(meant)
    if spelling is None:
        return None
    stop = end.range().end.index
    return None if spelling == end.text() else (start, stop, spelling)


def _bound(statement: str) -> Iterator[tuple[str, str]]:
    """What an import binds: the name here, and its qualified name. What comes from the package
    itself begins with a dot, and so means nothing that a pack names."""
    flat = " ".join(_BETWEEN.sub(" ", statement).split())
    source, found, brought = flat.removeprefix("from ").partition(" import ")
    if flat.startswith("from ") and found:
        source = source.replace(" ", "")
        for name, here in _aliased(brought):
            yield here or name, f"{source}.{name}"
    elif flat.startswith("import "):
        for name, here in _aliased(flat.removeprefix("import ")):
            top = name.partition(".")[0]
            yield (here, name) if here else (top, top)


def _aliased(text: str) -> Iterator[tuple[str, str]]:
    for each in text.split(","):
        name, _, here = each.strip().partition(" as ")
        if name and name != "*":
            yield name.strip(), here.strip()


def _key(scope: SgNode | None) -> object:
    if scope is None:
        return None
    place = scope.range()
    return (place.start.index, place.end.index, scope.kind())


def _scopes(node: SgNode) -> Iterator[SgNode]:
    """The scopes around a node, innermost first. What a function's head says is read in its own
    scope here, and the parameters of Python hide nothing that this would miss."""
    return (each for each in node.ancestors() if each.kind() in _SCOPES)


def _scope(node: SgNode) -> SgNode | None:
    return next(_scopes(node), None)


def _is_import(node: SgNode) -> bool:
    return node.kind() in ("import_statement", "import_from_statement")


def _is_label(node: SgNode) -> bool:
    """Whether a name stands where it refers to nothing: after a dot, or before the = of a call."""
    parent = node.parent()
    if parent is None:
        return False
    if parent.kind() == "attribute":
        return parent.field("attribute") == node
    return parent.kind() == "keyword_argument" and parent.field("name") == node


def _is_bound(node: SgNode) -> bool:
    parent = node.parent()
    while parent is not None and parent.kind() in _HOLDS:
        if parent.kind() == "as_pattern_target":
            return True
        node, parent = parent, parent.parent()
    if parent is None:
        return False
    kind = parent.kind()
    if kind in _BINDS:
        return parent.field(_BINDS[kind]) == node
    if kind == "typed_parameter":
        return parent.field("type") != node
    return kind in ("parameters", "lambda_parameters")


def _edited(text: str, edits: list[tuple[int, int, str]]) -> Text:
    made = Text("")
    parts: list[str] = []
    last = length = 0
    for start, end, new in sorted(edits):
        if start < last:  # inside of what has been written
            continue
        parts += [text[last:start], new]
        length += start - last + len(new)
        made.edits.append((length, end - length))
        last = end
    made.text = "".join([*parts, text[last:]])
    return made
