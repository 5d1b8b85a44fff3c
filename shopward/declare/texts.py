"""Changes to the texts of a rulebook: a rule, one feature of a file, a whole file. Everything else stays as it was written."""

from __future__ import annotations

from shopward.declare.form import is_name
from shopward.declare.tree import At, Mapping, Scalar, Sequence_, load_text
from shopward.errors import RulebookError, UsageError
from shopward.expr.place import suggest


def change_file(files: dict[str, str], name: str, text: str | None) -> None:
    """Put a file in, or take it away (None)."""
    if text is not None:
        files[name] = text
    elif files.pop(name, None) is None:
        raise UsageError(f"there is no file `{name}`; {suggest(name, files, 'the file')}")


def change_rule(files: dict[str, str], name: str, id: str, text: str) -> None:
    """Put the text of rule `id` into file `name`."""
    node = _read(text, name)
    own = node.items.get("id") if isinstance(node, Mapping) else None
    if not isinstance(own, Scalar) or own.text != id:
        found = f"the id `{own.text}`" if isinstance(own, Scalar) else "no `id`"
        raise UsageError(
            f"the text given for rule `{id}` has {found}: a rule's text is its whole file, with `id: {id}`"
        )
    files[name] = text


def change_feature(files: dict[str, str], name: str, text: str | None) -> None:
    """Put the declaration of one feature where it stands now, or in a file of its own; None takes it away.

    >>> files = {"features/f.yaml": "a: {expr: x + 1}  # one\\nb:\\n  expr: a * 2\\n# end\\n"}
    >>> change_feature(files, "b", "{expr: a * 3}")
    >>> change_feature(files, "a", None)
    >>> files
    {'features/f.yaml': 'b: {expr: a * 3}\\n# end\\n'}
    """
    if not is_name(name, read=True):
        raise UsageError(f"`{name}` is not a name for a feature")
    line = "" if text is None else _declaration(name, text)
    for file, found in _places(files):
        if name not in found.items:
            continue
        lines = files[file].split("\n")
        start, stop = found.keys[name].line - 1, _end(found, name)
        lines[start:stop] = line.splitlines() if line else []
        rest = "\n".join(lines)
        if isinstance(_read(rest, file), Mapping):
            files[file] = rest
        else:
            del files[file]  # it was the only one
        return
    if text is not None:
        files[f"features/{name}.yaml"] = line + "\n"


def _declaration(name: str, text: str) -> str:
    """`name: {...}` on one line, or the block indented under its name."""
    node = _read(text, f"features/{name}.yaml")
    if not isinstance(node, Mapping):
        raise UsageError(
            f"the text given for feature `{name}` must be a mapping such as {{entity: account, measure: count, over: 1h}}"
        )
    text = text.strip("\n")
    if text.lstrip().startswith("{"):
        return f"{name}: {text.strip()}"
    return f"{name}:\n" + "\n".join(f"  {part}" for part in text.split("\n"))


def _places(files: dict[str, str]) -> list[tuple[str, Mapping]]:
    """The feature files, parsed."""
    found = []
    for file in sorted(f for f in files if f.startswith("features/")):
        node = _read(files[file], file)
        if isinstance(node, Mapping) and node.items:
            found.append((file, _opened(files, file, node) if files[file][node.start] == "{" else node))
    return found


def _opened(files: dict[str, str], file: str, node: Mapping) -> Mapping:
    """A file that is one `{a: ..., b: ...}` is written as a block, one feature after another."""
    text = files[file]
    parts = [f"{key}: {text[value.start : value.end]}" for key, value in node.items.items()]
    files[file] = "\n".join(parts) + "\n"
    opened = _read(files[file], file)
    assert isinstance(opened, Mapping)
    return opened


def _end(node: Mapping, name: str) -> int:
    """The line behind a feature's declaration: comments between it and the next belong to the next."""
    value = node.items[name]
    return max(node.keys[name].line, _last_line(value))


def _last_line(node: At) -> int:
    """The last line on which something of this value stands."""
    parts = (
        list(node.items.values()) if isinstance(node, Mapping) else node.items if isinstance(node, Sequence_) else []
    )
    if parts and node.source.text[node.start] not in "{[":
        return max(_last_line(part) for part in parts)
    return node.source.text[: node.end].rstrip().count("\n") + 1


def _read(text: str, file: str) -> At | None:
    problems: list = []
    node = load_text(text, file, problems)
    if problems:
        raise RulebookError(problems)
    return node
