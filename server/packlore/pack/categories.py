"""The categories of a pack, and the one that a file belongs to. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from packlore.pack.markdown import HEADING
from packlore.pack.model import Category, Impact, Rule
from packlore.pack.parse import Parsed
from packlore.pack.values import string

MAX_HEADING = 200
"""Characters of a heading that names a category."""
MAX_NAMED = 20
"""Categories that a message names."""
_SECTION = re.compile(
    r"^(?:\d+\.\s*)?(?P<title>.+?)\s*\((?P<id>[a-z0-9][a-z0-9_-]*)(?P<inside>[^)]*)\)(?P<rest>.*)$"
)
"""A heading of _sections.md, such as `1. Asyncio (asyncio)`."""
_IMPACT = re.compile(r"\b(CRITICAL|(?:LOW|MEDIUM)[- _](?:MEDIUM|HIGH)|HIGH|MEDIUM|LOW)\b")
_FIELD = re.compile(r"^\*\*(?P<name>\w+):?\*\*:?\s*(?P<value>.*)$", re.MULTILINE)


def section(heading: str) -> re.Match[str] | None:
    """The title, id and impact that a heading of _sections.md names; None where it names none."""
    heading = heading.strip()
    return None if len(heading) > MAX_HEADING else _SECTION.match(heading)


def of_sections(parsed: Mapping[str, Parsed]) -> dict[str, Category]:
    """The categories of _sections.md: its headings that `section` reads."""
    found: dict[str, Category] = {}
    for path in ("rules/_sections.md", "references/_sections.md"):
        # By lines, not by blocks: this file is read at every start, and holds no code.
        _, *parts = HEADING.split(parsed[path].body) if path in parsed else [""]
        for title, prose in zip(parts[::2], parts[1::2], strict=True):
            match = section(title)
            if not match or match["id"] in found:
                continue
            fields = {each["name"].lower(): each["value"] for each in _FIELD.finditer(prose)}
            stated = fields.get("impact", "") + match["inside"] + match["rest"]
            paragraph = prose.strip().split("\n\n")[0].split("\n- ")[0]
            found[match["id"]] = Category(
                id=match["id"],
                title=string(match["title"]),
                impact=impact_in(stated.upper()),
                description=string(fields.get("description") or paragraph),
            )
    return found


def with_those_of(known: Mapping[str, Category], rules: Iterable[Rule]) -> tuple[Category, ...]:
    """The known categories, and those that only rules name."""
    found = dict(known)
    for rule in rules:
        if rule.category not in found:
            title = rule.category.replace("-", " ").capitalize()
            found[rule.category] = Category(rule.category, title, None, "")
    return tuple(found.values())


def prefix(stem: str, categories: Mapping[str, Category]) -> str:
    """The longest category that begins the file's name; else the name up to its first hyphen."""
    begun = stem
    while begun and begun not in categories:
        begun = begun.rpartition("-")[0]
    return begun or stem.split("-", maxsplit=1)[0]


def named(categories: Iterable[str]) -> str:
    """The ids of categories, of many the first, for a message."""
    ids = list(categories)
    more = f" and {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
    return ", ".join(ids[:MAX_NAMED]) + more


def impact_in(text: str) -> Impact | None:
    """The first level that stands in `text`."""
    match = _IMPACT.search(text.upper())
    return Impact.parse(match[0]) if match else None
