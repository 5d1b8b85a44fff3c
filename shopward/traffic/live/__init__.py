"""Traffic as it happens: each request is looked at once, and what it says about somebody reaches decisions as an event or a list entry."""

from shopward.traffic.live.spine import Live, entries_for, events_for
from shopward.traffic.live.watch import Taken, Watch, shipped

__all__ = ["Live", "Taken", "Watch", "entries_for", "events_for", "shipped"]
