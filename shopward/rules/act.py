"""From fired rules to one action: who wins, who is in which arm, what a rule writes.

Strongest wins (deny > hold > review > challenge > limit > allow), except that an `allow` rule with `override: true` beats every
rule not marked `mandatory`. Percentages and the control arm hash the entity, so one buyer is always on the same side.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numba
import numpy as np

from shopward.declare.types import ACTIONS, Rule

STRENGTH = {action: i for i, action in enumerate(ACTIONS)}
ALLOW = STRENGTH["allow"]
TREATED, CONTROL = "treated", "control"


def strongest(fired: Iterable[Rule]) -> str:
    """The action that a set of fired live rules leads to.

    >>> from shopward.rules.act import _example_rule as rule
    >>> strongest([rule("review"), rule("deny"), rule("challenge")])
    'deny'
    >>> strongest([rule("deny"), rule("allow", override=True)])
    'allow'
    >>> strongest([rule("hold", mandatory=True), rule("deny"), rule("allow", override=True)])
    'hold'
    >>> strongest([])
    'allow'
    """
    fired = list(fired)
    if any(r.then == "allow" and r.override for r in fired):
        fired = [r for r in fired if r.mandatory]
    return ACTIONS[max((STRENGTH[r.then] for r in fired), default=ALLOW)]


def share(name: str, key: str) -> float:
    """Where `key` falls in [0, 100) for the rollout `name`; the same on every machine and for ever.

    >>> round(share("rule:new_limit", "account:a1"), 2), share("rule:new_limit", "account:a1") == share("rule:new_limit", "account:a1")
    (23.84, True)
    """
    digest = blake2b(f"{name}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") * 100 / 2**64


@numba.njit(cache=True, nogil=True)
def act(hits, live, strength, mandatory, override, control, action):
    """Action per event from its hit bits (uint64[n, w]); all tables are per bit, `control` is bool per event."""
    for i in range(hits.shape[0]):
        best, forced, freed = 0, -1, False
        for w in range(hits.shape[1]):
            word = hits[i, w] & live[w]
            bit = w * 64
            while word != np.uint64(0):
                if word & np.uint64(1):
                    best = max(best, strength[bit])
                    if mandatory[bit]:
                        forced = max(forced, strength[bit])
                    freed = freed or override[bit]
                word >>= np.uint64(1)
                bit += 1
        if freed:
            best = max(forced, 0)
        if control[i]:
            best = max(forced, 0)
        action[i] = best


@numba.njit(cache=True, nogil=True)
def spread(hits, mask, offsets, flat):
    """Write the set bit numbers of each row of `hits & mask` one after another; `offsets` int32[n + 1]. Returns how many."""
    k = 0
    for i in range(hits.shape[0]):
        offsets[i] = k
        for w in range(hits.shape[1]):
            word = hits[i, w] & mask[w]
            bit = w * 64
            while word != np.uint64(0):
                if word & np.uint64(1):
                    if k < flat.shape[0]:
                        flat[k] = bit
                    k += 1
                word >>= np.uint64(1)
                bit += 1
    offsets[hits.shape[0]] = k
    return k


def _example_rule(then: str, **flags) -> Rule:
    """A rule for the examples on this page."""
    from shopward.expr.nodes import Const, Expr

    always = Expr("True", Const(0, 4, "bool", True), "bool")
    return Rule(id=then, title=then, on=("order",), when=always, then=then, **flags)
