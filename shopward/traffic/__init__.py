"""Traffic: requests read once, then looked at for attacks, leaks, assets and scrapers; every finding is Evidence.

access log, HAR, NDJSON, tables -> read_requests -> Request -> fields and decoded views -> attacks ...
"""

from shopward.traffic.reading import Reading, read_requests
from shopward.traffic.requests import Field, Request

__all__ = ["Field", "Reading", "Request", "read_requests"]
