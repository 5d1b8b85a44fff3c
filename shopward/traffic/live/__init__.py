"""Traffic as it happens: each request is looked at once, and what it says about somebody reaches decisions as an event or a list entry."""

from shopward.traffic.live.watch import Taken, Watch

__all__ = ["Taken", "Watch"]
