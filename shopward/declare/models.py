"""models/*.yaml: which trained models have a say, one file a model, named after its file.

from: payments-2026-06     a model folder beside the rulebook, or the name of one in the registry
state: champion            champion: its score is `score` and `risk`; live: rules read it as model("payments"); shadow: watched only
percent: 5                 of a champion: for this share of accounts; the others belong to the next champion
on: [order, payment]       the event types it scores (all when absent)
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from shopward.declare.form import Form, is_name
from shopward.declare.tree import At, Mapping
from shopward.declare.types import ModelUse, Schema
from shopward.errors import Problem

STATES = ("champion", "live", "shadow")
_KEYS = ("from", "state", "percent", "on", "version", "owner", "doc")
_VERSION = re.compile("[0-9a-f]{6,64}")


def read_models(files: list[At], schema: Schema, problems: list[Problem]) -> dict[str, ModelUse]:
    """The declared models by name, in path order."""
    found = [use for node in files if (use := _read(node, schema, problems))]
    _one_champion(found, {f.source.file: f for f in files}, schema, problems)
    return {use.name: use for use in found}


def _read(node: At, schema: Schema, problems: list[Problem]) -> ModelUse | None:
    path = PurePosixPath(node.source.file)
    before = len(problems)
    if not isinstance(node, Mapping):
        problems.append(node.problem("a model's file must be a mapping", "{from: payments-2026-06, state: shadow}"))
        return None
    form = Form(node, "a model", problems, _KEYS)
    if not is_name(path.stem) or len(path.parts) != 2:
        form.wrong(node, f"`{path.stem}` is no name for a model", "models/NAME.yaml: lower-case letters, digits and _")
    form.required("from", "state")
    known = schema.decided
    use = ModelUse(
        name=path.stem, source=form.text("from"), state=form.choice("state", STATES, "shadow"),  # type: ignore[arg-type]
        percent=form.number("percent", 100.0, 0, 100), on=form.known_words("on", "event type", known) if form.has("on") else (),
        version=form.text("version"), owner=form.text("owner"), doc=form.text("doc"), file=node.source.file,
    )  # fmt: skip
    if form.has("percent") and use.state != "champion":
        form.wrong("percent", "`percent` is for champions", "shadow and live models score every event")
    if use.version and not _VERSION.fullmatch(use.version):
        form.wrong("version", "`version` must be the hash that the model's card shows", "leave it out to take any")
    return use if len(problems) == before else None


def _one_champion(uses: list[ModelUse], nodes: dict[str, At], schema: Schema, problems: list[Problem]) -> None:
    """Two whole champions of one event type leave no one answer."""
    held: dict[str, ModelUse] = {}
    for use in (u for u in uses if u.state == "champion" and u.percent >= 100):
        for kind in use.on or schema.decided:
            other = held.setdefault(kind, use)
            if other is not use:
                node = nodes[use.file]
                at: At = node.items["state"] if isinstance(node, Mapping) else node
                hint = "give one of them `percent`, or make it `shadow` or `live`"
                problems.append(at.problem(f"`{other.name}` is the champion of `{kind}` already", hint))
                break
