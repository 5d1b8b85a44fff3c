"""What the shipped rulebook looks up: networks from rows and from a MaxMind database, and rates of other currencies."""

from __future__ import annotations

import ipaddress
import shutil
import struct
import sys
from pathlib import Path

import pytest

from shopward import Engine, Rulebook
from shopward.errors import MissingExtra, RulebookError, UsageError

SCHEMA = "types: [login]\nfields: {account: {type: string, entity: account}, ip: {type: string, entity: ip}}\n"
RULE = "id: r\ntitle: A machine\non: [login]\nwhen: {when}\nthen: review\n"


SHORT = {"record_size", "ip_version", "binary_format_major_version", "binary_format_minor_version"}


def encoded(value, key: str = "") -> bytes:
    """A value in the data section of a MaxMind database: maps, lists, texts and numbers of the width that the format asks for."""
    if isinstance(value, dict):
        return bytes([0xE0 | len(value)]) + b"".join(encoded(k) + encoded(v, k) for k, v in value.items())
    if isinstance(value, str):
        return bytes([0x40 | len(value)]) + value.encode()
    if isinstance(value, list):
        return bytes([len(value), 4]) + b"".join(map(encoded, value))
    if key == "build_epoch":
        return bytes([8, 2]) + struct.pack(">Q", value)
    return bytes([0xA2]) + struct.pack(">H", value) if key in SHORT else bytes([0xC4]) + struct.pack(">I", value)


def database(path: Path, networks: dict[str, dict]) -> None:
    """Write a MaxMind database of IPv4 networks, with records of 24 bits."""
    nodes, data, section = [[0, 0]], {}, b""
    for text, record in networks.items():
        network = ipaddress.ip_network(text)
        data[text], section = len(section), section + encoded(record)
        at = 0
        for bit in range(network.prefixlen):
            side = int(network.network_address) >> (31 - bit) & 1
            if bit == network.prefixlen - 1:
                nodes[at][side] = -1 - data[text]
            else:
                if nodes[at][side] <= 0:
                    nodes.append([0, 0])
                    nodes[at][side] = len(nodes) - 1
                at = nodes[at][side]
    n = len(nodes)
    place = lambda x: n if x == 0 else x if x > 0 else n + 16 + (-1 - x)  # noqa: E731
    tree = b"".join(place(x).to_bytes(3, "big") for node in nodes for x in node)
    about = {
        "node_count": n, "record_size": 24, "ip_version": 4, "database_type": "Test", "languages": ["en"],
        "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": 1_767_225_600, "description": {"en": "test"},
    }  # fmt: skip
    path.write_bytes(tree + bytes(16) + section + b"\xab\xcd\xefMaxMind.com" + encoded(about))


def rulebook(folder: Path, lookup: str, when: str) -> Rulebook:
    for name, text in {
        "schema.yaml": SCHEMA,
        "rules/r.yaml": RULE.format(when=when),
        "lookups/net.yaml": lookup,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Rulebook(folder)


def fires(book: Rulebook, ip: str | None, ts: str = "2026-01-05T10:00:00Z") -> bool:
    event = {"event_id": f"e{ip}{ts}", "type": "login", "ts": ts, "account": "a1", "ip": ip}
    return bool(Engine(book, mode="interpreted").decide({k: v for k, v in event.items() if v}).reasons)


ROWS = """
key: ip
columns: {kind: string}
rows:
  - {key: 203.0.113.0/24, kind: hosting}
  - {key: 203.0.113.8/29, kind: office}
  - {key: 203.0.113.9, kind: hosting, valid_from: 2026-02-01}
  - {key: "2001:db8:dc::/48", kind: hosting}
"""


def test_the_narrowest_network_answers_as_of_the_event(tmp_path):
    book = rulebook(tmp_path, ROWS, 'net_kind(ip) == "hosting"')
    assert fires(book, "203.0.113.200")
    assert not fires(book, "203.0.113.10")  # the office inside
    assert not fires(book, "203.0.113.9")  # not yet
    assert fires(book, "203.0.113.9", "2026-02-01T00:00:00Z")
    assert fires(book, "2001:db8:dc:1::5") and not fires(book, "2001:db8:dd::5")
    assert not fires(book, "198.51.100.1") and not fires(book, None)


def test_a_key_that_is_no_network_is_told_with_its_place(tmp_path):
    with pytest.raises(
        RulebookError, match=r"lookups/net.yaml:\d+:\d+: the key must be a network such as 203.0.113.0/24"
    ):
        rulebook(tmp_path, "key: ip\ncolumns: {kind: string}\nrows: [{key: home, kind: x}]\n", 'net_kind(ip) == "x"')


MMDB = "key: ip\ncolumns: {asn: number, country: string}\nmmdb: test.mmdb\npaths: {asn: autonomous_system_number, country: country.iso_code}\n"


def test_a_maxmind_database_answers_what_no_row_does(tmp_path):
    pytest.importorskip("maxminddb", reason="shopward[mmdb] is not installed")
    book = rulebook(tmp_path, MMDB, 'net_asn(ip) == 64500 and net_country(ip) == "DE"')
    record = {"autonomous_system_number": 64500, "country": {"iso_code": "DE"}}
    database(tmp_path / "lookups" / "test.mmdb", {"198.51.100.0/24": record})
    assert fires(book, "198.51.100.77")
    assert not fires(book, "198.51.101.77") and not fires(book, "2001:db8::1")


def test_a_database_that_is_not_there_is_named(tmp_path):
    book = rulebook(tmp_path, MMDB, "net_asn(ip) == 1")
    with pytest.raises(UsageError, match=r"lookup `net` reads .*test\.mmdb, and there is no such file"):
        Engine(book, mode="interpreted")


def test_without_the_extra_the_install_line_is_told(tmp_path, monkeypatch):
    book = rulebook(tmp_path, MMDB, "net_asn(ip) == 1")
    database(tmp_path / "lookups" / "test.mmdb", {"198.51.100.0/24": {"autonomous_system_number": 1}})
    monkeypatch.setitem(sys.modules, "maxminddb", None)
    with pytest.raises(MissingExtra, match=r"shopward\[mmdb\]"):
        Engine(book, mode="interpreted")


def test_the_shipped_rulebook_takes_a_users_database_without_another_change(tmp_path):
    pytest.importorskip("maxminddb", reason="shopward[mmdb] is not installed")
    mine = tmp_path / "mine"
    shutil.copytree(Rulebook.default().path, mine)
    file = mine / "lookups" / "ip_networks.yaml"
    file.write_text(file.read_text() + "mmdb: asn.mmdb\npaths: {asn: autonomous_system_number}\n")
    database(mine / "lookups" / "asn.mmdb", {"198.51.100.0/24": {"autonomous_system_number": 64500}})
    Engine(Rulebook(mine), mode="interpreted").close()


def test_other_currencies_are_converted_and_unknown_ones_are_missing():
    engine = Engine(Rulebook.default(), mode="interpreted")
    pay = {"type": "live_gift", "account": "new", "device": "d1", "creator": "k1"}
    engine.decide({"event_id": "r", "type": "register", "ts": "2026-01-05T10:00:00Z", "account": "new", "device": "d1"})
    unknown = engine.decide(
        {"event_id": "1", "ts": "2026-01-05T10:01:00Z", "amount": "100000.00", "currency": "XAU", **pay}
    )
    small = engine.decide(
        {"event_id": "2", "ts": "2026-01-05T10:02:00Z", "amount": "29000.00", "currency": "JPY", **pay}
    )
    large = engine.decide({"event_id": "3", "ts": "2026-01-05T10:03:00Z", "amount": "100.00", "currency": "EUR", **pay})
    assert unknown.action == "allow"
    assert "gift_spike" not in small.reasons  # 203 dollars so far
    assert "gift_spike" in large.reasons  # 313
