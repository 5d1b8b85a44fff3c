"""YAML with places: every character of an expression is found again in the file, and hostile files are refused."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward.declare.rulebook import Rulebook
from shopward.declare.tree import data, load_text
from shopward.errors import RulebookError
from tests.declare.base import BASE

STYLES = {
    "plain": "a: x1 > 5 and y2",
    "plain over lines": "a:\n  x1 > 5\n   and\n\n  y2",
    "double quoted": 'a: "x1 \\"> 5\\" \\u0061nd y2"',
    "double quoted over lines": 'a: "x1 > 5 \\\n     and\n  y2"',
    "single quoted": "a: 'x1 == ''5'' and y2'",
    "literal": "a: |\n  x1 > 5\n  and y2\n",
    "literal, indented, chomped": "a: |2-\n    x1 > 5\n   and y2\n\n",
    "folded": "a: >-  # comment\n  x1 > 5\n  and\n\n  y2\n",
    "in a flow": "{b: [1, x1 > 5 and y2]}",
    "after wide letters": "a: \U0001f600é == x1 and y2",
}


@pytest.mark.parametrize("style", STYLES)
def test_names_are_found_where_they_stand(style):
    text = STYLES[style]
    node = load_text(text)
    scalar = next(iter(node.items.values()))
    scalar = scalar.items[1] if style == "in a flow" else scalar
    spots, lines = scalar.place().spots, text.split("\n")
    for name in ("x1", "y2"):
        line, column = spots[scalar.text.index(name)]
        assert lines[line - 1][column - 1 :].startswith(name), (style, name, line, column)


_line = st.text(alphabet="ab1 >='\"#", min_size=1, max_size=12)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(_line, min_size=1, max_size=4), st.sampled_from(["|", ">", '"', "'"]))
def test_every_visible_character_is_found_where_it_stands(parts, style):
    words = [p.strip() or "a" for p in parts]
    if style in "|>":
        text = f"k: {style}\n" + "".join(f"  {w}\n" for w in words)
    else:
        escaped = [w.replace('"', '\\"') if style == '"' else w.replace("'", "''") for w in words]
        text = f"k: {style}" + "\n   ".join(escaped) + style
    scalar = load_text(text).items["k"]
    lines = text.split("\n")
    for c, (line, column) in zip(scalar.text, scalar.place().spots, strict=False):
        if not c.isspace():
            here = lines[line - 1][column - 1 :]
            assert here.startswith((c, "\\" + c)), (c, text)


def test_words_stay_words_and_numbers_are_numbers():
    assert data(load_text("{a: no, b: on, c: 1e3, d: 012, e: '5', f: 2026-01-01, g: .5, h: 1_000, i: null, j: True}")) == {
        "a": "no", "b": "on", "c": 1000.0, "d": 12, "e": "5", "f": "2026-01-01", "g": 0.5, "h": "1_000", "i": None, "j": True,
    }  # fmt: skip


def laughs() -> str:
    """Nine levels of nine references: a billion values if anything expanded them."""
    lines = ['a0: &a0 ["lol"]'] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs(), "anchors and aliases are not used in rulebooks"),
        ("a: &x {b: *x}", "anchors and aliases are not used in rulebooks"),
        (
            "a: !!python/object/apply:os.system ['ls']",
            "tags are not used in rulebooks: tag:yaml.org,2002:python/object/apply:os.system",
        ),
        ("a: !!python/name:os.system", "tags are not used in rulebooks: tag:yaml.org,2002:python/name:os.system"),
        ("a: !!binary aGk=", "tags are not used in rulebooks: tag:yaml.org,2002:binary"),
        ("[" * 100_000, "nested too deeply"),
        ("{a: " * 1000, "nested too deeply"),
        ("- " * 10_000 + "a", "nested too deeply"),
        ("a: [" + "1," * 300_000 + "]", "too many values in one file"),
        ("a: 'x" * 50, None),
        ("a: \x00", None),
        ("a: \ud800", "this is not YAML: half a character (a lone surrogate)"),
        ("%YAML 9.9\n---\na: 1", None),
        ("a: 1\n--- \nb: 2", "a second document starts here"),
        ("? [x]\n: 1", "a key must be a plain word"),
    ],
    ids=range(15),
)
def test_hostile_yaml_is_refused(text, message):
    problems: list = []
    assert load_text(text, "x.yaml", problems) is None
    assert len(problems) == 1 and (message is None or problems[0].message == message)
    assert len(problems[0].render()) < 600


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=80) | st.text(alphabet="ab: -[]{}'\"|>#&*!%@\n\t,?0", max_size=80))
def test_random_text_is_data_or_a_problem(text):
    problems: list = []
    node = load_text(text, "x.yaml", problems)
    if node is not None:
        assert not problems
        data(node)


# --- whole rulebooks, broken at random --------------------------------------------------------------------------------------------------

FILES = sorted(BASE)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(FILES), st.data())
def test_a_rulebook_with_a_piece_cut_out_or_put_in_checks_or_tells(name, draw):
    text = BASE[name]
    start = draw.draw(st.integers(0, len(text)))
    end = draw.draw(st.integers(start, min(len(text), start + 30)))
    put = draw.draw(
        st.sampled_from(
            ["", "x", " ", "\n", "{", "}", "[", ": ", "'", "- ", "0", "~", "[]", "{}", "null", "{a: b}", "[[x]]"]
        )
    )
    try:
        Rulebook.from_files(BASE | {name: text[:start] + put + text[end:]})
    except RulebookError as e:
        assert e.problems and all(p.render() for p in e.problems)


VALUES = ["~", "[]", "{}", "[~]", "[[a]]", "{a: b}", "'5'", "5", "true", "''", "-1", "[{a: 1}]", "1e999", "*", "'a: b'"]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", FILES)
def test_any_value_may_stand_for_any_other(name, value):
    """Every value in the file is replaced in turn by something of another shape."""
    lines = BASE[name].splitlines()
    for i, line in enumerate(lines):
        if ":" not in line:
            continue
        changed = [*lines[:i], line.split(":")[0] + ": " + value, *lines[i + 1 :]]
        try:
            Rulebook.from_files(BASE | {name: "\n".join(changed)})
        except RulebookError as e:
            assert e.problems
