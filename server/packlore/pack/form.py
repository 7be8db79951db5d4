"""What a rule has in our own form: one function a check, each from a Pack to its Problems."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from packlore.pack.model import Impact, Pack, Problem, Rule

MAX_TITLE = 80
"""Characters."""
MAX_RULE = 1100
"""Tokens of a rule's body."""
FIELDS: Mapping[str, tuple[type, str]] = {
    "title": (str, "text"),
    "category": (str, "text"),
    "impact": (str, "text"),
    "impactDescription": (str, "text"),
    "tags": (list, "list"),
    "symptoms": (list, "list"),
    "aliases": (list, "list"),
    "applies": (dict, "mapping of a library to its versions"),
    "related": (list, "list"),
}
HEADINGS = ("Incorrect", "Correct", "Exceptions", "References")

# Bounded and without a way back: a line of brackets would take quadratic time.
LINK = re.compile(r"\[[^\[\]]{0,1000}+\]\(\s{0,9}+<?(?P<target>[^)\s>]{1,1000}+)>?[^)]{0,300}+\)")
_RANGE = re.compile(
    r"^(?:[<>]=?|==|!=|~=)\s*\d+(?:\.\d+)*(?:\s*,\s*(?:[<>]=?|==|!=|~=)\s*\d+(?:\.\d+)*)*$"
)


def fields(pack: Pack) -> Iterator[Problem]:
    """Each rule has each field, of its type, and no other. An empty list of tags, aliases or
    versions is a warning: the rule is harder to find, or nobody knows when it holds."""
    unread = _unread(pack)
    for rule in pack.rules:
        given = rule.frontmatter
        for name, (kind, called) in FIELDS.items():
            if name not in given:
                if rule.path not in unread:
                    yield Problem(rule.path, 1, "field-missing", f"frontmatter lacks {name}")
            elif not isinstance(given[name], kind):
                yield Problem(rule.path, 1, "field-type", f"{name} is no {called}")
        for name in given:
            if name not in FIELDS:
                listed = ", ".join(FIELDS)
                yield Problem(rule.path, 1, "field-unknown", f"{name} is none of {listed}")
        for name in ("tags", "aliases", "applies"):
            if name in given and not given[name]:
                yield Problem(rule.path, 1, "field-empty", f"{name} is empty")
        if "impactDescription" in given and not given["impactDescription"]:
            message = "impactDescription is empty: say what goes wrong"
            yield Problem(rule.path, 1, "impact-description", message)


def _unread(pack: Pack) -> set[str]:
    """The files whose frontmatter could not be read: what it lacks is not known."""
    return {each.path for each in pack.problems if each.code.startswith("frontmatter-")}


def names(pack: Pack) -> Iterator[Problem]:
    """A rule's category begins its file name; its impact is a level; its title is short, or that
    is a warning."""
    unread = _unread(pack)
    for rule in pack.rules:
        if rule.path in unread:
            continue
        if not rule.id.startswith(f"{rule.category}-"):
            message = f"the file name does not begin with its category {rule.category!r}"
            yield Problem(rule.path, 1, "file-name", message)
        if Impact.parse(str(rule.frontmatter.get("impact", ""))) is None:
            levels = ", ".join(level.label for level in reversed(Impact))
            yield Problem(rule.path, 1, "impact", f"impact is none of {levels}")
        if len(rule.title) > MAX_TITLE:
            message = f"the title has {len(rule.title)} characters, at most {MAX_TITLE}"
            yield Problem(rule.path, 1, "title-length", message)


def ranges(pack: Pack) -> Iterator[Problem]:
    """Each version range in `applies` is one, such as `>=2.0`."""
    for rule in pack.rules:
        for library, versions in rule.applies.items():
            if not _RANGE.match(versions):
                message = f"applies: {library}: {versions!r} is no range such as >=2.0"
                yield Problem(rule.path, 1, "applies", message)


def body(pack: Pack) -> Iterator[Problem]:
    """A rule's body: its title, why, Incorrect, Correct, Exceptions, References; one block each. A
    block that names no language is a warning."""
    for rule in pack.rules:
        yield from _body(rule)


def _body(rule: Rule) -> Iterator[Problem]:
    if rule.cost > MAX_RULE:
        message = f"{rule.cost} tokens, at most {MAX_RULE}"
        yield Problem(rule.path, rule.body_line, "rule-length", message)
    if not rule.sections:
        yield Problem(rule.path, rule.body_line, "headings", "no headings")
        return
    first, *others = rule.sections
    if first.level != 1 or first.title != rule.title:
        message = "the body does not begin with the title as its heading"
        yield Problem(rule.path, first.line, "title-heading", message)
    if not first.prose:
        yield Problem(rule.path, first.line, "why", "no sentences say why")
    found = [section.title.partition(":")[0].strip() for section in others]
    if tuple(found) != HEADINGS or any(section.level != 2 for section in others):
        message = f"the headings are {', '.join(found) or 'none'}, not {', '.join(HEADINGS)}"
        yield Problem(rule.path, first.line, "headings", message)
        return
    for section in others[:2]:
        if len(section.fences) != 1:
            message = f"{section.title!r} has {len(section.fences)} blocks, not one"
            yield Problem(rule.path, section.line, "blocks", message)
        for fence in section.fences:
            if not fence.language:
                yield Problem(rule.path, fence.line - 1, "language", "a block names no language")
    if ":" not in others[0].title:
        message = "the heading does not say what happens: `## Incorrect: what happens`"
        yield Problem(rule.path, others[0].line, "label", message)
    if not LINK.search(others[3].prose):
        yield Problem(rule.path, others[3].line, "references", "no link to documentation")
