"""What each tool and prompt is called, takes and answers: plain functions over a library.

Every token of a name, a description or a schema here is paid by every session of every client.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from packlore import answers, render
from packlore.check import report
from packlore.errors import BadArgumentError, NotFoundError
from packlore.find import Entry
from packlore.library import MAX_LIMIT, Library
from packlore.pack import visible
from packlore.serve import review

MAX_IDS = 20
"""Items of one read."""
MAX_CATEGORIES = 20
"""Categories of one prompt."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` is what an agent reads. `data` says the same to a program: names, levels, scores and
    costs, without repeating the text."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


class Tools:
    """The tools over a library. Errors are PackErrors that say what would be accepted."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def check_code(
        self,
        code: str = "",
        paths: Annotated[list[str] | None, Field(description="Files to check instead")] = None,
    ) -> Answer:
        """Check code that you wrote: what breaks a rule, with its line, and the worst's rule."""
        if bool(code.strip()) == bool(paths):
            raise BadArgumentError("give code or paths, one of them")
        if paths:
            found = review.of_files(self.library, paths, Path.cwd())
        else:
            found = review.of_code(self.library, code)
        rows = [report.row(each) for each in found.findings[: render.MAX_ROWS]]
        return Answer(review.shown(self.library, found), {"findings": rows})

    def find_rules(
        self,
        query: Annotated[str, Field(description="Error message, code, task or words")],
        category: str = "",
        min_impact: Annotated[str, Field(description="LOW to CRITICAL")] = "",
        tag: str = "",
        kind: Annotated[str, Field(description="rule, reference, example, checklist, asset")] = "",
        pack: str = "",
        limit: int = 5,
    ) -> Answer:
        """Find proven rules. The best comes in brief, others as one line with id and tokens."""
        given = {
            "category": category,
            "impact": min_impact,
            "tag": tag,
            "kind": kind,
            "pack": pack,
        }
        found = self.library.search(query, limit=limit, **given)
        text = answers.hits(self.library, query, found, self.library.where(**given))
        return Answer(text, {"hits": answers.hit_rows(self.library, found)})

    def read_rules(
        self,
        ids: Annotated[list[str], Field(description="Ids, paths or URIs of rules and documents")],
        brief: Annotated[bool, Field(description="Without the wrong example and links")] = False,
    ) -> Answer:
        """Read rules, references, examples, checklists or assets."""
        if not 1 <= len(ids) <= MAX_IDS:
            raise BadArgumentError(f"{len(ids)} ids: give 1 to {MAX_IDS}")
        entries, missing = self._read(ids)
        show = render.in_brief if brief else render.whole
        text = "\n".join([*missing, show(self.library, entries)])
        data: dict[str, Any] = {"items": render.item_rows(self.library, entries)}
        return Answer(text, data | ({"missing": missing} if missing else {}))

    def _read(self, ids: Sequence[str]) -> tuple[list[Entry], list[str]]:
        """What there is, each once, and a line for each id that there is not. NotFoundError where
        there is none of them."""
        entries: dict[tuple[str, str], Entry] = {}
        missing: list[str] = []
        for each in dict.fromkeys(ids):
            try:
                entry = self.library.get(each)
            except NotFoundError as error:
                missing.append(f"Missing: {error}")
            else:
                entries.setdefault((entry.pack, entry.item.path), entry)
        if not entries:
            raise NotFoundError("\n".join(missing))
        return list(entries.values()), missing

    def load_category(
        self,
        category: str,
        whole: Annotated[bool, Field(description="Whole rules, not brief ones")] = False,
        pack: str = "",
    ) -> Answer:
        """Load all rules of a category, before work on its topic."""
        entries = self.library.category(category, pack)
        show = render.whole if whole else render.in_brief
        return Answer(
            show(self.library, entries), {"items": render.item_rows(self.library, entries)}
        )

    def list_rules(self, category: str = "", pack: str = "") -> Answer:
        """List categories, rules and documents with their costs."""
        return Answer(render.catalogue(self.library, category=category, pack=pack))


LOCAL = {"check_code": ("paths",)}
"""Arguments that a server takes over stdio alone: over HTTP the working folder is not the
caller's."""
TOOLS: Mapping[str, Callable[..., Answer]] = {
    "find_rules": Tools.find_rules,
    "read_rules": Tools.read_rules,
    "load_category": Tools.load_category,
    "list_rules": Tools.list_rules,
    "check_code": Tools.check_code,
}


class Prompts:
    """The prompts over a library; each answers with the text of one user message."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def review_code(self, category: str, code: str = "") -> str:
        """Review code against the checklists of one or several categories."""
        whole = "\n".join(map(self._basis, self._categories(category)))
        basis = render.cut(whole, render.MAX_ANSWER)
        subject = f"this code:\n\n{visible(code)}\n" if code else "the code at hand."
        return (
            f"Review {subject}\nCheck each item below. Report only what the code breaks: the line, "
            f"the rule's id and the change. Read a rule with read_rules before you cite it.\n\n"
            f"{basis}"
        )

    def plan_work(self, category: str, task: str = "") -> str:
        """Plan work with the rules of one or several categories, those that fit the task first."""
        entries = [each for name in self._categories(category) for each in self._ranked(name, task)]
        subject = f"this task: {visible(task)}\n" if task else "the task at hand."
        return (
            f"Plan {subject}\nName for each step the rule that it must obey, and read that rule "
            f"with read_rules before writing the code.\n\n{render.lines(self.library, entries)}"
        )

    def _categories(self, names: str) -> list[str]:
        """The ids of categories that are given with commas, or with spaces, between them."""
        with suppress(NotFoundError):  # a name of one may hold what stands between several
            return [self.library.category_id(names)]
        whole = [each.strip() for each in names.split(",") if each.strip()] or [names]
        if len(whole) > MAX_CATEGORIES:
            raise BadArgumentError(f"{len(whole)} categories: give 1 to {MAX_CATEGORIES}")
        try:
            return list(dict.fromkeys(map(self.library.category_id, whole)))
        except NotFoundError:
            parts = [each for name in whole for each in name.split()]
            if not len(whole) < len(parts) <= MAX_CATEGORIES:
                raise
            return list(dict.fromkeys(map(self.library.category_id, parts)))

    def _basis(self, category: str) -> str:
        """The checklists of a category; where it has none, its rules in one line each."""
        checklists = [
            entry
            for entry in self.library.documents()
            if entry.item.category == category and entry.kind == "checklist"
        ]
        if checklists:
            return render.whole(self.library, checklists)
        return render.lines(self.library, self.library.category(category))

    def _ranked(self, category: str, task: str) -> list[Entry]:
        """All rules of a category: those that fit the task, best first, then the others by
        impact."""
        rules = self.library.category(category)
        if not task.strip():
            return rules
        found = self.library.search(task, category=category, kind="rule", limit=MAX_LIMIT)
        first = {(hit.pack, hit.item.id): number for number, hit in enumerate(found)}
        return sorted(rules, key=lambda each: first.get((each.pack, each.item.id), len(first)))


PROMPTS: Mapping[str, Callable[..., str]] = {
    "review_code": Prompts.review_code,
    "plan_work": Prompts.plan_work,
}


def complete(library: Library, argument: str, value: str) -> list[str]:
    """The categories that begin with `value`; the other arguments of prompts are free text."""
    known = library.categories if argument == "category" else ()
    return [each for each in known if each.lower().startswith(value.lower())]


def description(name: str, library: Library) -> str:
    """What a tool says of itself at the start of a server. Of categories it says what they cost,
    for an agent must decide before it loads one."""
    said = inspect.getdoc(TOOLS[name]) or ""
    if name != "load_category":
        return said
    costs: Counter[str] = Counter()
    for entry in library.rules():
        costs[entry.item.category] += entry.item.cost
    told = [f"{each} {costs[each] / 1000:.1f}k" for each in list(library.categories)[:12]]
    return f"{said} Costs at most, in tokens: {', '.join(told)}." if told else said


def instructions(library: Library) -> str:
    """What a server tells an agent at its start: when to ask, in a few lines."""
    packs = ", ".join(list(library.packs)[:8])
    categories = ", ".join(list(library.categories)[:12])
    return (
        f"Rules of {packs}: {categories}. Call find_rules with the error text, the code or the "
        "task before you write or fix such code, and obey the rule that it gives. It says so when "
        "no rule fits."
    )
