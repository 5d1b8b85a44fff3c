"""features/*.yaml: one line per feature. Read in two passes: first what each one is, then expressions, which may read other features."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from shopward.declare.form import Form, named
from shopward.declare.schema import field_of, known_fields, raw_scope, speaks_of_labels
from shopward.declare.tree import At, Mapping, Scalar
from shopward.declare.types import Feature, Field, ListSpec, Lookup, ModelUse, Schema, Shared
from shopward.errors import Problem
from shopward.event import LABEL_FIELDS
from shopward.expr import FUNCTIONS, Expr, Scope, Type, names_in
from shopward.expr.place import suggest
from shopward.expr.sql import why_no_sql
from shopward.graph import HUB

NO_FIELD = ("count", "since_first", "since_last", "rate")
OVER_FIELD = ("sum", "mean", "std", "min", "max", "distinct", "first", "last")
NEIGHBOURS = ("degree", "neighbours", "frauds", "fraud_share")
OVER_NEIGHBOURS = ("mean", "min", "max")
MOST_ON_A_HUB = 1000  # an event's work grows with its square
EVER = ("first", "since_first", "count", "sum")
_MEASURE = re.compile(r"([a-z_]+)(?:\(\s*([A-Za-z0-9_]*)\s*\))?")
_SUMMED = ("money", "decimal", "bool")
_KINDS = {
    "measure": ("entity", "via", "measure", "over", "lag", "where", "before"),
    "sequence": ("entity", "via", "sequence"),
    "ratio": ("ratio",),
    "expr": ("expr",),
    "list": ("list", "entity"),
    "lookup": ("lookup", "entity"),
    "graph": ("graph", "entity", "measure", "over", "where", "hub"),
    "model": ("model", "entity"),
}
_INSTEAD = "use `measure: since_last` with `where: label == 1`, and compare"

Types = dict[str, Type | None]


@dataclass(slots=True)
class Draft:
    """A feature whose expressions are not checked yet."""

    key: Scalar
    form: Form
    kind: str
    feature: Feature | None = None
    reads: tuple[str, ...] = ()  # other features, for ratio and expr


@dataclass(slots=True)
class Tables:
    """What features and rules read besides events."""

    schema: Schema
    lists: dict[str, ListSpec] = field(default_factory=dict)
    lookups: dict[str, Lookup] = field(default_factory=dict)
    models: dict[str, ModelUse] = field(default_factory=dict)

    def lookup_functions(self) -> dict[str, tuple[str, str, Type, Type]]:
        """`bins_country` -> (table, column, type of the key, type of the value)"""
        every = [(t, c, kind) for t in self.lookups.values() for c, kind in t.columns.items()]
        return {f"{t.name}_{c}": (t.name, c, t.key, kind) for t, c, kind in every}

    def scope(self, features: Types, builtins: tuple[str, ...] = ()) -> Scope:
        """What rules and `expr` features read; labels reach them through features only."""
        why = "only label events carry it: aggregate it in a feature, for example mean(label)"
        return Scope(
            fields=known_fields(self.schema),
            hidden=dict.fromkeys(LABEL_FIELDS, why),
            features=features,
            lists={name: spec.entity for name, spec in self.lists.items()},
            lookups=self.lookup_functions(),
            builtins=frozenset(builtins),
            models=frozenset(self.models) if builtins else None,
            types=self.schema.types,
        )


def read_features(files: list[At], tables: Tables, problems: list[Problem]) -> tuple[dict[str, Feature], Types]:
    """The features in declared order, and the types of all declared names (None for wrong ones: one error must not cause ten)."""
    drafts = _drafts(files, tables.schema, problems)
    for d in drafts.values():
        _first_pass(d, tables, drafts)
    types: Types = {name: d.feature.type if d.feature else None for name, d in drafts.items()}
    for name in _in_order(drafts, problems):
        d = drafts[name]
        d.feature = _second_pass(d, tables, types, drafts)
        types[name] = d.feature.type if d.feature else None
    done = {name: d.feature for name, d in drafts.items() if d.feature}
    return done, types


def _drafts(files: list[At], schema: Schema, problems: list[Problem]) -> dict[str, Draft]:
    drafts: dict[str, Draft] = {}
    for file in files:
        for key, spec in named(file, "features", problems):
            taken = _taken(key.text, schema, drafts)
            if taken:
                problems.append(key.problem(f"`{key.text}` is already {taken[0]}", taken[1]))
            elif not isinstance(spec, Mapping):
                problems.append(
                    spec.problem(f"feature `{key.text}` must be a mapping", "{entity: ..., measure: count, over: 24h}")
                )
            else:
                form = Form(spec, f"feature `{key.text}`", problems)
                drafts[key.text] = Draft(key, form, _kind(form))
    return drafts


def _taken(name: str, schema: Schema, drafts: dict[str, Draft]) -> tuple[str, str] | None:
    if name in drafts:
        first = drafts[name].key
        return "a feature", f"declared in {first.source.file}:{first.line}"
    if name in known_fields(schema):
        return "a field", "features and fields share one set of names"
    return ("a function", "choose another name") if name in FUNCTIONS else None


def _kind(form: Form) -> str:
    """Which sort of feature it is; its other keys must fit."""
    given = [k for k in _KINDS if k in form.node.items]
    graph = "graph" in given
    kind = "graph" if graph else given[0] if given else ""
    if not kind:
        form.wrong(form.node, f"{form.what} needs one of: measure, sequence, ratio, expr, list, lookup, graph")
        return ""
    if len(given) > 1 and not graph:
        form.wrong(form.node.keys[given[1]], f"{form.what} has both `{given[0]}` and `{given[1]}`", "one of them")
        return ""
    form.only((*_KINDS[kind], "doc"))
    if kind == "model":
        form.wrong(form.node.keys[kind], f"{kind} features are not available yet")
        return ""
    return kind


# --- first pass: everything but expressions that read features --------------------------------------------------------------------


def _first_pass(d: Draft, tables: Tables, drafts: dict[str, Draft]) -> None:
    base = Feature(d.key.text, (), d.kind, doc=d.form.text("doc"), file=d.key.source.file, line=d.key.line)
    if d.kind == "measure":
        d.feature = _measured(d, base, tables.schema, drafts)
    elif d.kind == "sequence":
        d.feature = _sequence(d, base, tables.schema, drafts)
    elif d.kind == "list":
        d.feature = _listed(d, base, tables)
    elif d.kind == "lookup":
        d.feature = _looked_up(d, base, tables)
    elif d.kind == "ratio":
        d.reads = d.form.known_words("ratio", "feature", drafts)
        if d.form.has("ratio") and len(d.reads) != 2:
            d.form.wrong("ratio", "`ratio` takes two features", "[part, whole]")
    elif d.kind == "graph":
        node = d.form.get("measure")
        asked = _MEASURE.fullmatch(node.text) if isinstance(node, Scalar) else None
        d.reads = (asked[2],) if asked and asked[2] in drafts else ()
    elif d.kind == "expr":
        node = d.form.get("expr")
        found = names_in(node.text) if isinstance(node, Scalar) else set()
        d.reads = tuple(sorted(n for n in found if n in drafts))


def _measured(d: Draft, base: Feature, schema: Schema, drafts: dict[str, Draft]) -> Feature | None:
    form, before = d.form, len(d.form.problems)
    entity, via = _entity(form, schema), _via(form, schema)
    measure, arg = _measure(form, schema)
    over = _over(form, measure)
    lag = form.duration("lag", 0, least=0) or 0
    if lag and form.has("over") and over is None and form.text("over") == "ever":
        form.wrong("lag", "`lag` needs a window", "give `over` a duration")
    where = form.expr("where", raw_scope(schema, drafts), "bool")
    flag = form.flag("before")
    if len(form.problems) > before:
        return None
    digits, name = (arg.digits, arg.name) if arg else (0, None)
    kind: Type = arg.expr_type if arg and measure in ("first", "last") else "number"
    return replace(
        base,
        entity=entity,
        via=via,
        measure=measure,
        arg=name,
        over=over,
        lag=lag,
        where=where,
        before=flag,
        digits=digits,
        type=kind,
    )


def _entity(form: Form, schema: Schema) -> tuple[str, ...]:
    """The role fields of the key."""
    if not form.required("entity"):
        return ()
    roles = schema.roles
    out = tuple(_role(form, w, roles, schema) for w in form.words("entity"))
    if len(set(out)) < len(out):
        form.wrong("entity", "a field stands here twice")
    if len(out) > 4:
        form.wrong("entity", "a key has at most four fields")
    return out


def _role(form: Form, word: Scalar, roles: dict[str, str], schema: Schema) -> str:
    if word.text in roles:
        return word.text
    of_kind = [r for r, kind in roles.items() if kind == word.text]
    if word.text in schema.fields:
        form.wrong(
            word,
            f"field `{word.text}` identifies no entity",
            f"give it one in schema.yaml: {{type: string, entity: {word.text}}}",
        )
    elif of_kind:
        form.wrong(
            word, f"`{word.text}` is a kind; a feature names a field", f"fields of that kind: {', '.join(of_kind)}"
        )
    else:
        form.wrong(word, f"unknown role `{word.text}`", suggest(word.text, roles, "the role"))
    return word.text


def _via(form: Form, schema: Schema) -> tuple[str, ...]:
    if not form.has("via"):
        return ()
    roles, entity = schema.roles, form.words("entity")
    out = tuple(_role(form, w, roles, schema) for w in form.words("via"))
    if len(entity) != 1:
        form.wrong("via", "`via` is for one entity, not for a pair")
    elif entity[0].text in roles:
        kind = roles[entity[0].text]
        for w in form.words("via"):
            if roles.get(w.text, kind) != kind:
                form.wrong(w, f"`{w.text}` is of kind {roles[w.text]}, `{entity[0].text}` of kind {kind}")
        if out and entity[0].text not in out:
            form.wrong("via", f"`via` must name `{entity[0].text}` too", f"[{entity[0].text}, {', '.join(out)}]")
    return out


def _measure(form: Form, schema: Schema) -> tuple[str, Field | None]:
    node = form.get("measure")
    if not isinstance(node, Scalar):
        return form.wrong(form.node, f"{form.what} needs `measure`") or "count", None
    found = _MEASURE.fullmatch(node.text)
    name, arg = (found[1], found[2]) if found else (node.text, None)
    if name not in NO_FIELD and name not in OVER_FIELD:
        form.wrong(node, f"unknown measure `{name}`", suggest(name, (*NO_FIELD, *OVER_FIELD)) or _measures())
        return "count", None
    if name in NO_FIELD:
        if arg is not None:
            form.wrong(node, f"`{name}` takes no field", f"write `{name}`, and `where:` to choose events")
        return name, None
    if not arg:
        form.wrong(
            node, f"`{name}` needs a field", f"for example `{name}({'amount' if name != 'distinct' else 'account'})`"
        )
        return name, None
    return name, _argument(form, node, name, arg, schema)


def _measures() -> str:
    return f"one of: {', '.join(NO_FIELD)}, {', '.join(f'{m}(field)' for m in OVER_FIELD)}"


def _argument(form: Form, node: Scalar, measure: str, name: str, schema: Schema) -> Field | None:
    if name not in schema.fields and name != "label":
        return form.wrong(node, f"unknown field `{name}`", suggest(name, [*schema.fields, "label"]))
    f = field_of(schema, name)
    wrong = _unfit(measure, f)
    return form.wrong(node, *wrong) if wrong else f


def _unfit(measure: str, f: Field) -> tuple[str, str] | None:
    """Why a measure cannot take a field."""
    if measure in ("sum", "mean", "std") and f.type not in _SUMMED:
        declare = f"declare it as decimal(n) in schema.yaml: {f.name}: decimal(2)"
        hint = declare if f.type == "number" else "it takes money, decimal(n) and true/false"
        what = "an undeclared fraction" if f.type == "number" else f"a {f.type}"
        return f"`{measure}` cannot add up `{f.name}`: it is {what}", hint
    if measure in ("min", "max") and f.type not in ("money", "decimal", "number"):
        return f"`{measure}` needs numbers, `{f.name}` is a {f.type}", ""
    if measure in ("first", "last") and f.type in ("list", "time"):
        return (
            f"`{measure}` cannot keep a {f.type}",
            "since_first and since_last tell times" if f.type == "time" else "",
        )
    if measure in ("first", "last") and f.pii:
        return (
            f"`{f.name}` is personal data (pii): `{measure}` would show it",
            "count it with distinct(...), or `derive` a field",
        )
    return None


def _over(form: Form, measure: str) -> int | None:
    if not form.required("over"):
        return None
    if form.text("over") != "ever":
        return form.duration("over")
    if measure not in EVER:
        form.wrong("over", f"`over: ever` is only for {', '.join(EVER)}", f"give `{measure}` a window, for example 30d")
    return None


def _sequence(d: Draft, base: Feature, schema: Schema, drafts: dict[str, Draft]) -> Feature | None:
    form, before = d.form, len(d.form.problems)
    entity, via = _entity(form, schema), _via(form, schema)
    inner = form.mapping("sequence", f"the sequence of `{d.key.text}`")
    if inner is None:
        return None
    inner.only(("first", "then", "without", "within"))
    inner.required("first", "within")
    if inner.has("then") == inner.has("without"):
        inner.wrong(inner.node, f"{inner.what} needs one of `then` and `without`")
    second = "then" if inner.has("then") else "without"
    scope = raw_scope(schema, drafts)
    a, b = inner.expr("first", scope, "bool"), inner.expr(second, scope, "bool")
    within = inner.duration("within")
    for part in ("first", second) if len(form.problems) == before else ():
        if speaks_of_labels(a if part == "first" else b):
            inner.wrong(part, "a sequence is made of events, not of labels", _INSTEAD)
    if len(form.problems) > before:
        return None
    return replace(base, entity=entity, via=via, measure=second, a=a, b=b, within=within, type="bool")


def _plain_key(form: Form, schema: Schema) -> tuple[str, ...]:
    """The fields whose values are looked up; any text or number field will do."""
    form.required("entity")
    words = form.words("entity")
    fields = [n for n, f in schema.fields.items() if f.type in ("string", "number")]
    for w in words:
        if w.text not in fields:
            form.wrong(w, f"unknown field `{w.text}`", suggest(w.text, fields))
    return tuple(w.text for w in words)


def _listed(d: Draft, base: Feature, tables: Tables) -> Feature | None:
    form, before = d.form, len(d.form.problems)
    key, name = _plain_key(form, tables.schema), form.text("list")
    spec = tables.lists.get(name)
    if spec is None:
        return form.wrong("list", f"unknown list `{name}`", suggest(name, tables.lists, "the list"))
    if len(form.problems) == before:
        list_key_fits(form, "entity", spec, key, tables.schema)
    why = "it reads a list, which rules and people change"
    done = replace(base, entity=key, table=name, type="bool", portable=False, why_not_portable=why)
    return done if len(form.problems) == before else None


def list_key_fits(form: Form, at: str, spec: ListSpec, key: tuple[str, ...], schema: Schema) -> None:
    """The key's fields must be of the kinds that the list holds."""
    kinds = [schema.fields[k].entity for k in key if k in schema.fields]
    if spec.entity and len(kinds) != len(spec.entity):
        form.wrong(at, f"the keys of list `{spec.name}` are {' and '.join(spec.entity)}, here are {len(kinds)}")
    elif spec.entity:
        for k, kind, wanted in zip(key, kinds, spec.entity, strict=True):
            if kind and kind != wanted:
                form.wrong(at, f"the keys of list `{spec.name}` are of kind {wanted}, `{k}` is of kind {kind}")


def _looked_up(d: Draft, base: Feature, tables: Tables) -> Feature | None:
    form, before = d.form, len(d.form.problems)
    key, text = _plain_key(form, tables.schema), form.text("lookup")
    name, _, column = text.partition(".")
    table = tables.lookups.get(name)
    if table is None:
        return form.wrong("lookup", f"unknown lookup `{name}`", suggest(name, tables.lookups, "the lookup"))
    if column not in table.columns:
        return form.wrong(
            "lookup", f"lookup `{name}` has no column `{column}`", suggest(column, table.columns, "a column")
        )
    kind = table.columns[column]
    for part in key:
        if part in tables.schema.fields and tables.schema.fields[part].pii:
            form.wrong(
                "entity", f"`{part}` is personal data (pii): no table holds its pseudonym", "`derive` a field from it"
            )
    if len(key) != 1 or (key[0] in tables.schema.fields and tables.schema.fields[key[0]].expr_type != table.key):
        form.wrong("entity", f"the key of `{name}` is one {table.key} field")
    why = "it reads a lookup"
    done = replace(base, entity=key, table=f"{name}.{column}", type=kind, portable=False, why_not_portable=why)
    return done if len(form.problems) == before else None


# --- second pass: features that read features -------------------------------------------------------------------------------------


def _in_order(drafts: dict[str, Draft], problems: list[Problem]) -> list[str]:
    """Every ratio and expr after what it reads; a circle is a problem, told once."""
    done: set[str] = set()
    out: list[str] = []
    for start in drafts:
        path = [] if start in done else [(start, iter(drafts[start].reads))]
        while path:
            name, reads = path[-1]
            other = next(reads, None)
            if other is None:
                path.pop()
                done.add(name)
                out.append(name)
            elif other in (names := [n for n, _ in path]):
                _circle(names[names.index(other) :], drafts, problems)
            elif other in drafts and other not in done:
                path.append((other, iter(drafts[other].reads)))
    return [n for n in out if drafts[n].kind in ("ratio", "expr", "graph")]


def _circle(names: list[str], drafts: dict[str, Draft], problems: list[Problem]) -> None:
    d = drafts[names[0]]
    way = " -> ".join(f"`{n}`" for n in [*names, names[0]])
    problems.append(d.key.problem(f"feature `{names[0]}` reads itself", way if len(names) > 1 else ""))


def _second_pass(d: Draft, tables: Tables, types: Types, drafts: dict[str, Draft]) -> Feature | None:
    base = Feature(d.key.text, (), d.kind, doc=d.form.text("doc"), file=d.key.source.file, line=d.key.line)
    if d.kind == "ratio":
        return _ratio(d, base, types, drafts)
    if d.kind == "graph":
        return _neighbourly(d, base, tables.schema, drafts)
    expr = d.form.expr("expr", tables.scope(types), ("number", "bool"))
    if expr is None:
        d.form.required("expr")
        return None
    why = _why_not_portable(expr, drafts)
    return replace(base, expr=expr, type=expr.type, portable=not why, why_not_portable=why)


def _ratio(d: Draft, base: Feature, types: Types, drafts: dict[str, Draft]) -> Feature | None:
    if len(d.reads) != 2 or any(r not in drafts for r in d.reads):
        return None
    for word in d.form.words("ratio"):
        if types[word.text] is None:
            return None
        if types[word.text] not in ("number", "bool"):
            return d.form.wrong(word, f"`{word.text}` is a {types[word.text]}, a ratio needs numbers")
    why = _inherited(d.reads, drafts)
    return replace(base, of=(d.reads[0], d.reads[1]), portable=not why, why_not_portable=why)


def _neighbourly(d: Draft, base: Feature, schema: Schema, drafts: dict[str, Draft]) -> Feature | None:
    """What is told of the entities that share something with this one."""
    form, before = d.form, len(d.form.problems)
    form.required("graph", "over")
    entity, roles = _entity(form, schema), schema.roles
    through = tuple(_role(form, w, roles, schema) for w in form.words("graph"))
    if len(entity) > 1:
        form.wrong("entity", "a graph has one entity", "name what they share in `graph`")
    if len(set(through)) < len(through) or set(entity) & set(through):
        form.wrong("graph", "a field stands here twice, or is the entity itself")
    measure, name, feature = _of_neighbours(form, schema, drafts)
    over = form.duration("over")
    hub = form.number("hub", HUB, 2, MOST_ON_A_HUB)
    where = form.expr("where", raw_scope(schema, drafts), "bool")
    if where is not None and speaks_of_labels(where):
        form.wrong("where", "ties are made of events, not of labels", "`frauds` and `fraud_share` read labels")
    if len(form.problems) > before:
        return None
    graph = Shared(through, measure, int(hub), name, feature)
    why = "it walks the graph of who shares what, which is whole in one engine only"
    return replace(base, entity=entity, over=over, where=where, graph=graph, portable=False, why_not_portable=why)


def _of_neighbours(form: Form, schema: Schema, drafts: dict[str, Draft]) -> tuple[str, str | None, str | None]:
    """(measure, the field it is of, the feature it is of)"""
    node = form.get("measure")
    found = _MEASURE.fullmatch(node.text) if isinstance(node, Scalar) else None
    if not isinstance(node, Scalar) or not found or found[1] not in (*NEIGHBOURS, *OVER_NEIGHBOURS):
        every = f"one of: {', '.join(NEIGHBOURS)}, {', '.join(f'{m}(field or feature)' for m in OVER_NEIGHBOURS)}"
        if isinstance(node, Scalar):
            form.wrong(node, f"unknown measure `{node.text}` of a graph", every)
        else:
            form.wrong(form.node, f"{form.what} needs `measure`", every)
        return "", None, None
    measure, name = found[1], found[2]
    if measure in NEIGHBOURS:
        if name is not None:
            form.wrong(node, f"`{measure}` takes no field", f"write `{measure}`")
        return measure, None, None
    if name in drafts:
        other = drafts[name]
        if other.kind != "measure" or (other.feature and other.feature.type != "number"):
            form.wrong(node, f"`{measure}` cannot read `{name}` of neighbours", "a number field, or a windowed feature")
        return measure, None, name
    if not name or name not in schema.fields:
        form.wrong(node, f"unknown field `{name or ''}`", suggest(name or "", [*schema.fields, *drafts]))
    elif schema.fields[name].type not in ("money", "decimal", "number", "bool"):
        form.wrong(node, f"`{measure}` needs numbers, `{name}` is a {schema.fields[name].type}")
    return measure, name, None


def _why_not_portable(expr: Expr, drafts: dict[str, Draft]) -> str:
    if expr.lists:
        return f"it reads the list `{expr.lists[0]}`"
    if expr.lookups:
        return f"it reads the lookup `{expr.lookups[0]}`"
    ours = [f for f in expr.functions if FUNCTIONS[f].sql is None]
    return why_no_sql(ours[0]) if ours else _inherited(expr.features, drafts)


def _inherited(reads: tuple[str, ...], drafts: dict[str, Draft]) -> str:
    for name in reads:
        other: Any = drafts[name].feature
        if other and not other.portable:
            return f"it reads `{name}`, and {other.why_not_portable}"
    return ""
