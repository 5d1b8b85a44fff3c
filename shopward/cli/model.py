"""`shopward model train|score|audit|deploy|rollback|monitor|compare`: models from events, tables or graphs, proved before they decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shopward.cli.talk import emit, existing, json_option, load_rulebook, progress, rulebook_option, say, write_whole
from shopward.errors import BadData, UsageError
from shopward.words import count

paths = click.Path(path_type=Path)
events_option = click.option(
    "--events", multiple=True, type=paths, help="Events: files or folders (give it again for more)."
)
labels_option = click.option(
    "--labels", type=click.Path(path_type=Path, exists=True), help="Rows event_id, label, label_ts."
)
nodes_option = click.option("--nodes", type=paths, help="Nodes: a table with `id` and features.")
edges_option = click.option("--edges", type=paths, help="Edges: a table with `src`, `dst`.")


@click.group()
def model() -> None:
    """Train, score, audit, deploy and watch models."""


@model.command()
@click.argument("table", required=False, type=paths)
@events_option
@labels_option
@nodes_option
@edges_option
@rulebook_option
@click.option("--out", required=True, type=paths, help="The model folder to write; its name is the model's name.")
@click.option("--label", "label", help="Column of the truth (tables and nodes).")
@click.option("--time", "time_column", help="Column of the time (tables).")
@click.option("--group", help="Rows of one group never teach and judge: a column, or a role of the schema.")
@click.option("--train-mask", help="Column that is 1 for the nodes to train on.")
@click.option("--until", help="T: the last training event (time).")
@click.option("--delay", default="0s", show_default=True, help="Labels known by T + delay are used.")
@click.option("--since", help="The first training event; earlier ones only build history.")
@click.option("--features", "feature_set", type=click.Choice(["generate", "graph", "given"]), default="generate", show_default=True,
              help="Search entities x measures x windows; the same and what neighbours tell (plain Python, slow on millions); or the rulebook's as they are.")  # fmt: skip
@click.option("--unlabelled", type=click.Choice(["auto", "legitimate", "skip"]), default="auto", show_default=True,
              help="What events are that nobody judged; auto: legitimate where most of them go unjudged.")  # fmt: skip
@click.option("--kind", type=click.Choice(["forest", "xgboost", "catboost", "logistic", "sequence"]), default="forest", show_default=True,
              help="Trees by LightGBM, XGBoost or CatBoost, logistic regression, or a network over an entity's last events beside trees.")  # fmt: skip
@click.option(
    "--history", help="With --kind sequence: the role whose last events are read (default: the commonest one)."
)
@click.option(
    "--leave-out",
    help="A column of --labels or of the TABLE (campaign): leave each of its values out of training in turn and tell what is caught.",
)
@click.option("--campaigns", type=click.Path(path_type=Path, exists=True),
              help="Rows `id` and more of each campaign, so that --leave-out may name one of these columns (kind).")  # fmt: skip
@click.option("--repair", type=click.Choice(["missing", "wrong", "both"]),
              help="Of labels that teach: frauds nobody reported count partly as fraud, wrong labels are left out, or both. Rows in repairs.csv.")  # fmt: skip
@click.option("--drop-near-duplicates", is_flag=True, help="Of rows alike to three digits the earliest teaches.")
@click.option("--let-through", metavar="FIELD",
              help="A number field of events (column of the TABLE): the chance with which what was to be stopped was let through; 0 stopped, empty: as usual.")  # fmt: skip
@click.option("--threads", default=1, show_default=True, help="How many threads train.")
@click.option("--seed", default=7, show_default=True, help="The same seed and threads give the same model.")
@click.option("--trials", type=int, help="Try that many settings on time folds, record every run, keep the best.")
@click.option("--strict", is_flag=True, help="Exit code 1, and no model, when the auditor finds a leak.")
@json_option
def train(table, events, labels, nodes, edges, rulebook_dir, out, label, time_column, group, train_mask, until, delay, since,
          feature_set, unlabelled, kind, history, leave_out, campaigns, repair, drop_near_duplicates, let_through, threads, seed, trials,
          strict, as_json) -> None:  # fmt: skip
    """Train a model on events and labels, on a TABLE of examples, or on --nodes and --edges."""
    from shopward.models import flows
    from shopward.models.repair import Repair
    from shopward.models.training import Settings

    given = [bool(table), bool(events), bool(nodes or edges)]
    if sum(given) != 1 or (nodes is None) != (edges is None):
        raise UsageError("train on one of: TABLE --label C; --events E --labels L; --nodes N --edges E --label C")
    if (table or nodes) and not label:
        raise UsageError("--label names the column of the truth")
    if history and kind != "sequence":
        raise UsageError("--history belongs to --kind sequence")
    if leave_out and (nodes or kind == "sequence"):
        raise UsageError("--leave-out is for events and tables, and not for --kind sequence")
    if campaigns and not (leave_out and events):
        raise UsageError("--campaigns belongs to --leave-out and --events")
    mend = Repair(repair, drop_near_duplicates, let_through) if repair or drop_near_duplicates or let_through else None
    if feature_set == "graph" and not events:
        raise UsageError("--features graph belongs to --events: nodes have their edges, rows of a TABLE no neighbours")
    settings = Settings(
        kind=kind, threads=threads, seed=seed, group=group, trials=trials or 0, strict=strict, history=history, repair=mend,
    )  # fmt: skip
    with progress("training") as step:
        tell = lambda what: step(1)  # noqa: E731
        if table:
            done = flows.train_table(
                table, label, out, settings, time_column=time_column, campaign=leave_out, on_step=tell
            )
        elif nodes:
            done = flows.train_nodes(nodes, edges, label, out, settings, mask=train_mask, on_step=tell)
        else:
            run = flows.EventRun(
                events,
                labels,
                _moment(until, "--until"),
                _duration(delay),
                _moment(since, "--since"),
                feature_set != "given",
                feature_set == "graph",
                unlabelled=unlabelled,
                leave_out=leave_out,
                campaigns=campaigns,
            )
            done = flows.train_events(run, load_rulebook(rulebook_dir), _engine, out, settings, on_step=tell)
    if as_json:
        return emit(done.report())
    return _tell_training(done)


def _engine(rulebook):
    from shopward.decide import Engine

    return Engine(rulebook, mode="auto")  # small files are done before kernels of a new feature set are compiled


def _moment(text: str | None, option: str) -> int | None:
    from shopward.errors import BadEvent
    from shopward.event import parse_time

    try:
        return None if text is None else parse_time(text)
    except BadEvent as wrong:
        raise UsageError(f"{option} {text}: {wrong}") from None


def _duration(text: str) -> int:
    from shopward.declare.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError as wrong:
        raise UsageError(f"--delay {text}: {wrong}") from None


def _tell_training(done) -> None:
    m, t = done.meta["metrics"], done.meta["training"]
    say(
        f"{count(t['rows'], 'row')}, {count(t['frauds'], 'fraud')}, {count(len(done.meta['features']), 'feature')} in {done.seconds:.1f} s; {t['split']}"
    )
    for note in done.meta["notes"]:
        say(f"note: {note}")
    for name in ("average_precision", "roc_auc", "recall_at_0.5%_fpr", "value_recall_at_0.5%_fpr"):
        if m.get(name) is not None:
            click.echo(f"{name:<28} {m[name]:.4f}")
    if unseen := done.meta.get("unseen"):
        _tell_unseen(unseen)
    for finding in done.findings:
        say(
            f"leak: {finding.column} ({finding.kind}), AUC {finding.metric_with:.3f} with it, {finding.metric_without:.3f} without: {finding.why}"
        )
    if repair := done.meta.get("repair"):
        say(f"every repaired row is in {done.folder / repair['rows']}")
    say(f"model {done.meta['name']} {done.meta['version']} is in {done.folder}; open {done.folder / 'card.html'}")


def _tell_unseen(found) -> None:
    share = lambda value: "-" if value is None else f"{value:.0%}"  # noqa: E731
    for row in found["groups"]:
        click.echo(f"{found['by']} {row[found['by']]}, {row['frauds']:,} frauds: {share(row.get('unseen'))} found without having seen it, "
                   f"{share(row['seen'])} after half of it; of the value {share(row.get('unseen_value'))} and {share(row['seen_value'])}")  # fmt: skip


@model.command()
@click.argument("table", required=False, type=paths)
@events_option
@labels_option
@nodes_option
@edges_option
@rulebook_option
@click.option("--model", "folder", required=True, type=paths, help="A model folder.")
@click.option("--from", "since", help="T: score events from here on; earlier ones build history.")
@click.option("--out", required=True, type=paths, help="Rows: .parquet, .csv or .ndjson.")
@json_option
def score(table, events, labels, nodes, edges, rulebook_dir, folder, since, out, as_json) -> None:
    """Score events, a TABLE, or the nodes of a graph with a trained model."""
    from shopward.models import flows
    from shopward.runs import Rows

    if sum([bool(table), bool(events), bool(nodes or edges)]) != 1 or (nodes is None) != (edges is None):
        raise UsageError("score one of: TABLE; --events E [--labels L] --from T; --nodes N --edges E")
    rows, n = Rows(out), 0
    if events:
        book = load_rulebook(rulebook_dir) if rulebook_dir else None
        parts = flows.score_events(events, labels, folder, _engine, since=_moment(since, "--from"), rulebook=book)
    else:
        parts = iter([flows.score_table(table, folder) if table else flows.score_nodes(nodes, edges, folder)])
    try:
        with progress("scoring") as done:
            for part in parts:
                rows.write(part)
                n += part.num_rows
                done(part.num_rows)
        rows.close(flows.no_scores())
    except BaseException:
        rows.abandon()
        raise
    emit({"rows": n, "out": str(out)}) if as_json else say(f"{count(n, 'score')} in {out}")


@model.command()
@click.argument("table", type=paths)
@click.option("--label", required=True, help="Column of the truth.")
@click.option("--time", "time_column", help="Column of the time; without it, leaks of the future cannot be seen.")
@json_option
def audit(table, label, time_column, as_json) -> None:
    """Look for leaks in a TABLE of examples. Exit code 1 if there is any."""
    from shopward.models.audit import audit_table
    from shopward.models.table import read_table

    with progress("auditing"):
        found = audit_table(read_table(table), label, time_column)
    if as_json:
        emit({"findings": [f.as_dict() for f in found]})
    else:
        for f in found:
            click.echo(
                f"{f.column}  {f.kind}  AUC {f.metric_with:.3f} with, {f.metric_without:.3f} without\n    {f.why}"
            )
        say(count(len(found), "leak"))
    raise SystemExit(1 if found else 0)


data_option = click.option("--data", required=True, type=paths, help="The data folder that keeps the registry.")


@model.command()
@click.argument("folder", type=paths)
@data_option
@click.option(
    "--rulebook", "rulebook_dir", required=True, type=paths, help="The rulebook folder whose decisions it joins."
)
@click.option(
    "--shadow", "state", flag_value="shadow", default=True, help="Scored and kept, without a say (the default)."
)
@click.option("--live", "state", flag_value="live", help='Rules may read it as model("NAME").')
@click.option("--champion", "state", flag_value="champion", help="Its score is `score` and `risk`.")
@click.option("--percent", type=click.FloatRange(0, 100), help="Champion for that share of accounts.")
@click.option("--owner", default="", help="Who answers for it.")
@click.option("--accept-leaks", is_flag=True, help="Deploy in spite of what the auditor found.")
@json_option
def deploy(folder, data, rulebook_dir, state, percent, owner, accept_leaks, as_json) -> None:
    """Copy the model in FOLDER to the registry and give it a place in decisions."""
    from shopward.models.registry import deploy as place

    state = "champion" if percent is not None else state
    done = place(
        data,
        folder,
        rulebook_dir,
        state=state,
        percent=100.0 if percent is None else percent,
        owner=owner,
        accept=accept_leaks,
    )
    if as_json:
        return emit(
            {
                "name": done.name,
                "version": done.version,
                "state": done.state,
                "percent": done.percent,
                "files": [f for f, t in done.after.items() if t],
            }
        )
    share = f" for {done.percent:g} % of accounts" if done.percent < 100 else ""
    return say(
        f"{done.name} {done.version} is {done.state}{share}; written: {', '.join(f for f, t in done.after.items() if t)}"
    )


@model.command()
@click.argument("name", required=False)
@data_option
@click.option("--rulebook", "rulebook_dir", required=True, type=paths, help="The rulebook folder.")
@json_option
def rollback(name, data, rulebook_dir, as_json) -> None:
    """Take the latest deployment (of NAME) back."""
    from shopward.models.registry import rollback as undo

    done = undo(data, rulebook_dir, name)
    if as_json:
        return emit({"name": done.name, "version": done.version, "restored": [f for f, t in done.after.items() if t]})
    return say(f"{done.name} {done.version} was taken back")


@model.command("list")
@data_option
@json_option
def list_models(data, as_json) -> None:
    """The models in the registry and what was done with them."""
    from shopward.models.registry import history, models

    found = models(existing(data))
    if as_json:
        told = [
            {"at": d.at, "what": d.what, "name": d.name, "version": d.version, "state": d.state, "percent": d.percent}
            for d in history(data)
        ]
        return emit({"models": found, "history": told})
    for row in found:
        ap = (row.get("metrics") or {}).get("average_precision")
        click.echo(
            f"{row['name']:<24} {row['version']}  "
            + (f"{row['trained']}  AP {ap:.4f}" if ap else row.get("why", row.get("trained", "")))
        )
    return None


@model.command()
@events_option
@labels_option
@click.option("--model", "folder", required=True, type=paths, help="A model folder.")
@click.option("--from", "since", help="Watch events from here on; earlier ones build history.")
@click.option(
    "--against", type=paths, help="A second model: compare both on events whose labels are known, paired by day."
)
@json_option
def monitor(events, labels, folder, since, against, as_json) -> None:
    """Drift of a model's features and scores on newer events, and the precision to expect. Exit code 1 on an alarm."""
    from shopward.models import flows

    if not events:
        raise UsageError("--events names the events to look at")
    with progress("watching"):
        found = flows.monitor_events(events, labels, folder, _engine, since=_moment(since, "--from"), against=against)
    if as_json:
        emit(found)
    else:
        for d in found["drift"][:15]:
            click.echo(
                f"{d['state']:<6} {d['name']:<40} PSI {d['psi']:.3f}  KS {d['ks']:.3f}  missing {d['missing_then']:.1%} -> {d['missing_now']:.1%}"
            )
        say(
            f"{found['events']:,} events, mean score {found['mean_score']:.5f}; expected precision of the top 1 %: {found['expected_precision_top_1%']:.2f}"
        )
        if "paired" in found:
            p = found["paired"]
            say(
                f"challenger - champion: average precision {p['difference']:+.4f} a day [{p['low']:+.4f}, {p['high']:+.4f}] over {p['days']:g} days"
            )
    raise SystemExit(1 if found["alarms"] else 0)


@model.command()
@click.argument("scores", type=paths)
@events_option
@labels_option
@rulebook_option
@click.option("--by", multiple=True, help="A text field to segment by (give it again for more).")
@click.option("--entity", help="The role whose first frauds are told apart.")
@click.option("--out", type=paths, help="A page for people: .html.")
@json_option
def evaluate(scores, events, labels, rulebook_dir, by, entity, out, as_json) -> None:
    """How good are SCORES (rows event_id, score): in money, with intervals, by segment, as a policy."""
    from shopward.models import flows
    from shopward.models.report import evaluation_page

    if not events or labels is None:
        raise UsageError("--events and --labels say what was scored and what became true")
    with progress("evaluating"):
        found, judged = flows.evaluate_scores(
            scores, events, labels, load_rulebook(rulebook_dir), _engine, by=by, entity=entity
        )
    if out is not None:
        write_whole(out, evaluation_page(scores.name, found, judged))
    if as_json:
        return emit(found)
    for name, one in found["headline"].items():
        if one["value"] is not None:
            between = "" if one["low"] is None else f"  {one['low']:.4f} to {one['high']:.4f}"
            click.echo(f"{name:<28} {one['value']:.4f}{between}")
    for name, at in found["policy"]["thresholds"].items():
        click.echo(f"{name:<28} from {at:.5f} on")
    return say(f"{found['events']:,} events, {found['frauds']:,} frauds" + (f"; open {out}" if out else ""))


@model.command()
@click.argument("name")
@click.option(
    "--path", "files", multiple=True, type=click.Path(path_type=Path, exists=True), help="Its files, in order."
)
@json_option
def published(name, files, as_json) -> None:
    """Train on a public data set NAME that you have (ieee-cis, baf, ulb, elliptic, yelpchi, amazon), beside the published numbers."""
    from shopward.models.published import compare as beside

    with progress("training"):
        found = beside(name, files)
    if as_json:
        return emit(found)
    for row in found["published"]:
        click.echo(
            f"{row['measure']:<20} here {row['here']:.4f}  published {row['published']:.4f}  {row['model']}; {row['protocol']} ({row['source']})"
        )
    for note in found["notes"]:
        say(f"note: {note}")
    return say(f"{found['taught']:,} rows taught, {found['judged']:,} judged, {found['frauds']:,} of them fraud")


@model.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@json_option
def compare(files, as_json) -> None:
    """Compare recorded runs (NAME.runs.ndjson), the best first."""
    found = [run for file in files for run in _runs(file)]
    found.sort(key=lambda run: -run["average_precision"])
    if as_json:
        return emit(found)
    for run in found:
        params = " ".join(f"{k}={v:g}" for k, v in run["params"].items())
        click.echo(f"{run['average_precision']:.4f}  {run['seconds']:>6.1f} s  data {run['data']}  {params}")
    return None


RUN = ("average_precision", "seconds", "data", "params")


def _runs(file: Path) -> list[dict[str, Any]]:
    """The runs that `model train --trials` recorded in a file."""
    import msgspec

    found = []
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            run = msgspec.json.decode(line, type=dict) if line.strip() else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            run = {}
        if run is not None and any(name not in run for name in RUN):
            raise BadData(
                f"{file}:{number}: not a recorded run; `shopward model train --trials 20` writes NAME.runs.ndjson"
            )
        found += [run | {"file": str(file)}] if run is not None else []
    return found
