"""schema.yaml: which events there are, their fields and types, who is who, and how outside columns map to them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from shopward.declare.form import Form, check_name, is_name, named
from shopward.declare.tree import At, Mapping, Scalar, Sequence_, data
from shopward.declare.types import Field, LabelColumn, Schema
from shopward.errors import Problem
from shopward.event import LABEL_FIELDS
from shopward.expr import Expr, Known, Scope, walk
from shopward.expr.nodes import Compare, Const, In, Name, Node
from shopward.expr.place import suggest

TYPES = ("string", "number", "bool", "time", "list", "money")
NORMALISE = ("lower", "e164", "ip64")
RESERVED = ("event_id", "ts", "type")

IMPLICIT = {
    "event_id": Field("event_id", "string", doc="the event's id, as given"),
    "ts": Field("ts", "time", doc="when it happened"),
    "type": Field("type", "string", doc="the event type"),
    "label": Field("label", "decimal", doc="on label events: 1 fraud, 0 not"),
    "label_event": Field("label_event", "string", doc="on label events: the event_id judged"),
    "label_source": Field("label_source", "string", doc="on label events: who says so"),
}

_KEYS = ("types", "fields", "money", "currency", "mapping", "constants", "order", "label", "doc")
_FIELD_KEYS = ("type", "entity", "pii", "normalise", "derive", "signed", "doc")


def field_of(schema: Schema, name: str) -> Field:
    """The declared or implicit field of that name.

    >>> field_of(Schema(("label",), {}), "label").digits
    0
    """
    return schema.fields.get(name) or IMPLICIT[name]


def known_fields(schema: Schema) -> dict[str, Known]:
    """What expressions see of the fields."""
    every = {**IMPLICIT, **schema.fields}
    return {name: Known(f.expr_type, f.pii, f.entity) for name, f in every.items()}


def raw_scope(schema: Schema, features: dict[str, Any] | None = None) -> Scope:
    """What a `where` may read: the aggregated event's own fields, nothing else."""
    why = "`where` reads only the event's own fields"
    hidden = dict.fromkeys(features or (), "it is a feature; " + why) | dict.fromkeys(("score", "risk", "listed"), why)
    return Scope(fields=known_fields(schema), types=schema.types, hidden=hidden, tables=False)


def read_schema(node: At | None, problems: list[Problem]) -> Schema:
    """The Schema of a parsed schema.yaml; problems are collected and what can be read is returned."""
    if not isinstance(node, Mapping):
        what = "schema.yaml must name `types` and `fields`"
        problems.append(node.problem(what) if node else Problem("schema.yaml", 1, 1, what))
        return Schema(("label",), {})
    form = Form(node, "the schema", problems, _KEYS)
    form.required("types", "fields")
    fields, derived = _fields(form)
    types, observed = _types(form)
    schema = Schema(types, fields, observed=observed)
    schema = replace(schema, fields=_derive(schema, derived, problems))
    return replace(
        schema,
        money=_field_name(form, "money", schema, ("money",)),
        currency=_field_name(form, "currency", schema, ("string",)),
        mapping=_mapping(form, schema),
        constants=_constants(form, schema),
        order=_order(form, schema),
        label=_label(form, schema),
    )


def _types(form: Form) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The event types, and those that are only observed: `[login, {http_request: {decide: false}}]`."""
    seen: set[str] = set()
    observed = []
    words = _named_types(form)
    for word, spec in words:
        check_name(word, form.problems)
        if word.text in seen:
            form.wrong(word, f"event type `{word.text}` stands here twice")
        seen.add(word.text)
        if spec is not None and not _decides(word, spec, form):
            observed.append(word.text)
    names = [name for name in seen if name != "label" and is_name(name)]
    if names and set(names) <= set(observed):
        form.wrong("types", "no event type is decided on", "`decide: false` is for what only moves features")
    order = [word.text for word, _ in words if word.text in names]
    return ("label", *dict.fromkeys(order)), tuple(observed)


def _named_types(form: Form) -> list[tuple[Scalar, At | None]]:
    node = form.get("types")
    if isinstance(node, Mapping):
        return [(node.keys[name], spec) for name, spec in node.items.items()]
    if not isinstance(node, Sequence_) or all(isinstance(item, Scalar) for item in node.items):
        return [(word, None) for word in form.words("types")]
    found: list[tuple[Scalar, At | None]] = []
    for item in node.items:
        if isinstance(item, Mapping):
            found += [(item.keys[name], spec) for name, spec in item.items.items()]
        elif isinstance(item, Scalar):
            found.append((item, None))
        else:
            form.wrong(item, "an event type is a word", "or a word with more to say: `http_request: {decide: false}`")
    return found


def _decides(word: Scalar, spec: At, form: Form) -> bool:
    if isinstance(spec, Scalar) and spec.value is None:
        return True
    if not isinstance(spec, Mapping):
        form.wrong(spec, f"event type `{word.text}` must be a mapping", "{decide: false}")
        return True
    return Form(spec, f"event type `{word.text}`", form.problems, ("decide", "doc")).flag("decide", True)


def _fields(form: Form) -> tuple[dict[str, Field], dict[str, Form]]:
    """The fields, and the forms of those that are derived (their expressions need all fields known first)."""
    node = form.get("fields")
    fields, derived = {}, {}
    for key, spec in named(node, "types", form.problems) if node else []:
        if key.text in IMPLICIT:
            form.wrong(
                key,
                f"`{key.text}` is always there",
                "remove this line" if key.text in RESERVED else "label events carry it",
            )
            continue
        own = Form(spec, f"field `{key.text}`", form.problems, _FIELD_KEYS) if isinstance(spec, Mapping) else None
        fields[key.text] = _field(key, own, form.problems) if own else _short(key, spec, form)
        if own and own.has("derive"):
            derived[key.text] = own
    return fields, derived


def _short(key: Scalar, spec: At, form: Form) -> Field:
    if not isinstance(spec, Scalar):
        form.wrong(spec, f"field `{key.text}` must have a type", "for example `string`")
        return Field(key.text, "string")
    return Field(key.text, *_type(spec, form))


def _type(node: Scalar, form: Form) -> tuple[Any, int]:
    decimal = re.fullmatch(r"decimal\(([0-9])\)", node.text)
    if decimal:
        return "decimal", int(decimal[1])
    if node.text not in TYPES:
        digits = "decimal(0) to decimal(9)" if node.text.startswith("decimal") else ""
        form.wrong(
            node, f"unknown type `{node.text}`", digits or suggest(node.text, (*TYPES, "decimal(2)"), "the type")
        )
        return "string", 0
    return node.text, 2 if node.text == "money" else 0


def _field(key: Scalar, form: Form, problems: list[Problem]) -> Field:
    node = form.get("type")
    kind, digits = _type(node, form) if isinstance(node, Scalar) else ("string", 0)
    if not isinstance(node, Scalar):
        form.wrong(key, f"field `{key.text}` needs `type`")
    entity = _kind(form, kind)
    pii, signed = form.flag("pii"), form.flag("signed")
    if pii and kind != "string":
        form.wrong("pii", f"only text fields can be pii, `{key.text}` is a {kind}")
    if signed and kind != "money":
        form.wrong("signed", "`signed` is for money")
    normalise = form.choice("normalise", NORMALISE, "", "normalisation") or None
    if normalise and kind != "string":
        form.wrong("normalise", f"only text fields are normalised, `{key.text}` is a {kind}")
    return Field(key.text, kind, digits, entity, pii, signed, normalise, None, form.text("doc"))  # type: ignore[arg-type]


def _kind(form: Form, kind: str) -> str | None:
    node = form.get("entity")
    if node is None:
        return None
    if not isinstance(node, Scalar):
        return form.wrong(node, "`entity` must be one kind", "for example `account`")
    check_name(node, form.problems)
    if kind not in ("string", "number"):
        form.wrong(node, f"only text and number fields identify an entity, this is {kind}")
    return node.text


def _derive(schema: Schema, derived: dict[str, Form], problems: list[Problem]) -> dict[str, Field]:
    """Derived fields read raw ones only, never each other, so their order does not matter."""
    why = "it is derived itself; a derived field reads only raw ones"
    hidden = dict.fromkeys(derived, why) | dict.fromkeys(
        ("listed", "score", "risk"), "derived fields read only the event"
    )
    hidden |= dict.fromkeys(LABEL_FIELDS, "it belongs to label events")
    scope = Scope(fields=known_fields(schema), types=schema.types, hidden=hidden, tables=False, personal=True)
    fields = dict(schema.fields)
    for name, form in derived.items():
        expr = form.expr("derive", scope, want=fields[name].expr_type)
        fields[name] = replace(fields[name], derive=expr)
    return fields


def _field_name(form: Form, key: str, schema: Schema, types: tuple[str, ...]) -> str | None:
    node = form.get(key)
    if node is None:
        return None
    name = form.text(key)
    found = schema.fields.get(name)
    if found is None:
        return form.wrong(
            node,
            f"unknown field `{name}`",
            suggest(name, [f.name for f in schema.fields.values() if f.type in types], key),
        )
    if found.type not in types:
        return form.wrong(node, f"`{key}` must be a {types[0]} field, `{name}` is a {found.type}")
    return name


def _mapping(form: Form, schema: Schema) -> dict[str, str]:
    inner = form.mapping("mapping")
    targets = [*RESERVED, *schema.fields]
    out: dict[str, str] = {}
    for column, node in (inner.node.items if inner else {}).items():
        name = node.text if isinstance(node, Scalar) else ""
        if name not in targets:
            form.wrong(node, f"unknown field `{name}`", suggest(name, targets))
        elif schema.fields.get(name) and schema.fields[name].derive:
            form.wrong(node, f"`{name}` is derived, no column can be mapped to it")
        elif name in out.values():
            form.wrong(node, f"two columns are mapped to `{name}`")
        out[column] = name
    return out


def _constants(form: Form, schema: Schema) -> dict[str, Any]:
    inner = form.mapping("constants")
    out = {}
    for name, node in (inner.node.items if inner else {}).items():
        value = data(node)
        if name != "type" and name not in schema.fields:
            form.wrong(inner.node.keys[name], f"unknown field `{name}`", suggest(name, ["type", *schema.fields]))  # type: ignore[union-attr]
        elif name == "type" and value not in schema.types:
            form.wrong(node, f"unknown event type `{value}`", suggest(str(value), schema.types, "type"))
        elif isinstance(value, dict):
            form.wrong(node, f"`{name}` must be one value")
        out[name] = value
    return out


def _order(form: Form, schema: Schema) -> tuple[str, ...]:
    return form.known_words("order", "field", ["ts", "event_id", "seq", *schema.fields])


def _label(form: Form, schema: Schema) -> LabelColumn | None:
    inner = form.mapping("label")
    if inner is None:
        return None
    inner.only(("field", "known_after"))
    if not inner.required("field", "known_after"):
        return None
    column, after = inner.text("field"), inner.duration("known_after", least=0)
    if column in schema.fields:
        inner.wrong("field", f"the label column `{column}` cannot also be a field", "it is taken out of the event")
    return LabelColumn(column, after or 0)


def speaks_of_labels(expr: Expr | None) -> bool:
    """Whether an expression reads a label field or compares `type` with "label"."""
    return expr is not None and any(map(_about_labels, walk(expr.root)))


def _about_labels(node: Node) -> bool:
    match node:
        case Name(name=name):
            return name in LABEL_FIELDS
        case Compare(a=a, b=b):
            return any(isinstance(x, Name) and x.name == "type" for x in (a, b)) and any(
                isinstance(x, Const) and x.value == "label" for x in (a, b)
            )
        case In(x=Name(name="type"), items=items):
            return any(i.value == "label" for i in items)
    return False
