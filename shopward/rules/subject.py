"""Who an event is about: the key that rollouts and the control arm hash, so that one buyer is always on the same side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shopward.declare.types import Schema
from shopward.hashing import canonical_text


def subject_roles(schema: Schema) -> list[tuple[str, str]]:
    """Role fields in the order in which they name the subject of an event: `account` first, then as declared."""
    return sorted(schema.roles.items(), key=lambda item: item[0] != "account")


def key_of(value: Any) -> str | None:
    """The text of a key value, None when it is missing.

    >>> [key_of(value) for value in ("d1", 7.0, float("nan"), None)]
    ['d1', '7', None, None]
    """
    return None if value is None or value != value else canonical_text(value)


def subject(roles: list[tuple[str, str]], get: Callable[[str], Any], event_id: str) -> str:
    """The account, or the first entity the event has, as `kind:id`.

    >>> subject([("account", "account"), ("terminal", "terminal")], {"account": None, "terminal": 7.0}.get, "e1")
    'terminal:7'
    """
    for role, kind in roles:
        key = key_of(get(role))
        if key is not None:
            return f"{kind}:{key}"
    return f"event:{event_id}"
