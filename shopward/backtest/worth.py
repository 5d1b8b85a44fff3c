"""What each rule is worth: alone, and given all the others. Exact, from the hit words: the policy's action with and without a rule.

A rule that writes a list also works through that list on later events; this is credited to the rules that read it. To see a rule's
whole effect, replay without it (`--leave-out`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from shopward.backtest.judge import Judged
from shopward.backtest.replay import History
from shopward.declare.types import ACTIONS, Policy
from shopward.metrics import CHALLENGE, HOLD, REVIEW

ALONE = ("fired", "fraud", "fraud_value", "value")
MARGIN = ("changed", "stopped", "stopped_value", "insults", "reviews")
MOST_FIRED = (
    64  # live rules on one event whose absence is worked out; beyond, none alone can matter more than the first ones
)


@dataclass(slots=True)
class Worth:
    """Sums per rule and day, and how often two rules fire together.

    alone    float64[rules, days, len(ALONE)] over events where the rule fired
    margin   float64[rules, days, len(MARGIN)]: what the policy does with the rule minus what it does without it
    overlap  int64[rules, rules], events on which both fired
    """

    alone: np.ndarray
    margin: np.ndarray
    overlap: np.ndarray


def worth(history: History, judged: Judged) -> Worth:
    """The sums of every rule over the judged events."""
    rules, days = len(history.rules), max(judged.days, 1)
    out = Worth(
        np.zeros((rules, days, len(ALONE))), np.zeros((rules, days, len(MARGIN))), np.zeros((rules, rules), np.int64)
    )
    busy = np.flatnonzero(history.hits[judged.rows].any(axis=1))
    masks = history.masks
    _walk(
        history.hits[judged.rows[busy]], masks["live"], masks["strength"], masks["mandatory"], masks["override"],
        judged.fraud[busy], np.nan_to_num(judged.amount[busy]), judged.day[busy] - judged.first_day,
        _share(history.policy), out.alone, out.margin, out.overlap,
    )  # fmt: skip
    return out


def _share(policy: Policy) -> np.ndarray:
    from shopward.metrics import stopped_share

    return stopped_share(np.arange(len(ACTIONS)), policy)


def alone_saving(sums: np.ndarray, then: str, policy: Policy) -> np.ndarray:
    """Net saving of a rule that acts alone, from [..., ALONE] sums."""
    strength = ACTIONS.index(then)
    fired, fraud, fraud_value = sums[..., 0], sums[..., 1], sums[..., 2]
    saved = fraud_value * _share(policy)[strength]
    if strength in (CHALLENGE, HOLD, len(ACTIONS) - 1):
        saved = saved - policy.friction_cost * (fired - fraud)
    return saved - policy.review_cost * fired if strength == REVIEW else saved


def margin_saving(sums: np.ndarray, policy: Policy) -> np.ndarray:
    """Net saving that a rule adds to the others, from [..., MARGIN] sums."""
    return sums[..., 2] - policy.friction_cost * sums[..., 3] - policy.review_cost * sums[..., 4]


@numba.njit(cache=True, nogil=True)
def _walk(hits, live, strength, mandatory, override, fraud, amount, day, share, alone, margin, overlap):
    fired = np.empty(MOST_FIRED, np.int64)
    for i in range(hits.shape[0]):
        k = 0
        for w in range(hits.shape[1]):
            word, bit = hits[i, w], w * 64
            while word != np.uint64(0):
                if word & np.uint64(1) and k < MOST_FIRED:
                    fired[k] = bit
                    k += 1
                word >>= np.uint64(1)
                bit += 1
        value = amount[i]
        for x in range(k):
            r = fired[x]
            alone[r, day[i], 0] += 1
            alone[r, day[i], 3] += value
            if fraud[i]:
                alone[r, day[i], 1] += 1
                alone[r, day[i], 2] += value
            for y in range(k):
                overlap[r, fired[y]] += 1
        whole = _action(fired, k, -1, live, strength, mandatory, override)
        for x in range(k):
            r = fired[x]
            less = _action(fired, k, r, live, strength, mandatory, override)
            if less != whole:
                gained = share[whole] - share[less]
                margin[r, day[i], 0] += 1
                if fraud[i]:
                    margin[r, day[i], 1] += gained
                    margin[r, day[i], 2] += gained * value
                else:
                    margin[r, day[i], 3] += _disturbs(whole) - _disturbs(less)
                margin[r, day[i], 4] += (whole == REVIEW) - (less == REVIEW)


@numba.njit(cache=True, nogil=True)
def _action(fired, k, without, live, strength, mandatory, override):
    """What the fired rules lead to when rule `without` is not there; the same law as `rules.act.act`."""
    best, forced, freed = 0, 0, False
    for x in range(k):
        r = fired[x]
        if r == without or not (live[r // 64] >> np.uint64(r % 64)) & np.uint64(1):
            continue
        best = max(best, strength[r])
        if mandatory[r]:
            forced = max(forced, strength[r])
        freed = freed or override[r]
    return forced if freed else best


@numba.njit(cache=True, nogil=True)
def _disturbs(action):
    return 1 if action == CHALLENGE or action >= HOLD else 0
