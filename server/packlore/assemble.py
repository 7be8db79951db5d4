"""Served files to a Pack: which file is a rule, and what its frontmatter means. No I/O.

Lenient on purpose: packs that other people wrote differ in every field. What is odd is reported
as a Problem and read as well as it can be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from packlore.fields import HEADING
from packlore.model import (
    Category,
    Document,
    Impact,
    Kind,
    Pack,
    PackFile,
    Problem,
    Rule,
)
from packlore.parse import Parsed, parse

_KINDS: Mapping[str, Kind] = {
    "SKILL.md": "skill",
    "rules": "reference",  # what lies beside the rules and is none
    "references": "reference",
    "examples": "example",
    "checklists": "checklist",
    "assets": "asset",
}
SECTION = re.compile(
    r"^(?:\d+\.\s*)?(?P<title>.+?)\s*\((?P<id>[a-z0-9][a-z0-9_-]*)(?P<inside>[^)]*)\)(?P<rest>.*)$"
)
"""A heading of _sections.md, such as `1. Asyncio (asyncio)`."""
_IMPACT = re.compile(r"\b(CRITICAL|(?:LOW|MEDIUM)[- _](?:MEDIUM|HIGH)|HIGH|MEDIUM|LOW)\b")
_FIELD = re.compile(r"^\*\*(?P<name>\w+):?\*\*:?\s*(?P<value>.*)$", re.MULTILINE)


def assemble(
    files: tuple[PackFile, ...],
    problems: tuple[Problem, ...],
    *,
    folder: str,
    folder_name: str,
) -> Pack:
    """The pack that `files` make; `problems` are those of reading them. Never raises."""
    found = list(problems)
    texts = {file.path: text for file in files if (text := _text(file, found)) is not None}
    parsed = {path: parse(text, path) for path, text in texts.items() if path.endswith(".md")}
    for each in parsed.values():
        found += each.problems
    categories = _categories(parsed)
    rules: list[Rule] = []
    documents: list[Document] = []
    for file in files:
        read = parsed.get(file.path)
        if read is not None and _is_rule(file.path, read):
            if read.body.strip() or read.frontmatter:
                rules.append(_rule(file.path, read, categories, found))
            elif not read.problems:
                found.append(Problem(file.path, 1, "empty", "left out: the file is empty"))
        elif not PurePosixPath(file.path).name.startswith("_"):
            documents.append(_document(file.path, read, texts.get(file.path, "")))
    rules = list(_with_unique_ids(rules, found))
    skill = parsed.get("SKILL.md")
    frontmatter = skill.frontmatter if skill else {}
    if skill is None:
        found.append(Problem("SKILL.md", 1, "no-skill", "the pack has no readable SKILL.md"))
    metadata = frontmatter.get("metadata")
    version = metadata.get("version") if isinstance(metadata, dict) else None
    return Pack(
        name=_string(frontmatter.get("name")) or folder_name or "pack",
        folder=folder,
        version=_string(version) or _string(frontmatter.get("version")),
        description=_string(frontmatter.get("description")),
        frontmatter=frontmatter,
        categories=_all_categories(categories, rules),
        rules=tuple(rules),
        documents=tuple(documents),
        files=files,
        problems=tuple(found),
    )


def _text(file: PackFile, problems: list[Problem]) -> str | None:
    """The file as text; None for one that is none, which is a problem only where one expects it."""
    try:
        text = file.data.decode("utf-8")
    except UnicodeDecodeError as error:
        if file.mime.startswith("text/"):
            message = f"kept as an asset, not as text: not UTF-8 at byte {error.start}"
            line = file.data.count(b"\n", 0, error.start) + 1
            problems.append(Problem(file.path, line, "encoding", message))
        return None
    if "\0" in text:
        if file.mime.startswith("text/"):
            line = text.count("\n", 0, text.index("\0")) + 1
            message = "kept as an asset, not as text: it holds a NUL byte"
            problems.append(Problem(file.path, line, "encoding", message))
        return None
    return text


def _is_rule(path: str, parsed: Parsed) -> bool:
    """A Markdown file in rules/; elsewhere one that states an impact, as some packs keep them."""
    place = PurePosixPath(path)
    if place.name.startswith("_") or place.stem.lower() == "readme":
        return False
    return place.parts[0] == "rules" or (
        place.parts[0] == "references" and "impact" in parsed.frontmatter
    )


def _rule(
    path: str, parsed: Parsed, categories: Mapping[str, Category], problems: list[Problem]
) -> Rule:
    fields = parsed.frontmatter
    stem = PurePosixPath(path).stem

    def odd(code: str, message: str) -> None:
        problems.append(Problem(path, 1, code, message))

    if not fields and not parsed.problems:
        odd("frontmatter-missing", "no frontmatter: title, impact and category are guessed")
    title = _string(fields.get("title")) or _heading(parsed) or stem.replace("-", " ")
    category = _string(fields.get("category")) or _prefix(stem, categories)
    if fields and categories and category not in categories:
        odd("category-unknown", f"category {category!r} is not one of {', '.join(categories)}")
    impact = _impact(_string(fields.get("impact")))
    if impact is None:
        known = categories.get(category)
        impact = (known.impact if known else None) or Impact.MEDIUM
        if fields:
            odd("impact-unknown", f"impact {fields.get('impact')!r} is read as {impact.label}")
    applies = fields.get("applies")
    return Rule(
        id=stem,
        path=path,
        title=title,
        category=category,
        impact=impact,
        impact_description=_string(fields.get("impactDescription")),
        tags=strings(fields.get("tags")),
        symptoms=strings(fields.get("symptoms"), separator=None),
        aliases=strings(fields.get("aliases")),
        applies=(
            {name: _string(value) for name, value in applies.items()}
            if isinstance(applies, dict)
            else {}
        ),
        related=strings(fields.get("related")),
        body=parsed.body.strip("\n") + "\n",
        body_line=_first_line(parsed),
        structure=parsed,
        frontmatter=fields,
    )


def _document(path: str, parsed: Parsed | None, text: str) -> Document:
    fields = parsed.frontmatter if parsed else {}
    kind = _KINDS[PurePosixPath(path).parts[0]]
    stated = fields.get("name") if kind == "skill" else fields.get("title")
    title = _string(stated) or (_heading(parsed) if parsed else "") or PurePosixPath(path).name
    return Document(
        id=path,
        path=path,
        kind=kind,
        title=title,
        category=_string(fields.get("category")),
        tags=strings(fields.get("tags")),
        rules=strings(fields.get("rules")),
        text=parsed.body.strip("\n") + "\n" if parsed else text,
        line=_first_line(parsed) if parsed else 1,
        structure=parsed,
    )


def _heading(parsed: Parsed) -> str:
    return next((each.title for each in parsed.sections if each.title), "")


def _first_line(parsed: Parsed) -> int:
    """The line of the body's first line that is not blank."""
    return parsed.body_line + len(parsed.body) - len(parsed.body.lstrip("\n"))


def _with_unique_ids(rules: list[Rule], problems: list[Problem]) -> Iterable[Rule]:
    """The first of an id keeps it; a later one goes by its path, so that both can be read."""
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            other = str(PurePosixPath(rule.path).with_suffix(""))
            message = f"the id {rule.id!r} is taken: this file goes by {other!r}"
            problems.append(Problem(rule.path, 1, "id-twice", message))
            seen.add(other)
            yield replace(rule, id=other)
        else:
            seen.add(rule.id)
            yield rule


def _categories(parsed: Mapping[str, Parsed]) -> dict[str, Category]:
    """The categories of _sections.md: its headings of the form of SECTION."""
    found: dict[str, Category] = {}
    for path in ("rules/_sections.md", "references/_sections.md"):
        # By lines, not by blocks: this file is read at every start, and holds no code.
        _, *parts = HEADING.split(parsed[path].body) if path in parsed else [""]
        for title, prose in zip(parts[::2], parts[1::2], strict=True):
            match = SECTION.match(title.strip())
            if not match or match["id"] in found:
                continue
            fields = {each["name"].lower(): each["value"] for each in _FIELD.finditer(prose)}
            stated = fields.get("impact", "") + match["inside"] + match["rest"]
            paragraph = prose.strip().split("\n\n")[0].split("\n- ")[0]
            found[match["id"]] = Category(
                id=match["id"],
                title=match["title"],
                impact=_impact(stated.upper()),
                description=fields.get("description") or " ".join(paragraph.split()),
            )
    return found


def _all_categories(known: Mapping[str, Category], rules: Iterable[Rule]) -> tuple[Category, ...]:
    """The known categories, and those that only rules name."""
    found = dict(known)
    for rule in rules:
        if rule.category not in found:
            title = rule.category.replace("-", " ").capitalize()
            found[rule.category] = Category(rule.category, title, None, "")
    return tuple(found.values())


def _prefix(stem: str, categories: Mapping[str, Category]) -> str:
    """The longest category that begins the file's name; else the name up to its first hyphen."""
    fitting = [each for each in categories if stem == each or stem.startswith(f"{each}-")]
    return max(fitting, key=len) if fitting else stem.split("-", maxsplit=1)[0]


def _impact(text: str) -> Impact | None:
    match = _IMPACT.search(text.upper())
    return Impact.parse(match[0]) if match else None


def _string(value: object) -> str:
    return " ".join(str(value).split()) if isinstance(value, (str, int, float)) else ""


def strings(value: object, separator: str | None = ",") -> tuple[str, ...]:
    """A list of texts from a YAML list or from one text such as `a, b`."""
    if isinstance(value, str):
        value = value.split(separator) if separator else [value]
    if not isinstance(value, list):
        return ()
    return tuple(text for each in value if (text := _string(each)))
