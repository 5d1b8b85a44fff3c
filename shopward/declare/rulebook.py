"""A rulebook: the folder of YAML files that a risk strategist edits, read and checked as a whole.

    schema.yaml  features/*.yaml  models/*.yaml  rules/*.yaml  lists/*.yaml  lookups/*.yaml  policy.yaml

Nothing runs before everything checks, and everything wrong is told at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path, PurePosixPath

from shopward.declare.features import Tables, Types, read_features
from shopward.declare.lists import read_lists
from shopward.declare.lookups import MAX_CSV, read_lookup
from shopward.declare.models import read_models
from shopward.declare.policy import read_policy
from shopward.declare.rules import read_rule, unscored, untested
from shopward.declare.schema import read_schema
from shopward.declare.texts import change_feature, change_file, change_rule
from shopward.declare.tree import MAX_BYTES, At, load_text
from shopward.declare.types import Feature, ListSpec, Lookup, ModelUse, Policy, Rule, Schema
from shopward.errors import Problem, RulebookError, UsageError
from shopward.expr import FUNCTIONS
from shopward.expr.place import suggest

FOLDERS = ("features", "models", "rules", "lists", "lookups")
MAX_FILES = 5_000


class Rulebook:
    """What a rulebook folder declares.

    `schema`, `features` (declared order), `models`, `rules` (file order), `lookups`, `lists`, `policy`; `version` names the content;
    `warnings` are Problems that do not keep it from running (a live rule without tests).

    >>> book = Rulebook.from_files({
    ...     "schema.yaml": "{types: [order], fields: {account: {type: string, entity: account}, amount: money}}",
    ...     "features/f.yaml": "spend_24h: {entity: account, measure: sum(amount), over: 24h}",
    ...     "rules/big.yaml": "{id: big, title: Much at once, on: order, when: spend_24h > 1000, then: review, state: draft}",
    ... })
    >>> book.features["spend_24h"].over, book.rules["big"].when.features, len(book.version)
    (86400000, ('spend_24h',), 12)
    """

    path: Path | None
    schema: Schema
    features: dict[str, Feature]
    models: dict[str, ModelUse]
    rules: dict[str, Rule]
    lookups: dict[str, Lookup]
    lists: dict[str, ListSpec]
    policy: Policy
    version: str
    warnings: list[Problem]
    files: dict[str, str]  # relative path -> text, what `version` is the hash of

    def __init__(self, path: str | Path):
        self.path = Path(path)
        problems: list[Problem] = []
        files = _read_folder(self.path, problems)
        self._build(files, problems)

    @classmethod
    def from_files(cls, files: dict[str, str]) -> Rulebook:
        """A rulebook from texts: relative path -> content. Raises RulebookError with every problem in them.

        >>> Rulebook.from_files({"schema.yaml": "{types: [login], fields: {account: {type: string, entity: account}}}"})
        ... # doctest: +ELLIPSIS
        <Rulebook ...: 0 features, 0 rules, version ...>
        """
        book = cls.__new__(cls)
        book.path = None
        book._build({name: _normal(text) for name, text in files.items()}, [])
        return book

    @classmethod
    def default(cls) -> Rulebook:
        """The marketplace rulebook that ships with Shopward."""
        return cls(Path(str(resources.files("shopward"))) / "rulebooks" / "marketplace")

    def with_(
        self,
        *,
        rules: Mapping[str, str] | None = None,
        features: Mapping[str, str] | None = None,
        files: Mapping[str, str | None] | None = None,
    ) -> Rulebook:
        """Another rulebook with some texts changed or added, checked as a whole, with its own version; this one stays as it is.

        `rules` are rule files by id, `features` the YAML of single features by name: what is there is replaced where it stands,
        what is new gets a file of its own. `files` are whole files by path, None takes one away. Raises RulebookError when the
        result does not check, UsageError when a text is not what its name says.

        >>> book = Rulebook.from_files({
        ...     "schema.yaml": "{types: [order], fields: {account: {type: string, entity: account}, amount: money}}",
        ...     "features/f.yaml": "spend_24h: {entity: account, measure: sum(amount), over: 24h}",
        ...     "rules/big.yaml": "{id: big, title: Much at once, on: order, when: spend_24h > 1000, then: review, state: draft}",
        ... })
        >>> sharper = book.with_(rules={"big": book.rule_text("big").replace("1000", "500")})
        >>> sharper.rules["big"].when.source, book.rules["big"].when.source, sharper.version != book.version
        ('spend_24h > 500', 'spend_24h > 1000', True)
        >>> longer = book.with_(features={"spend_24h": "{entity: account, measure: sum(amount), over: 7d}",
        ...                               "orders_1h": "{entity: account, measure: count, over: 1h}"})
        >>> longer.features["spend_24h"].over // 86_400_000, list(longer.files)[-1]
        (7, 'features/orders_1h.yaml')
        """
        made = dict(self.files)
        for name, text in (files or {}).items():
            change_file(made, name, text)
        for name, text in (features or {}).items():
            change_feature(made, name, text)
        for id, text in (rules or {}).items():
            change_rule(made, self._rule_file(id), id, text)
        return self._of(made)

    def without(self, rules: Iterable[str] = (), *, features: Iterable[str] = ()) -> Rulebook:
        """Another rulebook without some rules and features, checked as a whole. Raises UsageError for one that is not there.

        >>> Rulebook.default().without(rules=["blocklst"])
        Traceback (most recent call last):
        ...
        shopward.errors.UsageError: there is no rule `blocklst`; did you mean `blocklist`?
        """
        made = dict(self.files)
        for id in rules:
            if id not in self.rules:
                raise UsageError(f"there is no rule `{id}`; {suggest(id, self.rules, 'the rule')}")
            made.pop(self.rules[id].file)
        for name in features:
            if name not in self.features:
                raise UsageError(f"there is no feature `{name}`; {suggest(name, self.features)}")
            change_feature(made, name, None)
        return self._of(made)

    def rule_text(self, id: str) -> str:
        """The file of a rule, as written."""
        if id not in self.rules:
            raise UsageError(f"there is no rule `{id}`; {suggest(id, self.rules, 'the rule')}")
        return self.files[self.rules[id].file]

    def _rule_file(self, id: str) -> str:
        return self.rules[id].file if id in self.rules else f"rules/{id}.yaml"

    def _of(self, files: dict[str, str]) -> Rulebook:
        """A rulebook of these texts in this one's place: model folders are looked for beside it."""
        book = Rulebook.__new__(Rulebook)
        book.path = self.path
        book._build({name: _normal(text) for name, text in files.items()}, [])
        return book

    def __repr__(self) -> str:
        where = self.path.name if self.path else "texts"
        return f"<Rulebook {where}: {len(self.features)} features, {len(self.rules)} rules, version {self.version}>"

    def _build(self, files: dict[str, str], problems: list[Problem]) -> None:
        self.version, self.files = version_of(files), files
        trees = {name: load_text(text, name, problems) for name, text in files.items() if name.endswith(".yaml")}
        if problems:
            raise RulebookError(problems, self.path)  # half a rulebook would only cause more complaints
        _stray(trees, problems)
        if "schema.yaml" not in files:
            problems.append(
                Problem("schema.yaml", 1, 1, "there is no schema.yaml", hint="it names event types and fields")
            )
            raise RulebookError(problems, self.path)
        self.schema = read_schema(trees["schema.yaml"], problems)
        if len(self.schema.types) == 1 or not self.schema.fields:
            raise RulebookError(
                problems or [Problem("schema.yaml", 1, 1, "the schema names no event types or no fields")], self.path
            )
        self.lists = read_lists(_in("lists", trees), self.schema, problems)
        self.lookups = _lookups(trees, files, problems)
        self.models = read_models(_in("models", trees), self.schema, problems)
        tables = Tables(self.schema, self.lists, self.lookups, self.models)
        _same_functions(self.lookups, problems)
        self.features, types = read_features(_in("features", trees), tables, problems)
        self.policy = read_policy(trees.get("policy.yaml"), self.lookups, problems, self.schema.types)
        self.warnings = []
        self.rules = self._rules(_in("rules", trees), tables, types, problems)
        if problems:
            raise RulebookError(problems, self.path)

    def _rules(self, nodes: list[At], tables: Tables, types: Types, problems: list[Problem]) -> dict[str, Rule]:
        rules: dict[str, Rule] = {}
        for node in nodes:
            rule = read_rule(node, tables, types, problems)
            if rule is None:
                continue
            if rule.id in rules:
                at = node.items["id"]  # type: ignore[attr-defined]
                problems.append(
                    at.problem(f"rule `{rule.id}` is declared twice", f"the other is in {rules[rule.id].file}")
                )
                continue
            rules[rule.id] = rule
            advice = untested(rule, node), unscored(rule, node, self.models)
            self.warnings.extend(problem for problem in advice if problem)
        return rules


def version_of(files: dict[str, str]) -> str:
    """The first 12 hex digits of SHA-256 over paths and contents, in path order; line ends do not count.

    >>> version_of({"a.yaml": "x: 1\\n"}) == version_of({"a.yaml": "x: 1\\r\\n"}), version_of({})
    (True, 'e3b0c44298fc')
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        body = _normal(files[name]).encode(errors="surrogatepass")
        digest.update(f"{name}\0{len(body)}\0".encode(errors="surrogatepass") + body)
    return digest.hexdigest()[:12]


def _normal(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _in(folder: str, trees: dict[str, At | None]) -> list[At]:
    """The readable files of a folder, in path order."""
    return [trees[n] for n in sorted(trees) if n.startswith(folder + "/") and trees[n] is not None]  # type: ignore[misc]


def _lookups(trees: dict[str, At | None], files: dict[str, str], problems: list[Problem]) -> dict[str, Lookup]:
    out: dict[str, Lookup] = {}
    for node in _in("lookups", trees):
        path = PurePosixPath(node.source.file)
        beside = lambda name, path=path: files.get(str(path.parent / name))  # noqa: E731
        found = read_lookup(path.stem, node, problems, beside)
        if found:
            out[path.stem] = found
    return out


def _same_functions(lookups: dict[str, Lookup], problems: list[Problem]) -> None:
    """`NAME_COLUMN` must mean one thing."""
    owner = dict.fromkeys(FUNCTIONS, "a function of the language")
    for table in lookups.values():
        for column in table.columns:
            name, mine = f"{table.name}_{column}", f"column `{column}` of lookup `{table.name}`"
            if name in owner:
                problems.append(
                    Problem(
                        f"lookups/{table.name}.yaml",
                        1,
                        1,
                        f"`{name}` is {owner[name]} already",
                        hint="rename the column",
                    )
                )
            owner.setdefault(name, mine)


def _stray(trees: dict[str, At | None], problems: list[Problem]) -> None:
    """A file that nobody reads is a rule that never fires."""
    for name in trees:
        top, _, rest = name.partition("/")
        if (not rest and top not in ("schema.yaml", "policy.yaml")) or (rest and top not in FOLDERS):
            near = suggest(top, [*FOLDERS, "schema.yaml", "policy.yaml"])
            problems.append(
                Problem(
                    name,
                    1,
                    1,
                    "this file is not read",
                    hint=near or "rulebooks hold schema.yaml, policy.yaml, " + ", ".join(FOLDERS),
                )
            )


# --- reading the folder -------------------------------------------------------------------------------------------------------------


def _read_folder(root: Path, problems: list[Problem]) -> dict[str, str]:
    if not root.is_dir():
        raise UsageError(f"{root}: there is no such rulebook folder")
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and not _hidden(p, root))
    wanted = [n for n in names if n.endswith((".yaml", ".yml")) or (n.startswith("lookups/") and n.endswith(".csv"))]
    if len(wanted) > MAX_FILES:
        raise UsageError(f"{root}: {len(wanted)} files; a rulebook has at most {MAX_FILES}")
    out = {}
    for name in wanted:
        text = _read_file(root / name, name, problems)
        if text is not None:
            out[name] = text
    return out


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _read_file(path: Path, name: str, problems: list[Problem]) -> str | None:
    if name.endswith(".yml"):
        problems.append(Problem(name, 1, 1, "this file is not read", hint="rulebook files end in .yaml"))
        return None
    limit = MAX_CSV if name.endswith(".csv") else MAX_BYTES
    if path.stat().st_size > limit:
        problems.append(Problem(name, 1, 1, f"the file is larger than {limit // 1_000_000} MB"))
        return None
    try:
        return _normal(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as e:
        problems.append(Problem(name, 1, 1, f"this file is not UTF-8 (byte {e.start})"))
        return None
