"""What a value of frontmatter means, whatever its type. No I/O."""

from __future__ import annotations


def string(value: object) -> str:
    """One line of text; empty for what is neither text nor number."""
    return " ".join(str(value).split()) if isinstance(value, (str, int, float)) else ""


def strings(value: object, separator: str | None = ",") -> tuple[str, ...]:
    """A list of texts from a YAML list or from one text such as `a, b`."""
    if isinstance(value, str):
        value = value.split(separator) if separator else [value]
    if not isinstance(value, list):
        return ()
    return tuple(text for each in value if (text := string(each)))
