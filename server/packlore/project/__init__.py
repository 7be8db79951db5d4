"""From a working folder to what its project has installed.

Comes in: a folder and a rule. Goes out: one line where the rule's `applies` does not hold for the
releases that a lock or a pyproject.toml names. Never: a program run, or a file outside the project.
"""

from packlore.project.folder import LOCKS, Project
from packlore.project.note import note, noted

__all__ = ["LOCKS", "Project", "note", "noted"]
