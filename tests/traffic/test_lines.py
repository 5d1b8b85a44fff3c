"""What is remembered from line to line makes a log faster to read and changes nothing that is found in it."""

from __future__ import annotations

import random
from urllib.parse import quote

import msgspec
import pytest

from shopward.traffic import Reading, Request, read_requests, reading
from shopward.traffic.assets import templates
from shopward.traffic.assets.inventory import Inventory
from shopward.traffic.attacks import Scanner
from shopward.traffic.formats import combined
from shopward.traffic.leaks import exposure
from shopward.traffic.leaks.exposure import Exposure
from shopward.traffic.scan import Looks

AGENTS = (
    "-",
    "Mozilla/5.0 (X11; Linux x86_64) Chrome/131.0.0.0",
    "curl/8",
    "sqlmap/1.8",
    r"() { :;}; /bin/id",
    r"a\x22b\"c",
)
REFERERS = ("-", "https://shop.example/c/shoes", "https://shop.example/?q=%27+or+1=1--")
SEEN = (
    "id",
    "method",
    "url",
    "version",
    "headers",
    "ts",
    "ip",
    "account",
    "status",
    "bytes",
    "where",
    "host",
    "path",
    "query",
    "place",
)
HEX = "0123456789abcdef"


def token(rng: random.Random, letters: str, n: int) -> str:
    return "".join(rng.choice(letters) for _ in range(n))


def urls(rng: random.Random) -> list[str]:
    """One URL of each kind that a log has: plain, with ids of every look, with leaks, attacks, other scripts and junk."""
    n = rng.choice((rng.randint(0, 9), rng.randint(0, 99_999), rng.randint(10**8, 10**13)))
    uuid = "-".join(token(rng, HEX, k) for k in (8, 4, 4, 4, 12))
    return [
        f"/orders/{n}", f"/orders/{n}", f"/orders/{n}/items/{n % 7}", f"/static/img/{n}.{rng.choice(('jpg', 'JPG', 'tar.gz', 'x'))}", f"/v1/orders/{n}:cancel",
        f"/brands/{rng.choice('nike puma asics fila'.split())}/items/{n}", f"/u/{uuid}", f"/f/{token(rng, HEX, rng.choice((12, 16, 32)))}", f"//a///{n}//", f"/x/{n};v=2/y",
        f"/search?q={rng.choice('red blue kids'.split())}+shoes&page={n % 10}", f"/cart?session={token(rng, HEX, 16)}&sku=SKU-{n}", f"/p?id={n}&order_no={n}", f"/p?cmd={rng.choice(('whoami', 'who'))}",
        f"/a?token={rng.choice((str(n % 9), token(rng, HEX, 32)))}", f"/a?pwd={rng.choice(('12', '123456'))}", f"/a?mobile=138{rng.randint(10**7, 10**8 - 1)}", f"/a?card={4111111111111000 + n % 1000}",
        "/s?q=%27%20or%201%3D1--", "/d?f=../../../../etc/passwd", f"/s?q={n}%27%20union%20select%20{n}--", "/a?x=%24%7Bjndi:ldap://x.example/a%7D", f"/a?x=%c0%af{n}", "/s?jsessionid=0a1b",
        f"/{quote('商品')}/{n}", f"/商品/{n}/评论?q=红", f"/p?q={quote('男鞋 or 女鞋')}", f"/p?id=²{n}", f"http://{rng.choice(('a.example', 'B.Example:80'))}/p/{n}?id={n}", "*", f"/a#{n}?b",
    ]  # fmt: skip


def line(rng: random.Random) -> str:
    moment = f"{rng.randint(1, 28):02d}/Oct/2026:13:55:{rng.randint(0, 59):02d} +0{rng.randint(0, 9)}00"
    who = f"10.0.0.{rng.randint(0, 40)} - {rng.choice(('-', '-', 'ann', f'u{rng.randint(0, 30)}'))}"
    asked = f"{rng.choice(('GET', 'GET', 'GET', 'POST', 'HEAD', '-'))} {rng.choice(urls(rng))} HTTP/1.1"
    answered = f"{rng.choice((200, 200, 404, 403, 101, 500, '-'))} {rng.choice((0, 5, 90_000, '-'))}"
    return f'{who} [{moment}] "{asked}" {answered} "{rng.choice(REFERERS)}" "{rng.choice(AGENTS)}"'


def broken(rng: random.Random, whole: str) -> str:
    """A line that is no plain line: cut, a comment, blank, of Windows, with more fields, without its protocol."""
    return rng.choice(
        (whole[: rng.randint(0, len(whole))], "# a comment", "  ", "", whole + "\r", whole + ' "more" 7', whole.replace(" HTTP/1.1", ""))
    )  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A log of everything, with bytes that are not UTF-8 near its end and no end to its last line."""
    rng = random.Random(8)
    lines = [line(rng) if rng.random() < 0.95 else broken(rng, line(rng)) for _ in range(1800)]
    path = tmp_path_factory.mktemp("logs") / "access.log"
    latin = b'1.2.3.4 - - [10/Oct/2026:13:55:36 +0000] "GET /caf\xe9?q=1 HTTP/1.1" 200 5 "-" "x"\n'
    path.write_bytes("\n".join(lines).encode() + b"\n" + latin + "\n".join(lines[:60]).encode())
    return path


def one_by_one(path, dead: list[int]) -> list[Request]:
    """The requests of a log, each line read on its own, in full."""
    (first, *_) = read_requests(path)
    found = []
    for number, raw in enumerate(path.read_bytes().split(b"\n"), 1):
        text = raw.rstrip(b"\r")
        if not text.strip() or text.startswith(b"#"):
            continue
        try:
            row = combined(text)
        except ValueError:
            dead.append(number)
            continue
        whole = {name: None if row[name] == "-" else int(row[name]) for name in ("status", "bytes")}
        found.append(
            Request(
                id=f"{first.id.partition(':')[0]}:{number}", method=row["method"] or "GET", url=row["url"], version=row.get("version"),
                headers=dict(row["headers"]) or None, ts=reading.millis(row["ts"]), ip=row["ip"], account=row.get("account"), **whole,
                where=f"{path}:{number}",
            )
        )  # fmt: skip
    return found


class Forgetful(Scanner):
    """A scanner that looks at everything anew."""

    def _is_known(self, request):
        return False

    def _remember(self, request, broken):
        pass

    def _hits(self, request, fields):
        return self._looked(request, fields)


def outcome(looks: Looks, requests: list[Request]) -> dict[str, object]:
    verdicts = [msgspec.to_builtins(looks.take(request)) for request in requests]
    assets, keys = looks.inventory.assets(), range(len(looks.inventory.keys))
    seen = looks.exposure
    walks = {
        key: (w.calls, w.ids, w.last, w.steps, w.moves, w.refused, w.bytes, w.first_ts, w.last_ts, w.first_events)
        for key, w in seen.walks.items()
    }
    return {
        "verdicts": verdicts, "assets": [asset.row() | {"examples": asset.facts.examples, "looked": asset.facts.looked} for asset in assets],
        "names": [looks.inventory.name_of(i) for i in keys], "refused": looks.inventory.refused, "walks": list(walks.items()),
        "findings": list(map(msgspec.to_builtins, seen.findings())), "secrets": seen.secrets,
    }  # fmt: skip


def test_lines_read_by_the_block_are_the_lines_read_one_by_one(log):
    dead: list[int] = []
    wanted, met = one_by_one(log, dead), Reading()
    found = list(read_requests(log, reading=met))
    assert [tuple(getattr(r, name) for name in SEEN) for r in found] == [
        tuple(getattr(r, n) for n in SEEN) for r in wanted
    ]
    assert (met.requests, met.dead.count) == (len(wanted), len(dead)) and len(dead) > 5


def test_blocks_of_any_size_give_the_same_requests(log, monkeypatch):
    wanted = [(r.id, r.url) for r in read_requests(log)]
    for size in (1, 77, 4096):
        monkeypatch.setattr(reading, "BLOCK", size)
        assert [(r.id, r.url) for r in read_requests(log)] == wanted


def test_what_is_remembered_changes_no_finding(log, monkeypatch):
    fast = outcome(Looks(Scanner(engine="literals")), list(read_requests(log)))
    monkeypatch.setattr(templates, "AGAIN", 0)
    monkeypatch.setattr(exposure, "PLACES", 0)
    plain = outcome(Looks(Forgetful(engine="literals"), Inventory(), Exposure()), one_by_one(log, []))
    for name in plain:
        assert fast[name] == plain[name], name
    assert {"sqli", "path-traversal"} <= {c for v in plain["verdicts"] for c in v["classes"]}
    assert {kind for _, kind in plain["secrets"]} >= {"secret_generic", "secret_password", "cn_mobile"}


def test_a_harmless_token_hides_no_other_that_looks_like_it():
    seen = Exposure()
    for i, value in enumerate(("5", "0123456789abcdef0123456789abcdef", "9f86d081884c7d659a2feaa0c55ad015")):
        seen.add(Request(id=str(i), method="GET", url=f"/a?token={value}", status=200))
    assert seen.secrets["GET /a", "secret_generic"][0] == 2


def test_digits_that_are_no_numbers_are_no_step():
    seen = Exposure()
    for value in ("²", "३", "4"):
        seen.add(Request(id=value, method="GET", url=f"/a?id={value}", status=200, ip="::1"))
    ((_, walk),) = seen.walks.items()
    assert (walk.ids, walk.last, walk.moves) == (3, 4, 1)


def test_paths_that_never_come_again_are_let_go(monkeypatch):
    monkeypatch.setattr(templates, "AGAIN", 50)
    learned = templates.Templates()
    for i in range(2000):
        learned.add("GET", f"/p/a{i}b{i}c")
        learned.tokens(f"/p/a{i}b{i}c")
    learned.add("GET", "/" + "x" * 5000)
    learned.resolve()
    assert max(map(len, (learned._ways, learned._forms, learned._asked))) <= 50
    assert learned.root.calls == 2001
