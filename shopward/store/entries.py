"""List entries as people and other programs write them, on their way in: times read, names checked, keys in their usual form.

A key is brought into the form that events have it in (an e-mail address in lower case, a personal value as its pseudonym), so
that an entry matches however it was typed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from shopward.declare.durations import parse_duration
from shopward.errors import BadEvent
from shopward.event import name_of, parse_time
from shopward.expr.place import suggest
from shopward.hashing import canonical_text
from shopward.lists import Entry, Key

if TYPE_CHECKING:
    from shopward.declare.types import ListSpec, Schema

FIELDS = ("list", "key", "valid_from", "expires", "provenance", "remove")
Reader = Callable[[Any], Any]
Pseudonym = Callable[[str, str], str]


def read_entry(row: Mapping[str, Any], now: int) -> Entry:
    """An entry from a row `list, key, [valid_from], [expires], [provenance], [remove]`; BadEvent says what is wrong with it.

    `valid_from` is now when not given; `expires` is a time, or a duration counted from valid_from.

    >>> read_entry({"list": "blocked_devices", "key": "d1", "expires": "7d", "provenance": "kim"}, now=1_000).expires
    604801000
    """
    if not isinstance(row, Mapping):
        raise BadEvent(f"expected an object, found {name_of(row)}")
    odd = [name for name in row if name not in FIELDS]
    if odd:
        hint = suggest(str(odd[0]), FIELDS, "an entry's field")
        raise BadEvent("not part of a list entry" + (f"; {hint}" if hint else ""), field=str(odd[0])[:80])
    start = now if row.get("valid_from") is None else _time(row["valid_from"], "valid_from")
    expires = _end(row.get("expires"), start)
    if expires is not None and expires <= start:
        raise BadEvent("ends before it begins", field="expires")
    remove = row.get("remove") or False
    if not isinstance(remove, bool):
        raise BadEvent(f"expected true or false, found {name_of(remove)}", field="remove")
    key = _parts(row.get("key"))
    return Entry(
        list=_text(row.get("list"), "list"), key=key[0] if len(key) == 1 else key, valid_from=start, expires=expires,
        provenance="" if row.get("provenance") is None else _text(row["provenance"], "provenance"), remove=remove,
    )  # fmt: skip


def fitted(
    entry: Entry,
    lists: Mapping[str, ListSpec],
    schema: Schema,
    readers: Mapping[str, Reader],
    pseudonym: Pseudonym | None,
) -> Entry:
    """The entry with its key as events have it. Raises BadEvent for an unknown list and for a key that cannot be on it."""
    spec = lists.get(entry.list)
    if spec is None:
        hint = suggest(entry.list, lists, "a list") if lists else "this rulebook declares none"
        raise BadEvent(f"there is no list `{entry.list[:80]}`" + (f"; {hint}" if hint else ""), field="list")
    parts = (entry.key,) if isinstance(entry.key, str) else entry.key
    if not spec.entity:
        return entry
    if len(parts) != len(spec.entity):
        wanted = ", ".join(spec.entity)
        raise BadEvent(
            f"list `{spec.name}` holds keys of {len(spec.entity)} ({wanted}), this has {len(parts)}", field="key"
        )
    usual = tuple(_usual(kind, part, schema, readers, pseudonym) for kind, part in zip(spec.entity, parts, strict=True))
    return msgspec.structs.replace(entry, key=usual[0] if len(usual) == 1 else usual)


def _usual(kind: str, part: str, schema: Schema, readers: Mapping[str, Reader], pseudonym: Pseudonym | None) -> str:
    """One value of a key as the first field of its kind would hold it."""
    field = next((f for f in schema.fields.values() if f.entity == kind), None)
    if field is None:
        return part
    try:
        found = readers[field.name](part)
    except BadEvent as wrong:
        raise BadEvent(wrong.reason, field="key") from None
    if found is None:
        raise BadEvent("empty", field="key")
    text = found if isinstance(found, str) else canonical_text(found)
    return pseudonym(field.name, text) if field.pii and pseudonym is not None else text


def _parts(key: Any) -> Key:
    parts = key if isinstance(key, list | tuple) else [key]
    if not parts:
        raise BadEvent("missing; an entry names who is on the list", field="key")
    return tuple(_text(part, "key") for part in parts)


def _text(value: Any, field: str) -> str:
    if value is None or value == "":
        raise BadEvent("missing", field=field)
    if not isinstance(value, str | int | float):
        raise BadEvent(f"expected a string, found {name_of(value)}", field=field)
    text = canonical_text(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadEvent("not valid Unicode", field=field) from None
    return text


def _end(value: Any, start: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return start + parse_duration(value)
        except ValueError:
            pass
    return _time(value, "expires")


def _time(value: Any, field: str) -> int:
    try:
        return parse_time(value)
    except BadEvent as wrong:
        raise BadEvent(
            wrong.reason + (", or a duration such as 7d" if field == "expires" else ""), field=field
        ) from None
