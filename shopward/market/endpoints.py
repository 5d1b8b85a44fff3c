"""What the market's servers offer: every endpoint with its path, its usual answer, and who it is meant for.

Levels: public (anybody), private (signed in), partner (a key), admin (staff, from the office), hook (the bank calls), zombie (an old
version that nobody removed), none (never existed: what scanners ask for).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`path` may hold {account} {order} {product} {seller} {creator} {coupon} {word} {n} {country}; `body` too, and {email} {amount} {card}."""

    method: str
    path: str
    status: int
    bytes: int
    level: str = "public"
    body: str = ""
    answer: str = ""


# event type -> the request that carries it
CARRIERS = {
    "register": Endpoint("POST", "/api/v1/accounts", 201, 420, "public", '{"email":"{email}","terms":true}'),
    "login": Endpoint("POST", "/api/v1/session", 200, 610, "public", '{"email":"{email}","remember":true}'),
    "password_reset": Endpoint("POST", "/api/v1/password-resets", 202, 95, "public", '{"email":"{email}"}'),
    "profile_change": Endpoint("PATCH", "/api/v1/accounts/{account}", 200, 380, "private"),
    "challenge_result": Endpoint("POST", "/api/v1/challenges", 200, 120),
    "device_bind": Endpoint("POST", "/api/v1/accounts/{account}/devices", 201, 160, "private"),
    "session_view": Endpoint("GET", "/api/v1/products/{product}", 200, 5200),
    "search": Endpoint("GET", "/api/v1/search?q={query}", 200, 7300),
    "follow": Endpoint("POST", "/api/v1/follows", 201, 70, "private"),
    "like": Endpoint("POST", "/api/v1/likes", 201, 60, "private"),
    "cart": Endpoint("POST", "/api/v1/cart/items", 201, 330, "public", '{"product":"{product}"}'),
    "ad_click": Endpoint("GET", "/ads/click?to={product}", 302, 0),
    "affiliate_click": Endpoint("GET", "/r/{affiliate}?to={product}", 302, 0),
    "coupon_claim": Endpoint("POST", "/api/v1/coupons/{coupon}/claims", 201, 160, "private"),
    "free_sample": Endpoint("POST", "/api/v1/samples", 201, 190, "private", '{"product":"{product}"}'),
    "order": Endpoint("POST", "/api/v1/orders", 201, 840, "private", '{"product":"{product}","amount":{amount}}'),
    "order_cancel": Endpoint("POST", "/api/v1/orders/{order}/cancel", 200, 210, "private"),
    "payment": Endpoint("POST", "/api/v1/orders/{order}/payments", 201, 310, "private", '{"amount":{amount},"card_token":"{card}"}'),
    "payment_failed": Endpoint("POST", "/api/v1/orders/{order}/payments", 402, 180, "private", '{"amount":{amount},"card_token":"{card}"}'),
    "refund": Endpoint("POST", "/api/v1/orders/{order}/refunds", 201, 240, "private", '{"amount":{amount}}'),
    "review": Endpoint("POST", "/api/v1/products/{product}/reviews", 201, 260, "private"),
    "message": Endpoint("POST", "/api/v1/messages", 201, 180, "private"),
    "listing": Endpoint("POST", "/api/v1/sellers/{seller}/listings", 201, 720, "private"),
    "price_change": Endpoint("PATCH", "/api/v1/sellers/{seller}/listings/{product}", 200, 310, "private", '{"price":{amount}}'),
    "stock": Endpoint("PUT", "/api/v1/sellers/{seller}/stock/{product}", 200, 90, "private"),
    "seller_onboard": Endpoint("POST", "/api/v1/sellers", 201, 530, "private"),
    "seller_payout": Endpoint("POST", "/api/v1/sellers/{seller}/payouts", 201, 230, "private", '{"amount":{amount}}'),
    "live_gift": Endpoint("POST", "/api/v1/live/{creator}/gifts", 201, 140, "private", '{"amount":{amount}}'),
    "creator_payout": Endpoint("POST", "/api/v1/creators/{creator}/payouts", 201, 230, "private", '{"amount":{amount}}'),
}  # fmt: skip

# requests without an event: the endpoint, beside these events, how many on average, how many beside an attacker's
BESIDE: tuple[tuple[Endpoint, tuple[str, ...], float, float], ...] = (
    (Endpoint("GET", "/", 200, 18_400), ("login", "register"), 0.8, 0.1),
    (Endpoint("GET", "/api/v1/feed?page={n}", 200, 9_100), ("session_view",), 0.8, 0.6),
    (Endpoint("GET", "/api/v1/search?q={word}&page={n}", 200, 7_300), ("session_view",), 1.0, 0.9),
    (Endpoint("GET", "/api/v1/products/{any_product}", 200, 5_200), ("session_view",), 6.0, 1.5),
    (Endpoint("GET", "/api/v1/me", 200, 640, "private", "", '{"account":"{account}","email":"{email}"}'), ("login", "order"), 1.0, 0.5),
    (Endpoint("GET", "/api/v1/cart", 200, 1_150), ("order", "cart"), 0.7, 0.4),
    (Endpoint("GET", "/api/v1/shipping/rates?country={country}", 200, 410), ("order",), 0.7, 0.3),
    (Endpoint("GET", "/api/v1/orders", 200, 3_900, "private"), ("refund", "review", "seller_payout"), 1.2, 0.7),
    (Endpoint("GET", "/api/v0/users/{account}", 200, 900, "zombie", "", '{"id":"{account}","email":"{email}","phone":"{phone}"}'), ("login",), 0.004, 0.0),
    (Endpoint("GET", "/api/v1beta/recommendations?n={n}", 200, 4_100, "zombie"), ("order",), 0.01, 0.0),
)  # fmt: skip

# requests of programs and staff; how many a day for every thousand visits of the day
DAILY: dict[str, tuple[Endpoint, str, float]] = {
    "search_engine": (Endpoint("GET", "/api/v1/products/{any_product}", 200, 5_200), "good_bot", 160.0),
    "search_engine_pages": (Endpoint("GET", "/sitemap/{n}.xml", 200, 41_000), "good_bot", 8.0),
    "robots": (Endpoint("GET", "/robots.txt", 200, 210), "good_bot", 6.0),
    "monitor": (Endpoint("GET", "/healthz", 200, 2), "monitor", 40.0),
    "partner": (Endpoint("GET", "/partner/v2/catalogue?cursor={n}", 200, 52_000, "partner"), "partner", 20.0),
    "bank_hook": (Endpoint("POST", "/hooks/payments", 204, 0, "hook", '{"order":"{order_any}","state":"settled"}'), "partner", 60.0),
    "staff_list": (Endpoint("GET", "/internal/admin/users?page={n}", 200, 22_000, "admin"), "staff", 8.0),
    "staff_refund": (Endpoint("POST", "/internal/admin/refunds/{order_any}/approve", 200, 90, "admin"), "staff", 2.0),
    "outsider": (Endpoint("GET", "/internal/admin/users?page={n}", 403, 60, "admin"), "probing", 0.4),
    "probe_env": (Endpoint("GET", "/.env", 404, 0, "none"), "probing", 1.2),
    "probe_wp": (Endpoint("POST", "/wp-login.php", 404, 0, "none", '{"log":"admin","pwd":"admin"}'), "probing", 1.2),
    "probe_git": (Endpoint("GET", "/.git/config", 404, 0, "none"), "probing", 0.8),
    "probe_sql": (Endpoint("GET", "/api/v1/search?q=%27%20OR%201%3D1--%20&page={n}", 200, 310), "probing", 0.5),
    "probe_path": (Endpoint("GET", "/static/..%2f..%2fetc/passwd", 400, 0, "none"), "probing", 0.4),
    "probe_xss": (Endpoint("GET", "/api/v1/search?q=%3Cscript%3Ealert(1)%3C/script%3E", 200, 290), "probing", 0.4),
}  # fmt: skip

CRAWLED = {  # what a campaign's crawl asks for
    "products": Endpoint("GET", "/api/v1/products/{any_product}", 200, 5_200),
    "search": Endpoint("GET", "/api/v1/search?q={word}&page={n}", 200, 7_300),
}

# name of a program: what it says it is, and how its TLS hello looks (JA4)
PROGRAMS: dict[str, tuple[str, str]] = {
    "search_engine": ("Mozilla/5.0 (compatible; Searchlight/3.1; +https://search.example/bot)", "t13d1714h1_5b57614c22b0_eeeea6562960"),
    "monitor": ("UptimeWatch/2.0 (+https://uptime.example)", "t13d1311h2_f57a46bbacb6_e5728521abd4"),
    "partner": ("PriceCompare/7 (partner; ops@compare.example)", "t13d190900_9dc949149365_97f8aa674fd9"),
    "python": ("python-requests/2.32.3", "t13d1812h1_85036bcba153_b26ce05bbdd6"),
    "scanner": ("Mozilla/5.0 zgrab/0.x", "t13d130900_f57a46bbacb6_3b07b2c0a2f1"),
    "go": ("Go-http-client/2.0", "t13d1310h2_f57a46bbacb6_e5728521abd4"),
}  # fmt: skip
BROWSER_JA4 = (  # by shape of user agent, see world.AGENTS: what these browsers and apps send
    "t13d1516h2_8daaf6152771_02713d6af862", "t13d2014h2_a09f3c656075_14788d8d241b", "t13d2613h2_2802a3db6c62_845d286b0d67",
    "t13d1513h2_8daaf6152771_eca864cca44a", "t13d1516h2_8daaf6152771_02713d6af862", "t13d1516h2_8daaf6152771_02713d6af862",
    "t13d2014h2_a09f3c656075_14788d8d241b", "t13d1715h2_5b57614c22b0_7121afd63204", "t13d2014h2_a09f3c656075_14788d8d241b",
)  # fmt: skip
TOOLS = ("python", "go")  # what scripts run on, whatever browser they claim to be: devices.tool
