"""`shopward serve`: decisions over HTTP, on loopback unless told otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import click

from shopward.cli.talk import load_rulebook, rulebook_option, say


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535))
@click.option("--data", type=click.Path(path_type=Path), default=Path("shopward-data"), show_default=True)
@click.option("--token", envvar="SHOPWARD_TOKEN", help="Bearer token of /v1 calls (or SHOPWARD_TOKEN).", metavar="TEXT")
@rulebook_option
def serve(host: str, port: int, data: Path, token: str | None, rulebook_dir: Path | None) -> None:
    """Answer POST /v1/decide, /v1/decide/batch and /v1/labels; every answer is on disk before it leaves."""
    import uvicorn

    from shopward.decide import Engine
    from shopward.serve.app import App

    rulebook = load_rulebook(rulebook_dir)
    engine = Engine(rulebook, data=data, clock="server")
    if not token:
        say("no token: /v1 answers 401. Set SHOPWARD_TOKEN or pass --token.")
    os.environ.pop("SHOPWARD_TOKEN", None)
    say(f"shopward serve on http://{host}:{port}  rulebook {rulebook.version}  data {data}")
    config = uvicorn.Config(
        App(engine, token), host=host, port=port, log_level="warning", access_log=False, lifespan="on"
    )
    uvicorn.Server(config).run()
