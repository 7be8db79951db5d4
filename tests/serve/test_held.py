"""What clients hold, and whose it is."""

from __future__ import annotations

import pytest

from packlore.serve.held import Held, client_of


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
        ("", ""),
        ("not:an:address", "not:an:address"),
    ],
)
def test_a_client_is_an_address_or_the_network_of_one(address: str, client: str) -> None:
    assert client_of(address) == client


def test_the_oldest_of_the_client_that_has_most_is_found() -> None:
    held: Held[str] = Held()
    held.add("first", "a")
    held.add("second", "b")
    held.add("third", "b")
    assert (held.oldest(), held.oldest_of("b"), held.oldest_of_most()) == (
        "first",
        "second",
        "second",
    )
    held.add("large", "a", size=9)
    assert (held.oldest_of_most(), held.size_of("a"), held.size, len(held)) == ("first", 10, 12, 4)
    for each in ("second", "third", "first", "never there"):
        held.discard(each)
    assert (list(held), held.size_of("a"), held.size_of("b")) == (["large"], 9, 0)
