"""Endpoint templating against a rule set like Akto's (integers, UUIDs, object ids; ten siblings merge), on templates of hidden difficulty
and on the paths of an OpenAPI document filled with ids.

    python -m benchmarks.traffic.assets [--quick] [--json] [--openapi FOLDER]

A template counts as found when all its paths, and no others, have one template, and it is the right one (parameter names aside).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import string
import time
import uuid
from collections import Counter, defaultdict
from pathlib import Path
from urllib.parse import quote

from benchmarks.report import finish
from benchmarks.traffic.leaks import read_rows
from shopward.traffic.assets.templates import Templates

CITIES = ("london", "paris", "berlin", "tokyo", "madrid", "rome", "vienna")
BRANDS = ("nike", "adidas", "puma", "asics", "fila", "lining", "anta", "uniqlo")
COLOURS = ("red", "blue", "green", "black", "white")
THINGS = ("shirt", "kettle", "phone-case", "lamp", "running-shoe", "desk", "mug", "tent")
HANZI = "\u7ea2\u84dd\u7eff\u9ed1\u767d\u978b\u8863\u5e3d\u676f\u706f\u684c\u6905\u4e66\u5305\u8336\u9152\u82b1\u8349"

# `{kind}` is filled; what stands beside is literal
TEMPLATES = [
    "/api/users/{int}",
    "/api/users/me",
    "/api/users/{int}/orders",
    "/api/users/{int}/orders/{int}",
    "/api/users/search",
    "/api/users/me/addresses",
    "/api/v1/orders/{order}",
    "/api/v1/orders/{order}/items",
    "/api/v1/orders/{order}/items/{int}",
    "/api/v1/orders/export",
    "/api/v2/orders/{order}",
    "/api/v1/orders",
    "/products/{slug}",
    "/products/{slug}/reviews",
    "/products/new",
    "/products/compare",
    "/shop/{brand}/items",
    "/shop/{brand}/items/{int}",
    "/brands/{brand}",
    "/brands/all",
    "/{locale}/help/{slug}",
    "/{locale}/terms",
    "/pay/callback/alipay",
    "/pay/callback/wechat",
    "/pay/callback/paypal",
    "/oauth2/authorize",
    "/oauth2/token",
    "/city/{city}/weather",
    "/city/{city}/stores/{int}",
    "/search/{hanzi}",
    "/商品/{int}",
    "/商品/{int}/评论",
    "/tags/{hanzi}",
    "/files/{uuid}.pdf",
    "/files/{uuid}/versions/{int}",
    "/download/{hex}",
    "/reports/{date}",
    "/reports/{date}/summary",
    "/reports/daily",
    "/sellers/{seller}/products",
    "/sellers/{seller}/products/{sku}",
    "/sellers/apply",
    "/live/rooms/{int}/gifts",
    "/live/rooms/{int}/viewers",
    "/live/rooms/hot",
    "/static/js/{hashed}.js",
    "/static/css/{hashed}.css",
    "/images/{int}_{int}.jpg",
    "/robots.txt",
    "/v1/payments/{token}/capture",
    "/v1/payments/{token}:cancel",
    "/v1/payments/{token}",
    "/v1/payments/webhook",
    "/admin/users/{int}/lock",
    "/admin/audit/logs",
    "/coupons/{coupon}",
    "/coupons/{coupon}/claim",
    "/coupons/batch",
    "/graphql",
    "/rpc/OrderService.Create",
    "/profile/{email}",
    "/geo/{point}",
]


def fill(kind: str, rng: random.Random) -> str:
    word = lambda n, letters: "".join(rng.choice(letters) for _ in range(n))  # noqa: E731
    made = {
        "int": lambda: str(rng.randint(1, 10**7)), "order": lambda: f"SO{rng.randint(10**9, 10**10)}", "uuid": lambda: str(uuid.UUID(int=rng.getrandbits(128))),
        "slug": lambda: f"{rng.choice(COLOURS)}-{rng.choice(THINGS)}-{word(4, string.ascii_lowercase)}", "brand": lambda: rng.choice(BRANDS), "city": lambda: rng.choice(CITIES),
        "locale": lambda: rng.choice(("en", "zh-CN", "de", "pt-BR")), "hanzi": lambda: quote(word(rng.randint(2, 4), HANZI)), "hex": lambda: word(32, "0123456789abcdef"),
        "date": lambda: f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}", "seller": lambda: rng.choice(("acme", "bluebird", "northwind", "tiny_shop", "lotus", "kiosk9", "oldtown")) ,
        "sku": lambda: f"{word(3, string.ascii_uppercase)}-{rng.randint(100, 999)}-{rng.choice('SML')}", "hashed": lambda: f"{rng.choice(('app', 'vendor', 'main'))}.{word(8, '0123456789abcdef')}",
        "token": lambda: word(22, string.ascii_letters + string.digits), "coupon": lambda: word(8, string.ascii_uppercase + string.digits), "email": lambda: f"{word(6, string.ascii_lowercase)}@example.com",
        "point": lambda: f"{rng.uniform(-90, 90):.4f},{rng.uniform(-180, 180):.4f}",
    }  # fmt: skip
    return made[kind]()


def drawn(templates: list[str], paths: int, seed: int) -> list[tuple[str, str]]:
    """(template, path) pairs, shuffled."""
    rng = random.Random(seed)
    out = [
        (t, re.sub(r"\{(\w+)\}", lambda m: fill(m[1], rng), quote(t, safe="/{}:._")))
        for t in templates
        for _ in range(paths)
    ]
    rng.shuffle(out)
    return out


def bare(template: str) -> str:
    return re.sub(r"\{[^}]*\}(?:_\{[^}]*\})*", "{}", template)


def exact(pairs: list[tuple[str, str]], told: list[str]) -> tuple[float, list[str]]:
    """Share of templates found exactly, and those that were not."""
    by_true, by_told = defaultdict(Counter), defaultdict(set)
    for (true, _), found in zip(pairs, told, strict=True):
        by_true[true][found] += 1
        by_told[found].add(true)
    wrong = []
    for true, found in by_true.items():
        (one, _), *more = found.most_common()
        if more or len(by_told[one]) > 1 or bare(one) != bare(true):
            wrong.append(f"{true} -> {', '.join(f'{f} x{n}' for f, n in found.most_common(3))}")
    return 1 - len(wrong) / len(by_true), wrong


def ours(pairs: list[tuple[str, str]]) -> list[str]:
    learned = Templates()
    tokens = [learned.add("GET", path) for _, path in pairs]
    learned.resolve()
    return [learned.of(t).path for t in tokens]


def akto_like(pairs: list[tuple[str, str]]) -> list[str]:
    """Integers, UUIDs and object ids become parameters; ten string siblings merge."""
    form = re.compile(r"\d+|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-f]{24}")
    paths = [tuple("{}" if form.fullmatch(s) else s for s in path.split("/")[1:]) for _, path in pairs]
    for at in range(max(map(len, paths))):
        siblings = defaultdict(set)
        for p in paths:
            if len(p) > at:
                siblings[p[:at], p[at + 1 :]].add(p[at])
        paths = [
            p[:at] + ("{}",) + p[at + 1 :] if len(p) > at and len(siblings[p[:at], p[at + 1 :]]) >= 10 else p
            for p in paths
        ]
    return ["/" + "/".join(p) for p in paths]


def openapi_paths(folder: Path, paths: int, seed: int = 5) -> list[tuple[str, str]]:
    """The documented paths, filled with ids as the service makes them."""
    rng = random.Random(seed)
    letters = string.ascii_uppercase + string.digits
    out = []
    for file in sorted(folder.glob("*.json*")):
        for template in read_rows(file)["paths"]:
            for _ in range(paths):
                out.append(
                    (
                        template,
                        re.sub(
                            r"\{[^}]+\}",
                            lambda m: (
                                rng.choice(("", "I-", "PP-D-"))
                                + "".join(rng.choice(letters) for _ in range(rng.choice((13, 17))))
                            ),
                            template,
                        ),
                    )
                )
    rng.shuffle(out)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--openapi", type=Path, help="a folder of OpenAPI documents (.json, .json.zst)")
    asked = parser.parse_args()
    pairs = drawn(TEMPLATES, 60, seed=3)
    started = time.process_time()
    share, wrong = exact(pairs, ours(pairs))
    seconds = time.process_time() - started
    result = {
        "templates": len(TEMPLATES),
        "exact": share,
        "wrong": wrong,
        "peer_exact": exact(pairs, akto_like(pairs))[0],
        "paths_a_second": len(pairs) / seconds,
    }
    if asked.openapi:
        pairs = openapi_paths(asked.openapi, 20)
        result["openapi_exact"], result["openapi_wrong"] = exact(pairs, ours(pairs))
        result["openapi_peer_exact"] = exact(pairs, akto_like(pairs))[0]
    print(json.dumps({k: v for k, v in result.items() if "wrong" in k}, indent=1, ensure_ascii=False))
    finish("traffic.assets", result, asked.json)


if __name__ == "__main__":
    main()
