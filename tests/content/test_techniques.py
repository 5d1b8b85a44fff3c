"""The technique table against the sources its ids come from, and against our own schema."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shopward import techniques
from shopward.declare.rulebook import Rulebook

SOURCES = Path(__file__).parents[3] / "shared" / "data"
REQUEST_FIELDS = (
    "id", "method", "url", "headers", "body", "ts", "ip", "session", "account", "device", "status", "bytes",
    "response_headers", "response_body", "ja4",
)  # fmt: skip

needs_sources = pytest.mark.skipif(
    not SOURCES.exists(), reason="../shared/data with the published taxonomies is absent"
)


def patterns(text: str) -> dict[str, dict]:
    """STIX attack patterns in force, by their outside id."""
    objects = (json.loads(line) for line in text.split("\n") if line)
    return {
        o["external_references"][0]["external_id"]: o
        for o in objects
        if o["type"] == "attack-pattern" and not o.get("revoked") and not o.get("x_mitre_deprecated")
    }


def f3() -> dict[str, dict]:
    bundle = json.loads((SOURCES / "taxonomy_f3" / "f3-stix-v1.1.json").read_text())
    return patterns("\n".join(json.dumps(o) for o in bundle["objects"]))


def attack() -> dict[str, dict]:
    files = (SOURCES / "attack_stix" / f"{name}-attack.jsonl.zst" for name in ("mobile", "enterprise"))
    texts = (pa.input_stream(file, compression="zstd").read().decode() for file in files)
    return {id: o for text in texts for id, o in patterns(text).items()}


def tactics(pattern: dict) -> set[str]:
    return {phase["phase_name"] for phase in pattern["kill_chain_phases"]}


def one_line(text: str) -> str:
    return " ".join(text.split())


def of(source: str) -> dict[str, techniques.Technique]:
    return {t.id: t for t in techniques.all() if t.source == source}


@needs_sources
def test_f3_is_carried_over_whole():
    published = f3()
    ours = of("F3")
    assert ours.keys() == published.keys()
    assert {id: t.name for id, t in ours.items()} == {id: one_line(o["name"]) for id, o in published.items()}
    assert {id: set(t.tactics) for id, t in ours.items()} == {id: tactics(o) for id, o in published.items()}


@needs_sources
def test_attack_techniques_exist_under_their_names_and_tactics():
    published = attack()
    for t in of("ATT&CK").values():
        assert t.name.split(": ")[-1] == one_line(published[t.id]["name"]), t.id
        assert set(t.tactics) == tactics(published[t.id]), t.id


@needs_sources
def test_every_automated_threat_of_owasp_is_there():
    rows = pq.read_table(SOURCES / "taxonomy_owasp_oat" / "oat.parquet", columns=["oat_id", "name"]).to_pylist()
    names: dict[str, set[str]] = {}
    for row in rows:
        names.setdefault(row["oat_id"], set()).add(row["name"])  # OAT-003 was renamed and has two
    assert of("OAT").keys() == names.keys()
    assert all(t.name in names[t.id] for t in of("OAT").values())


@needs_sources
def test_descriptions_are_our_own_words():
    published = {**attack(), **f3()}
    for t in techniques.all():
        theirs = one_line(published.get(t.id, {}).get("description", ""))[: 2 * len(t.description)]
        likeness = difflib.SequenceMatcher(None, t.description.lower(), theirs.lower()).ratio()
        assert likeness < 0.6, (t.id, likeness, theirs)


def test_ids_are_unique_and_every_reference_leads_somewhere():
    ids = [t.id for t in techniques.all()]
    assert [id for id, n in Counter(ids).items() if n > 1] == []
    for t in techniques.all():
        assert {*t.related, *filter(None, [t.parent])} <= set(ids), t.id
        assert t.id not in t.related, t.id


def test_the_marketplace_extension_says_where_in_the_trade_and_where_we_would_see_it():
    ours = of("SW").values()
    assert len(ours) >= 30
    for t in ours:
        assert t.observable and t.related and t.chain_role in techniques.CHAIN_ROLES, t.id
        assert set(t.tactics) <= set(techniques.TACTICS), t.id
        assert t.description.endswith(".") and len(t.description) > 40, t.id


def test_signals_name_real_events_and_fields():
    schema = Rulebook.default().schema
    for t in techniques.all():
        for signal in t.signals:
            event, _, field = signal.partition(".")
            known = REQUEST_FIELDS if event == "request" else schema.fields
            assert event in (*schema.types, "request") and field in known, (t.id, signal)


def test_an_unknown_id_is_answered_with_the_near_one():
    with pytest.raises(techniques.UnknownTechnique, match="did you mean `SW-1011` "):
        techniques.get("sw-1011")
    with pytest.raises(techniques.UnknownTechnique, match="did you mean `SW-1011.001` "):
        techniques.get("coupon abuse coupon rings")
    with pytest.raises(techniques.UnknownTechnique, match="ids look like"):
        techniques.get("???")


def test_a_detection_of_the_whole_covers_its_parts_and_not_the_reverse():
    assert techniques.covers({"SW-1011"}, "SW-1011.002")
    assert not techniques.covers({"SW-1011.001"}, "SW-1011")
    assert not techniques.covers({"SW-1011.001"}, "SW-1011.002")
