"""Why a rule fired: one generated function a rule that tells the comparisons which held, with the values they held for.

The condition of a rule that fired is true. So every part of an `and` is true and told as it is; of an `or` only the branches that
hold are told; under `not` a comparison is told the other way round. The first told comparison (features and lists before plain
fields) is the headline: its value, its threshold, and the entity whose key it was computed for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import nan
from typing import TYPE_CHECKING, Any

from shopward.declare.types import Rule
from shopward.evidence import Evidence
from shopward.expr import to_python
from shopward.expr.compile import simple
from shopward.expr.nodes import MODEL, Bool, Call, Compare, Const, In, IsNull, Name, Node, Not
from shopward.rules.generated import define, names_in
from shopward.rules.subject import key_of, subject_roles

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook

SIX = 1e-5  # more than six digits leave out, as a part of the number
LONGEST = 80  # characters of an event's text in a sentence
Role = tuple[str, str, bool]  # field, kind of entity, is personal data
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_SPAN = re.compile(r"""duration\(\s*["'](\w+)["']\s*\)""")
SMALL = {float(n): str(n) for n in range(1000)}  # how small whole numbers read
_PSEUDONYM = re.compile(r"p_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Told:
    """One comparison that can be told; `args`, `value` and `threshold` are Python source, `said` is a %-template for `args`."""

    said: str
    args: tuple[str, ...] = ()
    value: str = "None"
    threshold: str = "None"
    feature: str | None = None
    about: tuple[Role, ...] = ()
    rank: int = 1


@dataclass(frozen=True, slots=True)
class Why:
    """`of(get, F, event_ids, ts, t)` is the evidence of one rule that fired; `event_ids` holds one id.

    `get(name)` gives values as expressions see them, `F[column]` those of features that are not texts.

    `fleeting` says that it asks lists (which branch held, who put the key there), so it must be called before anything writes to them.
    `said(get, F, t)` names what models said that held (`score`, `risk`, `MODEL_x`); None for a rule that asks no model.
    """

    of: Callable[[Callable[[str], Any], Sequence[float], tuple[str, ...], int, int], Evidence]
    fleeting: bool
    source: str
    said: Callable[[Callable[[str], Any], Sequence[float], int], tuple[str, ...]] | None = None

    @classmethod
    def write(
        cls, rule: Rule, rulebook: Rulebook, column: Mapping[str, int], seed: bytes, env: Mapping[str, Any]
    ) -> Why:
        """Write and define the function; `env` holds what generated expressions call."""
        writer = _Writer(rule, rulebook, column)
        source = writer.source()
        known = {"TECHNIQUES": rule.techniques, "MASK": mask_of(seed), "KEY": key_of, "NUMBER": number, "SPAN": span, "PAIR": pair,
                 "EXACT": exact, "TEXT": text, "SMALL": SMALL.get, "int": int, "Evidence": Evidence, "nan": nan}  # fmt: skip
        space, asks = {"USUAL": {}, **env, **known}, writer.asks_models()
        said = define(asks, "said", space) if asks else None
        fleeting = "listed(" in source or "SAID(" in source or "listed(" in asks
        return cls(define(source, "why", space), fleeting, source + asks, said)


class _Writer:
    def __init__(self, rule: Rule, rulebook: Rulebook, column: Mapping[str, int]):
        self.column = column
        self.rule, self.rulebook, self.fields = rule, rulebook, rulebook.schema.fields
        self.roles = rulebook.schema.roles
        self.names = {n.name: f"v_{n.name}" for n in names_in(rule.when.root)} | {"t": "t"}
        self.told: dict[Told, bool] = {}  # comparison -> holds whenever the rule fires
        self.spoken: dict[Told, list[str]] = {}  # comparison -> what it reads of models
        self.asked: list[str] = []
        self._tell(rule.when.root, True, 0)

    # --- which comparisons hold

    def _tell(self, node: Node, wanted: bool, depth: int) -> None:
        """Note what is told of a node that is known to be `wanted` (true or false)."""
        if isinstance(node, Not):
            self._tell(node.x, not wanted, depth)
        elif isinstance(node, Bool):
            for part in node.args:
                if (node.op == "and") == wanted:
                    self._tell(part, wanted, depth)
                else:
                    self._ask(part, wanted, depth)
        elif (one := self._one(node, wanted)) is not None:
            self.told[one] = self.told.get(one, False) or depth == 0
            self.spoken[one] = [n.name for n in names_in(node) if n.kind == "builtin"]
            if depth:
                self.asked.append(f"{'    ' * (depth + 1)}s{list(self.told).index(one)} = True")

    def _ask(self, part: Node, wanted: bool, depth: int) -> None:
        """A branch that need not hold: told only where it does."""
        before = len(self.asked)
        self.asked.append(f"{'    ' * (depth + 1)}if {to_python(part, self.names, 'true' if wanted else 'false')}:")
        self._tell(part, wanted, depth + 1)
        if len(self.asked) == before + 1:
            self.asked.pop()

    # --- how one comparison is told

    def _one(self, node: Node, wanted: bool) -> Told | None:
        names = names_in(node)
        if not names or (isinstance(node, Compare | In) and all(n.name == "type" for n in names)):
            return None
        match node:
            case Call(func="listed"):
                return self._listed(node, wanted)
            case Compare():
                return self._compare(node, node.op if wanted else _OPPOSITE[node.op])
            case IsNull():
                return self._missing(node) if node.negated != wanted else self._given(node)
            case In():
                return self._member(node, "not in" if node.negated == wanted else "in")
            case Name():
                return self._truth(node, wanted)
        return self._call(node, wanted)

    def _compare(self, node: Compare, op: str) -> Told | None:
        a, b = node.a, node.b
        if isinstance(a, Const) or (isinstance(b, Name) and not isinstance(a, Name)):
            a, b, op = b, a, _TURNED[op]
        if self._personal(node):
            return self._words(node, f"{self._text(a)} {op} {self._text(b)}")
        if a.type == "bool" and isinstance(a, Name) and isinstance(b, Const):
            return self._truth(a, bool(b.value) == (op == "=="))
        left, right = self._value(a), self._value(b)
        feature = _called(a)
        if isinstance(b, Const):
            bound = exact(b.value if isinstance(b.value, str) else float(b.value or 0))
            span = _SPAN.fullmatch(self._text(b))
            if span:
                return Told(f"{_plain(self._text(a))} = %s ({op} {span[1]})", (f"SPAN({left}, {right})",), left,
                            repr(f"{op} {bound}"), feature, self._about(node), self._rank(node))  # fmt: skip
            shown = f"TEXT({left})" if a.type == "string" else f"NUMBER({left}, {right})"
            if shown.startswith("NUMBER") and simple(left):
                shown = f"SMALL({left}) or (int({left}) if {left} % 1.0 == 0.0 else {shown})"
            return Told(f"{_plain(self._text(a))} = %s ({op} {_plain(bound)})", (shown,), left, repr(f"{op} {bound}"),
                        feature, self._about(node), self._rank(node))  # fmt: skip
        args = (
            (f"TEXT({left})", f"TEXT({right})") if a.type == "string" else (f"(p := PAIR({left}, {right}))[0]", "p[1]")
        )
        return Told(f"{_plain(self._text(a))} = %s ({op} {_plain(self._text(b))} = %s)", args, left,
                    f"'{op} ' + EXACT({right})", feature, self._about(node), self._rank(node))  # fmt: skip

    def _missing(self, node: IsNull) -> Told:
        feature = _called(node.x)
        said = f"{_plain(self._text(node.x))} is missing"
        return Told(said, (), "None", "'is None'", feature, self._about(node), 2)

    def _given(self, node: IsNull) -> Told:
        if self._personal(node):
            return self._words(node, f"{self._text(node.x)} is given")
        value, feature = self._value(node.x), _called(node.x)
        said = f"{_plain(self._text(node.x))} = %s (is given)"
        return Told(said, (f"TEXT({value})",), value, "'is not None'", feature, self._about(node), 2)

    def _member(self, node: In, op: str) -> Told:
        if self._personal(node):
            return self._words(node, self._text(node))
        items = ", ".join(exact(i.value if isinstance(i.value, str) else float(i.value or 0)) for i in node.items)
        value, feature = self._value(node.x), _called(node.x)
        said = f"{_plain(self._text(node.x))} = %s ({op} ({_plain(items)}))"
        return Told(said, (f"TEXT({value})",), value, repr(f"{op} ({items})"), feature, self._about(node), self._rank(node))  # fmt: skip

    def _truth(self, node: Name, truth: bool) -> Told:
        said, word = f"{_plain(node.name)} = {'true' if truth else 'false'}", "is true" if truth else "is false"
        return Told(said, (), str(truth), repr(word), node.name, self._about(node), self._rank(node))

    def _listed(self, node: Call, wanted: bool) -> Told:
        """`device d9 is on list blocked_devices (rule:ring, since 2026-01-01T00:00:00Z)`, about that device."""
        name, *keys = node.args
        assert isinstance(name, Const)
        where = f"{'' if wanted else 'not '}on list {name.value}"
        kinds = self.rulebook.lists[str(name.value)].entity
        roles = [self._role(k, kinds[i] if i < len(kinds) else None) for i, k in enumerate(keys)]
        said = ", ".join(f"{_plain(self._text(k))} %s" for k in keys) + f" is {where}"
        hidden = [self._personal(k) for k in keys]
        args = tuple(
            f"MASK(KEY({self._value(k)}))" if h else f"TEXT({self._value(k)})"
            for k, h in zip(keys, hidden, strict=True)
        )
        if wanted:
            parts = ", ".join(self._value(k) for k in keys)
            said, args = f"{said}%s", (*args, f"SAID({name.value!r}, {f'({parts})' if len(keys) > 1 else parts}, t)")
        return Told(said, args, str(wanted), repr(where), None, tuple(r for r in roles if r), 0 if wanted else 2)

    def _call(self, node: Node, wanted: bool) -> Told:
        shown = self._text(node) if wanted else f"not {self._text(node)}"
        first = node.args[0] if isinstance(node, Call) and node.args else None
        if self._personal(node) or not isinstance(first, Name) or first.type == "bool":
            return self._words(node, shown, str(wanted), repr("is true" if wanted else "is false"))
        value = self._value(first)
        return Told(f"{_plain(first.name)} = %s ({_plain(shown)})", (f"TEXT({value})",), value, repr(shown), first.name,
                    self._about(node), self._rank(node))  # fmt: skip

    def _words(self, node: Node, said: str, value: str = "None", threshold: str = "None") -> Told:
        """A comparison told without the values: of personal data, or of nothing that has a name."""
        return Told(_plain(said), (), value, threshold, None, self._about(node), self._rank(node))

    # --- its parts

    def _value(self, node: Node) -> str:
        return to_python(node, self.names, "value")

    def _text(self, node: Node) -> str:
        return " ".join(self.rule.when.source[node.start : node.end].split())

    def _personal(self, node: Node) -> bool:
        return any(n.name in self.fields and self.fields[n.name].pii for n in names_in(node))

    def _rank(self, node: Node) -> int:
        return 0 if any(n.kind in ("feature", "builtin") for n in names_in(node)) else 1

    # --- about whom

    def _about(self, node: Node) -> tuple[Role, ...]:
        """The roles whose key the node's features were computed for, else roles it reads."""
        return about(self.rulebook, [n.name for n in names_in(node)])

    def _role(self, key: Node, kind: str | None) -> Role | None:
        if not isinstance(key, Name) or key.name not in self.fields:
            return None
        kind = self.roles.get(key.name, kind)
        return (key.name, kind, self.fields[key.name].pii) if kind else None

    # --- the function

    def source(self) -> str:
        """The function as text."""
        order = sorted(enumerate(self.told), key=lambda item: item[1].rank)
        flags = [f"s{i}" for i, one in order if not self.told[one]]
        body = [f"    {' = '.join(flags)} = False", *self.asked] if flags else []
        body += self._sentence(order, bool(flags))
        body += self._headline(order)
        body.append(
            "    return Evidence({!r}, what, entity, feature, value, threshold, USUAL.get(({}, feature)) if USUAL else None, "
            "event_ids, TECHNIQUES, 1.0, ts)".format(
                f"{'shadow' if self.rule.state == 'shadow' else 'rule'}:{self.rule.id}",
                repr(self.rule.on[0]) if len(self.rule.on) == 1 else "get('type')",
            )
        )
        whole = "\n".join(body)
        read = [f"    {v} = {self._read(n)}" for n, v in self.names.items() if n != "t" and v in whole]
        return "\n".join(["def why(get, F, event_ids, ts, t):", *read, whole, ""])

    def asks_models(self) -> str:
        """The function `said` as text; nothing for a rule that asks no model."""
        asked = [(i, one) for i, one in enumerate(self.told) if self.spoken[one]]
        if not asked:
            return ""
        flags = [f"s{i}" for i, one in enumerate(self.told) if not self.told[one]]
        body = [f"    {' = '.join(flags)} = False", *self.asked] if flags else []
        body.append("    out = ()")
        for i, one in asked:
            more = f"out += {tuple(dict.fromkeys(self.spoken[one]))!r}"
            body.append(f"    {more}" if self.told[one] else f"    if s{i}: {more}")
        whole = "\n".join(body)
        read = [f"    {v} = {self._read(n)}" for n, v in self.names.items() if n != "t" and v in whole]
        return "\n".join(["def said(get, F, t):", *read, whole, "    return out", ""])

    def _read(self, name: str) -> str:
        feature = self.rulebook.features.get(name)
        return f"get({name!r})" if feature is None or feature.type == "string" else f"F[{self.column[name]}]"

    def _sentence(self, order: list[tuple[int, Told]], flags: bool) -> list[str]:
        title = self.rule.title
        if not order:
            return [f"    what = {title!r}"]
        if not flags:
            said, args = ", ".join(one.said for _, one in order), [a for _, one in order for a in one.args]
            return [f"    what = {_filled(f'{_plain(title)}: {said}', args)}"]
        lines = ["    said = ''"]
        for i, one in order:
            more = f"said += {_filled(', ' + one.said, one.args)}"
            lines.append(f"    {more}" if self.told[one] else f"    if s{i}: {more}")
        return [*lines, f"    what = {title!r} + (': ' + said[2:] if said else '')"]

    def _headline(self, order: list[tuple[int, Told]]) -> list[str]:
        """The first comparison that held."""
        lines: list[str] = []
        word = "if"
        for i, one in order:
            sure = self.told[one]
            pad = "    " if sure and not lines else "        "
            if pad == "        ":
                lines.append("    else:" if sure else f"    {word} s{i}:")
            lines.append(f"{pad}feature, value, threshold = {one.feature!r}, {one.value}, {one.threshold}")
            lines.append(f"{pad}entity = {entity_source(self.rulebook, one.about)}")
            if sure:
                return lines
            word = "elif"
        nothing = ["feature = value = threshold = None", f"entity = {entity_source(self.rulebook, ())}"]
        return [*lines, "    else:", *(f"        {n}" for n in nothing)] if lines else [f"    {n}" for n in nothing]


def _filled(template: str, args: Sequence[str]) -> str:
    """Source of a %-template filled with `args` (source): as an f-string, which takes half the time, where they can stand in one.

    >>> print(_filled("100 %% of %s (> %%s %s)", ["TEXT(v)", "w"]))
    ('100 % of ' f'{TEXT(v)}' ' (> %s ' f'{w}' ')')
    >>> print(_filled("%s and %s", ["SAID('a')", '"b"']), _filled("%s", ['SAID("b", c[1:])']))
    (f"{SAID('a')}" ' and ' f'{"b"}') '%s' % (SAID("b", c[1:]), )
    """
    if any("\\" in a or ("'" in a and '"' in a) or ":" in a.replace(":=", "") for a in args):
        return f"{template!r} % ({''.join(f'{a}, ' for a in args)})"
    holes = iter([f'f"{{{a}}}"' if "'" in a else f"f'{{{a}}}'" for a in args])
    text, pieces = "", []
    for part in re.split("(%s|%%)", template):
        if part == "%s":
            pieces += [repr(text), next(holes)]
            text = ""
        else:
            text += "%" if part == "%%" else part
    return f"({' '.join(p for p in [*pieces, repr(text)] if p != repr(''))})"


def _called(node: Node) -> str | None:
    """What evidence calls a thing that has a name."""
    if not isinstance(node, Name):
        return None
    return f'model("{node.name.removeprefix(MODEL)}")' if node.name.startswith(MODEL) else node.name


# --- about whom


def about(rulebook: Rulebook, names: Iterable[str]) -> tuple[Role, ...]:
    """The roles whose keys these features were computed for, then those among these fields."""
    names = list(names)
    roles, fields = rulebook.schema.roles, rulebook.schema.fields
    found = [r for name in names for r in _keys(rulebook, name)] + names
    return tuple((r, roles[r], fields[r].pii) for r in dict.fromkeys(found) if r in roles)


def _keys(rulebook: Rulebook, feature: str) -> Iterable[str]:
    f = rulebook.features.get(feature)
    if f is None:
        return ()
    return f.entity or [r for name in f.reads for r in _keys(rulebook, name)]


def entity_source(rulebook: Rulebook, roles: tuple[Role, ...], event_id: str = "event_ids[0]") -> str:
    """Source of `kind:id` of the first of these roles that the event has, else of the event's subject; `event_id` is source too."""
    code, schema = "", rulebook.schema
    for role, kind, personal in dict.fromkeys((*roles, *about(rulebook, (r for r, _ in subject_roles(schema))))):
        got = f"get({role!r})" if schema.fields[role].type == "string" else f"KEY(get({role!r}))"
        code += f"{f'{kind}:'!r} + {'MASK(v)' if personal else 'v'} if (v := {got}) is not None else "
    return code + f"'event:' + {event_id}"


# --- how values read


def exact(value: Any) -> str:
    """A value as a literal that means exactly it.

    >>> [exact(value) for value in (5.0, 0.1, "US", -3.0)]
    ['5', '0.1', "'US'", '-3']
    """
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return repr(value)


def number(value: Any, bound: Any) -> str:
    """A number in six digits, or in full where six would say something false about `bound`.

    >>> number(0.6666666666666, 0.5), number(5.00000001, 5.0), number(3.0, 2.0), number(1234567.5, 1.0)
    ('0.666667', '5.00000001', '3', '1234567.5')
    """
    if value.__class__ is not float or value.is_integer():
        return exact(value)
    if 1e-4 <= value < 999_999.0 and not -SIX * value <= value - bound <= SIX * value:
        return f"{value:.6g}"  # far enough from the bound, and short
    said = f"{value:.6g}"
    near = float(said)
    same = (near > bound) == (value > bound) and (near < bound) == (value < bound)
    return said if same and "e" not in said else repr(value)


def span(seconds: Any, bound: Any) -> str:
    """A time span in its largest unit and three digits, or in exact seconds where three would say something false about `bound`.

    >>> span(93622.2, 3888000.0), span(30.0, 60.0), span(86399.9, 86400.0), span(float("nan"), 1.0)
    ('1.08d', '30s', '86399.9s', 'missing')
    """
    if seconds.__class__ is not float or seconds != seconds:
        return text(seconds)
    unit, size = next(((u, s) for u, s in (("d", 86400), ("h", 3600), ("m", 60)) if abs(seconds) >= s), ("s", 1))
    said = f"{seconds / size:.3g}"
    near = float(said) * size
    same = (near > bound) == (seconds > bound) and (near < bound) == (seconds < bound)
    return f"{said}{unit}" if same and "e" not in said else f"{exact(seconds)}s"


def pair(a: float, b: float) -> tuple[str, str]:
    """Two compared numbers, told so that the comparison still holds.

    >>> pair(50.0, 29.94333333333), pair(0.9999999, 1.0000001)
    (('50', '29.9433'), ('0.9999999', '1.0000001'))
    """
    x, y = number(a, b), number(b, a)
    if a > 0.0 < b and abs(a - b) > 2 * SIX * (a + b):
        return x, y
    same = (float(x) > float(y)) == (a > b) and (float(x) < float(y)) == (a < b)
    return (x, y) if same else (exact(a), exact(b))


def text(value: Any) -> str:
    """Anything in a sentence; long texts are cut.

    >>> text("d1"), text(3.0), text("x" * 100) == "x" * 77 + "...", text(None)
    ('d1', '3', True, 'missing')
    """
    if isinstance(value, str):
        return value if len(value) <= LONGEST else value[: LONGEST - 3] + "..."
    return "missing" if value is None or value != value else exact(value) if isinstance(value, float) else str(value)


def _plain(said: str) -> str:
    """Text inside a %-template."""
    return said.replace("%", "%%")


def mask_of(seed: bytes) -> Callable[[str | None], str]:
    """Personal data under the name it has in a data folder, or a name of the same form: equal values stay equal."""

    def mask(value: str | None) -> str:
        if value is None:
            return "missing"
        return (
            value
            if _PSEUDONYM.fullmatch(value)
            else "p_" + blake2b(value.encode(), digest_size=16, key=seed).hexdigest()
        )

    return mask
