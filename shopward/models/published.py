"""Public fraud data sets that everybody compares on: read the files a user has, train and judge by the published protocol, and print
the published number beside the result. Nothing is downloaded; each set has its own licence.

    shopward model published ieee-cis --path train_transaction.csv --path train_identity.csv
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from shopward.errors import BadData, MissingExtra, UsageError
from shopward.models.dataset import Examples
from shopward.models.measure import auc, average_precision, threshold_at
from shopward.models.network import adjacency_of, neighbourhood
from shopward.models.table import column, group_ids, labels, learn_recipe, read_table
from shopward.models.training import Settings, tidy
from shopward.models.trees import fit

UNLABELLED_AMAZON = 3305  # its first nodes have no label and are left out by everybody (GADBench; AI4Risk/antifraud)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A published number: what was measured, by which model, under which protocol, and where it stands."""

    measure: str
    value: float
    model: str
    protocol: str
    source: str


@dataclass(slots=True)
class Loaded:
    """Examples with the rows that teach and those that judge."""

    examples: Examples
    teach: np.ndarray
    judge: np.ndarray
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Published:
    """A data set: which files it wants, how they are read, and what others reached."""

    name: str
    files: str
    load: Callable[[Sequence[Path]], Loaded]
    anchors: tuple[Anchor, ...]


def _examples(
    names: Sequence[str], matrix: np.ndarray, label: np.ndarray, ts: np.ndarray | None = None, **more: Any
) -> Examples:
    n = len(label)
    one, zero = np.ones(n), np.zeros(n, np.int64)
    return Examples(
        tuple(names),
        matrix,
        label.astype(np.int8),
        zero if ts is None else ts,
        zero,
        one,
        one.copy(),
        [str(i) for i in range(n)],
        **more,
    )


def _tabular(table: Any, label: str, leave_out: Sequence[str], teach: np.ndarray) -> Examples:
    """How columns are read is learnt from the rows that teach."""
    recipe = learn_recipe(table, [label, *leave_out], teach)
    return _examples(
        tuple(recipe.columns),
        recipe.matrix(table),
        labels(column(table, label, "label")),
        categories=recipe.categories,
        notes=recipe.notes,
    )


def _by_time(ts: np.ndarray, share: float) -> np.ndarray:
    """The earliest rows, `share` of all; rows of one moment stay together."""
    return ts < np.sort(ts)[min(int(len(ts) * share), len(ts) - 1)]


def _wanted(table: Any, path: Path, names: Sequence[str]) -> Any:
    gone = [n for n in names if n not in table.column_names]
    if gone:
        raise BadData(f"{path}: not the file of this data set: the columns {', '.join(gone)} are missing")
    return table


def ieee_cis(paths: Sequence[Path]) -> Loaded:
    """train_transaction.csv and, if given, train_identity.csv: the earlier four fifths teach. The entity is card1 + addr1 + the day its card began."""
    import pyarrow as pa

    table = _wanted(
        read_table(paths[0]), paths[0], ("TransactionID", "isFraud", "TransactionDT", "TransactionAmt", "card1")
    )
    if len(paths) > 1:
        identity = _wanted(read_table(paths[1]), paths[1], ("TransactionID",))
        table = table.join(identity, "TransactionID", join_type="left outer").sort_by("TransactionID")
    ts = np.asarray(table["TransactionDT"]).astype(np.int64)
    began = np.floor(ts / 86_400 - _number(table, "D1"))  # D1 counts the days since the card's first use
    parts = [_text(table, n) for n in ("card1", "addr1")] + [[str(b) for b in began.tolist()]]
    who = group_ids(pa.array(["|".join(p) for p in zip(*parts, strict=True)]))
    teach = _by_time(ts, 0.8)
    found = _tabular(table, "isFraud", ("TransactionID", "TransactionDT"), teach)
    names, extra = _habits(who, ts, _number(table, "TransactionAmt"))
    found = replace(found, names=(*found.names, *names), matrix=np.column_stack([found.matrix, extra]), ts=ts)
    return Loaded(
        found, teach, ~teach, ["the last fifth by time judges; the competition's private test set is not public"]
    )


def _number(table: Any, name: str) -> np.ndarray:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return np.array([np.nan if v is None else float(v) for v in table[name].to_pylist()])


def _text(table: Any, name: str) -> list[str]:
    return [str(v) for v in table[name].to_pylist()] if name in table.column_names else [""] * table.num_rows


def _habits(who: np.ndarray, ts: np.ndarray, amount: np.ndarray) -> tuple[list[str], np.ndarray]:
    """What was known of each entity before the row: how often it paid, since when, and this amount against its earlier mean.

    >>> names, x = _habits(np.array([1, 1, 2]), np.array([0, 10, 20]), np.array([5.0, 15.0, 9.0]))
    >>> names, x[1].tolist()
    (['entity_earlier', 'entity_since_last', 'entity_amount_times_mean'], [1.0, 10.0, 3.0])
    """
    order = np.lexsort((np.arange(len(who)), ts, who))
    w, t, a = who[order], ts[order].astype(float), np.nan_to_num(amount[order])
    first = np.append(True, w[1:] != w[:-1]) if len(w) else np.zeros(0, bool)
    start = np.maximum.accumulate(np.where(first, np.arange(len(w)), 0))
    earlier = np.arange(len(w)) - start
    before = np.cumsum(a) - a
    mean = np.divide(before - before[start], earlier, out=np.full(len(w), np.nan), where=earlier > 0)
    since = np.where(first, np.nan, t - np.roll(t, 1))
    out = np.empty((len(w), 3))
    out[order] = np.column_stack([earlier, since, np.divide(a, mean, out=np.full(len(w), np.nan), where=mean > 0)])
    return ["entity_earlier", "entity_since_last", "entity_amount_times_mean"], out


def baf(paths: Sequence[Path]) -> Loaded:
    """Base.csv or a variant: months 0-5 teach, 6 and 7 judge, as its authors do."""
    table = _wanted(read_table(paths[0]), paths[0], ("fraud_bool", "month", "income"))
    month = np.asarray(table["month"]).astype(np.int64)
    found = _tabular(table, "fraud_bool", ("month",), month <= 5)
    missing = [k for k, n in enumerate(found.names) if n in BAF_MISSING]  # these write -1 for what is not known
    x = found.matrix.copy()
    for k in missing:
        x[x[:, k] < 0, k] = np.nan
    return Loaded(replace(found, matrix=x, ts=month), month <= 5, month > 5)


BAF_MISSING = (
    "prev_address_months_count",
    "current_address_months_count",
    "bank_months_count",
    "session_length_in_minutes",
    "device_distinct_emails_8w",
)


def ulb(paths: Sequence[Path]) -> Loaded:
    """creditcard.csv: the earlier four fifths by Time teach."""
    table = _wanted(read_table(paths[0]), paths[0], ("Time", "V1", "V28", "Amount", "Class"))
    ts = np.asarray(table["Time"]).astype(np.int64)
    teach = _by_time(ts, 0.8)
    return Loaded(replace(_tabular(table, "Class", ("Time",), teach), ts=ts), teach, ~teach)


def elliptic(paths: Sequence[Path]) -> Loaded:
    """elliptic_txs_features.csv, _classes.csv, _edgelist.csv: steps 1-34 teach, 35-49 judge; neighbours of the same step only."""
    if len(paths) != 3:
        raise UsageError("elliptic wants three files: features, classes, edge list")
    import pyarrow.csv as csv

    bare = csv.read_csv(paths[0], read_options=csv.ReadOptions(autogenerate_column_names=True))
    if bare.num_columns < 4:
        raise BadData(f"{paths[0]}: expected an id, a time step and features, without a header")
    classes = _wanted(read_table(paths[1]), paths[1], ("txId", "class"))
    edges = _wanted(read_table(paths[2]), paths[2], ("txId1", "txId2"))
    ids = np.asarray(bare["f0"])
    x = np.column_stack([np.asarray(bare[f"f{k}"]).astype(float) for k in range(2, bare.num_columns)])
    step = np.asarray(bare["f1"]).astype(np.int64)
    verdict = dict(zip(classes["txId"].to_pylist(), map(str, classes["class"].to_pylist()), strict=True))
    label = np.array([{"1": 1, "2": 0}.get(verdict.get(i, ""), -1) for i in ids.tolist()])
    place = {i: k for k, i in enumerate(ids.tolist())}
    ends = np.array(
        [
            [place.get(a, -1), place.get(b, -1)]
            for a, b in zip(edges["txId1"].to_pylist(), edges["txId2"].to_pylist(), strict=True)
        ]
    )
    fine = (ends >= 0).all(axis=1) & (step[ends[:, 0]] == step[ends[:, 1]])
    names, matrix = neighbourhood(
        adjacency_of(ends[fine, 0], ends[fine, 1], len(ids)), [f"x{k}" for k in range(x.shape[1])], x
    )
    found = _examples(names, matrix, label, step)
    return Loaded(
        found,
        (step <= 34) & (label >= 0),
        (step > 34) & (label >= 0),
        ["inductive: no edge joins a judged step with one that teaches"],
    )


def review_graph(paths: Sequence[Path], first: int = 0) -> Loaded:
    """YelpChi.mat or Amazon.mat: two fifths of the nodes teach, two fifths judge, at random as in the CARE-GNN line of work."""
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
        from scipy.sparse import csr_matrix
    except ImportError:
        raise MissingExtra("ml", "scipy") from None
    try:
        file = loadmat(paths[0])
    except (ValueError, OSError, TypeError, NotImplementedError, MatReadError) as wrong:
        raise BadData(f"{paths[0]}: not a MATLAB file ({wrong})") from None
    relations = [k for k in ("net_rur", "net_rtr", "net_rsr", "net_upu", "net_usu", "net_uvu") if k in file]
    if not relations or "features" not in file or "label" not in file:
        raise BadData(
            f"{paths[0]}: expected features, label and net_rur, net_rtr, net_rsr (YelpChi) or net_upu, net_usu, net_uvu (Amazon)"
        )
    x = np.asarray(csr_matrix(file["features"]).todense(), float)
    label = np.asarray(file["label"]).ravel().astype(int)
    own = [f"x{k}" for k in range(x.shape[1])]
    names, parts = list(own), [x]
    for relation in relations:
        ends = csr_matrix(file[relation]).nonzero()
        more, wide = neighbourhood(adjacency_of(ends[0], ends[1], len(x)), own, x)
        names += [f"{relation[4:]}_{n}" for n in more[len(own) :]]
        parts.append(wide[:, len(own) :])
    order = np.random.default_rng(7).permutation(np.arange(first, len(x)))
    teach, judge = np.zeros(len(x), bool), np.zeros(len(x), bool)
    teach[order[: int(0.4 * len(order))]], judge[order[int(0.6 * len(order)) :]] = True, True
    note = "transductive: the graph and its features know the judged nodes, and siblings stand on both sides; an upper bound, as in the papers"
    return Loaded(_examples(names, np.column_stack(parts), label), teach, judge, [note])


def amazon(paths: Sequence[Path]) -> Loaded:
    """Amazon.mat without its unlabelled first nodes."""
    return review_graph(paths, UNLABELLED_AMAZON)


_FDB = "amazon-science/fraud-dataset-benchmark, README"
_CARE = "nodes at random, 40 % teach, 40 % judge"
SETS = {s.name: s for s in (
    Published("ieee-cis", "train_transaction.csv [train_identity.csv]", ieee_cis, (
        Anchor("roc_auc", 0.94, "Amazon Fraud Detector, TFI", "FDB's split", _FDB), Anchor("roc_auc", 0.932, "auto-sklearn", "FDB's split", _FDB),
        Anchor("recall_at_1%_fpr", 0.587, "Amazon Fraud Detector", "FDB's split", _FDB))),
    Published("baf", "Base.csv, or a variant", baf, (
        Anchor("recall_at_5%_fpr", 0.754, "LightGBM, best of 100", "on the authors' private original data: public files are harder", "Bank Account Fraud paper, appendix"),)),
    Published("ulb", "creditcard.csv", ulb, (
        Anchor("roc_auc", 0.992, "H2O", "FDB's split", _FDB), Anchor("recall_at_1%_fpr", 0.88, "H2O", "FDB's split", _FDB))),
    Published("elliptic", "elliptic_txs_features.csv elliptic_txs_classes.csv elliptic_txs_edgelist.csv", elliptic, (
        Anchor("roc_auc", 0.9036, "best inductive model", "later steps judge", "GADBench index"), Anchor("roc_auc", 0.968, "best transductive model", "the future is known", "GADBench index"))),
    Published("yelpchi", "YelpChi.mat", review_graph, (
        Anchor("roc_auc", 0.9908, "Grad (2025)", _CARE, "AI4Risk/antifraud, README"), Anchor("average_precision", 0.781, "PMP (ICLR 2024)", _CARE, "Xtra-Computing/PMP, results"),
        Anchor("roc_auc", 0.9498, "RGTAN", _CARE, "AI4Risk/antifraud, README"))),
    Published("amazon", "Amazon.mat", amazon, (
        Anchor("roc_auc", 0.9757, "PMP (ICLR 2024)", _CARE, "Xtra-Computing/PMP, results"), Anchor("average_precision", 0.9047, "PMP (ICLR 2024)", _CARE, "Xtra-Computing/PMP, results"))),
)}  # fmt: skip


def compare(name: str, paths: Sequence[Path], settings: Settings | None = None) -> dict[str, Any]:
    """Train on the rows that teach, judge on the others, and put the published numbers beside. Raises BadData when the files are others."""
    if name not in SETS:
        raise UsageError(f"{name}: one of {', '.join(SETS)}")
    known = SETS[name]
    if not paths:
        raise UsageError(f"{name} wants its files: {known.files}")
    settings, loaded = settings or Settings(), known.load(paths)
    for side, rows in (("teach", loaded.teach), ("judge", loaded.judge)):
        here = loaded.examples.label[rows]
        if not (here == 1).any() or not (here == 0).any():
            raise BadData(f"{name}: the rows that {side} hold one class only")
    whole = loaded.examples.take(loaded.teach)
    part, notes = tidy(whole)
    test = loaded.examples.take(loaded.judge)
    columns = [whole.names.index(n) for n in part.names]
    categorical = [k for k, n in enumerate(part.names) if n in whole.categories]
    done = fit(whole.matrix[:, columns], whole.label == 1, part.names, categorical=categorical, trees=settings.trees,
               settings={"learning_rate": 0.05, "num_leaves": 31, **settings.params}, threads=settings.threads, seed=settings.seed)  # fmt: skip
    score, fraud = done.forest.score(test.matrix[:, columns]), test.label == 1
    found = {"roc_auc": auc(fraud, score), "average_precision": average_precision(fraud, score)}
    for percent in (1, 5):
        at = threshold_at(fraud, score, np.ones(len(fraud)), percent / 100)
        found[f"recall_at_{percent}%_fpr"] = float((score[fraud] >= at).mean())
    beside = [
        {
            "measure": a.measure,
            "published": a.value,
            "here": found[a.measure],
            "model": a.model,
            "protocol": a.protocol,
            "source": a.source,
        }
        for a in known.anchors
    ]
    return {"set": name, "taught": len(whole), "judged": len(test), "frauds": int(fraud.sum()), "features": len(part.names), "metrics": found,
            "published": beside, "notes": [*loaded.notes, *notes]}  # fmt: skip
