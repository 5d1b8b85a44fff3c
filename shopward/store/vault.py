"""Personal values, kept in one place: everywhere else there are only pseudonyms.

A field marked `pii` leaves the front door as `p_` and 32 hex digits. The value behind a pseudonym is only in the vault table,
under a key of its own; erasing a person deletes value and key, so nothing is left that ties the pseudonyms in log and lake to
anybody, and should the same value come again it gets another pseudonym. Equal values have equal pseudonyms in every field.

The installation's secrets are in `keys.json` (mode 0600) beside the log and the lake, never in them.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from shopward.errors import CorruptStore, UsageError
from shopward.hashing import SEED_BYTES
from shopward.store.files import REAL, room
from shopward.store.tables import Tables, now_ms, vault

KEYS_FILE = "keys.json"
CACHE = 100_000  # values remembered; at most twice as many are in memory
CHUNK = 500  # values asked for in one query


class Keys(msgspec.Struct, frozen=True):
    """The secrets of one installation, as hex.

    `reproducible` makes the same pseudonyms on every installation with these keys (for demonstrations and tests; an erased
    value that comes again is then known again).
    """

    pseudonyms: str
    hashes: str
    reproducible: bool = False

    @classmethod
    def draw(cls) -> Keys:
        return cls(secrets.token_hex(32), secrets.token_hex(SEED_BYTES))

    @classmethod
    def fixed(cls, seed: int) -> Keys:
        """Keys that follow from a number: not secret."""
        return cls(_digest(b"pseudonyms %d" % seed, 32).hex(), _digest(b"hashes %d" % seed, SEED_BYTES).hex(), True)

    @property
    def fingerprint(self) -> str:
        """Tells two sets of keys apart and gives neither away."""
        return _digest(self.pseudonyms.encode() + self.hashes.encode(), 8).hex()


def load_keys(folder: Path, keys: Keys | None = None) -> tuple[Keys, bool]:
    """The folder's keys (and whether they are new): those in `keys.json`, else `keys`, else drawn at random and written."""
    path = folder / KEYS_FILE
    if path.exists():
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Keys)
        except msgspec.MsgspecError as error:
            raise CorruptStore(
                f"{path}: {error}; restore it from a copy, without it no pseudonym can be resolved"
            ) from error
        if keys is not None and found != keys:
            raise UsageError(f"{path}: this folder has other keys than the ones given")
        return found, False
    found = keys or Keys.draw()
    _write_secret(path, msgspec.json.encode(found))
    return found, True


def _write_secret(path: Path, content: bytes) -> None:
    temp = path.with_name(f".{path.name}.tmp")
    temp.unlink(missing_ok=True)
    with room(path):
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        REAL.rename(temp, path)
        REAL.sync_folder(path.parent)


class Vault:
    """Gives out pseudonyms and remembers what they stand for. Safe to share between threads; one process per data folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vault = Vault.open(folder, keys=Keys.fixed(1))
    ...     name = vault.pseudonymise("email", "kim@example.org")
    ...     vault.commit()
    ...     name, vault.reveal(name), vault.erase("email", "kim@example.org"), vault.reveal(name)
    ...     vault.close()
    ('p_acf97d95ebe016b2320239db5443a950', 'kim@example.org', 1, None)
    """

    def __init__(self, tables: Tables, keys: Keys, cache: int = CACHE):
        self.tables, self.keys = tables, keys
        self._secret = bytes.fromhex(keys.pseudonyms)
        self._cache = cache
        self._young: dict[str, str] = {}
        self._old: dict[str, str] = {}
        self._pending: dict[bytes, dict[str, Any]] = {}  # given out, not yet in the table
        self._turn = threading.RLock()
        self._writing = (
            threading.Lock()
        )  # taken before `_turn`: names are given out while others are on their way to disk
        self.erasures = 0  # so often values were erased: what others remember of them is void then

    @classmethod
    def open(
        cls, folder: Path | str, db: Tables | str | None = None, keys: Keys | None = None, cache: int = CACHE
    ) -> Vault:
        """The vault of a data folder; `db` are the tables it is in (the folder's own SQLite file when not given).

        Raises CorruptStore when the keys do not belong to the tables: then no pseudonym could be resolved.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tables = db if isinstance(db, Tables) else Tables.open(db or folder / "shopward.db")
        expected = tables.get("keys")
        if expected is not None and not (folder / KEYS_FILE).exists() and keys is None:
            raise CorruptStore(
                f"{folder / KEYS_FILE}: missing, and the vault was written with it; restore it from a copy"
            )
        found, _ = load_keys(folder, keys)
        if expected is None:
            tables.put("keys", found.fingerprint)
        elif expected != found.fingerprint:
            raise CorruptStore(
                f"{folder / KEYS_FILE}: not the keys with which this vault was written; restore them from a copy"
            )
        return cls(tables, found, cache)

    @property
    def hash_seed(self) -> bytes:
        """The seed of this installation's hashes (16 bytes)."""
        return bytes.fromhex(self.keys.hashes)

    def pseudonymise(self, field: str, value: str) -> str:
        """The pseudonym of a value; call `commit` before anything that holds it is acknowledged."""
        known = self._young.get(value)
        return known if known is not None else self.pseudonymise_many(field, [value])[0]  # type: ignore[return-value]

    def pseudonymise_many(self, field: str, values: Sequence[str | None]) -> list[str | None]:
        """The same for a column; None stays None."""
        with self._turn:
            known: dict[str | None, str | None] = {None: None}
            known |= {
                value: name for value in values if value is not None and (name := self._recall(value)) is not None
            }
            missing = [value for value in dict.fromkeys(values) if value not in known]
            known |= self._learn(field, missing)  # type: ignore[arg-type]
            return [known[value] for value in values]

    def commit(self) -> None:
        """Return when every pseudonym given out so far can be resolved from disk. Raises StoreFull when there is no room."""
        with self._writing:
            with self._turn:
                given = list(self._pending.values())
            if not given:
                return
            try:
                self.tables.append(vault, given)
            except IntegrityError as error:
                raise UsageError(
                    "two processes write to one vault; give each data folder its own --db, or stop one"
                ) from error
            with self._turn:
                for row in given:
                    self._pending.pop(row["tag"], None)

    def reveal(self, pseudonym: str) -> str | None:
        """The value behind a pseudonym, or None when it was erased or never was one."""
        return self.reveal_many([pseudonym]).get(pseudonym)

    def reveal_many(self, pseudonyms: Iterable[str]) -> dict[str, str]:
        with self._turn:
            wanted = set(pseudonyms)
            found = {row["pseudonym"]: row["value"] for row in self._pending.values() if row["pseudonym"] in wanted}
            for part in _chunks(list(wanted)):
                query = sa.select(vault.c.pseudonym, vault.c.value).where(vault.c.pseudonym.in_(part))
                found |= {row["pseudonym"]: row["value"] for row in self.tables.rows(query)}
            return found

    def erase(self, kind: str, *values: str, who: str = "shopward") -> int:
        """Delete values and their keys for good, in every field and from every page of the database; returns how many there were.

        What log and lake hold about them stays, under pseudonyms that nobody can resolve any more. Raises UsageError when another
        process keeps old pages of the database in use; run it again then.
        """
        with self._writing, self._turn:
            self.erasures += 1
            tags = {self._tag(value): value for value in values}
            names = self._stored(list(tags)) | {t: row["pseudonym"] for t, row in self._pending.items() if t in tags}
            for tag, value in tags.items():
                self._pending.pop(tag, None)
                self._young.pop(value, None)
                self._old.pop(value, None)
            for part in _chunks(list(tags)):
                with self.tables.writing() as connection:
                    connection.execute(sa.delete(vault).where(vault.c.tag.in_(part)))
            for name in names.values():
                self.tables.record(who, "erased", name, {"kind": kind})
            self.tables.scrub(vault)
            return len(names)

    def close(self) -> None:
        self.commit()
        self.tables.close()

    # ---- inside

    def _recall(self, value: str) -> str | None:
        name = self._young.get(value)
        if name is None and (name := self._old.get(value)) is not None:
            self._remember(value, name)
        return name

    def _remember(self, value: str, name: str) -> None:
        if len(self._young) >= self._cache:
            self._old, self._young = self._young, {}
        self._young[value] = name

    def _learn(self, field: str, values: list[str]) -> dict[str, str]:
        """Pseudonyms of values that are not in memory: as stored, or new ones."""
        tags = {value: self._tag(value) for value in values}
        stored = self._stored([tag for tag in tags.values() if tag not in self._pending])
        names = {}
        for value, tag in tags.items():
            if tag in self._pending:
                names[value] = self._pending[tag]["pseudonym"]
            else:
                names[value] = stored[tag] if tag in stored else self._new(field, value, tag)
            self._remember(value, names[value])
        return names

    def _new(self, field: str, value: str, tag: bytes) -> str:
        own_key = _digest(tag, 16, self._secret) if self.keys.reproducible else secrets.token_bytes(16)
        name = "p_" + blake2b(value.encode(), digest_size=16, key=self._secret, salt=own_key).hexdigest()
        self._pending[tag] = {
            "tag": tag, "pseudonym": name, "own_key": own_key, "kind": field, "value": value, "since": now_ms(),
        }  # fmt: skip
        return name

    def _stored(self, tags: list[bytes]) -> dict[bytes, str]:
        if self.tables.is_sqlite:
            return self._looked_up(tags) if tags else {}
        found: dict[bytes, str] = {}
        for part in _chunks(tags):
            query = sa.select(vault.c.tag, vault.c.pseudonym).where(vault.c.tag.in_(part))
            found |= {bytes(row["tag"]): row["pseudonym"] for row in self.tables.rows(query)}
        return found

    def _looked_up(self, tags: list[bytes]) -> dict[bytes, str]:
        """The same without the machinery between: this is on the path of every value not seen lately."""
        connection = self.tables.engine.raw_connection()
        found: dict[bytes, str] = {}
        try:
            cursor = connection.cursor()
            for part in _chunks(tags):
                marks = ",".join("?" * len(part))
                cursor.execute(f"SELECT tag, pseudonym FROM vault WHERE tag IN ({marks})", part)
                found |= cursor.fetchall()
            return found
        finally:
            connection.close()

    def _tag(self, value: str) -> bytes:
        return _digest(value.encode(), 16, self._secret)


def _digest(data: bytes, size: int, key: bytes = b"") -> bytes:
    return blake2b(data, digest_size=size, key=key, person=b"shopward").digest()


def _chunks(items: list) -> Iterable[list]:
    return (items[i : i + CHUNK] for i in range(0, len(items), CHUNK))
