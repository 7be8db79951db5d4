"""Markdown by its lines, where a parser would cost too much. No I/O.

For search it is enough to know code from words, and a process that answers one question has no
time to parse every file.
"""

from __future__ import annotations

import re

FENCE = re.compile(
    r"^ {0,3}(`{3,}+|~{3,}+).*\n((?:(?! {0,3}\1[`~]*[ \t]*\n).*\n)*)(?: {0,3}\1.*\n)?", re.MULTILINE
)
"""A block of code: its marks and what is in it. It ends where the text does, if nothing closes it."""
HEADING = re.compile(r"^#{1,6}[ \t]+(.*)$", re.MULTILINE)
"""A heading of Markdown, and its text."""
