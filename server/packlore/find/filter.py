"""What can be found, and what a hit must be. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from packlore.pack import Document, Impact, Kind, Rule


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that can be found, and the pack it belongs to."""

    pack: str
    item: Rule | Document

    @property
    def kind(self) -> Kind:
        """What the item is."""
        return "rule" if isinstance(self.item, Rule) else self.item.kind


@dataclass(frozen=True, slots=True)
class Filter:
    """What a hit must be. Empty fields admit everything; `impact` is a minimum, for rules."""

    category: str = ""
    impact: Impact | None = None
    tag: str = ""
    kind: Kind | None = None
    pack: str = ""

    def __str__(self) -> str:
        """The fields that are set, as one would say them: `category pooling, kind asset`."""
        told = {
            "category": self.category,
            "impact": f"{self.impact.label} or higher" if self.impact else "",
            "tag": self.tag,
            "kind": self.kind,
            "pack": self.pack,
        }
        return ", ".join(f"{name} {value}" for name, value in told.items() if value)

    def admits(self, entry: Entry) -> bool:
        """Whether the entry passes every field that is set."""
        item = entry.item
        return (
            (not self.category or item.category == self.category)
            and (self.impact is None or (isinstance(item, Rule) and item.impact >= self.impact))
            and (not self.tag or self.tag.lower() in (tag.lower() for tag in item.tags))
            and (self.kind is None or entry.kind == self.kind)
            and (not self.pack or entry.pack == self.pack)
        )


EVERYTHING = Filter()


SURE = 0.8
"""The score from which an answer is called sure."""
LIKELY = 0.5
"""The score from which it is called likely; what is below is a weak match."""

Sureness = Literal["sure", "likely", "weak"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer to a query. `score` is how likely it is to be the right one, by what was learnt
    from queries of other people. `why` says where it was seen that it fits, if that is known
    already."""

    pack: str
    item: Rule | Document
    score: float
    why: str = ""

    @property
    def sure(self) -> Sureness:
        """The score in a word."""
        return "sure" if self.score >= SURE else "likely" if self.score >= LIKELY else "weak"
