"""Holds a pack to our own form: one function a check, each from a Pack to its Problems. What a
rule has is in form.py."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from urllib.parse import unquote

from packlore.pack.categories import section
from packlore.pack.form import LINK, body, fields, names, ranges
from packlore.pack.markdown import FENCE
from packlore.pack.model import Pack, Problem, tokens
from packlore.pack.parse import parse
from packlore.pack.starter import TEMPLATE
from packlore.pack.values import visible

MAX_SKILL = 2_000
"""Tokens that SKILL.md stays under, whatever the number of rules."""
INDEX = "rules/_index.md"
"""Where `packlore build` lists the rules that SKILL.md has no room for."""
SHORTEST = 20
"""Characters of a line whose words tell that it stands as a template has it."""
MAX_DESCRIPTION = 1_024
"""Characters, by the Agent Skills specification."""
SKILL_FIELDS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
DOCUMENT_FIELDS = ("title", "category", "tags", "rules")

VERSION = re.compile(r"\d++\.\d++\.\d++\S*+")
_NAME = re.compile(r"^[a-z0-9]+(?:-[a-z0-9]+)*$")
_SPAN = re.compile(r"`[^`\n]*`")
_NAMED = re.compile(r"`([\w./-]+)`")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:")
_WORD = re.compile(r"[\w-]+")


Check = Callable[[Pack], Iterator[Problem]]


def lint(pack: Pack, also: Iterable[Check] = ()) -> tuple[Problem, ...]:
    """All problems of a pack, those of reading it first; by path and line within each check.
    `also` are the checks of those who read more out of a pack than this package does."""
    found = (*pack.problems, *(each for check in (*CHECKS, *also) for each in check(pack)))
    return tuple(replace(each, message=visible(each.message)) for each in found)


def files(pack: Pack) -> Iterator[Problem]:
    """In rules/ lie rules and their detectors, and categories have the headings that are read as
    such."""
    known = {rule.id for rule in pack.rules}
    for file in pack.files:
        folder, _, name = file.path.partition("/")
        if folder == "rules" and not name.endswith(".md") and not name.startswith("_"):
            if not name.endswith(".yml"):
                message = "a rule is a file in rules/ that ends in .md, its detector one in .yml"
                yield Problem(file.path, 1, "not-a-rule", message)
            elif name.removesuffix(".yml") not in known:
                message = "a detector goes by the name of its rule, and there is no such rule"
                yield Problem(file.path, 1, "detector-rule", message)
        if file.path == "rules/_sections.md":
            for each in parse(file.data.decode("utf-8", "replace"), file.path).sections:
                if each.level > 1 and not section(each.title):
                    message = "no category: its heading is `## Title (id)`, id in lower case"
                    yield Problem(file.path, each.line, "section", message)


def related(pack: Pack) -> Iterator[Problem]:
    """What a rule or document names as a rule is one."""
    known = {rule.id for rule in pack.rules}
    named = [(rule.path, rule.related) for rule in pack.rules]
    named += [(document.path, document.rules) for document in pack.documents]
    for path, ids in named:
        for each in ids:
            if each not in known and each != "all":
                yield Problem(path, 1, "rule-unknown", f"names the rule {each!r}, which is none")


def documents(pack: Pack) -> Iterator[Problem]:
    """Each Markdown document says its title, category, tags and rules."""
    headers = {each.path: each for each in pack.documents if each.path.endswith(".md")}
    categories = {category.id for category in pack.categories} | {"all"}
    for path, document in headers.items():
        if document.kind == "skill":
            continue
        if not document.category or not document.tags or not document.rules:
            message = f"frontmatter lacks one of {', '.join(DOCUMENT_FIELDS)}"
            yield Problem(path, 1, "field-missing", message)
        elif document.category not in categories:
            yield Problem(path, 1, "category-unknown", f"unknown category {document.category!r}")


def checklists(pack: Pack) -> Iterator[Problem]:
    """Each item of a checklist names the rule or the file of the pack behind it, and an item names
    each rule. A pack may have no checklists; where it has some, a review goes by them alone."""
    known = {rule.id for rule in pack.rules} | {file.path for file in pack.files}
    named: set[str] = set()
    lists = [each for each in pack.documents if each.kind == "checklist"]
    for document in lists:
        for number, row in enumerate(document.text.split("\n"), start=document.line):
            if row.lstrip().startswith("- ["):
                found = known & set(_NAMED.findall(row))
                named |= found
                if not found:
                    message = "an item names no rule: end it with the rule's id in backticks, or "
                    message += "with the path of the file behind it"
                    yield Problem(document.path, number, "item-rule", message)
    for rule in pack.rules if lists else ():
        if rule.id not in named:
            message = f"no checklist has an item that names `{rule.id}`"
            yield Problem(rule.path, 1, "checklist-rule", message)


def templates(pack: Pack) -> Iterator[Problem]:
    """What still stands as the template has it is not filled in, which is a warning."""
    path = "rules/_template.md"
    own = next((file.data for file in pack.files if file.path == path), None)
    template = parse(TEMPLATE if own is None else own.decode("utf-8", "replace"), path)
    lines = _telling(template.body)
    for rule in pack.rules:
        same = [
            name
            for name in ("title", "impactDescription", "tags", "symptoms", "aliases")
            if template.frontmatter.get(name)
            and template.frontmatter[name] == rule.frontmatter.get(name)
        ]
        if same:
            yield Problem(rule.path, 1, "unfilled", f"as in the template: {', '.join(same)}")
        for number, row in enumerate(_without_code(rule.body).split("\n"), start=rule.body_line):
            if row.strip() in lines:
                yield Problem(rule.path, number, "unfilled", f"as in the template: {row.strip()}")


def _telling(body: str) -> set[str]:
    """The lines of a body that hold a sentence or a label, not a plain heading."""
    rows = (row.strip() for row in _without_code(body).split("\n"))
    return {row for row in rows if len(row) >= SHORTEST}


def links(pack: Pack) -> Iterator[Problem]:
    """A link to a file leads to one that is served."""
    served = {file.path for file in pack.files}
    texts = [(rule.path, rule.body, rule.body_line) for rule in pack.rules]
    texts += [(each.path, each.text, each.line) for each in pack.documents if each.sections]
    for path, text, first in texts:
        for number, row in enumerate(_without_code(text).split("\n"), start=first):
            for match in LINK.finditer(row):
                target = unquote(match["target"].partition("#")[0])
                if not target or _ADDRESS.match(target):
                    continue
                place = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
                if place not in served:
                    yield Problem(path, number, "link", f"leads to {target!r}, which is not served")


def skill(pack: Pack) -> Iterator[Problem]:
    """SKILL.md follows the Agent Skills specification, is short and names every rule, by itself or
    in the list that it links to."""
    data = next((file.data for file in pack.files if file.path == "SKILL.md"), None)
    if data is None:
        return
    text = data.decode("utf-8", "replace")
    if tokens(text) >= MAX_SKILL:
        message = f"{tokens(text)} tokens, and it stays under {MAX_SKILL:,}"
        yield Problem("SKILL.md", 1, "skill-length", message)
    given = pack.frontmatter
    for name in given:
        if name not in SKILL_FIELDS:
            listed = ", ".join(SKILL_FIELDS)
            yield Problem("SKILL.md", 1, "skill-field", f"{name} is none of {listed}")
    if not _NAME.match(pack.name) or len(pack.name) > 64:
        yield Problem("SKILL.md", 1, "skill-name", "name is not lower-case words with hyphens")
    if not 1 <= len(pack.description) <= MAX_DESCRIPTION:
        message = f"description has {len(pack.description)} characters, 1 to {MAX_DESCRIPTION}"
        yield Problem("SKILL.md", 1, "skill-description", message)
    if not VERSION.fullmatch(pack.version):
        message = 'metadata.version is no version such as "1.2.0"'
        yield Problem("SKILL.md", 1, "skill-version", message)
    listed = text
    if INDEX in (match["target"] for match in LINK.finditer(text)):
        data = next((file.data for file in pack.files if file.path == INDEX), b"")
        listed += "\n" + data.decode("utf-8", "replace")
    named = set(_WORD.findall(listed))
    for rule in pack.rules:
        if rule.id not in named and not _stands(rule.id, listed):
            message = f"does not name {rule.id}: between lines <!-- rules --> and <!-- /rules -->"
            yield Problem("SKILL.md", 1, "skill-rule", f"{message} `packlore build` lists all")


def _stands(rule_id: str, text: str) -> bool:
    """Whether an id that is more than one word stands in `text` by itself."""
    if _WORD.fullmatch(rule_id):
        return False
    return re.search(rf"(?<![\w-]){re.escape(rule_id)}(?![\w-])", text) is not None


def _without_code(text: str) -> str:
    """The text with its code blank, so that line numbers stay."""
    blank = FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
    return _SPAN.sub("", blank)


CHECKS: tuple[Check, ...] = (
    fields,
    files,
    names,
    ranges,
    related,
    body,
    documents,
    checklists,
    templates,
    links,
    skill,
)
