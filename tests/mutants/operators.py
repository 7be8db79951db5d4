"""What is changed of operators: conditions turned, comparisons and sums exchanged."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.mutants.source import Edit, Source

_COMPARED: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
_COMPUTED: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
}


def wrapped(source: Source, node: ast.expr) -> str:
    text = source.of(node)
    loose = isinstance(node, ast.BoolOp | ast.IfExp | ast.Lambda | ast.NamedExpr | ast.BinOp)
    return f"({text})" if loose else text


def turned(source: Source, test: ast.expr) -> Iterator[Edit]:
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return  # its operator is
    if not isinstance(test, ast.UnaryOp | ast.Constant):
        yield source.replaced(test, f"not {wrapped(source, test)}")


def exchanged(source: Source, node: ast.BoolOp) -> Iterator[Edit]:
    kind = " and " if isinstance(node.op, ast.And) else " or "
    turned = " or " if isinstance(node.op, ast.And) else " and "
    parts = [wrapped(source, each) for each in node.values]
    for index in range(len(parts)):
        yield source.replaced(node, _joined(kind, parts[:index] + parts[index + 1 :]))
    yield source.replaced(node, _joined(turned, parts))


def compared(source: Source, node: ast.Compare) -> Iterator[Edit]:
    left = node.left
    for op, right in zip(node.ops, node.comparators, strict=True):
        start, end = source.end(left), source.start(right)
        between = source.text[start:end]
        for new in _COMPARED[type(op)]:
            before = between[: len(between) - len(between.lstrip(" )\n"))]
            after = between[len(between.rstrip(" (\n")) :]
            yield Edit(start, end, f"{before}{new}{after}")
        left = right


def computed(source: Source, node: ast.BinOp | ast.AugAssign) -> Iterator[Edit]:
    if isinstance(node, ast.BinOp):
        start, end = source.end(node.left), source.start(node.right)
    else:
        start, end = source.end(node.target), source.start(node.value)
    between = source.text[start:end]
    if found := _COMPUTED.get(type(node.op)):
        yield Edit(start, end, between.replace(*found, 1))


def _joined(operator: str, parts: list[str]) -> str:
    return f"({operator.join(parts)})" if parts[1:] else parts[0]
