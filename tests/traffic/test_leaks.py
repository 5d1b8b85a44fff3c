"""Personal data and secrets in texts: what is found, what is left alone, and what a hostile text may cost."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from shopward.cli.leaks import leaks as command
from shopward.traffic.leaks import find
from shopward.traffic.leaks.texts import PIECE, Read, Text, leaks, read_texts

HELD = [
    ("\u624b\u673a\u53f7\uff1a13800138000\uff0c\u8eab\u4efd\u8bc111010519491231002X", ["cn_mobile", "cn_id"]),
    ("\u8054\u7cfb\u7535\u8bdd 010-62345678 \u6216 400-820-8820", ["phone", "phone"]),
    ("\u8f66\u724c\u4eacA12345\uff0c\u65b0\u80fd\u6e90 \u7ca4BD12345 \u6caaA\u00b788888", ["plate", "plate", "plate"]),
    ("\u62a4\u7167\u53f7 E12345678", ["passport"]),
    ("Passport No: 123456789", ["passport"]),
    ("Call me at +1 (415) 555-2671 or 415-555-2671", ["phone", "phone"]),
    ("+86 138-0013-8000", ["cn_mobile"]),
    ("8613800138000", ["cn_mobile"]),
    ("\uff11\uff13\uff18\uff10\uff10\uff11\uff13\uff18\uff10\uff10\uff10", ["cn_mobile"]),
    ("SSN: 460-89-9847", ["us_ssn"]),
    ("ssn=460899847", ["us_ssn"]),
    ("IBAN DE89 3704 0044 0532 0130 00 ok", ["iban"]),
    ("Amex 3782 822463 10005", ["credit_card"]),
    ('{"bankCard":"6222021234567890128"}', ["cn_bank_card"]),
    ("see https://user:s3cretpw@db.example.com:5432/x?y=1 now", ["url", "secret_basic_auth", "domain"]),
    ("mysql://root:Pa55word@10.0.0.5/db", ["url", "secret_basic_auth", "ip"]),
    ("server 2001:db8::7 and 203.0.113.9:8080", ["ip", "ip"]),
    ("email:bob.smith+tag@mail.example.co.uk.", ["email"]),
    ("visit www.example.com, shop.example.de or example.com.", ["domain", "domain", "domain"]),
    ("tel:+33 1 42 68 53 00", ["phone"]),
    ("<mobile>15012345678</mobile>", ["cn_mobile"]),
    ('{\\"phone\\":\\"13800138000\\"}', ["cn_mobile"]),
    ('"password": "hunter2!x"', ["secret_password"]),
    ("aws_access_key_id = AKIAIOSFODNN7ABCDEFG", ["secret_aws_access_key"]),
    ("Authorization: Bearer 8fJ2kd92kfjA0dkfj20dkfj2kdj", ["secret_bearer_token"]),
    ("token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.abc123DEF456", ["secret_jwt"]),
    ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", ["secret_github_token"]),
    ("api_key: 'a8f5f167f44f4964e6c998dee827110c'", ["secret_generic"]),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----", ["secret_private_key"]),
]
LEFT = [
    "1767225600000",
    "1767225600",
    "2026-11-21 10:55:43",
    "version 1.2.3.4",
    "v10.0.19.45",
    '{"sku":"123-45-6789"}',
    "order 202611211234567890",
    '"order_no":"13800138000"',
    '"ids": [13912345678, 13912345679]',
    "uuid 550e8400-e29b-41d4-a716-446655440000",
    "main.py setup.zip README.md index.js",
    "obj.toString() self.name user.info",
    "logo@2x.png",
    "12:34:56",
    "00:1B:44:11:3A:B7",
    "ISBN 978-3-16-148410-0",
    "sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "password: ******",
    "token: null",
    "password=${DB_PASS}",
    "Great product.Highly recommended",
    '"ts":1700000000,"id":4532015112830366',
    "Chrome/119.0.6045.105 Safari/537.36",
    "SKU-13800138000",
    "\u4eac\u4e1c\u81ea\u8425",
    "GB 2312-80",
    "the token is invalid",
]


@pytest.mark.parametrize(("text", "types"), HELD, ids=[t[:30] for t, _ in HELD])
def test_what_belongs_to_somebody_is_found(text, types):
    assert sorted(f.type for f in find(text)) == sorted(types)


@pytest.mark.parametrize("text", LEFT, ids=[t[:30] for t in LEFT])
def test_what_only_looks_like_it_is_left_alone(text):
    assert [(f.type, text[f.start : f.end]) for f in find(text)] == []


@pytest.mark.parametrize("text", [t for t, _ in HELD])
def test_no_value_is_ever_shown_whole(text):
    for f in find(text):
        if f.type not in ("domain", "url"):
            assert text[f.start : f.end] not in f.masked


def test_places_count_characters_of_the_text_as_given():
    text = "\U0001f600 \u624b\u673a\uff1a\uff11\uff13\uff18\uff10\uff10\uff11\uff13\uff18\uff10\uff10\uff10 end"
    (found,) = find(text)
    assert text[found.start : found.end] == "\uff11\uff13\uff18\uff10\uff10\uff11\uff13\uff18\uff10\uff10\uff10"


def test_a_key_decides_what_a_number_is():
    number = "13912345678"
    told = {
        key: [f.type for f in find(json.dumps({key: number}))]
        for key in ("mobile", "order_no", "sku", "remark", "contactPhone", "phone_order_id")
    }
    assert told == {"mobile": ["cn_mobile"], "order_no": [], "sku": [], "remark": ["cn_mobile"], "contactPhone": ["cn_mobile"], "phone_order_id": []}  # fmt: skip


def test_a_long_file_is_read_in_pieces_and_nothing_is_missed_or_told_twice(tmp_path):
    line = "x" * 57 + " 13800138000 " + "y" * 50 + "\n"
    path = tmp_path / "big.log"
    n = 3 * PIECE // len(line)
    path.write_text(line * n)
    met = Read()
    found = [(t.offset + f.start, number) for t, f, number in leaks(read_texts([path], met))]
    assert [p for p, _ in found] == [i * len(line) + 58 for i in range(n)]
    assert [number for _, number in found] == list(range(1, n + 1))
    assert met.characters == n * len(line)


def test_a_line_longer_than_a_piece_is_read_too(tmp_path):
    path = tmp_path / "one.txt"
    path.write_text("a " * PIECE + "13800138000 " + "b " * PIECE + "bob@example.com")
    found = [(f.type, t.offset + f.start) for t, f, _ in leaks(read_texts([path], Read()))]
    assert found == [("cn_mobile", 2 * PIECE), ("email", 4 * PIECE + 12)]


def test_tables_folders_and_files_are_texts(tmp_path):
    (tmp_path / "a.ndjson").write_text('{"id": 7, "text": "call 13800138000"}\n{"id": 8}\nnot json\n')
    (tmp_path / "b.csv").write_text('id,text\n9,"a@example.com, b@example.com"\n')
    pq.write_table(pa.table({"id": ["p"], "text": ["SSN: 460-89-9847"]}), tmp_path / "c.parquet")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.env").write_text("A=1\nDB_PASSWORD=tr0ub4dor\n")
    (tmp_path / "e.bin").write_bytes(b"\0\1\2bob@example.com")
    met = Read()
    found = [(t.id, f.type, line) for t, f, line in leaks(read_texts([tmp_path], met))]
    assert found == [("7", "cn_mobile", 1), ("9", "email", 1), ("9", "email", 1), ("p", "us_ssn", 1), ("sub/d.env", "secret_password", 2)]  # fmt: skip
    assert met.unusable == {"a row without a text": 1, "a line that is not JSON": 1, "a file that is not text": 1}


def test_the_command_writes_masked_rows(tmp_path):
    (tmp_path / "t.ndjson").write_text('{"id": "m1", "text": "mobile 13800138000"}\n')
    out = tmp_path / "found.parquet"
    done = CliRunner().invoke(command, [str(tmp_path / "t.ndjson"), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    rows = pq.read_table(out).to_pylist()
    assert [(r["id"], r["type"], r["start"], r["end"], r["line"], r["masked"]) for r in rows] == [
        ("m1", "cn_mobile", 7, 18, 1, "138******00")
    ]
    assert json.loads(done.output)["types"] == {"cn_mobile": 1}


@pytest.mark.parametrize(
    "unit", ["a@", "1-", "1.", "::", "a.b", "://", "eyJ.", "password=", "AKIA", "(1) ", "4111 1111 ", "DE89 3704 ", "\u4eacA", "key: ", "bearer a ", "<a>1"]
)  # fmt: skip
def test_hostile_text_costs_time_in_step_with_its_length(unit):
    """Counted in Python-level calls, which do not depend on the machine."""
    import sys

    def calls(text: str) -> int:
        count = 0

        def tick(frame, event, arg):
            nonlocal count
            count += 1

        sys.setprofile(tick)
        try:
            find(text)
        finally:
            sys.setprofile(None)
        return count

    short, long = unit * (4_000 // len(unit)), unit * (32_000 // len(unit))
    assert calls(long) <= 12 * calls(short) + 200


def test_one_megabyte_of_digits_or_letters_is_looked_through():
    for unit in (
        "7",
        "a",
        "A1",
        "x@example.com ",
        "https://example.com/a ",
        "13800138000 ",
        "password=hunter2!x\n",
        "1 ",
        "a.",
        "%40",
        "\u4e2d",
        "Bearer ",
    ):
        find(unit * (1_000_000 // len(unit)))


def test_a_text_knows_its_lines():
    found = [(f.type, line) for _, f, line in leaks([Text("t", "\n\na@example.com\n\n13800138000")])]
    assert found == [("email", 3), ("cn_mobile", 5)]
