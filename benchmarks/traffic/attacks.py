"""Attacks: CPU per request, recall and false positives, beside OWASP CRS on libmodsecurity in the same process and run.

    python -m benchmarks.traffic.attacks --json [--crs DIR] [--shared DIR] [--quick]

`--crs` is a folder with OWASP CRS (`rules/` and `crs-setup.conf.example`); without it, or without libmodsecurity, the peer is skipped
and says so. The labelled sets were built by others and are read from `--shared`; rules were written after one half of CRS's tests and
after nothing else of them (see `part_of`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import quote_plus

from benchmarks.report import finish
from shopward.traffic.attacks import Scanner
from shopward.traffic.requests import Request

AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36"
)
HEADERS = {
    "Host": "shop.example", "User-Agent": AGENT, "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5", "Accept-Encoding": "gzip, deflate, br", "Referer": "https://shop.example/c/shoes?page=2",
    "Cookie": "sid=8f3a9c1e77; theme=dark", "Connection": "keep-alive",
}  # fmt: skip
CRS_CLASSES = ("930", "931", "932", "933", "934", "941", "942", "943", "944")
TEXTS = Path(__file__).parents[2] / "tests" / "traffic" / "shop_texts.txt"


class Crs:
    """OWASP CRS on libmodsecurity, detecting only; an attack is what reaches the anomaly threshold."""

    def __init__(self, folder: Path, level: int):
        import libmodsecurity as ms

        self._engine = ms.ModSecurity()
        self._engine.set_log_callback(lambda message: None)
        self._rules = ms.RulesSet()
        setup = (folder / "crs-setup.conf.example").read_text()
        head = (
            "SecRuleEngine DetectionOnly\nSecRequestBodyAccess On\nSecResponseBodyAccess Off\nSecAuditEngine Off\n"
            'SecRule REQUEST_HEADERS:Content-Type "@rx application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"\n'
            'SecRule REQUEST_HEADERS:Content-Type "@rx (?:text|application)/xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"\n'
            f'SecAction "id:900000,phase:1,pass,t:none,nolog,setvar:tx.blocking_paranoia_level={level}"\n'
        )
        self._rules.load(head + setup)
        for path in sorted((folder / "rules").glob("*.conf")):
            if not path.name.startswith("RESPONSE-") or "959" in path.name:
                self._rules.load_from_uri(str(path))

    def is_attack(self, request: Request) -> bool:
        return 949110 in self.fired(request)

    def fired(self, request: Request) -> set[int]:
        """The ids of the rules that fire."""
        with self._engine.transaction(self._rules) as t:
            t.process_connection("198.51.100.7", 40000, "127.0.0.1", 80)
            t.process_uri(request.url, request.method, "1.1")
            for name, value in (request.raw_headers or {}).items():
                t.add_request_header(name, value)
            t.process_request_headers()
            if request.raw_body:
                body = request.raw_body
                t.append_request_body(body if isinstance(body, bytes) else body.encode("utf-8", "replace"))
            t.process_request_body()
            return {m.rule_id for m in t.get_rule_messages()}


def get(i: int) -> Request:
    return Request(
        id=str(i), method="GET", url=f"/products/{i}?q=blue+shoes+{i}&page={i % 9}&sort=price", headers={**HEADERS}
    )


def order(i: int) -> Request:
    """A JSON order of 560 bytes."""
    items = [
        {"sku": f"SKU-{i % 997}-{k}", "name": "Running shoes, blue", "qty": k + 1, "price": "19.99"} for k in range(4)
    ]
    address = {
        "name": "Ann Miller",
        "street": f"{i} Main Street",
        "city": "Springfield",
        "zip": "12345",
        "country": "US",
    }
    body = json.dumps(
        {
            "order_id": f"O-{i:06}",
            "items": items,
            "address": address,
            "note": "Please leave it at the door.",
            "coupon": None,
        }
    )
    body += " " * (560 - len(body))
    return Request(
        id=str(i),
        method="POST",
        url="/api/v1/orders",
        headers={**HEADERS, "Content-Type": "application/json", "Content-Length": str(len(body))},
        body=body,
    )


def cpu(work: Callable[[Request], object], make: Callable[[int], Request], n: int, rounds: int = 5) -> float:
    """Median CPU milliseconds for one request, each another."""
    times = []
    for k in range(rounds):
        requests = [make(k * n + i) for i in range(n)]
        started = time.process_time()
        for request in requests:
            work(request)
        times.append((time.process_time() - started) / n * 1000)
    return median(times)


def speed(scanner: Scanner, peer: Crs | None, quick: bool) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, make in (("get", get), ("order", order)):
        found[f"{name}_ms"] = cpu(scanner.scan, make, 300 if quick else 1000)
        if peer is not None:
            theirs = cpu(peer.is_attack, make, 40 if quick else 150, 3)
            found[f"{name}_ms_crs"] = theirs
            found[f"ratio_crs_{name}"] = theirs / found[f"{name}_ms"]
    return found


def in_query(value: str) -> Request:
    return Request(id="", method="GET", url=f"/search?q={quote_plus(value, errors='surrogatepass')}", headers=HEADERS)


def payloads(shared: Path, looks: dict[str, Callable[[Request], bool]], quick: bool) -> dict[str, float]:
    """Recall by class and false positives on `http_params_payloads`."""
    import pyarrow.parquet as pq

    rows = pq.read_table(shared / "data/http_params_payloads/payload_train.parquet").to_pylist()
    by_class = defaultdict(list)
    for row in rows:
        by_class[row["attack_type"]].append(row["payload"])
    chosen = random.Random(7)
    found: dict[str, float] = {}
    for name, look in looks.items():
        recalls = []
        for cls, values in sorted(by_class.items()):
            most = 300 if quick else (600 if name != "ours" else 4000)
            sample = values if len(values) <= most else chosen.sample(values, most)
            share = sum(look(in_query(v)) for v in sample) / len(sample)
            found[f"{name}_params_{'false_positives' if cls == 'norm' else 'recall_' + cls}"] = share
            if cls != "norm":
                recalls.append(share)
        found[f"{name}_params_recall_macro"] = sum(recalls) / len(recalls)
    return found


def crs_tests(
    shared: Path, scanner: Scanner, crs: Path | None, looks: dict[str, Callable[[Request], bool]]
) -> dict[str, float]:
    """CRS's own regression tests by class: the share flagged of those that must fire, and of those that must not.

    A must-not test only says that one rule stays silent; the request is often an attack that another rule is there for. So beside the
    share of all of them stands the share of those on which no attack rule of CRS itself fires at level 4, at which its tests are run,
    and at level 2 (both need `--crs`). `built_on`, `held_out` and `held_out_rules` are the parts of `part_of`."""
    import pyarrow.parquet as pq

    rows = pq.read_table(shared / "data/http_crs_regression/crs_regression_tests.parquet").to_pylist()
    tests = [t for t in map(_test, rows) if t is not None]
    found = {}
    for name, look in looks.items():
        flagged = [(t, look(t.request)) for t in tests]
        head = "crs_tests" if name == "ours" else f"{name}_crs_tests"
        found |= _by_class(f"{head}_fire", [(t.cls, hit) for t, hit in flagged if t.must])
        found |= _by_class(f"{head}_false", [(t.cls, hit) for t, hit in flagged if not t.must])
        if name == "ours":
            for part in ("built_on", "held_out", "held_out_rules"):
                found |= _by_class(
                    f"crs_tests_fire_{part}", [(t.cls, hit) for t, hit in flagged if t.must and t.part == part]
                )
                found |= _by_class(
                    f"crs_tests_false_{part}", [(t.cls, hit) for t, hit in flagged if not t.must and t.part == part]
                )
    if crs is not None:
        at = levels(crs)
        for level in (1, 2, 3):
            mine = [(t.cls, looks["ours"](t.request)) for t in tests if t.must and at.get(t.rule) == level]
            found |= _by_class(f"crs_tests_fire_pl{level}", mine)
    for level in (2, 4) if crs is not None else ():
        peer = Crs(crs, level)
        silent = [t for t in tests if not t.must and not any(str(i)[:3] in CRS_CLASSES for i in peer.fired(t.request))]
        found |= _by_class(
            f"crs_tests_false_silent_pl{level}", [(t.cls, scanner.scan(t.request).attack) for t in silent]
        )
        found[f"crs_tests_silent_pl{level}"] = len(silent)
    return found


class Test(NamedTuple):
    """One of CRS's tests; `must` says whether its rule has to fire."""

    cls: str
    must: bool
    part: str
    rule: int
    request: Request


def _test(row: dict) -> Test | None:
    cls, expects = str(row["rule_id"])[:3], row["expect_ids"] or ()
    if cls not in CRS_CLASSES or not (len(expects) or len(row["no_expect_ids"] or ())):
        return None
    return Test(cls, bool(len(expects)), part_of(row), row["rule_id"], regression_request(row))


def levels(crs: Path) -> dict[int, int]:
    """The paranoia level of each rule of CRS, from its tag."""
    found = {}
    for path in (crs / "rules").glob("*.conf"):
        for block in re.split(r"\n(?=Sec)", path.read_text()):
            rule, level = re.search(r"\bid:(\d{6,7})", block), re.search(r"paranoia-level/(\d)", block)
            if rule and level:
                found[int(rule.group(1))] = int(level.group(1))
    return found


def part_of(row: dict) -> str:
    """Rules of ours were written after one half of the tests, by hash; the other half, and a fifth of CRS's rules, were held out."""
    if hashlib.sha256(str(row["rule_id"]).encode()).digest()[0] % 5 == 0:
        return "held_out_rules"
    return "held_out" if hashlib.sha256(f"{row['rule_id']}-{row['test_id']}".encode()).digest()[0] & 1 else "built_on"


def _by_class(name: str, hits: list[tuple[str, bool]]) -> dict[str, float]:
    by: dict[str, list[bool]] = defaultdict(list)
    for cls, hit in hits:
        by[cls].append(hit)
    found = {f"{name}_{cls}": sum(v) / len(v) for cls, v in sorted(by.items())}
    return found | {f"{name}_macro": sum(found.values()) / len(found)}


def regression_request(row: dict) -> Request:
    """The request as CRS's own runner sends it: a body without a content type goes out as a form."""
    import base64

    if row["encoded_request"]:
        raw = base64.b64decode(row["encoded_request"]).decode("latin-1")
        head, _, body = raw.partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        parts = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines if ": " in line)
        return Request(id="", method=parts[0], url=parts[1] if len(parts) > 1 else "/", headers=headers, body=body)
    headers = json.loads(row["headers"] or "{}")
    if row["data"] and "content-type" not in {name.lower() for name in headers}:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    return Request(id="", method=row["method"] or "GET", url=row["uri"] or "/", headers=headers, body=row["data"])


def own_texts(looks: dict[str, Callable[[Request], bool]], quick: bool) -> dict[str, float]:
    texts = TEXTS.read_text(encoding="utf-8").splitlines()
    return {
        f"{name}_shop_texts_false_positives": sum(look(in_query(t)) for t in chosen) / len(chosen)
        for name, look in looks.items()
        for chosen in [texts if name == "ours" or not quick else texts[::5]]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under 55 s; smaller samples")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--crs", type=Path, help="a folder with OWASP CRS")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="the folder with the labelled sets")
    args = parser.parse_args()
    scanner = Scanner()
    result: dict = {"engine": scanner.engine.name}
    peers: dict[str, Callable[[Request], bool]] = {"ours": lambda r: scanner.scan(r).attack}
    peer = None
    try:
        if args.crs is None:
            raise FileNotFoundError("no --crs folder was given")
        peer = Crs(args.crs, 1)
        peers["crs_pl1"] = peer.is_attack
        if not args.quick:
            peers["crs_pl2"] = Crs(args.crs, 2).is_attack
    except (ImportError, FileNotFoundError) as why:
        result["peer_skipped"] = str(why)
        print(f"  OWASP CRS is skipped: {why}", file=sys.stderr)
    result |= speed(scanner, peer, args.quick)
    result |= own_texts(peers, args.quick)
    if (args.shared / "data/http_params_payloads").exists():
        result |= payloads(args.shared, peers, args.quick)
        result |= crs_tests(
            args.shared, scanner, args.crs if peer else None, {"ours": peers["ours"]} if args.quick else peers
        )
    else:
        result["sets_skipped"] = f"no labelled sets in {args.shared}"
    finish("traffic.attacks", result, args.json)


if __name__ == "__main__":
    main()
