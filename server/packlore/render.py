"""Rules and documents as Markdown. Pure; the command line and the MCP tools share it. No text holds a
character that cannot be seen, and none is empty."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from packlore.find import Entry
from packlore.library import Library
from packlore.pack import Document, Rule, tokens, visible
from packlore.project import note, noted

MAX_BRIEF = 700
"""Tokens of a rule in brief; a longer one is cut after a paragraph."""
MAX_ANSWER = 20_000
"""Tokens of one answer; Claude Code takes at most 25,000 from a tool."""
MAX_CATALOGUE = 3_000
"""Tokens of a list of rules; beyond it only categories are listed."""
MAX_NAMED = 50
"""Names of what was left out of an answer."""
MAX_ROWS = 200
"""Items of an answer that a program is told of."""
_GAP = re.compile(r"\n{3,}")
_MARK = re.compile(r"^```", re.MULTILINE)
_DROPPED = re.compile(r"^(?:incorrect|references?|related)\b", re.IGNORECASE)


def line(library: Library, entry: Entry) -> str:
    """One item in one line: id, impact or kind, title, cost."""
    item = entry.item
    what = item.impact.label if isinstance(item, Rule) else item.kind
    return f"- {library.name(entry.pack, item)} ({what}, {item.cost} tokens): {item.title}"


def whole(library: Library, entries: Sequence[Entry]) -> str:
    """Items as they stand, up to MAX_ANSWER tokens; what is left is named."""
    return _up_to(library, entries, lambda entry: _body(entry.item))


def in_brief(library: Library, entries: Sequence[Entry]) -> str:
    """Rules in brief, documents by their beginning; what is left is named."""

    def text(entry: Entry) -> str:
        item = entry.item
        return brief(item) if isinstance(item, Rule) else excerpt(item)

    return _up_to(library, entries, text)


def lines(library: Library, entries: Sequence[Entry]) -> str:
    """One line an item, up to MAX_ANSWER tokens."""
    return cut("\n".join(line(library, entry) for entry in entries) + "\n", MAX_ANSWER)


def brief(rule: Rule) -> str:
    """What is wrong and what is right, without the Incorrect block, what was measured, and links."""
    rows = rule.body.split("\n")
    first = rule.body_line
    kept: list[str] = []
    at = first
    for start, end in sorted(_dropped(rule, first + len(rows))):
        kept += rows[at - first : max(start, at) - first]
        at = max(at, end)
    text = _GAP.sub("\n\n", "\n".join([*kept, *rows[at - first :]]))
    return cut(_shown(text, rule.path), MAX_BRIEF)


def _dropped(rule: Rule, end: int) -> Iterator[tuple[int, int]]:
    """The lines that `brief` leaves out, from the first of each part to the one after its last."""
    starts = [section.line for section in rule.sections] + [end]
    for number, section in enumerate(rule.sections):
        if _DROPPED.match(section.title):
            yield section.line, starts[number + 1]
    for number, row in enumerate(rule.body.split("\n"), rule.body_line):
        if row.startswith("**Measured:**"):
            yield number, number + 1
    after = 0
    for example in rule.examples:
        until = example.fence.line + example.fence.code.count("\n") + 1
        if not example.correct:
            yield max(example.line, after), until
        after = until


def excerpt(document: Document) -> str:
    """The beginning of a document."""
    return cut(_body(document), MAX_BRIEF)


def cut(text: str, limit: int) -> str:
    """`text` up to `limit` tokens, cut between paragraphs where it can be, else between lines, and
    marked as cut."""
    if tokens(text) <= limit:
        return text
    kept = text.encode()[: limit * 4].decode("utf-8", "ignore")
    least = len(kept) // 2  # a paragraph of 300 lines is not left out for its length
    for mark in ("\n\n", "\n"):
        if (end := kept.rfind(mark)) > least:
            kept = kept[:end]
            break
    kept = kept.rstrip()
    closing = "\n```" if len(_MARK.findall(kept)) % 2 else ""
    return f"{kept}{closing}\n\n(cut here: {tokens(text) - tokens(kept)} tokens more)\n"


def catalogue(library: Library, *, category: str = "", pack: str = "") -> str:
    """What there is: each category with its rules, and the documents. A library that is too large
    for one answer is listed by its categories or packs alone."""
    wanted = library.category_id(category) if category else ""
    key = library.pack_key(pack) if pack else ""
    if wanted:
        library.category(wanted, key)  # NotFoundError where a pack has none of it
    packs = {each: found for each, found in library.packs.items() if key in ("", each)}
    text = "".join(_pack(library, each, wanted, detailed=True) for each in packs)
    if tokens(text) > MAX_CATALOGUE:
        text = "".join(_pack(library, each, wanted, detailed=False) for each in packs)
        text += "\nName a category or a pack to see its rules.\n"
    return cut(text, MAX_ANSWER)


def _pack(library: Library, key: str, wanted: str, *, detailed: bool) -> str:
    pack = library.packs[key]
    rules: dict[str, list[Entry]] = {}
    for rule in pack.rules:
        if wanted in ("", rule.category):
            rules.setdefault(rule.category, []).append(Entry(key, rule))
    if wanted and not rules:
        return ""
    rows = [f"# {key} {pack.version}".rstrip(), ""]
    for category in pack.categories:
        entries = rules.get(category.id)
        if not entries:
            continue
        impact = f", {category.impact.label}" if category.impact else ""
        rows.append(f"## {category.id} ({len(entries)} rules{impact}): {category.description}")
        rows += [line(library, entry) for entry in entries] if detailed else []
    documents = [Entry(key, each) for each in pack.documents if wanted in ("", each.category)]
    if documents and not (wanted and not detailed):
        rows.append(f"## documents ({len(documents)})")
        rows += [line(library, entry) for entry in documents] if detailed else []
    return "\n".join(rows) + "\n"


def _body(item: Rule | Document) -> str:
    if isinstance(item, Document) and not item.text:
        return f"{item.path} is not text.\n"
    return _shown(item.body if isinstance(item, Rule) else item.text, item.path)


def _shown(text: str, path: str) -> str:
    """Text of a pack as it is handed out: visible, and never empty."""
    return visible(text).strip("\n") + "\n" if text.strip() else f"{path} has no text.\n"


def _up_to(library: Library, entries: Sequence[Entry], text: Callable[[Entry], str]) -> str:
    parts: list[str] = []
    spent = 0
    for number, entry in enumerate(entries):
        part = noted(text(entry), entry.item, library.project)
        if parts and spent + tokens(part) > MAX_ANSWER:
            rest = entries[number:]
            names = [library.name(each.pack, each.item) for each in rest[:MAX_NAMED]]
            more = ", …" if len(rest) > MAX_NAMED else ""
            parts.append(f"Left out, {len(rest)} more: {', '.join(names)}{more}\n")
            break
        parts.append(cut(part, MAX_ANSWER))
        spent += tokens(part)
    return "\n".join(parts)


def item_rows(library: Library, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Rules and documents for a program, MAX_ROWS at most."""
    return [row(library, entry) for entry in entries[:MAX_ROWS]]


def row(library: Library, entry: Entry) -> dict[str, Any]:
    """One item for a program."""
    item = entry.item
    row: dict[str, Any] = {
        "id": library.name(entry.pack, item),
        "kind": entry.kind,
        "category": item.category,
        "title": item.title,
        "tokens": item.cost,
    }
    if isinstance(item, Rule):
        row["impact"] = item.impact.label
    if said := note(item, library.project):
        row["versions"] = said
    return row
