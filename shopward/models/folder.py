"""A model as a folder: what it reads, its trees or weights, its card, and a hash over all of it.

    model.json   kind, features, calibration, usual values, the rows of the card; `files` holds the SHA-256 of every other file
    trees.txt    LightGBM's text (of other libraries: xgboost.json, catboost.json)
    network.npz     the arrays of a sequence network
    features.yaml   the features it was trained on, to be served as they are          card.html   the report for people

A folder whose content does not fit its hashes is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shopward.errors import BadData, UsageError
from shopward.models.cat import read_catboost
from shopward.models.forest import Forest, read_forest
from shopward.models.linear import Linear
from shopward.models.scorer import MOST_REASONS, Reason
from shopward.models.watch import SCORE
from shopward.models.xgb import read_xgboost

META = "model.json"
FORMAT = 1
TREES: dict[str, tuple[str, Callable[[str], Forest]]] = {  # kind -> the file of its trees, and what reads them
    "forest": ("trees.txt", read_forest),
    "xgboost": ("xgboost.json", read_xgboost),
    "catboost": ("catboost.json", read_catboost),
}


@dataclass(frozen=True)
class ForestModel:
    """A calibrated forest that speaks the protocol of `scorer.py`; `usual` holds (low, middle, high) of legitimate events per feature."""

    name: str
    version: str
    features: tuple[str, ...]
    forest: Forest
    slope: float = 1.0
    shift: float = 0.0
    bends: tuple[tuple[float, float], ...] = ((0.0, 0.0), (1.0, 1000.0))
    usual: tuple[tuple[float, float, float], ...] = ()
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)  # feature -> what it means, for reasons
    profile: Mapping[str, Any] = field(default_factory=dict)  # how features and scores lay in training, for `watch.py`

    def raw(self, rows: np.ndarray) -> np.ndarray:
        """Log odds float64[n] of rows float64[n, d], bit for bit what LightGBM or XGBoost would say."""
        return self.forest.score(rows)

    def score(self, matrix: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-(self.slope * self.raw(matrix.T) + self.shift)))

    def risk(self, scores: np.ndarray) -> np.ndarray:
        return np.interp(scores, *np.array(self.bends).T)

    def explain(self, row: np.ndarray) -> list[Reason]:
        parts = self.forest.contributions(row[None, :])[0, :-1] * self.slope
        strongest = sorted(range(len(parts)), key=lambda k: (-abs(parts[k]), k))[:MOST_REASONS]
        return [self._reason(k, float(row[k]), float(parts[k])) for k in strongest if parts[k] != 0.0]

    def _reason(self, k: int, value: float, part: float) -> Reason:
        name = self.features[k]
        texts = self.categories.get(name)
        if texts is not None:
            said = "missing" if np.isnan(value) else texts[int(value)] if 0 <= value < len(texts) else "another value"
            return Reason(feature=name, value=said, contribution=part, what=f"{name} = {said}")
        low, middle, high = self.usual[k] if self.usual else (np.nan, np.nan, np.nan)
        shown = None if np.isnan(value) else value
        said = f"{name} is missing" if shown is None else f"{name} = {value:.6g}"
        if np.isnan(middle):
            return Reason(feature=name, value=shown, contribution=part, what=said)
        habit = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        return Reason(feature=name, value=shown, contribution=part, what=f"{said} (usually {habit})", usual=(low, high))


def save(folder: Path, meta: dict[str, Any], files: Mapping[str, str | bytes]) -> str:
    """Write a model folder (a new one, or in place of an older model); returns the version, a hash of everything in it."""
    if folder.exists() and any(folder.iterdir()) and not (folder / META).exists():
        raise UsageError(f"{folder}: this folder holds something else than a model; name another one")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.is_file():
            old.unlink()
    bodies = {name: text if isinstance(text, bytes) else text.encode() for name, text in sorted(files.items())}
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    meta = {**meta, "format": FORMAT, "files": {name: _digest(body) for name, body in bodies.items()}}
    meta.pop("version", None)
    version = version_of(meta)
    (folder / META).write_bytes(
        msgspec.json.format(msgspec.json.encode({"version": version, **_plain(meta)}), indent=1)
    )
    return version


def version_of(meta: Mapping[str, Any]) -> str:
    """The hash that names a model: over its description, and through `files` over all it holds."""
    body = {key: value for key, value in meta.items() if key != "version"}
    return _digest(msgspec.json.encode(_plain(body), order="deterministic"))[:12]


def _plain(value: Any) -> Any:
    """JSON values only, as they come back from the file, so that a hash of what was read equals that of what was written."""
    return msgspec.json.decode(
        msgspec.json.encode(value, enc_hook=lambda x: x.item() if hasattr(x, "item") else list(x))
    )


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def read_meta(folder: Path) -> dict[str, Any]:
    """What a model folder says about itself. Raises BadData when a file is missing, damaged or not what was written."""
    path = folder / META
    if not path.exists():
        raise UsageError(f"{folder}: this is no model folder ({META} is missing)")
    try:
        meta = msgspec.json.decode(path.read_bytes(), type=dict)
        files, version = dict(meta["files"]), meta["version"]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise BadData(f"{path}: not the description of a model") from None
    if version_of(meta) != version:
        raise BadData(
            f"{path}: the description was changed after training (its hash is not {version}); train or copy it again"
        )
    for name, digest in files.items():
        if Path(name).name != name or not (folder / name).is_file():
            raise BadData(f"{folder / name}: this file of the model is missing")
        if _digest((folder / name).read_bytes()) != digest:
            raise BadData(
                f"{folder / name}: the file was changed after training (hash refused); train or copy the model again"
            )
    return meta


def read_model(folder: Path, meta: dict[str, Any] | None = None) -> Any:
    """The scorer in a model folder, after its hashes were checked."""
    meta = read_meta(folder) if meta is None else meta
    if meta["kind"] in TREES:
        return _read_forest(folder, meta)
    if meta["kind"] == "sequence":
        from shopward.models import sequence

        return sequence.read(folder, _read_forest(folder, meta), meta["sequence"])
    if meta["kind"] == "logistic":
        return _read_linear(meta)
    raise BadData(f"{folder}: models of kind `{meta['kind']}` are not known in this version")


def read_checked(folder: Path, meta: dict[str, Any]) -> Any:
    """For loaders that have read `model.json` already: the hashes are checked all the same."""
    return read_model(folder, read_meta(folder))


def _read_forest(folder: Path, meta: dict[str, Any]) -> ForestModel:
    names = tuple(meta["features"])
    file, read = TREES.get(meta["kind"], TREES["forest"])
    forest = read((folder / file).read_text(encoding="utf-8")).named(names)
    usual: Any = tuple(tuple(np.nan if x is None else x for x in row) for row in meta["usual"])
    return ForestModel(
        meta["name"], meta["version"], names, forest, meta["slope"], meta["shift"], tuple(map(tuple, meta["bends"])),
        usual, {k: tuple(v) for k, v in meta["categories"].items()}, profile=_profile(meta),
    )  # fmt: skip


def _profile(meta: dict[str, Any]) -> dict[str, Any]:
    rate = {"": {"fraud_rate": meta["metrics"].get("fraud_rate")}}
    return {**meta.get("profile", {}), **({SCORE: meta["score_profile"]} if meta.get("score_profile") else {}), **rate}


def _read_linear(meta: dict[str, Any]) -> Linear:
    return Linear(
        meta["name"], tuple(meta["features"]), tuple(meta["weights"]), meta["bias"], tuple(meta["centre"]), tuple(meta["spread"]),
        tuple(map(tuple, meta["bends"])), {k: tuple(v) for k, v in meta["categories"].items()}, meta["version"],
    )  # fmt: skip
