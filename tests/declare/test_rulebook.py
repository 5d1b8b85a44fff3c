"""A rulebook folder becomes schema, features, rules, lists, lookups and policy."""

from __future__ import annotations

import pytest

from shopward.batch import Needs
from shopward.declare.lookups import ALWAYS
from shopward.declare.needs import feature_needs, needs, rule_needs
from shopward.declare.rulebook import Rulebook, version_of
from shopward.declare.types import ListWrite, Policy
from shopward.errors import RulebookError, UsageError
from shopward.expr.check import moment
from tests.declare.base import BASE

DAY = 86_400_000


def book(**files: str) -> Rulebook:
    """The base rulebook with files added: `features_x="..."` is features/x.yaml."""
    return Rulebook.from_files(BASE | {k.replace("_", "/", 1) + ".yaml": v for k, v in files.items()})


def write(folder, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


# --- the folder -----------------------------------------------------------------------------------------------------------------------


def test_a_folder_and_its_texts_are_the_same_rulebook(tmp_path):
    write(tmp_path, BASE | {"README.md": "for people", ".git/x.yaml": "not: read"})
    from_folder, from_texts = Rulebook(tmp_path), Rulebook.from_files(BASE)
    assert from_folder.version == from_texts.version
    assert from_folder.features == from_texts.features
    assert from_folder.rules == from_texts.rules
    assert from_folder.path == tmp_path


def test_the_version_names_the_content_not_its_line_ends_or_order():
    windows = {k: v.replace("\n", "\r\n") for k, v in reversed(BASE.items())}
    assert version_of(windows) == version_of(BASE)
    assert version_of(BASE | {"policy.yaml": ""}) != version_of(BASE)
    assert version_of({"a": "b", "c": "d"}) != version_of({"a": "b\0c", "": "d"})


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="there is no such rulebook folder"):
        Rulebook(tmp_path / "nowhere")


def test_a_file_that_is_not_utf8_or_huge_or_misnamed_is_told(tmp_path):
    write(tmp_path, BASE | {"rules/b.yml": "id: b", "features/huge.yaml": "# " + "x" * 2_000_001})
    (tmp_path / "rules" / "c.yaml").write_bytes(b"id: \xff")
    with pytest.raises(RulebookError) as e:
        Rulebook(tmp_path)
    assert [(p.file, p.message) for p in e.value.problems] == [
        ("features/huge.yaml", "the file is larger than 2 MB"),
        ("rules/b.yml", "this file is not read"),
        ("rules/c.yaml", "this file is not UTF-8 (byte 4)"),
    ]


def test_a_missing_schema_is_told():
    with pytest.raises(RulebookError, match="there is no schema.yaml"):
        Rulebook.from_files({"rules/r.yaml": "id: r"})


def test_a_file_of_comments_is_an_empty_file():
    assert book(features_later="# nothing yet\n").features.keys() == Rulebook.from_files(BASE).features.keys()


def test_problems_come_ordered_by_place_and_all_at_once():
    with pytest.raises(RulebookError) as e:
        book(rules_b="id: b", features_x="y: {entity: devce, measure: cunt, over: 1}", rules_a="id: a")
    assert [(p.file, p.line, p.column) for p in e.value.problems] == [
        ("features/x.yaml", 1, 13),
        ("features/x.yaml", 1, 29),
        ("features/x.yaml", 1, 41),
        ("rules/a.yaml", 1, 1),
        ("rules/b.yaml", 1, 1),
    ]


def test_one_wrong_feature_does_not_accuse_the_rules_that_read_it():
    with pytest.raises(RulebookError) as e:
        book(
            features_x="w_7d: {entity: account, measure: sum(weight), over: 7d}\nv: {expr: w_7d * 2}\nl: {entity: account, measure: last(devise), over: 1h}\nr: {ratio: [w_7d, v]}",
            rules_r=RULE.format("v > w_7d and l == 'x'"),
        )
    assert [(p.file, p.line) for p in e.value.problems] == [("features/x.yaml", 1), ("features/x.yaml", 3)]


def test_the_shipped_rulebook_checks_and_its_live_rules_have_tests():
    shipped = Rulebook.default()
    assert shipped.rules and shipped.features
    assert shipped.warnings == []


RULE = "id: r\ntitle: A rule\non: [order, payment]\nwhen: {}\nthen: review\nstate: draft\n"

# --- what the parts become --------------------------------------------------------------------------------------------------------------


def test_schema_fields_roles_and_implicit_label():
    schema = book().schema
    assert schema.types == ("label", "register", "login", "order", "payment", "coupon_claim")
    assert schema.roles == {
        "account": "account",
        "seller": "account",
        "device": "device",
        "card": "card",
        "mail_domain": "mail_domain",
    }
    assert (schema.fields["amount"].type, schema.fields["amount"].digits) == ("money", 2)
    assert schema.fields["email"].pii and schema.fields["email"].normalise == "lower"
    assert schema.fields["mail_domain"].derive.fields == ("email",)


def test_outside_files_are_mapped():
    text = (
        BASE["schema.yaml"]
        + "mapping: {TX_AMOUNT: amount, ID: event_id}\nconstants: {type: order}\norder: [ts, event_id]\n"
    )
    schema = book(schema=text + "label: {field: TX_FRAUD, known_after: 7d}\n").schema
    assert schema.mapping == {"TX_AMOUNT": "amount", "ID": "event_id"}
    assert schema.constants == {"type": "order"}
    assert schema.order == ("ts", "event_id")
    assert (schema.label.field, schema.label.known_after_ms) == ("TX_FRAUD", 7 * DAY)


FEATURES = """\
spend_7d: {entity: account, measure: sum(amount), over: 7d, lag: 1h, before: true, doc: what was spent}
any_24h: {entity: account, via: [account, seller], measure: count, over: 24h}
pair_30d: {entity: [account, seller], measure: count, over: 30d}
age: {entity: account, measure: since_first, over: ever}
fraud_7d: {entity: seller, measure: mean(label), over: 7d, where: type == "label"}
paid: {entity: account, sequence: {first: type == "order", then: type == "payment", within: 1h}}
unpaid: {entity: account, sequence: {first: type == "order", without: type == "payment", within: 1h}}
share: {ratio: [pair_30d, any_24h]}
late: {expr: night or share > 0.5}
night: {expr: hour(ts) < 6}
blocked: {list: blocked_devices, entity: device}
country: {lookup: bins.country, entity: card_bin}
abroad: {expr: country != "US"}
listed_pair: {expr: 'listed("trusted_pairs", account, device)'}
net: {expr: 'ip64(user_agent) == "x"'}
"""


def test_features_in_declared_order_with_types_and_windows():
    features = book(features_x=FEATURES).features
    ours = [f for f in features.values() if f.file == "features/x.yaml"]
    assert [f.name for f in ours] == [line.split(":")[0] for line in FEATURES.splitlines()]
    assert [f.line for f in ours] == list(range(1, len(ours) + 1))
    spend = features["spend_7d"]
    assert (spend.measure, spend.arg, spend.over, spend.lag, spend.before, spend.digits) == (
        "sum",
        "amount",
        7 * DAY,
        3_600_000,
        True,
        2,
    )
    assert features["any_24h"].via == ("account", "seller")
    assert features["pair_30d"].entity == ("account", "seller")
    assert features["age"].over is None
    assert (features["paid"].measure, features["unpaid"].measure) == ("then", "without")
    assert features["share"].of == ("pair_30d", "any_24h")
    types = {f.name: f.type for f in ours}
    assert types | {"paid": "bool", "late": "bool", "country": "string", "share": "number"} == types


def test_features_that_read_tables_are_not_portable_and_say_why():
    features = book(features_x=FEATURES).features
    assert {f.name: f.why_not_portable for f in features.values() if not f.portable} == {
        "blocked": "it reads a list, which rules and people change",
        "country": "it reads a lookup",
        "abroad": "it reads `country`, and it reads a lookup",
        "listed_pair": "it reads the list `trusted_pairs`",
        "net": "`ip64` is computed by us only",
    }


def test_a_hundred_features_may_build_on_each_other():
    chain = "\n".join(f"f{i}: {{expr: f{i - 1} + 1}}" for i in range(2000, 0, -1)) + "\nf0: {expr: amount}"
    assert book(features_chain=chain).features["f2000"].expr.features == ("f1999",)


def test_a_rule_with_everything():
    rule = book(
        rules_r="""\
id: ring
title: A ring
on: order
when: >-
  device_accounts_24h > 5
  and not listed("trusted_pairs", account, device)
then:
  action: deny
  list:
    - {add: blocked_devices, key: device, expires: 7d}
    - {remove: trusted_pairs, key: [account, device]}
  label: coupon_ring
severity: critical
owner: promo
techniques: [F1018]
percent: 12.5
mandatory: true
tests:
  - name: nothing happens for one account
    events:
      - {type: order, ts: 2026-01-01T00:00:00Z, account: a1, amount: 12.50, success: true, note_of_ours: x}
    lists: {blocked_devices: [d1, 7], trusted_pairs: [[a1, d1]]}
    expect: {action: allow, fires: false}
""".replace(", note_of_ours: x", "")
    ).rules["ring"]
    assert rule.on == ("order",) and rule.then == "deny" and rule.label == "coupon_ring"
    assert rule.writes == (
        ListWrite("blocked_devices", ("device",), 7 * DAY),
        ListWrite("trusted_pairs", ("account", "device"), None, True),
    )
    assert (rule.severity, rule.percent, rule.mandatory, rule.override, rule.state) == (
        "critical",
        12.5,
        True,
        False,
        "live",
    )
    assert rule.when.lists == ("trusted_pairs",) and rule.when.rowwise
    (test,) = rule.tests
    assert test.events == (
        {"type": "order", "ts": "2026-01-01T00:00:00Z", "account": "a1", "amount": 12.5, "success": True},
    )
    assert test.lists == {"blocked_devices": ("d1", "7"), "trusted_pairs": (("a1", "d1"),)} and test.expect == {
        "action": "allow",
        "fires": False,
    }
    assert (rule.file, rule.line) == ("rules/r.yaml", 4)


def test_policy_has_defaults_and_takes_durations():
    assert book().policy == Policy()
    policy = book(
        policy="lateness: 2h\nskew: 0s\nreview_capacity_per_day: 50\nbase_currency: EUR\ncontrol_percent: 1\n"
    ).policy
    assert (policy.lateness_ms, policy.skew_ms, policy.review_capacity_per_day) == (7_200_000, 0, 50)
    assert (policy.base_currency, policy.control_percent) == ("EUR", 1.0)


# --- lookups as of the event --------------------------------------------------------------------------------------------------------------


def test_rows_of_a_lookup_stand_in_the_order_of_their_time(tmp_path):
    csv = "key,country,prepaid,valid_from,valid_until\n4,CA,,2022-01-01,2023-01-01\n4,US,true,2020-01-01,\n5,,false,,\n"
    text = "columns: {country: string, prepaid: bool}\nfile: bins.csv\n"
    write(tmp_path, BASE | {"lookups/bins.yaml": text, "lookups/bins.csv": csv})
    rows = Rulebook(tmp_path).lookups["bins"].rows
    assert rows["4"] == (
        (moment("2020-01-01"), None, {"country": "US", "prepaid": True}),
        (moment("2022-01-01"), moment("2023-01-01"), {"country": "CA", "prepaid": None}),
    )
    assert rows["5"] == ((ALWAYS, None, {"country": None, "prepaid": False}),)


def test_the_csv_of_a_lookup_is_part_of_the_version(tmp_path):
    text = "columns: {country: string, prepaid: bool}\nfile: bins.csv\n"
    write(tmp_path, BASE | {"lookups/bins.yaml": text, "lookups/bins.csv": "key,country,prepaid\n4,US,\n"})
    before = Rulebook(tmp_path).version
    write(tmp_path, {"lookups/bins.csv": "key,country,prepaid\n4,CA,\n"})
    assert Rulebook(tmp_path).version != before


def test_number_keys_have_one_spelling():
    text = "key: number\ncolumns: {risk: number}\nrows: [{key: 64500.0, risk: 1}, {key: 0.5, risk: 2}]\n"
    assert list(book(lookups_asn=text).lookups["asn"].rows) == ["64500", "0.5"]


# --- what is read ---------------------------------------------------------------------------------------------------------------------------


def test_needs_name_every_column_read_and_no_other():
    rulebook = book(
        features_x=FEATURES, rules_r=RULE.format("'contains(user_agent, \"bot\") or weight > 3 or email is None'")
    )
    assert feature_needs(rulebook.features["spend_7d"], rulebook.schema) == Needs(
        minor=frozenset({"amount"}), hashes=frozenset({"account"})
    )
    assert feature_needs(rulebook.features["blocked"], rulebook.schema) == Needs(text=frozenset({"device"}))
    assert rule_needs(rulebook.rules["r"], rulebook.schema) == Needs(
        numbers=frozenset({"weight"}), text=frozenset({"user_agent", "email"})
    )
    total = needs(rulebook)
    assert total.hashes == {"account", "seller", "device"}
    assert "tags" not in total.lists and "shipped" not in total.numbers


def test_a_rule_that_writes_a_list_needs_the_text_of_its_key():
    rulebook = book(
        rules_r=RULE.format("amount > 5").replace("review", "{action: deny, list: {add: blocked_devices, key: device}}")
    )
    assert rule_needs(rulebook.rules["r"], rulebook.schema) == Needs(
        numbers=frozenset({"amount"}), text=frozenset({"device"})
    )
