"""What can go wrong with a call; everything odd inside a pack is a `Problem` instead."""

from __future__ import annotations


class PackError(Exception):
    """Base of all errors of this package. Its text is meant for the person or agent who called."""


class NoPackError(PackError):
    """There is no pack where one was asked for."""


class NotFoundError(PackError):
    """An id, category or path that no pack holds. The text names the nearest that exist."""


class BadArgumentError(PackError):
    """An argument outside its bounds. The text names the bounds."""
