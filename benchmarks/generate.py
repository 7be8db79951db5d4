"""Packs of any size for the benchmarks: rules with words of their own, in the form of ours."""

from __future__ import annotations

import random
from pathlib import Path

SYLLABLES = "ba ce di fo gu ha ki lo mu ne pi qua ro su ta ve wi xo ya zu".split()  # noqa: SIM905
COMMON = [
    "session",
    "connection",
    "pool",
    "timeout",
    "commit",
    "task",
    "error",
    "request",
    "response",
    "client",
    "server",
    "query",
    "row",
    "transaction",
    "lock",
    "retry",
    "queue",
    "thread",
    "loop",
    "memory",
    "cache",
    "header",
    "token",
    "setting",
]


def generate(folder: Path, rules: int) -> Path:
    """Write a pack of `rules` rules, 12 categories, always the same for one number."""
    chance = random.Random(rules)
    (folder / "rules").mkdir(parents=True)
    names = [f"topic{n}" for n in range(12)]
    head = "---\nname: generated\ndescription: A pack for benchmarks.\nlicense: MIT\n"
    head += 'metadata:\n  version: "1.0.0"\n---\n'
    (folder / "SKILL.md").write_text(f"{head}# Generated\n\n<!-- rules -->\n<!-- /rules -->\n")
    sections = "".join(
        f"## {n}. {name.title()} ({name})\n\n**Impact:** HIGH\n\n"
        for n, name in enumerate(names, 1)
    )
    (folder / "rules" / "_sections.md").write_text(f"# Categories\n\n{sections}")
    for number in range(rules):
        category = names[number % len(names)]
        text = _rule(chance, category, number)
        (folder / "rules" / f"{category}-rule-{number}.md").write_text(text)
    return folder


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(SYLLABLES, k=chance.randint(2, 4)))


def _words(chance: random.Random, count: int) -> str:
    return " ".join(
        chance.choice(COMMON) if chance.random() < 0.6 else _word(chance) for _ in range(count)
    )


def _rule(chance: random.Random, category: str, number: int) -> str:
    title = f"{_words(chance, 6)} {number}".capitalize()
    aliases = "".join(f"  - {_words(chance, 4)}\n" for _ in range(10))
    name = f"{_word(chance)}_{chance.choice(COMMON)}"
    code = "\n".join(f"    {_word(chance)} = await {name}({n})" for n in range(10))
    block = f"```python\nasync def {name}() -> None:\n{code}\n```\n"
    return (
        f"---\ntitle: {title}\ncategory: {category}\nimpact: MEDIUM\n"
        f"impactDescription: {_words(chance, 8)}\ntags:\n  - {_word(chance)}\n"
        f'symptoms:\n  - "{_word(chance).title()}Error: {_words(chance, 8)}"\n'
        f'aliases:\n{aliases}applies:\n  python: ">=3.11"\nrelated: []\n---\n'
        f"# {title}\n\n{_words(chance, 60)}.\n\n## Incorrect: {_words(chance, 5)}\n\n{block}\n"
        f"## Correct: {_words(chance, 5)}\n\n{block}\n## Exceptions\n\n- {_words(chance, 30)}\n\n"
        f"## References\n\n- [docs](https://docs.python.org/3/)\n"
    )
