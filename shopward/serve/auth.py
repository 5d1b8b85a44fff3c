"""Who may do what: bearer tokens kept as hashes, with scopes, an end, and a rate.

A token is 32 random bytes, so a plain SHA-256 of it cannot be searched back. Its text is shown once, when it is made.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from shopward.errors import UsageError
from shopward.serve.http import HttpError
from shopward.store.tables import Tables, now_ms, tokens

SCOPES = ("decide", "read", "label", "lists", "traffic", "admin")
AGAIN_S = 2.0  # so long a revoked token may still be known
UNKNOWN_S = 0.5  # at most so often the table is asked because of a token nobody knows


@dataclass(slots=True)
class Grant:
    """What one token allows. `rate` is in events a second (None: no limit); a burst of one second is allowed."""

    name: str
    scopes: frozenset[str]
    expires: int | None = None  # ms UTC
    rate: float | None = None
    _left: float = field(default=0.0)
    _at: float = field(default=0.0)

    def take(self, events: int) -> None:
        """Use up some of the rate. Raises HttpError 429 saying when to come back."""
        if self.rate is None:
            return
        now = time.monotonic()
        burst = max(self.rate, 1.0)
        self._left = burst if not self._at else min(burst, self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left <= 0:
            wait = int(-self._left / self.rate) + 1
            raise HttpError(429, f"more than {self.rate:g} events a second with this token", retry_after=wait)
        self._left -= events  # may go below zero: a batch is not cut, the next one waits for it


class Tokens:
    """The tokens of one server: those in the table, and the one it was started with.

    `check` costs a hash and a look; the table is read again every two seconds by whoever calls `refresh`.
    """

    def __init__(self, tables: Tables | None, first: str | None = None):
        self.tables = tables
        self._first = {} if not first else {digest_of(first.encode()): Grant("start", frozenset(SCOPES))}
        self._grants: dict[str, Grant] = dict(self._first)
        self._asked = 0.0
        self.refresh()

    @property
    def any(self) -> bool:
        return bool(self._grants)

    def known(self, digest: str, scope: str) -> Grant | None:
        """The grant of a token that is good for something just now, by its digest; None: let `check` say why not."""
        grant = self._grants.get(digest)
        if grant is None or scope not in grant.scopes or (grant.expires is not None and grant.expires <= now_ms()):
            return None
        return grant

    def check(self, given: bytes, scope: str) -> Grant:
        """The grant of an Authorization header. Raises HttpError 401 or 403."""
        grant = self._find(given[7:]) if given[:7].lower() == b"bearer " else None
        if grant is None or (grant.expires is not None and grant.expires <= now_ms()):
            raise HttpError(401, "a valid bearer token is needed", ((b"www-authenticate", b"Bearer"),))
        if scope not in grant.scopes:
            raise HttpError(403, f"this token does not have the scope `{scope}`")
        return grant

    def _find(self, token: bytes) -> Grant | None:
        digest = digest_of(token)
        found = self._grants.get(digest)
        if found is None and time.monotonic() - self._asked > UNKNOWN_S:
            self.refresh()
            found = self._grants.get(digest)
        return found

    def refresh(self) -> None:
        """Read the table again; what is left of a rate stays."""
        self._asked = time.monotonic()
        if self.tables is None:
            return
        found = dict(self._first)
        for row in self.tables.rows(sa.select(tokens).where(tokens.c.revoked.is_(None))):
            known = self._grants.get(row["hash"])
            scopes = frozenset(row["scopes"].split())
            if known and (known.name, known.scopes, known.expires, known.rate) == (
                row["name"],
                scopes,
                row["expires"],
                row["rate"],
            ):
                found[row["hash"]] = known
            else:
                found[row["hash"]] = Grant(row["name"], scopes, row["expires"], row["rate"])
        self._grants = found


def create(tables: Tables, name: str, scopes: Sequence[str], expires: int | None, rate: float | None, who: str) -> str:
    """Make a token and return its text, which is nowhere kept. Raises UsageError for a name in use or an unknown scope."""
    for scope in scopes:
        if scope not in SCOPES:
            near = get_close_matches(scope, SCOPES, n=1)
            raise UsageError(
                f"unknown scope `{scope}`; " + (f"did you mean `{near[0]}`?" if near else ", ".join(SCOPES))
            )
    if any(row["name"] == name and row["revoked"] is None for row in listed(tables)):
        raise UsageError(f"there is a token `{name}` already; revoke it first")
    text = f"sw_{secrets.token_urlsafe(32)}"
    row = {
        "name": name, "hash": digest_of(text.encode()), "scopes": " ".join(scopes), "created": now_ms(), "expires": expires, "rate": rate,
    }  # fmt: skip
    with tables.writing() as connection:
        connection.execute(sa.insert(tokens).values(row))
    tables.record(who, "token created", name, {"scopes": [*scopes], "expires": expires, "rate": rate})
    return text


def revoke(tables: Tables, name: str, who: str) -> int:
    """End a token's life; returns how many there were."""
    query = sa.update(tokens).where(tokens.c.name == name, tokens.c.revoked.is_(None)).values(revoked=now_ms())
    with tables.writing() as connection:
        found = connection.execute(query).rowcount
    if found:
        tables.record(who, "token revoked", name)
    return found


def listed(tables: Tables) -> list[dict[str, Any]]:
    """Every token ever made, without its hash."""
    columns = [c for c in tokens.c if c.name != "hash"]
    return tables.rows(sa.select(*columns).order_by(tokens.c.id))


def digest_of(token: bytes) -> str:
    return sha256(token).hexdigest()
