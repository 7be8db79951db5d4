"""Why an item was found: the symptom that was asked for, else the words that it has. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping

from packlore.find.query import Query, telling
from packlore.find.rank import Idf, Profile, parts
from packlore.find.terms import forms
from packlore.pack import Document, Rule

ENOUGH = 0.7
"""How much of a symptom was asked for, by rarity, where it is named."""
MOST = 3
"""Words that are named."""
LONGEST = 80
"""Characters of a symptom that are shown, and of a word."""
_WORD = re.compile(r"[^\W\d]\w*")


def why(query: Query, item: Rule | Document, known: Profile, idf: Idf) -> str:
    """One line; nothing where the item has no word of the query, and only its sound is known."""
    symptoms = item.symptoms if isinstance(item, Rule) else ()
    shares = {each: _share(parts(each, idf), query) for each in symptoms}
    best = max(symptoms, key=shares.__getitem__, default="")
    if best and shares[best] >= ENOUGH:
        return f"symptom: {_short(best)}"
    found: dict[str, float] = {}
    for word in dict.fromkeys(_WORD.findall(telling(query.raw))):
        said = [term for term in forms(word) if term in query.weights and term in known.weights]
        if said:
            found[word] = max(known.weights[term] * idf(term) for term in said)
    words = sorted(found, key=lambda word: -found[word])[:MOST]
    return f"words: {', '.join(map(_short, words))}" if words else ""


def _share(wanted: Mapping[str, float], query: Query) -> float:
    """How much of what is wanted was asked for."""
    return sum(part for term, part in wanted.items() if term in query.weights)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
