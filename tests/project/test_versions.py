"""Versions and ranges, by PEP 440: as `packaging` has it."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion
from packaging.version import Version as Known

from packlore.project.versions import Version, admits, admits_all, normal, ranged, shown

numbers = st.lists(st.integers(0, 3), min_size=1, max_size=4).map(lambda n: ".".join(map(str, n)))
endings = st.sampled_from(
    [
        "",
        "",
        "a1",
        "b2",
        "rc1",
        ".dev1",
        ".post1",
        "a1.dev1",
        "rc1.post1",
        ".post1.dev2",
        "-1",
        "c0",
    ]
)
# Of `<2.0.post1` the releases of packaging say different things.
bounds = st.sampled_from(["", "", "a1", "b2", "rc1", ".dev1", "a1.dev1", "c0"])
locals_ = st.sampled_from(["", "", "", "+cpu", "+1.ubuntu"])
versions = st.builds("{}{}{}{}".format, st.sampled_from(["", "", "1!"]), numbers, endings, locals_)
signs = st.sampled_from([">=", "<=", ">", "<", "==", "!=", "~="])
clauses = st.one_of(
    st.builds("{}{}{}".format, signs, numbers, bounds),
    st.builds("{}{}.*".format, st.sampled_from(["==", "!="]), numbers),
).filter(lambda each: not each.startswith("~=") or "." in each.split("=")[1])


@example("2.0rc1", ["<2.0"])
@example("2.0.dev1", ["<2"])
@example("2.0.post1", [">2.0"])
@example("2.0.post1", ["<=2.0"])
@example("2.0rc1", ["<2.0rc2"])
@settings(deadline=None)
@given(versions, st.lists(clauses, min_size=1, max_size=3))
def test_a_version_is_in_a_range_where_packaging_says_so(version: str, some: list[str]) -> None:
    text = ",".join(some)
    try:
        public = Known(version).public  # a local part is of whoever built it: we leave it out
        wanted = SpecifierSet(text)
    except ValueError:
        return
    own, parsed = ranged(text), Version.parse(version)
    assert parsed
    assert len(own) == len(some)
    assert admits(own, parsed) == wanted.contains(public, prereleases=True), (version, text)


@settings(deadline=None)
@given(st.lists(versions, min_size=2, max_size=6))
def test_versions_are_sorted_as_packaging_sorts_them(some: list[str]) -> None:
    def key(text: str) -> tuple[object, ...]:
        parsed = Version.parse(text)
        assert parsed
        return parsed.key

    own = [Known(Known(each).public) for each in sorted(some, key=key)]
    assert own == sorted(own)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=12), st.text("0123456789.abcrdevpost+-_!v", max_size=12)))
def test_what_we_take_for_a_version_is_one(text: str) -> None:
    if Version.parse(text):
        Known(text)


@pytest.mark.parametrize(
    "text", ["", "x", "1.x", "1..2", "1" * 20, "1." * 99, "١.٢", "1\n", "latest"]
)
def test_what_is_no_version_is_none(text: str) -> None:
    assert Version.parse(text) is None


@pytest.mark.parametrize(
    "text",
    ["", "2.0", ">=", ">=x", "2.0,>=1", ">=1,,<2", ">1.*", "~", "=1", ",".join([">=1"] * 60)],
)
def test_what_is_no_range_is_none(text: str) -> None:
    assert ranged(text) == ()


def test_a_range_is_shown_in_plain_characters() -> None:
    assert shown(ranged(" >= 2.0 , <3 ")) == ">=2.0,<3"
    assert shown(ranged("^1.4")) == "^1.4"
    assert shown(ranged("1.4", "==")) == "==1.4"


@pytest.mark.parametrize(
    ("wanted", "asked", "fits"),
    [
        (">=2.0", ">=2.0", True),
        (">=2.0", ">=2.1,<3", True),
        (">=2.0", ">=1.4", False),
        (">=2.0", "~=1.4", False),
        (">=2.0", "^1.4", False),
        (">=2.0", "==1.4.*", False),
        (">=2.0", "<2.0", False),
        (">=2.0", "<=2.0", True),
        (">=2.0", "<3", True),
        (">=2.0", "!=2.0", True),
        (">=2.0", ">1.4", True),  # it may be 2.0
        ("<2.0", ">=2", False),
        ("<2.0", ">=1", True),
        ("<2.0", "<3", True),
        (">=2.0,<3", ">=3.1", False),
    ],
)
def test_what_is_asked_for_fits_where_its_least_does(wanted: str, asked: str, fits: bool) -> None:
    assert admits_all(ranged(wanted), ranged(asked)) is fits


@settings(deadline=None)
@given(st.text("aZ0._-", min_size=1, max_size=8))
def test_names_are_compared_as_packaging_does(name: str) -> None:
    try:
        expected = str(canonicalize_name(name, validate=True))
    except ValueError:
        expected = ""
    assert normal(name) == expected


def test_packaging_knows_what_no_version_is() -> None:
    with pytest.raises(InvalidVersion):
        Known("x")
