"""docs/concepts.md says true things: its Python prints what it shows, its YAML is what ships."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import yaml

from shopward import Rulebook

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "concepts.md").read_text()
SHIPPED = (ROOT / "shopward" / "rulebooks" / "marketplace", ROOT / "examples" / "card-payments")
SHOP = {"schema.yaml": "types: [login, order, payment]\nfields: {account: {type: string, entity: account}}"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_examples_print_what_they_show():
    source = "\n".join(blocks("python"))
    story = doctest.DocTestParser().get_doctest(source, {}, "concepts", "docs/concepts.md", 0)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(story, out=said.append)
    assert result.attempted > 10
    assert result.failed == 0, "".join(said)


def test_the_yaml_is_what_ships():
    shipped: dict[str, dict] = {}
    for folder in SHIPPED:
        for file in sorted(folder.glob("features/*.yaml")):
            shipped |= yaml.safe_load(file.read_text())
        for file in sorted(folder.glob("rules/*.yaml")):
            rule = yaml.safe_load(file.read_text())
            shipped[rule["id"]] = rule
    for block in blocks("yaml"):
        shown = yaml.safe_load(block)
        if "types" in shown:
            assert Rulebook.from_files({"schema.yaml": block}).schema.money is None
        elif "state" in shown:
            model = Rulebook.from_files(SHOP | {"models/payments.yaml": block}).models["payments"]
            assert (model.state, model.percent, model.on) == ("champion", 100, ("order", "payment"))
        elif "id" in shown:
            assert shown.items() <= shipped[shown["id"]].items()
        else:
            assert shown and all(spec.items() <= shipped[name].items() for name, spec in shown.items())
