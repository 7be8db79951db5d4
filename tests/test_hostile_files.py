"""Files that somebody made to do harm: each costs itself, and no more time than it has bytes."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from packlore import answers, author, render
from packlore.errors import NotFoundError, PackError
from packlore.find.features import features
from packlore.find.model import FILE, ZERO, Model, begins, encode
from packlore.library import Library
from packlore.names import MAX_NAME
from packlore.pack.build import derived
from packlore.pack.model import Rule, tokens
from packlore.pack.read import MAX_FILE, read
from packlore.serve.tools import (
    MAX_CATEGORIES,
    MAX_IDS,
    TOOLS,
    Prompts,
    Tools,
    description,
    instructions,
)
from tests.packs import own, rule, write
from tests.proofs.harness import ROOT

HEX = "0x" + "f" * 5_000
SEXAGESIMAL = "1:00" + ":00" * 200
DEEP = "rules/" + "d/" * 1_200


def model(rules: list[str], known: int, *, bias: float = 0.0) -> str:
    """A model of so many features, those of a search among them."""
    keys = sorted({*features("zebra zebar bound each call"), *range(known)})
    biases = (bias, *[0.0] * len(rules))
    rows = begins(keys, len(biases))
    weights = bytes([ZERO]) * (len(keys) * len(biases))
    return encode(Model(tuple(rules), rows, weights, 0.1, biases, ""))


BAD = {
    "a title of 5,000 digits": ("rules/asyncio-bad.md", f"---\ntitle: {HEX}\n---\n# Bad\n"),
    "tags of 5,000 digits": ("rules/asyncio-bad.md", f"---\ntags: [{HEX}]\n---\n# Bad\n"),
    "an impact of 5,000 digits": ("rules/asyncio-bad.md", f"---\nimpact: {HEX}\n---\n# Bad\n"),
    "a reference's title of 5,000 digits": ("references/bad.md", f"---\ntitle: {HEX}\n---\n# B\n"),
    "a key of 5,000 digits": ("rules/asyncio-bad.md", f"---\n{HEX}: 1\n---\n# Bad\n"),
    "a number to the base of 60": ("rules/asyncio-bad.md", f"---\nx: {SEXAGESIMAL}\n---\n# Bad\n"),
    "the same with a point": ("rules/asyncio-bad.md", f"---\nx: {SEXAGESIMAL}.0\n---\n# Bad\n"),
    "a number in a list in a mapping": (
        "rules/asyncio-bad.md",
        f"---\nx: {{y: [{HEX}, {SEXAGESIMAL}]}}\n---\n# Bad\n",
    ),
    "a skill's metadata of 5,000 digits": (
        "SKILL.md",
        f'---\nname: own\ndescription: d\nmetadata:\n  version: "1.2.3"\n  x: {HEX}\n---\n# own\n',
    ),
    "a model that says everything of one rule": (FILE, model(["asyncio-timeout"], 0, bias=1e5)),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_file_takes_nothing_else_down(name: str, tmp_path: Path) -> None:
    path, text = BAD[name]
    folder = write(own(tmp_path), {path: text})
    library = Library.open([folder])
    (pack,) = library.packs.values()
    assert library.search("bound each call")[0].item.id == "asyncio-timeout"
    json.dumps([each.frontmatter for each in pack.rules])
    json.dumps(pack.frontmatter)
    assert "asyncio-timeout" in render.catalogue(library)
    author.problems(pack)


@pytest.mark.parametrize("depth", [33, 1_000, 31_000])
@pytest.mark.parametrize("unit", ["- ", "? ", "? - "])
def test_a_frontmatter_of_any_depth_ends_no_process(unit: str, depth: int, tmp_path: Path) -> None:
    text = f"---\ntitle: T\n? a\n: {unit * (depth * 2 // len(unit))}x\n---\n# Deep\n"
    folder = own(tmp_path, **{"rules__asyncio-deep.md": text})
    listed = subprocess.run(
        [sys.executable, "-m", "packlore", "list", "--pack", str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "server")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "asyncio-deep" in listed.stdout
    assert "asyncio-timeout" in listed.stdout


def test_folders_deeper_than_python_recurses_are_refused(tmp_path: Path) -> None:
    folder = own(tmp_path)
    deep = folder
    for _ in range(60):  # a path has up to 4,096 characters; 60 of them are enough to be refused
        deep /= "d"
    (folder / "rules" / deep.relative_to(folder)).mkdir(parents=True)
    (folder / "rules" / deep.relative_to(folder) / "x.md").write_text("# X\n")
    (pack,) = read(folder)
    assert [each.id for each in pack.rules] == ["asyncio-timeout"]
    (problem,) = pack.problems
    assert problem.code == "unreadable"
    assert "folders within each other" in problem.message


@pytest.mark.parametrize("name", ["a\n127.0.0.1 GET fake 200.md", "a\x1b[2J.md", "a\u202eb.md"])
def test_a_name_that_forges_a_line_is_refused(tmp_path: Path, name: str) -> None:
    folder = own(tmp_path)
    try:
        (folder / "rules" / name).write_text("---\ntitle: [\n---\n")
    except OSError:  # Windows takes no such names
        pytest.skip("this system has no such file names")
    (pack,) = read(folder)
    (problem,) = pack.problems
    assert problem.code == "file-name"
    assert str(problem).isprintable()
    assert [each.id for each in pack.rules] == ["asyncio-timeout"]


def test_what_cannot_be_seen_is_shown_as_escapes(tmp_path: Path) -> None:
    odd = "Clear\\e[2J\\u202E it"
    text = rule("Clear").replace("title: Clear", f'title: "{odd}"')
    text = text.replace("# Clear", "# Clear\x1b]52;c;aGk=\x07")
    library = Library.open([own(tmp_path, **{"rules__asyncio-clear.md": text})])
    listed = render.catalogue(library) + answers.nothing(library, "tulips")
    assert "Clear\\x1b[2J\\u202e it" in listed
    assert all(each.isprintable() or each == "\n" for each in listed)


# What a body, or a frontmatter, may have any number of.
UNITS = {
    "rows of a table": "| a | b |\n| - | - |\n",
    "definitions": "[a]: b\n",
    "half of a definition": "[a]: <b\n",
    "half of a link": "[a\n",
    "links": "[a](b.md) ",
    "images": "![a](",
    "comments": "<!--\n",
    "tags": "<a\n",
    "spaces of other scripts in a tag": "<a href=" + "\u2028" * 30 + "\n",
    "headings without text": "#\n",
    "headings by a line": "a\n===\n",
    "lines": "\n",
    "stars": "**a",
    "underscores": "__a ",
    "tabs": "\t",
    "lazy lines": "> a\nb\n",
    "quotes in lists": "> - ",
    "numbers": "1. ",
    "fences of two kinds": "```\n~~~\n",
    "long fences": "`````",
    "indented code": "    a\n\n",
    "entities": "&#27;",
    "labels": "**Bad**\n\n**Good**\n\n",
    "backslashes": "\\",
    "what cannot be seen": "\u202e\x1b",
    "breaks": "* * *\n",
}
ROWS = {
    "fields": "k{i}: v\n",
    "the same field": "x: v\n",
    "comments": "# a\n",
    "items": "- a\n",
    "quotes": "'",
    "escapes": '"\\x41"\n',
    "anchors": "&a ",
    "aliases": "*a ",
    "tags": "!!str ",
    "questions": "? a\n",
    "colons": ": ",
    "spaces": "  ",
    "lines of a block": "  a\n",
    "documents": "---\n",
    "numbers": "1:00:",
    "merges": "<<: a\n",
}


def body(unit: str) -> Callable[[int], dict[str, str | bytes]]:
    """A rule whose body has the unit 4 n times."""
    return lambda n: {"rules/asyncio-x.md": "---\ntitle: Zebra\n---\n# Zebra\n\n" + unit * 4 * n}


def header(unit: str) -> Callable[[int], dict[str, str | bytes]]:
    """A rule whose frontmatter has the unit n times, on lines of a field and in a list."""

    def made(n: int) -> dict[str, str | bytes]:
        rows = "".join(unit.replace("{i}", str(i)) for i in range(n))
        return {
            "rules/asyncio-x.md": f"---\ntitle: Zebra\n{rows}\n---\n# Zebra\n",
            "rules/asyncio-y.md": f"---\ntitle: Zebra\nx: |\n{rows}\n---\n# Zebra\n",
            "rules/asyncio-z.md": f"---\ntitle: Zebra\nx: {rows}\n---\n# Zebra\n",
        }

    return made


# Each from a number of repetitions to files that hold a pack up, if anything can.
SHAPES: dict[str, Callable[[int], dict[str, str | bytes]]] = {
    "a heading of one bracket": lambda n: {"rules/_sections.md": "## x (" + "a" * 20 * n},
    "headings": lambda n: {"rules/_sections.md": "## A (a)\n" * n},
    "categories": lambda n: {
        "rules/_sections.md": "".join(f"## C (c{i})\n\n**Impact:** HIGH\n\n" for i in range(n)),
        **{
            f"rules/none-{i}.md": f"---\ntitle: t\ncategory: no{i}\n---\n# t\n"
            for i in range(n // 20)
        },
    },
    "headings and fences": lambda n: {"references/a.md": "# a\n\n```\nx\n```\n" * n},
    "empty fences of one heading": lambda n: {
        "rules/asyncio-x.md": "---\ntitle: Zebra\n---\n# Zebra\n\n## Incorrect\n\n"
        + "```\n```\n" * n
    },
    "labels and fences": lambda n: {
        "rules/asyncio-x.md": "---\ntitle: Zebra\n---\n# Zebra\n\n"
        + "**Bad**\n\n```\nx\n```\n\n" * n
    },
    "a definition that never ends": lambda n: {
        "rules/asyncio-x.md": '---\ntitle: Zebra\n---\n# Zebra\n\n[a]: b "' + "x\n" * 5 * n
    },
    "brackets of links": lambda n: {
        "rules/asyncio-x.md": "---\ntitle: Zebra\n---\n# Zebra\n\n" + "[" * 20 * n + "\n"
    },
    "openings of links": lambda n: {
        "rules/asyncio-x.md": "---\ntitle: Zebra\n---\n# Zebra\n\n" + "[](" * 10 * n + "\n"
    },
    "backticks": lambda n: {
        "rules/asyncio-x.md": "---\ntitle: Zebra\n---\n# Zebra\n\n" + "` `` " * 5 * n + "\n"
    },
    "quotes within each other": lambda n: {
        "rules/asyncio-x.md": "---\ntitle: Zebra\n---\n# Zebra\n\n" + "> " * 10 * n + "\n"
    },
    "lists within each other": lambda n: {
        "rules/asyncio-x.md": "---\ntitle: Zebra\n---\n# Zebra\n\n" + "- " * 10 * n + "\n"
    },
    "half open fences": lambda n: {
        "rules/asyncio-x.md": "---\ntitle: Zebra\n---\n# Zebra\n\n" + "~~~~\n```\n" * n + "\n"
    },
    "one long word": lambda n: {
        "rules/asyncio-x.md": f"---\ntitle: Zebra\n---\n# Zebra\n\n{'zebra' * 20 * n}\n"
    },
    "yaml in flow": lambda n: {
        "rules/asyncio-x.md": f"---\ntitle: Zebra\ntags: [{'a, ' * n}]\n---\n# Zebra\n"
    },
    "yaml with quotes": lambda n: {
        "rules/asyncio-x.md": "---\ntitle: Zebra\nx: " + "'a''" * n + "'\n---\n# Zebra\n"
    },
    "symptoms": lambda n: {
        "rules/asyncio-x.md": "---\ntitle: Zebra\nsymptoms:\n"
        + "  - zebra …\n" * n
        + "---\n# Zebra\n"
    },
    "features of a model": lambda n: {FILE: model(["asyncio-timeout"], 20 * n)},
    "rules of a model": lambda n: {FILE: model([f"asyncio-{i}" for i in range(n // 2)], 20)},
    "items of a checklist": lambda n: {
        "checklists/x.md": "---\ntitle: Zebra\n---\n# Zebra\n\n" + "- [ ] `a` `b`\n" * n
    },
    **{f"body: {name}": body(unit) for name, unit in UNITS.items()},
    **{f"yaml: {name}": header(unit) for name, unit in ROWS.items()},
    "names of files": lambda n: {
        f"rules/asyncio-{i}-zebra-zebra.md": "---\ntitle: T\n---\n# T\n" for i in range(n // 8)
    },
    "a tag of spaces of other scripts": lambda n: {
        "rules/asyncio-x.md": "---\ntitle: T\n---\n- <a href=" + "\u3000" * n + "\n"
    },
    "names of many parts": lambda n: {
        f"rules/{'a-' * 100}{i}.md": "---\ntitle: T\n---\n# T\n" for i in range(n // 16)
    },
    "folders beside each other": lambda n: {f"rules/d{i}/x.md": "# T\n" for i in range(n // 16)},
    "files that are no rules": lambda n: {f"assets/{i}.bin": "\0" for i in range(n // 8)},
    "one id in many folders": lambda n: {f"rules/d{i}/x.md": "# T\n" for i in range(n // 16)},
    "a list in the skill": lambda n: {"SKILL.md": "<!-- rules -->\n" * 4 * n},
    "links of a skill": lambda n: {"SKILL.md": "](https://" * 4 * n},
    "links in a rule": lambda n: {
        "rules/asyncio-x.md": "---\ntitle: Zebra\n---\n# Zebra\n\n## References\n\n"
        + "[a](https://b.c/d) " * 2 * n
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_file_costs_more_than_its_size(shape: str, tmp_path: Path) -> None:
    """Eight times the size may take 8 times as long, and 64 times where the cost is quadratic.
    Of the small size the work is repeated, so that both take a time that can be told."""

    def use(folder: Path) -> None:
        library = Library.open([folder])
        library.search("zebra zebar")
        with suppress(NotFoundError):
            library.get("asyncio-zebra-zebar")
        for pack in library.packs.values():
            author.problems(pack)
            with suppress(PackError):
                list(derived(pack, folder))
            for document in pack.documents:
                assert len(document.sections) <= MAX_FILE
            for found in pack.rules:
                assert tokens(render.brief(found)) <= render.MAX_BRIEF * 1.1
        assert tokens(render.catalogue(library)) <= render.MAX_ANSWER * 1.1

    def spent(size: int) -> float:
        folder = write(own(tmp_path / str(size)), SHAPES[shape](size))
        gc.collect()
        start = time.thread_time()
        use(folder)
        return time.thread_time() - start

    spent(10)  # what is imported and compiled once
    small = large = float("inf")
    for _ in range(3):
        small, large = min(small, spent(500)), min(large, spent(4_000))
        if large < 20 * small:
            break
    assert large < 28 * small, "8 times would be linear, 64 quadratic"


def test_a_long_block_is_cut_and_not_left_out(tmp_path: Path) -> None:
    block = "zebra_call(1)\n" * 300
    text = (
        f"---\ntitle: Zebra\nimpact: HIGH\n---\n# Zebra\n\n## Correct: x\n\n```python\n{block}```\n"
    )
    library = Library.open([own(tmp_path, **{"rules__asyncio-zebra.md": text})])
    (found,) = [e.item for e in library.rules() if e.item.id == "asyncio-zebra"]
    assert isinstance(found, Rule)
    brief = render.brief(found)
    assert brief.count("zebra_call(1)\n") > 100
    assert "(cut here: " in brief
    assert brief.count("```") == 2


def test_a_category_of_thousands_is_bounded_in_text_and_data(tmp_path: Path) -> None:
    more = {f"rules__asyncio-{number:04}.md": rule(f"Rule {number}") for number in range(3_000)}
    library = Library.open([own(tmp_path, **more)])
    entries = library.category("asyncio")
    assert tokens(render.in_brief(library, entries)) <= render.MAX_ANSWER * 1.1
    assert len(render.item_rows(library, entries)) == render.MAX_ROWS


def test_thousands_of_categories_are_listed_as_far_as_they_fit(tmp_path: Path) -> None:
    folder = own(tmp_path)
    (folder / "rules" / "_sections.md").unlink()
    files = {
        f"rules/c{number:04}-x.md": f"---\ntitle: t\ncategory: c{number:04}\n---\n# t\nzebra\n"
        for number in range(3_000)
    }
    listed = render.catalogue(Library.open([write(folder, dict(files))]))
    assert listed.count("\n## c") > 1_000
    assert tokens(listed) <= render.MAX_ANSWER * 1.1


def hostile_categories(folder: Path, count: int) -> Library:
    """A pack of so many categories, whose names are as long as names are let in."""
    (own(folder) / "rules" / "_sections.md").unlink()
    files: dict[str, str | bytes] = {
        f"rules/c{number:04}-x.md": f"---\ntitle: {'t' * 3_000}\ncategory: {number:04}{'c' * 3_000}\n---\n# t\n"
        for number in range(count)
    }
    return Library.open([write(folder, files)])


def test_what_every_session_begins_with_is_bounded(tmp_path: Path) -> None:
    library = hostile_categories(tmp_path, 100)
    said = [description(name, library) for name in TOOLS] + [instructions(library)]
    assert max(map(tokens, said)) < 1_000
    assert tokens(answers.nothing(library, "tulips")) < 5_000


def test_a_prompt_is_bounded_in_its_answer_and_in_what_it_takes(tmp_path: Path) -> None:
    more = {f"rules__asyncio-{number:04}.md": rule(f"Rule {number}") for number in range(3_000)}
    prompts = Prompts(Library.open([own(tmp_path, **more)]))
    for text in (prompts.plan_work("asyncio", "bound"), prompts.review_code("asyncio")):
        assert tokens(text) <= render.MAX_ANSWER * 1.1
    for between in (",", " "):
        with pytest.raises(PackError, match=f"1 to {MAX_CATEGORIES}|no category"):
            prompts.review_code(between.join(["asyncio"] * (MAX_CATEGORIES + 1)))


@pytest.mark.parametrize("name", [" ", "0,", "a b,c", "\u202e"])
def test_a_category_of_any_name_can_be_asked_for(tmp_path: Path, name: str) -> None:
    folder = own(tmp_path)
    text = f"---\ntitle: T\ncategory: {json.dumps(name)}\n---\n# T\n"
    try:
        write(folder, {"rules/x.md": text, f"rules/{name}.md": "# T\n"})
    except OSError:  # Windows takes no such names
        pytest.skip("this system has no such file names")
    library = Library.open([folder])
    for category in library.categories:
        assert category.strip()
        assert Tools(library).load_category(category).data["items"]
        assert Prompts(library).review_code(category).count("tokens): ") >= 1


def test_a_rule_without_a_text_says_so(tmp_path: Path) -> None:
    folder = own(tmp_path, **{"rules__asyncio-x.md": "---\ntitle: T\n---\n \n"})
    answer = Tools(Library.open([folder])).read_rules(["asyncio-x"])
    assert answer.text.strip() == "rules/asyncio-x.md has no text."


def test_an_unknown_name_is_compared_with_few(tmp_path: Path) -> None:
    """Of 4,000 rules with no more than 1,000."""

    def spent(size: int) -> float:
        more = {f"rules__asyncio-name-{n:04}.md": "# T\n" for n in range(size)}
        tools = Tools(Library.open([own(tmp_path / str(size), **more)]))
        best = float("inf")
        for _ in range(3):
            start = time.thread_time()
            with pytest.raises(NotFoundError, match="nearest: asyncio-name-"):
                tools.read_rules([f"asyncio-nime-{n:04}" for n in range(MAX_IDS)])
            best = min(best, time.thread_time() - start)
        return best

    spent(10)
    assert spent(4_000) < 5 * spent(500), "twice as many are compared; all would be eight times"


def test_a_name_that_no_path_could_have_is_not_looked_up(tmp_path: Path) -> None:
    library = Library.open([own(tmp_path)])
    longest = "./" * ((MAX_NAME - len("asyncio-timeout")) // 2) + "asyncio-timeout"
    assert library.get(longest).item.id == "asyncio-timeout"
    with pytest.raises(NotFoundError, match="no rule or file") as refused:
        library.get("./" + longest)
    assert len(str(refused.value)) < 300
