"""Features whose answer is known to the weights of a model. Only authors run it: it takes numpy and
scikit-learn, which a search does without.

Multinomial logistic regression over features that count by how rare they are. Of all features
those are kept whose weights are largest, and the weights are rounded to a byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from packlore.errors import PackError

SEEN = 3
"""Queries that must have a feature; what fewer have in common is chance."""
MOST = 24_000
"""Features of a model."""
LARGEST = 1_400_000
"""Bytes of its keys and weights: a file of 1.9 MB."""
STRENGTH = 20.0
"""The inverse of how much a weight is held to nothing."""
STEPS = 150
"""Of the solver; the choice of features takes fewer."""


class Learnt(NamedTuple):
    """What the fields of a Model hold."""

    keys: tuple[int, ...]
    weights: bytes
    scale: float
    biases: tuple[float, ...]


def train(rows: Sequence[Sequence[int]], places: Sequence[int]) -> Learnt:
    """The weights under which each row of features is likeliest to have its place. The places are
    numbers from 0, and each has a row. PackError where the packages for it are missing."""
    try:
        import numpy as np
        from scipy.sparse import csr_matrix, diags_array
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise PackError(f"learning needs packlore[learn] ({error})") from error

    def matrix(keys: Sequence[int]) -> Any:
        """The rows, each of length 1 over its known features."""
        numbers = {key: number for number, key in enumerate(keys)}
        found = [[numbers[each] for each in row if each in numbers] for row in rows]
        values = np.concatenate([np.full(len(row), 1 / np.sqrt(len(row) or 1)) for row in found])
        starts = np.cumsum([0, *map(len, found)])
        return csr_matrix(
            (values, list(chain.from_iterable(found)), starts), shape=(len(rows), len(keys))
        )

    def rarity(keys: Sequence[int]) -> Any:
        return np.array([1 + np.log((1 + len(rows)) / (1 + seen[each])) for each in keys])

    def fitted(keys: Sequence[int], steps: int) -> tuple[Any, Any]:
        weighed = matrix(keys) @ diags_array(rarity(keys))
        fit = LogisticRegression(C=STRENGTH, max_iter=steps, tol=1e-3)
        fit.fit(weighed.tocsr(), places)
        found, added = fit.coef_, fit.intercept_
        if len(found) == 1:  # of two places it gives what the second has more
            found, added = np.vstack([0 * found, found]), np.array([0.0, *added])
        return found * rarity(keys), added

    seen = Counter(chain.from_iterable(map(set, rows)))
    keys = sorted(key for key, count in seen.items() if count >= SEEN)
    most = min(MOST, LARGEST // (4 + len({*places})))
    if len(keys) > most:
        weights, _ = fitted(keys, STEPS // 5)
        size = np.linalg.norm(weights, axis=0)
        keys = sorted(keys[number] for number in np.argsort(-size, kind="stable")[:most])
    weights, biases = fitted(keys, STEPS)
    scale = float(np.abs(weights).max()) / 127
    rounded = np.round(weights / scale).astype(np.int8)
    return Learnt(
        tuple(keys), rounded.T.tobytes(), round(scale, 9), tuple(round(float(b), 6) for b in biases)
    )
