"""Shopward protects an online marketplace's buyers, sellers and creators: events in, explained decisions out.

>>> from shopward import Engine, Rulebook
>>> engine = Engine(Rulebook.default())
>>> engine.decide({"type": "login", "ts": 1_767_225_600_000, "account": "a1", "device": "d1", "ip": "198.51.100.7", "success": True}).action
'allow'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Decision", "Engine", "Evidence", "Rulebook", "ShopwardError", "__version__"]

if TYPE_CHECKING:
    from shopward.decide import Decision, Engine
    from shopward.declare.rulebook import Rulebook
    from shopward.errors import ShopwardError
    from shopward.evidence import Evidence

_HOMES = {
    "Engine": "shopward.decide",
    "Decision": "shopward.decide",
    "Rulebook": "shopward.declare.rulebook",
    "Evidence": "shopward.evidence",
    "ShopwardError": "shopward.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'shopward' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
