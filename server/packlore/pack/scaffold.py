"""What an author begins with: a whole pack of one rule, or one rule to fill in. Texts are in
starter.py; nothing here ever writes over a file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import yaml

from packlore.errors import BadArgumentError, NotFoundError, PackError
from packlore.pack.categories import prefix
from packlore.pack.model import Category, Pack, PackFile
from packlore.pack.starter import DETECTOR, EXAMPLE, EXAMPLE_ID, PROOF, SECTIONS, SKILL, TEMPLATE
from packlore.pack.write import refuse_links

TEMPLATE_FILE = "rules/_template.md"
PROOFS = "tests/proofs"
"""Where the proofs of a pack lie, if it has any. They are not served."""
PLACEHOLDER = "CATEGORY-NAME"
"""What the id of the new rule replaces in a template."""
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_DETECTOR = re.compile(r"rules/[^_].*\.yml")
_LANGUAGE = re.compile(rb"^language: *(\w+)", re.MULTILINE)
_FIELDS = {
    name: re.compile(rf"^{name}:[^\r\n]*", re.MULTILINE) for name in ("title", "category", "impact")
}
_TITLE = re.compile(r"^# [^\r\n]*", re.MULTILINE)
_HEADER = re.compile(r"\A---\r?\n.*?^---\r?$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class New:
    """Files to write, by path in the pack, and what their author does next, in this order."""

    files: Mapping[str, str]
    steps: tuple[str, ...]


def starter(name: str) -> New:
    """A pack of this name with one category, one rule and a template. BadArgumentError for a name
    that the Agent Skills specification does not take."""
    if not _ID.fullmatch(name) or len(name) > 64:
        raise BadArgumentError(
            f"the name {name[:80]!r} is not lower-case words with hyphens, up to 64 characters: "
            "give one with --name"
        )
    words = name.replace("-", " ")
    files = {
        "SKILL.md": SKILL.format(name=name, words=words, title=words.capitalize()),
        "rules/_sections.md": SECTIONS,
        TEMPLATE_FILE: TEMPLATE,
        f"rules/{EXAMPLE_ID}.md": EXAMPLE,
    }
    steps = (
        "say in SKILL.md's description what the rules are about and when to use them",
        "describe your categories in rules/_sections.md in place of the one that is there",
        "packlore new CATEGORY-NAME makes a rule to fill in",
    )
    return New(files, steps)


def new_rule(pack: Pack, folder: Path, name: str) -> New:
    """The rule `name`, and its proof and its detector where the pack in `folder` has such: from
    the pack's own templates, else from ours. NotFoundError for a category that the pack has not."""
    category = _category(pack, name)
    own = {
        file.path: file.data.decode("utf-8", "replace")
        for file in pack.files
        if file.path.startswith("rules/_template.")
    }
    rule = f"rules/{name}.md"
    files = {rule: filled(own.get(TEMPLATE_FILE, TEMPLATE), name, category)}
    steps = [f"{rule}: the title, and the blocks Incorrect and Correct"]
    if (folder / PROOFS).is_dir():
        refuse_links(folder, (f"{PROOFS}/_template.py",))
        proof = f"{PROOFS}/test_{name.replace('-', '_')}.py"
        files[proof] = _template(folder / PROOFS / "_template.py", PROOF).replace(PLACEHOLDER, name)
        steps.append(f"{proof}: what each block does with the same work; run it")
    detectors = [file for file in pack.files if _DETECTOR.fullmatch(file.path)]
    if detectors or "rules/_template.yml" in own:
        detector = f"rules/{name}.yml"
        text = own.get("rules/_template.yml") or DETECTOR.format(language=_language(detectors))
        files[detector] = text.replace(PLACEHOLDER, name)
        steps.append(f"{detector}: the code that breaks the rule, or remove it")
    steps.append(f"{rule}: all else, by what you saw: symptoms first, then why, then the rest")
    lists = [each.path for each in pack.documents if each.kind == "checklist"]
    if lists:
        fitting = [
            each.path
            for each in pack.documents
            if each.kind == "checklist" and each.category in (category.id, "all")
        ]
        steps.append(f"{(fitting or lists)[0]}: an item that ends with `{name}`")
    return New(files, tuple(steps))


def write(folder: Path, files: Mapping[str, str], also: tuple[str, ...] = ()) -> None:
    """Write new files into `folder`. PackError, and nothing written, where one of them or of
    `also` is there already or lies behind a link."""
    for name in (*files, *also):
        if os.path.lexists(folder / name):
            raise PackError(f"{folder / name} is there already: nothing was written")
        for parent in (folder / name).parents:
            if parent.exists() and not parent.is_dir():
                raise PackError(f"{parent} is no folder: nothing was written")
    refuse_links(folder, (*files, *also))
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(text.encode())


def filled(template: str, name: str, category: Category) -> str:
    """A template with what is known of the rule `name`: its id, category, impact and, from its
    name, a title to begin with. A field that the template lacks is not added."""
    words = name.removeprefix(f"{category.id}-").replace("-", " ").capitalize()
    title = words if yaml.safe_load(words) == words else json.dumps(words)
    header = _HEADER.search(template)
    head, body = (header[0], template[header.end() :]) if header else ("", template)
    known = {"title": title, "category": category.id}
    if category.impact:
        known["impact"] = category.impact.label
    for field, value in known.items():
        head = _FIELDS[field].sub(lambda _: f"{field}: {value}", head)  # noqa: B023 used at once
    body = _TITLE.sub(f"# {words}", body, count=1)
    return (head + body).replace(PLACEHOLDER, name)


def _category(pack: Pack, name: str) -> Category:
    known = {category.id: category for category in pack.categories}
    if not _ID.fullmatch(name):
        raise BadArgumentError(f"{name[:80]!r} is not lower-case words with hyphens")
    found = prefix(name, known)
    if found not in known:
        near = get_close_matches(found, known, n=3, cutoff=0.5)
        listed = f"nearest: {', '.join(near)}; " if near else ""
        there = ", ".join(known) or "none: describe one in rules/_sections.md"
        raise NotFoundError(f"no category {found[:80]!r}; {listed}there are: {there}")
    if name == found:
        raise BadArgumentError(f"{name} is a category: give CATEGORY-NAME, such as {name}-example")
    return known[found]


def _template(path: Path, otherwise: str) -> str:
    return path.read_bytes().decode("utf-8", "replace") if path.is_file() else otherwise


def _language(detectors: list[PackFile]) -> str:
    """What the pack's detectors read, by the first that says it."""
    for file in detectors:
        if found := _LANGUAGE.search(file.data):
            return found[1].decode()
    return "python"
