"""A pack to what derives from it: metadata.json, the list in SKILL.md, the manifests' versions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from packlore.errors import PackError
from packlore.pack.lint import VERSION
from packlore.pack.model import Pack
from packlore.pack.read import read

_LIST = re.compile(r"(<!-- rules[^>]*-->\r?\n).*?(<!-- /rules -->)", re.DOTALL)
MANIFESTS = (
    ".claude-plugin/plugin.json",
    ".claude-plugin/marketplace.json",
    ".codex-plugin/plugin.json",
    ".cursor-plugin/plugin.json",
    "gemini-extension.json",
)


Derive = Callable[[Pack], tuple[str, str]]
"""From a pack to the path of a file that derives from it, and its text."""


def build(folder: Path, *, check: bool = False, also: Sequence[Derive] = ()) -> list[str]:
    """Write what derives from the pack in `folder`, and what `also` derives from it; with `check`
    nothing. Answers with the paths that were stale, relative to `folder`."""
    packs = read(folder)
    if len(packs) != 1:
        raise PackError(f"{folder} holds {len(packs)} packs: build one at a time")
    pack = packs[0]
    if not VERSION.fullmatch(pack.version):
        raise PackError(
            f'{folder}/SKILL.md: metadata.version is {pack.version!r}: give one such as "1.2.0"'
        )
    files = list(derived(pack, folder))
    files += [derive(pack) for derive in also]
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
    and of manifests their version. PackError where one cannot be read."""
    skill = next(file.data for file in pack.files if file.path == "SKILL.md").decode()
    listed = rule_list(pack)
    if "\r\n" in skill:
        listed = listed.replace("\n", "\r\n")
    new, found = _LIST.subn(lambda match: match[1] + listed + match[2], skill)
    if not found and ("<!-- rules" in skill or "<!-- /rules" in skill):
        raise PackError("SKILL.md: the list needs a line <!-- rules --> and a line <!-- /rules -->")
    yield "SKILL.md", new
    yield "metadata.json", json.dumps(metadata(pack), indent=2, ensure_ascii=False) + "\n"
    for name in MANIFESTS:
        path = folder / name
        if path.is_file():
            try:
                text = path.read_bytes().decode()
            except UnicodeDecodeError as error:
                raise PackError(f"{path} is not UTF-8: {error}") from error
            yield name, re.sub(r'("version":\s*")[^"]*(")', rf"\g<1>{pack.version}\g<2>", text)


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
