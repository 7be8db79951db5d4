"""Answers to a query as Markdown: what fits and how sure that is, or that nothing does. Pure; the
command line and the MCP tools share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from packlore import render
from packlore.find import EVERYTHING, Entry, Filter, Hit, english
from packlore.library import Library
from packlore.pack import Document, Rule, visible
from packlore.project import noted

LEAST_BESIDE = 0.03
"""The score from which on a hit is named beside a sure one."""
MAX_SYMPTOMS = 3
"""Symptoms of a weak match."""


def hits(library: Library, query: str, found: Sequence[Hit], where: Filter = EVERYTHING) -> str:
    """The best hit in brief, or, where it is a weak one, what it is about; the others one line each
    with their cost."""
    if not found:
        return nothing(library, query, where)
    best = found[0]
    lines = [_head(library, best, visible(library.index.why(query, best))), ""]
    item = best.item
    if best.sure == "weak":
        text = "\n".join([*_about(item), ""])
    else:
        text = render.brief(item) if isinstance(item, Rule) else render.excerpt(item)
    lines.append(noted(text, item, library.project))
    least = LEAST_BESIDE if best.sure == "sure" else 0.0
    if others := [each for each in found[1:] if each.score >= least]:
        lines += ["Also:", *(render.line(library, Entry(each.pack, each.item)) for each in others)]
    return "\n".join(lines).rstrip() + "\n"


def nothing(library: Library, query: str, where: Filter = EVERYTHING) -> str:
    """What is said where nothing fits: what would without the filter, else which categories there
    are and what is nearest."""
    said = ["Nothing fits."]
    if where != EVERYTHING:
        reason = "fits in" if library.admits(where) else "is in"
        said = [f"Nothing {reason} {where}."]
        if others := library.search(query, limit=3):
            rows = "\n".join(render.line(library, Entry(each.pack, each.item)) for each in others)
            return f"{said[0]} Without that filter:\n{rows}\n"
        said.append("Without that filter nothing fits either.")
    names = list(library.categories)
    more = f" and {len(names) - render.MAX_NAMED} more" if len(names) > render.MAX_NAMED else ""
    listed = ", ".join(names[: render.MAX_NAMED]) + more
    said.append(f"The rules here are about: {listed or 'nothing yet'}.")
    if near := library.nearest(query):
        said.append(f"Nearest: {library.name(near.pack, near.item)} ({near.item.title}).")
    if not english(query):
        said.append("The rules are in English: ask in English.")
    return " ".join(said) + "\n"


def _head(library: Library, hit: Hit, why: str) -> str:
    item = hit.item
    what = item.impact.label if isinstance(item, Rule) else item.kind
    said = "weak match: read it only if it is what you meant" if hit.sure == "weak" else hit.sure
    found = f"{library.name(hit.pack, item)} ({what}, whole {item.cost} tokens): {said}"
    return f"{found} ({why})" if why else found


def _about(item: Rule | Document) -> list[str]:
    """What tells a reader whether an item is meant: its title, and how it shows itself."""
    symptoms = item.symptoms[:MAX_SYMPTOMS] if isinstance(item, Rule) else ()
    return [visible(each) for each in (item.title, *(f"- symptom: {each}" for each in symptoms))]


def hit_rows(library: Library, found: Sequence[Hit]) -> list[dict[str, Any]]:
    """Hits for a program, best first."""
    return [
        {
            **render.row(library, Entry(hit.pack, hit.item)),
            "score": round(hit.score, 3),
            "sure": hit.sure,
        }
        for hit in found
    ]
