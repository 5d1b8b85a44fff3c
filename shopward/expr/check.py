"""Types an expression against what a rulebook declares, and says everything that is wrong with it at once.

What comes out is an `Expr`: every name exists, every comparison compares like with like, every function gets what it takes, and
personal data is only compared or used as a key. Nothing that has not passed here is ever compiled.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from shopward.errors import Problem, RulebookError
from shopward.expr.functions import FUNCTIONS, UTC_COLUMNS, Function
from shopward.expr.nodes import MODEL, Arith, Bool, Call, Compare, Const, Expr, In, IsNull, Name, Neg, Node, Not, Type
from shopward.expr.parse import MAX_LENGTH, Fault, Faults, parse
from shopward.expr.place import Place, suggest

MAX_COPIES = 20_000  # size of generated code, in nodes
MAX_FAULTS = 20  # of one expression; nobody reads on, and finding near names takes time
_WORDS = {
    "bool": "true/false",
    "number": "a number",
    "string": "a text",
    "time": "a time",
    "list": "a list",
    "null": "None",
}


@dataclass(frozen=True, slots=True)
class Known:
    """What a field is to an expression: its type, whether it is personal data, the entity kind it identifies."""

    type: Type
    pii: bool = False
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression may read.

    fields    name -> Known                       features  name -> type, None when its declaration is wrong (told elsewhere)
    lists     name -> entity kinds of its keys    lookups   function name (`bins_country`) -> (table, column, key type, type)
    builtins  `score`, `risk` where a rule stands
    models    the models that `model("name")` may read; None where models cannot be read
    types     the event types `type` is compared with
    hidden    name -> why it cannot be read here (for instance features inside a `where`)
    tables    False where lists and lookups cannot be read, with `hidden["listed"]` saying why
    personal  True where personal data may be read as it is (only `derive`)
    """

    fields: Mapping[str, Known] = field(default_factory=dict)
    features: Mapping[str, Type | None] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lookups: Mapping[str, tuple[str, str, Type, Type]] = field(default_factory=dict)
    builtins: frozenset[str] = frozenset()
    models: frozenset[str] | None = None
    types: tuple[str, ...] = ()
    hidden: Mapping[str, str] = field(default_factory=dict)
    tables: bool = True
    personal: bool = False


def check(
    source: str,
    scope: Scope,
    *,
    want: Type | tuple[Type, ...] | None = None,
    place: Place | Callable[[], Place] | None = None,
    problems: list[Problem] | None = None,
) -> Expr | None:
    """The checked expression. What is wrong is appended to `problems` (and None returned); without that list it is raised.

    >>> scope = Scope(fields={"amount": Known("number")}, features={"spend_24h": "number"})
    >>> check("amount > 100 and spend_24h / amount > 5", scope, want="bool").features
    ('spend_24h',)
    >>> check("amont > 5", scope)
    Traceback (most recent call last):
    ...
    shopward.errors.RulebookError: <expression>:1:1: unknown field `amont`
        amont > 5
        ^^^^^ did you mean `amount`?
    """
    tree, found = parse(source)
    checker = _Checker(scope)
    root = checker.typed(tree) if tree is not None else None
    if root is not None:
        checker.finish(root, want)
    told = _placed([*found, *checker.faults.found], source, place)
    if problems is None and told:
        raise RulebookError(told)
    if told:
        problems.extend(told)  # type: ignore[union-attr]
        return None
    return checker.expr(source, root) if root is not None else None


def _placed(faults: list[Fault], source: str, place: Place | Callable[[], Place] | None) -> list[Problem]:
    if not faults:
        return []
    where = place() if callable(place) else place or Place.of(source[:MAX_LENGTH])
    return [where.problem(f.start, f.end, f.message, f.hint) for f in faults]


class _Checker:
    """Walks the untyped tree once; `typed` gives the typed node, or None when something below is wrong (already told)."""

    def __init__(self, scope: Scope):
        self.scope, self.faults = scope, Faults()
        self.fields: set[str] = set()
        self.features: set[str] = set()
        self.functions: set[str] = set()
        self.lists: set[str] = set()
        self.lookups: set[str] = set()
        self.builtins: set[str] = set()
        self.rowwise = False

    def expr(self, source: str, root: Node) -> Expr:
        every = (self.fields, self.features, self.functions, self.lists, self.lookups, self.builtins)
        fields, features, functions, lists, lookups, builtins = (tuple(sorted(r)) for r in every)
        rowwise = self.rowwise or needs_text(root)
        return Expr(source, root, root.type, fields, features, functions, lists, lookups, rowwise, builtins)

    def finish(self, root: Node, want: Type | tuple[Type, ...] | None) -> None:
        wanted = (want,) if isinstance(want, str) else want
        if wanted and root.type not in wanted:
            hint = "compare it with something" if wanted == ("bool",) else ""
            self.wrong(root, f"this must be {_either(wanted)}, it is {_WORDS[root.type]}", hint)
        elif root.type == "null":
            self.wrong(root, "None alone has no meaning", "ask with `is None`")
        if self.personal(root):
            self.refuse_personal(root)
        if copies(root) > MAX_COPIES:
            self.wrong(root, "the expression is too large", "split it into features")

    def wrong(self, n: Node, message: str, hint: str = "") -> Any:
        """Notes what is wrong; its None is what the caller answers."""
        self.faults.add(n.start, n.end, message, hint)
        return None

    def typed(self, n: Node) -> Node | None:
        if len(self.faults.found) >= MAX_FAULTS:
            return None
        return getattr(self, "on_" + type(n).__name__.lower())(n)

    # --- leaves

    def on_const(self, n: Const) -> Node:
        if n.value is None:
            return n
        return replace(
            n, type="bool" if isinstance(n.value, bool) else "string" if isinstance(n.value, str) else "number"
        )

    def on_name(self, n: Name) -> Node | None:
        scope, name = self.scope, n.name
        if name in scope.hidden:
            return self.wrong(n, f"`{name}` cannot be read here", scope.hidden[name])
        if name in scope.fields:
            self.fields.add(name)
            return replace(n, type=scope.fields[name].type, kind="field")
        if name in scope.features:
            kind = scope.features[name]
            self.features.add(name)
            return None if kind is None else replace(n, type=kind, kind="feature")
        if name in scope.builtins:
            self.builtins.add(name)
            return replace(n, type="number", kind="builtin")
        return self.unknown(n)

    def unknown(self, n: Name) -> Any:
        plain = {"true": "True", "false": "False", "null": "None", "none": "None"}.get(n.name.lower())
        known = [*self.scope.fields, *self.scope.features, *self.scope.builtins]
        if plain:
            hint = f"did you mean `{plain}`?"
        elif n.name in FUNCTIONS:
            hint = f"it is a function: {FUNCTIONS[n.name].signature}"
        else:
            hint = suggest(n.name, known)
        return self.wrong(n, f"unknown {self.noun(hint)} `{n.name}`", hint)

    def noun(self, hint: str) -> str:
        near = hint.split("`")[1] if "`" in hint else ""
        return "feature" if near in self.scope.features else "field" if near in self.scope.fields else "name"

    # --- logic

    def on_not(self, n: Not) -> Node | None:
        x = self.truth(n.x)
        return x and replace(n, type="bool", x=x)

    def on_bool(self, n: Bool) -> Node | None:
        args = [self.truth(a) for a in n.args]
        if any(a is None for a in args):
            return None
        return replace(n, type="bool", args=tuple(a for a in args if a))

    def truth(self, n: Node) -> Node | None:
        x = self.typed(n)
        if x is not None and x.type != "bool":
            return self.wrong(x, f"this must be true/false, it is {_WORDS[x.type]}", "compare it with something")
        return x

    def on_isnull(self, n: IsNull) -> Node | None:
        x = self.typed(n.x)
        if isinstance(x, Const):
            return self.wrong(n, "a constant is never None")
        return x and replace(n, type="bool", x=x)

    def on_in(self, n: In) -> Node | None:
        x = self.typed(n.x)
        items = tuple(i for i in (self.on_const(i) for i in n.items) if isinstance(i, Const))
        if x is None or self.touches_personal(x):
            return None
        if isinstance(x, Const):
            return self.wrong(x, "a constant stands before `in`", "put the field first")
        if x.type == "bool":
            return self.wrong(x, "a condition stands before `in`", "write it alone, or with `not`")
        items = tuple(self.as_time(i) if x.type == "time" and i.type == "string" else i for i in items)
        for i in items:
            if i.value is None or i.type != x.type or x.type == "list":
                self.wrong(i, f"this is {_WORDS[i.type]}, what stands before `in` is {_WORDS[x.type]}")
            self.event_type(x, i)
        return replace(n, type="bool", x=x, items=items)

    # --- comparisons

    def on_compare(self, n: Compare) -> Node | None:
        a, b = self.typed(n.a), self.typed(n.b)
        if a is None or b is None:
            return None
        a, b = self.times(a, b)
        if a.type != b.type or a.type in ("list", "null"):
            return self.mismatch(n, a, b)
        if n.op not in ("==", "!=") and a.type not in ("number", "time"):
            return self.wrong(n, f"{_WORDS[a.type]} has no order: `{n.op}`", "only == and !=")
        if self.personal(a) != self.personal(b):
            self.refuse_personal(a if self.personal(a) else b)
        self.event_type(a, b)
        self.event_type(b, a)
        return self.compare_truths(n, a, b) if a.type == "bool" else self.settled(replace(n, type="bool", a=a, b=b))

    def times(self, a: Node, b: Node) -> tuple[Node, Node]:
        """A text constant compared with a time is a moment."""
        if a.type == "time" and isinstance(b, Const) and b.type == "string":
            return a, self.as_time(b)
        if b.type == "time" and isinstance(a, Const) and a.type == "string":
            return self.as_time(a), b
        return a, b

    def as_time(self, c: Const) -> Const:
        ms = moment(str(c.value))
        if ms is None:
            self.wrong(c, f"`{c.value}` is not a time", 'for example "2026-01-31" or "2026-01-31T08:00:00Z"')
        return replace(c, type="time", value=float(ms or 0))

    def mismatch(self, n: Compare, a: Node, b: Node) -> Any:
        if "null" in (a.type, b.type):
            return self.wrong(n, f"`{n.op} None` is never true", f"write `is {'not ' if n.op == '!=' else ''}None`")
        if a.type == b.type == "list":
            return self.wrong(n, "lists cannot be compared", "has(list, text) and len(list) read them")
        return self.wrong(n, f"cannot compare {_WORDS[a.type]} with {_WORDS[b.type]}", self.mismatch_hint(a, b))

    def mismatch_hint(self, a: Node, b: Node) -> str:
        for x, y in ((a, b), (b, a)):
            if isinstance(x, Const) and x.type == "string" and y.type == "number" and _is_number(str(x.value)):
                return f"write {x.value} without quotes"
            if isinstance(x, Const) and x.type == "number" and y.type == "string":
                return f'write "{_plain(x.value)}" in quotes'
            if isinstance(x, Const) and x.type == "number" and y.type == "bool" and x.value in (0, 1):
                return f"write `{bool(x.value)}`, or just the name"
        return ""

    def compare_truths(self, n: Compare, a: Node, b: Node) -> Node | None:
        """`x == True` is x; two conditions are compared only when each is a name or a function."""
        if isinstance(a, Const):
            a, b = b, a
        if isinstance(b, Const):
            same = bool(b.value) == (n.op == "==")
            return replace(a, start=n.start, end=n.end) if same else Not(n.start, n.end, "bool", a)
        if not (_simple(a) and _simple(b)):
            return self.wrong(n, "two conditions cannot be compared", "write it with and/or/not")
        return replace(n, type="bool", a=a, b=b)

    def settled(self, n: Compare) -> Node:
        """Constants compared with constants are known now."""
        if not (isinstance(n.a, Const) and isinstance(n.b, Const)):
            return n
        x, y = n.a.value, n.b.value
        if isinstance(x, str):
            return Const(n.start, n.end, "bool", (x == y) == (n.op == "=="))
        order = {"==": x == y, "!=": x != y, "<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}  # type: ignore[operator]
        return Const(n.start, n.end, "bool", order[n.op])

    def event_type(self, x: Node, c: Node) -> None:
        types = self.scope.types
        if types and isinstance(x, Name) and x.name == "type" and isinstance(c, Const) and c.value not in types:
            self.wrong(c, f"unknown event type `{c.value}`", suggest(str(c.value), types, "type"))

    # --- numbers

    def on_neg(self, n: Neg) -> Node | None:
        x = self.typed(n.x)
        if x is None:
            return None
        if x.type != "number":
            return self.wrong(x, f"only numbers have a minus, this is {_WORDS[x.type]}")
        return Const(n.start, n.end, "number", -x.value) if isinstance(x, Const) else replace(n, type="number", x=x)  # type: ignore[operator]

    def on_arith(self, n: Arith) -> Node | None:
        a, b = self.typed(n.a), self.typed(n.b)
        if a is None or b is None:
            return None
        result = self.arith_type(n, a, b)
        if result is None:
            return None
        if n.op in ("/", "//", "%") and isinstance(b, Const) and b.value == 0:
            return self.wrong(n, "division by zero is always missing")
        if isinstance(a, Const) and isinstance(b, Const):
            return self.calculated(n, _calculate(n.op, float(a.value), float(b.value)))  # type: ignore[arg-type]
        return replace(n, type=result, a=a, b=b)

    def calculated(self, n: Arith, value: float) -> Node | None:
        if value - value != 0:
            return self.wrong(n, "this constant is too large")
        return Const(n.start, n.end, "number", value)

    def arith_type(self, n: Arith, a: Node, b: Node) -> Type | None:
        """time - time is seconds; time + seconds is a time."""
        table: dict[tuple[Type, str, Type], Type] = {
            ("time", "-", "time"): "number",
            ("time", "-", "number"): "time",
            ("time", "+", "number"): "time",
            ("number", "+", "time"): "time",
        }
        if a.type == b.type == "number":
            return "number"
        if (a.type, n.op, b.type) in table:
            return table[a.type, n.op, b.type]
        odd = a if a.type != "number" else b
        hint = "use `and`, `or`, or compare it" if odd.type == "bool" else ""
        return self.wrong(n, f"cannot calculate with {_WORDS[a.type]} `{n.op}` {_WORDS[b.type]}", hint)

    # --- calls

    def on_call(self, n: Call) -> Node | None:
        special = {"listed": self.on_listed, "duration": self.on_duration, "model": self.on_model}.get(n.func)
        if special:
            return special(n)
        if n.func in self.scope.lookups:
            return self.on_lookup(n)
        f = FUNCTIONS.get(n.func)
        if f is None:
            names = [*FUNCTIONS, "listed", "duration", *self.scope.lookups]
            return self.wrong(n, f"unknown function `{n.func}`", suggest(n.func, names))
        args = [self.typed(a) for a in n.args]
        if any(a is None for a in args):
            return None
        return self.fitting(n, f, [a for a in args if a])

    def fitting(self, n: Call, f: Function, args: list[Node]) -> Node | None:
        least = len(f.params) - f.optional
        if len(args) < least or (len(args) > len(f.params) and not f.many):
            return self.wrong(n, f"`{f.name}` takes {_count(f)}, here are {len(args)}", f.signature)
        fine = [self.argument(f, i, a) for i, a in enumerate(args)]
        if not all(fine):
            return None
        if f.returns is None and any(a.type != args[0].type for a in args):
            return self.wrong(n, f"the arguments of `{f.name}` must have one type", f.signature)
        if f.returns is None and args[0].type == "bool" and not all(map(_simple, args)):
            return self.wrong(n, "a condition inside a function", "use names or constants here")
        self.functions.add(f.name)
        self.rowwise |= not self.columnar(f, args)
        return replace(n, type=f.returns or args[0].type, args=tuple(args))

    def columnar(self, f: Function, args: list[Node]) -> bool:
        zone = args[1].value if len(args) > 1 and isinstance(args[1], Const) else "UTC"
        return f.columns or (f.name in UTC_COLUMNS and zone == "UTC")

    def argument(self, f: Function, i: int, a: Node) -> bool:
        accepted = f.params[min(i, len(f.params) - 1)]
        before = len(self.faults.found)
        if a.type not in accepted:
            self.wrong(a, f"`{f.name}` takes {_either(accepted)} here, this is {_WORDS[a.type]}", f.signature)
        elif i in f.constant and not isinstance(a, Const):
            self.wrong(a, "this must be written as a constant", f.signature)
        elif self.touches_personal(a):
            return False
        elif isinstance(a, Const) and i in f.constant:
            self.constant(f, a)
        return len(self.faults.found) == before

    def constant(self, f: Function, a: Const) -> None:
        if f.name in ("prefix", "round") and not (
            isinstance(a.value, int) and 0 <= a.value <= (64 if f.name == "prefix" else 9)
        ):
            self.wrong(a, f"this must be a whole number from 0 to {64 if f.name == 'prefix' else 9}")
        elif f.name in UTC_COLUMNS and not _is_zone(str(a.value)):
            self.wrong(a, f"unknown time zone `{a.value}`", suggest(str(a.value), zoneinfo.available_timezones()))
        elif f.name == "matches" and len(str(a.value)) > 200:
            self.wrong(a, "this pattern is longer than 200 characters")

    def on_duration(self, n: Call) -> Node | None:
        text = n.args[0].value if len(n.args) == 1 and isinstance(n.args[0], Const) else None
        seconds = duration_seconds(text) if isinstance(text, str) else None
        if seconds is None:
            return self.wrong(n, '`duration` takes one text such as "24h"', "units: ms s m h d")
        return Const(n.start, n.end, "number", seconds)

    def on_model(self, n: Call) -> Node | None:
        """`model("payments")` is the score of that model, a name of its own for what is generated."""
        known, name = self.scope.models, n.args[0] if len(n.args) == 1 else None
        if known is None:
            return self.wrong(
                n, "`model` cannot be read here", "models have the last word before rules: read it in a rule"
            )
        if not isinstance(name, Const) or not isinstance(name.value, str):
            return self.wrong(n, "`model` takes the name of one model in quotes", 'for example model("payments") > 0.9')
        if name.value not in known:
            hint = suggest(name.value, known, "the model") if known else "declare it in models/NAME.yaml"
            return self.wrong(name, f"unknown model `{name.value}`", hint)
        self.builtins.add(MODEL + name.value)
        return Name(n.start, n.end, "number", "builtin", MODEL + name.value)

    def on_listed(self, n: Call) -> Node | None:
        if not self.tables_allowed(n):
            return None
        if len(n.args) < 2 or not isinstance(n.args[0], Const) or not isinstance(n.args[0].value, str):
            return self.wrong(
                n, "`listed` takes a list's name in quotes and a field", 'listed("blocked_devices", device)'
            )
        name = n.args[0]
        keys = [self.typed(a) for a in n.args[1:]]
        if name.value not in self.scope.lists:
            return self.wrong(
                name, f"unknown list `{name.value}`", suggest(str(name.value), self.scope.lists, "the list")
            )
        if any(k is None for k in keys) or not self.keys_fit(name, [k for k in keys if k]):
            return None
        self.rowwise = True
        self.lists.add(str(name.value))
        return replace(n, type="bool", args=(self.on_const(name), *(k for k in keys if k)))

    def keys_fit(self, name: Const, keys: list[Node]) -> bool:
        kinds = self.scope.lists[str(name.value)]
        if kinds and len(kinds) != len(keys):
            self.wrong(name, f"the keys of list `{name.value}` are {' and '.join(kinds)}, here are {len(keys)}")
            return False
        fits = [self.key_fits(name, k, kinds[i] if kinds else None) for i, k in enumerate(keys)]
        return all(fits)

    def key_fits(self, name: Const, k: Node, kind: str | None) -> bool:
        known = self.scope.fields.get(k.name) if isinstance(k, Name) else None
        if k.type not in ("string", "number"):
            self.wrong(k, f"a key is a text, this is {_WORDS[k.type]}")
        elif kind and known and known.kind and known.kind != kind:
            self.wrong(k, f"the keys of list `{name.value}` are of kind {kind}, `{k.name}` is of kind {known.kind}")  # type: ignore[attr-defined]
        else:  # a personal field may be the key itself, not part of a calculation
            return isinstance(k, Name) or not self.touches_personal(k)
        return False

    def on_lookup(self, n: Call) -> Node | None:
        table, column, key_type, returns = self.scope.lookups[n.func]
        if not self.tables_allowed(n):
            return None
        if len(n.args) != 1:
            return self.wrong(n, f"`{n.func}` takes one key, here are {len(n.args)}")
        key = self.typed(n.args[0])
        if key is None or self.touches_personal(key):  # tables hold values, the event holds a pseudonym
            return None
        if key.type != key_type:
            return self.wrong(key, f"the key of `{table}` is {_WORDS[key_type]}, this is {_WORDS[key.type]}")
        self.rowwise = True
        self.lookups.add(f"{table}.{column}")
        args = (Const(n.start, n.start, "string", table), Const(n.start, n.start, "string", column), key)
        return Call(n.start, n.end, returns, "lookup", args)

    def tables_allowed(self, n: Call) -> bool:
        if not self.scope.tables:
            self.wrong(n, f"`{n.func}` cannot be read here", self.scope.hidden.get("listed", ""))
        return self.scope.tables

    # --- personal data

    def personal(self, n: Node) -> bool:
        known = self.scope.fields.get(n.name) if isinstance(n, Name) and n.kind == "field" else None
        return bool(known and known.pii and not self.scope.personal)

    def touches_personal(self, n: Node) -> bool:
        if self.personal(n):
            self.refuse_personal(n)
            return True
        return False

    def refuse_personal(self, n: Node) -> None:
        hint = "compare it with another pii field, use it as a key, or `derive` a field from it in schema.yaml"
        self.wrong(n, f"`{n.name}` is personal data (pii): its value is not readable here", hint)  # type: ignore[attr-defined]


# --- small things -------------------------------------------------------------------------------------------------------------------


def copies(n: Node) -> int:
    """Upper bound on the nodes of generated code: some functions repeat an argument."""
    if isinstance(n, Call) and n.func in FUNCTIONS:
        f = FUNCTIONS[n.func]
        total = 1
        for i, a in enumerate(n.args):  # a chain of min repeats its left part at every further argument
            total = copies(a) if f.many and i == 0 else total + copies(a)
            total = min(total * (f.copies if not f.many or i else 1), MAX_COPIES + 1)
        return total + 1
    repeat = 2 if isinstance(n, Arith | IsNull) or (isinstance(n, Compare) and n.op == "!=") else 1
    return min(1 + repeat * sum(copies(c) for c in children(n)), MAX_COPIES + 1)


def children(n: Node) -> tuple[Node, ...]:
    if isinstance(n, Not | Neg | IsNull | In):
        return (n.x,)
    if isinstance(n, Compare | Arith):
        return (n.a, n.b)
    return n.args if isinstance(n, Bool | Call) else ()


def needs_text(n: Node) -> bool:
    """Does it read what columns of numbers and hashes do not show: lists, ids, or the event type other than against constants?"""
    if isinstance(n, Compare) and isinstance(n.b, Const) and _is_event_type(n.a):
        return False
    if isinstance(n, Compare) and isinstance(n.a, Const) and _is_event_type(n.b):
        return False
    if isinstance(n, In) and _is_event_type(n.x):
        return False
    if isinstance(n, Name):
        return n.type == "list" or (n.kind == "field" and n.name in ("type", "event_id"))
    return any(needs_text(c) for c in children(n))


def _is_event_type(n: Node) -> bool:
    return isinstance(n, Name) and n.kind == "field" and n.name == "type"


def moment(text: str) -> int | None:
    """Epoch milliseconds of an ISO 8601 text (UTC unless it says otherwise), or None.

    >>> moment("2026-01-01"), moment("2026-01-01T08:00:00+08:00"), moment("soon")
    (1767225600000, 1767225600000, None)
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_seconds(text: str) -> float | None:
    """Seconds of `90s`, `15m`, `1h`, `7d`, `500ms`, or None.

    >>> duration_seconds("15m"), duration_seconds("1 week")
    (900.0, None)
    """
    number = text.rstrip("msdh")
    unit = _UNITS.get(text[len(number) :])
    return int(number) * unit if unit and number.isascii() and number.isdigit() and len(number) < 10 else None


def _calculate(op: str, a: float, b: float) -> float:
    if op in ("+", "-", "*"):
        return a + b if op == "+" else a - b if op == "-" else a * b
    return a / b if op == "/" else a % b if op == "%" else float(a / b // 1.0)


def _simple(n: Node) -> bool:
    return isinstance(n, Name | Const) or (isinstance(n, Call) and n.func != "coalesce")


def _either(types: tuple[Type, ...]) -> str:
    return " or ".join(_WORDS[t] for t in types)


def _count(f: Function) -> str:
    least, most = len(f.params) - f.optional, len(f.params)
    if f.many:
        return f"at least {least} arguments"
    return f"{least} to {most} arguments" if f.optional else f"{least} argument{'s' if least > 1 else ''}"


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
