"""Every risk metric once, in the words of a risk team. Arrays in, a number out; money in major units of the base currency.

Actions are indexes into ACTIONS (allow, limit, challenge, review, hold, deny); `fraud` is bool per event; `amount` is what the
event is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.declare.types import ACTIONS, Policy

CHALLENGE, REVIEW, HOLD, DENY = (ACTIONS.index(a) for a in ("challenge", "review", "hold", "deny"))
_DISTURBS = np.isin(np.arange(len(ACTIONS)), (CHALLENGE, HOLD, DENY))


def stopped_share(action: np.ndarray, policy: Policy) -> np.ndarray:
    """How much of each event's value its action stops: 1 for deny, hold and review, `challenge_stop_rate` for challenge, else 0.

    >>> stopped_share(np.array([0, 2, 3, 5]), Policy(challenge_stop_rate=0.5)).tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    share = np.zeros(len(ACTIONS))
    share[[REVIEW, HOLD, DENY]] = 1.0
    share[CHALLENGE] = policy.challenge_stop_rate
    return share[action]


def capture_by_value(action: np.ndarray, fraud: np.ndarray, amount: np.ndarray, policy: Policy) -> float:
    """Value of fraud stopped / value of all fraud; NaN when there is no fraud of any value.

    >>> capture_by_value(np.array([5, 0, 2]), np.array([True, True, True]), np.array([100.0, 50.0, 50.0]), Policy())
    0.625
    """
    value = np.where(fraud, np.nan_to_num(amount), 0.0)
    total = value.sum()
    return float((value * stopped_share(action, policy)).sum() / total) if total > 0 else float("nan")


def insult_rate(action: np.ndarray, fraud: np.ndarray) -> float:
    """Legitimate events denied, held or challenged / all legitimate events (Stripe quotes 0.1 % for wrongly blocked payments).

    >>> insult_rate(np.array([0, 0, 2, 5]), np.array([False, False, False, True]))
    0.3333333333333333
    """
    legitimate = ~fraud
    n = int(legitimate.sum())
    return float((_DISTURBS[action] & legitimate).sum() / n) if n else float("nan")


def net_saving(action: np.ndarray, fraud: np.ndarray, amount: np.ndarray, policy: Policy) -> float:
    """Blocked fraud value - friction cost x insults - review cost x reviews.

    >>> policy = Policy(friction_cost=2.0, review_cost=1.0)
    >>> net_saving(np.array([5, 3, 2]), np.array([True, False, False]), np.array([100.0, 20.0, 30.0]), policy)
    97.0
    """
    stopped = float((np.where(fraud, np.nan_to_num(amount), 0.0) * stopped_share(action, policy)).sum())
    insults = int((_DISTURBS[action] & ~fraud).sum())
    reviews = int((action == REVIEW).sum())
    return stopped - policy.friction_cost * insults - policy.review_cost * reviews


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """How one campaign fared. `first_detection_s` counts from its first event; None: never denied, held or reviewed."""

    caught: bool
    first_detection_s: float | None
    loss: float
    loss_prevented: float


def campaign_result(ts: np.ndarray, action: np.ndarray, amount: np.ndarray, policy: Policy) -> CampaignResult:
    """Judge one campaign from its events in time order (`ts` ms): caught means denied, held or reviewed before half of its loss.

    `amount` is what each event would cost; steps that cost nothing in themselves (a login) carry 0.

    >>> campaign_result(np.array([0, 1000, 2000]), np.array([0, 5, 5]), np.array([10.0, 45.0, 45.0]), Policy())
    CampaignResult(caught=True, first_detection_s=1.0, loss=100.0, loss_prevented=90.0)
    """
    amount = np.nan_to_num(amount)
    loss = float(amount.sum())
    seen = np.flatnonzero(action >= REVIEW)
    prevented = float((amount * stopped_share(action, policy)).sum())
    if not len(seen):
        return CampaignResult(False, None, loss, prevented)
    lost_before = float(amount[: seen[0]].sum())
    caught = lost_before < loss / 2 if loss > 0 else True
    return CampaignResult(caught, float(ts[seen[0]] - ts[0]) / 1000, loss, prevented)
