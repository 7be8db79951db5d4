"""The texts of an item by the fields that search weighs. No I/O.

By lines, not by a parser of Markdown: for search it is enough to know code from words, and a
process that answers one question has no time to parse every file.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from packlore.model import Document, Rule

_FENCE = re.compile(
    r"^ {0,3}(```+|~~~+)[^\n]*\n(.*?)(?:^ {0,3}\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL
)
_HEADING = re.compile(r"^#{1,6}[ \t]+(.*)$", re.MULTILINE)


class Fields(NamedTuple):
    """One text for each field, what tells most first."""

    title: str
    symptoms: str
    aliases: str
    tags: str
    headings: str
    prose: str
    code: str


def fields(item: Rule | Document) -> Fields:
    """The fields of a rule or document. Of documents the words are enough: their code shows what
    that of the rules shows."""
    rule = item if isinstance(item, Rule) else None
    text = rule.body if rule else item.text if isinstance(item, Document) and item.structure else ""
    prose = _FENCE.sub("", text)
    return Fields(
        title=f"{item.title} {item.id}",
        symptoms="\n".join(rule.symptoms) if rule else "",
        aliases="\n".join(rule.aliases) if rule else "",
        tags=" ".join((*item.tags, item.category)),
        headings="\n".join(_HEADING.findall(prose)),
        prose=f"{rule.impact_description}\n{prose}" if rule else prose,
        code="\n".join(match[1] for match in _FENCE.findall(text)) if rule else "",
    )
