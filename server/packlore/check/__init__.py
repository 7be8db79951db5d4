"""From code to findings.

Comes in: source files, and the detectors of a pack, which are data. Goes out: findings with path,
line, column and rule. Never: code of a pack that is run.
"""

from packlore.check.detectors import check as problems
from packlore.check.detectors import detectors
from packlore.check.model import Finding, Level, Trouble
from packlore.check.places import matches
from packlore.check.scan import PASTED, Detectors, broken, pasted, worst_first
from packlore.check.syntax import language_of

# Modules that only the command needs are named, not imported.
__all__ = [
    "PASTED",
    "Detectors",
    "Finding",
    "Level",
    "Trouble",
    "baseline",
    "broken",
    "changes",
    "detectors",
    "edits",
    "files",
    "language_of",
    "matches",
    "pasted",
    "problems",
    "report",
    "run",
    "settings",
    "sources",
    "worst_first",
]
