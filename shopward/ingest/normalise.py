"""One record in, one event out: flat, named and typed as the schema says, money in base currency, derived fields filled.

This is the definition of what an event means. The fast readers of whole files compute the same for ordinary records and hand every
odd one to this module; so what is accepted, and why not, never depends on the file format. Doing it twice changes nothing.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from shopward.batch import LABEL
from shopward.declare.types import Field, Policy, Schema
from shopward.entity import normalise_id
from shopward.errors import BadEvent
from shopward.event import LAST_MS, MAX_FIELDS, MAX_TEXT, flatten, name_of, parse_time
from shopward.hashing import canonical_text
from shopward.ingest.money import LIMIT, Rates, decimal_of, minor_of
from shopward.label import truth

ORIGINAL = "_original"  # `amount_original` keeps an amount in its own currency, and says that `amount` is converted
TRUE = frozenset({1, "true", "1"})  # True == 1.0 == 1
FALSE = frozenset({0, "false", "0"})
Pseudonym = Callable[[str, str], str]


class Normaliser:
    """Brings records into the form of one schema.

    `notes` counts what became null without being an error (NaN, an amount without a rate). `pseudonym(field, text)` replaces the
    values of pii fields, after everything derived from them is known. `settled` records have been through this before (they come
    from the log): only their types are restored.
    """

    def __init__(
        self,
        schema: Schema,
        policy: Policy | None = None,
        lookups: Mapping[str, Any] | None = None,
        *,
        pseudonym: Pseudonym | None = None,
        settled: bool = False,
    ):
        policy = policy or Policy()
        self.schema = schema
        self.notes: Counter[str] = Counter()
        self.pseudonym = pseudonym
        self.settled = settled
        self.rates = Rates(policy.base_currency, (lookups or {}).get(policy.rates or ""))
        self.codes = {name: code for code, name in enumerate(schema.types)}
        self.targets = _targets(schema)
        fields = schema.fields.values()
        late_money = schema.currency is not None and not settled
        self.money = [f for f in fields if f.type == "money"] if late_money else []
        self.readers = {f.name: self._reader(f, late_money and f.type == "money") for f in fields}
        self.readers |= {"event_id": _event_id, "ts": parse_time, "label_event": _text_of, "label_source": _text_of}
        self.derived = [] if settled else [(f, *_derivation(schema, f)) for f in fields if f.derive is not None]
        self.pii = [f.name for f in fields if f.pii]
        self.constants = schema.constants
        self.known = self._known()

    @classmethod
    def of(cls, rulebook: Any, **options: Any) -> Normaliser:
        return cls(rulebook.schema, rulebook.policy, rulebook.lookups, **options)

    def quiet(self) -> Normaliser:
        """The same, with notes of its own that nobody reads."""
        same = copy(self)
        same.notes = Counter()
        same.readers = dict(self.readers)
        for f in self.schema.fields.values():
            late = self.schema.currency is not None and not self.settled and f.type == "money"
            same.readers[f.name] = same._reader(f, late)
        same.known = same._known()
        return same

    def _known(self) -> dict[str, tuple[Any, Callable[[Any], Any] | None]]:
        """Outside name -> the field it is, and the function that reads its values."""
        names = {name: name for name in (*self.readers, "type")} | self.targets
        known: dict[str, tuple[Any, Any]] = {key: (name, self.readers.get(name)) for key, name in names.items()}
        if self.schema.label is not None:
            known[self.schema.label.field] = (_VERDICT, truth)
        return known

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The event of a record. Raises BadEvent saying which field is wrong and what would be right."""
        return self.read(record)[0]

    def read(self, record: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        """The event of a record, and the truth about it when the schema's label column is there."""
        if len(record) > MAX_FIELDS:
            raise BadEvent(f"more than {MAX_FIELDS} fields")
        event = self._fields(record)
        for name, value in self.constants.items():
            if event.get(name) is None:
                self._put(event, name, value)
        self._check(event)
        if self.money:
            self._convert(event)
        for field, inputs, run in self.derived:
            if event.get(field.name) is None and (inputs is None or not inputs.isdisjoint(event)):
                self._put(event, field.name, run(event))
        if self.pseudonym is not None:
            self._cover(event)
        if event["event_id"] is None:
            del event["event_id"]
        return event, event.pop(_VERDICT, None)

    def _fields(self, record: Mapping[str, Any]) -> dict[Any, Any]:
        """Every value under its field's name, as its type."""
        event: dict[Any, Any] = {"event_id": None, "ts": None, "type": None}
        known = self.known
        for key, value in record.items():
            if value is None:
                continue
            if value.__class__ not in _PLAIN and isinstance(value, Mapping):
                return self._fields(self._flat(record))
            name, read = known.get(key, (key, None))
            if event.get(name) is not None:
                raise BadEvent(f"given twice, the second time as `{key}`", field=name)
            if read is not None:
                try:
                    value = read(value)
                except BadEvent as wrong:
                    raise BadEvent(wrong.reason, field=key if name is _VERDICT else name) from None
            if value is not None:
                event[name] = value
        return event

    def _put(self, event: dict[Any, Any], name: str, value: Any) -> None:
        """A constant or a derived value."""
        read = self.readers.get(name)
        if read is not None and value is not None:
            try:
                value = read(value)
            except BadEvent as wrong:
                raise BadEvent(wrong.reason, field=name) from None
        if value is not None:
            event[name] = value

    def _cover(self, event: dict[str, Any]) -> None:
        assert self.pseudonym is not None
        for name in self.pii:
            if isinstance(value := event.get(name), str):
                event[name] = self.pseudonym(name, value)

    def _flat(self, record: Mapping[str, Any]) -> dict[str, Any]:
        for key, value in record.items():
            target = self.targets.get(key, key)
            if isinstance(value, Mapping) and (target in self.readers or target == "type"):
                raise BadEvent(f"expected {self._wanted(target)}, found an object", field=target)
        return flatten(record)

    def _wanted(self, name: str) -> str:
        field = self.schema.fields.get(name)
        return {"bool": "true or false", "money": "a number", "decimal": "a number"}.get(
            field.type if field else "string", f"a {field.type}" if field else "a plain value"
        )

    def _check(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind is None:
            raise BadEvent("missing; every event says what happened", field="type")
        if kind.__class__ is not str or kind not in self.codes:
            raise BadEvent(self._unknown_type(kind), field="type")
        ts = event["ts"]
        if ts is None:
            raise BadEvent("missing; every event says when it happened", field="ts")
        if not 0 <= ts <= LAST_MS:
            raise BadEvent("before 1970 or after 9999", field="ts")
        if self.codes[kind] == LABEL:
            self._check_label(event)

    def _check_label(self, event: dict[str, Any]) -> None:
        for name in ("label", "label_event"):
            if event.get(name) is None:
                raise BadEvent(
                    "missing; a label event has `label` (0 or 1) and `label_event` (the judged event_id)", field=name
                )
        try:
            event["label"] = float(truth(event["label"]))
        except BadEvent as wrong:
            raise BadEvent(wrong.reason, field="label") from None

    def _unknown_type(self, kind: Any) -> str:
        if not isinstance(kind, str):
            return f"expected the name of an event type, found {name_of(kind)}"
        shown = kind if len(kind) <= 40 else kind[:40] + "..."
        near = difflib.get_close_matches(kind[:80], self.schema.types, 1)
        return f"unknown event type `{shown}`" + (f"; did you mean `{near[0]}`?" if near else "")

    # --- values

    def _reader(self, field: Field, later: bool) -> Callable[[Any], Any]:
        """The function that reads one value of this field; it raises BadEvent or returns the typed value (None: null)."""
        match field.type:
            case "string":
                how = None if self.settled else field.normalise
                if how is None:
                    return _key_of if field.entity else _text_of
                read = (lambda value: normalise_id(_text_of(value), how) or None) if field.entity else None
                return read or (lambda value: normalise_id(_text_of(value), how))
            case "number":
                return lambda value: self._number(field.name, value)
            case "bool":
                return _bool_of
            case "time":
                return parse_time
            case "list":
                return _list_of
        if later:
            return lambda value: value
        signed = field.signed or field.type == "decimal"
        return lambda value: self._fixed(field.name, value, field.digits, signed)

    def _number(self, name: str, value: Any) -> float | None:
        if value.__class__ is not float:
            value = _float_of(value)
        if value != value:
            self.notes[f"{name}: NaN taken as null"] += 1
            return None
        if value in (_INFINITE, -_INFINITE):
            raise BadEvent("infinite; expected a number")
        return value + 0.0

    def _fixed(self, name: str, value: Any, digits: int, signed: bool) -> float | None:
        scale = 10**digits
        if value.__class__ is float and -1e9 < value < 1e9 and digits <= 4:
            minor = value * scale
            whole = round(minor)
            if (
                abs(minor - whole) < 0.49 and -LIMIT < whole < LIMIT and (signed or whole > 0)
            ):  # nowhere near a tie: the nearest is the right one
                return whole / scale
        exact = decimal_of(value)
        if exact is None:
            self.notes[f"{name}: NaN taken as null"] += 1
            return None
        return minor_of(exact, digits, signed) / scale

    # --- currency and derived fields

    def _convert(self, event: dict[str, Any]) -> None:
        """Money into base currency; the amount as given stays in `<field>_original`."""
        currency = event.get(self.schema.currency or "")
        for field in self.money:
            if (value := event.get(field.name)) is None:
                continue
            try:
                converted = currency is None or event.get(field.name + ORIGINAL) is not None
                self._convert_one(event, field, value, None if converted else currency)
            except BadEvent as wrong:
                raise BadEvent(wrong.reason, field=field.name) from None

    def _convert_one(self, event: dict[str, Any], field: Field, value: Any, currency: str | None) -> None:
        name = field.name
        if currency is None or currency.upper() == self.rates.base:
            event[name] = self._fixed(name, value, field.digits, field.signed)
        else:
            exact = decimal_of(value)
            rate = self.rates.rate(currency, event["ts"])
            event[name + ORIGINAL] = value
            event[name] = None
            if exact is not None and exact < 0 and not field.signed:
                raise BadEvent("negative; declare the field `signed: true` if that is meant")
            if rate is None:
                self.notes[f"{name}: no rate for {currency[:8]}"] += 1
            elif exact is not None:
                event[name] = minor_of(exact * rate, field.digits, field.signed) / 10**field.digits
        if event[name] is None:
            del event[name]


_INFINITE = float("inf")
_PLAIN = frozenset({str, int, float, bool, type(None), list})
_VERDICT = object()  # the key, while a record is read, of what its label column says


def normalise(record: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """The event of one record under a schema without currency rates. For many records keep a Normaliser.

    >>> schema = Schema(("label", "payment"), {"amount": Field("amount", "money", digits=2)}, mapping={"card.bin": "bin"})
    >>> normalise({"type": "payment", "ts": "2026-01-01", "amount": "9.995", "shop": {"id": 7}}, schema)
    {'ts': 1767225600000, 'type': 'payment', 'amount': 10.0, 'shop_id': 7}
    """
    return Normaliser(schema)(record)


def _targets(schema: Schema) -> dict[str, str]:
    """Outside name -> field; a dotted or nested outside name is meant as it flattens."""
    return {outside.replace(".", "_"): name for outside, name in schema.mapping.items()} | dict(schema.mapping)


def _event_id(value: Any) -> str:
    text = _text_of(value)
    if not text:
        raise BadEvent("empty; leave it out to have one made")
    return text


def _text_of(value: Any) -> str:
    """A text, or the canonical text of a number or truth value."""
    if value.__class__ is str:
        if len(value) * 4 > MAX_TEXT or not value.isascii():
            _check_text(value)
        return value
    if isinstance(value, bool | int | float) or hasattr(value, "item"):
        if value != value or value in (_INFINITE, -_INFINITE):
            raise BadEvent("expected a string, found NaN or infinity")
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
            raise BadEvent("a number beyond 64 bits")
        return canonical_text(value)
    raise BadEvent(f"expected a string, found {name_of(value)}")


def _key_of(value: Any) -> str | None:
    """An id; an empty one identifies nobody."""
    if value.__class__ is str and len(value) < 100 and value.isascii():
        return value or None
    return _text_of(value) or None


def _check_text(value: str) -> None:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadEvent("not valid Unicode (half of a surrogate pair)") from None
    if size > MAX_TEXT:
        raise BadEvent(f"longer than {MAX_TEXT:,} bytes")


def _bool_of(value: Any) -> bool:
    if isinstance(value, str):
        value = value.strip().lower()
    if isinstance(value, str | bool | int | float) or hasattr(value, "item"):
        if value in TRUE:
            return True
        if value in FALSE:
            return False
    raise BadEvent(f"expected true or false, found {name_of(value)}")


def _float_of(value: Any) -> float:
    if isinstance(value, int) and not isinstance(value, bool) and not -(1 << 63) <= value < 1 << 64:
        raise BadEvent("a number beyond 64 bits")
    exact = decimal_of(value)
    return float("nan") if exact is None else float(exact)


def _list_of(value: Any) -> list[str]:
    if isinstance(value, str | Mapping) or not hasattr(value, "__iter__"):
        raise BadEvent(f"expected a list, found {name_of(value)}")
    return [_text_of(item) for item in value if item is not None]


def _derivation(schema: Schema, field: Field) -> tuple[frozenset[str] | None, Callable[[Mapping[str, Any]], Any]]:
    """The derived field as a function of the event's other fields, generated from its expression; and the fields of which it needs
    at least one (None: it may have a value without any)."""
    from shopward.expr.compile import to_python
    from shopward.expr.functions import runtime

    expr = field.derive
    assert expr is not None
    names = {name: f"x{i}" for i, name in enumerate(expr.fields)}
    source = f"lambda {', '.join(names.values())}: {to_python(expr, names, 'value')}"
    run = eval(source, runtime())  # the text comes from a checked expression, its globals hold no builtins
    kinds = [(name, _missing(schema, name)) for name in expr.fields]

    def derive(event: Mapping[str, Any]) -> Any:
        value = run(*[event.get(name, missing) for name, missing in kinds])
        if value is None or value != value:
            return None
        return bool(value) if field.type == "bool" else value

    always = {"event_id", "ts", "type"}.intersection(expr.fields)
    return None if always or derive({}) is not None else frozenset(expr.fields), derive


def _missing(schema: Schema, name: str) -> float | None:
    """What a missing field is to an expression."""
    kind = schema.fields[name].expr_type if name in schema.fields else "string"
    return float("nan") if kind in ("number", "time") else None
