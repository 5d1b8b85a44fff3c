"""Lists of a data folder: written by people and rules, on disk before the answer, kept through restarts, snapshots and new features."""

from __future__ import annotations

import msgspec
import pytest
from click.testing import CliRunner

from shopward import Engine, Rulebook
from shopward.cli.list import list as list_verb
from shopward.errors import BadEvent, UsageError
from shopward.lists import Entry
from shopward.store.query import sql
from shopward.store.tables import Tables
from tests.end_to_end.story import START, rulebook
from tests.rules.books import FEATURES, QUIET, book, rule

HOUR = 3_600_000
BLOCK = rule("jump", "amount > 90", "{action: review, list: {add: blocked_devices, key: device, expires: 24h}}")
LISTED = rule("listed", 'listed("blocked_devices", device)', "deny", on="[login]")
MAIL = {
    "schema.yaml": "types: [login]\nfields:\n  account: {type: string, entity: account}\n"
    "  email: {type: string, entity: email, pii: true, normalise: lower}\n",
    "features/f.yaml": "account_logins_1h: {entity: account, measure: count, over: 1h}",
    "lists/l.yaml": "blocked_mails: {kind: block, entity: email}",
    "rules/r.yaml": f'id: r\ntitle: R\non: [login]\nwhen: listed("blocked_mails", email)\nthen: deny\n{QUIET}\n',
}


def event(i: int, type: str = "login", **fields) -> dict:
    return {"event_id": f"e{i}", "type": type, "ts": START + i * 1000, "account": f"a{i}", "device": "d1"} | fields


def opened(folder, rules: Rulebook | None = None, **options) -> Engine:
    return Engine(rules or book(BLOCK, LISTED), data=folder, mode="interpreted", **options)


def by_hand(**more) -> Entry:
    return Entry(**{"list": "blocked_devices", "key": "d1", "valid_from": START, "provenance": "analyst:kim"} | more)


def test_what_a_person_puts_on_a_list_reaches_the_next_decision_and_survives_a_kill(tmp_path):
    engine = opened(tmp_path)
    assert engine.decide(event(1)).action == "allow"
    assert engine.write_lists([by_hand(), by_hand(key="d2", expires=START + 2_500)]) == 2
    assert engine.decide(event(2)).action == "deny"
    assert [engine.decide(event(i, device="d2")).action for i in (3, 1_000)] == ["allow", "allow"]
    state, entries = engine.state_hash(), engine.lists.entries()
    engine.journal.release()  # no snapshot
    for _ in range(2):  # then from the log, then from a snapshot
        with opened(tmp_path) as engine:
            assert (engine.state_hash(), engine.lists.entries()) == (state, entries)
            assert engine.lists.said("blocked_devices", "d1", START + 5_000).provenance == "analyst:kim"
    rows = sql(tmp_path, "SELECT list, key, provenance, seq FROM lists ORDER BY key").to_pylist()
    assert rows == [
        {"list": "blocked_devices", "key": key, "provenance": "analyst:kim", "seq": -1} for key in ("d1", "d2")
    ]
    with Tables.open(tmp_path / "shopward.db") as tables:
        assert [e.key for e in tables.list_entries("blocked_devices")] == ["d1", "d2"]


def test_what_was_taken_off_a_list_stays_off_it(tmp_path):
    with opened(tmp_path) as engine:
        engine.write_lists([by_hand()])
        engine.write_lists([by_hand(valid_from=START + 1_500, remove=True)])
        assert [engine.decide(event(i)).action for i in (1, 2)] == ["deny", "allow"]
    with opened(tmp_path) as engine:
        assert engine.decide(event(3)).action == "allow"


def test_an_entry_that_cannot_be_taken_is_named_and_none_is_taken(tmp_path):
    with opened(tmp_path) as engine:
        frames = engine.journal.log.next_number
        with pytest.raises(BadEvent, match="entry 2: list: there is no list `blocked`; did you mean `blocked_devices`"):
            engine.write_lists([by_hand(), by_hand(list="blocked")])
        with pytest.raises(BadEvent, match="entry 1: key: list `blocked_devices` holds keys of 1"):
            engine.write_lists([by_hand(key=("d1", "a1"))])
        assert engine.journal.log.next_number == frames and engine.lists.entries() == []


def test_a_personal_key_is_a_pseudonym_in_the_log_however_it_was_typed(tmp_path):
    mail = Rulebook.from_files(MAIL)
    with opened(tmp_path, mail) as engine:
        engine.write_lists([by_hand(list="blocked_mails", key="Kim@Shop.Example")])
        assert engine.decide(event(1, email="kim@shop.example")).action == "deny"
        shown = engine.lists.entries()[0]["key"]
        engine.write_lists([by_hand(list="blocked_mails", key=shown, valid_from=START + 1_500, remove=True)])
        assert engine.decide(event(2, email="kim@shop.example")).action == "allow"
    for path in (tmp_path / "log").iterdir():
        assert b"shop.example" not in path.read_bytes().lower()


def test_a_rule_entry_begins_with_its_cause_and_still_holds_for_late_events_after_it(tmp_path):
    for data in (None, tmp_path):
        engine = opened(data)
        early = engine.decide(event(0, ts=START - HOUR))
        engine.decide(event(1, "order", amount=100))
        late = engine.decide(event(2, ts=START - HOUR // 2))
        assert (early.action, late.action) == ("allow", "deny")
        [entry] = engine.lists.entries()
        assert entry == {
            "list": "blocked_devices", "key": "d1", "valid_from": START + 1_000, "expires": START + 1_000 + 24 * HOUR,
            "provenance": "rule:jump", "seq": 1, "removed": None,
        }  # fmt: skip
        engine.close()
    [row] = sql(tmp_path, "SELECT epoch_ms(valid_from) AS since, seq FROM lists").to_pylist()
    assert row == {"since": START + 1_000, "seq": 1}


def test_the_state_hash_knows_lists_and_clock(tmp_path):
    engine = Engine(book(BLOCK, LISTED), mode="interpreted", seed=bytes(16))
    engine.decide(event(1))
    before = engine.state_hash()
    engine.write_lists([by_hand()])
    assert engine.state_hash() != before
    ended = Engine(book(BLOCK, LISTED), mode="interpreted", seed=bytes(16))
    ended.write_lists([by_hand(valid_from=0, expires=5)])
    ended.decide(event(1))
    assert ended.state_hash() == before  # nobody can be asked about it any more


def test_lists_survive_a_new_feature_when_their_log_is_gone(tmp_path):
    with opened(tmp_path) as engine:
        engine.journal.log.segment_bytes = 1
        engine.decide(event(1, "order", amount=100))
        for i in range(2, 6):
            engine.decide(event(i, device="other"))
        engine.snapshot()
        assert engine.journal.log.drop_before(4)
        clock, entries = engine.clock.value, engine.lists.entries()
    more = FEATURES + "account_more_2h: {entity: account, measure: count, over: 2h}\n"
    with opened(tmp_path, book(BLOCK, LISTED, features=more)) as engine:
        assert (engine.clock.value, engine.lists.entries()) == (clock, entries)
        assert engine.decide(event(9)).action == "deny"


def test_words_in_a_rulebook_do_not_make_it_replay_everything(tmp_path, monkeypatch):
    with opened(tmp_path, Rulebook.from_files(MAIL)) as engine:
        engine.decide(event(1))
    told = MAIL["schema.yaml"].replace("entity: account}", "entity: account, doc: who acts}")
    monkeypatch.setattr("shopward.replay._blocks", lambda frames: 1 / 0)
    with opened(tmp_path, Rulebook.from_files(MAIL | {"schema.yaml": told})) as engine:
        assert engine.seq == 1


def test_a_long_replay_is_not_repeated_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr("shopward.durable.SNAPSHOT_EVERY", 50)
    engine = opened(tmp_path)
    monkeypatch.setattr(engine.journal, "snapshot_due", 10**9)
    for i in range(60):
        engine.decide(event(i))
    engine.journal.release()  # crashed
    assert not list((tmp_path / "state").glob("*.snapshot"))
    opened(tmp_path).journal.release()
    assert list((tmp_path / "state").glob("*.snapshot"))


def test_a_type_that_left_the_rulebook_is_named_with_the_remedy(tmp_path):
    engine = opened(tmp_path)
    engine.decide(event(1, "order", amount=1))
    engine.journal.release()
    files = {name: text.replace("order, ", "") for name, text in book(LISTED).files.items()}
    without = Rulebook.from_files(files | {"features/all.yaml": "a_1h: {entity: account, measure: count, over: 1h}"})
    with pytest.raises(UsageError, match="type `order`, which the rulebook no longer has; name it in `types`"):
        opened(tmp_path, without)
    with opened(tmp_path) as engine:
        assert engine.seq == 1


def test_every_rulebook_that_was_in_force_is_kept_with_its_texts(tmp_path):
    first, second = book(BLOCK), book(BLOCK, LISTED)
    for rules in (first, second, first):
        opened(tmp_path, rules).close()
    for rules in (first, second):
        kept = msgspec.json.decode((tmp_path / "state" / "rulebooks" / f"{rules.version}.json").read_bytes())
        assert Rulebook.from_files(kept).version == rules.version


def test_the_command_adds_shows_and_removes(tmp_path):
    def run(*arguments: str):
        return CliRunner().invoke(list_verb, [*arguments, "--data", str(tmp_path / "data")])

    done = run("add", "blocked_devices", "d-9", "--expires", "7d", "--reason", "three stolen cards")
    assert done.exit_code == 0, done.output
    assert run("remove", "blocked_devices", "d-9").exit_code == 0
    answer = msgspec.json.decode(run("show", "blocked_devices", "d-9", "--json").stdout)
    first, last = answer["entries"]
    assert first["provenance"] == "by hand: three stolen cards" and first["expires"] and not first["remove"]
    assert last["remove"] and last["valid_from"] >= first["valid_from"]
    assert run("show", "blocked_devices", "nobody").output.strip() == "0 entries"
    wrong = run("add", "blocked_device", "d-9")
    assert "did you mean `blocked_devices`" in str(wrong.exception)


def test_rule_written_lists_are_one_state_however_the_stream_is_cut():
    events = [event(i, ("login", "order")[i % 2], device=f"d{i % 3}", amount=95 + i % 10) for i in range(60)]
    hashes = set()
    for size in (1, 7, 60):
        engine = Engine(rulebook(), mode="interpreted", seed=bytes(16))
        for at in range(0, 60, size):
            engine.decide_events([dict(e) for e in events[at : at + size]])
        hashes.add(engine.state_hash())
    one = Engine(rulebook(), mode="interpreted", seed=bytes(16))
    for e in events:
        one.decide(dict(e))
    assert hashes == {one.state_hash()} and one.lists.entries() == engine.lists.entries()
