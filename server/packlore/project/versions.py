"""Versions and ranges of them, by PEP 440. No I/O.

Not `packaging`: nothing else that the server installs needs it, and of it we would use this much.
The tests compare the two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_VERSION = re.compile(
    r"v?(?:(?P<epoch>\d{1,6})!)?(?P<release>\d{1,12}(?:\.\d{1,12}){0,12})"
    r"(?:[-_.]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pre_n>\d{1,12})?)?"
    r"(?P<post>-\d{1,12}|[-_.]?(?:post|rev|r)[-_.]?(?:\d{1,12})?)?"
    r"(?:[-_.]?(?P<dev>dev)[-_.]?(?P<dev_n>\d{1,12})?)?"
    r"(?:\+[a-z\d]{1,40}(?:[-_.][a-z\d]{1,40}){0,9})?",
    re.IGNORECASE | re.ASCII,
)
_CLAUSE = re.compile(r"(===|[<>=!~]=|[<>^~]|)\s?(\d[\w.!+*-]{0,60})", re.ASCII)
_NAME = re.compile(r"[a-z\d](?:[a-z\d._-]{0,80}[a-z\d])?", re.IGNORECASE | re.ASCII)
_RUN = re.compile(r"[-_.]+")
MAX_RANGE = 100
"""Characters of a range; a longer one is taken for none."""
_PRE = {"a": 0, "alpha": 0, "b": 1, "beta": 1}
_NEVER = 10**15
"""Sorts after every number of a version."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version that can be compared by `key`, which leaves out a local part such as `+cpu`."""

    epoch: int
    release: tuple[int, ...]
    key: tuple[object, ...]
    early: bool
    post: bool

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """The version that a text is, in any spelling of PEP 440; None for what is none."""
        found = _VERSION.fullmatch(text)
        if found is None:
            return None
        release = tuple(map(int, found["release"].split(".")))
        short = release
        while len(short) > 1 and not short[-1]:
            short = short[:-1]
        pre, post, dev = found["pre"], found["post"], found["dev"]
        if pre:
            first = (_PRE.get(pre.lower(), 2), int(found["pre_n"] or 0))
        else:
            first = (-1, 0) if dev and post is None else (3, 0)
        after = -1 if post is None else int("".join(filter(str.isdigit, post)) or 0)
        before = int(found["dev_n"] or 0) if dev else _NEVER
        epoch = int(found["epoch"] or 0)
        return cls(
            epoch,
            release,
            (epoch, short, first, after, before),
            early=bool(pre or dev),
            post=post is not None,
        )

    def begins(self, other: Version, parts: int) -> bool:
        """Whether the first numbers of both are the same, as `== 2.0.*` asks."""
        own = (*self.release, *(0,) * parts)[:parts]
        return self.epoch == other.epoch and own == (*other.release, *(0,) * parts)[:parts]


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition of a range. `every` stands for the `.*` of `== 2.0.*`."""

    sign: str
    version: Version
    every: bool
    text: str

    def holds(self, version: Version) -> bool:
        """Whether the version fulfils it."""
        bound, key = self.version, version.key
        if self.every:
            begins = version.begins(bound, len(bound.release))
            return not begins if self.sign == "!=" else begins
        match self.sign:
            case ">=" | "^" | "~":
                return key >= bound.key
            case "<=":
                return key <= bound.key
            case ">":
                return key > bound.key and not (
                    key[:3] == bound.key[:3] and version.post and not bound.post
                )
            case "<":
                return key < bound.key and not (
                    key[:2] == bound.key[:2] and version.early and not bound.early
                )
            case "!=":
                return key != bound.key
            case "~=":
                return key >= bound.key and version.begins(bound, len(bound.release) - 1)
        return key == bound.key


Range = tuple[Clause, ...]
"""Conditions that must all hold."""


def ranged(text: str, bare: str = "") -> Range:
    """The range in a text such as `>=2.0,<3`; empty for what is none, or holds for all. `bare` is
    the sign of a version that has none, as poetry writes it; else there must be one."""
    found: list[Clause] = []
    if len(text) > MAX_RANGE:
        return ()
    for part in text.split(","):
        clause = _CLAUSE.fullmatch(part.strip())
        if clause is None:
            return ()
        sign, number = clause[1] or bare, clause[2]
        every = number.endswith(".*")
        version = Version.parse(number.removesuffix(".*"))
        if not sign or version is None or (every and sign not in ("==", "!=")):
            return ()
        found.append(Clause(sign, version, every, f"{sign}{number}"))
    return tuple(found)


def shown(wanted: Range) -> str:
    """The range as one text of plain characters."""
    return ",".join(each.text for each in wanted)


def admits(wanted: Range, version: Version) -> bool:
    """Whether a version is in a range."""
    return all(each.holds(version) for each in wanted)


def admits_all(wanted: Range, asked: Range) -> bool:
    """Whether what is asked for begins in a range: its least version is in it, or else, where it
    has none, it does not end before the range begins."""
    least = _least(asked)
    if least:
        return admits(wanted, least)
    first = _least(wanted)
    ends = tuple(each for each in asked if each.sign in ("<", "<="))
    return first is None or admits(ends, first)


def _least(wanted: Range) -> Version | None:
    least = [each.version for each in wanted if each.sign not in ("<", "<=", "!=", ">")]
    return max(least, key=lambda each: each.key) if least else None


def normal(name: str) -> str:
    """A package's name as PEP 503 compares it; empty for what is no name."""
    return _RUN.sub("-", name).lower() if _NAME.fullmatch(name) else ""
