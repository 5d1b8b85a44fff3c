"""A network over an entity's last events, fused with trees: fitting needs the `deep` extra (torch), scoring needs numpy alone.

    last events -> GRU -+-> log odds of the network --+-> trees + share * network
    features ----------+-> log odds of the trees ----+

The share is chosen out of time: trees and network taught by the earlier rows judge the later ones, and the network gets a say only where
it helps in both halves of those. Without that its share is 0, and the trees speak alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from shopward.errors import BadData, extra
from shopward.models import trees
from shopward.models.folder import ForestModel
from shopward.models.history import Past, past_of
from shopward.models.measure import average_precision
from shopward.models.scorer import MOST_REASONS, Reason

HIDDEN, TEXTS = 32, 16  # size of the network; values of one text that it tells apart
BATCH, RATE, STEPS_LEAST, EPOCHS = 512, 4e-3, 1200, (4, 30)
DECAY, MOST_ROWS = 1e-3, 120_000
SHARES = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
EARLY = 0.6  # of the time teaches for the share
FEW = 10  # frauds needed on both sides
WORTH = 0.001  # average precision that a network must add
FILE = "network.npz"
BLOCK = 4096


def torch() -> Any:
    """The library, or MissingExtra with the line that installs it."""
    return extra("deep", "torch")


# --- the network --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Net:
    """A fitted network as arrays: how values are scaled, and the weights of GRU and head."""

    arrays: Mapping[str, np.ndarray]
    texts: tuple[int, ...]  # which values of an event are texts

    def raw(self, matrix: np.ndarray, past: np.ndarray) -> np.ndarray:
        """Log odds float64[n] of matrix float64[n, d] and past float32[n, steps + 1, values]; a row's bits are its own, in any block.

        Raises BadData when d or the number of values does not fit.
        """
        wanted = len(self.arrays["row_mean"]), len(self.arrays["step_mean"])
        if (matrix.shape[1], past.shape[2]) != wanted:
            raise BadData(
                f"the network reads {wanted[0]} features and {wanted[1]} values of an event, not {matrix.shape[1]} and {past.shape[2]}"
            )
        parts = [self._block(matrix[i : i + BLOCK], past[i : i + BLOCK]) for i in range(0, len(matrix), BLOCK)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _block(self, matrix: np.ndarray, past: np.ndarray) -> np.ndarray:
        out = np.empty(len(matrix))
        _walk(steps_of(past, self.arrays, self.texts), rows_of(matrix, self.arrays), *self._weights, out)
        return out

    @cached_property
    def _weights(self) -> tuple[np.ndarray, ...]:
        """What the kernel reads: the weights of one input side by side."""
        a = self.arrays
        across = (np.ascontiguousarray(a[name].T) for name in ("weight_ih", "weight_hh", "weight_1"))
        return (*across, a["bias_ih"], a["bias_hh"], a["bias_1"], a["weight_2"][0], a["bias_2"])


def _log(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.log1p(np.abs(x))


def scales(matrix: np.ndarray, past: np.ndarray, texts: Sequence[int]) -> dict[str, np.ndarray]:
    """Means and spreads of what the network reads, and the commonest codes of its texts."""
    found: dict[str, np.ndarray] = {}
    for name, values in (("row", _log(matrix)), ("step", _log(past.reshape(-1, past.shape[2])))):
        known = ~np.isnan(values)
        many = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, values, 0).sum(axis=0) / many
        spread = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(axis=0) / many)
        found |= {f"{name}_mean": mean.astype(np.float32)}
        found |= {f"{name}_spread": np.where(spread > 1e-6, spread, 1).astype(np.float32)}
    for k in texts:
        codes, counts = np.unique(past[:, -1, k][past[:, -1, k] >= 0], return_counts=True)
        found[f"text_{k}"] = codes[np.argsort(-counts, kind="stable")][:TEXTS]
    return found


def rows_of(matrix: np.ndarray, a: Mapping[str, np.ndarray]) -> np.ndarray:
    """Features as the network reads them: float32[n, d], missing ones as the mean."""
    out = np.empty(matrix.shape, np.float32)
    _scale(np.ascontiguousarray(matrix, np.float64), a["row_mean"], a["row_spread"], out)
    return out


def steps_of(past: np.ndarray, a: Mapping[str, np.ndarray], texts: Sequence[int]) -> np.ndarray:
    """Events as the network reads them: float32[n, steps + 1, inputs]; all 0 where there was no event."""
    numbers = [k for k in range(past.shape[2]) if k not in texts]
    there = ~np.isnan(past[:, :, :1])
    scaled = np.empty((*past.shape[:2], len(numbers)), np.float32)
    flat = np.ascontiguousarray(past[:, :, numbers], np.float64).reshape(-1, len(numbers))
    _scale(flat, a["step_mean"][numbers], a["step_spread"][numbers], scaled.reshape(flat.shape))
    coded = [past[:, :, k, None] == a[f"text_{k}"] for k in texts]
    return np.concatenate([there, scaled, *coded], axis=2, dtype=np.float32)


def fit_net(
    matrix: np.ndarray, past: np.ndarray, fraud: np.ndarray, weight: np.ndarray, texts: Sequence[int], *, threads: int = 1,
    seed: int = 7,
) -> Net:  # fmt: skip
    """Teach a network on rows and the past of each. Raises MissingExtra without torch."""
    th = torch()
    matrix, past, fraud, weight = _fewer(matrix, past, fraud, weight, seed)
    a = scales(matrix, past, texts)
    x, row = th.from_numpy(steps_of(past, a, texts)), th.from_numpy(rows_of(matrix, a))
    y, w = (th.from_numpy(v.astype(np.float32)) for v in (fraud, weight / weight.mean()))
    before = th.get_num_threads()
    th.set_num_threads(threads)
    try:
        with th.random.fork_rng(devices=[]):
            th.manual_seed(seed)
            return Net(a | _taught(th, x, row, y, w), tuple(texts))
    finally:
        th.set_num_threads(before)


def _taught(th: Any, x: Any, row: Any, y: Any, w: Any) -> dict[str, np.ndarray]:
    """Weights after some passes over the rows, in an order that the seed fixes; the rate falls to 0 in a cosine."""
    gru = th.nn.GRU(x.shape[2], HIDDEN, batch_first=True)
    head = th.nn.Sequential(
        th.nn.Linear(HIDDEN + row.shape[1], HIDDEN), th.nn.ReLU(), th.nn.Dropout(0.1), th.nn.Linear(HIDDEN, 1)
    )
    rate = float(((w * y).sum() / w.sum()).clamp(1e-6, 1 - 1e-6))
    th.nn.init.constant_(head[3].bias, float(np.log(rate / (1 - rate))))
    weights = [*gru.parameters(), *head.parameters()]
    epochs = int(np.clip(STEPS_LEAST * BATCH / len(y), *EPOCHS))
    adam = Adam(th, weights, epochs * -(-len(y) // BATCH))
    for _ in range(epochs):
        for part in th.randperm(len(y)).split(BATCH):
            out = head(th.cat([gru(x[part])[1][0], row[part]], dim=1))[:, 0]
            adam.step(th.nn.functional.binary_cross_entropy_with_logits(out, y[part], weight=w[part]))
    named = {
        "weight_ih": gru.weight_ih_l0, "weight_hh": gru.weight_hh_l0, "bias_ih": gru.bias_ih_l0, "bias_hh": gru.bias_hh_l0,
        "weight_1": head[0].weight, "bias_1": head[0].bias, "weight_2": head[3].weight, "bias_2": head[3].bias,
    }  # fmt: skip
    return {name: value.detach().numpy().copy() for name, value in named.items()}


class Adam:
    """Adam with decoupled decay (Loshchilov & Hutter 2019); torch's own takes seconds to import its compiler first."""

    def __init__(self, th: Any, weights: list[Any], many: int):
        self.th, self.weights, self.many, self.t = th, weights, many, 0
        self.mean, self.square = ([th.zeros_like(x) for x in weights] for _ in range(2))

    def step(self, loss: Any) -> None:
        """One step down the loss; the gradient's length is at most 1."""
        th, self.t = self.th, self.t + 1
        grads = th.autograd.grad(loss, self.weights)
        length = float(th.sqrt(sum((g * g).sum() for g in grads)))
        rate = RATE * 0.5 * (1 + np.cos(np.pi * (self.t - 1) / self.many))
        with th.no_grad():
            for x, g, m, v in zip(self.weights, grads, self.mean, self.square, strict=True):
                g = g / max(length, 1.0)
                m.mul_(0.9).add_(g, alpha=0.1)
                v.mul_(0.999).addcmul_(g, g, value=0.001)
                down = (v / (1 - 0.999**self.t)).sqrt_().add_(1e-8)
                x.mul_(1 - rate * DECAY).addcdiv_(m, down, value=-rate / (1 - 0.9**self.t))


def _fewer(matrix, past, fraud, weight, seed) -> tuple[np.ndarray, ...]:
    """At most MOST_ROWS: every fraud, and legitimate rows weighted up for those left out."""
    legit = np.flatnonzero(~fraud)
    room = max(MOST_ROWS - int(fraud.sum()), MOST_ROWS // 2)
    if len(legit) <= room:
        return matrix, past, fraud, weight
    kept = np.random.default_rng(seed).choice(legit, room, replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(fraud), kept]))
    weight = np.where(fraud, weight, weight * len(legit) / room)
    return matrix[rows], past[rows], fraud[rows], weight[rows]


# --- kernels, one row after the other: numpy's products and logarithms may differ in the last bit by the shape of a block -------------


@njit(cache=True, nogil=True)
def _scale(values, mean, spread, out):
    for i in range(len(values)):
        for k in range(len(mean)):
            x = values[i, k]
            z = (math.copysign(math.log1p(abs(x)), x) - mean[k]) / spread[k]
            out[i, k] = 0.0 if math.isnan(z) else min(max(z, -4.0), 4.0)


@njit(cache=True, nogil=True)
def _add(values, weights, total):
    """Adds values[j] * weights[j, :], one j after the other."""
    for j in range(len(values)):
        if values[j] != 0:
            for k in range(len(total)):
                total[k] += values[j] * weights[j, k]


@njit(cache=True, nogil=True, error_model="numpy")
def _tanh(x):
    """Within 6e-8, of arithmetic alone, so that a processor does several at once.

    e ** 2|x| is the 64th power of a series for e ** y with y <= 0.625; its rest is y ** 9 / 9!.
    """
    y = min(abs(2.0 * x), 40.0) / 64.0
    e = 1 + y * (1 + y / 2 * (1 + y / 3 * (1 + y / 4 * (1 + y / 5 * (1 + y / 6 * (1 + y / 7 * (1 + y / 8)))))))
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    size = 1 - 2 / (e + 1)
    return np.float32(-size if x < 0 else size)


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid(x):
    return np.float32(0.5) * (np.float32(1) + _tanh(np.float32(0.5) * x))


@njit(cache=True, nogil=True, error_model="numpy")
def _walk(x, row, weight_ih, weight_hh, weight_1, bias_ih, bias_hh, bias_1, weight_2, bias_2, out):
    """A GRU over the steps of each row, and two layers over where it ends and the features."""
    size = len(weight_hh)
    state, here, before = np.empty(size, np.float32), np.empty(3 * size, np.float32), np.empty(3 * size, np.float32)
    middle = np.empty(len(bias_1), np.float32)
    for i in range(len(x)):
        state[:] = 0
        for t in range(x.shape[1]):
            here[:], before[:] = bias_ih, bias_hh
            _add(x[i, t], weight_ih, here)
            _add(state, weight_hh, before)
            for k in range(size):
                reset, update = _sigmoid(here[k] + before[k]), _sigmoid(here[size + k] + before[size + k])
                new = _tanh(here[2 * size + k] + reset * before[2 * size + k])
                state[k] = (np.float32(1) - update) * new + update * state[k]
        middle[:] = bias_1
        _add(state, weight_1[:size], middle)
        _add(row[i], weight_1[size:], middle)
        total = bias_2[0]
        for k in range(len(middle)):
            total += max(middle[k], np.float32(0)) * weight_2[k]
        out[i] = total


# --- the fusion ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fused:
    """Trees and a network with its share in the log odds; `tried` tells average precision out of time, alone and with each share."""

    trees: trees.Fitted
    net: Net | None
    share: float
    tried: dict[str, float] = field(default_factory=dict)

    def raw(self, matrix: np.ndarray, past: np.ndarray) -> np.ndarray:
        """Log odds float64[n]."""
        alone = self.trees.forest.score(matrix)
        return alone if self.net is None else alone + self.share * self.net.raw(matrix, past)


def fit(
    matrix: np.ndarray,
    fraud: np.ndarray,
    names: Sequence[str],
    past: np.ndarray,
    ts: np.ndarray,
    label_ts: np.ndarray,
    *,
    texts: Sequence[int] = (),
    weight: np.ndarray | None = None,
    threads: int = 1,
    seed: int = 7,
    said: tuple[float, dict[str, float]] | None = None,
    **more: Any,
) -> Fused:
    """Fit on matrix float64[n, d] and past float32[n, steps + 1, values]; ts, label_ts (ms) order the rows; `more` goes to `trees.fit`.

    `said` is the share, and what was tried for it, where an earlier fit has chosen it.
    """
    torch()
    weight = np.ones(len(fraud)) if weight is None else weight
    share, tried = said or _share(matrix, fraud, names, past, ts, label_ts, weight, texts, threads, seed, more)
    grown = trees.fit(matrix, fraud, names, weight=weight, threads=threads, seed=seed, **more)
    net = fit_net(matrix, past, fraud, weight, texts, threads=threads, seed=seed) if share else None
    return Fused(grown, net, share, tried)


def _share(matrix, fraud, names, past, ts, label_ts, weight, texts, threads, seed, more) -> tuple[float, dict]:
    """What the network may say: nothing, unless it helps out of time in both halves of the later rows."""
    cut = np.sort(ts)[int(len(ts) * EARLY)]
    late, early = ts >= cut, (ts < cut) & (label_ts <= cut)
    if fraud[early].sum() < FEW or (~fraud[early]).sum() < FEW:
        early = ts < cut
    if min(fraud[early].sum(), (~fraud[early]).sum(), fraud[late].sum(), (~fraud[late]).sum()) < FEW:
        return 0.0, {}
    given = {**more, "later": (matrix[late], fraud[late])}
    alone = trees.fit(matrix[early], fraud[early], names, weight=weight[early], threads=threads, seed=seed, **given)
    net = fit_net(matrix[early], past[early], fraud[early], weight[early], texts, threads=threads, seed=seed)
    trees_say, net_says = alone.forest.score(matrix[late]), net.raw(matrix[late], past[late])
    return chosen_share(fraud[late], weight[late], ts[late], trees_say, net_says)


def chosen_share(
    fraud: np.ndarray, weight: np.ndarray, ts: np.ndarray, trees_say: np.ndarray, net_says: np.ndarray
) -> tuple[float, dict[str, float]]:
    """(share of the network, average precision by share): the best one that gains WORTH in all and loses in neither half of the time."""
    middle = np.median(ts)
    parts = [p for p in (ts < middle, ts >= middle) if fraud[p].sum() >= FEW / 2] or [np.ones(len(ts), bool)]

    def gains(share: float) -> list[float]:
        said = trees_say + share * net_says
        return [average_precision(fraud[p], said[p], weight[p]) for p in parts]

    alone = gains(0.0)
    tried = {"0": float(np.mean(alone))}
    best, share = tried["0"] + WORTH, 0.0
    for step in SHARES:
        now = gains(step)
        tried[f"{step:g}"] = float(np.mean(now))
        if tried[f"{step:g}"] >= best and all(n >= a for n, a in zip(now, alone, strict=True)):
            best, share = tried[f"{step:g}"], step
    return share, tried


# --- kept and loaded ----------------------------------------------------------------------------------------------------------------


def to_bytes(net: Net) -> bytes:
    """The arrays of a network as .npz (no pickles in it); equal networks give equal bytes."""
    out = BytesIO()
    np.savez(out, **net.arrays)  # type: ignore[arg-type]
    return out.getvalue()


def from_bytes(body: bytes, texts: Sequence[int]) -> Net:
    """The network in `to_bytes`. Raises BadData when it is none."""
    try:
        with np.load(BytesIO(body), allow_pickle=False) as found:
            arrays = {name: found[name].astype(np.float32) for name in found.files}
    except (OSError, ValueError, EOFError) as wrong:
        raise BadData(f"{FILE}: not the arrays of a network: {wrong}") from None
    lacks = {*_shapes(0, 0, 0), *(f"text_{k}" for k in texts)} - set(arrays)
    if lacks:
        raise BadData(f"{FILE}: without {', '.join(sorted(lacks))}")
    row, step = arrays["row_mean"].size, arrays["step_mean"].size
    inputs = 1 + step - len(texts) + sum(arrays[f"text_{k}"].size for k in texts)
    for name, shape in _shapes(row, step, inputs).items():
        if arrays[name].shape != shape:
            raise BadData(f"{FILE}: `{name}` has the shape {arrays[name].shape}, expected {shape}")
    return Net(arrays, tuple(texts))


def _shapes(row: int, step: int, inputs: int) -> dict[str, tuple[int, ...]]:
    """Of every array, for so many features, values of an event, and inputs made of those."""
    return {
        "row_mean": (row,), "row_spread": (row,), "step_mean": (step,), "step_spread": (step,),
        "weight_ih": (3 * HIDDEN, inputs), "weight_hh": (3 * HIDDEN, HIDDEN), "bias_ih": (3 * HIDDEN,), "bias_hh": (3 * HIDDEN,),
        "weight_1": (HIDDEN, HIDDEN + row), "bias_1": (HIDDEN,), "weight_2": (1, HIDDEN), "bias_2": (1,),
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SequenceModel(ForestModel):
    """Trees and network as one scorer of events, given the `past` of each."""

    net: Net
    share: float
    past: Past

    def score(self, matrix: np.ndarray, past: np.ndarray | None = None) -> np.ndarray:
        """Probabilities of matrix float64[d, n] and past float32[n, steps + 1, values]. Raises BadData without a past."""
        if past is None:
            raise BadData(f"model `{self.name}` reads the last events of the {self.past.entity}, and was given none")
        raw = self.forest.score(matrix.T) + self.share * self.net.raw(matrix.T, past)
        return 1.0 / (1.0 + np.exp(-(self.slope * raw + self.shift)))

    def explain(self, row: np.ndarray, past: np.ndarray | None = None) -> list[Reason]:
        """Reasons of the trees and, with the past float32[steps + 1, values], what the order of events added against no past at all."""
        found = list(super().explain(row))
        if past is None:
            return found
        none = past.copy()
        none[:-1] = np.nan
        both = self.net.raw(np.stack([row, row]), np.stack([past, none]))
        seen = int((~np.isnan(past[:-1, 0])).sum())
        said = f"the last {seen} events of the {self.past.entity}"
        moved = float(self.slope * self.share * (both[0] - both[1]))
        found.append(Reason(feature=self.past.feature, value=float(seen), contribution=moved, what=said))
        return sorted(found, key=lambda reason: -abs(reason.contribution))[:MOST_REASONS]


def read(folder: Path, plain: ForestModel, about: Mapping[str, Any]) -> ForestModel:
    """The model in a folder whose hashes were checked: its trees, and the network where it has a share. Raises BadData when those do not fit."""
    past = past_of(about)
    if past is None:
        return plain
    net = from_bytes((folder / FILE).read_bytes(), about["text_places"])
    nothing = np.full((1, len(plain.features)), np.nan), np.full((1, past.steps + 1, past.width), np.nan, np.float32)
    net.raw(*nothing)  # refuses what does not fit, and has the kernels ready when events come
    return SequenceModel(**vars(plain), net=net, share=about["share"], past=past)
