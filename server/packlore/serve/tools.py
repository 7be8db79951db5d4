"""What each tool and prompt is called, takes and answers: plain functions over a library.

Every token of a name, a description or a schema here is paid by every session of every client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from packlore import render
from packlore.errors import BadArgumentError
from packlore.library import Library

MAX_IDS = 20
"""Items of one read."""


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
        found = self.library.search(
            query,
            category=category,
            impact=min_impact,
            tag=tag,
            kind=kind,
            pack=pack,
            limit=limit,
        )
        text = render.hits(self.library, query, found)
        return Answer(text, {"hits": render.hit_rows(self.library, found)})

    def read_rules(
        self,
        ids: Annotated[list[str], Field(description="Ids or paths of rules and documents")],
        brief: Annotated[bool, Field(description="Without the wrong example and links")] = False,
    ) -> Answer:
        """Read rules, references, examples, checklists or assets."""
        if not 1 <= len(ids) <= MAX_IDS:
            raise BadArgumentError(f"{len(ids)} ids: give 1 to {MAX_IDS}")
        entries = [self.library.get(each) for each in dict.fromkeys(ids)]
        show = render.in_brief if brief else render.whole
        return Answer(
            show(self.library, entries), {"items": render.item_rows(self.library, entries)}
        )

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


TOOLS: Mapping[str, Callable[..., Answer]] = {
    "find_rules": Tools.find_rules,
    "read_rules": Tools.read_rules,
    "load_category": Tools.load_category,
    "list_rules": Tools.list_rules,
}


class Prompts:
    """The prompts over a library; each answers with the text of one user message."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def review_code(self, category: str, code: str = "") -> str:
        """Review code against the checklist of a category."""
        wanted = self.library.category_id(category)
        checklists = [
            entry
            for entry in self.library.documents()
            if entry.item.category == wanted and entry.kind == "checklist"
        ]
        basis = (
            render.whole(self.library, checklists)
            if checklists
            else render.lines(self.library, self.library.category(wanted))
        )
        subject = f"this code:\n\n{code}\n" if code else "the code at hand."
        return (
            f"Review {subject}\nCheck each item below. Report only what the code breaks: the line, "
            f"the rule's id and the change. Read a rule with read_rules before you cite it.\n\n"
            f"{basis}"
        )

    def plan_work(self, category: str, task: str = "") -> str:
        """Plan work with the rules of a category."""
        entries = self.library.category(category)
        subject = f"this task: {task}\n" if task else "the task at hand."
        return (
            f"Plan {subject}\nName for each step the rule that it must obey, and read that rule "
            f"with read_rules before writing the code.\n\n{render.lines(self.library, entries)}"
        )


PROMPTS: Mapping[str, Callable[..., str]] = {
    "review_code": Prompts.review_code,
    "plan_work": Prompts.plan_work,
}


def complete(library: Library, argument: str, value: str) -> list[str]:
    """The categories that begin with `value`; the other arguments of prompts are free text."""
    known = library.categories if argument == "category" else ()
    return [each for each in known if each.lower().startswith(value.lower())]


def instructions(library: Library) -> str:
    """What a server tells an agent at its start: when to ask, in a few lines."""
    packs = ", ".join(list(library.packs)[:8])
    categories = ", ".join(list(library.categories)[:12])
    return (
        f"Rules of {packs}: {categories}. Call find_rules with the error text, the code or the "
        "task before you write or fix such code, and obey the rule that it gives. It says so when "
        "no rule fits."
    )
