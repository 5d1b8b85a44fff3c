"""Sensitive data in API bodies: speed against presidio's pattern recognisers, and precision and recall on a labelled set.

    python -m benchmarks.traffic.leaks [--quick] [--json] [--presidio-data synth_dataset_v2.json.zst]

The labelled set is drawn here: order, account, delivery and log bodies in English and Chinese with decoys that look like
personal data (timestamps, order numbers, SKUs, versions, waybills, snowflake ids, hashes, dates, prices).
"""

from __future__ import annotations

import argparse
import io
import json
import random
import string
import time
from collections import Counter
from pathlib import Path

from benchmarks.report import finish
from shopward.traffic.leaks import find
from shopward.traffic.leaks.checks import luhn

STRUCTURED = {
    "CREDIT_CARD": ("credit_card", "cn_bank_card"), "PHONE_NUMBER": ("phone", "cn_mobile"), "EMAIL_ADDRESS": ("email",),
    "DOMAIN_NAME": ("domain",), "IBAN_CODE": ("iban",), "US_SSN": ("us_ssn",), "IP_ADDRESS": ("ip",),
}  # fmt: skip


# --- drawing values


def digits(rng: random.Random, n: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(n))


def with_luhn(rng: random.Random, prefix: str, n: int) -> str:
    body = prefix + digits(rng, n - len(prefix) - 1)
    return next(body + c for c in string.digits if luhn(body + c))


def citizen(rng: random.Random) -> str:
    born = f"{rng.randint(1950, 2006)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}"
    body = rng.choice(("110105", "310115", "440305", "330106", "510107")) + born + digits(rng, 3)
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(int(c) * w for c, w in zip(body, weights, strict=True)) % 11]


def mobile(rng: random.Random) -> str:
    return rng.choice(("130", "131", "135", "138", "139", "150", "158", "166", "176", "186", "188", "199")) + digits(
        rng, 8
    )


def iban(rng: random.Random) -> str:
    bban = digits(rng, 18)
    check = 98 - int("".join(str(int(c, 36)) for c in bban + "DE00")) % 97
    return f"DE{check:02d}{bban}"


def token(rng: random.Random, n: int, letters: str = string.ascii_letters + string.digits) -> str:
    return "".join(rng.choice(letters) for _ in range(n))


def values(rng: random.Random) -> dict[str, list[str]]:
    name = rng.choice(("liwei", "bob.smith", "anna_k", "zhang.san88", "m-garcia"))
    card = with_luhn(rng, rng.choice(("4", "51", "55", "2221")), 16)
    plate = rng.choice("\u4eac\u6caa\u7ca4\u6d59") + rng.choice("ABCDE")
    return {
        "email": [f"{name}{rng.randint(1, 999)}@{rng.choice(('example.com', 'mail.example.cn', 'shop.example.co.uk'))}"],
        "cn_mobile": [mobile(rng), "+86 " + mobile(rng), "-".join((lambda m: (m[:3], m[3:7], m[7:]))(mobile(rng)))],
        "phone": [f"+1 (415) 555-{digits(rng, 4)}", f"212-555-{digits(rng, 4)}", f"010-6{digits(rng, 7)}", f"+44 20 7946 {digits(rng, 4)}"],
        "credit_card": [card, " ".join(card[i : i + 4] for i in range(0, 16, 4)), with_luhn(rng, "37", 15)],
        "cn_bank_card": [with_luhn(rng, "6222", 19), with_luhn(rng, "6217", 19), with_luhn(rng, "6259", 16)],
        "cn_id": [citizen(rng)],
        "us_ssn": [f"{rng.randint(100, 665)}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}"],
        "iban": [iban(rng)],
        "ip": [f"{rng.choice((8, 45, 103, 203))}.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}", f"2001:db8::{token(rng, 4, '123456789abcdef')}"],
        "plate": [plate + digits(rng, 5), plate + "D" + digits(rng, 5), plate + token(rng, 2, "ABCDEFGHJK") + digits(rng, 3)],
        "passport": ["E" + digits(rng, 8), "EA" + digits(rng, 7)],
        "secret_aws_access_key": ["AKIA" + token(rng, 16, string.ascii_uppercase + string.digits)],
        "secret_github_token": ["ghp_" + token(rng, 36)],
        "secret_generic": [token(rng, 32, "0123456789abcdef"), token(rng, 40)],
        "secret_password": [token(rng, 6) + rng.choice("!#%^")  + digits(rng, 2)],
    }  # fmt: skip


KEYS = {
    "email": ("email", "mail", "contactEmail", "\u90ae\u7bb1"), "cn_mobile": ("mobile", "phone", "receiverMobile", "\u624b\u673a\u53f7", "tel"),
    "phone": ("phone", "contact_number", "fax", "\u7535\u8bdd"), "credit_card": ("card_no", "cardNumber", "pan", "payment_card"),
    "cn_bank_card": ("bankCard", "\u94f6\u884c\u5361\u53f7", "card_no", "settle_card"), "cn_id": ("idCard", "id_no", "\u8eab\u4efd\u8bc1\u53f7", "cert_no"),
    "us_ssn": ("ssn", "tax_ssn"), "iban": ("iban", "account_iban"), "ip": ("ip", "clientIp", "remote_addr"),
    "plate": ("plate", "\u8f66\u724c\u53f7"), "passport": ("passport", "passportNo", "\u62a4\u7167\u53f7"),
    "secret_aws_access_key": ("accessKeyId", "note"), "secret_github_token": ("token", "remark"),
    "secret_generic": ("api_key", "client_secret", "access_token"), "secret_password": ("password", "user_pwd"),
}  # fmt: skip
SENTENCES = {
    "email": ("please write to {}, thanks", "\u8bf7\u53d1\u90ae\u4ef6\u5230 {} \u8c22\u8c22"), "cn_mobile": ("\u6536\u8d27\u4eba\u7535\u8bdd{}\uff0c\u5468\u672b\u9001", "call {} before delivery"),
    "phone": ("you can reach me at {} after six", "tel: {}"), "credit_card": ("paid with {} yesterday", "\u7528\u5361{}\u4ed8\u6b3e"),
    "cn_bank_card": ("\u6253\u6b3e\u5230\u94f6\u884c\u5361 {}",), "cn_id": ("\u8eab\u4efd\u8bc1{}\u5df2\u6838\u9a8c", "id card {} verified"), "us_ssn": ("my SSN is {}",),
    "iban": ("refund to {} please",), "ip": ("login from {} refused", "\u6765\u81ea {} \u7684\u767b\u5f55"), "plate": ("\u9001\u8d27\u8f66{}\u5df2\u5230",),
    "passport": ("passport number {}", "\u62a4\u7167{}"),
}  # fmt: skip


def decoys(rng: random.Random) -> list[tuple[str, object]]:
    now = rng.randint(1_600_000_000, 1_790_000_000)
    return [
        ("created_at", now * 1000 + rng.randint(0, 999)), ("ts", now), ("timestamp", f"{now}{digits(rng, 3)}"),
        ("order_no", f"{rng.randint(2020, 2026)}{digits(rng, 14)}"), ("orderId", mobile(rng)), ("sku", digits(rng, 9)), ("sku", f"{digits(rng, 3)}-{digits(rng, 2)}-{digits(rng, 4)}"),
        ("app_version", f"{rng.randint(1, 12)}.{rng.randint(0, 30)}.{rng.randint(0, 99)}.{rng.randint(0, 250)}"), ("ver", "10.15.7.1"),
        ("waybill", f"SF{digits(rng, 13)}"), ("tracking_no", digits(rng, 22)), ("trace_id", token(rng, 32, "0123456789abcdef")),
        ("span_id", str(rng.randint(10**17, 10**18))), ("snowflake", str(rng.randint(10**18, 2 * 10**18))), ("date", f"{rng.randint(2019, 2026)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d} 10:2{digits(rng, 1)}:5{digits(rng, 1)}"),
        ("price", round(rng.uniform(1, 99999), 2)), ("barcode", digits(rng, 13)), ("lat", round(rng.uniform(-90, 90), 7)), ("image", f"item_{digits(rng, 6)}@2x.png"),
        ("file", rng.choice(("main.py", "setup.zip", "README.md", "app.min.js"))), ("password", "******"), ("token", None), ("api_key", "${API_KEY}"),
        ("uuid", f"{token(rng, 8, '0123456789abcdef')}-{token(rng, 4, '0123456789abcdef')}-4{token(rng, 3, '0123456789abcdef')}-a{token(rng, 3, '0123456789abcdef')}-{token(rng, 12, '0123456789abcdef')}"),
        ("ua", "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/119.0.6045.105 Mobile Safari/537.36"), ("etag", token(rng, 40, "0123456789abcdef")),
        ("ids", [rng.randint(10**8, 10**11) for _ in range(3)]), ("size", "120x240x300"), ("note", "see chapter 4.2.1.3 of the manual"),
    ]  # fmt: skip


def labelled(n: int, seed: int = 7) -> list[tuple[str, list[tuple[str, str]]]]:
    """Texts with what they hold: (type, value)."""
    rng = random.Random(seed)
    out = []
    for _ in range(n):
        held, body, drawn = [], dict(rng.sample(decoys(rng), 6)), values(rng)
        for kind in rng.sample(sorted(drawn), rng.choice((0, 1, 1, 2, 3))):
            value = rng.choice(drawn[kind])
            if kind in SENTENCES and rng.random() < 0.35:
                body["comment" if "comment" not in body else "extra"] = rng.choice(SENTENCES[kind]).format(value)
            else:
                body[rng.choice(KEYS[kind])] = value
            held.append((kind, value))
        items = list(body.items())
        rng.shuffle(items)
        text = json.dumps(dict(items), ensure_ascii=False)
        out.append((text, [(k, v) for k, v in held if v in text]))
    return out


# --- measuring


def quality(texts) -> tuple[float, float, Counter]:
    """Precision and recall over exact places, and what was wrong by type."""
    right = told = real = 0
    wrong: Counter = Counter()
    for text, held in texts:
        want = {(k, text.index(v)) for k, v in held}
        got = {(f.type, f.start) for f in find(text)}
        got = {g for g in got if g[0] not in ("url", "domain")}
        right += len(want & got)
        told, real = told + len(got), real + len(want)
        wrong.update([f"missed {k}" for k, _ in want - got] + [f"false {k}" for k, _ in got - want])
    return right / max(told, 1), right / max(real, 1), wrong


def seconds(work, texts, rounds: int) -> float:
    """Median CPU seconds a text."""
    runs = []
    for _ in range(rounds):
        started = time.process_time()
        for text in texts:
            work(text)
        runs.append((time.process_time() - started) / len(texts))
    return sorted(runs)[rounds // 2]


def presidio():
    """Presidio's pattern recognisers without a language model, as a function of a text."""
    import tldextract

    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())  # its snapshot, not the network
    from presidio_analyzer import predefined_recognizers as known

    names = ("CreditCardRecognizer", "EmailRecognizer", "IbanRecognizer", "IpRecognizer", "PhoneRecognizer", "UrlRecognizer",
             "UsSsnRecognizer", "CryptoRecognizer", "DateRecognizer", "UsBankRecognizer", "UsPassportRecognizer", "UsItinRecognizer")  # fmt: skip
    recognisers = [getattr(known, n)() for n in names]
    return lambda text: [hit for r in recognisers for hit in r.analyze(text, r.supported_entities, None) or []]


def _structured(rows) -> dict[str, float]:
    right = real = told = fair = 0
    for row in rows:
        found = find(row["full_text"])
        spans = [(s["entity_type"], s["start_position"], s["end_position"]) for s in row["spans"]]
        for kind, start, end in spans:
            if kind in STRUCTURED:
                real += 1
                right += any(f.type in STRUCTURED[kind] and f.start < end and start < f.end for f in found)
        for f in found:
            kinds = [k for k, ours in STRUCTURED.items() if f.type in ours]
            if kinds:
                told += 1
                fair += any(k in kinds and f.start < end and start < f.end for k, start, end in spans)
    return {"presidio_set_recall": right / real, "presidio_set_precision": fair / told}


def read_rows(path: Path):
    import pyarrow as pa

    raw = path.read_bytes()
    if path.suffix == ".zst":
        raw = pa.input_stream(io.BytesIO(raw), compression="zstd").read()
    return json.loads(raw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--presidio-data", type=Path)
    asked = parser.parse_args()
    texts = labelled(400 if asked.quick else 3000)
    precision, recall, wrong = quality(texts)
    ours = seconds(find, [t for t, _ in texts], 3 if asked.quick else 5)
    result = {
        "bytes_a_text": sum(len(t.encode()) for t, _ in texts) / len(texts), "ours_us": ours * 1e6, "precision": precision, "recall": recall,
        "wrong": dict(wrong.most_common(12)),
    }  # fmt: skip
    try:
        peer = presidio()
    except ImportError:
        print("presidio is not installed: pip install presidio-analyzer; its row is left out")
    else:
        theirs = seconds(peer, [t for t, _ in texts[:150]], 3)
        result |= {"presidio_us": theirs * 1e6, "ratio_presidio": theirs / ours}
    if asked.presidio_data:
        result |= _structured(read_rows(asked.presidio_data))
    finish("traffic.leaks", result, asked.json)


if __name__ == "__main__":
    main()
