"""Keys, tokens and passwords: by the form their issuer gives them, by the name they are assigned to, by how random they look."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from math import log2

from shopward.traffic.leaks.keys import key_before, meaning

Hit = tuple[str, int, int, float]  # type, start, end, confidence

# forms that their issuers document: first characters -> (type, whole form)
FORMS = (
    ("aws_access_key", r"(?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{16}"),
    ("github_token", r"gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    ("gitlab_token", r"gl(?:pat|dt|rt|ptt|cbt|soat)-[A-Za-z0-9_\-]{20,64}"),
    ("slack_token", r"xox[abeoprs]-[A-Za-z0-9\-]{10,250}|xapp-\d-[A-Z0-9]+-\d+-[a-z0-9]+"),
    ("stripe_key", r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,247}|whsec_[A-Za-z0-9]{24,64}"),
    ("google_api_key", r"AIza[A-Za-z0-9_\-]{35}"),
    ("google_oauth_token", r"ya29[._\-][A-Za-z0-9_\-]{20,}|GOCSPX-[A-Za-z0-9_\-]{28}"),
    ("npm_token", r"npm_[A-Za-z0-9]{36}"),
    ("pypi_token", r"pypi-AgEI[A-Za-z0-9_\-]{50,}"),
    ("anthropic_key", r"sk-ant-[A-Za-z0-9_\-]{20,}"),
    ("openai_key", r"sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_\-]{32,}"),
    ("aliyun_access_key", r"LTAI[A-Za-z0-9]{12,26}"),
    ("tencent_secret_id", r"AKID[A-Za-z0-9]{32,48}"),
    ("shopify_token", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    ("square_token", r"sq0(?:atp|csp|idp)-[A-Za-z0-9_\-]{22,43}|EAAA[A-Za-z0-9_\-]{60}"),
    ("twilio_key", r"(?:SK|AC)[0-9a-f]{32}"),
    ("digitalocean_token", r"do[opr]_v1_[a-f0-9]{64}"),
    ("huggingface_token", r"hf_[A-Za-z0-9]{34}"),
    ("mailgun_key", r"key-[0-9a-f]{32}"),
    ("databricks_token", r"dapi[0-9a-f]{32}(?:-\d)?"),
    ("grafana_token", r"glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}|glc_[A-Za-z0-9+/]{32,}"),
    ("docker_token", r"dckr_pat_[A-Za-z0-9_\-]{27}"),
    ("vault_token", r"hv[sb]\.[A-Za-z0-9_\-]{24,}"),
)  # fmt: skip
_BY_FORM = re.compile("|".join(f"(?P<{name}>{form})" for name, form in FORMS))
_STARTS = ("AKIA", "ASIA", "AIDA", "AROA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "gldt-", "glrt-", "glptt-", "glcbt-",
           "glsoat-", "xox", "xapp-", "sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_", "AIza", "ya29", "GOCSPX-", "npm_", "pypi-", "sk-", "LTAI", "AKID", "shpat_",
           "shpca_", "shppa_", "shpss_", "sq0", "EAAA", "doo_v1", "dop_v1", "dor_v1", "hf_", "key-", "dapi", "glsa_", "glc_", "dckr_pat_", "hvs.",
           "hvb.", "SK", "AC")  # fmt: skip
_WORD = re.compile(r"[A-Za-z0-9_\-]{4,}+")
_JWT = re.compile(r"eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]*")
_PEM = re.compile(r"-----BEGIN (?:[A-Z0-9 ]{1,30} )?PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END (?:[A-Z0-9 ]{1,30} )?PRIVATE KEY(?: BLOCK)?-----")
_SENDGRID = re.compile(r"SG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}")
_TELEGRAM = re.compile(r"(?<!\d)\d{8,10}:[A-Za-z0-9_\-]{35}(?![A-Za-z0-9_\-])")
_SLACK_HOOK = re.compile(r"hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,}")
_USERINFO = re.compile(r"://[^\s/:@\"'<>]{1,100}:([^\s/@\"'<>]{1,200})@")
_AUTH = re.compile(r"(?i:\b(bearer|basic)[ ]+)([A-Za-z0-9+/_.~=\-]{8,4096})")
_AZURE = re.compile(r"(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{40,88}={0,2})")
_VALUE = re.compile(
    r"""[\w\-.]{0,20}["'\\]{0,2}\s{0,3}(?:[:=\uff1a]|=>|:=)\s{0,3}["'\\]{0,2}([^\s"'\\<>,;&{}()\[\]\u4e00-\u9fff\uff0c\u3002]{4,4096})"""
)
HINTS = (
    "passw",
    "pwd",
    "secret",
    "token",
    "key",
    "credential",
    "session",
    "\u5bc6\u7801",
    "\u53e3\u4ee4",
    "\u5bc6\u94a5",
    "\u4ee4\u724c",
)
_PLACEHOLDER = re.compile(
    r"(?i)^(?:[x*.#\-_?]+|(?:your|example|sample|dummy|fake|insert|replace|change)[\w\-]*|(?:my|the|some|an?|test)[_\-][a-z_\-]*|null|none|nil|true|false|undefined|"
    r"string|password|passwd|secret|token|redacted|hidden|removed|masked|empty|required|optional|invalid|expired|missing|\$.*|%.*%?|.*\.\.\.|"
    r"process\.env.*|os\.environ.*|getenv.*|env[.:].*|config[.].*|self\..*|this\..*|request\..*|.*\(.*|.*[*x]{6,}.*|\[.*|<.*)$"
)


def secrets(text: str, lower: str, formed: bool = True, told: bool = True) -> Iterator[Hit]:
    """Every secret in `text` (and the same in lower case), with type, place and confidence.

    `formed`: a documented form may be in it; `told`: a name that announces a secret, or an authorization, may be.
    """
    if formed:
        yield from _by_form(text)
    if "eyJ" in text:
        yield from _jwts(text)
    if "PRIVATE KEY" in text:
        yield from _private_keys(text)
    if "://" in text:
        yield from _in_addresses(text)
    if "SG." in text:
        yield from (("secret_sendgrid_key", *found.span(), 0.97) for found in _SENDGRID.finditer(text))
    if ":AA" in text:
        yield from (("secret_telegram_token", *found.span(), 0.9) for found in _TELEGRAM.finditer(text))
    if told:
        yield from _announced(text, lower)


def _announced(text: str, lower: str) -> Iterator[Hit]:
    if "bearer " in lower or "basic " in lower:
        yield from _authorization(text)
    if "key=" in lower:
        yield from (("secret_azure_key", *found.span(1), 0.95) for found in _AZURE.finditer(text))
    for hint in HINTS:
        if hint in lower:
            yield from _assigned(text, lower, hint)


def entropy(value: str) -> float:
    """Bits a character, from how often each occurs.

    >>> entropy("aaaaaaaa"), entropy("abcdefgh")
    (0.0, 3.0)
    """
    n = len(value)
    seen: dict[str, int] = {}
    for c in value:
        seen[c] = seen.get(c, 0) + 1
    return 0.0 - sum([k / n * log2(k / n) for k in seen.values()])


def _by_form(text: str) -> Iterator[Hit]:
    """Words that have a documented form, found from the characters they start with."""
    for word in _WORD.finditer(text):
        if word[0].startswith(_STARTS):
            hit = _form_at(text, word.start())
            if hit:
                yield hit


def _form_at(text: str, start: int) -> Hit | None:
    before = text[start - 1] if start > 0 else " "
    if start < 0 or before.isalnum() or before in "_-":
        return None
    found = _BY_FORM.match(text, start)
    if not found or not _whole(text, found) or _PLACEHOLDER.match(found[0]):
        return None
    kind = found.lastgroup or ""
    if kind in ("twilio_key", "openai_key", "mailgun_key") and entropy(found[0]) < 3:
        return None
    return f"secret_{kind}", start, found.end(), 0.97


def _whole(text: str, found: re.Match[str]) -> bool:
    """Does the form end where the word ends?"""
    after = text[found.end() : found.end() + 1]
    return not (after.isalnum() or after == "_") and len(set(found[0])) > 5


def _jwts(text: str) -> Iterator[Hit]:
    for found in _JWT.finditer(text):
        head = found[0].split(".", 1)[0]
        try:
            header = urlsafe_b64decode(head + "=" * (-len(head) % 4))
        except (binascii.Error, ValueError):
            continue
        if header.startswith(b"{") and b'"alg"' in header:
            yield "secret_jwt", found.start(), found.end(), 0.99


def _private_keys(text: str) -> Iterator[Hit]:
    for found in _PEM.finditer(text):
        stop = _PEM_END.search(text, found.end(), found.end() + 20_000)
        yield "secret_private_key", found.start(), stop.end() if stop else found.end(), 0.99


def _in_addresses(text: str) -> Iterator[Hit]:
    for found in _USERINFO.finditer(text):
        if not _PLACEHOLDER.match(found[1]):
            yield "secret_basic_auth", found.start(1), found.end(1), 0.95
    for found in _SLACK_HOOK.finditer(text):
        yield "secret_slack_webhook", found.start(), found.end(), 0.98


def _authorization(text: str) -> Iterator[Hit]:
    for found in _AUTH.finditer(text):
        value, kind = found[2], found[1].lower()
        if value.startswith("eyJ") and value.count(".") == 2 or _PLACEHOLDER.match(value):
            continue  # a JWT has its own type
        if kind == "basic" and not _is_basic(value):
            continue
        if kind == "bearer" and (entropy(value) < 3 or not any(c.isdigit() for c in value)):
            continue
        yield ("secret_basic_auth" if kind == "basic" else "secret_bearer_token"), found.start(2), found.end(2), 0.93


def _is_basic(value: str) -> bool:
    try:
        return b":" in urlsafe_b64decode(value.replace("+", "-").replace("/", "_") + "=" * (-len(value) % 4))
    except (binascii.Error, ValueError):
        return False


def _assigned(text: str, lower: str, hint: str) -> Iterator[Hit]:
    """Values given to a name that has `hint` in it."""
    at = lower.find(hint)
    while at >= 0:
        found = _VALUE.match(text, at + len(hint))
        if found:
            hit = _value(text, found)
            if hit:
                yield hit
        at = lower.find(hint, at + len(hint))


def _value(text: str, found: re.Match[str]) -> Hit | None:
    value, start = found[1].rstrip(".!?:*`"), found.start(1)
    if len(value) < 4 or value.startswith("eyJ"):
        return None
    means = meaning(key_before(text, start))
    told = means == "password" or (means == "secret" and len(value) >= 12 and _random(value))
    if not told or _PLACEHOLDER.match(value) or _BY_FORM.fullmatch(value):
        return None
    return "secret_password" if means == "password" else "secret_generic", start, start + len(value), 0.85


def _random(value: str) -> bool:
    """Does it look drawn rather than written? Hexadecimal digits carry at most 4 bits, so they need less."""
    bits = entropy(value)
    if _HEXADECIMAL.fullmatch(value):
        return len(value) >= 16 and bits > 2.7
    if bits <= 3.0 or not any(map(str.isdigit, value)):
        return False
    return any(map(str.islower, value)) or any(map(str.isupper, value))


_HEXADECIMAL = re.compile(r"[0-9a-fA-F\-]+")
