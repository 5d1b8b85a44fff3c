"""Whatever comes in, by file, call or HTTP: what is wrong is said with field and line, nothing is left behind in state or log, and
the next good event is decided. Text in a rulebook never runs."""

from __future__ import annotations

import asyncio
import gzip
import sys
from pathlib import Path
from random import Random

import httpx
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shopward import Engine, Rulebook
from shopward.cli import main
from shopward.errors import BadEvent, RulebookError
from shopward.ingest import DeadLetters
from shopward.serve.app import MAX_EVENT, App
from tests.end_to_end.story import START
from tests.rules.books import FEATURES, LISTS, SCHEMA, book, rule

FAR = 4_070_908_800_000  # 2099


def order(i: int = 0, **fields) -> dict:
    event = {"event_id": f"e{i}", "type": "order", "ts": START + i, "account": "a1", "device": "d1", "amount": 5.0}
    return event | {"card_bin": "411111", "country": "US"} | fields


def rules() -> Rulebook:
    return book(
        rule("big", "amount > 100", "deny"),
        rule("foreign", "bins_country(card_bin) != country", "review"),
        rule("reads", "items > 1000 and success"),
        rule("unknown_bin", "bins_country(card_bin) is None and amount > 50", "challenge"),
    )


def nested(levels: int) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


# ---- by call

FIELDS = [
    ({"amount": float("inf")}, "amount: infinite"),
    ({"amount": -1}, "amount: negative"),
    ({"amount": 10**30}, "amount: over 10,000,000,000"),
    ({"amount": 10**400}, "amount: "),
    ({"amount": "lots"}, "amount: expected a number, found a string"),
    ({"amount": {"a": 1}}, "amount: expected a number, found an object"),
    ({"items": 2**64}, "items: a number beyond 64 bits"),
    ({"items": 10**400}, "items: a number beyond 64 bits"),
    ({"items": float("-inf")}, "items: infinite"),
    ({"success": "maybe"}, "success: expected true or false"),
    ({"success": 10**400}, "success: expected true or false"),
    ({"account": ["a1"]}, "account: expected a string, found a list"),
    ({"account": b"a1"}, "account: expected a string, found a bytes"),
    ({"account": "\ud800"}, "account: not valid Unicode"),
    ({"account": "x" * 9_000}, "account: longer than 8,192 bytes"),
    ({"event_id": ""}, "event_id: empty"),
    ({"event_id": "\udfff"}, "event_id: not valid Unicode"),
    ({"event_id": 2**70}, "event_id: a number beyond 64 bits"),
    ({"event_id": "x" * 9_000}, "event_id: longer than 8,192 bytes"),
    ({"event_id": [1]}, "event_id: expected a string, found a list"),
    ({"ts": None}, "ts: missing"),
    ({"ts": float("nan")}, "ts: time out of range"),
    ({"ts": 10**25}, "ts: time out of range"),
    ({"ts": -5}, "ts: before 1970"),
    ({"ts": "yesterday"}, "ts: not a time"),
    ({"ts": True}, "ts: expected ISO 8601"),
    ({"ts": FAR}, "ts: in the future .2099-01-01T00:00:00Z."),
    ({"type": None}, "type: missing"),
    ({"type": []}, "type: expected the name of an event type"),
    ({"type": {"a": 1}}, "type: expected a plain value"),
    ({"type": "odrer"}, "unknown event type `odrer`; did you mean `order`"),
]
KEPT = [  # what no rule reads, but what the log has to hold
    ({f"f{i}": i for i in range(1_200)}, "more than 1000 fields"),
    ({"note": "\ud800"}, "note: not valid Unicode"),
    ({"\ud800": 1}, r"\\ud800: not valid Unicode"),
    ({"note": object()}, "note: a value or a name that JSON cannot hold"),
    ({5: 1}, "5: a value or a name that JSON cannot hold"),
    ({"note": [{5: 1}]}, "note: a value or a name that JSON cannot hold"),
    ({"note": nested(40)}, "note: nested deeper than 16 levels"),
    ({"note": nested(50_000)}, "note: nested deeper than 16 levels"),
    ({"note": 10**5_000}, "note: a value or a name that JSON cannot hold"),
    ({"note": "x" * 1_100_000}, "larger than a record may be"),
]


@pytest.fixture(scope="module")
def memory() -> Engine:
    return Engine(rules(), mode="interpreted")


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    with Engine(rules(), data=tmp_path_factory.mktemp("data"), mode="interpreted") as engine:
        yield engine


def standing(engine: Engine) -> tuple:
    """Everything a refused event must leave as it was."""
    log = engine.journal.log.next_seq if engine.journal else 0
    return engine.state_hash(), engine.seq, engine.clock.value, log


def refused(engine: Engine, event, reason: str) -> None:
    engine.decide(order(engine.seq))
    before = standing(engine)
    with pytest.raises(BadEvent, match=reason):
        engine.decide(event)
    good = order(engine.seq)
    first, bad, last = engine.decide_events([good, event, order(engine.seq + 1, amount=500.0)])
    assert isinstance(bad, BadEvent) and (first.action, last.action) == ("allow", "deny")
    assert before != standing(engine)
    assert engine.decide(order(engine.seq)).action == "allow"


@pytest.mark.parametrize(("fields", "reason"), FIELDS)
def test_a_bad_field_is_named_and_leaves_nothing_behind(memory, logged, fields, reason):
    for engine in (memory, logged):
        before = standing(engine)
        with pytest.raises(BadEvent, match=reason):
            engine.decide(order(engine.seq) | fields)
        assert standing(engine) == before
        refused(engine, order(engine.seq) | fields, reason)


@pytest.mark.parametrize(("fields", "reason"), KEPT)
def test_what_the_log_could_not_give_back_is_refused_alone(logged, fields, reason):
    before = standing(logged)
    with pytest.raises(BadEvent, match=reason):
        logged.decide(order(logged.seq) | fields)
    assert standing(logged) == before
    refused(logged, order(logged.seq) | fields, reason)


@pytest.mark.parametrize("event", [None, [], "text", 7, b"{}"])
def test_what_is_no_object_is_refused(memory, logged, event):
    for engine in (memory, logged):
        refused(engine, event, "expected an object, found")


def test_nan_is_null_and_a_missing_lookup_value_is_null_too(memory, logged):
    for engine in (memory, logged):
        assert engine.decide(order(engine.seq, amount=float("nan"))).action == "allow"
        assert engine.decide(order(engine.seq, card_bin="999999")).action == "allow"
        assert engine.decide(order(engine.seq, card_bin="999999", amount=60)).reasons == ("unknown_bin",)
        assert engine.decide(order(engine.seq, card_bin="424242")).reasons == ("foreign",)


def test_a_log_that_saw_all_of_this_replays_to_the_same_state(tmp_path):
    with Engine(rules(), data=tmp_path, mode="interpreted") as engine:
        for i, (fields, _) in enumerate(
            [*FIELDS, *KEPT, ({"note": nested(12)}, ""), ({"note": 10**400}, ""), ({"note": {1, 2}}, "")]
        ):
            engine.decide_events([order(2 * i), order(2 * i + 1) | fields])
        state, n = engine.state_hash(), engine.seq
        engine.journal.release()
    with Engine(rules(), data=tmp_path, mode="interpreted") as engine:
        assert (engine.state_hash(), engine.seq) == (state, n)


def test_bad_labels_are_refused_alone_and_say_why(logged):
    logged.decide(order(900))
    good = {"event_id": "e900", "label": 1, "label_ts": START + 900}
    before = standing(logged)
    for fields, reason in (
        ({"label": 2}, "label: expected 0 or 1"),
        ({"label": None}, "label: expected 0 or 1"),
        ({"label": [1]}, "label: expected 0 or 1"),
        ({"label_ts": "soon"}, "label_ts: not a time"),
        ({"label_ts": None}, "label_ts: missing"),
        ({"label_ts": {}}, "label_ts: expected ISO 8601"),
        ({"event_id": None}, "event_id: missing"),
        ({"event_id": ["x"]}, "event_id: expected a string, found a list"),
        ({"event_id": "\ud800"}, "event_id: not valid Unicode"),
        ({"source": "\udfff"}, "source: not valid Unicode"),
        ({"amount": "abc"}, "amount: expected a number"),
        ({"amount": float("nan")}, "amount: expected a number"),
        ({"label_ts": FAR}, "label_ts: in the future (2099"),
    ):
        told = logged.label([good | fields])
        assert (told["taken"], [wrong["row"] for wrong in told["refused"]]) == (0, [1])
        assert reason in told["refused"][0]["error"]
        assert standing(logged) == before
    told = logged.label([good | {"label": 2}, good])
    assert told["taken"] == 1 and [wrong["row"] for wrong in told["refused"]] == [1]


# ---- over HTTP

BODIES = [
    (b"", 400, "JSON"),
    (b"{broken", 400, "JSON"),
    (b"[1]", 400, "Expected `object`"),
    (b"null", 400, "Expected `object`"),
    (b'{"a":"\xff"}', 400, "utf-8"),
    (b'{"a":"\\ud800"}', 400, "JSON"),
    (b'{"type":"order","amount":NaN}', 400, "JSON"),
    (b'{"type":"order","amount":1e999}', 400, "out of range"),
    (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, 400, "nested too deeply"),
    (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "nested too deeply"),
    (b'{"a":"' + b"x" * MAX_EVENT + b'"}', 413, "262,144 bytes"),
    (msgspec.json.encode(order(note=nested(30))), 422, "note: nested deeper"),
    (msgspec.json.encode(order(amount=-1)), 422, "amount: negative"),
    (msgspec.json.encode(order(amount=10**30)), 422, "amount: over"),
    (msgspec.json.encode(order(items=2**64)), 422, "items: a number beyond 64 bits"),
    (msgspec.json.encode(order(account=[1])), 422, "account: expected a string"),
    (msgspec.json.encode(order(type="label", label=1, label_event="e1")), 422, "label"),
]


def talk(engine: Engine, requests: list[tuple[str, bytes]]) -> list[httpx.Response]:
    """The answers of an app around this engine, which stays open."""

    async def story() -> list[httpx.Response]:
        app = App(engine, "token")
        app.decider.start()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://shop", headers={"authorization": "Bearer token"}
        ) as client:
            return [await client.post(path, content=body) for path, body in requests]

    return asyncio.run(story())


@pytest.mark.parametrize(("body", "status", "reason"), BODIES)
def test_a_bad_body_gets_a_clear_answer_and_the_next_event_is_decided(logged, body, status, reason):
    before = standing(logged)
    bad, batch = talk(logged, [("/v1/decide", body), ("/v1/decide/batch", body.replace(b"\n", b" "))])
    assert bad.status_code == status and reason in bad.json()["error"]
    assert batch.status_code == 200 and all(
        reason in msgspec.json.decode(line)["error"] for line in batch.text.splitlines()
    )
    assert standing(logged) == before
    mixed = b"\n".join(
        [
            msgspec.json.encode(order(logged.seq)),
            b"",
            body or b"{",
            msgspec.json.encode(order(logged.seq + 1, amount=500)),
        ]
    )
    [answer] = talk(logged, [("/v1/decide/batch", mixed)])
    rows = [msgspec.json.decode(line) for line in answer.text.splitlines()]
    assert [row.get("action") for row in rows] == ["allow", None, "deny"] and rows[1]["line"] == 3


def test_bad_labels_over_http_are_refused_with_their_line(logged):
    for bad in (b"{", b"[]", b'{"a":' * 20_000):
        [answer] = talk(logged, [("/v1/labels", b'{"event_id":"nobody","label":1,"label_ts":5}\n\n' + bad)])
        assert answer.status_code == 200 and answer.json()["unknown"] == 1
        [wrong] = answer.json()["refused"]
        assert wrong["row"] == 3 and wrong["error"].startswith("not a JSON object")
    [answer] = talk(logged, [("/v1/labels", b'{"event_id":"e1","label":7,"label_ts":5}')])
    assert answer.status_code == 422 and answer.json()["error"] == "row 1: label: expected 0 or 1"


# ---- in files


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The rulebook as a folder."""
    root = tmp_path_factory.mktemp("rules")
    texts = {
        "schema.yaml": SCHEMA,
        "features/all.yaml": FEATURES,
        "lists/all.yaml": LISTS,
        "policy.yaml": "base_currency: USD",
    }
    texts |= {"rules/r.yaml": rule("big", "amount > 100", "deny")}
    for name, text in texts.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return root


def line(i: int, **fields) -> bytes:
    return msgspec.json.encode(order(i, **fields))


BAD_LINES = [  # (line of NDJSON, reason, field)
    (b"{broken", "not JSON", None),
    (b'{"a":' * 200 + b"1" + b"}" * 200, "nested deeper than 16 levels", None),
    (line(1).replace(b"5.0", b"NaN"), "not JSON", None),
    (line(2).replace(b"5.0", b"-Infinity"), "not JSON", None),
    (line(3, amount=-1), "negative", "amount"),
    (line(4, amount=10**30), "over 10,000,000,000", "amount"),
    (line(5, items=2**70), "a number beyond 64 bits", "items"),
    (line(6).replace(b'"a1"', b'"\xff\xfe"'), "not valid UTF-8", None),
    (line(7).replace(b'"a1"', b'"\\ud800"'), "surrogate", None),
    (line(8, amount="lots"), "expected a number, found a string", "amount"),
    (line(9, account=[1]), "expected a string, found a list", "account"),
    (line(10, note="x" * 1_100_000), "larger than a record may be", None),
    (line(11, note=nested(30)), "nested deeper than 16 levels", None),
    (line(12, ts=FAR), "in the future (2099-01-01T00:00:00Z)", "ts"),
    (line(13, type="odrer"), "did you mean `order`", "type"),
    (b"[1, 2]", "expected a JSON object", None),
    (b"\x00\x01\x02", "not JSON", None),
    (b'{"a": 1}{"b": 2}', "not JSON", None),
]


def dead_letters(path: Path) -> list[dict]:
    return [msgspec.json.decode(row) for row in path.read_bytes().splitlines()]


def run(*words: object) -> int:
    """The exit code of the command line."""
    with pytest.raises(SystemExit) as ended:
        main([str(w) for w in words])
    return ended.value.code or 0


def test_every_bad_line_of_a_file_is_a_dead_letter_with_line_reason_and_field(tmp_path):
    file, dead = tmp_path / "events.ndjson", DeadLetters(tmp_path / "dead.ndjson")
    lines = [line(100)]
    for i, (bad, _, _) in enumerate(BAD_LINES):
        lines += [bad, line(101 + i)]
    file.write_bytes(b"\n".join(lines))
    engine = Engine(rules(), mode="interpreted")
    decisions = [d for batch in engine.read([file], dead=dead) for d in engine.decide_batch(batch)]
    dead.close()
    assert [d.event_id for d in decisions] == [f"e{100 + i}" for i in range(len(BAD_LINES) + 1)]
    letters = dead_letters(tmp_path / "dead.ndjson")
    assert [row["line"] for row in letters] == list(range(2, 2 * len(BAD_LINES) + 1, 2))
    for row, (_, reason, field) in zip(letters, BAD_LINES, strict=True):
        assert reason in row["reason"] and row["field"] == field and row["file"] == str(file)
    calm = Engine(rules(), mode="interpreted", seed=engine.seed)
    file.write_bytes(b"\n".join(lines[::2]))
    for batch in calm.read([file]):
        calm.decide_batch(batch)
    assert calm.state_hash() == engine.state_hash() and calm.clock.value == engine.clock.value


def test_the_command_tells_how_many_records_were_unusable_and_where_they_are(tmp_path, folder, capsys):
    file, dead, out = tmp_path / "events.ndjson", tmp_path / "dead.ndjson", tmp_path / "out.ndjson"
    file.write_bytes(b"\n".join([line(1), *(bad for bad, _, _ in BAD_LINES), line(2, amount=500)]))
    assert run("decide", file, "--rulebook", folder, "--dead-letters", dead, "--out", out) == 0
    said = capsys.readouterr()
    assert f"{len(BAD_LINES)} unusable records" in said.err
    assert [row["action"] for row in dead_letters(out)] == ["allow", "deny"]
    assert len(dead_letters(dead)) == len(BAD_LINES)


def table(n: int = 2_000) -> pa.Table:
    ids = [f"p{i}" for i in range(n)]
    return pa.table(
        {
            "event_id": ids,
            "type": ["order"] * n,
            "ts": [START + i for i in range(n)],
            "account": ids,
            "amount": [1.0] * n,
        }
    )


def parquet(path: Path, cut: int) -> bytes:
    pq.write_table(table(), path)
    return path.read_bytes()[:cut]


NOTHING = {
    "empty.ndjson": lambda path: b"",
    "blank.ndjson": lambda path: b"\n \n\n",
    "garbage.ndjson": lambda path: b"one\ntwo\n",
    "binary.ndjson": lambda path: Random(1).randbytes(200_000),
    "zeros.ndjson": lambda path: bytes(100_000),
    "binary.csv": lambda path: Random(1).randbytes(200_000),
    "empty.csv": lambda path: b"",
    "empty.parquet": lambda path: b"",
    "truncated.parquet": lambda path: parquet(path, -3_000),
    "broken.ndjson.gz": lambda path: gzip.compress(line(1))[:-20],
    "no.ndjson.gz": lambda path: b"this is not gzip",
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_file_without_one_usable_record_exits_with_3_and_a_reason(tmp_path, folder, capsys, name):
    file, good, out = tmp_path / name, tmp_path / "z_good.ndjson", tmp_path / "out.csv"
    file.write_bytes(NOTHING[name](file))
    assert run("decide", file, "--rulebook", folder, "--out", out) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"shopward: no usable event in {file}") and "Traceback" not in said
    assert not out.exists()
    good.write_bytes(line(1))
    assert run("decide", file, good, "--rulebook", folder, "--out", out) == 0
    assert out.read_text().count("\n") == 2  # the header and the good event


def test_rows_of_a_csv_with_more_or_fewer_cells_than_the_header_are_named(tmp_path):
    file, dead = tmp_path / "events.csv", DeadLetters(tmp_path / "dead.ndjson")
    rows = ["event_id,type,ts,account,amount", f"c1,order,{START},a,1", f"c2,order,{START},a", f"c3,order,{START},a,1,2,3", f"c4,order,{START},a,-4",
            f"c5,order,{START},a,500"]  # fmt: skip
    file.write_text("\n".join(rows))
    engine = Engine(rules(), mode="interpreted")
    decisions = [d for batch in engine.read([file], dead=dead) for d in engine.decide_batch(batch)]
    dead.close()
    assert [(d.event_id, d.action) for d in decisions] == [("c1", "allow"), ("c5", "deny")]
    letters = [(row["line"], row["reason"]) for row in dead_letters(tmp_path / "dead.ndjson")]
    assert letters[:2] == [(3, "4 cells where the header has 5"), (4, "7 cells where the header has 5")]
    assert letters[2][0] == 5 and letters[2][1].startswith("amount: negative")


def test_a_column_whose_type_changes_between_files_is_refused_row_by_row(tmp_path):
    pq.write_table(table(3), tmp_path / "a.parquet")
    pq.write_table(table(3).set_column(4, "amount", pa.array([b"x", b"y", None])), tmp_path / "b.parquet")
    dead = DeadLetters()
    engine = Engine(rules(), mode="interpreted")
    assert sum(batch.n for batch in engine.read([tmp_path], dead=dead)) == 4
    assert dead.reasons == {"amount: expected a number, found a bytes": 2}


# ---- text in a rulebook

PAYLOAD = "__import__('os').system('echo harm')"
HOSTILE = [
    PAYLOAD, "open('/etc/passwd').read()", "exec('1')", "eval('1')", "().__class__.__bases__[0].__subclasses__()", "account.__class__",
    "amount.__init__.__globals__", "getattr(account, 'x')", "[x for x in (1, 2)]", "(lambda: 1)()", "(y := 1)", "f'{account}'", "account[0]", "*account",
    "import os", "amount > 1; import os", "amount > 1\nimport os", "print(1)", "globals()", "9**9**9**9", "'x' * 10**9", "1 if amount else 2", "await x",
    "yield", "account == b'x'", "env['x']", "`id`", "${x}", "{{x}}", "breakpoint()", "__builtins__", "nan", "HASH['x']", "F[0]", "None.x", "not", "(" * 400,
    "amount " + "+ amount" * 3_000, "account == '" + "x" * 20_000 + "'", "amount == 1e999", "amount == 0x10", "amount > 1 \x00", "\ud800",
]  # fmt: skip
QUOTES = [
    "'",
    '"',
    "\\",
    "\\'",
    '\\"',
    "\n",
    "\r",
    "\t",
    "\x00",
    "{",
    "}",
    "%s",
    "#",
    "'''",
    '"""',
    "\u2028",
    "é",
    "\\x27",
    "\\N{QUOTATION MARK}",
]
SEEN: list[str] = []
WATCHING = [False]
HARMLESS = {
    "compile",
    "exec",
    "object.__getattr__",
    "sys._getframe",
    "builtins.id",
    "gc.get_objects",
    "code.__new__",
    "function.__new__",
    "os.putenv",
    "mmap.__new__",
}  # memory without a file; pytest notes which test runs


def watch(event: str, args: tuple) -> None:
    if WATCHING[0] and event not in HARMLESS:
        SEEN.append(f"{event} {args!r:.200}")


@pytest.fixture
def watched():
    """What the interpreter is asked to do meanwhile, beyond compiling and running generated code."""
    try_book("when", "amount > 1")  # everything is imported now
    if not getattr(sys, "shopward_watched", False):
        sys.addaudithook(watch)
        sys.shopward_watched = True  # type: ignore[attr-defined]
    SEEN.clear()
    WATCHING[0] = True
    yield SEEN
    WATCHING[0] = False


def quoted(text: str) -> str:
    return (
        msgspec.json.encode(text).decode()
        if text.isprintable()
        else msgspec.json.encode(text.encode("utf-8", "replace").decode()).decode()
    )


def try_book(place: str, text: str) -> bool:
    """Load a rulebook with this text in one place, and decide an event when it is accepted."""
    places = dict.fromkeys(("when", "where", "expr", "derive", "name", "field", "title", "id", "type", "value"))
    places[place] = text
    when, where, expr, derive = (quoted(places[k] or default) for k, default in (
        ("when", "amount > 1"), ("where", "amount > 1"), ("expr", "amount / 2"), ("derive", "lower(account)")))  # fmt: skip
    name, field, title, id, type_ = (quoted(places[k] or default) for k, default in (
        ("name", "spent"), ("field", "note"), ("title", "A title"), ("id", "r"), ("type", "order")))  # fmt: skip
    try:
        rulebook = Rulebook.from_files({
            "schema.yaml": f"types: [{type_}]\nfields:\n  account: {{type: string, entity: account}}\n  amount: money\n"
                           f"  low: {{type: string, derive: {derive}}}\n  {field}: string\n",
            "features/f.yaml": f"spent_24h: {{entity: account, measure: sum(amount), over: 24h, where: {where}}}\nhalf: {{expr: {expr}}}\n"
                               f"{name}: {{entity: account, measure: count, over: 1h}}\n",
            "rules/r.yaml": f"id: {id}\ntitle: {title}\non: [{type_}]\nwhen: {when}\nthen: review\n"
                            f"tests: [{{name: t, events: [{{type: {type_}, ts: 0, account: a}}], expect: {{fires: false}}}}]\n",
        })  # fmt: skip
    except RulebookError:
        return False
    engine = Engine(rulebook, mode="interpreted")
    event = {"type": rulebook.schema.types[-1], "ts": START, "account": "a", "amount": 5.0, "note": "x"}
    engine.decide_batch(engine.batch([engine.normaliser(event)]))
    decision = engine.decide(event)
    assert all(e.what for e in decision.evidence)
    return True


@pytest.mark.parametrize("place", ["when", "where", "expr", "derive", "name", "field", "title", "id", "type"])
def test_hostile_text_in_a_rulebook_executes_nothing(watched, place):
    accepted = [text for text in HOSTILE if try_book(place, text)]
    assert watched == []
    if place in ("when", "where", "expr", "derive"):
        assert not set(accepted) & set(HOSTILE[:26]), "code was taken for an expression"


@pytest.mark.parametrize("place", ["when", "where", "derive"])
def test_no_string_breaks_out_of_generated_code(watched, place):
    chance, taken = Random(place), 0
    for _ in range(100):
        inside = "".join(chance.choice([*QUOTES, PAYLOAD, "a"]) for _ in range(chance.randrange(1, 6)))
        mark = chance.choice("'\"")
        test = f"account == {mark}{inside}{mark}"
        taken += try_book(
            place, {"when": test, "where": test, "derive": f"coalesce({mark}{inside}{mark}, account)"}[place]
        )
    assert taken > 5 and watched == []


def test_random_pieces_of_expressions_and_code_execute_nothing(watched):
    pieces = ["amount", "account", "(", ")", "[", "]", ".", ",", "==", ">", "and", "or", "not", "in", "is", "None", "1", "2.5", "'x'", '"y"', "+", "/", "**", "__class__",
              "import", "lambda", ":", "os", "exec", "len", "lower", "matches", "listed", "*", "%", "//", "if", "else", "spent_24h", "\n", "\\", "#", ";", "=", "@"]  # fmt: skip
    chance = Random(11)
    for _ in range(300):
        text = " ".join(chance.choice(pieces) for _ in range(chance.randrange(1, 12)))
        try_book(chance.choice(["when", "where", "derive"]), text)
    assert watched == []


def test_yaml_in_a_rulebook_makes_no_objects(watched):
    for text in ("!!python/object/apply:os.system ['echo harm']", "!!python/name:os.system", "&a [*a, *a]", "!harm x"):
        with pytest.raises(RulebookError):
            Rulebook.from_files({"schema.yaml": f"types: [order]\nfields: {{account: string}}\nmapping: {text}\n"})
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{c}: &{c} [{', '.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(RulebookError):
        Rulebook.from_files({"schema.yaml": bomb})
    assert watched == []
