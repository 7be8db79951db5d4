"""What is changed of expressions: arguments, constants, conditions, operators."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator

from tests.mutants import operators
from tests.mutants.source import Edit, Source

# A test cannot wait for one second more, but sees what takes ten times as long.
_TIME = re.compile(
    r"second|time|delay|grace|interval|recycle|ttl|(^|_)age$|wait|sleep|pause|backoff"
)
_LOGS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_CHAIN = {"execution_options", "limit", "offset", "options", "order_by", "returning", "values"}
_CHAIN |= {"filter", "group_by", "having", "where", "with_for_update"}
_ANY_NUMBER = _CHAIN | {"count", "gather", "max", "min", "suppress"}  # of arguments
_BACKGROUND = {"create_task", "ensure_future", "gather", "run_in_executor", "shield"}


def edits(source: Source) -> Iterator[Edit]:
    yield from _Expressions(source).of(source.tree)


def _is_text(node: ast.expr) -> bool:
    constant = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return constant or isinstance(node, ast.JoinedStr)


class _Expressions:
    """Goes through a tree. `about` is the nearest name that says what a constant is."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def of(self, node: ast.AST, about: str = "") -> Iterator[Edit]:
        if isinstance(node, ast.Constant):
            yield from self._moved(node, about)
        elif isinstance(node, ast.JoinedStr):
            yield from self._emptied(node)
            return  # before Python 3.12 a tree does not say where the parts stand
        elif isinstance(node, ast.Call):
            yield from self._call(node)
            return
        elif isinstance(node, ast.Return):
            if isinstance(node.value, ast.Constant) and node.value.value is None:
                yield self._source.replaced(node.value, "0")
        elif isinstance(node, ast.Raise):
            yield from self._raised(node)
            return
        elif isinstance(node, ast.If | ast.While | ast.IfExp):
            yield from operators.turned(self._source, node.test)
        elif isinstance(node, ast.comprehension):
            for condition in node.ifs:
                yield from operators.turned(self._source, condition)
        elif isinstance(node, ast.BoolOp):
            yield from operators.exchanged(self._source, node)
        elif isinstance(node, ast.Compare):
            yield from operators.compared(self._source, node)
            for each in (node.left, *node.comparators):
                if not (isinstance(each, ast.Constant) and each.value is None):
                    yield from self.of(each, self._source.of(node.left))
            return
        elif isinstance(node, ast.BinOp | ast.AugAssign):
            yield from operators.computed(self._source, node)
        elif isinstance(node, ast.UnaryOp):
            yield self._source.replaced(node, operators.wrapped(self._source, node.operand))
        elif isinstance(node, ast.Await):
            yield from self._await(node)
        elif isinstance(node, ast.List | ast.Set | ast.Dict):
            yield from self._entries(node)
        yield from self._inside(node, about)

    def _inside(self, node: ast.AST, about: str) -> Iterator[Edit]:
        if isinstance(node, ast.Dict):
            for key, each in zip(node.keys, node.values, strict=True):
                yield from self.of(each, about if key is None else self._source.of(key))
            return
        if isinstance(node, ast.List | ast.Set):
            for each in node.elts:
                if not isinstance(each, ast.Constant):
                    yield from self.of(each, about)
            return
        for field, value in ast.iter_fields(node):
            name = about
            if isinstance(node, ast.AnnAssign | ast.Assign) and field == "value":
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                name = self._source.of(target)
                if name.startswith("__"):
                    continue  # __tablename__ and the like are labels
            if isinstance(node, ast.arguments):
                yield from self._arguments(node)
                return
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST):
                    continue
                if field in {"annotation", "returns"}:
                    yield from self._annotation(child)
                elif not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
                    yield from self.of(child, name)

    def _arguments(self, node: ast.arguments) -> Iterator[Edit]:
        positional = [*node.posonlyargs, *node.args]
        named = [*positional, *node.kwonlyargs]
        for argument in named:
            if argument.annotation is not None:
                yield from self._annotation(argument.annotation)
        first = len(positional) - len(node.defaults)
        defaults = [*zip(positional[first:], node.defaults, strict=True)]
        for argument, default in (*defaults, *zip(node.kwonlyargs, node.kw_defaults, strict=True)):
            if default is not None:
                yield from self.of(default, argument.arg)

    def _annotation(self, node: ast.AST) -> Iterator[Edit]:
        """A type is for mypy; a call in it, as in `Annotated[...]`, does something."""
        if isinstance(node, ast.Call):
            yield from self.of(node)
            return
        for child in ast.iter_child_nodes(node):
            yield from self._annotation(child)

    def _moved(self, node: ast.Constant, about: str) -> Iterator[Edit]:
        value = node.value
        if isinstance(value, bool):
            yield self._source.replaced(node, str(not value))
        elif isinstance(value, int | float):
            far = _TIME.search(about.lower()) and value
            yield self._source.replaced(node, repr(value * 10 if far else value + 1))
        elif isinstance(value, str) and " " not in value:
            yield self._source.replaced(node, json.dumps(f"{value}XX", ensure_ascii=False))
        elif isinstance(value, bytes):
            yield self._source.replaced(node, repr(value + b"XX"))

    def _emptied(self, node: ast.JoinedStr) -> Iterator[Edit]:
        """An f-string that says the same of whatever it is given."""
        text = self._source.of(node)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                said = ast.unparse(part.value)
                if text.count(f"{{{said}") == 1:
                    at = self._source.start(node) + text.index(f"{{{said}") + 1
                    yield Edit(at, at + len(said), "None")

    def _call(self, node: ast.Call) -> Iterator[Edit]:
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else self._source.of(node.func)
        )
        on = node.func.value if isinstance(node.func, ast.Attribute) else None
        logged = on is not None and name in _LOGS and "log" in self._source.of(on)
        label = name in {"ContextVar", "TypeVar", "getLogger"} or logged
        nodes: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
        nodes.sort(key=self._source.start)
        for index, each in enumerate(nodes):
            value = each.value if isinstance(each, ast.keyword) else each
            keyword = isinstance(each, ast.keyword)
            if index == 0 and label and _is_text(value):
                continue
            if keyword or (nodes[1:] and (name in _ANY_NUMBER or each is node.args[-1])):
                yield self._source.dropped(nodes, index)
            if isinstance(value, ast.Constant) and value.value is None and not nodes[1:]:
                yield self._source.replaced(value, "0")
            about = f"{name} {each.arg}" if isinstance(each, ast.keyword) else name
            yield from self.of(value, about)
        if on is not None and name in _CHAIN:
            yield self._source.replaced(node, self._source.of(on))
        yield from self.of(node.func)

    def _raised(self, node: ast.Raise) -> Iterator[Edit]:
        """The text of an error is for people; its other arguments are not."""
        if not isinstance(node.exc, ast.Call):
            return
        for edit in self._call(node.exc):
            inside = [each for each in node.exc.args if _is_text(each)]
            if not any(
                self._source.start(each) <= edit.start <= self._source.end(each) for each in inside
            ):
                yield edit

    def _await(self, node: ast.Await) -> Iterator[Edit]:
        """Only where what is awaited goes on by itself: else nothing runs, as without the line."""
        called = node.value.func if isinstance(node.value, ast.Call) else None
        name = called.attr if isinstance(called, ast.Attribute) else ""
        if called is None or name in _BACKGROUND:
            yield self._source.replaced(node, self._source.of(node.value))

    def _entries(self, node: ast.List | ast.Set | ast.Dict) -> Iterator[Edit]:
        """One less. A key or a constant that is moved would be missed in the same way."""
        if not isinstance(node, ast.Dict):
            if not isinstance(getattr(node, "ctx", None), ast.Store):
                for index in range(len(node.elts)):
                    yield self._source.dropped([*node.elts], index)
            return
        for index, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
            if key is None:
                continue
            start, end = self._source.start(key), self._source.end(value)
            following = [*node.keys[index + 1 :], *node.values[index + 1 :]]
            if following and following[0] is not None:
                end = self._source.start(following[0])
            elif index and not following:
                start = self._source.end(node.values[index - 1])
            yield Edit(start, end, "")
