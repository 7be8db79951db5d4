"""The line that a rule is handed out with where it does not hold for what is installed. Pure but
for the project that it asks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packlore.pack import Document, Rule, visible
from packlore.project.folder import Project
from packlore.project.locks import Known
from packlore.project.versions import (
    Range,
    Version,
    admits,
    admits_all,
    normal,
    ranged,
    shown,
)

MAX_SAID = 3
"""Packages of one rule that are named."""
MAX_SHOWN = 4
"""Versions of one package that are named."""
MAX_SENTENCE = 300
"""Characters of a sentence that is repeated."""
_BULLET = re.compile(r"^[-*] ", re.MULTILINE)
_END = re.compile(r"(?<=[.!?])\s+")
_SAID = re.compile(
    r"(?<![\w.`/-])(?P<name>[A-Za-z][\w.-]{0,60}+) (?:before (?P<before>\d[\d.]{0,20}+)"
    r"|(?P<first>\d[\d.]{0,20}+) to (?P<last>\d[\d.]{0,20}+)"
    r"|(?P<bound>\d[\d.]{0,20}+) (?:and|or) (?P<way>later|newer|earlier|older)\b)",
    re.ASCII,
)
"""A library with the versions that a sentence of an exception speaks of."""


def noted(text: str, item: Rule | Document, project: Project | None) -> str:
    """What is handed out of a rule, after its line."""
    said = note(item, project)
    return f"{said}\n\n{text}" if said else text


def note(rule: Rule | Document, project: Project | None) -> str:
    """What does not hold, in one line: what the rule applies to, what is there instead, and the
    sentence of the rule's exceptions that speaks of that version. Empty where all holds, and where
    nothing is known."""
    if project is None or not isinstance(rule, Rule):
        return ""
    wanted = {
        name: (library, versions)
        for library, given in rule.applies.items()
        if (name := normal(library)) and (versions := ranged(given))
    }
    if not wanted:
        return ""
    said: list[str] = []
    known = project.known(wanted)
    for name, (library, versions) in wanted.items():
        found = known.get(name)
        if found and not _fits(versions, found):
            there = f"Applies to {library} {shown(versions)}; {_there(versions, found)}."
            said.append(" ".join((there, *_excepted(rule, name, found))))
    return " ".join(said[:MAX_SAID])


def _pins(found: Known) -> list[Version]:
    return [version for each in found.versions if (version := Version.parse(each))]


def _fits(wanted: Range, found: Known) -> bool:
    pins = all(admits(wanted, each) for each in _pins(found))
    return pins and all(admits_all(wanted, each) for each in found.asked)


def _there(wanted: Range, found: Known) -> str:
    for asked in found.asked:
        if not admits_all(wanted, asked):
            return f"{found.file} asks for {shown(asked)}"
    listed = ", ".join(found.versions[:MAX_SHOWN])
    more = ", …" if len(found.versions) > MAX_SHOWN else ""
    return f"{found.file} has {'one of ' if len(found.versions) > 1 else ''}{listed}{more}"


def _excepted(rule: Rule, name: str, found: Known) -> Iterator[str]:
    """The first sentence of the exceptions that speaks of the version there, if one does."""
    pins = _pins(found)
    if not pins:
        return
    for sentence in _sentences(rule):
        for said in _SAID.finditer(sentence):
            if normal(said["name"]) == name and all(_spoken_of(said, each) for each in pins):
                yield visible(sentence)
                return


def _sentences(rule: Rule) -> Iterator[str]:
    for section in rule.sections:
        if section.title.lower().startswith("exception"):
            for bullet in _BULLET.split(section.prose):
                for each in _END.split(" ".join(bullet.split())):
                    if len(each) <= MAX_SENTENCE:
                        yield each


def _spoken_of(said: re.Match[str], version: Version) -> bool:
    first, last = (Version.parse((said[n] or "").rstrip(".")) for n in ("first", "last"))
    if first and last:  # `0.106 to 0.117` means 0.117.5, too
        return version.key >= first.key and (
            version.key <= last.key or version.begins(last, len(last.release))
        )
    bound = Version.parse((said["before"] or said["bound"] or "").rstrip("."))
    if bound is None:
        return False
    if said["before"]:
        return version.key < bound.key
    if said["way"] in ("later", "newer"):
        return version.key >= bound.key
    return version.key <= bound.key or version.begins(bound, len(bound.release))
