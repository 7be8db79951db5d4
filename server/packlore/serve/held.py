"""What clients hold of something that all share: how much each, the oldest, and who has most."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from ipaddress import AddressValueError, IPv6Address
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
IPV6_CLIENT = 64
"""Bits of an IPv6 address that say whose it is; the rest a client gives itself (RFC 4291, 2.5.4)."""


def client_of(address: str) -> str:
    """What stands for a client: its address, and of IPv6 the network that is its own."""
    if ":" not in address:
        return address
    try:
        found = IPv6Address(address)
    except AddressValueError:
        return address
    return str(found.ipv4_mapped or IPv6Address(int(found) >> IPV6_CLIENT << IPV6_CLIENT))


class Held(Generic[T]):
    """Things by the client that holds them, the oldest first. Each has a size, of 1 or more."""

    def __init__(self) -> None:
        self.size = 0
        self._all: OrderedDict[T, tuple[str, int]] = OrderedDict()
        self._of: dict[str, OrderedDict[T, None]] = {}
        self._sizes: dict[str, int] = {}

    def add(self, each: T, client: str, size: int = 1) -> None:
        """Take note of a thing that is not held yet."""
        self._all[each] = (client, size)
        self._of.setdefault(client, OrderedDict())[each] = None
        self._sizes[client] = self._sizes.get(client, 0) + size
        self.size += size

    def discard(self, each: T) -> None:
        """Forget a thing, where it is held."""
        if each not in self._all:
            return
        client, size = self._all.pop(each)
        self.size -= size
        self._sizes[client] -= size
        del self._of[client][each]
        if not self._of[client]:
            del self._of[client], self._sizes[client]

    def size_of(self, client: str) -> int:
        """The sizes of what a client holds, added up."""
        return self._sizes.get(client, 0)

    def oldest(self) -> T:
        """The oldest thing of all; StopIteration where there is none."""
        return next(iter(self._all))

    def oldest_of(self, client: str) -> T:
        """The oldest thing of a client; KeyError where it has none."""
        return next(iter(self._of[client]))

    def oldest_of_most(self) -> T:
        """The oldest thing of the client that holds most; ValueError where there is none."""
        return self.oldest_of(max(self._sizes, key=self._sizes.__getitem__))

    def __iter__(self) -> Iterator[T]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)
