"""A pack to what derives from it: metadata.json, the list in SKILL.md, the manifests' versions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from packlore import vocabulary
from packlore.errors import PackError
from packlore.model import Pack
from packlore.read import read

_LIST = re.compile(r"(<!-- rules[^>]*-->\n).*?(<!-- /rules -->)", re.DOTALL)
MANIFESTS = (
    ".claude-plugin/plugin.json",
    ".claude-plugin/marketplace.json",
    ".codex-plugin/plugin.json",
    ".cursor-plugin/plugin.json",
    "gemini-extension.json",
)


def build(folder: Path, *, check: bool = False, asked: Sequence[Path] = ()) -> list[str]:
    """Write what derives from the pack in `folder`, its vocabulary too where there is a file of
    queries that were `asked`; with `check` nothing. Answers with the paths that were stale,
    relative to `folder`."""
    packs = read(folder)
    if len(packs) != 1 or not packs[0].version:
        raise PackError(f"{folder} is not one pack with a version in its SKILL.md")
    files = list(derived(packs[0], folder))
    if asked:
        files.append((vocabulary.FILE, _vocabulary(packs[0], asked)))
    stale = []
    for name, text in files:
        path = folder / name
        if not path.is_file() or path.read_bytes() != text.encode():
            stale.append(name)
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(text.encode())
    return stale


def derived(pack: Pack, folder: Path) -> Iterator[tuple[str, str]]:
    """Each derived file and its text. Of SKILL.md the list of rules derives, where it marks one,
    and of manifests their version."""
    skill = next(file.data for file in pack.files if file.path == "SKILL.md").decode()
    yield "SKILL.md", _LIST.sub(lambda match: match[1] + rule_list(pack) + match[2], skill)
    yield "metadata.json", json.dumps(metadata(pack), indent=2, ensure_ascii=False) + "\n"
    for name in MANIFESTS:
        path = folder / name
        if path.is_file():
            text = path.read_bytes().decode()
            yield name, re.sub(r'("version":\s*")[^"]*(")', rf"\g<1>{pack.version}\g<2>", text)


def _vocabulary(pack: Pack, asked: Iterable[Path]) -> str:
    """What the queries tell. PackError where a file cannot be read, or asks for no rule."""
    rows: list[vocabulary.Asked] = []
    for path in asked:
        try:
            rows += vocabulary.read_asked(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PackError(f"{path}: {error}") from error
    known = {rule.id for rule in pack.rules}
    for row in rows:
        if gone := sorted(set(row.rules) - known):
            raise PackError(f"the query {row.query[:60]!r} asks for {gone[0]!r}, which is no rule")
    return vocabulary.encode(vocabulary.count(pack.rules, rows))


def rule_list(pack: Pack) -> str:
    """The table of categories and one line for each rule."""
    rows = [f"## {len(pack.rules)} rules", "", "| category | rules | impact | when |"]
    rows.append("| --- | --- | --- | --- |")
    lines: list[str] = []
    for category in pack.categories:
        rules = [rule for rule in pack.rules if rule.category == category.id]
        impact = category.impact.label if category.impact else ""
        rows.append(f"| {category.id} | {len(rules)} | {impact} | {category.description} |")
        lines += [f"- `{rule.id}`: {rule.title}" for rule in rules]
    return "\n".join((*rows, "", *lines)) + "\n"


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
            for match in re.findall(r"\]\((https?://[^)\s]+)\)", section.prose)
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
