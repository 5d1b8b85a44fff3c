"""How outside data becomes a stream of events: files, tables and dicts in, micro-batches and dead letters out."""

from shopward.ingest.clock import Clock
from shopward.ingest.dead import DeadLetters
from shopward.ingest.normalise import Normaliser, normalise
from shopward.ingest.read import from_dicts, from_ndjson, read

__all__ = ["Clock", "DeadLetters", "Normaliser", "from_dicts", "from_ndjson", "normalise", "read"]
