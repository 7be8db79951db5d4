"""Words that a text must hold for a rule to match anything in it. Looking for words is a thousand
times cheaper than ast-grep, which compiles a rule anew for each text.

A rule's words are read from its patterns, its regular expressions and its kinds: what is no variable
in a pattern stands in the code that it matches. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from packlore.check.literals import Clauses, one_of, required
from packlore.check.syntax import PYTHON

_VARIABLE = re.compile(r"\$+\w*")
_WORD = re.compile(r"\w+")
_RELATIONS = ("inside", "has", "follows", "precedes")
_MOST = 40
"""Of utilities in one another; a rule may use itself."""
_KINDS: Mapping[str, Mapping[str, str]] = {
    PYTHON: {
        "await": "await",
        "class_definition": "class",
        "except_clause": "except",
        "finally_clause": "finally",
        "for_statement": "for",
        "function_definition": "def",
        "import_from_statement": "import",
        "import_statement": "import",
        "lambda": "lambda",
        "raise_statement": "raise",
        "return_statement": "return",
        "try_statement": "try",
        "while_statement": "while",
        "with_statement": "with",
        "yield": "yield",
    }
}
"""By language, the keyword with which a kind of node is written."""


def clauses(config: Mapping[str, Any], language: str) -> Clauses:
    """What a text must hold for a rule of ast-grep to match in it."""
    words = _Words(config.get("utils") or {}, _KINDS.get(language, {}))
    return tuple(dict.fromkeys(words.needed(config.get("rule"), 0)))


def may_hold(text: str, needed: Iterable[Sequence[str]], known: dict[str, bool]) -> bool:
    """Whether a text holds one word of each clause. `known` keeps what was found out of it."""
    for clause in needed:
        for word in clause:
            if word not in known:
                known[word] = word in text
            if known[word]:
                break
        else:
            return False
    return True


class _Words:
    """Reads rules that use the same utilities."""

    def __init__(self, utils: Mapping[str, Any], kinds: Mapping[str, str]) -> None:
        self._utils = utils
        self._kinds = kinds

    def needed(self, rule: object, depth: int) -> list[tuple[str, ...]]:
        """The clauses of a rule, not those of its `not`."""
        if not isinstance(rule, dict) or depth > _MOST:
            return []
        found: list[tuple[str, ...]] = []
        for key, value in rule.items():
            if key == "all" and isinstance(value, list):
                found += [clause for each in value for clause in self.needed(each, depth + 1)]
            elif key == "any" and isinstance(value, list):
                found += one_of([self.needed(each, depth + 1) for each in value])
            elif key in _RELATIONS:
                found += self.needed(value, depth + 1)
            elif isinstance(value, str):
                found += self._said(key, value, depth)
        return found

    def _said(self, key: str, value: str, depth: int) -> list[tuple[str, ...]]:
        if key == "pattern":
            return [(word,) for word in _WORD.findall(_VARIABLE.sub(" ", value))]
        if key == "regex":
            return required(value)
        if key == "kind":
            return [(self._kinds[value],)] if value in self._kinds else []
        return self.needed(self._utils.get(value), depth + 1) if key == "matches" else []
