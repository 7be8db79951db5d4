"""How well an item fits a query: what of each is found in the other. No I/O.

The weights were fitted to what other writers asked than those who taught the model
(`python -m benchmarks.finding.fit`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from packlore.find.fields import fields
from packlore.find.query import Query
from packlore.find.terms import terms
from packlore.pack import Document, Rule

Idf = Callable[[str], float]
"""How rare a term is in the packs; a term that is in none is the rarest."""

_FIELDS = (1.0, 0.95, 0.95, 0.8, 0.75, 0.5, 0.4)
"""What a term counts by the best field that has it, in the order of Fields."""

CUT = 0.56
"""The probability that any of the rules fits, below which the answer is that none does."""
CUT_PLAIN = 0.08
"""The same for packs without a model, of which less is known."""
CUT_FRESH = 0.2
"""The same for those rules of a pack with a model for which too little was asked."""
CUT_BESIDE = 0.06
"""The same for a rule beside a document that fits better."""
CUT_FOREIGN = 0.4
"""The same for packs without a model, at most: the higher, the better they fit what is foreign."""
CUT_FILTERED = 0.05
"""The same where a filter narrows what is wanted: who names a category means something in it."""
SUREST = 50.0
"""The natural logarithm of the largest power."""
DOCUMENT = 0.25
"""What a document's score is worth beside a rule's: rules are shorter and proven."""


class Profile(NamedTuple):
    """What an item can be recognised by."""

    weights: Mapping[str, float]
    """Its terms, and what each counts by the field that has it."""
    names: Mapping[str, Sequence[tuple[int, float]]]
    """By term: which of its names have it, and how much of the name it is, by rarity."""
    named: int
    """How many names it has."""


class Evidence(NamedTuple):
    """What speaks for an item, and what against it."""

    text: float
    """Full-text score."""
    coverage: float
    """How much of the query the item has, by rarity and field."""
    named: float
    """How much of one alias or symptom was asked, squared."""
    asked: float
    """How likely it is by the model that the query asks for the item: a logarithm."""
    outside: float
    """The same for what the pack does not cover."""


class Weights(NamedTuple):
    """A weight for each piece of evidence, and what is added to their sum."""

    evidence: Evidence
    bias: float


LEARNT = Weights(Evidence(0.40, 2.00, -0.13, 0.74, -0.27), -0.19)
"""For the rules of a pack with a model."""
PLAIN = Weights(Evidence(5.46, 6.34, 2.82, 0.00, 0.00), -4.36)
"""For documents, and for the rules of other packs."""


def power(found: Evidence, weights: Weights) -> float:
    """How much likelier it is that the item answers the query than that nothing does."""
    pairs = zip(weights.evidence, found, strict=True)
    total = weights.bias + sum(weight * value for weight, value in pairs)
    return math.exp(min(total, SUREST))  # a model that somebody made up may say anything


def odds(probability: float) -> float:
    """How much likelier something is than its contrary."""
    return probability / (1 - probability)


def profile(item: Rule | Document, idf: Idf) -> Profile:
    """The profile of a rule or document."""
    weights: dict[str, float] = {}
    for weight, text in sorted(zip(_FIELDS, fields(item), strict=True)):
        weights.update(dict.fromkeys(terms(text), weight))
    named = (*item.symptoms, *item.aliases) if isinstance(item, Rule) else ()
    names: dict[str, list[tuple[int, float]]] = {}
    for number, name in enumerate((item.title, *named)):
        for term, part in parts(name, idf).items():
            names.setdefault(term, []).append((number, part))
    return Profile(weights, names, 1 + len(named))


def parts(text: str, idf: Idf) -> Mapping[str, float]:
    """The terms of a text, and how much of it each is, by rarity."""
    rarities = {term: idf(term) for term in terms(text)}
    total = sum(rarities.values())
    return {term: rarity / total for term, rarity in rarities.items()} if total else {}


def asked(query: Query, idf: Idf) -> Mapping[str, float]:
    """What each term of a query says: how much of it that is, by weight and rarity."""
    said = {term: weight * idf(term) for term, weight in query.weights.items()}
    total = sum(said.values())
    return {term: value / total for term, value in said.items()} if total else {}


def evidence(
    said: Mapping[str, float], known: Profile, *, text: float, sound: float, outside: float
) -> Evidence:
    """What speaks for an item that full-text search gave the score `text`, and the model `sound`;
    `said` is what `asked` gives."""
    coverage = 0.0
    named = [0.0] * known.named
    for term, part in said.items():
        coverage += part * known.weights.get(term, 0.0)
        for number, of_name in known.names.get(term, ()):
            named[number] += of_name
    return Evidence(
        text=min(text / 40, 2.0),
        coverage=coverage,
        named=max(named) ** 2,
        asked=sound,
        outside=outside,
    )
