"""Which trained models have a say, and which had: models are copied into DATA/models/NAME/VERSION and never changed there.

Deploying writes two files of the rulebook, `models/NAME.yaml` and `features/model_NAME.yaml`, after everything checks: the hashes, the
auditor's findings, that every feature means what it meant in training, and the rulebook as a whole. What stood there before is kept in
DATA/models/history.ndjson, so that one command brings it back.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from shopward.declare.rulebook import Rulebook
from shopward.errors import BadData, RulebookError, UsageError
from shopward.models import folder, pasts
from shopward.models.audit import refused
from shopward.models.history import past_of
from shopward.models.meaning import differences, meanings

HISTORY = "history.ndjson"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One change of what decides: the texts of the rulebook files before and after (None: no such file)."""

    name: str
    version: str
    state: str
    percent: float
    at: int
    before: dict[str, str | None]
    after: dict[str, str | None]
    what: str = "deploy"


def register(data: Path, model: Path) -> tuple[str, dict[str, Any]]:
    """Copy a model folder into the registry, under its name and hash; returns the reference `name/version`."""
    meta = folder.read_meta(model)
    name = _name(meta["name"])
    place = data / "models" / name / meta["version"]
    if not place.exists():
        part = place.with_name(f".{meta['version']}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for file in (folder.META, *meta["files"]):
            shutil.copyfile(model / file, part / file)
        part.rename(place)
    folder.read_meta(place)
    return f"{name}/{meta['version']}", meta


def models(data: Path) -> list[dict[str, Any]]:
    """Every registered model: name, version, when it was trained, its metrics, and whether its hashes hold."""
    found = []
    for path in sorted((data / "models").glob(f"*/*/{folder.META}")):
        row: dict[str, Any] = {"name": path.parent.parent.name, "version": path.parent.name}
        try:
            meta = folder.read_meta(path.parent)
            row |= {"kind": meta["kind"], "trained": meta["trained"], "metrics": meta["metrics"], "ok": True}
        except BadData as wrong:
            row |= {"ok": False, "why": str(wrong)}
        found.append(row)
    return found


def deploy(
    data: Path,
    model: Path,
    rulebook: Path,
    *,
    state: str,
    percent: float = 100.0,
    owner: str = "",
    accept: bool = False,
) -> Deployment:
    """Give a model a say. Raises BadData when it is damaged, leaks, or its features mean something else here; the rulebook stays."""
    meta = folder.read_meta(model)
    if meta["input"]["how"] != "events":
        raise UsageError(f"{model}: only models of events can decide; this one was trained on {meta['input']['how']}")
    leaks = refused(meta.get("audit", []))
    if leaks and not accept:
        raise BadData("the auditor refuses this model (--accept-leaks overrules it):\n" + "\n".join(leaks))
    reference, meta = register(data, model)
    name = _name(meta["name"])
    book = Rulebook(rulebook)
    files: dict[str, str | None] = {f"models/{name}.yaml": _use(reference, meta, book, state, percent, owner)}
    files[f"features/model_{name}.yaml"] = _features(meta, book, name)
    changed = Rulebook.from_files(
        {**{k: v for k, v in book.files.items() if k not in files}, **{k: v for k, v in files.items() if v}}
    )
    wrong = differences(meta["input"]["meanings"], meanings(changed, meta["input"]["meanings"]))
    if wrong:
        raise BadData(
            "features do not mean here what they meant in training; train the model again:\n" + "\n".join(wrong)
        )
    if (past := past_of(meta.get("sequence"))) is not None:
        pasts.check(name, past, changed)
    before = {path: book.files.get(path) for path in files}
    _write(rulebook, files)
    return _record(data, Deployment(name, meta["version"], state, percent, int(time.time() * 1000), before, files))


def rollback(data: Path, rulebook: Path, name: str | None = None) -> Deployment:
    """Undo the latest deployment (of `name`) that still stands. Raises UsageError when there is none, or the files were edited since."""
    standing: list[Deployment] = []
    for one in history(data):
        if one.what == "deploy":
            standing.append(one)
        else:
            standing = _without_last(standing, one.name)
    mine = [d for d in standing if name is None or d.name == name]
    if not mine:
        raise UsageError(f"{data}: no deployment{f' of {name}' if name else ''} to take back")
    last = mine[-1]
    edited = [path for path, text in last.after.items() if _text(rulebook / path) != text]
    if edited:
        raise UsageError(f"{', '.join(edited)} changed since the deployment; put it right by hand")
    _write(rulebook, last.before)
    Rulebook(rulebook)
    now = int(time.time() * 1000)
    return _record(
        data, Deployment(last.name, last.version, last.state, last.percent, now, last.after, last.before, "rollback")
    )


def _without_last(standing: list[Deployment], name: str) -> list[Deployment]:
    at = max(i for i, d in enumerate(standing) if d.name == name)
    return standing[:at] + standing[at + 1 :]


def history(data: Path) -> list[Deployment]:
    """Every deployment and rollback, oldest first."""
    path = data / "models" / HISTORY
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Deployment) for line in path.read_bytes().splitlines() if line.strip()]


def _record(data: Path, one: Deployment) -> Deployment:
    path = data / "models" / HISTORY
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(one) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return one


def _name(text: str) -> str:
    found = "".join(c if c.isalnum() else "_" for c in text.lower()).strip("_")
    return found if found[:1].isalpha() else f"model_{found}"


def _use(reference: str, meta: dict[str, Any], book: Rulebook, state: str, percent: float, owner: str) -> str:
    import yaml

    said: dict[str, Any] = {"from": reference, "state": state}
    if state == "champion" and percent < 100:
        said["percent"] = percent
    on = [t for t in meta["input"]["types"] if t in book.schema.types]
    gone = [t for t in meta["input"]["types"] if t not in book.schema.types]
    if gone:
        raise BadData(f"the model judges events of type {', '.join(gone)}, which this rulebook does not know")
    said |= {"on": on, "version": meta["version"]}
    if owner:
        said["owner"] = owner
    return yaml.safe_dump(said, sort_keys=False)


def _features(meta: dict[str, Any], book: Rulebook, name: str) -> str | None:
    """The declarations that the rulebook lacks, as they were in training; None when it has them all."""
    import yaml

    mine = f"features/model_{name}.yaml"
    elsewhere = {n for n, f in book.features.items() if f.file != mine}
    declared: dict[str, Any] = {}
    for path, text in meta["input"]["files"].items():
        if path.startswith("features/"):
            declared |= yaml.safe_load(text) or {}
    wanted = {n: d for n, d in declared.items() if n in meta["input"]["meanings"] and n not in elsewhere}
    if not wanted:
        return None
    from shopward.models.generate import to_yaml

    return to_yaml(wanted, f"What the model {name} reads; written by `shopward model deploy`.")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _write(rulebook: Path, files: dict[str, str | None]) -> None:
    """Put the files in place; on a rulebook that does not check afterwards, everything is put back."""
    before = {path: _text(rulebook / path) for path in files}
    _place(rulebook, files)
    try:
        Rulebook(rulebook)
    except RulebookError:
        _place(rulebook, before)
        raise


def _place(rulebook: Path, files: dict[str, str | None]) -> None:
    for path, text in files.items():
        target = rulebook / path
        if text is None:
            target.unlink(missing_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(target)
