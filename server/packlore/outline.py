"""A library in a few lines, to paste into a project's AGENTS.md or CLAUDE.md: what stands there an
agent has read before it thinks of asking. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from packlore.library import Library
from packlore.pack import Pack, tokens, visible

MOST = 1_200
"""Tokens of all packs together."""
BEGIN, END = "<!-- packlore agents-md -->", "<!-- /packlore -->"
"""Around it, so that who pastes a newer one finds the old."""
HOW = (
    "Before you write, change or review code that one of these rules is about, and when an error "
    "looks like one, read the rule: `find_rules` of the MCP server `packlore` takes the error, the "
    "code or the task, `read_rules` takes ids. Without the server: `packlore show ID`, or "
    "`rules/ID.md` of the skill. Where a rule differs from what you remember, go by the rule."
)


def outline(library: Library, most: int = MOST) -> str:
    """Every rule by its id, and as many titles as fit, those of the highest impact first; of a
    library whose ids do not fit the categories alone."""
    packs = library.packs.values()
    impacts = sorted({int(rule.impact) for pack in packs for rule in pack.rules})
    none = max(impacts, default=0) + 1
    texts = (_text(library, least) for least in (*impacts, none, None))
    return next((text for text in texts if tokens(text) <= most), _text(library, None))


def _text(library: Library, least: int | None) -> str:
    """With the titles from the impact `least` on; without it, no rules."""
    parts = [BEGIN]
    for key, pack in library.packs.items():
        parts += [f"## Rules of {key}", "", visible(pack.description), ""]
        parts += [HOW, ""] if len(parts) < 6 else []
        parts += [*_rows(pack, least), ""]
    return "\n".join([*parts[:-1], END, ""])


def _rows(pack: Pack, least: int | None) -> Iterator[str]:
    for category in pack.categories:
        rules = [rule for rule in pack.rules if rule.category == category.id]
        if not rules:
            continue
        if least is None:
            yield f"- {category.id}, {len(rules)} rules: {visible(category.description)}"
            continue
        for rule in rules:
            if rule.impact >= least:
                yield f"- {rule.id}: {visible(rule.title)}"
        if short := [rule.id for rule in rules if rule.impact < least]:
            yield f"- {', '.join(short)}"
