"""From code to findings.

Comes in: source files, and the detectors of a pack, which are data. Goes out: findings with path,
line, column and rule. Never: code of a pack that is run.
"""

from packlore.check.detectors import check as problems
from packlore.check.detectors import detectors
from packlore.check.model import Checked, Detector, Finding, Level, Trouble
from packlore.check.scan import Detectors, scan
from packlore.check.syntax import NoGrepError, language, language_of

# Modules that only the command needs are named, not imported.
__all__ = [
    "Checked",
    "Detector",
    "Detectors",
    "Finding",
    "Level",
    "NoGrepError",
    "Trouble",
    "baseline",
    "changes",
    "detectors",
    "language",
    "language_of",
    "problems",
    "report",
    "run",
    "scan",
    "settings",
    "sources",
]
