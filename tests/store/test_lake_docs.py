"""The questions on the lake's page are SQL that runs on a shop's data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shopward.runs import decide_files
from shopward.store.query import sql
from tests.backtest import shop

PAGE = Path(__file__).parents[2] / "docs" / "lake.md"
QUESTIONS = re.findall(r"\n\n((?:    (?!shopward|lake/).*\n)+)", PAGE.read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    events, labels = shop.history(folder, n=300)
    decide_files([events], shop.rulebook(), labels=labels, data=folder / "data")
    return folder / "data"


@pytest.mark.parametrize("number", range(3))
def test_a_question_of_the_page_runs(number, data):
    assert len(QUESTIONS) == 3
    sql(data, QUESTIONS[number])


def test_the_question_who_shares_a_device_has_an_answer(data):
    found = sql(data, QUESTIONS[1]).to_pylist()
    assert found and {row["device"] for row in found} & {"d0", "d1", "d2", "d3"}
