"""rules/*.yaml: one rule per file: when it fires, what happens then, who owns it, and the tests that prove it."""

from __future__ import annotations

from collections.abc import Mapping as Mapping_
from typing import Any

from shopward.declare.features import Tables, Types, list_key_fits
from shopward.declare.form import Form, check_name
from shopward.declare.schema import RESERVED
from shopward.declare.tree import At, Mapping, Scalar, data
from shopward.declare.types import ACTIONS, ListWrite, ModelUse, Rule, RuleTest
from shopward.errors import Problem
from shopward.event import LABEL_FIELDS
from shopward.expr.nodes import MODEL, Expr
from shopward.expr.place import suggest

SEVERITIES = ("low", "medium", "high", "critical")
STATES = ("draft", "shadow", "live")
PACKS = ("buyer", "seller", "creator")
_KEYS = (
    "id",
    "title",
    "on",
    "when",
    "then",
    "severity",
    "owner",
    "techniques",
    "pack",
    "tests",
    "note",
    "triage",
    "known_gaps",
    "state",
    "percent",
    "mandatory",
    "override",
)


def read_rule(node: At, tables: Tables, features: Types, problems: list[Problem]) -> Rule | None:
    """The Rule of one file, or None when something in it is wrong (then `problems` says what)."""
    if not isinstance(node, Mapping):
        problems.append(node.problem("a rule must be a mapping"))
        return None
    before = len(problems)
    form = Form(node, "a rule", problems, _KEYS)
    form.required("id", "title", "on", "when", "then")
    if isinstance(form.get("id"), Scalar):
        check_name(form.get("id"), problems)  # type: ignore[arg-type]
    on = _on(form, tables)
    when = form.expr("when", tables.scope(features, ("score", "risk")), "bool")
    action, writes, label = _then(form, tables)
    flags = _flags(form, action)
    rest = {
        "severity": form.choice("severity", SEVERITIES, "medium"),
        "state": form.choice("state", STATES, "live"),
        "percent": form.number("percent", 100.0, 0, 100),
        "techniques": _techniques(form),
        "packs": form.known_words("pack", "pack", PACKS) if form.has("pack") else (),
        "tests": _tests(form, tables),
    }
    if when is not None and rest["state"] == "live":
        _no_shadow(form, when, tables)
    texts = {key: form.text(key) for key in ("id", "title", "owner", "note", "triage", "known_gaps")}
    if when is None or len(problems) > before:
        return None
    place: dict[str, Any] = {"file": node.source.file, "line": form.node.keys["when"].line}
    return Rule(on=on, when=when, then=action, writes=writes, label=label, **texts, **rest, **flags, **place)  # type: ignore[arg-type]


def _no_shadow(form: Form, when: Expr, tables: Tables) -> None:
    """What only watches must not decide."""
    for model in (name.removeprefix(MODEL) for name in when.builtins if name.startswith(MODEL)):
        if tables.models[model].state == "shadow":
            hint = f"make the rule `state: shadow`, or `{model}` live in {tables.models[model].file}"
            form.wrong("when", f"a live rule cannot read `{model}`, which is in shadow", hint)


def unscored(rule: Rule, node: At, models: Mapping_[str, ModelUse]) -> Problem | None:
    """A rule that waits for a score that nobody gives; said as advice."""
    read = [name for name in rule.when.builtins if not name.startswith(MODEL)]
    champions = [m for m in models.values() if m.state == "champion"]
    if not read or rule.state == "draft" or not isinstance(node, Mapping):
        return None
    if any(not m.on or set(m.on) & set(rule.on) for m in champions):
        return None
    return node.keys["when"].problem(
        f"`{read[0]}` is null here: no model is the champion of {' or '.join(rule.on)}",
        "declare one in models/NAME.yaml",
    )


def untested(rule: Rule, node: At) -> Problem | None:
    """A live rule should prove itself; said as advice, not as an error."""
    if rule.tests or rule.state != "live" or not isinstance(node, Mapping):
        return None
    return node.keys["id"].problem(f"live rule `{rule.id}` has no tests", "add `tests:`, or make it `state: draft`")


def _on(form: Form, tables: Tables) -> tuple[str, ...]:
    on = form.known_words("on", "event type", [t for t in tables.schema.types if t != "label"])
    for word in form.words("on") if form.has("on") else ():
        if word.text in tables.schema.observed:
            form.wrong(
                word, f"`{word.text}` is not decided on (`decide: false` in schema.yaml)", "features may count it"
            )
    if len(set(on)) < len(on):
        form.wrong("on", "an event type stands here twice")
    return on


def _flags(form: Form, action: str) -> dict[str, bool]:
    flags = {key: form.flag(key) for key in ("mandatory", "override")}
    if flags["override"] and action != "allow":
        form.wrong("override", "`override` is for rules that allow", "remove it, or `then: allow`")
    return flags


def _then(form: Form, tables: Tables) -> tuple[str, tuple[ListWrite, ...], str | None]:
    node = form.get("then")
    if not isinstance(node, Mapping):
        return form.choice("then", ACTIONS, "review", "action"), (), None
    inner = Form(node, "`then`", form.problems, ("action", "list", "label"))
    inner.required("action")
    return inner.choice("action", ACTIONS, "review"), _writes(inner, tables), inner.text("label") or None


def _writes(form: Form, tables: Tables) -> tuple[ListWrite, ...]:
    node = form.get("list")
    nodes = [node] if isinstance(node, Mapping) else form.sequence("list")
    return tuple(w for w in (_write(form, n, tables) for n in nodes) if w)


def _write(form: Form, node: At, tables: Tables) -> ListWrite | None:
    if not isinstance(node, Mapping):
        return form.wrong(node, "a list action must be a mapping", "{add: blocked_devices, key: device, expires: 7d}")
    inner = Form(node, "a list action", form.problems, ("add", "remove", "key", "expires"))
    if inner.has("add") == inner.has("remove") or not inner.required("key"):
        return inner.has("key") and inner.wrong(node, "a list action needs one of `add` and `remove`") or None
    verb = "add" if inner.has("add") else "remove"
    name, fields = inner.text(verb), [n for n, f in tables.schema.fields.items() if f.type in ("string", "number")]
    key = inner.known_words("key", "field", fields)
    if name not in tables.lists:
        return inner.wrong(verb, f"unknown list `{name}`", suggest(name, tables.lists, "the list"))
    list_key_fits(inner, "key", tables.lists[name], key, tables.schema)
    if verb == "remove" and inner.has("expires"):
        inner.wrong("expires", "what is removed does not expire")
    return ListWrite(name, key, inner.duration("expires"), verb == "remove")


def known_techniques() -> list[str]:
    """The technique ids of the shipped taxonomy."""
    from shopward import techniques

    return [t.id for t in techniques.all()]


def _techniques(form: Form) -> tuple[str, ...]:
    return form.known_words("techniques", "technique", known_techniques()) if form.has("techniques") else ()


# --- tests --------------------------------------------------------------------------------------------------------------------------


def _tests(form: Form, tables: Tables) -> tuple[RuleTest, ...]:
    tests = [_test(form, node, tables) for node in form.sequence("tests")]
    return tuple(t for t in tests if t)


def _test(form: Form, node: At, tables: Tables) -> RuleTest | None:
    if not isinstance(node, Mapping):
        return form.wrong(node, "a test must be a mapping", "name, events, expect")
    inner = Form(node, "a test", form.problems, ("name", "events", "lists", "scores", "expect"))
    if not inner.required("name", "events", "expect"):
        return None
    events = tuple(e for e in (_event(inner, n, tables) for n in inner.sequence("events")) if e)
    if not events:
        return inner.wrong("events", "a test needs events")
    lists = _test_lists(inner, tables)
    return RuleTest(inner.text("name"), events, _expect(inner), lists, node.line, _test_scores(inner, tables))


def _event(form: Form, node: At, tables: Tables) -> dict[str, Any] | None:
    """An event of a test; a field that the schema does not know is a slip of the pen here."""
    if not isinstance(node, Mapping):
        return form.wrong(node, "an event must be a mapping", "{type: login, ts: 2026-01-01T00:00:00Z, account: a1}")
    schema = tables.schema
    outside = {*schema.mapping, schema.label.field if schema.label else ""}
    fields = [*RESERVED, *schema.fields, *LABEL_FIELDS]
    for key, at in node.keys.items():
        nested = isinstance(node.items[key], Mapping) and any(f.startswith(key + "_") for f in fields)
        if key not in fields and key not in outside and not nested:
            form.wrong(at, f"unknown field `{key}`", suggest(key, fields))
    kind = node.items.get("type")
    if isinstance(kind, Scalar) and kind.text not in schema.types and "type" not in schema.mapping.values():
        form.wrong(kind, f"unknown event type `{kind.text}`", suggest(kind.text, schema.types, "type"))
    return data(node)


def _test_lists(form: Form, tables: Tables) -> dict[str, tuple[Any, ...]]:
    """What stands on lists before the first event: keys are texts, pairs of texts for lists of pairs."""
    inner = form.mapping("lists")
    out = {}
    for name in inner.node.items if inner else ():
        assert inner is not None
        if name not in tables.lists:
            inner.wrong(inner.node.keys[name], f"unknown list `{name}`", suggest(name, tables.lists, "the list"))
            continue
        parts = len(tables.lists[name].entity)
        out[name] = tuple(_list_key(inner, at, name, parts) for at in inner.sequence(name))
    return out


def _test_scores(form: Form, tables: Tables) -> dict[str, tuple[float, float | None]]:
    """What models say in a test: `{payments: 0.97}`, or `{payments: [0.97, 990]}` with the risk."""
    inner = form.mapping("scores")
    out = {}
    for name, node in inner.node.items.items() if inner else ():
        assert inner is not None
        if name not in tables.models:
            hint = suggest(name, tables.models, "the model") if tables.models else "declare it in models/NAME.yaml"
            inner.wrong(inner.node.keys[name], f"unknown model `{name}`", hint)
            continue
        said = data(node)
        parts = said if isinstance(said, list) and len(said) == 2 else [said, None]
        if not all(_is_between(part, top) for part, top in zip(parts, (1, 1000), strict=True)):
            inner.wrong(
                node, f"the score of `{name}` must be a number from 0 to 1", "or [score, risk], for example [0.97, 990]"
            )
        else:
            out[name] = (float(parts[0]), None if parts[1] is None else float(parts[1]))
    return out


def _is_between(value: Any, top: int) -> bool:
    if value is None:
        return top > 1  # a risk may be left out
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= top


def _list_key(form: Form, node: At, name: str, parts: int) -> Any:
    value = data(node)
    key = tuple(map(str, value)) if isinstance(value, list) else str(getattr(node, "text", ""))
    if isinstance(value, dict) or (parts and parts != (len(key) if isinstance(key, tuple) else 1)):
        form.wrong(
            node,
            f"a key of list `{name}` has {parts or 1} part{'s' if parts > 1 else ''}",
            "[a1, d1]" if parts > 1 else "",
        )
    return key


def _expect(form: Form) -> dict[str, Any]:
    inner = form.mapping("expect")
    if inner is None:
        return {}
    inner.only(("action", "fires"))
    out: dict[str, Any] = {}
    if inner.has("action"):
        out["action"] = inner.choice("action", ACTIONS)
    if inner.has("fires"):
        out["fires"] = inner.flag("fires")
    if not out:
        inner.wrong(inner.node, "`expect` needs `action` or `fires`")
    return out
