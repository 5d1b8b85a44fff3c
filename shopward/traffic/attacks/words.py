"""The vocabularies of the grammars, from words.yaml."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path


def words(name: str) -> frozenset[str]:
    """One vocabulary.

    >>> "onerror" in words("html_event_handlers")
    True
    """
    return frozenset(_all()[name].split())


@lru_cache(maxsize=1)
def _all() -> dict[str, str]:
    import yaml

    text = Path(__file__).with_name("words.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
