"""The texts that an author begins with. They are of no field: what a pack is about is its own."""

from __future__ import annotations

SKILL = """\
---
name: {name}
description: Rules for {words}. Use when writing, reviewing or fixing the code that they are about, or for an error message that one of them lists.
metadata:
  version: "0.1.0"
---
# {title}

Each rule is one problem and its cure.

## Find a rule

`find_rules` of the `packlore` MCP server takes an error, code or a task. Without it, search `rules/` for words of the error; a rule is `rules/<id>.md`.

<!-- rules -->
<!-- /rules -->
"""
SECTIONS = """\
---
title: Categories
---
# Categories

## 1. Loops (loops)

**Impact:** MEDIUM
**Description:** Going through what changes meanwhile.
"""
TEMPLATE = """\
---
title: An instruction of at most 80 characters
category: category
impact: MEDIUM
impactDescription: what goes wrong, with the figure that was measured
tags:
  - topic
symptoms:
  - "the exact message that was seen, … for what varies"
aliases:
  - how people name the problem
applies:
  python: ">=3.11"
related: []
---
# An instruction of at most 80 characters

Who does what to whom, and what goes wrong: two or three sentences.

## Incorrect: what happens

```python
wrong()
```

## Correct: what happens instead

```python
right()
```

## Exceptions

- When the rule does not hold, and what older versions need.

## References

- [Library: the page that says so](https://docs.python.org/3/)
"""
EXAMPLE_ID = "loops-changed-dictionary"
EXAMPLE = """\
---
title: Loop over a copy of a dictionary that the loop changes
category: loops
impact: MEDIUM
impactDescription: the loop ends with an error after the first change
tags:
  - dictionary
  - iteration
symptoms:
  - "RuntimeError: dictionary changed size during iteration"
aliases:
  - delete from a dict in a for loop
applies:
  python: ">=3.11"
related: []
---
# Loop over a copy of a dictionary that the loop changes

A loop over a dictionary reads the dictionary itself. Where the loop adds or removes a key, the next step raises RuntimeError, and the change that came before it stays.

## Incorrect: the loop ends with an error

```python
def drop_empty(stock: dict[str, int]) -> None:
    for name in stock:
        if stock[name] == 0:
            del stock[name]
```

## Correct: each key is looked at

```python
def drop_empty(stock: dict[str, int]) -> None:
    for name in list(stock):
        if stock[name] == 0:
            del stock[name]
```

## Exceptions

- A loop that gives a key that is there another value needs no copy: the size stays.

## References

- [Python: dictionary view objects](https://docs.python.org/3/library/stdtypes.html#dictionary-view-objects)
"""
PROOF = '''\
"""The proof of CATEGORY-NAME: the same work for both of its blocks."""


def test_incorrect_fails_as_the_rule_says() -> None:
    raise AssertionError("fill in: run the Incorrect block and assert what goes wrong")


def test_correct_does_not() -> None:
    raise AssertionError("fill in: run the Correct block with the same work")
'''
DETECTOR = """\
# The code that breaks the rule: https://ast-grep.github.io/guide/rule-config.html
id: CATEGORY-NAME
language: {language}
severity: warning
message: what happens, in one line
note: what to do, in one line
rule:
  pattern: fill_in_what_breaks_the_rule($$$)
"""
