"""The report as a page for somebody who has never seen the product: the answer first, the words explained, then the parts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from math import nan
from typing import Any

from markupsafe import Markup

from shopward import charts
from shopward.charts import Section, percent

MOST_MATRIX = 24
MOST_ROWS = 40
STATUS = {
    "alive": "decides",
    "covered": "never decides",
    "silent": "silent for a week",
    "dead": "never fired",
    "unjudged": "nothing to judge yet",
    "shadow": "in shadow",
}

QUIET = {
    "dead": "never fired on this history. They may wait for an attack that did not come",
    "covered": "fired, but never decided: others always led to the same action",
}


def html(found: Mapping[str, Any]) -> str:
    """A self-contained HTML page from the JSON of `report` (with `against` and `sweep` where they were asked for)."""
    money = charts.money(found["currency"])
    sections = [_answer(found, money), _words(found)]
    if found.get("against"):
        sections.append(_against(found["against"], found, money))
    sections += [_days(found, money), _rules(found, money), _overlap(found)]
    if found.get("sweep"):
        sections.append(_sweep(found["sweep"], money))
    sections += [_groups(found, money), *_model(found), _trust(found)]
    days = found["days"]
    lead = f"Every event from {days[0]['day']} to {days[-1]['day']} was run again through rulebook {found['rulebook_version']}, in the order it arrived, knowing at each moment only what was known then."
    return charts.page("What this rulebook is worth", sections, lead=lead)


def _no(value: float | None) -> float:
    return nan if value is None else value


def _band(policy: Mapping, name: str, form) -> str:
    low, high = (_no(v) for v in policy["intervals"][name])
    return f"95 % between {form(low)} and {form(high)}" if low == low else "too few days for an interval"


def _answer(found: Mapping, money) -> Section:
    policy, labels = found["policy"], found["labels"]
    reviews = policy["reviews_per_day"]
    capacity = (
        "no capacity declared"
        if reviews["capacity"] is None
        else f"capacity {reviews['capacity']:,}, over it on {reviews['days_over_capacity']} days"
    )
    tiles = charts.tiles([
        ("Net saving", money(_no(policy["net_saving"])), _band(policy, "net_saving", money)),
        ("Fraud captured, by value", percent(_no(policy["capture_by_value"])), _band(policy, "capture_by_value", percent)),
        ("Precision", percent(_no(policy["precision"])), _band(policy, "precision", percent)),
        ("Insult rate", percent(_no(policy["insult_rate"])), _band(policy, "insult_rate", percent)),
        ("Reviews a day", charts.number(reviews["mean"]), f"at most {charts.number(reviews['most'])}; {capacity}"),
        ("Loss", f"{charts.number(_no(policy['loss_bps']))} bps", f"{money(policy['lost_value'])} got through"),
    ])  # fmt: skip
    judged = f"{policy['judged']:,} of {policy['events']:,} events can be judged; {int(policy['fraud']):,} of them turned out to be fraud, worth {money(policy['fraud_value'])}."
    stopped = f"The rules would have stopped {money(policy['stopped_value'])} of it and bothered {int(policy['insults']):,} honest events."
    actions = charts.bars(
        "What the events would have met (allowed ones left out)",
        [a for a in policy["actions"] if a != "allow"],
        {"events": [n for a, n in policy["actions"].items() if a != "allow"]},
        horizontal=True, width=480,
    )  # fmt: skip
    unripe = (
        f"{labels['unripe']:,} events are younger than {labels['maturity_days']:g} days and are not judged: their truth may still come."
        if labels["unripe"]
        else ""
    )
    return Section("The answer", tiles, f"{judged} {stopped}", *([unripe] if unripe else []), actions)


def _words(found: Mapping) -> Section:
    policy = found["policy_costs"]
    money = charts.money(found["currency"])
    terms = [
        (
            "captured",
            f"fraud that is denied, held or sent to review; a challenge counts {percent(policy['challenge_stop_rate'])}, the share of attackers it turns away",
        ),
        ("insult", "a legitimate event that is denied, held or challenged"),
        (
            "net saving",
            f"value of captured fraud, less {money(policy['friction_cost'])} an insult and {money(policy['review_cost'])} a review (from policy.yaml)",
        ),
        ("marginal", "what a rule adds to all the others: the policy's saving with it, less the saving without it"),
        ("bps", "hundredths of a percent of all value that went through the events"),
    ]
    return Section("The words", charts.table(["word", "means"], terms))


def _days(found: Mapping, money) -> Section:
    days = [d for d in found["days"] if d["judged"]]
    if not days:
        return Section("Day by day", "No day can be judged.")
    x = [date.fromisoformat(d["day"]) for d in days]
    get = lambda name: [_no(d[name]) for d in days]  # noqa: E731
    return Section(
        "Day by day",
        charts.line("Value of fraud a day, and how much of it is captured", x, {"all fraud": get("fraud_value"), "captured": get("stopped_value")}, y_format=money, width=1000),
        charts.line("Insult rate", x, {"insult rate": get("insult_rate")}, y_format=percent, width=490),
        charts.line("Events sent to review", x, {"reviews": get("reviews")}, width=490),
    )  # fmt: skip


def _rules(found: Mapping, money) -> Section:
    rules = sorted(found["rules"], key=lambda r: -(r["marginal_net_saving"] or 0))
    heads = [
        "rule",
        "action",
        "fired",
        "precision",
        "captured",
        "insult rate",
        "alone",
        "marginal",
        "95 %",
        "by day",
        "status",
    ]
    rows = [
        [
            Markup("<b>{}</b><br><small>{}</small>").format(r["id"], r["title"]), r["then"], r["fired"], percent(_no(r["precision"])),
            percent(_no(r["capture_by_value"])), percent(_no(r["insult_rate"])), money(_no(r["net_saving"])), money(_no(r["marginal_net_saving"])),
            _range(r["intervals"]["marginal_net_saving"]),
            charts.sparkline(r["per_day"], title=f"{r['id']} a day", width=90), _status(r),
        ]
        for r in rules if r["fired"]
    ]  # fmt: skip
    alive = [r for r in rules if r["marginal_net_saving"]]
    bars = charts.bars(
        "Net saving that each rule adds to the others",
        [r["id"] for r in alive],
        {"marginal": [r["marginal_net_saving"] for r in alive]},
        horizontal=True,
        format=money,
        width=760,
    )
    costly = [r["id"] for r in rules if (r["intervals"]["marginal_net_saving"][1] or 0) < 0]
    said: list[str] = (
        [charts.warning(f"These rules cost more than they save, beyond chance: {', '.join(costly)}.")] if costly else []
    )
    for status, words in QUIET.items():
        quiet = [r["id"] for r in rules if r["status"] == status]
        if quiet:
            said.append(charts.folded(f"{len(quiet):,} of {len(rules):,} rules {words}", ", ".join(quiet)))
    return Section(
        "Rule by rule",
        *said,
        bars,
        charts.table(heads, rows),
        "A rule that writes a list also works through that list: replay with --leave-out RULE to see its whole effect.",
    )


def _range(pair: list) -> str:
    low, high = (_no(v) for v in pair)
    return f"{charts.number(low)} … {charts.number(high)}" if low == low else ""


def _status(rule: Mapping) -> str:
    drift = rule["drift"]
    words = STATUS[rule["status"]]
    if drift["drifts"]:
        factor = drift["factor"]
        words += (
            "; since last week"
            if factor is None
            else f"; lately {charts.number(factor)} times as often"
            if factor >= 1
            else f"; lately {percent(factor)} as often"
        )
    return words


def _overlap(found: Mapping) -> Section:
    both, ids = found["overlap"]["both_fired"], found["overlap"]["rules"]
    keep = sorted((i for i in range(len(ids)) if both[i][i]), key=lambda i: -both[i][i])[:MOST_MATRIX]
    if len(keep) < 2:
        return Section("Overlap", "Fewer than two rules fired: nothing overlaps.")
    share = [[both[i][j] / both[i][i] for j in keep] for i in keep]
    names = [ids[i] for i in keep]
    return Section(
        "Which rules see the same events",
        "Of the events on which the rule of a row fired, the share on which the rule of the column fired too.",
        charts.matrix("Overlap", names, names, share, format=lambda v: percent(round(v, 2)), low=0, high=1, width=1000),
    )


def _groups(found: Mapping, money) -> Section:
    parts: list[Any] = []
    for title, rows in {"event type": found["types"], **found["segments"]}.items():
        cells = [
            [r["name"], int(r["events"]), int(r["fraud"]), money(r["fraud_value"]), percent(_no(r["capture_by_value"])), percent(_no(r["precision"])), percent(_no(r["insult_rate"])), money(_no(r["net_saving"]))]
            for r in rows[:MOST_ROWS]
        ]  # fmt: skip
        parts.append(
            charts.table(
                [title, "events", "fraud", "fraud value", "captured", "precision", "insult rate", "net saving"], cells
            )
        )
    return Section("By event type and segment", *parts)


def _model(found: Mapping) -> list[Section]:
    model = found.get("model")
    if not model:
        return []
    figures = [
        (name, charts.number(_no(model[name])), "") for name in ("auc", "average_precision", "ks", "calibration_error")
    ]
    c = model["calibration"]
    chart = charts.curve(
        "Calibration: share of fraud by mean score",
        {"score": (c["score"], c["fraud"])},
        x_label="mean score",
        y_label="share of fraud",
    )
    return [Section("The model's score", charts.tiles(figures), chart)]


def _trust(found: Mapping) -> Section:
    labels, control = found["labels"], found["control"]
    said: list[Any] = [
        f"An event is judged when it is {labels['maturity_days']:g} days old ({labels['maturity_from']}), as of {labels['as_of']}."
    ]
    counted = {
        "labels": "labels in the stream", "labels_replaced": "replaced by a later word on the same event",
        "labels_unknown_event": "of events that are not in this history", "labels_in_the_future": "dated after now: refused",
        "labels_after_as_of": "after the moment of judging: not used", "labels_before_their_event": "dated before the event they judge",
        "unripe": "events too young to be judged", "unripe_fraud": "of them known to be fraud already",
        "unlabelled": "old enough and without a label: taken as legitimate", "no_amount": "judged events without an amount: worth 0",
    }  # fmt: skip
    rows = [[words, labels[name]] for name, words in counted.items() if labels.get(name)]
    rows += [["records that could not be used", found["dead_letters"]]] if found["dead_letters"] else []
    rows += [[reason, n] for reason, n in found["notes"].items()]
    said += [charts.table(["what", "how many"], rows), charts.warning(found["bias"])]
    if control:
        said.append(
            f"In the control group: {int(control['fraud']):,} frauds among {int(control['events']):,} events, captured by value {percent(_no(control['capture_by_value']))}, insult rate {percent(_no(control['insult_rate']))}."
        )
    arrival = labels["arrival"]
    said.append(
        charts.line(
            "How soon the truth about fraud comes",
            arrival["age_days"],
            {"labels arrived": [_no(v) for v in arrival["share"]]},
            y_format=percent,
            x_label="days after the event",
            width=520,
        )
    )
    return Section("How far to trust this", *said)


def _against(against: Mapping, found: Mapping, money) -> Section:
    forms = {"net_saving": money, "loss_bps": charts.number}
    rows = []
    for name, d in against["difference"].items():
        form = forms.get(name, percent)
        low, high = (_no(v) for v in d["interval"])
        rows.append(
            [
                name.replace("_", " "),
                form(_no(d["before"])),
                form(_no(d["after"])),
                form(_no(d["change"])),
                f"{form(low)} … {form(high)}" if low == low else "",
            ]
        )
    net = against["difference"]["net_saving"]
    low, high = (_no(v) for v in net["interval"])
    sure = "more than chance would do" if low > 0 or high < 0 else "not more than chance could do"
    said = f"{against['what']} would {'save' if (net['change'] or 0) >= 0 else 'lose'} {money(abs(_no(net['change'])))} ({sure}). {against['changed_actions']['all_events']:,} events would meet another action; {against['new_insults']:,} honest events would be newly bothered and {against['insults_spared']:,} spared."
    kinds = [[kind, k["events"], money(k["value"])] for kind, k in against["kinds"].items() if k["events"]]
    changed = [
        [
            r["id"],
            r["state"],
            *(int(s["fired"]) if s else "" for s in (r["before"], r["after"])),
            *(int(s["fraud"]) if s else "" for s in (r["before"], r["after"])),
        ]
        for r in against["rules"]
        if r["state"] != "same"
    ]
    days = against["days"]
    lines = {side: [d[f"net_saving_{side}"] for d in days] for side in ("before", "after")}
    return Section(
        f"Against: {against['what']}", said,
        charts.table(["metric", "before", "after", "change", "95 % of the change"], rows),
        charts.line("Net saving a day", [date.fromisoformat(d["day"]) for d in days], lines, y_format=money, width=1000),
        charts.table(["events whose meaning changes", "events", "value"], kinds),
        charts.table(["rule", "", "fired before", "after", "fraud before", "after"], changed) if changed else "No rule fires differently.",
        "Every changed event stands in changes.parquet, with its rules before and after.",
    )  # fmt: skip


def _sweep(sweep: Mapping, money) -> Section:
    blocks: list[Any] = []
    best = sweep["best"]
    if best["changes"]:
        rows = [
            [c["rule"], Markup("<code>{}</code>").format(c["threshold"]), c["from"], c["to"], money(c["gain"])]
            for c in best["changes"]
        ]
        held = best["held_out"]
        blocks.append(
            f"Chosen on the days before {sweep['split_day']}, under {sweep['capacity_words']}. On the days since, which the search did not see: net saving {money(_no(held['now']))} now, {money(_no(held['best']))} with these changes."
        )
        blocks.append(charts.table(["rule", "condition", "now", "better", "gain on the days searched"], rows))
    else:
        blocks.append(
            f"No single threshold does better on the days before {sweep['split_day']}, under {sweep['capacity_words']}."
        )
    for c in sweep["curves"][:12]:
        x = [p["threshold"] for p in c["points"]]
        y = [p["net_saving"] for p in c["points"]]
        now = min(c["points"], key=lambda p: abs(p["threshold"] - c["now"]))
        blocks.append(
            charts.curve(
                f"{c['rule']}: {c['condition']}",
                {"net saving": (x, y)},
                x_format=charts.number,
                y_format=money,
                x_label=c["name"],
                marks=[(c["now"], now["net_saving"], "now")],
                width=490,
                height=260,
            )
        )
    skipped = sweep["skipped"]
    if skipped:
        blocks.append("Not swept: " + "; ".join(f"{s['rule']} ({s['why']})" for s in skipped) + ".")
    return Section("Thresholds", *blocks)
