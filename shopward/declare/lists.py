"""lists/*.yaml: which lists there are and whose keys they hold. Their entries are data, not rulebook."""

from __future__ import annotations

from shopward.declare.form import Form, named
from shopward.declare.tree import At, Mapping
from shopward.declare.types import ListSpec, Schema
from shopward.errors import Problem


def read_lists(files: list[At], schema: Schema, problems: list[Problem]) -> dict[str, ListSpec]:
    """The declared lists by name."""
    out: dict[str, ListSpec] = {}
    kinds = sorted(set(schema.roles.values()))
    for file in files:
        for key, spec in named(file, "lists", problems, read=False):
            if key.text in out:
                problems.append(key.problem(f"list `{key.text}` is declared twice"))
            elif not isinstance(spec, Mapping):
                problems.append(spec.problem(f"list `{key.text}` must be a mapping", "{kind: block, entity: device}"))
            else:
                form = Form(spec, f"list `{key.text}`", problems, ("kind", "entity", "doc"))
                form.required("kind")
                kind = form.choice("kind", ("allow", "block", "watch"), "block")
                entity = form.known_words("entity", "entity kind", kinds)
                out[key.text] = ListSpec(key.text, kind, entity, form.text("doc"))  # type: ignore[arg-type]
    return out
