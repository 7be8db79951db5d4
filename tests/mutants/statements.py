"""What is changed of statements: one dropped, a handler widened, a `with` undone, a value lost."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from tests.mutants.source import Edit, Source

# Stands for `contextlib.nullcontext`: it gives its argument to `as`, and does nothing at the end.
UNDONE = '__import__("contextlib").nullcontext'
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module, ast.Lambda)
_ENTERED = {"acquire", "begin", "begin_nested", "connect", "delete", "get", "patch", "post", "put"}
_ENTERED |= {"request", "stream", "transaction"}
_DROPPED = (
    ast.AugAssign
    | ast.Delete
    | ast.Raise
    | ast.Assert
    | ast.Break
    | ast.Continue
    | ast.Global
    | ast.Nonlocal
)


def edits(source: Source) -> Iterator[Edit]:
    for scope in ast.walk(source.tree):
        if isinstance(scope, SCOPES) and not isinstance(scope, ast.Lambda):
            bound = _bindings(scope)
            for node in _own(scope):
                if isinstance(node, ast.stmt):
                    if _can_go(node, scope, bound):
                        yield source.replaced(node, "pass")
                    yield from _changed(source, node)
                elif isinstance(node, ast.ExceptHandler) and node.type is not None:
                    yield from _widened(source, node.type)


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """What stands in a scope, and not in one inside it; the definitions of those are its own."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, SCOPES):
            yield from _own(child)


def _bindings(scope: ast.AST) -> Counter[str]:
    """How often a scope binds each name."""
    bound: Counter[str] = Counter()
    for node in _own(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound[node.id] += 1
        elif isinstance(node, ast.Nonlocal | ast.Global):
            bound.update(node.names)
        elif isinstance(node, ast.arg):
            bound[node.arg] += 1
    return bound


def _can_go(node: ast.stmt, scope: ast.AST, bound: Counter[str]) -> bool:
    """Whether the block may still run without the statement.

    A name that is bound nowhere else would only be missing, so its assignment stays. So do texts
    by themselves (docstrings), imports and definitions.
    """
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant | ast.Yield | ast.YieldFrom)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [each.id for each in targets if isinstance(each, ast.Name)]
        if isinstance(scope, ast.ClassDef):
            return not any(name.startswith("__") for name in names)
        return all(bound[name] > 1 for name in names)
    return isinstance(node, _DROPPED)


def _changed(source: Source, node: ast.stmt) -> Iterator[Edit]:
    if isinstance(node, ast.Return) and node.value is not None:
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield source.replaced(node.value, "None")
    elif isinstance(node, ast.Return):
        yield source.replaced(node, "pass")
    elif isinstance(node, ast.Raise) and node.cause is not None and node.exc is not None:
        yield Edit(source.end(node.exc), source.end(node.cause), "")
    elif isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            yield _undone(source, node, item.context_expr)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        for each in node.decorator_list:
            yield Edit(source.start(each) - 1, source.end(each), "")


def _undone(source: Source, node: ast.With | ast.AsyncWith, manager: ast.expr) -> Edit:
    """Without the end of a `with`; where nothing works before its start, with that."""
    text = source.of(manager)
    called = manager.func if isinstance(manager, ast.Call) else None
    if isinstance(called, ast.Attribute) and called.attr in _ENTERED:
        waited, kind = ("await ", "a") if isinstance(node, ast.AsyncWith) else ("", "")
        text = f"{waited}{text}.__{kind}enter__()"
    return source.replaced(manager, f"{UNDONE}({text})")


def _widened(source: Source, caught: ast.expr) -> Iterator[Edit]:
    """Or catching nothing, or one class less."""
    yield source.replaced(caught, "()")
    if isinstance(caught, ast.Tuple):
        for index in range(len(caught.elts)):
            yield source.dropped([*caught.elts], index)
    if source.of(caught) not in {"Exception", "BaseException"}:
        yield source.replaced(caught, "Exception")
    if source.of(caught) != "BaseException":
        yield source.replaced(caught, "BaseException")
