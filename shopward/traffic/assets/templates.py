"""From paths to templates: which segments are ids, which are names, why, and how sure.

What is an id by its look (shapes.py) becomes one at once, so memory grows with interfaces, not with ids. Words are decided at the
end, by their neighbours: a group of words under one parent is one parameter when its members go on alike, are none of the words
that interfaces are made of, and are more than a few; a word that is called far more often than an id beside it stays a name.
Nothing is final: `Templates(given=[...])` are templates that people decided, and they win.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from shopward.traffic.assets.shapes import WORD, is_locale, is_name, shape, split_path
from shopward.traffic.assets.words import ACTIONS, DOCUMENTS, KINDS, NOUNS, STATIC, WAYS, is_plural, singular

_PREFIXED = re.compile(r"([A-Za-z]{2,20}[-_])\d+((?:[-_]\d+)*)")
Token = tuple[str, str, str]  # shape, word ("" for ids), ending
CAP = 4_000  # different words kept under one parent; what comes later is taken for a text
VALUES = 64  # different ids remembered under one parent, to tell one from many
AGAIN = 50_000  # paths remembered with their places
LONG = 400  # characters; longer paths do not come again
SUFFIXES = 40
DEPTH = 3
FEW, SOME, MANY = (
    3,
    4,
    10,
)  # members that a group of words needs: after a kind with a continuation, after a kind, anywhere
HEAVY = 4  # times as often called as an id beside it: a name


@dataclass(slots=True)
class Node:
    """One place in the tree of paths."""

    children: dict[Token, Node] = field(default_factory=dict)
    ends: Counter = field(default_factory=Counter)  # method -> calls of paths that end here
    calls: int = 0
    values: set[str] = field(default_factory=set)  # of an id: at most VALUES of them
    keys: frozenset[str] | None = None  # names in the JSON answers of paths that end here
    param: str = ""  # the name of the parameter, "" for a name
    shown: str = ""  # how the segment is written in the template
    why: str = ""
    confidence: float = 1.0
    route: dict[Token, Node] = field(default_factory=dict)  # after `resolve`


class Place:
    """One method's calls of a way that its nodes do not know of yet, and what a finder keeps about it."""

    __slots__ = ("calls", "held")

    def __init__(self) -> None:
        self.calls = 0
        self.held: Any = None


class Way:
    """A path through the tree. Paths that differ in whole numbers only have one way; its calls are added up at `settle`."""

    __slots__ = ("ids", "nodes", "places", "tokens")

    def __init__(self, tokens: tuple[Token, ...], nodes: tuple[Node, ...]):
        self.tokens, self.nodes = tokens, nodes
        self.ids = [node for node, token in zip(nodes[1:], tokens, strict=False) if token[0] != WORD]
        self.places: dict[str, Place] = {}

    def place(self, method: str) -> Place:
        """The place of a method."""
        found = self.places.get(method)
        if found is None:
            found = self.places[method] = Place()
        return found

    def is_full(self) -> bool:
        """Do its ids have nothing to learn from another number?"""
        self.ids = [node for node in self.ids if len(node.values) < VALUES]
        return not self.ids

    def settle(self) -> None:
        """Tell the nodes of the calls."""
        for method, place in self.places.items():
            for node in self.nodes:
                node.calls += place.calls
            if self.nodes and place.calls:
                self.nodes[-1].ends[method] += place.calls
            place.calls = 0


# A segment that is a whole number: what stands there makes no other template.
_WHOLE = re.compile(rf"(?<=/)[0-9]+(?=/|$|\.(?:{'|'.join(sorted(STATIC | DOCUMENTS))})$)")


@dataclass(frozen=True, slots=True)
class Template:
    """`path` with `{parameters}`, how sure it is, and why."""

    path: str
    confidence: float
    why: str


class Templates:
    """Learns templates from paths; `add` every path, then `resolve`, then ask `of`.

    >>> t = Templates()
    >>> for i in range(30):
    ...     for path in (f"/api/users/{i}", "/api/users/me", f"/brands/{'nike puma asics fila'.split()[i % 4]}/items", "/pay/callback/alipay"):
    ...         _ = t.add("GET", path)
    >>> t.resolve()
    >>> [t.of(t.add("GET", p)).path for p in ("/api/users/7", "/api/users/me", "/brands/puma/items", "/pay/callback/alipay")]
    ['/api/users/{user_id}', '/api/users/me', '/brands/{brand}/items', '/pay/callback/alipay']
    """

    def __init__(self, given: Iterable[str] = ()):
        self.root = Node()
        decided = [_given(template) for template in dict.fromkeys(given)]
        self.given = sorted(decided, key=lambda item: item[1].count(None))  # a name wins over a parameter
        self._ways: dict[str, Way] = {}  # by path
        self._forms: dict[str, Way] = {}  # by path with 0 for whole numbers
        self._asked: dict[str, tuple[Token, ...]] = {}  # forms of paths that teach nothing

    def add(self, method: str, path: str, keys: frozenset[str] | None = None, calls: int = 1) -> tuple[Token, ...]:
        """Take a call of a raw path; `keys` are the names at the top of its JSON answer. Returns what `of` takes."""
        way = self.way(path, keys)
        way.place(method).calls += calls
        if len(path) >= LONG:
            way.settle()
        return way.tokens

    def way(self, path: str, keys: frozenset[str] | None = None) -> Way:
        """The way of a path, taught by it when it is new. Its calls are counted at its places; of a path of LONG characters or
        more, which is not remembered, the caller settles them."""
        way = self._ways.get(path)
        if way is not None:
            return way
        if len(path) >= LONG:
            return self._learned(path, keys)
        if len(self._ways) >= AGAIN:
            self._settle()
            self._ways.clear()
            self._forms.clear()
        form = path if self.given else _WHOLE.sub("0", path)
        way = self._forms.get(form)
        if way is None or not way.is_full():
            learned = self._learned(path, keys)
            way = self._forms.setdefault(form, learned)
        elif keys and way.nodes[-1].keys is None:
            way.nodes[-1].keys = keys
        self._ways[path] = way
        return way

    def _settle(self) -> None:
        for way in self._forms.values():
            way.settle()

    def _learned(self, path: str, keys: frozenset[str] | None) -> Way:
        """The way of a path walked anew, which makes its nodes."""
        parts = split_path(path)[:64]  # deeper is no interface
        decided = self._by_people(parts) if self.given else None
        if decided:
            return Way((("!", decided, ""),), ())
        node, tokens, nodes = self.root, [], [self.root]
        for segment, ending in parts:
            token = _token(segment, ending, node is self.root)
            child = node.children.get(token)
            if child is None:
                if token[0] == WORD and len(node.children) >= CAP:
                    token = ("text", "", ending)
                    child = node.children.get(token)
                if child is None:
                    child = node.children[token] = Node()
            if token[0] != WORD and len(child.values) < VALUES:
                child.values.add(segment)
            tokens.append(token)
            node = child
            nodes.append(child)
        if keys and node.keys is None:
            node.keys = keys
        return Way(tuple(tokens), tuple(nodes))

    def tokens(self, path: str) -> tuple[Token, ...]:
        """What `of` takes, for a path that teaches nothing (it was answered: not found)."""
        if self.given or len(path) >= LONG:
            return self._tokens(path)
        form = _WHOLE.sub("0", path)
        found = self._asked.get(form)
        if found is None:
            if len(self._asked) >= AGAIN:
                self._asked.clear()
            found = self._asked[form] = self._tokens(form)
        return found

    def _tokens(self, path: str) -> tuple[Token, ...]:
        parts = split_path(path)
        decided = self._by_people(parts)
        if decided:
            return (("!", decided, ""),)
        return tuple(_token(segment, ending, not i) for i, (segment, ending) in enumerate(parts[:64]))

    def resolve(self) -> None:
        """Decide what is a parameter. Paths added later are matched against what was decided."""
        self._settle()
        _resolve(self.root, ["", ""])

    def of(self, tokens: Sequence[Token]) -> Template:
        """The template of a path."""
        if tokens and tokens[0][0] == "!":
            return Template(tokens[0][1], 1.0, "decided by people")
        node, shown, reasons, sure = self.root, [], [], 1.0
        for token in tokens:
            found = node.route.get(token) or node.route.get(("*", "", token[2]))
            if found is None:
                found = Node(
                    shown=token[1] + token[2] if token[0] == WORD else "{id}" + token[2],
                    confidence=0.5,
                    why="not seen before",
                )
            node = found
            shown.append(node.shown)
            sure = min(sure, node.confidence)
            if node.param or node.confidence < 0.9:
                reasons.append(f"{node.shown}: {node.why}")
        return Template(
            "/" + "/".join(_numbered(shown)), round(sure, 2), "; ".join(reasons) or "every segment is a name"
        )

    def _by_people(self, parts: list[tuple[str, str]]) -> str | None:
        for template, wanted in self.given:
            if len(wanted) == len(parts) and all(
                w is None or w == a + b for w, (a, b) in zip(wanted, parts, strict=True)
            ):
                return template
        return None


def _given(template: str) -> tuple[str, list[str | None]]:
    return template, [None if "{" in part else part for part in template.split("/") if part]


def _numbered(shown: list[str]) -> Iterator[str]:
    """Parameter names made different within one path."""
    seen: Counter = Counter()
    for part in shown:
        seen[part] += 1
        yield part.replace("}", f"_{seen[part]}}}", 1) if part.startswith("{") and seen[part] > 1 else part


def _token(segment: str, ending: str, first: bool) -> Token:
    if first or ending:  # `/list-3-7.html` keeps its name
        prefix = _PREFIXED.fullmatch(segment)
        if prefix:
            return prefix[1] + re.sub(r"\d+", "#", prefix[2]), "", ending
    found = shape(segment)
    return (WORD, segment, ending) if found == WORD else (found, "", ending)


# --- deciding


def _resolve(node: Node, above: list[str]) -> None:
    """Decide on the children of one place, then on theirs."""
    parent = above[-1]
    for ending in {token[2] for token in node.children}:
        ids = {t: c for t, c in node.children.items() if t[2] == ending and t[0] != WORD}
        ids = _kept_apart(node, ids, parent, ending)
        words = {t: c for t, c in node.children.items() if t[2] == ending and t[0] == WORD}
        joined, why, sure = _joining(words, ids, above, ending)
        if ids or joined:
            _make_parameter(node, ids, joined, parent, ending, why, sure)
        for token, child in words.items():
            if token not in joined:
                child.shown = _written(token)
                child.confidence, child.why = _sure_name(token, child, ids, parent)
                node.route[token] = child
    for token, child in {id(c): (t, c) for t, c in node.route.items()}.values():
        _resolve(child, [*above, "{}" if child.param else token[1].lower()])


def _kept_apart(node: Node, ids: dict[Token, Node], parent: str, ending: str) -> dict[Token, Node]:
    """Give ids that are half a name (`list-7`), and an interface's dated version, a place of their own; returns the others."""
    rest = {}
    for token, child in ids.items():
        if ("-" in token[0] or "_" in token[0]) and len(child.values) > 2:
            word, more = re.findall(r"([A-Za-z]+[-_])(.*)", token[0])[0]
            _make_parameter(node, {token: child}, {}, word[:-1], ending, "", 1.0)
            child.shown = word + "{id}" + more.replace("#", "{id}") + ending
            child.why = f"{len(child.values)} numbers after `{word}`"
        elif (
            token[0] in ("date", "number")
            and len(child.values) == 1
            and child.children
            and parent in ("api", "rest", "services", "admin", "")
        ):
            child.shown, child.why, child.confidence = next(iter(child.values)) + ending, "a version by date", 0.9
            node.route[token] = child
        else:
            rest[token] = child
    return rest


def _written(token: Token) -> str:
    return token[1].replace("{", "%7B").replace("}", "%7D") + token[2]


def _make_parameter(
    node: Node, ids: dict[Token, Node], joined: dict[Token, Node], parent: str, ending: str, why: str, sure: float
) -> None:
    members = [*ids.values(), *joined.values()]
    merged = _merged(members)
    shapes = Counter({t[0]: max(len(c.values), 1) for t, c in ids.items()})
    many = sum(shapes.values())
    merged.param = _name(shapes, joined, parent, ending)
    merged.shown = "{" + merged.param + "}" + ending
    said = ", ".join(f"{n}{'+' if n >= VALUES else ''} {_PLURAL.get(s, s)}" for s, n in shapes.most_common(3))
    merged.why = "; ".join(x for x in (said, why) if x)
    by_look = 0.99 if many > 1 else 0.85
    if set(shapes) <= {"int", "code"} and many == 1 and merged.calls > 20 and not joined:
        by_look = 0.6
    merged.confidence = min(by_look if ids else 1.0, sure if joined else 1.0)
    for token in (*ids, *joined):
        node.route[token] = merged
    node.route["*", "", ending] = merged


_PLURAL = {"int": "integers", "uuid": "UUIDs", "date": "dates", "email": "mail addresses", "ip": "addresses", "number": "numbers", "hex": "hexadecimal ids",
           "code": "codes", "slug": "slugs", "token": "tokens", "text": "texts"}  # fmt: skip


def _name(shapes: Counter, joined: dict[Token, Node], parent: str, ending: str) -> str:
    top = shapes.most_common(1)[0][0] if shapes else ""
    if joined and not shapes and all(is_locale(t[1]) for t in joined):
        return "locale"
    if top in ("date", "email", "ip"):
        return top
    if ending and ending[1:] in STATIC:
        return "file"
    stem = singular(parent).replace("-", "_")
    if not stem.isidentifier() or not stem.isascii() or parent in WAYS or parent in ACTIONS:
        return "slug" if top == "slug" else "id" if shapes else "name"
    return f"{stem}_id" if top in ("int", "uuid", "hex", "code", "token") else stem


def _merged(nodes: list[Node]) -> Node:
    """One place in the stead of several; their continuations come together."""
    if len(nodes) == 1:
        return nodes[0]
    out = Node()
    for node in nodes:
        out.calls += node.calls
        out.ends.update(node.ends)
        out.keys = out.keys or node.keys
        out.values |= set(sorted(node.values - out.values)[: VALUES - len(out.values)])
    tokens = {token for node in nodes for token in node.children}
    for token in sorted(tokens):
        out.children[token] = _merged([node.children[token] for node in nodes if token in node.children])
    return out


def _sure_name(token: Token, child: Node, ids: dict[Token, Node], parent: str) -> tuple[float, str]:
    if is_name(token[1]):
        return 0.97, "a word that interfaces are made of"
    if ids:
        return 0.8, "called far more often than the ids beside it"
    if child.calls >= 20:
        return 0.9, f"{child.calls} calls"
    return 0.7, "a word of its own"


# --- which words are one parameter

Groups = list[dict[Token, Node]]


def _joining(
    words: dict[Token, Node], ids: dict[Token, Node], above: list[str], ending: str
) -> tuple[dict[Token, Node], str, float]:
    """The words that are values of one parameter, why, and how sure."""
    locales = {t: c for t, c in words.items() if is_locale(t[1]) and t[1].lower() not in ACTIONS}
    if len(locales) > 1 and not ids and _goes_on_alike(locales):
        return locales, f"{len(locales)} languages that go on alike", 0.95
    open_words = {t: c for t, c in words.items() if not is_name(t[1])}
    joined: dict[Token, Node] = {}
    reasons: list[tuple[str, float]] = []
    for group in _alike(open_words):
        found = _beside_ids(group, ids, above[-1]) if ids else None
        found = found or _by_number(group, above, ending)
        if found:
            joined |= group if found[2] is None else found[2]
            reasons.append((found[0], found[1]))
    if joined:
        joined |= _swept(words, joined, ids)
    return joined, "; ".join(sorted({r for r, _ in reasons})), min((s for _, s in reasons), default=1.0)


def _beside_ids(
    group: dict[Token, Node], ids: dict[Token, Node], parent: str
) -> tuple[str, float, dict[Token, Node] | None] | None:
    """Words beside ids: values too when they go on like them and are not called far more often than one."""
    values = sum(max(len(c.values), 1) for c in ids.values())
    each = sum(c.calls for c in ids.values()) / values
    known = _suffixes(_merged(list(ids.values())))
    usual = sorted(c.calls for c in group.values())[len(group) // 2] if len(group) >= FEW else 1
    light = {
        t: c
        for t, c in group.items()
        if (parent in KINDS or c.calls <= HEAVY * max(each, usual))
        and (_contained(_suffixes(c), known) or (_is_end(c) and any(_is_end(i) for i in ids.values())))
    }
    if not light or (len(light) == 1 and values < 3):
        return None
    return f"{len(light)} {'word' if len(light) == 1 else 'words'} beside ids, going on like them", 0.85, light


def _by_number(
    group: dict[Token, Node], above: list[str], ending: str
) -> tuple[str, float, dict[Token, Node] | None] | None:
    """Words alone: how many there must be depends on what stands before them and on how they go on."""
    parent, n = above[-1], len(group)
    words = [t[1] for t in group]
    onward = [s for s in _suffixes(_merged(list(group.values()))) if s]
    names = max((sum(p not in ("{}", "") for p in s.split("/")) for s in onward), default=0)
    a_kind = parent in KINDS or (is_plural(parent) and parent not in WAYS)
    slugs = sum(_sluggish(w) for w in words) / n
    collections = sum(is_plural(w.lower()) for w in words) / n
    busiest = max(c.calls for c in group.values()) / max(sum(c.calls for c in group.values()), 1)
    before_ids = sum(s.startswith("{}/") or s == "{}" for s in onward) > 0.5 * len(onward) if onward else False
    if not a_kind and (collections > 0.6 or before_ids) and slugs < 0.5 and n < 3 * MANY:
        return None  # what ids follow is a collection
    if a_kind:
        need = 2 if names and not before_ids and busiest < 0.8 else FEW if names or slugs > 0.6 else SOME
    elif parent in WAYS or not parent:
        need = FEW if names > 1 else 25 if slugs < 0.6 else MANY
    elif parent == "{}":  # what follows an id and comes again and again is a part of it
        need = MANY if sum(c.calls for c in group.values()) < 5 * n else 4 * MANY
    else:
        need = FEW if names or slugs > 0.6 else 6 if parent not in ACTIONS else FEW
    if ending and ending[1:] in STATIC:
        need = FEW + 1
    if n < need:
        return None
    after = f" after `{parent}`" if parent and parent != "{}" else ""
    sure = min(0.95, 0.7 + 0.05 * (n - need) + 0.1 * bool(names))
    return f"{n} words{after}" + (" that go on alike" if onward else ""), sure, None


def _swept(words: dict[Token, Node], joined: dict[Token, Node], ids: dict[Token, Node]) -> dict[Token, Node]:
    """Other words that are values here: called as seldom as their neighbours and going on like them."""
    if len(joined) + sum(len(c.values) for c in ids.values()) < SOME:
        return {}
    usual = sorted(c.calls for c in joined.values())[len(joined) // 2]
    both = _merged([*joined.values(), *ids.values()])
    known = _suffixes(both)
    return {
        t: c
        for t, c in words.items()
        if t not in joined
        and t[1].lower() not in ACTIONS
        and not (ids and t[1].lower() in NOUNS)
        and c.calls <= 2 * usual
        and _same_answer(c.keys, both.keys)
        and (_contained(_suffixes(c), known) if c.children else bool(both.ends))
    }


def _sluggish(word: str) -> bool:
    """Several words in one, letters of another script, or digits: names of things rather than of interfaces."""
    return (
        "-" in word.strip("-")
        or "_" in word
        or not word.isascii()
        or any(c.isdigit() for c in word)
        or " " in word
        or "@" in word
    )


def _is_end(node: Node) -> bool:
    return bool(node.ends)


def _alike(words: dict[Token, Node]) -> Groups:
    """Words in groups that go on alike."""
    groups: list[tuple[set[str], frozenset[str] | None, dict[Token, Node]]] = []
    for token, child in sorted(words.items(), key=lambda item: (-item[1].calls, item[0])):
        onward = _suffixes(child)
        for known, keys, group in groups:
            if _fits(onward, known) and _same_answer(child.keys, keys):
                known |= onward
                group[token] = child
                break
        else:
            groups.append((set(onward), child.keys, {token: child}))
        if len(groups) > 200:
            break
    return [group for _, _, group in groups]


def _goes_on_alike(words: dict[Token, Node]) -> bool:
    groups = _alike(words)
    return max(map(len, groups)) >= 2 and max(map(len, groups)) >= 0.7 * len(words)


def _fits(onward: set[str], known: set[str]) -> bool:
    if not (onward - {""}) and not (known - {""}):
        return True
    return _contained(onward - {""}, known - {""}) and bool(onward - {""}) == bool(known - {""})


def _contained(onward: set[str], known: set[str]) -> bool:
    return bool(onward) and len(onward & known) >= 0.5 * min(len(onward), max(len(known), 1))


def _same_answer(a: frozenset[str] | None, b: frozenset[str] | None) -> bool:
    return not a or not b or len(a & b) >= 0.3 * len(a | b)


def _suffixes(node: Node, depth: int = DEPTH) -> set[str]:
    """How paths go on from here, ids and unknown words as {}; "" where one ends."""
    found = {""} if node.ends else set()
    if depth:
        for token, child in list(node.children.items())[:SUFFIXES]:
            word = token[1].lower() + token[2] if token[0] == WORD and is_name(token[1]) else "{}" + token[2]
            found |= {f"{word}/{rest}" if rest else word for rest in _suffixes(child, depth - 1)}
            if len(found) > SUFFIXES:
                break
    return found
