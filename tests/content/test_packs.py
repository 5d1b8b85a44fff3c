"""A rulebook of one's own: each pack alone is whole, tested and no larger than it must be."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from shopward import Rulebook
from shopward.declare.pack import cut, needed_features
from shopward.errors import UsageError
from shopward.rules_test import run_tests


@pytest.fixture(scope="module")
def whole() -> Rulebook:
    return Rulebook.default()


def test_every_rule_says_whom_it_protects(whole):
    assert [r.id for r in whole.rules.values() if not r.packs] == []


@pytest.mark.parametrize("pack", ["buyer", "seller", "creator"])
def test_a_pack_alone_has_exactly_its_rules_and_what_they_need(whole, pack):
    own = Rulebook.from_files(cut(whole, [pack]))
    assert set(own.rules) == {r.id for r in whole.rules.values() if pack in r.packs}
    assert set(own.features) == set(needed_features(own, own.rules.values()))
    lists = {name for r in own.rules.values() for name in (*r.when.lists, *(w.list for w in r.writes))}
    assert set(own.lists) == lists
    assert own.warnings == []


def test_the_rules_of_a_pack_pass_their_tests_alone(whole):
    results = list(run_tests(Rulebook.from_files(cut(whole, ["creator"]))))
    assert len(results) > 60
    assert [(r.rule, r.test, r.why) for r in results if not r.passed] == []


def test_a_rule_that_reads_a_list_comes_with_the_rules_that_write_it(whole):
    for pack in ("buyer", "seller", "creator"):
        own = Rulebook.from_files(cut(whole, [pack]))
        written = {w.list for r in whole.rules.values() for w in r.writes}
        read = {name for r in own.rules.values() for name in r.when.lists} & written
        assert read <= {w.list for r in own.rules.values() for w in r.writes}, pack


def test_all_packs_together_are_the_shipped_rulebook(whole):
    for packs in (["all"], ["buyer", "seller", "creator"]):
        own = Rulebook.from_files(cut(whole, packs))
        assert list(own.rules) == list(whole.rules)
        assert list(own.features) == list(whole.features)
        assert own.policy == whole.policy


def test_what_is_kept_is_kept_word_for_word(whole):
    files = cut(whole, ["creator"])
    assert files["rules/gift_spike.yaml"] == whole.files["rules/gift_spike.yaml"]
    assert "# Live rooms, gifts and followers." in files["features/creators.yaml"]
    assert "features/affiliates.yaml" not in files


def test_an_unknown_pack_is_refused_with_the_near_name(whole):
    with pytest.raises(UsageError, match="unknown pack `buyers`: did you mean `buyer`"):
        cut(whole, ["buyers"])


def run(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "shopward", *args], capture_output=True, text=True)


def test_init_writes_a_folder_that_checks_and_tells_a_strategist_what_to_do(tmp_path):
    folder = tmp_path / "mine"
    made = run("init", str(folder), "--pack", "creator", "--json")
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    assert report["packs"] == ["creator"] and report["rules"] == len(list((folder / "rules").glob("*.yaml")))
    readme = (folder / "README.md").read_text()
    assert readme.startswith("# Protection for creators") and "| `gift_spike` |" in readme
    assert run("rules", "check", str(folder)).returncode == 0


def test_init_never_writes_over_somebody_elses_work(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "schema.yaml").write_text("types: [order]\n")
    refused = run("init", str(tmp_path / "mine"))
    assert refused.returncode == 2 and "nothing was written" in refused.stderr
    assert (tmp_path / "mine" / "schema.yaml").read_text() == "types: [order]\n"
