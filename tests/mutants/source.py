"""Python source that is edited by the positions of its syntax tree, so that its layout stays."""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


class Edit(NamedTuple):
    """Put `new` in place of what stands from `start` to `end`, in characters."""

    start: int
    end: int
    new: str


def without_comments(code: str) -> str:
    """The code with each comment cut off; its lines stay where they are."""
    lines = code.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines) + "\n"


@dataclass(frozen=True)
class Source:
    """A module's text, and where the nodes of its tree stand in it."""

    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for line in self._lines:
            starts.append(starts[-1] + len(line) + 1)
        return starts

    def _offset(self, row: int, column: int) -> int:
        """The place in characters; a tree counts columns in bytes of UTF-8."""
        line = self._lines[row - 1].encode()
        return self._starts[row - 1] + len(line[:column].decode())

    def start(self, node: ast.expr | ast.stmt | ast.keyword | ast.excepthandler) -> int:
        return self._offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt | ast.keyword | ast.excepthandler) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.end_lineno, node.end_col_offset)

    def of(self, node: ast.expr | ast.stmt | ast.keyword) -> str:
        """The text of a node."""
        return self.text[self.start(node) : self.end(node)]

    def replaced(self, node: ast.expr | ast.stmt | ast.keyword, new: str) -> Edit:
        return Edit(self.start(node), self.end(node), new)

    def dropped(self, nodes: list[ast.expr | ast.keyword], index: int) -> Edit:
        """Without one of some nodes that stand one after the other with commas between them."""
        if index + 1 < len(nodes):
            return Edit(self.start(nodes[index]), self.start(nodes[index + 1]), "")
        if index:
            return Edit(self.end(nodes[index - 1]), self.end(nodes[index]), "")
        end = self.end(nodes[index])
        rest = self.text[end:]
        comma = len(rest) - len(rest.lstrip()) + 1 if rest.lstrip().startswith(",") else 0
        return Edit(self.start(nodes[index]), end + comma, "")

    def apply(self, edit: Edit) -> str:
        return self.text[: edit.start] + edit.new + self.text[edit.end :]

    def lines_of(self, edit: Edit) -> tuple[int, int]:
        """The first line that an edit touches, and the one after the last, from 0."""
        first = self.text.count("\n", 0, edit.start)
        return first, self.text.count("\n", 0, edit.end) + 1
