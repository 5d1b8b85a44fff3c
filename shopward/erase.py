"""Forgetting a person: every personal value that was ever seen with an entity leaves the vault, with the key that tied it to its pseudonym.

Log, lake, snapshots and tables hold pseudonyms only; what they say about the entity stays, and nobody can tell any more whose it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from shopward.durable import in_force, kept_rulebook
from shopward.errors import UsageError
from shopward.store.files import REAL
from shopward.store.vault import Vault

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook


class Erased(msgspec.Struct, frozen=True):
    """How many events of the entity there were, and how many personal values left the vault."""

    entity: str
    events: int
    values: int


def erase(data: Path, entity: str, who: str) -> Erased:
    """Forget the personal values of an entity (`account:42`, `email:kim@example.org`), also where others share them.

    Only while no server owns the folder (a running one is asked over HTTP: it remembers values). Raises UsageError when it does,
    and for an entity of a kind that the rulebook does not have.
    """
    if not (data / "shopward.db").exists():
        raise UsageError(f"no data folder at {data}; name one with --data")
    REAL.make_folder(data / "log")
    unlock = REAL.lock(data / "log" / "lock")
    try:
        vault = Vault.open(data)
        try:
            events, values = seen_with(data, vault, entity)
            return Erased(entity, events, forget(vault, entity, values, who))
        finally:
            vault.close()
    finally:
        unlock()


def seen_with(data: Path, vault: Vault, entity: str) -> tuple[int, set[str]]:
    """How many events name the entity, and the personal values in them."""
    rulebook = kept_rulebook(data, in_force(data).version)
    if rulebook is None:
        raise UsageError(f"{data}: it is not known which fields are personal; start a server on it once")
    fields, value = _fields_of(rulebook, entity)
    names = [name for name, field in rulebook.schema.fields.items() if field.pii]
    known = {value} if any(rulebook.schema.fields[f].pii for f in fields) else set()
    told = {vault.pseudonymise(f, value) if rulebook.schema.fields[f].pii else value for f in fields}
    events, pseudonyms = _ask(data, fields, names, sorted(told))
    return events, known | set(vault.reveal_many(pseudonyms).values())


def forget(vault: Vault, entity: str, values: set[str], who: str) -> int:
    """Take values out of the vault; the audit says that it was done, and not what they were."""
    kind = entity.partition(":")[0]
    erased = vault.erase(kind, *sorted(values), who=who) if values else 0
    vault.tables.record(who, "entity erased", kind, {"values": erased})
    return erased


def _fields_of(rulebook: Rulebook, entity: str) -> tuple[list[str], str]:
    """The fields that hold ids of this kind, and the id in its usual form."""
    kind, _, value = entity.partition(":")
    fields = [role for role, of in rulebook.schema.roles.items() if of == kind]
    if not fields or not value:
        kinds = ", ".join(sorted(set(rulebook.schema.roles.values())))
        raise UsageError(f"--entity {kind}:...: expected KIND:ID with a kind of the rulebook ({kinds})")
    from shopward.ingest import Normaliser

    found = Normaliser.of(rulebook).readers[fields[0]](value)
    return fields, found if isinstance(found, str) else value


def _ask(data: Path, fields: list[str], names: list[str], told: list[str]) -> tuple[int, list[str]]:
    from shopward.store.query import connect

    with connect(data) as db:
        there = {row[0] for row in db.execute("SELECT column_name FROM (DESCRIBE events)").fetchall()}
        where = " OR ".join(f'CAST("{f}" AS VARCHAR) IN (SELECT unnest(?))' for f in fields if f in there)
        if not where:
            return 0, []
        given: list[Any] = [told for f in fields if f in there]
        columns = [f'"{name}"' for name in names if name in there]
        rows = db.execute(f"SELECT {', '.join([*columns, '1'])} FROM events WHERE {where}", given).fetchall()
    return len(rows), [text for row in rows for text in row[:-1] if isinstance(text, str)]
