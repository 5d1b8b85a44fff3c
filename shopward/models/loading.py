"""Model folders as files: `model.json` says of which kind a model is and what it reads, and the rest belongs to its kind.

FOLDER/model.json    {"kind": "linear", "name": "payments", "features": [...], ...}
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from shopward.errors import BadData, UsageError

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook
    from shopward.models.scorer import Scorer

CARD = "model.json"
MAX_CARD = 64 << 20  # bytes
KINDS = {  # kind -> module:function(folder, card) that gives the Scorer
    "linear": "shopward.models.linear:read",
    "forest": "shopward.models.folder:read_checked",
    "xgboost": "shopward.models.folder:read_checked",
    "catboost": "shopward.models.folder:read_checked",
    "logistic": "shopward.models.folder:read_checked",
    "sequence": "shopward.models.folder:read_checked",
}


def load(folder: Path) -> Scorer:
    """The scorer kept in a folder. Raises BadData when it is not what a trainer wrote."""
    card = read_card(folder)
    kind = card.get("kind")
    if kind not in KINDS:
        raise BadData(f"{folder / CARD}: unknown kind {kind!r} (known: {', '.join(sorted(KINDS))})")
    module, function = KINDS[kind].split(":")
    return getattr(import_module(module), function)(folder, card)


def read_card(folder: Path) -> dict[str, Any]:
    """What `model.json` says."""
    path = folder / CARD
    try:
        if path.stat().st_size > MAX_CARD:
            raise BadData(f"{path}: larger than {MAX_CARD >> 20} MB")
        card = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise BadData(f"{path}: {error}") from None
    if not isinstance(card, dict):
        raise BadData(f"{path}: expected an object")
    return card


def load_all(
    rulebook: Rulebook,
    registry: Path | None = None,
    given: Mapping[str, Scorer] | None = None,
    loaded: Mapping[str, Scorer] | None = None,
) -> dict[str, Scorer]:
    """The models a rulebook names: as `given`, else from the folder beside the rulebook or of that name in the registry.

    `loaded` are those in use already, for a rulebook that is no folder. Raises UsageError for a model that is nowhere.
    """
    found = dict(given or {})
    for use in (u for u in rulebook.models.values() if u.name not in found):
        places = [root / use.source for root in (rulebook.path, registry) if root is not None]
        folder = next((place for place in places if (place / CARD).is_file()), None)
        if folder is not None:
            found[use.name] = load(folder)
        elif loaded and use.name in loaded:
            found[use.name] = loaded[use.name]
        else:
            looked = ", ".join(str(place / CARD) for place in places) or "nowhere: the rulebook is no folder"
            raise UsageError(f"{use.file}: model `{use.name}` is not there (looked for {looked})")
    return found
