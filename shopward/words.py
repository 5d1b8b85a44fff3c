"""Numbers in sentences for people: how many of what, in the singular or the plural."""

from __future__ import annotations


def count(n: int, one: str, many: str | None = None) -> str:
    """A number and its noun; `many` where the plural is not `one` with an s.

    >>> count(1, "event"), count(2_000, "event"), count(1, "address", "addresses"), count(0, "reply", "replies")
    ('1 event', '2,000 events', '1 address', '0 replies')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"
