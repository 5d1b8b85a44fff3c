"""Letting go of the old end of the log, once nothing needs it any more.

A segment goes only when the lake has all its events, both snapshots start after it, the known ids no longer need it, and it is
older than what a new feature would be rebuilt from. Labels, retries and `find` then ask the lake.
"""

from __future__ import annotations

from pathlib import Path

from shopward.store import snapshot
from shopward.store.dedup import NAME
from shopward.store.files import REAL, Disk
from shopward.store.lake import last_commit
from shopward.store.log import Log


def drop_log(data: Path | str, older_than_ms: int, disk: Disk = REAL) -> list[str]:
    """Remove the segments that may go and whose events are more than `older_than_ms` behind the log's clock; returns their names.

    Raises UsageError while another process has the log: a running server keeps it.
    """
    data = Path(data)
    snapshots = [snapshot.read(path, disk).meta for path in snapshot.saved(data / "state", disk)]
    commit = last_commit(data / "lake", disk, published=True)
    stops = [int(name[2]) for name in map(NAME.fullmatch, disk.names(data / "state" / "ids")) if name]
    if not snapshots or commit is None or not stops:
        return []
    safe = min(commit.next_seq, max(stops), *(meta.seq for meta in snapshots))
    clock = max(int(meta.extra.get("clock", 0)) for meta in snapshots)
    with Log.open(data / "log", disk) as log:
        return log.drop_before(safe - 1, older_than=clock - older_than_ms)
