"""How well an item fits a query: what of each is found in the other. No I/O.

A score of 1.0 or more is an answer; below it, nothing fits. The weights were fitted on the `tune`
half of benchmarks/finding and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from packlore.model import Document, Rule
from packlore.query import Query
from packlore.synonyms import alike
from packlore.terms import terms

Idf = Callable[[str], float]
"""How rare a term is in the packs; a term that is in none is the rarest."""

_TITLE, _ALIAS, _SYMPTOM, _TAG, _HEADING, _PROSE, _CODE = 1.0, 0.95, 0.95, 0.8, 0.75, 0.5, 0.4
_LIKE = 0.6
"""What a word of the same meaning counts."""
_LITERAL = 12
"""Characters of a symptom that must stand together in a query to be its message."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What an item can be recognised by."""

    weights: dict[str, float]
    symptoms: tuple[tuple[str, ...], ...]
    literals: tuple[tuple[str, ...], ...]
    aliases: tuple[tuple[str, ...], ...]
    wrong: frozenset[str]
    right: frozenset[str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Each between 0 and 1."""

    coverage: float
    strong: float
    symptom: float
    literal: float
    alias: float
    wrong: float
    right: float


def profile(item: Rule | Document) -> Profile:
    """The profile of a rule or document."""
    rule = item if isinstance(item, Rule) else None
    symptoms = rule.symptoms if rule else ()
    aliases = rule.aliases if rule else ()
    fields = (
        (_CODE, (fence.code for section in item.sections for fence in section.fences)),
        (_PROSE, (section.prose for section in item.sections)),
        (_HEADING, (section.title for section in item.sections)),
        (_TAG, (*item.tags, item.category)),
        (_SYMPTOM, symptoms),
        (_ALIAS, aliases),
        (_TITLE, (item.title, item.id.rpartition("/")[2])),
    )
    weights: dict[str, float] = {}
    for weight, texts in fields:
        for text in texts:
            weights.update(dict.fromkeys(terms(text), weight))
    wrong, right = (_names(rule, correct=correct) for correct in (False, True))
    return Profile(
        weights=weights,
        symptoms=tuple(tuple(dict.fromkeys(terms(each))) for each in symptoms),
        literals=tuple(_literals(each) for each in symptoms),
        aliases=tuple(tuple(dict.fromkeys(terms(each))) for each in aliases),
        wrong=wrong - right,
        right=right - wrong,
    )


def evidence(query: Query, known: Profile, idf: Idf) -> Evidence:
    """What speaks for an item."""
    total = found = strong = 0.0
    for term, weight in query.weights.items():
        rarity = weight * idf(term)
        matched = known.weights.get(term, 0.0)
        if not matched and (others := alike(term)):
            matched = _LIKE * max(known.weights.get(each, 0.0) for each in others)
        total += rarity
        found += rarity * matched
        strong += rarity if matched > _HEADING else 0.0
    asked = query.weights
    return Evidence(
        coverage=found / total if total else 0.0,
        strong=strong / total if total else 0.0,
        symptom=max((_share(each, asked, idf) for each in known.symptoms), default=0.0),
        literal=max((_said(each, query.text) for each in known.literals), default=0.0),
        alias=max((_share(each, asked, idf) for each in known.aliases), default=0.0),
        wrong=_share(known.wrong, asked, idf) if query.code else 0.0,
        right=_share(known.right, asked, idf) if query.code else 0.0,
    )


def _names(rule: Rule | None, *, correct: bool) -> frozenset[str]:
    example = rule.example(correct=correct) if rule else None
    return frozenset(terms(example.fence.code)) if example else frozenset()


def _share(wanted: Iterable[str], asked: dict[str, float], idf: Idf) -> float:
    """How much of what is wanted was asked for, by rarity."""
    total = found = 0.0
    for term in wanted:
        rarity = idf(term)
        total += rarity
        if term in asked:
            found += rarity
        elif (others := alike(term)) and not others.isdisjoint(asked):
            found += rarity * _LIKE
    return found / total if total else 0.0


def _literals(symptom: str) -> tuple[str, ...]:
    """The fixed parts of a symptom that are long enough to be told from anything else."""
    parts = (" ".join(part.split()).lower() for part in symptom.split("…"))
    return tuple(part for part in parts if len(part) >= _LITERAL)


def _said(parts: Sequence[str], text: str) -> float:
    """How much of a message's fixed parts stands in the text, by length."""
    if not parts:
        return 0.0
    lower = text.lower()
    return sum(len(part) for part in parts if part in lower) / sum(map(len, parts))
