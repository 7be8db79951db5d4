"""Text to frontmatter, sections and fences with their lines. No I/O, and no opinion on a pack."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import yaml

from packlore.pack.model import Example, Fence, Problem, Section

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

MAX_FRONTMATTER = 64 * 1024
"""Bytes; the largest of 2,700 public skill files has 9,000."""
MAX_DEPTH = 32
"""Lists and mappings within each other; C code reads them by recursion and would overflow."""
_INDENTED = re.compile(rf"^[ \t?-]{{{MAX_DEPTH}}}", re.MULTILINE)

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
        return _blocks(self.body, self.body_line)

    @property
    def sections(self) -> tuple[Section, ...]:
        """The headings of the body and what stands below each."""
        return self._blocks[0]

    @property
    def examples(self) -> tuple[Example, ...]:
        """The fences that are labelled as wrong or right."""
        return self._blocks[1]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML without dates: a `date` is no JSON, and hosts compare frontmatter as JSON."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """YAML forbids a field that stands twice; PyYAML takes the last."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                message = f"{key.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


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
        frontmatter, problem = _load(header, path)
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


def _load(header: str, path: str) -> tuple[Mapping[str, object], Problem | None]:
    if len(header.encode()) > MAX_FRONTMATTER:
        limit = f"frontmatter is over {MAX_FRONTMATTER} bytes: move text into the body"
        return {}, Problem(path, 1, "frontmatter-size", limit)
    try:
        brackets = header.count("[") + header.count("{")
        if "*" in header or brackets > MAX_DEPTH or _INDENTED.search(header):
            _refuse_what_grows(header)
        loaded = yaml.load(header, Loader=_Loader)  # noqa: S506 a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line if error.problem_mark else 0) + 2
        return {}, Problem(path, line, "frontmatter-yaml", f"broken YAML: {error.problem}")
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        # PyYAML lets through what its constructors stumble over, as for `!!bool maybe`.
        reason = " ".join(str(error).split())[:200]
        return {}, Problem(path, 2, "frontmatter-yaml", f"broken YAML: {reason}")
    if loaded is None:
        return {}, None
    if not isinstance(loaded, dict):
        return {}, Problem(path, 2, "frontmatter-yaml", "frontmatter is not a mapping of fields")
    return {str(key): _plain(value) for key, value in loaded.items()}, None


def _refuse_what_grows(header: str) -> None:
    """MarkedYAMLError for aliases, whose values may grow without bound, and for great depth."""
    depth = 0
    for event in yaml.parse(header, Loader=_Loader):
        depth += isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent))
        depth -= isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent))
        if isinstance(event, yaml.AliasEvent):
            message = "an alias: write its value out"
        elif depth > MAX_DEPTH:
            message = f"more than {MAX_DEPTH} lists and mappings within each other"
        else:
            continue
        raise yaml.MarkedYAMLError(None, None, message, event.start_mark)  # type: ignore[arg-type]


def _plain(value: object) -> object:
    """The value as JSON can carry it."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # NaN and infinity are no JSON
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # Blocks are all that is read; inline parsing would double the time.
    return MarkdownIt("commonmark").disable("inline")


def _blocks(body: str, first: int) -> tuple[tuple[Section, ...], tuple[Example, ...]]:
    lines = body.split("\n")
    found = _markdown().parse(body)
    heads = [(i, t) for i, t in enumerate(found) if t.type == "heading_open" and t.map]
    starts = [t.map[0] for _, t in heads if t.map]
    sections: list[Section] = []
    fences: list[tuple[int, int, Fence]] = []
    examples: list[Example] = []
    of_section: tuple[bool, str] | None = None
    of_next: tuple[bool, str] | None = None
    for i, token in enumerate(found):
        if token.type == "inline":
            label = _label(token.content, heading=found[i - 1].type == "heading_open")
            if found[i - 1].type == "heading_open":
                of_section, of_next = label, None
            elif label:
                of_next = label
        elif token.type == "fence" and token.map:
            start, end = token.map
            language = token.info.split()[0].lower() if token.info.split() else ""
            fence = Fence(language, token.content, first + start + 1)
            fences.append((start, end, fence))
            meant = of_next or of_section
            if meant:
                examples.append(Example(meant[0], meant[1], fence))
            of_next = None
    for n, (i, token) in enumerate(heads):
        start = starts[n]
        end = starts[n + 1] if n + 1 < len(starts) else len(lines)
        inside = [each for each in fences if start < each[0] < end]
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
        inside = [each for each in fences if each[0] < end]
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
