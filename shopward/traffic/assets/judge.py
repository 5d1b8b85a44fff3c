"""What an interface is to the business and how dangerous it is: domain, access, data level, lifecycle, risk with its reasons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from shopward.evidence import Evidence
from shopward.traffic.assets.facts import Facts

DAY = 86_400_000
NEW_DAYS, ASLEEP_DAYS = 7, 30
LEFT_BEHIND = 3  # times as many interfaces in the newest version: the others were left behind
# data levels: 1 public, 2 internal, 3 personal, 4 could be turned into money or into somebody
_LEVELS = {
    "credit_card": 4, "cn_bank_card": 4, "iban": 4, "cn_id": 4, "us_ssn": 4, "passport": 4,
    "cn_mobile": 3, "phone": 3, "email": 3, "address": 3, "person_name": 3, "plate": 3,
}  # fmt: skip
_DOMAINS = (
    ("admin", "admin manage management console backend internal actuator debug audit"),
    ("payment", "pay payment payments payout payouts card cards bank wallet balance charge charges invoice billing settlement withdraw transfer transaction transactions recharge"),
    ("order", "order orders cart checkout basket trade"), ("refund", "refund refunds return returns dispute disputes chargeback aftersale"),
    ("promotion", "coupon coupons voucher vouchers promo promotion promotions discount campaign campaigns activity seckill flash points reward rewards redpacket"),
    ("live", "live stream streams gift gifts room rooms creator creators"), ("account", "login logout auth oauth oauth2 sso token user users account accounts member profile password register signup session captcha otp sms me"),
    ("seller", "seller sellers merchant merchants shop shops store stores vendor supplier"), ("logistics", "shipment shipments shipping delivery logistics express parcel tracking warehouse address addresses"),
    ("catalogue", "product products item items goods sku category categories brand brands search catalog listing listings price prices stock inventory"),
    ("content", "review reviews comment comments message messages article articles post posts blog news help feed question answer chat"),
    ("static", "static assets images img css js fonts favicon"), ("observability", "health healthz metrics ping status ready version"),
)  # fmt: skip
_DOMAIN_OF = {word: domain for domain, words in _DOMAINS for word in words.split()}
MONEY = frozenset(("payment", "order", "refund", "promotion", "live"))
_INTERNAL_HOST = re.compile(
    r"(?:^|\.)(?:internal|local|lan|corp|intra|svc|cluster|test|staging|dev)(?:\.|:|$)|^(?:10|127|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.|^localhost"
)
_VERSION = re.compile(r"/v(\d+)(?:/|$)")


@dataclass(slots=True)
class Verdict:
    """How an interface is judged; `reasons` say why the risk is what it is."""

    domain: str
    money_path: bool
    access: str
    level: int
    lifecycle: str
    risk: int = 0
    reasons: list[tuple[str, int, tuple[str, ...]]] = field(default_factory=list)


def judge(
    host: str,
    template: str,
    facts: Facts,
    span: tuple[int | None, int | None],
    newest: dict[str, int],
    documented: bool | None,
) -> Verdict:
    """`span` is the first and the last moment of the traffic, `newest` the newest version of each family of templates, `documented` None without a document."""
    domain = domain_of(template)
    verdict = Verdict(domain, domain in MONEY, access_of(host, template, domain, facts), level_of(facts), "active")
    verdict.lifecycle = lifecycle_of(template, facts, span, newest, documented)
    verdict.reasons = _reasons(template, facts, verdict)
    verdict.risk = min(100, sum(points for _, points, _ in verdict.reasons))
    return verdict


def domain_of(template: str) -> str:
    """The business domain a template's words speak of; money and administration win over what they are about.

    >>> domain_of("/api/users/{user_id}/orders"), domain_of("/admin/users"), domain_of("/brands/{brand}")
    ('order', 'admin', 'catalogue')
    """
    parts = [re.findall(r"[a-z0-9]+", part) for part in template.lower().split("/")[1:] if "{" not in part]
    known = [(i, len(part), _DOMAIN_OF[w]) for i, part in enumerate(parts) for w in part if w in _DOMAIN_OF]
    found = [d for i, n, d in known if d != "admin" or (i < 2 and n == 1)]  # `/blog/tags/management` is none
    return min(found, key=lambda d: [n for n, _ in _DOMAINS].index(d), default="other")


def access_of(host: str, template: str, domain: str, facts: Facts) -> str:
    """admin, internal, partner (keys and signatures), private (a person must be signed in) or public."""
    if domain == "admin":
        return "admin"
    if _INTERNAL_HOST.search(host):
        return "internal"
    known = sum(n for way, n in facts.auth.items() if way != "none")
    if facts.open_ok or known < 0.5 * facts.calls:
        return "public"
    return (
        "partner" if facts.auth["api_key"] + facts.auth["signature"] + facts.auth["mtls"] > 0.5 * known else "private"
    )


def level_of(facts: Facts) -> int:
    """The level of the most delicate data that comes back (or is sent, one lower)."""
    out = max(
        (4 if t.startswith("secret_") else _LEVELS.get(t, 2) for side, t in facts.sensitive if side == "response"),
        default=1,
    )
    sent = max(
        (_LEVELS.get(t, 2) - 1 for side, t in facts.sensitive if side != "response" and not t.startswith("secret_")),
        default=1,
    )
    signed_in = 2 if any(way != "none" for way in facts.auth) else 1
    return max(out, sent, signed_in)


def family(template: str) -> str:
    """A template without its version, so that versions of one interface meet."""
    return _VERSION.sub("/v*/", template, count=1)


def version(template: str) -> int:
    found = _VERSION.search(template)
    return int(found[1]) if found else -1


def newest_versions(paths: Iterable[str]) -> dict[str, int]:
    """The newest version of each family of templates, and of each tree of interfaces that has left an older version behind.

    >>> newest_versions(["/api/v0/users", "/api/v1/me", "/api/v1/orders", "/api/v1/cart"])["/api/v0/users".partition("/v0")[0] + "/v*"]
    1
    """
    newest: dict[str, int] = {}
    trees: dict[str, Counter] = {}
    for path in paths:
        newest[family(path)] = max(newest.get(family(path), -1), version(path))
        if version(path) >= 0:
            trees.setdefault(tree(path), Counter())[version(path)] += 1
    for name, counts in trees.items():
        top = max(counts)
        if counts[top] >= LEFT_BEHIND * sum(n for v, n in counts.items() if v != top):
            newest[name] = top
    return newest


def tree(template: str) -> str:
    """What stands before a template's version.

    >>> tree("/api/v1/orders")
    '/api/v*'
    """
    found = _VERSION.search(template)
    return template[: found.start()] + "/v*" if found else ""


def lifecycle_of(
    template: str,
    facts: Facts,
    span: tuple[int | None, int | None],
    newest: dict[str, int],
    documented: bool | None,
) -> str:
    """new (not there when the traffic began), active, deprecated, zombie (replaced or asleep, yet answering) or shadow (answers, but is in no document)."""
    if facts.deprecated:
        return "deprecated"
    if documented is False:
        return "shadow"
    if version(template) >= 0 and max(newest.get(family(template), -1), newest.get(tree(template), -1)) > version(
        template
    ):
        return "zombie"
    start, end = span
    if start is not None and end is not None and facts.last is not None and facts.first is not None:
        if end - facts.last > ASLEEP_DAYS * DAY:
            return "zombie"
        if end - facts.first < NEW_DAYS * DAY and facts.first - start > DAY:
            return "new"
    return "active"


def _reasons(template: str, facts: Facts, verdict: Verdict) -> list[tuple[str, int, tuple[str, ...]]]:
    """What makes it dangerous: a sentence, points of 100, technique ids."""
    out: list[tuple[str, int, tuple[str, ...]]] = []
    back = sorted({t for side, t in facts.sensitive if side == "response"})
    grave = [t for t in back if t.startswith("secret_") or _LEVELS.get(t, 0) >= 3]
    if grave:
        out.append(
            (
                f"answers hold {', '.join(grave)}",
                12 * max(4 if t.startswith("secret_") else _LEVELS[t] for t in grave) - 16,
                ("T1213",),
            )
        )
    if grave and facts.open_ok:
        out.append((f"{facts.open_ok:,} of these calls carried no credential", 35, ("F1002.002",)))
    in_url = sorted(
        {t for side, t in facts.sensitive if side == "url" and (t.startswith("secret_") or _LEVELS.get(t, 0) >= 3)}
    )
    if in_url:
        out.append((f"{', '.join(in_url)} in the address, where logs and referrers keep it", 20, ("T1552",)))
    if verdict.access == "admin" and facts.open_ok:
        out.append(("an administration interface answers without a credential", 45, ("T1190",)))
    if grave and re.search(r"\{\w*id(?:_\d+)?\}", template) and facts.params is not None:
        out.append(("personal data behind an id that can be counted up", 15, ("OAT-011",)))
    if verdict.lifecycle in ("zombie", "shadow") and any(200 <= s < 300 for s in facts.statuses):
        out.append((f"a {verdict.lifecycle} interface that still answers", 15, ("F1002",)))
    if verdict.money_path and facts.open_ok and not facts.auth.keys() - {"none"}:
        out.append(("money is moved and no call carries a credential", 20, ("F1002.002",)))
    if facts.largest > 1_000_000 and grave:
        out.append((f"answers of up to {facts.largest:,} bytes", 10, ("OAT-011",)))
    return out


def evidence(asset: str, facts: Facts, verdict: Verdict) -> list[Evidence]:
    """One finding a reason."""
    return [
        Evidence(source="traffic:assets", what=f"{asset}: {text}", entity=f"endpoint:{asset}", feature=text.split(":")[0][:80], value=points,
                 techniques=techniques, confidence=0.8, ts=facts.last or 0)
        for text, points, techniques in verdict.reasons
    ]  # fmt: skip
