"""Packs and their index: what a caller can ask for, whoever calls."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from packlore.errors import BadArgumentError, NotFoundError
from packlore.find import Entry, Filter, Hit, Index, is_code, model
from packlore.pack import KINDS, Category, Document, Impact, Kind, Pack, Rule, read

if TYPE_CHECKING:
    from packlore.check import Detectors
    from packlore.names import Names
    from packlore.project import Project

SEEN = {"error": 0.95, "warning": 0.85}
"""The score of a rule that a detector saw to be broken, by its level."""
MAX_LIMIT = 20
"""Hits of one search; more is what a category is for."""


class Library:
    """The snapshot of some packs. `packs` maps a unique key to each: its name where no other pack
    has that name, else its folder."""

    def __init__(self, packs: Sequence[Pack]) -> None:
        self.project: Project | None = None  # that of who asks, where it is known
        self.packs = dict(_keyed(packs))
        self._entries = tuple(
            entry
            for key, pack in self.packs.items()
            for entry in (
                *(Entry(key, rule) for rule in pack.rules),
                *(Entry(key, document) for document in pack.documents),
            )
        )

    @classmethod
    def open(cls, folders: Iterable[Path]) -> Library:
        """Read every pack in `folders`. NoPackError for a folder that has none."""
        return cls([pack for folder in folders for pack in read(folder)])

    @cached_property
    def index(self) -> Index:
        """Built at the first search; a list of tools does not wait for it."""
        known = {key: learnt for key, pack in self.packs.items() if (learnt := model.usable(pack))}
        return Index(self._entries, known)

    @cached_property
    def _names(self) -> Names:
        from packlore.names import Names  # a search asks for no name

        return Names(self.packs, self._entries)

    @property
    def roots(self) -> Mapping[str, str]:
        """The URI of each pack's folder, by its key."""
        return self._names.roots

    @cached_property
    def detectors(self) -> Detectors:
        """Those of all packs; they name their rules as `get` finds them."""
        from packlore.check import Detectors, detectors  # a search in words asks for no code

        return Detectors(
            tuple(
                replace(each, rule=f"{key}/{each.rule}") if len(self.packs) > 1 else each
                for key, pack in self.packs.items()
                for each in detectors(pack)[0]
            )
        )

    @cached_property
    def _tags(self) -> set[str]:
        return {tag.lower() for entry in self._entries for tag in entry.item.tags}

    @cached_property
    def digest(self) -> str:
        """What differs where a file of a pack does."""
        found = hashlib.sha256()
        for key, pack in self.packs.items():
            for file in pack.files:
                found.update(f"{key}/{file.path} {len(file.data)}\n".encode() + file.data)
        return found.hexdigest()

    def name(self, pack: str, item: Rule | Document) -> str:
        """What `get` finds the item by: its id, after its pack where there are several."""
        return item.id if len(self.packs) == 1 else f"{pack}/{item.id}"

    def search(
        self,
        query: str,
        *,
        category: str = "",
        impact: str = "",
        tag: str = "",
        kind: str = "",
        pack: str = "",
        limit: int = 5,
    ) -> tuple[Hit, ...]:
        """The best hits, best first; none where nothing fits. The filters are those of `where`."""
        if not query.strip():
            raise BadArgumentError("query is empty: give words, an error message or code")
        if not 1 <= limit <= MAX_LIMIT:
            raise BadArgumentError(f"limit is {limit}: give 1 to {MAX_LIMIT}")
        where = self.where(category=category, impact=impact, tag=tag, kind=kind, pack=pack)
        found = self.index.search(query, where, limit)
        seen = self._seen(query, where) if is_code(query) else []
        shown = {(hit.pack, hit.item.id) for hit in seen}
        return (*seen, *(hit for hit in found if (hit.pack, hit.item.id) not in shown))[:limit]

    def _seen(self, code: str, where: Filter) -> list[Hit]:
        """The rules that code breaks, the surest first; none where code cannot be checked."""
        from packlore.check import broken

        found = [(self.get(each.rule), each) for each in broken(code, self.detectors)]
        return [
            Hit(entry.pack, entry.item, SEEN[each.level.label], f"line {each.line}: {each.code}")
            for entry, each in found
            if where.admits(entry)
        ]

    def where(
        self, *, category: str = "", impact: str = "", tag: str = "", kind: str = "", pack: str = ""
    ) -> Filter:
        """What a hit must be; `impact` is the lowest wanted. PackError for what does not exist."""
        if tag and tag.lower() not in self._tags:
            raise NotFoundError(_unknown("tag", tag, sorted(self._tags)))
        return Filter(
            category=self.category_id(category) if category else "",
            impact=_impact(impact) if impact else None,
            tag=tag,
            kind=_kind(kind) if kind else None,
            pack=self.pack_key(pack) if pack else "",
        )

    def admits(self, where: Filter) -> bool:
        """Whether anything passes the filter."""
        return any(map(where.admits, self._entries))

    def nearest(self, query: str) -> Entry | None:
        """The rule that is nearest to a query which none fits, if any."""
        return self.index.nearest(query)

    def get(self, name: str) -> Entry:
        """The item of an id, a path or a URI. NotFoundError names the nearest known ones."""
        return self._names.get(name)

    def category(self, name: str, pack: str = "") -> list[Entry]:
        """The rules of a category, highest impact first."""
        wanted, key = self.category_id(name), self.pack_key(pack) if pack else ""
        found = [
            entry
            for entry in self.rules()
            if entry.item.category == wanted and key in ("", entry.pack)
        ]
        if not found:
            raise NotFoundError(f"{key} has no rules of the category {wanted}")
        return sorted(found, key=_by_impact)

    def rules(self) -> Iterator[Entry]:
        """All rules of all packs."""
        return (entry for entry in self._entries if isinstance(entry.item, Rule))

    def documents(self) -> Iterator[Entry]:
        """All documents of all packs."""
        return (entry for entry in self._entries if isinstance(entry.item, Document))

    @cached_property
    def categories(self) -> dict[str, Category]:
        """The categories that have rules, in their order; of one id, the first pack's."""
        used = {entry.item.category for entry in self.rules()}
        found: dict[str, Category] = {}
        for pack in self.packs.values():
            for category in pack.categories:
                if category.id in used:
                    found.setdefault(category.id, category)
        return found

    def category_id(self, name: str) -> str:
        """The id of a category given by id or title. NotFoundError names those that exist."""
        if (found := self._category_ids.get(name.strip().lower())) is None:
            raise NotFoundError(_unknown("category", name, self.categories))
        return found

    @cached_property
    def _category_ids(self) -> Mapping[str, str]:
        """The id of each category by its id and its title in lower case; the first has a name."""
        found: dict[str, str] = {}
        for each in self.categories.values():
            for called in (each.id, each.title):
                found.setdefault(called.strip().lower(), each.id)
        return found

    def pack_key(self, name: str) -> str:
        """The key of a pack. NotFoundError names those that exist."""
        if name in self.packs:
            return name
        keys = [key for key, pack in self.packs.items() if pack.name == name]
        if len(keys) > 1:
            raise NotFoundError(f"{name!r} is the name of several packs: {', '.join(keys[:20])}")
        if not keys:
            raise NotFoundError(_unknown("pack", name, self.packs))
        return keys[0]


def _keyed(packs: Sequence[Pack]) -> Iterator[tuple[str, Pack]]:
    names = Counter(pack.name for pack in packs)
    taken, numbers = set[str](), Counter[str]()  # how often a name was numbered
    for pack in packs:
        name = pack.folder or pack.name
        key = pack.name if names[pack.name] == 1 else name
        while key in taken:
            numbers[name] += 1
            key = f"{name}-{numbers[name] + 1}"
        taken.add(key)
        yield key, pack


def _by_impact(entry: Entry) -> tuple[int, str]:
    return (-entry.item.impact if isinstance(entry.item, Rule) else 0, entry.item.id)


def _impact(text: str) -> Impact:
    if (impact := Impact.parse(text)) is None:
        names = ", ".join(each.label for each in reversed(Impact))
        raise BadArgumentError(f"unknown impact {text[:80]!r}: one of {names}")
    return impact


def _kind(text: str) -> Kind:
    for kind in KINDS:
        if text.lower() in (kind, f"{kind}s"):
            return kind
    raise BadArgumentError(f"unknown kind {text[:80]!r}: one of {', '.join(KINDS)}")


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(name[:80].lower(), names, n=3, cutoff=0.5)
    listed = f"nearest: {', '.join(near)}; " if near else ""
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"no {what} {name[:80]!r}; {listed}there are: {shown or 'none'}"
