"""A rulebook of one's own: the rules that protect buyers, sellers or creators, with exactly what those rules need.

A rule says whom it protects (`pack: [buyer, seller]`). Cutting keeps the text of every kept rule, feature and list as it stands,
comments included, so that what comes out reads like what went in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from shopward.declare.rulebook import Rulebook
from shopward.declare.rules import PACKS
from shopward.declare.types import Feature, Rule
from shopward.errors import UsageError
from shopward.expr.place import suggest

_KEY = re.compile(r"^([a-z][a-z0-9_]*):", re.MULTILINE)


def cut(rulebook: Rulebook, packs: Iterable[str]) -> dict[str, str]:
    """Relative path -> text of a rulebook with only the rules of these packs (`buyer`, `seller`, `creator`, or `all`).

    Raises UsageError for a pack that does not exist.

    >>> whole, some = Rulebook.default(), Rulebook.from_files(cut(Rulebook.default(), ["creator"]))
    >>> set(some.rules) < set(whole.rules), "gift_spike" in some.rules, "refund_velocity" in some.rules
    (True, True, False)
    """
    wanted = _known(packs)
    rules = [r for r in rulebook.rules.values() if wanted == set(PACKS) or wanted & set(r.packs)]
    features, files = needed_features(rulebook, rules), rulebook.files
    lists = {name for r in rules for name in (*r.when.lists, *(w.list for w in r.writes))}
    lists |= {name for f in features.values() for name in f.lists}
    out: dict[str, str] = {name: files[name] for name in ("schema.yaml", "policy.yaml") if name in files}
    out |= {r.file: files[r.file] for r in rules}
    out |= _sliced(files, "features", set(features)) | _sliced(files, "lists", lists)
    for table in _tables(rulebook, rules, features):
        out |= {
            name: text
            for name, text in files.items()
            if PurePosixPath(name).parts[0] == "lookups" and _of(name, table, files)
        }
    return dict(sorted(out.items()))


def _known(packs: Iterable[str]) -> set[str]:
    packs = set(packs)
    for name in packs - {*PACKS, "all"}:
        raise UsageError(f"unknown pack `{name}`: {suggest(name, (*PACKS, 'all'), 'the pack')}")
    return set(PACKS) if "all" in packs else packs


def needed_features(rulebook: Rulebook, rules: Iterable[Rule]) -> dict[str, Feature]:
    """The features that rules read, and those that these read, in declared order."""
    todo, found = [name for r in rules for name in r.when.features], set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += rulebook.features[name].reads
    return {name: f for name, f in rulebook.features.items() if name in found}


def _tables(rulebook: Rulebook, rules: list[Rule], features: dict[str, Feature]) -> set[str]:
    """The lookups that rules, features and the policy read."""
    read = {name for r in rules for name in r.when.lookups}
    read |= {f.table or "" for f in features.values() if f.measure == "lookup"}
    read |= {name for f in features.values() if f.expr for name in f.expr.lookups}
    return {name.partition(".")[0] for name in read} | ({rulebook.policy.rates} if rulebook.policy.rates else set())


def _of(name: str, table: str, files: dict[str, str]) -> bool:
    """Is this the lookup's YAML, or the CSV that its YAML names?"""
    yaml = f"lookups/{table}.yaml"
    return name == yaml or bool(
        re.search(rf"^file:\s*{re.escape(PurePosixPath(name).name)}\s*$", files.get(yaml, ""), re.MULTILINE)
    )


def _sliced(files: dict[str, str], folder: str, keep: set[str]) -> dict[str, str]:
    """The files of a folder with only these top-level keys; files without any of them are left out."""
    out = {}
    for name, text in files.items():
        if PurePosixPath(name).parts[0] != folder or not name.endswith(".yaml"):
            continue
        starts = list(_KEY.finditer(text))
        ends = [*(m.start() for m in starts[1:]), len(text)]
        blocks = [text[m.start() : end].strip("\n") for m, end in zip(starts, ends, strict=True) if m[1] in keep]
        if blocks:
            head, gap = text[: starts[0].start()].strip("\n"), "\n\n" if folder == "features" else "\n"
            out[name] = (
                "\n".join(
                    part for part in (head + ("\n" if folder == "features" and head else ""), gap.join(blocks)) if part
                )
                + "\n"
            )
    return out


def readme(rulebook: Rulebook, packs: Iterable[str]) -> str:
    """What a strategist should know about a folder made by `cut`, with a row for each rule."""
    names = [p for p in PACKS if p in _known(packs)]
    rows = [f"| `{r.id}` | {r.title} | {r.then} | {r.severity} | {r.owner} |" for r in rulebook.rules.values()]
    return _README.format(
        whom=_and([f"{name}s" for name in names]),
        rules=len(rulebook.rules),
        features=len(rulebook.features),
        rows="\n".join(rows),
    )


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


_README = """\
# Protection for {whom}

{rules} rules and {features} features to start from. This folder is yours: change numbers, delete what does not fit, add what you know.

    shopward rules check .                # every name and type, all problems at once
    shopward rules test .                 # every rule against the events it carries
    shopward decide EVENTS --rulebook .   # what would it have done?

| file | what to do with it |
|---|---|
| `schema.yaml` | Your events. Rename nothing that rules read; add fields of your own. A type you do not send makes its rules silent, never wrong. |
| `policy.yaml` | What mistakes cost you. Backtests and reports weigh rules with these. |
| `features/` | What is remembered about accounts, devices, cards ... One line each, with a sentence where the name does not say it. |
| `rules/` | One rule a file: when, then, the tests, what an analyst should do, what it misses. |
| `lists/` | Which lists exist. Their entries are data: `shopward list add shared_devices d-library --why "school computers"`. |
| `lookups/` | Small tables, here as samples. Put your own beside them. |

How to change a rule: write the case that bothers you as a test, see it fail, change `when`, see it pass. To try a rule without
consequences give it `state: shadow`; to begin carefully, `percent: 10`. Where many honest people share something (a school, an
office, a shop counter), put it on the list that the rule excludes instead of raising the number.

| rule | fires when | then | severity | owner |
|---|---|---|---|---|
{rows}
"""
