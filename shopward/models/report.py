"""The card of a model, as a page for people: what it was trained on, how good it is out of time, what it leans on, what was found wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shopward import charts
from shopward.models.measure import curve

if TYPE_CHECKING:
    from shopward.models.training import Trained

DAY_MS = 86_400_000


def card_page(trained: Trained) -> str:
    """A self-contained HTML page."""
    meta = trained.meta
    m, t = meta["metrics"], meta["training"]
    lead = f"{meta['kind']} on {len(meta['features'])} features; {t['rows']:,} rows, {t['frauds']:,} frauds. {t['split'][:1].upper()}{t['split'][1:]}."
    sections = [
        charts.Section("At a glance", "Measured on rows the judging model had not seen.", charts.tiles(_tiles(m)))
    ]
    if trained.later is not None and trained.later_score is not None:
        sections += _plots(trained)
        sections += evaluation(trained.meta["evaluation"]) if "evaluation" in trained.meta else []
    if "unseen" in meta:
        sections.append(_unseen(meta["unseen"]))
    if "repair" in meta:
        sections.append(_repaired(meta["repair"]))
    sections.append(charts.Section("What it leans on", "Share of the gain in training.", _gains(meta)))
    sections.append(charts.Section("What the auditor found", *_audit(meta)))
    sections.append(
        charts.Section(
            "Notes",
            *([charts.table(["note"], [[n] for n in meta["notes"]])] if meta["notes"] else ["Nothing to tell."]),
        )
    )
    sections.append(
        charts.Section(
            "Features", "What the model reads; usual is the middle 90 % of legitimate rows.", _features(meta)
        )
    )
    return charts.page(f"Model {meta['name']}", sections, lead=lead)


def evaluation(found: dict[str, Any]) -> list[charts.Section]:
    """What `evaluate` found, as sections of a page."""
    rows = [
        [_words(n), _three(one["value"]), f"{_three(one['low'])} to {_three(one['high'])}"]
        for n, one in found["headline"].items()
    ]
    out = [charts.Section("How sure that is", "95 % intervals from whole days drawn again: events of one day are alike.",
                          charts.table(["measure", "value", "between"], rows))]  # fmt: skip
    if found["policy"].get("thresholds"):
        out.append(_policy(found["policy"]))
    if (first := found.get("first_frauds")) and first["entities"]:
        said = f"Of {first['entities']:,} entities with fraud, {_share(first['first'])} were stopped at their first one, {_share(first['later'])} of the frauds that followed were."
        out.append(charts.Section("First frauds", "Before anything bad is known of somebody, memory is no help.", said))
    for name, parts in found["segments"].items():
        judged = [p for p in parts if p.get("recall") is not None]
        if len(judged) > 1:
            out.append(_segment(name, parts, judged))
    return out


def _policy(found: dict[str, Any]) -> charts.Section:
    later, single = found["later_days"], found["net_saving_of_one_action"]
    steps = ", ".join(f"{name} from {at:.4f} on" for name, at in found["thresholds"].items())
    figures = [("Net saving", f"{later['net_saving']:,.0f}", f"of {later['lost_without']:,.0f} lost without"), ("Captured", _share(later["capture_by_value"]), "of the value"),
               ("Insults", _share(later["insult_rate"], 2), f"{later['insults']:,.0f} events"), ("Reviews", f"{later['reviews']:,.0f}", "in that time")]  # fmt: skip
    names = ["all three", *(f"{name} only" for name in single)]
    chart = charts.bars("Net saving", names, {"saved": [later["net_saving"], *single.values()]}, horizontal=True)
    return charts.Section("What to do at which score", f"Cheapest by the policy's costs, set on the earlier half of the days, judged on the later: {steps}.",
                          charts.tiles(figures), chart)  # fmt: skip


def _unseen(found: dict[str, Any]) -> charts.Section:
    """What a new attack would meet, as a chart and a table."""
    by, groups, fpr = found["by"], found["groups"], f"{100 * found['fpr']:g} % FPR"
    shown = {"never saw it": [g.get("unseen", 0.0) for g in groups], "saw half of it": [g["seen"] for g in groups]}
    chart = charts.bars(f"Recall at {fpr}", [str(g[by]) for g in groups], shown, horizontal=True, format=charts.percent)
    policy = "_policy" if "policy_fpr" in found else ""
    heads = [by, "frauds", "value", "recall, unseen", "recall, seen", "value, unseen", "value, seen"]
    rows = [
        [str(g[by]), f"{g['frauds']:,}", f"{g['value']:,.0f}"]
        + [_share(g.get(name + policy)) for name in ("unseen", "seen", "unseen_value", "seen_value")]
        for g in groups
    ]
    at = f"the policy's own {100 * found['policy_fpr']:.2g} % FPR" if policy else fpr
    said = f"Each {by} left out of training in turn ({found['left_out']} of {found['of']}, those worth most): what a new attack of this kind would meet."
    return charts.Section(
        "Attacks it never saw", said, chart, f"Recall and share of value at {at}.", charts.table(heads, rows)
    )


def _segment(name: str, parts: list[dict[str, Any]], judged: list[dict[str, Any]]) -> charts.Section:
    shown = {"recall": [p["recall"] for p in judged], "value recall": [p["value_recall"] or 0.0 for p in judged]}
    chart = charts.bars(
        f"Recall by {name}", [p["value"] for p in judged], shown, horizontal=True, format=charts.percent
    )
    rows = [[p["value"], f"{p['events']:,.0f}", p["frauds"], _share(p.get("recall")), _share(p.get("value_recall")), _share(p.get("false_positive_rate"), 2), _three(p.get("roc_auc"))] for p in parts]  # fmt: skip
    heads = ["value", "events", "frauds", "recall", "value recall", "FPR", "AUC"]
    return charts.Section(
        f"By {name}",
        "One threshold for all, the one that 0.5 % of all legitimate events reach.",
        chart,
        charts.table(heads, rows),
    )


def _repaired(found: dict[str, Any]) -> charts.Section:
    """What was done to rows before they taught, and what it was worth."""
    heads = ["repair", "rows", "of them fraud", "weight", "weight as fraud now", "as legitimate now"]
    rows = [
        [_words(kind), f"{one['rows']:,}", f"{one['frauds']:,}", *(f"{one[n]:,.1f}" for n in ("weight", "as_fraud", "as_legitimate"))]
        for kind, one in found["counts"].items()
    ]  # fmt: skip
    body = charts.table(heads, rows) if rows else "Nothing to repair was found."
    pair = (found["average_precision"], found["average_precision_without"])
    worth = (
        "" if pair[0] is None else f" Average precision {_three(pair[0])} with the repair, {_three(pair[1])} without."
    )
    said = f"Rows that teach only; those that judge, and calibrate scores, keep their labels as they came.{worth}"
    return charts.Section("Labels that were repaired", said, body, f"Every row is in {found['rows']}.")


def evaluation_page(name: str, found: dict[str, Any], judged: Any) -> str:
    """A page about scores and truth, whoever made the scores; `judged` is an `evaluate.Judged`."""
    lead = f"{found['events']:,} scored events whose truth is known, {found['frauds']:,} of them fraud, over {found['days']:,} days."
    ranking = _ranking(judged.fraud, judged.score, judged.weight) if 0 < found["frauds"] < found["events"] else []
    return charts.page(f"Evaluation of {name}", [*ranking, *evaluation(found)], lead=lead)


def _words(name: str) -> str:
    return name.replace("_", " ").replace("fpr", "FPR").replace("roc auc", "ROC AUC")


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.5f}"


def _share(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def _tiles(m: dict[str, Any]) -> list[tuple[str, str, str]]:
    if not m:
        return [("Validated", "no", "too few frauds to hold any back")]
    shown = [("Average precision", "average_precision", "area under precision and recall"), ("ROC AUC", "roc_auc", "chance to rank a fraud first"),
             ("Recall at 0.5 % FPR", "recall_at_0.5%_fpr", "share of frauds"), ("Value recall at 0.5 % FPR", "value_recall_at_0.5%_fpr", "share of their value")]  # fmt: skip
    return [(what, f"{m[key]:.3f}", note) for what, key, note in shown if m.get(key) is not None]


def _plots(trained: Trained) -> list[charts.Section]:
    later, score = trained.later, trained.later_score
    assert later is not None and score is not None
    fraud = later.label == 1
    out = _ranking(fraud, score, later.weight)
    daily = _daily(later.ts, fraud, score, later.weight)
    return (
        [
            *out,
            charts.Section(
                "Day by day", "Share of each day's frauds above the score that 0.5 % of legitimate events reach.", daily
            ),
        ]
        if daily
        else out
    )


def _ranking(fraud: np.ndarray, score: np.ndarray, weight: np.ndarray) -> list[charts.Section]:
    hit, miss, _ = curve(fraud, score, weight)
    thin = np.unique(np.linspace(0, len(hit) - 1, 300).astype(int))
    recall, fpr, precision = hit / hit[-1], miss / miss[-1], hit / (hit + miss)
    return [
        charts.Section(
            "Ranking", "Recall against wrongly stopped events, and precision against recall, on rows that did not teach.",
            charts.curve("Recall by false-positive rate", {"model": (fpr[thin], recall[thin])}, x_label="false-positive rate", y_label="recall", diagonal=True),
            charts.curve("Precision by recall", {"model": (recall[thin], precision[thin])}, x_label="recall", y_label="precision"),
        ),
        charts.Section("Calibration", "A score of 0.3 should be fraud in 30 of 100 cases.", _calibration(fraud, score, weight)),
    ]  # fmt: skip


def _calibration(fraud: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    edges = np.array([0.002, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    place = np.searchsorted(edges, score, side="right")
    w = np.maximum(np.bincount(place, weights=weight), 1e-12)
    said, was = np.bincount(place, weights=weight * score) / w, np.bincount(place, weights=weight * fraud) / w
    keep = np.bincount(place, minlength=len(w)) >= 20
    said, was = said[keep], was[keep]
    return charts.curve(
        "Said and found",
        {"bins": (said, was)},
        x_label="mean score",
        y_label="share of fraud",
        diagonal=True,
        dots=True,
    )


def _daily(ts: np.ndarray, fraud: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    from shopward.models.measure import threshold_at

    days = ts // DAY_MS
    if len(np.unique(days)) < 3:
        return None
    found = fraud & (score >= threshold_at(fraud, score, weight, 0.005))
    x = np.unique(days)
    frauds = np.array([fraud[days == d].sum() for d in x], float)
    share = np.array([found[days == d].sum() for d in x]) / np.where(frauds > 0, frauds, np.nan)
    return charts.line("Recall at 0.5 % FPR", x.astype("datetime64[D]"), {"recall": share}, y_format=charts.percent)


def _gains(meta: dict[str, Any]) -> Any:
    gains = sorted(meta["gains"].items(), key=lambda g: -g[1])[:20]
    total = sum(meta["gains"].values()) or 1.0
    return charts.bars(
        "Gain", [n for n, _ in gains], {"share": [g / total for _, g in gains]}, horizontal=True, format=charts.percent
    )


def _audit(meta: dict[str, Any]) -> list[Any]:
    found = meta.get("audit", [])
    if not found:
        return ["No leak was found."]
    rows = [[f["column"], f["kind"], f"{f['metric_with']:.3f}", f"{f['metric_without']:.3f}", f["why"]] for f in found]
    return [
        charts.warning(f"{len(found)} leak{'s' if len(found) != 1 else ''} found: the numbers above may not hold."),
        charts.table(["column", "kind", "AUC with", "AUC without", "why"], rows),
    ]


def _features(meta: dict[str, Any]) -> Any:
    said = meta.get("input", {}).get("meanings", {})
    usual = dict(zip(meta["features"], meta["usual"], strict=True))
    rows = [
        [
            n,
            _range(usual[n]) if n not in meta["categories"] else ", ".join(meta["categories"][n][:6]),
            said.get(n, "as given"),
        ]
        for n in meta["features"]
    ]
    return charts.table(["feature", "usual", "meaning"], rows)


def _range(usual: list[float | None]) -> str:
    return "-" if usual[0] is None else f"{usual[0]:.4g} to {usual[2]:.4g}"
