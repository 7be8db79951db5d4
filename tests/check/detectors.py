"""What is asked of the detectors of a pack: blocks, variations and renamings of code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from packlore.check import Detectors, Finding, detectors
from packlore.check.scan import scan
from packlore.pack import Document, Pack, read
from packlore.pack.model import Example
from tests.proofs.harness import ROOT

CASES = Path(__file__).parent / "cases"
UNSEEN = Path(__file__).parent / "unseen.yml"
"""The rules that have no detector, each with the reason why code does not show the fault."""
MARK = re.compile(r"#\s*finds\s*$")


@cache
def pack() -> Pack:
    """Our own."""
    (own,) = read(ROOT)
    return own


@cache
def own() -> Detectors:
    """The detectors of our own pack."""
    return Detectors(detectors(pack())[0])


@cache
def unseen() -> dict[str, str]:
    """Rules without a detector, by reason."""
    found: dict[str, str] = yaml.safe_load(UNSEEN.read_text(encoding="utf-8")) or {}
    return found


def findings(code: str, path: str = "app/service.py") -> list[Finding]:
    """What is seen in code that stands in a service."""
    checked = scan(path, code, "Python", own())
    assert checked.trouble is None
    return list(checked.findings)


def python(languages: tuple[str, ...] = ("python", "py")) -> Iterator[tuple[str, str]]:
    """All Python of the pack that is right, by its place: Correct blocks, the blocks of documents
    that are not labelled wrong, and assets."""
    for rule in pack().rules:
        for number, example in enumerate(each for each in rule.examples if each.correct):
            yield f"{rule.id}-{number}", example.fence.code
    for document in pack().documents:
        wrong = {id(each.fence) for each in _examples(document) if not each.correct}
        for section in document.sections:
            for fence in section.fences:
                if fence.language in languages and id(fence) not in wrong:
                    yield f"{document.path}:{fence.line}", fence.code
        if document.path.endswith(".py"):
            yield document.path, document.text


def _examples(document: Document) -> tuple[Example, ...]:
    return document.structure.examples if document.structure else ()


class _Renamed(ast.NodeTransformer):
    """Each import under another name, and each local variable, too."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Import(self, node: ast.Import) -> ast.AST:
        for alias in node.names:
            if "." not in alias.name or alias.asname:
                alias.asname = self.names[alias.asname or alias.name]
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.module != "__future__":
            for alias in node.names:
                alias.asname = self.names[alias.asname or alias.name]
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        self.generic_visit(node)
        return node


def renamed(code: str) -> str:
    """The code with all that it imports, and all variables that it assigns in functions, under
    other names. Parameters keep theirs: callers give them by name."""
    tree = ast.parse(code)
    names: dict[str, str] = {}
    kept = {each.arg for each in ast.walk(tree) if isinstance(each, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                given = alias.asname or alias.name
                if "." not in given:
                    names[given] = f"name_{len(names)}"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id not in kept:
            names.setdefault(node.id, f"name_{len(names)}")
    return ast.unparse(_Renamed(names).visit(tree))
