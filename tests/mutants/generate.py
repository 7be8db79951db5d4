"""From a block to its mutants: each compiles, differs from all others, and has a name.

The operators are our own, on the standard library's `ast`. Those of mutmut (libcst) and cosmic-ray
(parso) know no dropped statement, no widened `except`, no undone `with` and no dropped keyword by
itself, and bring a terminal program or a database with them.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.mutants import expressions, statements
from tests.mutants.source import Edit, Source, without_comments

NOTHING = "(nothing)"
_LONGEST = 100  # characters of each side of a name


@dataclass(frozen=True, slots=True)
class Mutant:
    """A block with one change. `name` says which, and does not depend on where it stands."""

    name: str
    code: str
    line: int  # of the block, from 1


def mutants(code: str) -> list[Mutant]:
    """Every mutant of a block, in the order of its lines."""
    source = Source(code)
    seen = {ast.dump(source.tree)}
    found: list[tuple[str, Edit, str]] = []
    for edit in sorted({*statements.edits(source), *expressions.edits(source)}):
        changed = source.apply(edit)
        shape = _shape(changed)
        if shape and shape not in seen:
            seen.add(shape)
            found.append((_name(source, edit, changed), edit, changed))
    return list(_named(source, found))


def _named(source: Source, found: list[tuple[str, Edit, str]]) -> Iterator[Mutant]:
    """Where two have one name, it is preceded by its function; a number tells what is left."""
    often = Counter(name for name, _, _ in found)
    used: Counter[str] = Counter()
    for name, edit, changed in found:
        line = source.lines_of(edit)[0] + 1
        place = _place(source, line) if often[name] > 1 else ""
        whole = f"{place}: {name}" if place else name
        used[whole] += 1
        yield Mutant(f"{whole} ({used[whole]})" if used[whole] > 1 else whole, changed, line)


def _place(source: Source, line: int) -> str:
    """The functions and classes around a line, outermost first, with dots."""
    around = [
        node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return ".".join(node.name for node in sorted(around, key=lambda node: node.lineno))


def digest(texts: Iterable[str]) -> str:
    """A few letters that change with any of the texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def block_digest(code: str) -> str:
    """Comments and empty lines do not count."""
    return digest(line for line in without_comments(code).splitlines() if line)


def _shape(code: str) -> str:
    """The syntax tree as a text; empty where the code does not compile."""
    try:
        tree = ast.parse(code)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            compile(tree, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return ""
    return ast.dump(tree)


def _name(source: Source, edit: Edit, changed: str) -> str:
    """The lines that differ, before and after, without comments and indents."""
    first, behind = source.lines_of(edit)
    before = without_comments(source.text).splitlines()[first:behind]
    longer = changed.count("\n") - source.text.count("\n")
    after = without_comments(changed).splitlines()[first : behind + longer]
    differing = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    spans = [each for each in differing if each[0] != "equal"]
    if spans:
        before = before[spans[0][1] : spans[-1][2]]
        after = after[spans[0][3] : spans[-1][4]]
    return f"{_short(before)} -> {_short(after)}"


def _short(lines: list[str]) -> str:
    text = re.sub(r"\s+", " ", " ".join(lines)).strip().replace(statements.UNDONE, "nullcontext")
    if len(text) > _LONGEST:
        half = _LONGEST // 2
        text = f"{text[:half]} … {text[-half:]}"
    return text or NOTHING
