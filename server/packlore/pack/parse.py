"""Text to frontmatter, sections and fences with their lines. No I/O, and no opinion on a pack."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from packlore.pack.frontmatter import load
from packlore.pack.model import Example, Fence, Problem, Section

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_ODD_SPACE = re.compile(r"[\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_LABEL = re.compile(
    r"^\W*(?:(?P<wrong>incorrect|wrong|bad|avoid|never|not|don['\u2019]?t|(?:do|better|good) not"
    r"|anti-?pattern)|(?P<right>correct|right|good|better|do|preferred))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Parsed:
    """One Markdown file: what its frontmatter says, and its body from `body_line` on."""

    frontmatter: Mapping[str, object]
    body: str
    body_line: int
    problems: tuple[Problem, ...]

    @cached_property
    def _blocks(self) -> tuple[tuple[Section, ...], tuple[Example, ...]]:
        try:
            return _blocks(self.body, self.body_line)
        except Exception:  # noqa: BLE001 a body that no parser can read is text without headings
            return (), ()

    @property
    def sections(self) -> tuple[Section, ...]:
        """The headings of the body and what stands below each."""
        return self._blocks[0]

    @property
    def examples(self) -> tuple[Example, ...]:
        """The fences that are labelled as wrong or right."""
        return self._blocks[1]


def parse(text: str, path: str) -> Parsed:
    """Read one Markdown text; `path` only names it in problems. Never raises for bad content.

    >>> parse("---\\ntitle: T\\n---\\n# Head\\n", "rules/a.md").frontmatter
    {'title': 'T'}
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    header, body, body_line = _split(text)
    problems: list[Problem] = []
    frontmatter: Mapping[str, object] = {}
    if header is None:
        if text.startswith("---\n"):
            problems.append(
                Problem(path, 1, "frontmatter-open", "frontmatter has no closing `---` line")
            )
    else:
        frontmatter, problem = load(header, path)
        problems += [problem] if problem else []
    return Parsed(frontmatter, body, body_line, tuple(problems))


def _split(text: str) -> tuple[str | None, str, int]:
    """Header, body and the body's first line. A delimiter counts only on a line of its own."""
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return None, text, 1
    for number, line in enumerate(lines[1:], start=2):
        if line.rstrip() in ("---", "..."):
            return "\n".join(lines[1 : number - 1]), "\n".join(lines[number:]), number + 1
    return None, text, 1


@cache
def _markdown(*, tags: bool) -> MarkdownIt:
    from markdown_it import MarkdownIt

    # Blocks are all that is read: inline parsing would double the time, and definitions of links
    # take quadratic time where one is never closed.
    left_out = ["inline", "reference"] if tags else ["inline", "reference", "html_block"]
    return MarkdownIt("commonmark").disable(left_out)


def _has_odd_tag(lines: Sequence[str]) -> bool:
    """Whether a line has `<` and a space that is not ASCII. markdown-it takes it for the end of an
    attribute as well as for a part of its value: many in one tag take the cube of their number."""
    return any("<" in line and _ODD_SPACE.search(line) for line in lines)


def _blocks(body: str, first: int) -> tuple[tuple[Section, ...], tuple[Example, ...]]:
    lines = body.split("\n")
    found = _markdown(tags=not _has_odd_tag(lines)).parse(body)
    heads = [(i, t) for i, t in enumerate(found) if t.type == "heading_open" and t.map]
    starts = [t.map[0] for _, t in heads if t.map]
    sections: list[Section] = []
    fences: list[tuple[int, int, Fence]] = []
    examples: list[Example] = []
    of_section: tuple[bool, str, int] | None = None
    of_next: tuple[bool, str, int] | None = None
    for i, token in enumerate(found):
        if token.type == "inline":
            heading = found[i - 1].type == "heading_open"
            label = _label(token.content, heading=heading)
            placed_label = (*label, first + (token.map or [0])[0]) if label else None
            if heading:
                of_section, of_next = placed_label, None
            elif label:
                of_next = placed_label
        elif token.type == "fence" and token.map:
            start, end = token.map
            language = token.info.split()[0].lower() if token.info.split() else ""
            fence = Fence(language, token.content, first + start + 1)
            fences.append((start, end, fence))
            meant = of_next or of_section
            if meant:
                examples.append(Example(*meant, fence))
            of_next = None
    placed = [start for start, _, _ in fences]
    for n, (i, token) in enumerate(heads):
        start = starts[n]
        end = starts[n + 1] if n + 1 < len(starts) else len(lines)
        inside = fences[bisect_right(placed, start) : bisect_left(placed, end)]
        sections.append(
            Section(
                title=found[i + 1].content.strip(),
                level=int(token.tag[1:]),
                line=first + start,
                prose=_prose(lines, start + 1, end, inside),
                fences=tuple(fence for _, _, fence in inside),
            )
        )
    if not heads or starts[0] > 0:
        end = starts[0] if starts else len(lines)
        inside = fences[: bisect_left(placed, end)]
        prose = _prose(lines, 0, end, inside)
        if prose or inside:
            sections.insert(0, Section("", 0, first, prose, tuple(f for _, _, f in inside)))
    return tuple(sections), tuple(examples)


def _prose(lines: list[str], start: int, end: int, fences: list[tuple[int, int, Any]]) -> str:
    kept: list[str] = []
    for fence_start, fence_end, _ in fences:
        kept += lines[start:fence_start]
        start = fence_end
    return "\n".join(kept + lines[start:end]).strip()


def _label(text: str, *, heading: bool) -> tuple[bool, str] | None:
    """Whether `text` labels what follows as right or wrong, and the label without its marks."""
    if not heading and not text.lstrip("\u274c\u2705 ").startswith(("**", "__")):
        return None
    match = _LABEL.match(text)
    if not match:
        return None
    return match["right"] is not None, text.split("\n", maxsplit=1)[0].strip("*_:\u274c\u2705 ")
