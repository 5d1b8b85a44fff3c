"""How a value is shown: enough to recognise one's own, too little to use."""

from __future__ import annotations


def masked(kind: str, value: str) -> str:
    """A value with its middle hidden; secrets show their first characters only.

    >>> masked("cn_mobile", "13800138000"), masked("email", "alice@example.com"), masked("secret_github_token", "ghp_0123456789abcdef")
    ('138******00', 'a***@example.com', 'ghp_***')
    >>> masked("credit_card", "4111 1111 1111 1111"), masked("secret_password", "hunter2")
    ('4111 ****1111', '***')
    """
    if kind in ("secret_password", "secret_basic_auth"):
        return "***"
    if kind.startswith("secret_"):
        return value[:4] + "***" if len(value) >= 16 else "***"
    if kind == "email":
        local, _, domain = value.partition("@")
        return f"{local[:1]}***@{domain}"
    if kind in ("url", "domain"):
        return _address(value)
    if kind in ("credit_card", "cn_bank_card"):
        return value[:4] + " ****" + value[-4:]
    keep = 3 if len(value) > 8 else 1
    tail = 2 if len(value) > 6 else 0
    return value[:keep] + "*" * max(len(value) - keep - tail, 1) + value[len(value) - tail :]


def _address(value: str) -> str:
    """A web address without what its query, its user part and its long path pieces may tell."""
    head, mark, _ = value.partition("?")
    scheme, sep, rest = head.partition("://")
    if sep and "@" in rest.split("/", 1)[0]:
        head = f"{scheme}://***@{rest.split('@', 1)[1]}"
    return head[:80] + ("?***" if mark else "")
