"""How people ask: how much a query sounds like those that a rule answers. No I/O.

A pack may carry `assets/_model.json`, which `packlore build --asked` learns from queries whose
right rule is known. A rule's own words cannot do that: who says that a page is empty after lunch
does not say `pool_pre_ping`. It is a linear model: each feature of a query has a weight for each
rule, and one for all topics that the pack does not cover.
"""

from __future__ import annotations

import json
import math
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from packlore.find.features import VERSION, features
from packlore.pack import Pack, Problem

FILE = "assets/_model.json"
"""Where a pack has it: not among the rules, for people and agents grep in those."""
LEAST = -12.0
"""The logarithm of the least probability: what is less likely is not told apart."""
MOST_PLACES = 2_000
"""Rules of a model."""
LINE = 120
"""Characters of a line of numbers: who greps in the file is not flooded."""
ZERO = 128
"""The byte of a weight of 0: unsigned bytes are added up faster."""
_TURNED = bytes(each ^ ZERO for each in range(256))


@dataclass(frozen=True, slots=True)
class Model:
    """`rows` are the features that it knows, in order, and where in `weights` the row of each begins:
    one byte for each of `rules`, and one more for what is outside. ZERO says nothing, and each more
    or less `scale`. `biases` are added to the sums, in that order."""

    rules: tuple[str, ...]
    rows: Mapping[int, int]
    weights: bytes
    scale: float
    biases: tuple[float, ...]
    learnt: str
    """The digest of what it was learnt from."""


def of(pack: Pack) -> Model | None:
    """The model of a pack. ValueError where its file is broken."""
    data = next((file.data for file in pack.files if file.path == FILE), None)
    return None if data is None else decode(data.decode("utf-8"))


def usable(pack: Pack) -> Model | None:
    """The same for a search, which does without a broken one: `packlore lint` reports it."""
    try:
        return of(pack)
    except ValueError:
        return None


def said(model: Model, query: str) -> tuple[Mapping[str, float], float]:
    """The logarithms of how likely it is that the query asks for each rule, and that it asks for
    something outside."""
    places = len(model.biases)
    begins, weights = model.rows, model.weights
    known = [begins[each] for each in features(query) if each in begins]
    rows = [weights[begin : begin + places] for begin in known]
    if not rows:  # nothing of it was ever asked
        return dict.fromkeys(model.rules, LEAST), 0.0
    scale, nothing = model.scale / math.sqrt(len(rows)), ZERO * len(rows)
    sums = map(sum, zip(*rows, strict=True))
    found = [(each - nothing) * scale + bias for each, bias in zip(sums, model.biases, strict=True)]
    highest = max(found)
    total = highest + math.log(sum(math.exp(each - highest) for each in found))
    *rules, outside = (max(each - total, LEAST) for each in found)
    return dict(zip(model.rules, rules, strict=True)), outside


def begins(keys: Iterable[int], places: int) -> Mapping[int, int]:
    """Where the row of each feature begins."""
    return {key: number * places for number, key in enumerate(keys)}


def turned(weights: bytes) -> bytes:
    """Weights as a Model has them, of signed bytes; and back."""
    return weights.translate(_TURNED)


def encode(model: Model) -> str:
    """As JSON of short lines, so that a change is seen as one."""
    keys = array("I", model.rows)
    if sys.byteorder == "big":
        keys.byteswap()
    written = {
        "version": VERSION,
        "learnt": model.learnt,
        "rules": list(model.rules),
        "scale": model.scale,
        "biases": list(model.biases),
        "keys": _lines(keys.tobytes()),
        "weights": _lines(turned(model.weights)),
    }
    return json.dumps(written, indent=0) + "\n"


def decode(text: str) -> Model:
    """The model of a file. ValueError for one that is none."""
    try:
        return _model(json.loads(text))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"no model: {error!r}"[:300]) from error


def _model(loaded: Mapping[str, Any]) -> Model:
    if loaded["version"] != VERSION:
        raise ValueError(f"version {loaded['version']!r}, and this server reads {VERSION}")
    rules = tuple(loaded["rules"])
    biases = tuple(float(each) for each in loaded["biases"])
    scale = float(loaded["scale"])
    keys = array("I", _bytes(loaded["keys"]))
    if sys.byteorder == "big":
        keys.byteswap()
    weights = turned(_bytes(loaded["weights"]))
    if not rules or len(rules) > MOST_PLACES or not all(isinstance(each, str) for each in rules):
        raise ValueError("no rules")
    if len(biases) != len(rules) + 1 or len(weights) != len(keys) * len(biases):
        raise ValueError("its parts do not fit one another")
    if not all(abs(each) < 1e6 for each in (scale, *biases)):
        raise ValueError("a number is too large")
    return Model(rules, begins(keys, len(biases)), weights, scale, biases, str(loaded["learnt"]))


def _lines(data: bytes) -> list[str]:
    text = b64encode(data).decode("ascii")
    return [text[at : at + LINE] for at in range(0, len(text), LINE)]


def _bytes(lines: Sequence[str]) -> bytes:
    return b64decode("".join(lines), validate=True)


def problems(pack: Pack) -> Iterator[Problem]:
    """The model can be read, and knows no rule that is gone."""
    try:
        known = of(pack)
    except ValueError as error:
        yield Problem(FILE, 1, "model", f"{error}: run `packlore build --asked`")
        return
    if known is None:
        return
    if not all(first < second for first, second in pairwise(known.rows)):
        message = "its features are not in order: run `packlore build --asked`"
        yield Problem(FILE, 1, "model", message)
    for each in sorted(set(known.rules) - {rule.id for rule in pack.rules}):
        yield Problem(FILE, 1, "rule-unknown", f"names the rule {each!r}, which is none")
