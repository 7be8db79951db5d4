"""The texts of an item by the fields that search weighs. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from packlore.pack import FENCE, HEADING, Document, Rule


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
    """The fields of a rule or document. A file that is no Markdown is all code."""
    rule = item if isinstance(item, Rule) else None
    text = item.body if isinstance(item, Rule) else item.text
    if rule is None and item.structure is None:
        prose, code = "", text
    else:
        parts = FENCE.split(
            text if text.endswith("\n") else f"{text}\n"
        )  # words, marks, code, words, ...
        prose, code = "".join(parts[::3]), "".join(parts[2::3])
    return Fields(
        title=f"{item.title} {item.id}",
        symptoms="\n".join(rule.symptoms) if rule else "",
        aliases="\n".join(rule.aliases) if rule else "",
        tags=" ".join((*item.tags, item.category)),
        headings="\n".join(HEADING.findall(prose)),
        prose=f"{rule.impact_description}\n{prose}" if rule else prose,
        code=code,
    )
