"""What the rules and documents of packs go by: ids, paths and URIs, in whatever form they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import islice
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

from packlore.errors import NotFoundError
from packlore.find import Entry
from packlore.pack import SERVED_FOLDERS, Document, Pack, Rule

SCHEME = "skill://"
MAX_COMPARED = 1_000
"""Ids that an unknown name is compared with."""
ALIKE = 3
"""Letters that they begin with, where there are more."""
MAX_NAME = 4_096
"""Characters of a name that is looked up, as of a path."""
MAX_SHOWN = 80
"""Characters of a name that is repeated in an error."""


class Names:
    """Every name of every item. `roots` has the URI of each pack's folder by the pack's key."""

    def __init__(self, packs: Mapping[str, Pack], entries: Iterable[Entry]) -> None:
        self.roots = {key: f"{SCHEME}{path}" for key, path in _paths(packs)}
        self._several = len(packs) > 1
        self._known: dict[str, list[Entry]] = {}
        self._ids: dict[str, Entry] = {}
        for entry in entries:
            item = entry.item
            self._ids.setdefault(item.id.lower(), entry)
            names = dict.fromkeys((item.id, item.path, item.path.removesuffix(".md")))
            root = self.roots[entry.pack].removeprefix(SCHEME)
            for name in names:
                for place in dict.fromkeys(("", f"{entry.pack}/", f"{unquote(root)}/")):
                    self._known.setdefault(f"{place}{name}".lower(), []).append(entry)

    def get(self, name: str) -> Entry:
        """The item of an id, a path or a URI. NotFoundError names the nearest known ones."""
        forms = _forms(name) if len(name) <= MAX_NAME else ()
        found = next(filter(None, map(self._known.get, forms)), None)
        if not found:
            shown = name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}…"
            near = self._nearest(name[:MAX_NAME].strip().lower()[:MAX_SHOWN])
            hint = (
                f"nearest: {', '.join(near)}"
                if near
                else "list_rules (or `packlore list`) names what there is"
            )
            raise NotFoundError(f"no rule or file {shown!r}; {hint}")
        exact = [each for each in found if name in (each.item.id, f"{each.pack}/{each.item.id}")]
        found = exact or found  # names that differ in their case alone
        if len({entry.item.path if len(found) == 1 else _text(entry.item) for entry in found}) > 1:
            names = ", ".join(f"{entry.pack}/{entry.item.id}" for entry in found[:5])
            raise NotFoundError(f"{name!r} is in several packs: ask for one of {names}")
        return found[0]

    def _nearest(self, wanted: str) -> list[str]:
        """The ids that look most like `wanted`. Of many only those are compared that begin as it
        does: a comparison takes a hundredth of a millisecond."""
        name = wanted.rpartition("/")[2].removesuffix(".md")
        ids: Collection[str] = self._ids
        if len(ids) > MAX_COMPARED:
            alike = (each for each in ids if each.startswith((wanted[:ALIKE], name[:ALIKE])))
            ids = list(islice(alike, MAX_COMPARED))
        near = [each for text in dict.fromkeys((name, wanted)) for each in _close(text, ids)]
        entries = (self._ids[each] for each in dict.fromkeys(near))
        return [
            f"{each.pack}/{each.item.id}" if self._several else each.item.id for each in entries
        ][:3]


def _close(text: str, names: Collection[str]) -> list[str]:
    return get_close_matches(text, names, n=3, cutoff=0.5)


def _forms(name: str) -> Iterator[str]:
    """The names that may be meant, the likeliest first: a path may come from the machine on which
    the pack is installed, with the folders above it."""
    text = name.strip()
    if text.lower().startswith(SCHEME):
        text = unquote(text[len(SCHEME) :])
    text = text.replace("\\", "/").lower()
    start = 0
    while text.startswith("./", start):
        start += 2
    text = text[start:].strip("/")
    yield text
    yield text.removesuffix(".md")
    parts = text.split("/")[-16:]
    for start, part in enumerate(parts):
        if start and part in (*SERVED_FOLDERS, "skill.md"):
            yield "/".join(parts[start:])


def _paths(packs: Mapping[str, Pack]) -> Iterator[tuple[str, str]]:
    """The key of each pack and the path of its skill; the last segment is the skill's name."""
    taken: set[str] = set()
    numbers: Counter[str] = Counter()  # how often each path was numbered, to begin with the next
    for key, pack in packs.items():
        parent = PurePosixPath(pack.folder).parent.parts if pack.folder else ()
        name = pack.name if pack.name.strip(".") else "pack"  # `..` would lead elsewhere
        path = wanted = _path(*parent, name)
        while path in taken:
            numbers[wanted] += 1
            path = _path(*parent, str(numbers[wanted] + 1), name)
        taken.add(path)
        yield key, path


def _path(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)


def _text(item: Rule | Document) -> str:
    return item.body if isinstance(item, Rule) else item.text
