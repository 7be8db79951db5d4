"""A rule in the form for plain texts matches what the rule as it stands does."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from packlore.check.plain import ends, plain
from packlore.check.scan import Detectors, scan
from packlore.check.syntax import PYTHON, search, tree
from tests.check.detectors import CASES, own
from tests.check.test_scan import detector

ANY, LINE = r"[\x00-\x7f]", r"[\x00-\x09\x0b-\x7f]"
BEYOND = r"\x80-\x{10ffff}"
MANY = r"^(?:[^\n;]*[\n;]){5}"


def rule(regex: str) -> dict[str, Any]:
    return {"rule": {"kind": "expression_statement", "regex": regex}}


@pytest.mark.parametrize(
    ("regex", "wanted"),
    [
        (r"\w+\.\d", r"[0-9A-Za-z_]+\.[0-9]"),
        (r"[\w.]+\s", r"[0-9A-Za-z_.]+[ \t\n\r\x0b\x0c]"),
        (r"\bfoo\b", r"(?-u:\b)foo(?-u:\b)"),
        (r"[^\s)]\]\[\w", r"[^\x80-\x{10ffff} \t\n\r\x0b\x0c)]\]\[[0-9A-Za-z_]"),
        (r"\\w[\\w]", r"\\w[\\w]"),
        (r"[[:alpha:]\w]", r"[[:alpha:]\w]"),
        (r"[]\w]", r"[]\w]"),
        (r"[^]\w]", r"[^]\w]"),
        (r"[\w-z]", r"[\w-z]"),
        (
            r"\W\S\D\B",
            rf"[^{BEYOND}0-9A-Za-z_][^{BEYOND} \t\n\r\x0b\x0c][^{BEYOND}0-9]\B",
        ),
        (r"é\d", r"é[0-9]"),
        (r"(?i)ß", r"(?i)ß"),
        (r"(?i)[ıa]", r"(?i)[ıa]"),
        (r"a.*b(?s:.x).", rf"a{LINE}*b(?:{ANY}x){LINE}"),
        (r"(?s)(.)(?P<name>.)", rf"({ANY})(?P<name>{ANY})"),
        (r"(?i)\bdb(_x)?", r"(?-u:\b)[dD][bB](_[xX])?"),
        (r"a(?i:b|[^c-e_0-9+\-\w])b", r"a(?:[bB]|[^\x80-\x{10ffff}c-eC-E_0-9+\-0-9A-Za-z_])b"),
        (r"(?i)[+\-x]", r"[+\-xX]"),
        (r"(?is)b.", rf"[bB]{ANY}"),
        (r"\x{41}\pL", r"\x{41}\pL"),
        (r"(?i)\x{41}", r"(?i)\x{41}"),
        (r"(?i)[\x41]", r"(?i)[\x41]"),
        (r"(?i)[A-z]", r"(?i)[A-z]"),
        (r"(?i)[ -z]", r"(?i)[ -z]"),
        (r"(?i)\w|x(?-i:y)", r"(?i)\w|x(?-i:y)"),
        (r"(?x)\w", r"(?x)\w"),
        (r"[a&&\w]", r"[a&&\w]"),
        (r"\w)", r"\w)"),
        ("", ""),
        ("\\", "\\"),
    ],
)
def test_classes_are_written_out(regex: str, wanted: str) -> None:
    assert plain(rule(regex))[0] == rule(wanted)


@pytest.mark.parametrize(
    "regex",
    [
        r"a.b",
        r"(?s)a.b",
        r"(?i)A.B",
        r"(?i)a[^B-K]b",
        r"a[^k]b",
        r"(?i)a[k-s_]B",
        r"a\Wb",
        r"(?i)a\Sb",
        r"A(?i:\D)b",
        r"(?i)K",
        r"(?i)\u017F|a[b\u212A]b",
        "(?i)a[ßk]b",
        r"(?is)a.\bB",
    ],
)
def test_in_a_plain_text_either_form_matches_the_same(regex: str) -> None:
    between = [chr(code) for code in range(1, 128) if chr(code) not in '"\\\r']
    texts = [f'"""{a}{one}{b}"""' for one in between for a in "aA" for b in "bB"]
    root = tree("\n".join(texts), PYTHON)
    as_written, as_plain = (
        [each.range() for each in search(root, {"rule": {"kind": "string", "regex": each}})]
        for each in (regex, plain(rule(regex))[0]["rule"]["regex"])
    )
    assert as_written == as_plain
    assert 0 < len(as_plain) < len(texts)


def test_utilities_and_lists_are_rewritten_too_and_the_rule_itself_stays() -> None:
    config = {"rule": {"any": [{"regex": r"\w"}]}, "utils": {"x": {"not": {"regex": r"\d"}}}}
    made, _ = plain(config)
    assert made == {
        "rule": {"any": [{"regex": "[0-9A-Za-z_]"}]},
        "utils": {"x": {"not": {"regex": "[0-9]"}}},
    }
    assert config["rule"] == {"any": [{"regex": r"\w"}]}


def test_a_text_of_few_lines_holds_nothing_of_many() -> None:
    made, fewer = plain({"rule": {"not": {"regex": MANY}}})
    assert fewer == 5
    assert not re.search(made["rule"]["not"]["regex"], "a\n" * 9)
    assert ends("a;b\nc") == 2
    assert ends("é") > ends(";" * 1_000_000)


@pytest.mark.parametrize("lines", [4, 5, 6, 40])
@pytest.mark.parametrize("name", ["x", "é"])
def test_whatever_the_text_the_same_is_found(lines: int, name: str) -> None:
    few = detector({"kind": "function_definition", "not": {"regex": MANY}})
    word = replace(detector({"kind": "call", "regex": r"^\w+\(\)$"}), id="loops-y", rule="loops-y")
    code = f"def {name}():\n" + f"    {name}()\n" * (lines - 1)
    found = scan("app/x.py", code, "Python", Detectors((few, word))).findings
    assert [each.rule for each in found].count("loops-y") == lines - 1
    # The regular expression looks at the function, whose last line has no end.
    assert [each.rule for each in found].count("loops-x") == (lines - 1 < 5)


def test_the_detectors_of_this_pack_find_the_same_in_either_form() -> None:
    seen = 0
    for path in sorted(CASES.glob("*.py")):
        code = path.read_text(encoding="utf-8")
        code = code.encode("ascii", "replace").decode()
        root = tree(code, PYTHON)
        for each in own().all:
            made, fewer = plain(each.config)
            if each.rule == path.stem and ends(code) < fewer:
                whole, short = (
                    [(one.range().start.index, one.range().end.index) for one in search(root, rule)]
                    for rule in (each.config, made)
                )
                assert whole == short, each.id
                seen += bool(whole)
    assert seen > 60
