"""Handbook transactions (April to July): our trained models against the book's recipe, on the same training rows and the same tests.

folds   7 days of training, 7 days until labels are known, 7 days of test, 4 shifted folds; cards known as compromised leave the test.
        The book's recipe is XGBoost (its default: 100 trees of depth 3, rate 0.1, as published best) on its 15 features.
july    all earlier history for training (250,000 rows: every fraud, legitimate ones sampled and weighted), test July, labels a week late.
        The peer is LightGBM on the 15 features with the same rows. `ceiling_scenario_2` is the share of frauds at compromised
        terminals whose terminal has a known fraud label by then: nothing in the data tells the others from honest payments.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.report import finish, options
from shopward import Engine, Rulebook
from shopward.metrics import average_precision, recall_at_fpr, roc, roc_auc
from shopward.models import trees
from shopward.models.dataset import Examples, read_examples
from shopward.models.generate import candidates, to_yaml
from shopward.models.history import Past
from shopward.models.training import Settings, train

ROOT = Path(__file__).parents[2]
TABLE = ROOT.parent / "shared" / "data" / "txn_fdh_simulated" / "tx_2018-04_to_07.parquet"
DAY = 86_400_000
ROWS = 250_000


def features(history: Past | None = None, table: Path = TABLE) -> tuple[Examples, list[str], np.ndarray]:
    """Every payment with the book's features and all candidates, as of the payment; the book's names; the scenario of each fraud.

    With `history` payments from the middle of June on, and the last payments of each one's entity.
    """
    import pyarrow.parquet as pq

    book = Rulebook(ROOT / "examples" / "card-payments")
    found = candidates(
        book.schema, ["payment"], entities=["customer", "terminal"], taken=[*book.features, *book.schema.fields]
    )
    files = {k: v for k, v in book.files.items() if not k.startswith("rules/")}
    whole = Rulebook.from_files({**files, "features/generated.yaml": to_yaml(found.declared, "Candidates.")})
    names = list(book.features)
    inputs = list(dict.fromkeys([*names, *(n for n in found.inputs if n != "event_amount")]))
    truth = pq.read_table(table, columns=["TX_FRAUD", "TX_FRAUD_SCENARIO", "CUSTOMER_ID"])
    since = None if history is None else day("2018-06-15")
    examples = read_examples(Engine(whole, mode="compiled"), [table], None, inputs, since=since, history=history)
    truth = truth.slice(truth.num_rows - len(examples))
    examples.label = np.asarray(truth["TX_FRAUD"]).astype(np.int8)
    examples.label_ts = examples.ts + 7 * DAY
    examples.groups["customer"] = np.asarray(truth["CUSTOMER_ID"]).astype(np.int64)
    return examples, names, np.asarray(truth["TX_FRAUD_SCENARIO"])


def day(text: str) -> int:
    return int(np.datetime64(text, "ms").astype(np.int64))


def between(examples: Examples, start: int, end: int) -> np.ndarray:
    return (examples.ts >= start) & (examples.ts < end)


def sampled(examples: Examples, rows: np.ndarray) -> Examples:
    """At most ROWS of them: every fraud, and legitimate ones weighted up."""
    at = np.flatnonzero(rows)
    fraud = examples.label[at] == 1
    legit = at[~fraud]
    room = max(ROWS - int(fraud.sum()), 1)
    weight = 1.0
    if len(legit) > room:
        weight = len(legit) / room
        legit = np.random.default_rng(7).choice(legit, room, replace=False)
    part = examples.take(np.sort(np.concatenate([at[fraud], legit])))
    part.weight = np.where(part.label == 1, 1.0, weight)
    return part


def book_recipe(part: Examples, names: list[str], test: Examples) -> np.ndarray:
    """Scores of XGBoost on the 15 features."""
    import xgboost

    columns = part.columns(names)
    model = xgboost.XGBClassifier(n_estimators=100, max_depth=3, learning_rate=0.1, n_jobs=1, random_state=0)
    model.fit(columns.matrix, columns.label)
    return model.predict_proba(test.columns(names).matrix)[:, 1]


def ours(part: Examples, test: Examples) -> np.ndarray:
    done = train(part, "payments", Settings(select=True))
    return done.raw(test.columns(done.features).matrix)


def measured(name: str, test: Examples, score: np.ndarray) -> dict[str, float]:
    fraud = test.label == 1
    return {f"{name}_ap": average_precision(fraud, score), f"{name}_auc": roc_auc(fraud, score)}


def folds(examples: Examples, names: list[str], many: int) -> dict[str, float]:
    """Means over test weeks of July, the latest first."""
    found: list[dict[str, float]] = []
    for k in range(many):
        start = day("2018-07-25") - 7 * k * DAY
        teach = between(examples, start - 14 * DAY, start - 7 * DAY)
        part = examples.take(teach)
        bad = np.unique(examples.groups["customer"][teach & (examples.label == 1)])
        test = examples.take(between(examples, start, start + 7 * DAY) & ~np.isin(examples.groups["customer"], bad))
        row = {**measured("book", test, book_recipe(part, names, test)), **measured("ours", test, ours(part, test))}
        print(f"  fold {k}: " + ", ".join(f"{n} {v:.4f}" for n, v in row.items()), file=sys.stderr)
        found.append(row)
    mean = {f"folds_{n}": float(np.mean([f[n] for f in found])) for n in found[0]}
    gains = {f"folds_gain_{m}": mean[f"folds_ours_{m}"] - mean[f"folds_book_{m}"] for m in ("ap", "auc")}
    return {"folds": many, **mean, **gains}


def july(examples: Examples, names: list[str], scenario: np.ndarray) -> dict[str, float]:
    start = day("2018-07-01")
    part = sampled(examples, between(examples, day("2018-04-15"), start) & (examples.label_ts <= start))
    rows = between(examples, start, day("2018-08-01"))
    test, kind = examples.take(rows), scenario[rows]
    few = part.columns(names)
    peer = trees.fit(
        few.matrix,
        few.label == 1,
        names,
        weight=few.weight,
        trees=200,
        settings={"learning_rate": 0.05, "feature_fraction": 1.0},
    )
    out = {}
    for name, score in (("peer", peer.forest.score(test.columns(names).matrix)), ("ours", ours(part, test))):
        fraud = test.label == 1
        wrong, _, at = roc(fraud, score)
        hit = (score >= at[wrong <= 0.005][-1]) & fraud
        out |= {f"july_{k}": v for k, v in measured(name, test, score).items()}
        out[f"july_{name}_recall"] = recall_at_fpr(fraud, score, 0.005)
        out[f"july_{name}_value_recall"] = float((test.amount * hit).sum() / (test.amount * fraud).sum())
        out[f"july_{name}_scenario_2"] = float(hit[kind == 2].mean())
    out["july_gain_ap"] = out["july_ours_ap"] - out["july_peer_ap"]
    told = test.matrix[:, test.names.index("terminal_frauds_30d")] > 0
    out["july_ceiling_scenario_2"] = float(told[kind == 2].mean())
    return out


def run(quick: bool) -> dict:
    """All numbers; --quick takes one fold and leaves July out."""
    started = time.perf_counter()
    examples, names, scenario = features()
    result: dict = {
        "rows": len(examples),
        "candidates": len(examples.names),
        "features_s": time.perf_counter() - started,
    }
    result |= folds(examples, names, 1 if quick else 4)
    return result if quick else {**result, **july(examples, names, scenario), "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    args = options(__doc__ or "")
    if not TABLE.exists():
        sys.exit(f"{TABLE} is absent")
    finish("learn/payments", run(args.quick), args.json)
