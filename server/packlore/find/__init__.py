"""From a query to hits.

Comes in: the rules and documents of packs, and what somebody asks. Goes out: hits with their
scores, none where nothing fits. Never: a look at the disk, or a word on what rules are about.
"""

from packlore.find.filter import EVERYTHING, Entry, Filter, Hit
from packlore.find.index import Index
from packlore.find.language import english
from packlore.find.query import is_code

__all__ = [
    "EVERYTHING",
    "Entry",
    "Filter",
    "Hit",
    "Index",
    "english",
    "is_code",
    "learn",
    "model",
]
