"""The YAML of a frontmatter to plain values, whatever somebody wrote there. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from packlore.pack.model import Problem

MAX_FRONTMATTER = 64 * 1024
"""Bytes; the largest of 2,700 public skill files has 9,000."""
MAX_DEPTH = 32
"""Lists and mappings within each other; C code reads them by recursion and would overflow."""
MAX_NUMBER = 32
"""Characters of a number."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML without dates: a `date` is no JSON, and hosts compare frontmatter as JSON. A number that
    is longer than numbers are stays text: Python refuses to print one of 5,000 digits."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        text = self.construct_scalar(node)
        return text if len(text) > MAX_NUMBER else super().construct_yaml_int(node)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> Any:
        text = self.construct_scalar(node)
        return text if len(text) > MAX_NUMBER else super().construct_yaml_float(node)

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


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def documents(text: str) -> Iterator[object]:
    """The documents of a YAML file, read as a frontmatter is. yaml.YAMLError where it is broken,
    nests too deep or has an alias; what PyYAML itself stumbles over raises what it raises."""
    _refuse_what_grows(text)
    yield from yaml.load_all(text, Loader=_Loader)


def load(header: str, path: str) -> tuple[Mapping[str, object], Problem | None]:
    """The fields that stand between the two `---`, as JSON can carry them. Never raises."""
    if len(header.encode()) > MAX_FRONTMATTER:
        limit = f"frontmatter is over {MAX_FRONTMATTER} bytes: move text into the body"
        return {}, Problem(path, 1, "frontmatter-size", limit)
    try:
        _refuse_what_grows(header)
        loaded = yaml.load(header, Loader=_Loader)  # noqa: S506 a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line if error.problem_mark else 0) + 2
        return {}, Problem(path, line, "frontmatter-yaml", f"broken YAML: {error.problem}")
    except Exception as error:  # noqa: BLE001
        # PyYAML lets through what its constructors stumble over, as for `!!bool maybe`.
        reason = " ".join(str(error).split())[:200]
        return {}, Problem(path, 2, "frontmatter-yaml", f"broken YAML: {reason}")
    if loaded is None:
        return {}, None
    if not isinstance(loaded, dict):
        return {}, Problem(path, 2, "frontmatter-yaml", "frontmatter is not a mapping of fields")
    return {str(key): _plain(value) for key, value in loaded.items()}, None


def _refuse_what_grows(header: str) -> None:
    """MarkedYAMLError for aliases, whose values may grow without bound, and for great depth. By
    the parser's own events, which come without recursion: YAML has more ways to nest than a look
    at the text can tell, and what goes past here ends the process."""
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
