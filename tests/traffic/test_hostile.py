"""Whatever a client sends costs work in step with its length, and whatever a log holds costs memory that has an end."""

from __future__ import annotations

import base64
import gzip
import json
import random
import time
from urllib.parse import quote

import pytest

from shopward.traffic import Reading, Request, read_requests
from shopward.traffic.attacks import Scanner
from shopward.traffic.attacks import campaigns as grouping
from shopward.traffic.attacks import profile as learning
from shopward.traffic.attacks import scan as scanning
from shopward.traffic.attacks.campaigns import Campaigns
from shopward.traffic.attacks.profile import Profile
from shopward.traffic.decode import NESTING, inner64, views

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
WRAPPINGS = {
    "url": lambda text: quote(text, safe=""),
    "html": lambda text: text.replace("&", "&amp;").replace("<", "&lt;"),
    "unicode": lambda text: text.replace("\\", "\\u005c").replace("<", "\\u003c"),
    "width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
}


@pytest.fixture(scope="module")
def scanner():
    return Scanner(engine="literals")


def nested(wrapping: str, length: int, seed: int = 5) -> str:
    """Five wrappings around pieces of attacks, cut to the length."""
    rng = random.Random(seed)
    pieces = ("<a b=", "' or 1=1 ", "{{", "../", "; cat ", "&#", "%25", "\\u0027", "x", "(", "java.lang.")
    text = "".join(rng.choice(pieces) for _ in range(length // 4))
    for _ in range(NESTING):
        text = WRAPPINGS[wrapping](text[:length])
    return text[:length]


def cpu(work, *arguments) -> float:
    """The lesser of two runs, in seconds of this process."""
    times = []
    for _ in range(2):
        started = time.process_time()
        work(*arguments)
        times.append(time.process_time() - started)
    return min(times)


def posted(body: str) -> Request:
    return Request(id="1", method="POST", url="/", headers=FORM, body="x=" + body.replace("&", "%26"))


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_views_hold_at_most_five_times_the_text_that_came(wrapping):
    for length in (1_000, 30_000, 300_000):
        text = nested(wrapping, length)
        found = views(text)
        assert sum(len(v.text) for v in found) <= (NESTING + 1) * len(text) + 4096
        assert len(found) <= 4096 + NESTING * 2


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_time_over_five_wrappings_grows_with_the_length_and_no_faster(scanner, wrapping):
    """Eight times the length may take twenty-four times as long; a quadratic would take sixty-four times."""
    short, long = (posted(nested(wrapping, n)) for n in (3_000, 24_000))
    cpu(scanner.scan, posted("a"))
    assert cpu(scanner.scan, long) <= 24 * max(cpu(scanner.scan, short), 0.004)


@pytest.mark.slow
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_half_a_megabyte_of_five_wrappings_takes_no_more_than_its_share(scanner, wrapping):
    short, long = (posted(nested(wrapping, n)) for n in (30_000, 480_000))
    assert cpu(scanner.scan, long) <= 48 * max(cpu(scanner.scan, short), 0.01)


@pytest.mark.parametrize("text", ["QUFB" * 250_000, "a" * 1_000_000, "A-" * 500_000, "rO0AB" * 200_000])
def test_a_megabyte_of_base64_is_tried_in_pieces(text):
    inner64(text)
    assert cpu(inner64, text) <= 24 * max(cpu(inner64, text[: len(text) // 8]), 0.004)


def test_random_bytes_in_every_place_are_answered(scanner):
    rng = random.Random(3)
    for _ in range(40):
        junk = bytes(
            rng.choice(b"'\"<>{}()[]$%&;|\\/`=+-*#!?.:,\x00\r\n\xc0\xaf a1") for _ in range(rng.randint(1, 400))
        )
        text = junk.decode("latin-1")
        request = Request(
            id="1", method=text[:5] or "GET", url="/" + text, headers={"Cookie": text, text[:9] or "x": text, "Content-Type": text},
            body=junk, version=text[:8], response_body=text, status=rng.choice((None, 200, 500)),
        )  # fmt: skip
        assert scanner.scan(request).id == "1"


@pytest.mark.slow
def test_a_hundred_thousand_form_fields_are_read_to_the_last(scanner):
    form = "&".join(f"p{i}=v" for i in range(100_000)) + "&z=" + quote("' union select 1,2,3--")
    assert "sqli" in scanner.scan(Request(id="1", method="POST", url="/", headers=FORM, body=form)).classes


def test_contradictory_headers_and_bodies_are_told_and_still_read(scanner):
    body = json.dumps({"q": "' union select 1,2,3--"})
    headers = {"Content-Type": "multipart/form-data", "Content-Encoding": "gzip", "Transfer-Encoding": "identity"}
    verdict = scanner.scan(Request(id="1", method="POST", url="/", headers=headers, body=body))
    assert "sqli" in verdict.classes


def test_a_packed_body_is_looked_into_and_a_bomb_only_as_far_as_a_megabyte(scanner):
    packed = gzip.compress(b"q=%27+union+select+1,2,3--")
    headers = {**FORM, "Content-Encoding": "gzip"}
    assert "sqli" in scanner.scan(Request(id="1", method="POST", url="/", headers=headers, body=packed)).classes
    bomb = gzip.compress(b"q=" + b"a" * 50_000_000)
    verdict = scanner.scan(Request(id="2", method="POST", url="/", headers=headers, body=bomb))
    assert verdict.oddities == ("body cut at 1048576 bytes",)


def test_a_log_of_broken_lines_is_counted_line_by_line(tmp_path):
    good = '198.51.100.7 - - [10/Oct/2026:13:55:36 +0000] "GET /a HTTP/1.1" 200 5 "-" "x"'
    rng = random.Random(9)
    lines = [good if i % 3 else good[: rng.randint(1, 60)] for i in range(900)]
    path = tmp_path / "a.log"
    path.write_text("\n".join(lines) + "\n")
    reading = Reading()
    assert len(list(read_requests(path, reading=reading))) == 600
    assert reading.dead.count == 300


# ---- memory


def attacks(n: int):
    """Attacks that have nothing in common: each another shape, sender, path and parameter."""
    for i in range(n):
        odd = "".join("+-*/"[(i >> k) & 3] + "1" for k in range(0, 16, 2))
        yield Request(
            id=str(i),
            method="GET",
            url=f"/p{i}?q{i}=1%27+union+select+{quote(odd)}--",
            ip=f"10.{i >> 16}.{(i >> 8) & 255}.{i & 255}",
            ts=i * 3_600_000,
        )


def test_campaigns_of_a_long_log_have_an_end(scanner, monkeypatch):
    monkeypatch.setattr(grouping, "SHAPES", 60)
    monkeypatch.setattr(grouping, "COUNTED", 50)
    campaigns = Campaigns()
    for request in attacks(300):
        campaigns.add(request, scanner.scan(request))
    assert len(campaigns._parent) <= 62 and len(campaigns._found) <= 62
    assert sum(found.requests for found in campaigns._found.values()) + campaigns.left_out == 300
    for found in campaigns._found.values():
        assert max(map(len, (found.senders, found.paths, found.places, found.shapes))) <= 50
        assert len(found.ids) <= 100 and len(found.examples) <= 3


def test_one_sender_who_joins_everything_stays_one_bounded_campaign(scanner, monkeypatch):
    monkeypatch.setattr(grouping, "COUNTED", 50)
    campaigns = Campaigns()
    for request in attacks(120):
        request.ip, request.ts = f"10.0.0.{int(request.id) % 7}", int(request.id) % 5
        campaigns.add(request, scanner.scan(request))
    for found in campaigns._found.values():
        assert max(map(len, (found.senders, found.paths, found.places, found.shapes))) <= 50
    assert sum(c["requests"] for c in campaigns.rows()) == 120


def test_what_is_remembered_as_harmless_and_learned_has_an_end(monkeypatch):
    monkeypatch.setattr(scanning, "CALM", 40)
    monkeypatch.setattr(learning, "PARAMETERS", 40)
    plain, learned = Scanner(engine="literals"), Scanner(engine="literals", profile=Profile())
    for i in range(150):
        for one in (plain, learned):
            one.scan(
                Request(id=str(i), method="GET", url=f"/a{i}x?b{i}x={i}", headers={"Referer": f"https://s{i}.example/"})
            )
    for one in (plain, learned):
        assert len(one._calm) <= 50 and len(one._shapes) <= 50
    assert len(learned.profile._seen) <= 40 and len(learned.profile._by) <= 41
