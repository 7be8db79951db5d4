"""Words that a text must hold for a rule to match anything in it. Looking for words is a thousand
times cheaper than ast-grep, which compiles a rule anew for each text.

A rule's words are read from its patterns: what is no variable in a pattern stands in the code that
it matches. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Clauses = tuple[tuple[str, ...], ...]
"""Of each of these, a text must hold one word."""

_VARIABLE = re.compile(r"\$+\w*")
_WORD = re.compile(r"\w+")
_PLAIN = re.compile(r"\^?\(?(\w+(?:\|\w+)*)\)?\$?", re.ASCII)
"""A regular expression that is a word, or words."""
_RELATIONS = ("inside", "has", "follows", "precedes")
_MOST = 40
"""Of utilities in one another; a rule may use itself."""


def clauses(config: Mapping[str, Any]) -> Clauses:
    """What a text must hold for a rule of ast-grep to match in it."""
    return tuple(dict.fromkeys(_needed(config.get("rule"), config.get("utils") or {}, 0)))


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


def _needed(rule: object, utils: Mapping[str, Any], depth: int) -> list[tuple[str, ...]]:
    if not isinstance(rule, dict) or depth > _MOST:
        return []
    found: list[tuple[str, ...]] = []
    for key, value in rule.items():
        if key == "pattern" and isinstance(value, str):
            found += [(word,) for word in _WORD.findall(_VARIABLE.sub(" ", value))]
        elif key == "regex" and isinstance(value, str):
            plain = _PLAIN.fullmatch(value)
            found += [tuple(plain[1].split("|"))] if plain else []
        elif key == "matches" and isinstance(value, str):
            found += _needed(utils.get(value), utils, depth + 1)
        elif key in _RELATIONS:
            found += _needed(value, utils, depth + 1)
        elif key == "all" and isinstance(value, list):
            found += [clause for each in value for clause in _needed(each, utils, depth + 1)]
        elif key == "any" and isinstance(value, list):
            found += _one_of([_needed(each, utils, depth + 1) for each in value])
    return found


def _one_of(each: Sequence[Sequence[tuple[str, ...]]]) -> list[tuple[str, ...]]:
    """One word of each way, the longest that it needs: the rarest, most likely."""
    if not all(each):
        return []
    chosen = [min(clauses, key=lambda one: (len(one), -len(one[0]))) for clauses in each]
    return [tuple(dict.fromkeys(word for clause in chosen for word in clause))]
