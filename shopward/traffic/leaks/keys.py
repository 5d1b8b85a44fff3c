"""What stands before a value: its key in JSON, a form, XML or a configuration line, or the words of a sentence.

A number alone is seldom anything. `"mobile": "13800138000"` is a phone, `"order_no": "13800138000"` is not.
"""

from __future__ import annotations

import re

BACK = 64  # characters before a value in which its key is looked for
WORDS = 32  # characters of a sentence before a value that say what it is

_BACKWARDS = re.compile(r"[\w\-. ]{1,40}")  # a key, read from its end
_ITEMS = re.compile(r"\s*\[[\w\s,.\"'+\-]*$")
_TAG = re.compile(r"<([\w:\-.]{1,40})(?:\s[^<>]*)?>$")
# what a key says its value is; matched inside the key, lower case, `_`, `-`, `.` and spaces taken out
_MEANS = (
    ("password", "passwd password passphrase pwd \u5bc6\u7801 \u53e3\u4ee4"),
    ("secret", "secret apikey accesskey privatekey token credential authorization signingkey appkey sessionid \u5bc6\u94a5 \u4ee4\u724c"),
    ("ssn", "ssn socialsecurity"),
    ("passport", "passport \u62a4\u7167"),
    ("cn_id", "idcard idno idnumber identity certno credentialno \u8eab\u4efd\u8bc1 \u8bc1\u4ef6\u53f7"),
    ("card", "cardno cardnum creditcard bankcard debitcard cardnumber ccnumber pan \u94f6\u884c\u5361 \u5361\u53f7 \u4fe1\u7528\u5361 \u501f\u8bb0\u5361"),
    ("account", "bankaccount accountno accountnumber iban \u8d26\u53f7 \u5e10\u53f7"),
    ("phone", "phone mobile tel cell fax whatsapp msisdn contactno contactnumber callerid \u624b\u673a \u7535\u8bdd \u5ea7\u673a \u8054\u7cfb\u65b9\u5f0f"),
    ("email", "email mail \u90ae\u7bb1"),
    ("plate", "plate licenseno vehicleno carno \u8f66\u724c"),
    ("version", "version ver build release firmware sdk useragent \u7248\u672c"),
    ("ip", "ip addr host remote client"),
    ("number", "order sku trace request txn trans time date expire created updated stamp price amount total count size length lat lng lon width "
               "height serial batch invoice tracking waybill barcode ean upc isbn seq index page limit offset hash checksum quantity stock "
               "product item goods spu event span parcel ticket coupon voucher \u8ba2\u5355 \u65f6\u95f4 \u8fd0\u5355 \u5feb\u9012 \u6d41\u6c34 \u5546\u54c1 \u7f16\u53f7 \u4ef7\u683c \u91d1\u989d \u6570\u91cf"),
)  # fmt: skip
_MEANINGS = [(word, meaning) for meaning, words in _MEANS for word in words.split()]
_PLAIN = str.maketrans("", "", "_-. ")
_EXACT = {"id": "number", "uid": "number", "ids": "number", "uids": "number", "no": "number", "code": "number", "ts": "number", "t": "number", "pass": "password",
          "pin": "password", "cvv": "password", "cc": "card", "card": "card", "auth": "secret", "key": "secret", "sign": "number",
          "nonce": "number", "v": "version", "ua": "version", "account": "person", "username": "person", "user": "person"}  # fmt: skip
_known: dict[str, str] = {}


def key_before(text: str, start: int) -> str | None:
    """The key that a value starting at `start` belongs to, or None.

    >>> key_before('{"order_no": "123"}', 14), key_before("mobile=138", 7), key_before("call 138", 5)
    ('order_no', 'mobile', None)
    """
    end = start - 1 if text[start - 1 : start] == '"' else start
    if text.endswith('":', 0, end):
        end -= 2
    elif text.endswith('": ', 0, end):
        end -= 3
    else:
        return _key_before(text, start)
    key = text[text.rfind('"', max(0, end - 40), end) + 1 : end]
    return key if 0 < len(key) < 40 and key.replace("_", "a").isalnum() else _key_before(text, start)


def _key_before(text: str, start: int) -> str | None:
    """The same where it is not simply a plain JSON key right before the value."""
    before = text[max(0, start - BACK) : start].rstrip(" \t\"'\\[")
    if before[-1:] == "," and "[" in before:  # a later item of a list belongs to the list's key
        before = _ITEMS.sub("", before)
    if not before or before[-1] not in ":=\uff1a>":
        return None
    if before[-1] == ">" and before[-2:] != "=>":
        tag = _TAG.search(before)
        return tag[1] if tag else None
    before = before.rstrip(":=\uff1a> \t\"'\\")
    found = _BACKWARDS.match(before[::-1])
    return (found[0][::-1].strip() or None) if found else None


def meaning(key: str | None) -> str:
    """What a key says about its value: phone, card, number, version ...; "" when it says nothing.

    >>> meaning("userMobile"), meaning("order_no"), meaning("note"), meaning(None)
    ('phone', 'number', '', '')
    """
    if not key:
        return ""
    if key not in _known:
        if len(_known) > 10_000:
            _known.clear()
        _known[key] = _meaning(key.lower().translate(_PLAIN))
    return _known[key]


def _meaning(key: str) -> str:
    if key in _EXACT:
        return _EXACT[key]
    best = max(
        ((key.rfind(word) + len(word), len(word), kind) for word, kind in _MEANINGS if _says(key, word)), default=None
    )
    return best[2] if best else ""  # the last word rules: order_phone is a phone, phone_order_id is not


def _says(key: str, word: str) -> bool:
    if len(word) > 3 or not word.isascii():
        return word in key
    return key.startswith(word) or key.endswith(word)  # short words are parts of too many others


def words_before(text: str, start: int) -> str:
    """The words before a value, lower case, of the same sentence or of the line above when the value begins its line."""
    return text[max(0, start - WORDS) : start].lower()
