"""A rulebook as a document: every feature and every rule in a sentence and in SQL. `docs/catalogue.md` is the shipped one.

A feature's SQL is the part that differs between features; the frame around it, the same for all, is told once at the top.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from shopward.declare.durations import format_duration
from shopward.declare.types import Feature, Rule
from shopward.expr import to_sql
from shopward.features.sql_meaning import measured

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook

HEAD = """\
# Catalogue of the rulebook

{rules} rules and {features} features. Written by `shopward rules catalogue`.

## How to read the SQL

`events` has a row for every event in arrival order (`seq`), with the time it counts for (`t`, milliseconds). For each key there is

```sql
carrying AS (SELECT *, max(t) OVER (PARTITION BY device ORDER BY seq) AS clock FROM events WHERE device IS NOT NULL)
```

with the feature's key in place of `device`: the events that carry it, and the latest time it was seen so far. `e` is the event that
asks and `x` one that counts. `features` has the value of every feature at every event; `shopward features --sql NAME` prints the whole
statement, ready to run. Lists and lookups are tables of their name with `key`, `valid_from` and `valid_until`.
"""

_WHAT = {
    "count": "How many events",
    "distinct": "How many different `{arg}`",
    "sum": "The sum of `{arg}`",
    "mean": "The mean of `{arg}`",
    "std": "The deviation of `{arg}`",
    "min": "The smallest `{arg}`",
    "max": "The largest `{arg}`",
    "rate": "Events per second",
    "first": "The first `{arg}`",
    "last": "The latest earlier `{arg}`",
    "since_first": "Seconds since the first event",
    "since_last": "Seconds since the latest earlier event",
}
_NEAR = {
    "degree": "Through how many things others are reached {who}",
    "neighbours": "How many others {who}",
    "frauds": "How many with a fraud known by now, of the others {who}",
    "fraud_share": "The share with a fraud known by now, of the others {who}",
    "mean": "The mean of what others last had as `{arg}`, of those {who}",
    "min": "The smallest that others last had as `{arg}`, of those {who}",
    "max": "The largest that others last had as `{arg}`, of those {who}",
}


def catalogue(rulebook: Rulebook) -> str:
    """The document, in Markdown.

    >>> from shopward import Rulebook
    >>> text = catalogue(Rulebook.default())
    >>> text.startswith("# Catalogue of the rulebook"), "### `coupon_ring`" in text
    (True, True)
    """
    read = _readers(rulebook)
    parts = [HEAD.format(rules=len(rulebook.rules), features=len(rulebook.features)), "## Features"]
    for file, features in _by_file(rulebook.features.values()).items():
        parts += [f"### {_title(file)}", _first_comment(rulebook, file)]
        parts += [_feature(f, rulebook, read.get(f.name, ())) for f in features]
    parts += ["## Rules", *(_rule(r) for r in rulebook.rules.values())]
    return "\n\n".join(p.strip("\n") for p in parts if p) + "\n"


def meaning(feature: Feature) -> str:
    """A feature in one sentence.

    >>> meaning(Feature("x", ("device",), "distinct", "account", over=86_400_000))
    'How many different `account` with the same device in the last 24h.'
    """
    return f"{_measured(feature)}{': ' + ' '.join(feature.doc.split()) if feature.doc else ''}."


def _measured(f: Feature) -> str:
    if f.of:
        return f"`{f.of[0]}` divided by `{f.of[1]}`"
    if f.expr:
        return f"`{f.expr.source}`"
    if f.table:
        return f"What `{f.table}` says about the {' and '.join(f.entity)}"
    where = f", where `{' '.join(f.where.source.split())}`" if f.where else ""
    if f.graph:
        who = f"who had the same {' or '.join(f.graph.through)} as the {f.entity[0]}"
        return f"{_NEAR[f.graph.measure].format(arg=f.graph.field or f.graph.feature, who=who)}{_window(f)}{where}"
    key = f" with the same {' and '.join(f.entity)}{_via(f)}"
    if f.a and f.b:
        within = format_duration(f.within or 0)
        return f"`{f.a.source}` {f.measure} `{f.b.source}` within {within}{key}"
    return f"{_WHAT[f.measure].format(arg=f.arg)}{key}{_window(f)}{where}{', this one excluded' if f.before else ''}"


def _via(f: Feature) -> str:
    return f" (as {' or '.join(f.via)})" if f.via else ""


def _window(f: Feature) -> str:
    ago = f" before {format_duration(f.lag)} ago" if f.lag else ""
    return f" in the last {format_duration(f.over)}{ago}" if f.over else f", ever{ago}"


def feature_sql(feature: Feature, rulebook: Rulebook) -> str:
    """The part of a feature's SQL that is its own, on one line."""
    if feature.of:
        return f"{feature.of[0]} / nullif({feature.of[1]}, 0)"
    if feature.expr:
        return to_sql(feature.expr, tables=True)
    if feature.measure == "lookup":
        table, column = (feature.table or "").split(".")
        when = "t >= valid_from AND (valid_until IS NULL OR t < valid_until)"
        return f"SELECT {column} FROM {table} WHERE key = {feature.entity[0]} AND {when}"
    if feature.graph:
        return f"-- none: {feature.why_not_portable}"
    if feature.measure == "list":
        return f"({', '.join(feature.entity)}) IN (SELECT key FROM {feature.table})"
    return " ".join(measured(feature, rulebook.schema).split())


def rule_sql(rule: Rule) -> str:
    """The events on which a rule fires."""
    types = ", ".join(f"'{t}'" for t in rule.on)
    return (
        "SELECT event_id FROM events JOIN features USING (event_id)\n"
        f"WHERE type IN ({types})\n  AND {to_sql(rule.when, tables=True)}"
    )


def _feature(f: Feature, rulebook: Rulebook, readers: Iterable[str]) -> str:
    used = ", ".join(f"`{r}`" for r in readers)
    return f"**`{f.name}`** {meaning(f)} Read by {used or 'no rule'}.\n\n```sql\n{feature_sql(f, rulebook)}\n```"


def _rule(r: Rule) -> str:
    then = f"{r.then}{', adds to `' + '`, `'.join(w.list for w in r.writes) + '`' if r.writes else ''}"
    facts = [f"On {', '.join(r.on)}", f"then **{then}**", f"severity {r.severity}", f"owner {r.owner or 'nobody'}"]
    facts += [f"protects {', '.join(r.packs)}"] if r.packs else []
    facts += [f"against {', '.join(r.techniques)}"] if r.techniques else []
    facts += [f"state {r.state}"] if r.state != "live" else []
    texts = [f"### `{r.id}`", f"{r.title}. {'; '.join(facts)}.", " ".join(r.note.split())]
    return "\n\n".join([*(t for t in texts if t), f"```sql\n{rule_sql(r)}\n```"])


def _readers(rulebook: Rulebook) -> dict[str, list[str]]:
    """feature -> the rules that read it, also through a ratio or an expression."""
    out: dict[str, list[str]] = {}
    for rule in rulebook.rules.values():
        todo, seen = list(rule.when.features), set()
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                out.setdefault(name, []).append(rule.id)
                todo += rulebook.features[name].reads
    return out


def _by_file(features: Iterable[Feature]) -> dict[str, list[Feature]]:
    out: dict[str, list[Feature]] = {}
    for f in features:
        out.setdefault(f.file, []).append(f)
    return out


def _title(file: str) -> str:
    return file.rpartition("/")[2].removesuffix(".yaml").replace("_", " ").capitalize()


def _first_comment(rulebook: Rulebook, file: str) -> str:
    """What the file says about itself."""
    lines = []
    for line in rulebook.files.get(file, "").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)
