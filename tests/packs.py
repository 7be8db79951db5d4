"""Small packs for tests, in our own form and in those of other people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SKILL = """\
---
name: {name}
description: A pack for tests.
license: MIT
metadata:
  version: "1.2.3"
---
# {name}

- `asyncio-timeout`: bound it
"""
SECTIONS = """\
# Categories

## 1. Asyncio (asyncio)

**Impact:** HIGH
**Description:** Tasks and time.

## 2. Pooling (pooling)

**Impact:** MEDIUM
**Description:** Connections.
"""
RULE = """\
---
title: {title}
category: {category}
impact: {impact}
impactDescription: the call never returns
tags:
  - timeout
symptoms:
  - "{symptom}"
aliases:
  - waits for ever
applies:
  python: ">=3.11"
related: []
---
# {title}

A call without a bound waits for ever.

## Incorrect: it waits for ever

```python
await read()
```

## Correct: it ends

```python
async with asyncio.timeout(5):
    await read_bounded()
```

## Exceptions

- None.

## References

- [asyncio](https://docs.python.org/3/library/asyncio-task.html)
"""
# Bold labels, tags in one text, an impact of six levels, no category: as public packs have it.
FOREIGN_RULE = """\
---
title: Bound each wait
impact: MEDIUM-HIGH
tags: timeout, waiting
---

## Bound each wait

Prose first.

**Incorrect (it waits):**

```typescript
await read()
```

**Correct (it ends):**

```typescript
await bounded(read())
```
"""


def rule(
    title: str = "Bound each call",
    *,
    category: str = "asyncio",
    impact: str = "HIGH",
    symptom: str = "TimeoutError: … took too long",
) -> str:
    """A rule in our form that the linter has nothing to say about."""
    return RULE.format(title=title, category=category, impact=impact, symptom=symptom)


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files by path, and answer with the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def own(folder: Path, name: Any = "own", **more: Any) -> Path:
    """A clean pack of one rule in our form; `more` are further files, `/` written as `__`."""
    return write(
        folder,
        {
            "SKILL.md": SKILL.format(name=name),
            "rules/_sections.md": SECTIONS,
            "rules/asyncio-timeout.md": rule(),
            **{path.replace("__", "/"): text for path, text in more.items()},
        },
    )
