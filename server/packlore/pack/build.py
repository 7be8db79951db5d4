"""A pack to what derives from it: metadata.json, the list in SKILL.md or beside it, the manifests'
versions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from packlore.errors import PackError
from packlore.pack import write
from packlore.pack.lint import INDEX, MAX_SKILL, VERSION
from packlore.pack.model import Pack, tokens
from packlore.pack.read import read

_LIST = re.compile(r"(<!-- rules[^<>]*-->\r?\n)(?:(?!<!-- rules).)*?(<!-- /rules -->)", re.DOTALL)
_VERSION = re.compile(r'("version":\s*")[^"]*(")')
_LINK = re.compile(r"\]\((https?://[^)\]\s]+)\)")
OURS = "<!-- derived by `packlore build` -->\n"
"""How INDEX begins: what does not is its author's, and is not touched."""
MANIFESTS = (
    ".claude-plugin/plugin.json",
    ".claude-plugin/marketplace.json",
    ".codex-plugin/plugin.json",
    ".cursor-plugin/plugin.json",
    "check-plugin/.claude-plugin/plugin.json",
    "gemini-extension.json",
)


Derive = Callable[[Pack], tuple[str, str]]
"""From a pack to the path of a file that derives from it, and its text."""


def build(folder: Path, *, check: bool = False, also: Sequence[Derive] = ()) -> list[str]:
    """Write what derives from the pack in `folder`, and what `also` derives from it; with `check`
    nothing. Answers with the paths that were stale, relative to `folder`. PackError, and nothing
    written, where one of them is a link or lies behind one."""
    packs = read(folder)
    if len(packs) != 1:
        raise PackError(f"{folder} holds {len(packs)} packs: build one at a time")
    pack = packs[0]
    if not VERSION.fullmatch(pack.version):
        raise PackError(
            f'{folder}/SKILL.md: metadata.version is {pack.version!r}: give one such as "1.2.0"'
        )
    files: list[tuple[str, str | None]] = list(derived(pack, folder))
    files += [derive(pack) for derive in also]
    write.refuse_links(folder, (name for name, _ in files))
    stale = []
    for name, text in files:
        path = folder / name
        there = path.read_bytes() if path.is_file() else None
        if there != (None if text is None else text.encode()):
            stale.append(name)
            if check:
                continue
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(exist_ok=True)
            write.replace(path, text.encode())
    return stale


def derived(pack: Pack, folder: Path) -> Iterator[tuple[str, str | None]]:
    """Each derived file and its text; None for one that is to go. Of SKILL.md the list of rules
    derives, where it marks one, and of manifests their version. PackError where one cannot be
    read, is a link, or where INDEX is not ours."""
    write.refuse_links(folder, MANIFESTS)
    yield from _lists(pack)
    yield "metadata.json", json.dumps(metadata(pack), indent=2, ensure_ascii=False) + "\n"
    for name in MANIFESTS:
        path = folder / name
        if path.is_file():
            try:
                text = path.read_bytes().decode()
            except UnicodeDecodeError as error:
                raise PackError(f"{path} is not UTF-8: {error}") from error
            yield name, _VERSION.sub(lambda match: match[1] + pack.version + match[2], text)


def _lists(pack: Pack) -> Iterator[tuple[str, str | None]]:
    """SKILL.md with the table of categories and a line for each rule, as long as that leaves it
    under MAX_SKILL; else the lines go to INDEX, and SKILL.md has a link to them."""
    skill = next(file.data for file in pack.files if file.path == "SKILL.md").decode()
    if not _LIST.search(skill) and ("<!-- rules" in skill or "<!-- /rules" in skill):
        raise PackError("SKILL.md: the list needs a line <!-- rules --> and a line <!-- /rules -->")

    def with_list(text: str) -> str:
        if "\r\n" in skill:
            text = text.replace("\n", "\r\n")
        return _LIST.sub(lambda match: match[1] + text + match[2], skill)

    rows = {category.id: "\n".join(_lines(pack, category.id)) for category in pack.categories}
    there = next((file.data for file in pack.files if file.path == INDEX), None)
    ours = there is not None and there.startswith(OURS.encode())
    whole = with_list(table(pack) + "\n" + "\n".join(filter(None, rows.values())) + "\n")
    if tokens(whole) < MAX_SKILL or not _LIST.search(skill):
        yield "SKILL.md", whole
        if ours:
            yield INDEX, None
        return
    if there is not None and not ours:
        raise PackError(f"{INDEX} is to list the rules, and is not by `packlore build`: rename it")
    yield "SKILL.md", with_list(f"{table(pack)}\nAll rules, one line each: [{INDEX}]({INDEX})\n")
    sections = "\n".join(f"## {name}\n\n{text}\n" for name, text in rows.items() if text)
    yield INDEX, f"{OURS}# {len(pack.rules)} rules\n\n{sections}"


def table(pack: Pack) -> str:
    """The number of rules, and the table of categories."""
    rows = [f"## {len(pack.rules)} rules", "", "| category | rules | impact | when |"]
    rows.append("| --- | --- | --- | --- |")
    for category in pack.categories:
        impact = category.impact.label if category.impact else ""
        count = sum(rule.category == category.id for rule in pack.rules)
        rows.append(f"| {category.id} | {count} | {impact} | {category.description} |")
    return "\n".join(rows) + "\n"


def _lines(pack: Pack, category: str) -> list[str]:
    return [f"- `{rule.id}`: {rule.title}" for rule in pack.rules if rule.category == category]


def metadata(pack: Pack) -> dict[str, Any]:
    """What other tools read of a pack without opening its files."""
    more = pack.frontmatter.get("metadata")
    stated = more if isinstance(more, dict) else {}
    links = sorted(
        {
            match
            for rule in pack.rules
            for section in rule.sections
            if section.title == "References"
            for match in _LINK.findall(section.prose)
        }
    )
    return {
        "version": pack.version,
        "organization": stated.get("author", ""),
        "date": stated.get("date", ""),
        "abstract": pack.description,
        "ruleCount": len(pack.rules),
        "categories": [
            {
                "id": category.id,
                "title": category.title,
                "impact": category.impact.label if category.impact else "",
                "ruleCount": sum(rule.category == category.id for rule in pack.rules),
            }
            for category in pack.categories
        ],
        "references": links,
    }
