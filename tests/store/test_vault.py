"""Personal values are in the vault and nowhere else; erased ones are nowhere at all."""

from __future__ import annotations

import re
import sqlite3
import stat
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from shopward.errors import CorruptStore, StoreFull, UsageError
from shopward.store import snapshot
from shopward.store.frames import Frame, canonical
from shopward.store.log import Log, read
from shopward.store.tables import Tables, audit
from shopward.store.vault import KEYS_FILE, Keys, Vault


@pytest.fixture
def vault(database, tmp_path):
    opened = Vault.open(tmp_path / "data", db=database)
    yield opened
    opened.close()


def test_equal_values_have_equal_pseudonyms_in_every_field_and_batch(vault):
    one = vault.pseudonymise("email", "kim@example.org")
    assert re.fullmatch(r"p_[0-9a-f]{32}", one)
    assert vault.pseudonymise_many("backup_email", ["lee@example.org", None, "kim@example.org", "lee@example.org"]) == [
        (lee := vault.pseudonymise("email", "lee@example.org")), None, one, lee,
    ]  # fmt: skip
    assert one != lee


def test_pseudonyms_survive_restarts_and_a_tiny_memory(database, tmp_path):
    values = [f"user{i}@example.org" for i in range(2_000)]
    first = Vault.open(tmp_path, db=database, cache=10)
    names = first.pseudonymise_many("email", values)
    assert first.pseudonymise_many("email", values) == names  # pending, long out of the cache
    first.commit()
    assert first.pseudonymise_many("email", values) == names
    assert len(first._young) + len(first._old) <= 20
    first.close()
    again = Vault.open(tmp_path, db=database)
    assert again.pseudonymise_many("email", values[::-1]) == names[::-1]
    assert again.reveal_many(names) == dict(zip(names, values, strict=True))
    again.close()


def test_what_was_not_committed_is_not_on_disk(database, tmp_path):
    first = Vault.open(tmp_path, db=database)
    name = first.pseudonymise("email", "kim@example.org")
    assert first.reveal(name) == "kim@example.org"
    again = Vault.open(tmp_path, db=database)
    assert again.reveal(name) is None
    first.commit()
    assert again.reveal(name) == "kim@example.org"
    again.close()
    first.tables.close()


def test_an_erased_value_cannot_be_resolved_and_comes_back_as_somebody_else(vault):
    before = vault.pseudonymise("email", "kim@example.org")
    vault.pseudonymise("email", "lee@example.org")
    vault.commit()
    assert vault.erase("email", "kim@example.org", "nobody@example.org", who="analyst:kai") == 1
    assert vault.reveal(before) is None
    assert vault.pseudonymise("email", "kim@example.org") != before
    (line,) = vault.tables.rows(sa.select(audit))
    assert (line["who"], line["did"], line["subject"]) == ("analyst:kai", "erased", before)
    assert "kim@example.org" not in str(line)


def test_erasing_what_was_never_committed(vault):
    name = vault.pseudonymise("email", "kim@example.org")
    assert vault.erase("email", "kim@example.org") == 1
    vault.commit()
    assert vault.reveal(name) is None


def test_two_installations_do_not_share_pseudonyms_unless_told_to(tmp_path):
    names = set()
    for i, keys in enumerate([None, None, Keys.fixed(1), Keys.fixed(1), Keys.fixed(2)]):
        vault = Vault.open(tmp_path / str(i), keys=keys)
        names.add((vault.pseudonymise("email", "kim@example.org"), vault.hash_seed))
        vault.close()
    assert len(names) == 4


def test_the_keys_are_readable_by_the_owner_only(tmp_path):
    Vault.open(tmp_path).close()
    assert stat.S_IMODE((tmp_path / KEYS_FILE).stat().st_mode) == 0o600


def test_lost_or_foreign_keys_are_noticed(tmp_path):
    Vault.open(tmp_path).close()
    keys = (tmp_path / KEYS_FILE).read_bytes()
    (tmp_path / KEYS_FILE).unlink()
    with pytest.raises(CorruptStore, match="keys.json: missing, and the vault was written with it"):
        Vault.open(tmp_path)
    Vault.open(tmp_path / "other").close()
    (tmp_path / KEYS_FILE).write_bytes((tmp_path / "other" / KEYS_FILE).read_bytes())
    with pytest.raises(CorruptStore, match="not the keys with which this vault was written"):
        Vault.open(tmp_path)
    with pytest.raises(UsageError, match="has other keys than the ones given"):
        Vault.open(tmp_path, keys=Keys.fixed(3))
    (tmp_path / KEYS_FILE).write_bytes(keys[:-20])
    with pytest.raises(CorruptStore, match="restore it from a copy"):
        Vault.open(tmp_path)


def test_no_frame_is_on_disk_before_the_values_it_points_to(tmp_path):
    vault = Vault.open(tmp_path)
    log = Log.open(tmp_path / "log")

    def commit_then_look() -> None:
        vault.commit()
        seen.append(([f.seq0 for f in read(tmp_path / "log")], other.reveal(name)))

    log.before_sync = commit_then_look
    other, seen = Vault.open(tmp_path), []
    name = vault.pseudonymise("email", "kim@example.org")
    log.append(Frame.of_events(0, 0, [{"email": name}], [0], ["e1"]))
    assert other.reveal(name) is None
    log.sync()
    assert seen == [([], "kim@example.org")]
    log.close()


def test_a_vault_without_room_keeps_the_frame_off_the_disk(tmp_path):
    vault, log = Vault.open(tmp_path), Log.open(tmp_path / "log")

    def no_room() -> None:
        raise OSError(28, "No space left on device")

    log.before_sync = no_room
    log.append(Frame.of_events(0, 0, [{"email": vault.pseudonymise("email", "kim@example.org")}], [0], ["e1"]))
    with pytest.raises(StoreFull):
        log.sync()
    assert list(read(tmp_path / "log")) == []
    log.before_sync = vault.commit
    log.close()
    assert [f.seq0 for f in read(tmp_path / "log")] == [0]


PEOPLE = [f"kim.{i}.zwetschgenkuchen@example.org" for i in range(300)]


def shop_run(folder: Path) -> list[str]:
    """A small run that touches every kind of file of a data folder; gives back the pseudonyms."""
    from shopward.lists import Entry
    from shopward.store.lake import compact

    vault = Vault.open(folder)
    names = []
    with Log.open(folder / "log", before_sync=vault.commit, segment_bytes=20_000) as log:
        for i, person in enumerate(PEOPLE):
            names.append(vault.pseudonymise("email", person))
            event = {"event_id": f"e{i}", "ts": i, "type": "login", "email": names[-1]}
            log.append(
                Frame.of_events(i, i, canonical([event]), [i], [f"e{i}"], [{"event_id": f"e{i}", "action": "allow"}])
            )
            if i % 50 == 0:
                log.sync()
    snapshot.save(folder / "state", {"rows": np.arange(9)}, snapshot.Meta(seq=300, frame=300))
    vault.tables.write_lists([Entry(list="blocked", key=names[0], valid_from=0)])
    vault.tables.record("kim", "looked", names[0])
    vault.close()
    compact(folder)
    return names


def files_with(folder: Path, text: str) -> set[str]:
    return {p.name for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()}


def test_personal_values_are_in_the_vault_and_nowhere_else(tmp_path):
    shop_run(tmp_path)
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) > 6
    assert files_with(tmp_path, "zwetschgenkuchen") <= {"shopward.db", "shopward.db-wal"} and files_with(
        tmp_path, PEOPLE[7]
    )


def test_after_erasing_not_a_byte_is_left(tmp_path):
    names = shop_run(tmp_path)
    vault = Vault.open(tmp_path)
    vault.erase("email", *PEOPLE[::2])
    for i in range(0, 300, 2):
        assert files_with(tmp_path, PEOPLE[i]) == set()
    assert vault.reveal(names[1]) == PEOPLE[1]
    vault.close()
    assert files_with(tmp_path, PEOPLE[0]) == set() and files_with(tmp_path, PEOPLE[1]) == {"shopward.db"}


def test_erasing_beside_a_reader_of_old_pages_says_so(tmp_path):
    vault = Vault.open(tmp_path, db=Tables.open(tmp_path / "shopward.db", patience_ms=50))
    vault.pseudonymise("email", "kim@example.org")
    vault.commit()
    reader = sqlite3.connect(tmp_path / "shopward.db")
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM vault").fetchone() == (1,)
    with pytest.raises(UsageError, match="another process still reads old pages; run it again"):
        vault.erase("email", "kim@example.org")
    reader.close()
    vault.erase("email", "kim@example.org")
    assert files_with(tmp_path, "kim@example.org") == set()
    vault.close()


def test_pseudonyms_are_given_out_by_many_threads(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    vault = Vault.open(tmp_path, cache=5)

    def work(i: int) -> list[str | None]:
        names = vault.pseudonymise_many("email", [f"u{j}" for j in range(i % 7, 60)])
        vault.commit()
        return names[-10:]

    with ThreadPoolExecutor(4) as pool:
        assert len({tuple(names) for names in pool.map(work, range(40))}) == 1
    assert isinstance(vault.tables, Tables)
    vault.close()
