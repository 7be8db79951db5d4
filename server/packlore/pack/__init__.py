"""From a folder to a Pack.

Comes in: a folder of Markdown files with frontmatter. Goes out: frozen packs, everything odd as a
Problem, and for authors what derives from a pack. Never: an opinion on a query, or a line printed.
"""

from packlore.pack.frontmatter import documents
from packlore.pack.markdown import FENCE, HEADING
from packlore.pack.model import (
    KINDS,
    Category,
    Document,
    Impact,
    Kind,
    Pack,
    PackFile,
    Problem,
    Rule,
    tokens,
)
from packlore.pack.read import SERVED_FOLDERS, files, read
from packlore.pack.values import line, visible

# Modules that only authors need are named, not imported: a search is a process of its own.
__all__ = [
    "FENCE",
    "HEADING",
    "KINDS",
    "SERVED_FOLDERS",
    "Category",
    "Document",
    "Impact",
    "Kind",
    "Pack",
    "PackFile",
    "Problem",
    "Rule",
    "build",
    "documents",
    "files",
    "line",
    "lint",
    "read",
    "scaffold",
    "tokens",
    "visible",
]
