"""Served files to a Pack: which file is a rule, and what its frontmatter means. No I/O.

Lenient on purpose: packs that other people wrote differ in every field. What is odd is reported
as a Problem and read as well as it can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from packlore.pack.categories import impact_in, named, of_sections, prefix, with_those_of
from packlore.pack.model import (
    Category,
    Document,
    Impact,
    Kind,
    Pack,
    PackFile,
    Problem,
    Rule,
    unreadable,
)
from packlore.pack.parse import Parsed, parse
from packlore.pack.values import name, string, strings

_KINDS: Mapping[str, Kind] = {
    "SKILL.md": "skill",
    "rules": "reference",  # what lies beside the rules and is none
    "references": "reference",
    "examples": "example",
    "checklists": "checklist",
    "assets": "asset",
}


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
    parsed: dict[str, Parsed] = {}
    for path, text in texts.items():
        if path.endswith(".md"):
            try:
                parsed[path] = parse(text, path)
            except Exception as error:  # noqa: BLE001 one bad file never takes the rest down
                found.append(unreadable(path, error))
    for each in parsed.values():
        found += each.problems
    categories = of_sections(parsed)
    rules: list[Rule] = []
    documents: list[Document] = []
    for file in files:
        read = parsed.get(file.path)
        try:
            if read is not None and _is_rule(file.path, read):
                if read.body.strip() or read.frontmatter:
                    rules.append(_rule(file.path, read, categories, found))
                elif not read.problems:
                    found.append(Problem(file.path, 1, "empty", "left out: the file is empty"))
            elif not _is_beside(file.path, texts):
                documents.append(_document(file.path, read, texts.get(file.path, "")))
        except Exception as error:  # noqa: BLE001 one bad file never takes the rest down
            found.append(unreadable(file.path, error))
    rules = list(_with_unique_ids(rules, found))
    skill = parsed.get("SKILL.md")
    frontmatter = skill.frontmatter if skill else {}
    if skill is None:
        found.append(Problem("SKILL.md", 1, "no-skill", "the pack has no readable SKILL.md"))
    metadata = frontmatter.get("metadata")
    version = metadata.get("version") if isinstance(metadata, dict) else None
    return Pack(
        name=name(frontmatter.get("name")) or name(folder_name) or "pack",
        folder=folder,
        version=name(version) or name(frontmatter.get("version")),
        description=string(frontmatter.get("description")),
        frontmatter=frontmatter,
        categories=with_those_of(categories, rules),
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
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_rule(path: str, parsed: Parsed) -> bool:
    """A Markdown file in rules/; elsewhere one that states an impact, as some packs keep them."""
    place = PurePosixPath(path)
    if place.name.startswith("_") or place.stem.lower() == "readme":
        return False
    return place.parts[0] == "rules" or (
        place.parts[0] == "references" and "impact" in parsed.frontmatter
    )


def _is_beside(path: str, texts: Mapping[str, str]) -> bool:
    """What belongs to others and is not asked for by itself: what has a name with `_` before it,
    as `_sections.md`, or lies in such a folder, and the detector of a rule, which goes by its
    name."""
    place = PurePosixPath(path)
    detects = place.parts[0] == "rules" and place.suffix == ".yml"
    hidden = any(part.startswith("_") for part in place.parts)
    return hidden or (detects and str(place.with_suffix(".md")) in texts)


def _rule(
    path: str, parsed: Parsed, categories: Mapping[str, Category], problems: list[Problem]
) -> Rule:
    fields = parsed.frontmatter
    stem = PurePosixPath(path).stem

    def odd(code: str, message: str) -> None:
        problems.append(Problem(path, 1, code, message))

    if not fields and not parsed.problems:
        odd("frontmatter-missing", "no frontmatter: title, impact and category are guessed")
    title = string(fields.get("title")) or _heading(parsed) or stem.replace("-", " ")
    category = name(fields.get("category")) or name(prefix(stem, categories)) or "other"
    if fields and categories and category not in categories:
        odd("category-unknown", f"category {category!r} is not one of {named(categories)}")
    impact = impact_in(string(fields.get("impact")))
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
        impact_description=string(fields.get("impactDescription")),
        tags=strings(fields.get("tags")),
        symptoms=strings(fields.get("symptoms"), separator=None),
        aliases=strings(fields.get("aliases")),
        applies=(
            {string(library): string(value) for library, value in applies.items()}
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
    title = string(stated) or (_heading(parsed) if parsed else "") or PurePosixPath(path).name
    return Document(
        id=path,
        path=path,
        kind=kind,
        title=title,
        category=name(fields.get("category")),
        tags=strings(fields.get("tags")),
        rules=strings(fields.get("rules")),
        text=parsed.body.strip("\n") + "\n" if parsed else text,
        line=_first_line(parsed) if parsed else 1,
        structure=parsed,
    )


def _heading(parsed: Parsed) -> str:
    return next((string(each.title) for each in parsed.sections if each.title), "")


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
