"""What a caller can ask for, and what a wrong call is told."""

from __future__ import annotations

import gc
import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packlore import render
from packlore.errors import BadArgumentError, NotFoundError
from packlore.library import MAX_LIMIT, Library
from packlore.pack.assemble import assemble
from packlore.pack.model import Pack, PackFile
from tests.packs import SKILL, own, rule
from tests.proofs.harness import ROOT


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    more = {
        "rules__pooling-size.md": rule(
            "Size the pool", category="pooling", impact="LOW", symptom="QueuePool limit of size …"
        ),
        "references__pool_sizing.md": "# Pool sizing\n\nLittle's law and pool_pre_ping.\n",
    }
    return Library.open([own(tmp_path_factory.mktemp("pack"), **more)])


def ids(library: Library, query: str, **where: str | int) -> list[str]:
    return [hit.item.id for hit in library.search(query, **where)]  # type: ignore[arg-type]


def test_an_error_message_finds_its_rule(library: Library) -> None:
    error = "QueuePool limit of size 5 overflow 10 reached at /srv/app/x.py:12 (0x7f33aa10)"
    assert ids(library, error)[0] == "pooling-size"


def test_identifiers_are_found_whole_and_in_parts(library: Library) -> None:
    assert ids(library, "pool_pre_ping", kind="reference") == ["references/pool_sizing.md"]
    assert "references/pool_sizing.md" in ids(library, "ping", kind="reference")


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ({"category": "pooling"}, ["pooling-size"]),
        ({"category": "Pooling"}, ["pooling-size"]),
        ({"impact": "medium"}, ["asyncio-timeout"]),
        ({"tag": "TIMEOUT", "category": "asyncio"}, ["asyncio-timeout"]),
        ({"kind": "references"}, ["references/pool_sizing.md"]),
    ],
)
def test_filters_leave_only_what_they_admit(
    library: Library, where: dict[str, str], wanted: list[str]
) -> None:
    assert ids(library, "pool size timeout bound call", **where) == wanted


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x.search(" "), "query is empty"),
        (lambda x: x.search("a", limit=0), f"limit is 0: give 1 to {MAX_LIMIT}"),
        (lambda x: x.search("a", limit=10**9), f"give 1 to {MAX_LIMIT}"),
        (lambda x: x.search("a", impact="HUGE"), "CRITICAL, HIGH, MEDIUM-HIGH"),
        (lambda x: x.search("a", kind="poem"), "one of rule, skill, reference"),
    ],
)
def test_an_argument_out_of_bounds_is_told_the_bounds(
    library: Library, call: object, message: str
) -> None:
    assert callable(call)
    with pytest.raises(BadArgumentError, match=message):
        call(library)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x.get("asyncio-timeot"), "nearest: asyncio-timeout"),
        (lambda x: x.get("../../etc/passwd"), "no rule or file"),
        (lambda x: x.get("x" * 100_000), "no rule or file 'xxx"),
        (lambda x: x.category("poling"), "nearest: pooling; there are: asyncio, pooling"),
        (lambda x: x.search("a", category="none"), "there are: asyncio, pooling"),
        (lambda x: x.search("a", tag="none"), "there are: timeout"),
        (lambda x: x.search("a", pack="other"), "there are: own"),
    ],
)
def test_an_unknown_name_is_told_what_exists(library: Library, call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(NotFoundError, match=message):
        call(library)


@pytest.mark.parametrize(
    "name",
    [
        "asyncio-timeout",
        "rules/asyncio-timeout.md",
        "rules/asyncio-timeout",
        "asyncio-timeout.md",
        "own/asyncio-timeout",
        " ASYNCIO-TIMEOUT ",
    ],
)
def test_a_rule_goes_by_id_and_path(library: Library, name: str) -> None:
    assert library.get(name).item.id == "asyncio-timeout"


def test_a_category_has_its_rules_by_impact(tmp_path: Path) -> None:
    more = {
        "rules__asyncio-a.md": rule("A", impact="LOW"),
        "rules__asyncio-z.md": rule("Z", impact="CRITICAL"),
    }
    found = Library.open([own(tmp_path, **more)]).category("asyncio")
    assert [entry.item.id for entry in found] == ["asyncio-z", "asyncio-timeout", "asyncio-a"]


def test_packs_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    own(tmp_path / "a" / "x", "same")
    own(tmp_path / "b" / "x", "same", **{"rules__asyncio-timeout.md": rule("Other")})
    library = Library.open([tmp_path])
    assert list(library.packs) == ["a/x", "b/x"]
    with pytest.raises(NotFoundError, match=r"a/x/asyncio-timeout, b/x/asyncio-timeout"):
        library.get("asyncio-timeout")
    assert library.get("b/x/asyncio-timeout").item.title == "Other"
    assert [hit.pack for hit in library.search("bound call", pack="b/x")][:1] == ["b/x"]


@pytest.mark.parametrize(
    "query",
    [
        'promise.all("',
        "NEAR(a b) AND OR NOT",
        "title:bound* ^x",
        "'; DROP TABLE fts; --",
        "\x00\ud800",
        "()" * 10_000,
        "²³ ½ ｆｕｌｌ e\u0301 ß İ",
        "pool " * 200_000,
        "x" * 1_000_000,
        " ".join(f"w{n}" for n in range(100_000)),
    ],
)
def test_no_query_breaks_the_search(library: Library, query: str) -> None:
    ids(library, query)


@given(st.text(min_size=1))
def test_no_text_breaks_the_search(library: Library, query: str) -> None:
    if query.strip():
        ids(library, query)


def test_many_threads_get_the_same_answer(library: Library) -> None:
    wanted = ids(library, "pool size")
    found: list[list[str]] = []

    def ask() -> None:
        found.extend(ids(library, "pool size") for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 400


def test_ids_that_differ_in_their_case_alone_are_both_found() -> None:
    text = {name: rule(name).encode() for name in ("Asyncio-x", "asyncio-x")}
    files = tuple(
        PackFile(f"rules/{name}.md", data, "text/markdown") for name, data in text.items()
    )
    pack = assemble(files, (), folder="", folder_name="pack")
    library = Library([pack])
    assert [library.get(name).item.title for name in ("Asyncio-x", "asyncio-x")] == list(text)
    assert library.get("pack/Asyncio-x").item.title == "Asyncio-x"
    with pytest.raises(NotFoundError, match="several"):
        library.get("ASYNCIO-X")


def test_a_name_that_several_packs_have_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        own(tmp_path / name, name="same")
    library = Library.open([tmp_path])
    assert list(library.packs) == ["one", "two"]
    assert library.search("bound each call", pack="two")[0].pack == "two"
    with pytest.raises(NotFoundError, match="'same' is the name of several packs: one, two"):
        library.search("bound each call", pack="same")


def packs(*named: tuple[str, str]) -> list[Pack]:
    """Packs of one file, by name and folder."""
    return [
        assemble(
            (PackFile("SKILL.md", SKILL.format(name=json.dumps(name)).encode(), "text/markdown"),),
            (),
            folder=folder,
            folder_name="x",
        )
        for name, folder in named
    ]


def test_each_pack_of_one_name_has_a_key_and_a_uri_of_its_own() -> None:
    library = Library(packs(("x-2", ""), ("x", ""), ("x", ""), ("x", ""), ("x-3", ""), ("x", "")))
    assert list(library.packs) == ["x-2", "x", "x-3", "x-4", "x-3-2", "x-5"]
    library = Library(packs(("x", "a/b"), ("x", "a/c"), ("x", "a/2/d"), ("x", "a/e"), ("x", "")))
    assert library.roots == {
        "a/b": "skill://a/x",
        "a/c": "skill://a/2/x",
        "a/2/d": "skill://a/2/2/x",
        "a/e": "skill://a/3/x",
        "x": "skill://x",
    }


@pytest.mark.parametrize("folders", [True, False])
def test_packs_of_one_name_are_numbered_in_linear_time(folders: bool) -> None:
    """Eight times as many may take 8 times as long, and 64 times where the cost is quadratic."""

    def spent(size: int) -> float:
        (one,) = packs(("x", ""))
        many = [replace(one, folder=f"p{n}" if folders else "") for n in range(size)]
        best = float("inf")
        for _ in range(3):
            gc.collect()
            start = time.thread_time()
            assert len(set(Library(many).roots.values())) == size
            best = min(best, time.thread_time() - start)
        return best

    spent(10)
    assert spent(4_000) < 28 * spent(500)


def test_a_category_that_one_pack_lacks_is_told(library: Library, tmp_path: Path) -> None:
    folders = [
        own(tmp_path / "a"),
        own(tmp_path / "b", **{"rules__pooling-x.md": rule("X", category="pooling")}),
    ]
    both = Library.open(folders)
    lacking, having = both.packs
    assert len(both.category("pooling", having)) == 1
    with pytest.raises(NotFoundError, match=f"{lacking} has no rules of the category pooling"):
        both.category("pooling", lacking)
    with pytest.raises(NotFoundError, match="has no rules of the category pooling"):
        render.catalogue(both, category="pooling", pack=lacking)


def test_a_pack_that_answers_brings_in_nothing_of_one_that_does_not(tmp_path: Path) -> None:
    query = "httpx: send a multipart form with a file and extra fields"
    more = {"rules__asyncio-file.md": rule("Send a file with extra fields")}
    ours = Library.open([ROOT])
    other = Library.open([own(tmp_path, name="other", **more)])
    assert ours.search(query) == ()
    both = Library([*ours.packs.values(), *other.packs.values()])
    hits = both.search(query)
    assert hits[0].item.id == "asyncio-file"
    assert {hit.pack for hit in hits} == {"other"}
