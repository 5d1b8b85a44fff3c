"""`shopward serve`: decisions over HTTP, on loopback unless told otherwise; its tokens, a standby, and events from Kafka."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from shopward.cli.talk import (
    data_option,
    emit,
    existing,
    json_option,
    load_rulebook,
    me,
    progress,
    rulebook_option,
    say,
)
from shopward.errors import UsageError
from shopward.words import count


@click.group(invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@data_option
@click.option(
    "--token", envvar="SHOPWARD_TOKEN", metavar="TEXT", help="A bearer token with every scope (better: SHOPWARD_TOKEN)."
)
@rulebook_option
@click.option(
    "--replay",
    type=click.Path(path_type=Path, exists=True),
    help="Build the state of a new data folder from another one's log or lake.",
)
@click.option(
    "--traffic-rulebook",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="What judges the requests of /v1/traffic (default: the shipped one).",
)
@click.option(
    "--follow", type=click.Path(path_type=Path, exists=True), help="Stand by for the server that owns this data folder."
)
@click.option("--tls-cert", type=click.Path(path_type=Path, exists=True), help="PEM file: answer HTTPS.")
@click.option("--tls-key", type=click.Path(path_type=Path, exists=True), help="PEM file with the certificate's key.")
@click.option("--webhook", metavar="URL", help="Tell this address of decisions; signed with SHOPWARD_WEBHOOK_SECRET.")
@click.option(
    "--webhook-on", default="deny,hold,review", show_default=True, metavar="ACTIONS", help="Of which decisions."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout once it listens.")
@click.pass_context
def serve(ctx: click.Context, **options: Any) -> None:
    """Answer decisions over HTTP (POST /v1/decide and more); every answer is on disk before it leaves."""
    if ctx.invoked_subcommand is None:
        _serve(**options)


def _serve(host: str, port: int, tls_cert: Path | None, tls_key: Path | None, as_json: bool, **options: Any) -> None:
    from shopward.serve.server import BACKLOG, listen, run

    if bool(tls_cert) != bool(tls_key):
        raise UsageError("--tls-cert and --tls-key go together")
    if tls_cert:
        _check_tls(tls_cert, tls_key)
    sockets = listen(host, port)
    app = _app(**options)
    os.environ.pop("SHOPWARD_TOKEN", None)
    os.environ.pop("SHOPWARD_WEBHOOK_SECRET", None)
    where = f"http{'s' if tls_cert else ''}://{f'[{host}]' if ':' in host else host}:{sockets[0].getsockname()[1]}"
    for sock in sockets:
        sock.listen(BACKLOG)  # who calls from now on is answered as soon as the server runs
    if app.decider.has_engine:
        engine = app.decider.engine
        told = {"url": where, "rulebook_version": engine.rulebook.version, "events": engine.seq}
        say(f"shopward serve on {where}  rulebook {engine.rulebook.version}  {engine.seq:,} events")
        if not app.tokens.any:
            say("no token: /v1 answers 401. Make one with `shopward serve token create`.")
    else:
        told = {"url": where, "following": str(options["follow"])}
        say(f"shopward serve on {where} follows {options['follow']}")
    if as_json:
        emit(told)
    run(app, sockets, str(tls_cert) if tls_cert else None, str(tls_key) if tls_key else None)


def _check_tls(cert: Path, key: Path | None) -> None:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except ssl.SSLError:
        raise UsageError(f"--tls-cert {cert} --tls-key {key}: not a certificate and its key as PEM") from None


def _app(
    data: Path, token: str | None, rulebook_dir: Path | None, replay: Path | None, follow: Path | None, webhook: str | None, webhook_on: str,
    traffic_rulebook: Path | None,
):  # fmt: skip
    from shopward.serve.app import App
    from shopward.serve.outbox import Webhook, actions_of
    from shopward.serve.server import load_whole

    traffic, hook = _traffic_rulebook(traffic_rulebook), None
    if webhook:
        hook = Webhook(webhook, os.environ.get("SHOPWARD_WEBHOOK_SECRET", "").encode(), tuple(actions_of(webhook_on)))
    if follow is not None:
        from shopward.change import Follower
        from shopward.serve.following import Following

        load_whole()
        following = Following(Follower(follow))
        app = App(None, token, rulebook=rulebook_dir, webhook=hook, following=following, traffic_rulebook=traffic)
        app.metrics.more.append(following)
        return app
    load_whole()
    engine = _engine(data, rulebook_dir, replay)
    return App(engine, token, rulebook=rulebook_dir, webhook=hook, traffic_rulebook=traffic)


def _traffic_rulebook(folder: Path | None):
    """The rulebook of requests that was named, or None. Raises UsageError for one of something else."""
    if folder is None:
        return None
    rulebook = load_rulebook(folder)
    if "http_request" not in rulebook.schema.types:
        raise UsageError(
            f"{folder}: a traffic rulebook judges events of type `http_request`; this one has {', '.join(rulebook.schema.types[1:6])}"
        )
    return rulebook


def _engine(data: Path, rulebook_dir: Path | None, replay: Path | None):
    """The engine of a data folder. Without --rulebook, one that was switched to over HTTP stays in force."""
    from shopward.decide import Engine
    from shopward.durable import in_force, kept_rulebook

    if replay is not None:
        _replay(replay, data)
    now = in_force(data)
    kept = kept_rulebook(data, now.version) if rulebook_dir is None and (now.by or replay) else None
    if kept is not None:
        say(
            f"rulebook {kept.version} stays in force (switched to by {now.by or 'the replayed folder'}); --rulebook DIR changes that"
        )
    return Engine(kept or load_rulebook(rulebook_dir), data=data, clock="server")


def _replay(source: Path, data: Path) -> None:
    from shopward.change import take_from

    with progress("replaying") as done:
        taken = take_from(source, data, on_progress=done)
    say(f"{taken:,} events taken from {source}")


@serve.group()
def token() -> None:
    """Bearer tokens of /v1: made once, shown once, kept as a hash."""


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("decide",),
    show_default=True,
    help="decide, read, label, lists, traffic, admin.",
)
@click.option("--expires", help="A duration from now such as 90d.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Events a second.")
@data_option
@json_option
def create(
    name: str, scopes: tuple[str, ...], expires: str | None, rate: float | None, data: Path, as_json: bool
) -> None:
    """Make a token called NAME and print it; it is never shown again."""
    from shopward.declare.durations import parse_duration
    from shopward.serve.auth import create as make
    from shopward.store.tables import now_ms

    try:
        end = None if expires is None else now_ms() + parse_duration(expires)
    except ValueError as error:
        raise UsageError(f"--expires: {error}") from None
    with _tables(data) as tables:
        text = make(tables, name, scopes, end, rate, me())
    if as_json:
        return emit({"name": name, "token": text, "scopes": scopes, "expires": end})
    say(f"token `{name}` for {', '.join(scopes)}; keep it, it is not shown again")
    click.echo(text)
    return None


@token.command("list")
@data_option
@json_option
def list_(data: Path, as_json: bool) -> None:
    """Every token ever made: scopes, rate, when it ends or ended."""
    from shopward.event import format_time
    from shopward.serve.auth import listed

    with _tables(existing(data)) as tables:
        rows = listed(tables)
    if as_json:
        return emit({"tokens": rows})
    for row in rows:
        ends = "revoked" if row["revoked"] else f"until {format_time(row['expires'])}" if row["expires"] else "for good"
        rate = "" if row["rate"] is None else f"{row['rate']:g}/s"
        click.echo(f"{row['name']}  {row['scopes']}  {ends}  {rate}".rstrip())
    return None


@token.command()
@click.argument("name")
@data_option
@json_option
def revoke(name: str, data: Path, as_json: bool) -> None:
    """End the token called NAME; a running server forgets it within seconds."""
    from shopward.serve.auth import revoke as end

    with _tables(existing(data)) as tables:
        n = end(tables, name, me())
    if not n:
        raise UsageError(f"there is no token `{name}`")
    if as_json:
        return emit({"revoked": n})
    say(f"token `{name}` is revoked")
    return None


def _tables(data: Path):
    from shopward.store.tables import Tables

    data.mkdir(parents=True, exist_ok=True)
    return Tables.open(data / "shopward.db")


@serve.command()
@click.option("--brokers", required=True, metavar="HOST:PORT,...", help="Where to begin with the cluster.")
@click.option("--events", default="events", show_default=True, help="The topic that events come from.")
@click.option("--decisions", default="decisions", show_default=True, help="The topic that decisions go to.")
@click.option(
    "--dead-letters", "dead", default="dead-letters", show_default=True, help="The topic of what cannot be used."
)
@click.option(
    "--traffic", metavar="TOPIC", help="A topic of requests: NDJSON or lines of access logs, one or more a message."
)
@click.option("--group", default="shopward", show_default=True, help="The consumer group.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of librdkafka, such as security.protocol=SSL.",
)
@data_option
@rulebook_option
def kafka(
    brokers: str,
    events: str,
    decisions: str,
    dead: str,
    traffic: str | None,
    group: str,
    settings: tuple[str, ...],
    data: Path,
    rulebook_dir: Path | None,
):
    """Decide on the events of a Kafka topic; offsets are committed after decisions are on disk and delivered."""
    import signal
    import threading

    from shopward.connect.kafka import Stream, Topics

    more = dict(setting.partition("=")[::2] for setting in settings)
    stop = threading.Event()
    with _engine(data, rulebook_dir, None) as engine:
        look = _look(engine, data) if traffic is not None else None
        stream = Stream(engine, brokers, Topics(events, decisions, dead, traffic), group, more, look)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: stop.set())
        say(f"shopward serve kafka  {brokers}  {events} -> {decisions}  rulebook {engine.rulebook.version}")
        counts = stream.run(stop)
    say(f"{count(counts.events, 'event')}, {count(counts.decisions, 'decision')}, {count(counts.dead, 'dead letter')}")
    if look is not None:
        say(
            f"{look.counts['requests']:,} requests, {look.counts['attacks']:,} attacks, {look.counts['verdicts']:,} verdicts"
        )


def _look(engine: Any, data: Path):
    from shopward.traffic.live import Live, Watch

    return Live(engine, Watch(), data)
