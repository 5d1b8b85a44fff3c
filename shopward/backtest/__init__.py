"""What rules, lists and thresholds would have done on history, in money.

history -> replay (the same engine, truth arriving when it arrived) -> judge (only what is old enough) -> compare, sweep -> report
"""

from shopward.backtest.judge import Judged, judge
from shopward.backtest.replay import History, replay

__all__ = ["History", "Judged", "judge", "replay"]
