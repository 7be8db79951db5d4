"""How well an item fits a query: what of each is found in the other. No I/O.

The score is a probability, by weights that were fitted on the `tune` half of benchmarks/finding
and nowhere else (logistic regression over pairs of query and candidate). Below CUT nothing fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from packlore.model import Document, Rule
from packlore.query import Query
from packlore.synonyms import alike
from packlore.terms import terms
from packlore.topics import names

Idf = Callable[[str], float]
"""How rare a term is in the packs; a term that is in none is the rarest."""

_TITLE, _ALIAS, _SYMPTOM, _TAG, _HEADING, _PROSE, _CODE = 1.0, 0.95, 0.95, 0.8, 0.75, 0.5, 0.4
_LIKE = 0.6
"""What a word of the same meaning counts."""
_LITERAL = 12
"""Characters of a symptom that must stand together in a query to be its message."""


CUT = 0.2
"""The score of the best hit below which the answer is that nothing fits."""
CUT_FILTERED = 0.05
"""The same where a filter narrows what is wanted: who names a category means something in it."""
DOCUMENT = 0.25
"""What a document's score is worth beside a rule's: rules are shorter and proven."""


class Profile(NamedTuple):
    """What an item can be recognised by."""

    weights: dict[str, float]
    symptoms: tuple[tuple[str, ...], ...]
    literals: tuple[tuple[str, ...], ...]
    aliases: tuple[tuple[str, ...], ...]


class Evidence(NamedTuple):
    """What speaks for an item, and what against it."""

    dense: float
    """Full-text score for a term asked."""
    text: float
    """Full-text score."""
    coverage: float
    """How much of the query the item has, by rarity and field."""
    strong: float
    """How much of it stands in title, tags, aliases and symptoms."""
    symptom: float
    """How much of one symptom was asked, squared."""
    literal: float
    """How much of one symptom's fixed parts stands in the query as it is."""
    alias: float
    """How much of one alias was asked, squared."""
    foreign: float
    """Names in the query of technologies that the item does not know, at most three."""
    whole: float
    """1 where the item has every term of the query, as it does for one identifier."""


class Weights(NamedTuple):
    """A weight for each piece of evidence, and what is added to their sum."""

    evidence: Evidence
    bias: float


WORDS = Weights(Evidence(1.35, 1.13, 1.81, 2.68, 0.91, 0.29, 2.37, -2.00, 1.50), -4.39)
CODE = Weights(Evidence(0.76, 1.07, 0.60, 0.53, 0.16, 0.12, 1.88, -0.80, 1.50), -2.87)
MESSAGE = Weights(Evidence(0.98, 0.95, 1.12, 1.44, 1.07, 0.45, 1.70, -0.80, 1.50), -3.71)


def score(query: Query, found: Evidence) -> float:
    """The probability that the item answers the query."""
    weights = CODE if query.code else MESSAGE if query.message else WORDS
    total = weights.bias
    for weight, value in zip(weights.evidence, found, strict=True):
        total += weight * value
    probability = 1 / (1 + math.exp(-total))
    return max(probability, CUT) if found.whole else probability


def profile(item: Rule | Document) -> Profile:
    """The profile of a rule or document."""
    rule = item if isinstance(item, Rule) else None
    symptoms = rule.symptoms if rule else ()
    aliases = (*rule.aliases, item.title) if rule else (item.title,)
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
    return Profile(
        weights=weights,
        symptoms=tuple(tuple(dict.fromkeys(terms(each))) for each in symptoms),
        literals=tuple(_literals(each) for each in symptoms),
        aliases=tuple(tuple(dict.fromkeys(terms(each))) for each in aliases),
    )


def evidence(query: Query, known: Profile, text: float, idf: Idf) -> Evidence:
    """What speaks for an item that full-text search gave the score `text`."""
    total = found = strong = had = 0.0
    foreign = 0
    for term, weight in query.weights.items():
        rarity = weight * idf(term)
        matched = known.weights.get(term, 0.0)
        if not matched:
            foreign += term in names()
            if others := alike(term):
                matched = _LIKE * max(known.weights.get(each, 0.0) for each in others)
        total += rarity
        had += rarity if matched else 0.0
        found += rarity * matched
        strong += rarity if matched > _HEADING else 0.0
    asked = query.weights
    return Evidence(
        dense=text / 10 / math.sqrt(sum(asked.values()) + 1),
        text=min(text / 40, 2.0),
        coverage=found / total if total else 0.0,
        strong=strong / total if total else 0.0,
        symptom=max((_share(each, asked, idf) for each in known.symptoms), default=0.0) ** 2,
        literal=max((_said(each, query.text) for each in known.literals), default=0.0),
        alias=max((_share(each, asked, idf) for each in known.aliases), default=0.0) ** 2,
        foreign=min(foreign, 3),
        whole=float(had == total),
    )


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
