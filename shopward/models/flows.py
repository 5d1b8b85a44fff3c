"""Whole runs: events, tables or nodes in, a model folder or rows of scores out. What `shopward model train` and `score` call.

The engine that computes features is made by the caller (`make_engine(rulebook)`): models know features, not decisions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.declare.rulebook import Rulebook
from shopward.declare.types import Policy
from shopward.errors import BadData, UsageError
from shopward.event import format_time
from shopward.models import audit, folder, monitor
from shopward.models.dataset import UNKNOWN, Census, Examples, census, choose, read_examples, stream_examples
from shopward.models.evaluate import Judged, disturbed, evaluate
from shopward.models.generate import candidates, closure, meeting, neighbourly, to_yaml
from shopward.models.history import Past
from shopward.models.meaning import differences, meanings
from shopward.models.network import adjacency, neighbourhood
from shopward.models.repair import chances, to_csv
from shopward.models.report import card_page
from shopward.models.table import Recipe, column, examples_of, labels, numbers, read_table
from shopward.models.training import Settings, Trained, grown, tidied, train
from shopward.models.trials import search
from shopward.models.unseen import groups_of, unseen_campaigns
from shopward.words import count

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 250_000
MOST_ENTITIES = 4
LEAST_MET = 0.01  # the share of entities that must meet another through a thing for a graph of it
GRAPH_US = 50  # what one graph costs an event
Step = Callable[[str], None]


def _quiet(what: str) -> None:
    """Says nothing."""


@dataclass(frozen=True, slots=True)
class Result:
    """What training made: the folder's description, what the auditor found, and how long it took."""

    folder: Path
    meta: dict[str, Any]
    findings: list[audit.Finding]
    seconds: float

    def report(self) -> dict[str, Any]:
        """The JSON of `model train`."""
        m = self.meta
        return {
            "model": str(self.folder), "name": m["name"], "version": m["version"], "kind": m["kind"], "features": len(m["features"]),
            "metrics": m["metrics"], "training": m["training"], "notes": m["notes"],
            "audit": [f.as_dict() for f in self.findings], "seconds": round(self.seconds, 2),
            **{name: m[name] for name in ("repair", "unseen") if name in m},
        }  # fmt: skip


# --- events -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventRun:
    """What to train on: events and labels until T, labels known by T + delay (ms)."""

    events: tuple[Path, ...]
    labels: Path | None
    until: int | None = None
    delay: int = 0
    since: int | None = None
    generate: bool = True
    graph: bool = False  # generated features ask about neighbours too
    most_rows: int = MOST_ROWS
    unlabelled: str = "auto"
    leave_out: str | None = (
        None  # a column of the labels or of `campaigns`, whose values are left out of training in turn
    )
    campaigns: Path | None = None


def train_events(
    run: EventRun,
    rulebook: Rulebook,
    make_engine: Callable[[Rulebook], Any],
    out: Path,
    settings: Settings,
    on_step: Step = _quiet,
) -> Result:
    """Train on events as they were decided on: features as of each event, labels as they arrived. Raises BadData without usable labels."""
    started = time.perf_counter()
    if run.leave_out and run.labels is None:
        raise UsageError(f"--leave-out {run.leave_out}: it is a column of --labels")
    plain = without_rules(rulebook)
    known_by = None if run.until is None else run.until + run.delay
    on_step("reading labels")
    engine = make_engine(_only_schema(plain))
    found = census(engine, run.events, run.labels, until=run.until, known_by=known_by, hashes=run.graph)
    rows, label, weight = choose(
        found, since=run.since, until=run.until, most=run.most_rows, seed=settings.seed, unlabelled=run.unlabelled
    )
    chance = _chance_field(plain, settings)
    book, inputs, dear = _feature_set(plain, found, rows, run)
    inputs = [n for n in inputs if n not in chance]
    on_step(f"computing {len(inputs)} features")
    commonest = sorted((r for r, (share, _) in found.keys.items() if share > 0.5), key=lambda r: -found.keys[r][0])
    groups = [settings.group] if settings.group else commonest[:1]
    if settings.repair and settings.repair.labels:
        groups = list(dict.fromkeys([*groups, *commonest[:MOST_ENTITIES]]))  # the company that rows keep is evidence
    if settings.group and settings.group not in book.schema.roles:
        raise UsageError(f"--group {settings.group}: not a role of the schema ({', '.join(book.schema.roles)})")
    past = _past(plain, found, rows, settings, commonest) if settings.kind == "sequence" else None
    engine = make_engine(book)
    examples = read_examples(engine, run.events, run.labels, [*inputs, *chance], rows=rows, groups=groups, history=past)
    examples = replace(examples, label=label, weight=weight, label_ts=found.label_ts[rows], notes=list(found.notes))
    if chance:
        examples = _heard(_chances(examples, chance[0]), found.label[rows] == UNKNOWN)
    settings = replace(settings, select=settings.select or run.generate, dear=tuple(dear))
    trained = _trained(examples, out, settings, on_step)
    on_step("auditing")
    findings = audit.examine(examples.columns([n for n in trained.features if n in examples.names]), served=True)
    kept = closure(_declared(book), trained.features)
    files = dict(book.files)
    trained.meta["notes"] += _dear_said(book, [n for n in trained.features if n in dear])
    if kept:
        files[f"features/model_{_plain_name(out.name)}.yaml"] = to_yaml(kept, f"What the model {out.name} reads.")
    types = sorted({book.schema.types[i] for i in np.unique(found.types[rows]).tolist()})
    trained.meta["input"] = {
        "how": "events", "types": types, "meanings": meanings(book, trained.features), "rulebook": rulebook.version,
        "until": None if run.until is None else format_time(run.until), "delay_ms": run.delay,
        "files": {k: v for k, v in files.items() if k != GENERATED},
    }  # fmt: skip
    trained.files["features.yaml"] = (
        to_yaml(kept, f"What the model {out.name} reads: copy it into the rulebook's features folder.") if kept else ""
    )
    unseen = None
    if run.leave_out and run.labels is not None:
        campaign = groups_of(examples.ids, run.labels, run.leave_out, run.campaigns)
        unseen = _Unseen(examples, campaign, run.leave_out, settings, on_step)
    return _finish(out, trained, findings, started, settings.strict, rulebook.policy, unseen)


def _past(plain: Rulebook, found: Census, rows: np.ndarray, settings: Settings, commonest: list[str]) -> Past:
    """What a sequence network reads: the numbers and texts of the last events of the commonest entity, or of the one named."""
    roles = list(plain.schema.roles)
    entity = settings.history or next(iter(commonest), None)
    if entity not in roles:
        raise UsageError(f"--history {entity or ''}: name a role of the schema ({', '.join(roles)})")
    chance = _chance_field(plain, settings)
    return Past(
        entity, tuple(n for n in _direct(plain, found, rows) if n not in chance), tuple(r for r in roles if r != entity)
    )


def _chance_field(plain: Rulebook, settings: Settings) -> list[str]:
    """The field that says with which chance an event was let through, if one is named; UsageError when it is no number."""
    name, fields = settings.repair.let_through if settings.repair else None, plain.schema.fields
    if name is None:
        return []
    if name not in fields or fields[name].type not in ("number", "decimal"):
        there = ", ".join(f.name for f in fields.values() if f.type in ("number", "decimal")) or "there is none"
        raise UsageError(f"--let-through {name}: not a number field of the schema ({there})")
    return [name]


def _chances(examples: Examples, name: str) -> Examples:
    """The column `name` is what it says of each row, and nothing to learn from."""
    chance = examples.matrix[:, examples.names.index(name)]
    others = examples.columns([n for n in examples.names if n != name])
    return replace(others, let_through=chances(chance, examples.ids, f"--let-through {name}"))


def _heard(examples: Examples, silent: np.ndarray) -> Examples:
    """Without events that were stopped and judged by nobody: their silence is no honesty."""
    assert examples.let_through is not None
    mute = silent & (examples.let_through == 0)
    if not mute.any():
        return examples
    said = (
        f"{count(int(mute.sum()), 'stopped event')} without a label left out: nobody knows what they would have become"
    )
    return replace(examples.take(~mute), notes=[*examples.notes, said])


def _plain_name(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name.lower())


def without_rules(rulebook: Rulebook) -> Rulebook:
    """The same schema, features, lists, lookups and policy; rules and models do not move features."""
    return Rulebook.from_files({k: v for k, v in rulebook.files.items() if not k.startswith(("rules/", "models/"))})


def _only_schema(rulebook: Rulebook) -> Rulebook:
    return Rulebook.from_files({k: v for k, v in rulebook.files.items() if not k.startswith("features/")})


def _declared(book: Rulebook) -> dict[str, dict[str, object]]:
    """The declarations of all generated features, as they were written."""
    import yaml

    text = book.files.get(GENERATED, "")
    return dict(yaml.safe_load(text) or {}) if text else {}


GENERATED = "features/model_generated.yaml"


def _feature_set(
    plain: Rulebook, found: Census, rows: np.ndarray, run: EventRun
) -> tuple[Rulebook, list[str], list[str]]:
    """The rulebook with generated features, everything a model could read (features, numbers, texts of few values), and what of it is dear."""
    fields = plain.schema.fields
    own = [f.name for f in plain.features.values() if f.type != "string"]
    types = [plain.schema.types[i] for i in np.unique(found.types[rows]).tolist()]
    direct = _direct(plain, found, rows)
    if not run.generate:
        return plain, [*direct, *own], []
    roles = sorted(
        (r for r, (share, each) in found.keys.items() if share > 0.2 and each > 1.2), key=lambda r: -found.keys[r][0]
    )
    roles, taken = roles[:MOST_ENTITIES], [*plain.features, *fields]
    extra = candidates(plain.schema, types, entities=roles, taken=taken)
    if not roles:
        extra.declared = {k: v for k, v in extra.declared.items() if k.startswith("event_")}
        extra.inputs = [n for n in extra.inputs if n in extra.declared]
    extra.inputs = [n for n in extra.inputs if not (plain.schema.money and n == f"event_{plain.schema.money}")]
    dear = neighbourly(plain.schema, _shared(found), extra, taken) if run.graph else []
    book = Rulebook.from_files({**plain.files, GENERATED: to_yaml(extra.declared, "Candidates.")})
    return book, list(dict.fromkeys([*direct, *own, *extra.inputs])), dear


def _shared(found: Census) -> dict[str, list[str]]:
    """What the two commonest entities share with their like, most first; entities that share nothing worth a graph are left out."""
    shared: dict[str, list[str]] = {}

    def things(entity: str) -> list[str]:
        others = {r: keys for r, keys in found.hashes.items() if r != entity}
        met = {r: meeting(found.hashes[entity], keys, found.ts) for r, keys in others.items()}
        return sorted((r for r, share in met.items() if share >= LEAST_MET), key=lambda r: -met[r])

    common = sorted((r for r, (share, _) in found.keys.items() if share > 0.2), key=lambda r: -found.keys[r][0])
    for entity in common[:MOST_ENTITIES]:
        if len(shared) < 2 and (best := things(entity)):
            shared[entity] = best
    if not shared:
        found.notes.append("no graph features were tried: hardly anybody shares anything")
    return shared


def _dear_said(book: Rulebook, kept: list[str]) -> list[str]:
    """What graph features cost in decisions."""
    webs = {(f.entity, f.graph.through) for f in map(book.features.__getitem__, kept) if f.graph}
    told = f"graph features walk {count(len(webs), 'graph')} in plain Python: about {GRAPH_US * len(webs)} us an event"
    return [told] if kept else []


def _direct(plain: Rulebook, found: Census, rows: np.ndarray) -> list[str]:
    """Fields of events that a model may read as they are."""
    fields = plain.schema.fields
    direct = [f.name for f in fields.values() if f.type in ("number", "money", "bool", "decimal") and not f.entity]
    direct += [f.name for f in fields.values() if f.type == "string" and not f.entity and not f.pii]
    return direct + (["type"] if len(np.unique(found.types[rows])) > 1 else [])


def _said(scorer: Any, part: Examples) -> np.ndarray:
    """Scores float64[n]; a sequence network is given the past of each event too."""
    more = () if part.past is None else (part.past,)
    return scorer.score(np.ascontiguousarray(part.matrix.T), *more)


def score_events(
    events: Iterable[Path],
    labels_file: Path | None,
    model: Path,
    make_engine: Callable[[Rulebook], Any],
    *,
    since: int | None = None,
    rulebook: Rulebook | None = None,
) -> Iterator[pa.Table]:
    """Tables `event_id, score, risk` of the events from `since` on, in arrival order; earlier ones and their labels build history.

    With `rulebook` the model's features must still mean there what they meant in training; else BadData tells the difference.
    """
    import pyarrow as pa

    meta = folder.read_meta(model)
    _expect(meta, "events", model)
    book = Rulebook.from_files(meta["input"]["files"])
    if rulebook is not None:
        _same_meaning(rulebook, book, meta)
    scorer = folder.read_model(model, meta)
    engine = make_engine(book)
    history = getattr(scorer, "past", None)
    for part in stream_examples(
        engine, events, labels_file, scorer.features, since=since, texts=scorer.categories, history=history
    ):
        score = _said(scorer, part)
        yield pa.table({"event_id": pa.array(part.ids, pa.string()), "score": score, "risk": scorer.risk(score)})


def monitor_events(
    events: Iterable[Path],
    labels_file: Path | None,
    model: Path,
    make_engine: Callable[[Rulebook], Any],
    *,
    since: int | None,
    against: Path | None,
) -> dict[str, Any]:
    """The monitor's report on events from `since` on; `against` adds a paired comparison on the events whose labels are known."""
    meta = folder.read_meta(model)
    _expect(meta, "events", model)
    scorer = folder.read_model(model, meta)
    engine = make_engine(Rulebook.from_files(meta["input"]["files"]))
    history = getattr(scorer, "past", None)
    parts = list(
        stream_examples(
            engine, events, labels_file, scorer.features, since=since, texts=scorer.categories, history=history
        )
    )
    if not parts:
        raise BadData("no event from --from on")
    matrix = np.concatenate([p.matrix for p in parts])
    score = np.concatenate([_said(scorer, part) for part in parts])
    found = monitor.report(meta, matrix, score)
    if against is not None:
        found["paired"] = _paired(events, labels_file, make_engine, since, score, parts, against, scorer)
    return found


def _paired(events, labels_file, make_engine, since, score, parts, against: Path, champion) -> dict[str, float]:
    tables = list(score_events(events, labels_file, against, make_engine, since=since))
    other = np.concatenate([np.asarray(t["score"]) for t in tables])
    book = Rulebook.from_files(folder.read_meta(against)["input"]["files"])
    truth = census(make_engine(_only_schema(book)), events, labels_file)
    label = dict(zip(truth.ids, truth.label.tolist(), strict=True))
    known = np.array([label.get(i, -1) for p in parts for i in p.ids])
    day = np.concatenate([p.ts for p in parts]) // 86_400_000
    rows = known >= 0
    return monitor.paired(known[rows] == 1, day[rows], score[rows], other[rows])


def evaluate_scores(
    scores: Path,
    events: Iterable[Path],
    labels_file: Path,
    rulebook: Rulebook,
    make_engine: Callable[[Rulebook], Any],
    *,
    by: tuple[str, ...] = (),
    entity: str | None = None,
) -> tuple[dict[str, Any], Judged]:
    """Evaluate rows `event_id, score`, whoever made them, by the truth that became known; `by` fields are segments."""
    table = read_table(scores)
    said = dict(
        zip(column(table, "event_id", "SCORES").to_pylist(), column(table, "score", "SCORES").to_pylist(), strict=True)
    )
    plain = _only_schema(without_rules(rulebook))
    roles = plain.schema.roles
    if entity is not None and entity not in roles:
        raise UsageError(f"--entity {entity}: not a role of the schema ({', '.join(roles)})")
    wrong = [
        n
        for n in by
        if n != "type"
        and (n not in plain.schema.fields or plain.schema.fields[n].type != "string" or plain.schema.fields[n].pii)
    ]
    if wrong:
        raise UsageError(f"--by {wrong[0]}: not a text field of the schema that may be printed")
    truth = census(make_engine(plain), events, labels_file)
    label = choose(truth, since=None, until=None, most=len(truth.ids))
    known = dict(zip(label[0].tolist(), label[1].tolist(), strict=True))
    rows = np.array([i for i, name in enumerate(truth.ids) if i in known and said.get(name) is not None], np.int64)
    if not len(rows):
        raise BadData(f"{scores}: no scored event has a known label")
    part = read_examples(make_engine(plain), events, labels_file, by, rows=rows, groups=[entity] if entity else [])
    part.label, score = (
        np.array([known[i] for i in rows.tolist()], np.int8),
        np.array([float(said[i]) for i in part.ids]),
    )
    judged = Judged.of(part, score)
    judged = judged.take(np.isfinite(score))
    return evaluate(judged, rulebook.policy), judged


def _same_meaning(theirs: Rulebook, ours: Rulebook, meta: dict[str, Any]) -> None:
    shared = [n for n in meta["input"]["meanings"] if n in theirs.features]
    changed = differences({n: meta["input"]["meanings"][n] for n in shared}, meanings(theirs, shared))
    if changed:
        raise BadData(
            "features changed their meaning since the model was trained; train it again:\n" + "\n".join(changed)
        )
    for name, kept in ours.schema.fields.items():
        now = theirs.schema.fields.get(name)
        if name in meta["features"] and (now is None or now.type != kept.type):
            raise BadData(
                f"field `{name}` was {kept.type} in training and is {now.type if now else 'no field'} in this rulebook"
            )


def _expect(meta: dict[str, Any], how: str, model: Path) -> None:
    if meta["input"]["how"] != how:
        raise UsageError(f"{model}: this model was trained on {meta['input']['how']}, not on {how}")


# --- tables -------------------------------------------------------------------------------------------------------------------------


def train_table(
    path: Path,
    label: str,
    out: Path,
    settings: Settings,
    *,
    time_column: str | None = None,
    leave_out: tuple[str, ...] = (),
    campaign: str | None = None,
    on_step: Step = _quiet,
) -> Result:
    """Train on a table, one row an example; `leave_out` are columns not to learn from, `campaign` one whose values are left out in turn.

    Raises UsageError for a column that is not there, BadData when nothing can be learnt.
    """
    started = time.perf_counter()
    table = read_table(path)
    named = (
        [None if v is None else str(v) for v in column(table, campaign, "--leave-out").to_pylist()] if campaign else []
    )
    chance = settings.repair.let_through if settings.repair else None
    passed = numbers(column(table, chance, "--let-through"), f"--let-through {chance}") if chance else None
    dropped = [c for c in (*leave_out, campaign, chance) if c in table.column_names]
    examples, recipe, rows = examples_of(table.drop_columns(dropped), label, time_column, settings.group)
    if passed is not None:
        passed = passed[[int(i) for i in examples.ids]]
        examples = replace(examples, let_through=chances(passed, examples.ids, f"--let-through {chance}"))
    findings = audit.audit_table(rows, label, time_column, recipe=recipe, examples=examples)
    trained = _trained(examples, out, settings, on_step)
    trained.meta["input"] = {
        "how": "table",
        "label": label,
        "columns": {n: recipe.columns[n] for n in trained.features},
    }
    unseen = None
    if campaign:
        mine = [named[int(i)] for i in examples.ids]
        unseen = _Unseen(examples, mine, campaign, settings, on_step)
    return _finish(out, trained, findings, started, settings.strict, unseen=unseen)


def score_table(path: Path, model: Path) -> pa.Table:
    """A table `row, score, risk`, in the order of the rows."""
    import pyarrow as pa

    meta = folder.read_meta(model)
    _expect(meta, "table", model)
    scorer = folder.read_model(model, meta)
    matrix = np.nan_to_num(
        Recipe(meta["input"]["columns"], []).matrix(read_table(path)), nan=np.nan, posinf=np.nan, neginf=np.nan
    )
    score = scorer.score(np.ascontiguousarray(matrix.T))
    return pa.table({"row": np.arange(len(score)), "score": score, "risk": scorer.risk(score)})


# --- nodes and edges ----------------------------------------------------------------------------------------------------------------


def train_nodes(
    nodes: Path,
    edges: Path,
    label: str,
    out: Path,
    settings: Settings,
    *,
    mask: str | None = None,
    on_step: Step = _quiet,
) -> Result:
    """Train on the nodes of a graph: their own features and those of their neighbourhood; `mask` names the column of training rows."""
    started = time.perf_counter()
    if settings.repair and settings.repair.let_through:
        raise UsageError("--let-through is for events and tables: nobody lets a node through")
    table = read_table(nodes)
    teach = labels(column(table, mask, "--train-mask"), "--train-mask") == 1 if mask else np.ones(table.num_rows, bool)
    truth = np.where(teach, labels(_hidden(column(table, label, "--label"), teach)), -1).astype(np.int8)
    left_out = [c for c in table.column_names if c in (label, mask) or "mask" in c.lower() or c == "id"]
    on_step("walking the graph")
    names, matrix, recipe, notes = _node_matrix(table, read_table(edges), left_out, None)
    rows = np.flatnonzero(truth >= 0)
    if not len(rows):
        raise BadData(f"--label {label}: no training node has a label")
    zero, one = np.zeros(len(rows), np.int64), np.ones(len(rows))
    ids = [str(i) for i in rows.tolist()]
    examples = Examples(tuple(names), matrix[rows], truth[rows], zero, zero, one, one.copy(), ids, notes=notes)
    trained = _trained(examples, out, settings, on_step)
    findings = audit.examine(examples, served=False)
    trained.meta["input"] = {"how": "nodes", "label": label, "columns": recipe.columns, "all": names}
    return _finish(out, trained, findings, started, settings.strict)


def _hidden(values: Any, teach: np.ndarray) -> Any:
    """Labels of rows that do not teach are not even read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pa.array(teach), values.combine_chunks(), pa.scalar(None, values.type))


def _node_matrix(
    table: Any, edges: Any, left_out: list[str], recipe: Recipe | None
) -> tuple[list[str], np.ndarray, Recipe, list[str]]:
    from shopward.models.table import learn_recipe

    a, _, notes = adjacency(table, edges)
    if recipe is None and set(table.column_names) <= set(left_out):
        recipe = Recipe({}, [])
    recipe = recipe or learn_recipe(table, left_out)
    own = recipe.matrix(table)
    names, matrix = neighbourhood(a, list(recipe.columns), own)
    return names, matrix, recipe, notes + recipe.notes


def score_nodes(nodes: Path, edges: Path, model: Path) -> pa.Table:
    """A table `id, score, risk` of every node."""
    import pyarrow as pa
    import pyarrow.compute as pc

    meta = folder.read_meta(model)
    _expect(meta, "nodes", model)
    scorer = folder.read_model(model, meta)
    table = read_table(nodes)
    names, matrix, _, _ = _node_matrix(table, read_table(edges), [], Recipe(meta["input"]["columns"], []))
    at = [names.index(n) for n in scorer.features]
    score = scorer.score(np.ascontiguousarray(matrix[:, at].T))
    return pa.table({"id": pc.cast(table["id"], pa.string()), "score": score, "risk": scorer.risk(score)})


def no_scores() -> pa.Table:
    """The columns of scored events when there were none."""
    import pyarrow as pa

    return pa.table(
        {"event_id": pa.array([], pa.string()), "score": pa.array([], pa.float64()), "risk": pa.array([], pa.float64())}
    )


@dataclass(frozen=True, slots=True)
class _Unseen:
    """Campaigns to leave out of training, one after the other."""

    examples: Examples
    campaign: list[str | None]
    by: str
    settings: Settings
    on_step: Step

    def found(self, trained: Trained, policy_fpr: float | None) -> dict[str, Any]:
        part, size = tidied(self.examples).columns(trained.features), trained.meta["training"]["size"]
        fit = lambda rows: grown(rows, self.settings, size)  # noqa: E731
        return unseen_campaigns(part, self.campaign, fit, by=self.by, policy_fpr=policy_fpr, on_step=self.on_step)


# --- shared -------------------------------------------------------------------------------------------------------------------------


def _trained(examples: Examples, out: Path, settings: Settings, on_step: Step) -> Trained:
    """Train; with trials, the settings that did best on time folds, every run kept in `runs.ndjson` beside the model."""
    if not settings.trials or settings.kind != "forest":
        return train(examples, out.name, settings, on_step)
    settings, runs = search(examples, settings, out.parent / f"{out.name}.runs.ndjson", on_step)
    trained = train(examples, out.name, settings, on_step)
    trained.meta["trials"] = [
        {"params": r["params"], "average_precision": r["average_precision"], "data": r["data"]} for r in runs
    ]
    return trained


def _finish(
    out: Path,
    trained: Trained,
    findings: list[audit.Finding],
    started: float,
    strict: bool,
    policy: Policy | None = None,
    unseen: _Unseen | None = None,
) -> Result:
    if strict and findings:
        raise BadData(
            "the auditor refused this model:\n" + "\n".join(f"`{f.column}` ({f.kind}): {f.why}" for f in findings)
        )
    trained.meta["audit"], rate = [f.as_dict() for f in findings], None
    if repair := trained.meta.get("repair"):
        key = "event_id" if trained.meta["input"]["how"] == "events" else "row"
        trained.files[repair["rows"]] = to_csv(trained.changes, key)
    if trained.later is not None and trained.later_score is not None:
        judged = Judged.of(trained.later, trained.later_score)
        trained.meta["evaluation"] = evaluate(judged, policy)
        rate = disturbed(judged, trained.meta["evaluation"])
    if unseen is not None:
        trained.meta["unseen"] = unseen.found(trained, rate)
    trained.meta["trained"] = format_time(int(time.time() * 1000))
    files = {**trained.files, "card.html": card_page(trained)}
    version = folder.save(out, trained.meta, files)
    return Result(out, {**trained.meta, "version": version}, findings, time.perf_counter() - started)
