"""Models between features and rules: what they read, who speaks, what rules hear, what is told, and that every path agrees."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopward import Engine, Rulebook
from shopward.errors import BadData, UsageError
from shopward.models import linear
from shopward.models.linear import Linear
from shopward.models.loading import load
from shopward.rules_test import run_tests
from shopward.store.query import sql
from tests.rules.books import book, rule
from tests.rules.test_decisions import event

SEED = bytes(range(16))
CHAMPION, LIVE, SHADOW = ("{from: x, state: %s}" % state for state in ("champion", "live", "shadow"))  # noqa: UP031
AMOUNT = Linear(
    "pay", ("amount",), (4.0,), bias=-4.0, usual=(0.0,), spread=(100.0,), bends=((0, 0), (0.5, 900), (1, 1000))
)
EVERYTHING = Linear(
    "all",
    ("device_accounts_24h", "amount", "type", "country", "ts", "account_country", "items", "spend_jump", "success"),
    (0.7, 0.013, -0.4, 1.1, 1e-12, 0.9, -0.3, 0.21, 0.5),
    bias=-1.7,
    categories={"type": ("order", "login"), "country": ("DE", "US"), "account_country": ("US",)},
)


def engine(*rules: str, models: dict[str, str], scorers=(), **options) -> Engine:
    mode = options.pop("mode", "interpreted")
    return Engine(book(*rules, models=models, **options), mode=mode, models=scorers, seed=SEED)


def test_a_rule_hears_the_champion_and_the_decision_says_why():
    e = engine(rule("stop", "score > 0.9 and risk >= 950", "deny"), models={"pay": CHAMPION}, scorers=[AMOUNT])
    small, large = e.decide(event(0, amount=50.0)), e.decide(event(1, amount=200.0))
    assert (small.action, small.score, small.risk, small.model) == (
        "allow",
        pytest.approx(0.1192, abs=1e-4),
        pytest.approx(214.6, abs=0.1),
        "pay",
    )
    assert (large.action, large.scores) == ("deny", {"pay": large.score})
    rule_says, model_says = large.evidence
    assert rule_says.what == "stop: score = 0.982014 (> 0.9), risk = 996.403 (>= 950)"
    assert (model_says.source, model_says.feature, model_says.value, model_says.usual) == (
        "model:pay",
        "amount",
        200.0,
        0.0,
    )
    assert model_says.what == "pay scores 0.982014 (risk 996.403): amount = 200 (usually 0)"
    assert (model_says.entity, model_says.confidence, model_says.event_ids) == ("account:a1", large.score, ("e1",))


def test_without_a_model_a_score_is_null_and_the_rule_is_silent():
    e = Engine(book(rule("stop", "score > 0.1 or risk > 1", "deny")), mode="interpreted")
    d = e.decide(event(amount=500.0))
    assert (d.action, d.score, d.risk, d.model, d.scores) == ("allow", None, None, None, None)
    assert e.decide_events([event(1)])[0].score is None


def test_a_live_model_is_read_by_name_and_is_not_the_score():
    rules = rule("named", 'model("pay") > 0.9', "review"), rule("score", "score > 0.0", "deny")
    e = engine(*rules, models={"pay": LIVE}, scorers=[AMOUNT])
    d = e.decide(event(amount=200.0))
    assert (d.reasons, d.score, d.scores["pay"] > 0.9) == (("named",), None, True)
    assert d.evidence[0].feature == 'model("pay")'
    assert [x.source for x in d.evidence] == ["rule:named", "model:pay"]


def test_a_shadow_model_is_scored_on_every_event_and_only_shadow_rules_hear_it():
    other = Linear("new", ("amount",), (-4.0,), bias=2.0, spread=(100.0,))
    rules = rule("stop", "score > 0.9", "deny"), rule("watch", 'model("new") > 0.8', "deny", more="state: shadow")
    e = engine(*rules, models={"pay": CHAMPION, "new": SHADOW}, scorers=[AMOUNT, other])
    quiet, loud = e.decide(event(0, amount=1.0)), e.decide(event(1, amount=300.0))
    assert (quiet.action, quiet.reasons, quiet.shadow) == ("allow", (), ("watch",))
    assert [x.source for x in quiet.shadow_evidence] == ["shadow:watch", "model:new"]
    assert set(quiet.scores) == {"pay", "new"} and quiet.score == quiet.scores["pay"]
    assert loud.reasons == ("stop",) and loud.scores["new"] < 0.01


def test_an_or_tells_only_of_the_model_that_held():
    models, scorers = {"pay": LIVE, "odd": LIVE}, [AMOUNT, Linear("odd", ("items",), (1.0,), bias=-9.0)]
    e = engine(rule("either", 'model("pay") > 0.9 or model("odd") > 0.9'), models=models, scorers=scorers)
    assert [x.source for x in e.decide(event(0, amount=300.0, items=1)).evidence] == ["rule:either", "model:pay"]
    assert [x.source for x in e.decide(event(1, amount=1.0, items=20)).evidence] == ["rule:either", "model:odd"]


def test_a_challenger_speaks_for_its_share_of_accounts_and_always_for_the_same():
    new = Linear("new", (), (), bias=3.0)
    models = {"pay": CHAMPION, "new": "{from: x, state: champion, percent: 30}"}
    e = engine(models=models, scorers=[AMOUNT, new])
    first = [e.decide(event(i, account=f"a{i}", amount=1.0)) for i in range(300)]
    again = engine(models=models, scorers=[AMOUNT, new]).decide_events(
        [event(i, account=f"a{i}", amount=1.0) for i in range(300)]
    )
    assert first == again
    spoken = [d.model for d in first]
    assert 60 < spoken.count("new") < 120 and spoken.count("new") + spoken.count("pay") == 300
    assert all(d.score == d.scores[d.model] and len(d.scores) == 2 for d in first)


def test_a_model_of_some_event_types_says_nothing_about_others():
    e = engine(rule("low", "score < 0.5"), models={"pay": "{from: x, state: champion, on: order}"}, scorers=[AMOUNT])
    order, login = e.decide(event(0, amount=1.0)), e.decide(event(1, type="login"))
    assert (order.reasons, login.reasons, login.score, login.scores) == (("low",), (), None, {"pay": None})
    found = e.decide_events([event(2, amount=1.0), event(3, type="login")])
    assert [d.score is None for d in found] == [False, True]


ODD = st.one_of(st.none(), st.floats(0, 1e6).map(lambda x: round(x, 2)))
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["order", "login", "payout"]),
            "account": st.sampled_from(["a1", "a2", "a3", None]),
            "device": st.sampled_from(["d1", "d2"]),
            "country": st.sampled_from(["DE", "US", "FR", None]),
            "amount": ODD,
            "items": st.one_of(st.none(), st.integers(-5, 50), st.floats(-9, 9)),
            "success": st.sampled_from([True, False, None]),
        }
    ),
    min_size=1,
    max_size=12,
)
RULES = (
    rule("mean", "score > 0.4 and amount > 10", "review"),
    rule("named", 'model("all") * 2 > 0.7 or listed("friends", account)', "challenge"),
    rule("watched", 'model("pay") > model("all")', "deny", more="state: shadow"),
    rule("writes", "risk > 900", more="percent: 60"),
)
MODELS = {"pay": "{from: x, state: champion, percent: 40}", "all": CHAMPION}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(EVENTS)
def test_one_event_is_bit_for_bit_what_a_batch_is_interpreted_and_compiled(events):
    events = [{"event_id": f"e{i}", "ts": 1_767_225_600_000 + i * 977, **e} for i, e in enumerate(events)]
    make = lambda mode: engine(*RULES, models=MODELS, scorers=[EVERYTHING, AMOUNT], mode=mode)  # noqa: E731
    one, batch, split, compiled = make("interpreted"), make("interpreted"), make("interpreted"), make("compiled")
    singly = [one.decide(e) for e in events]
    assert singly == batch.decide_events(events) == compiled.decide_events(events)
    assert singly == [d for e in events for d in split.decide_events([e])]
    assert all(d.scores["all"] is not None for d in singly)


def test_the_table_of_a_batch_shows_scores_and_who_spoke():
    e = engine(models={"pay": CHAMPION, "all": SHADOW}, scorers=[AMOUNT, EVERYTHING])
    decisions = e.decide_batch(e.batch([e.normaliser(event(i, amount=100.0 * i)) for i in range(3)]))
    table = decisions.table()
    assert table["score"].to_pylist() == [d.score for d in decisions]
    assert table["risk"].to_pylist() == [d.risk for d in decisions]
    assert table["model"].to_pylist() == ["pay"] * 3
    assert table["score_all"].to_pylist() == [d.scores["all"] for d in decisions]


# --- a model that misbehaves


class Moody(Linear):
    """Cannot bear an amount of 13."""

    def score(self, matrix):
        if (matrix[0] == 13).any():
            raise ValueError("thirteen")
        return super().score(matrix)


def test_a_model_that_fails_on_an_event_is_null_there_and_nowhere_else():
    e = engine(rule("stop", "score > 0.9"), models={"pay": CHAMPION}, scorers=[Moody("pay", ("amount",), (1.0,))])
    with pytest.warns(
        RuntimeWarning, match="model `pay` failed on an event, which is decided without it: ValueError: thirteen"
    ):
        found = e.decide_events([event(i, amount=float(a)) for i, a in enumerate((12, 13, 14))])
    assert [d.score is None for d in found] == [False, True, False]
    assert e.models.failed == {"pay": 1}
    assert e.decide(event(9, amount=13.0)).score is None


@pytest.mark.parametrize("answer", [np.array([1.5]), np.array([[0.5]]), np.array([]), None])
def test_what_is_no_probability_counts_as_a_failure(answer):
    class Wrong(Linear):
        def score(self, matrix):
            return answer

    e = engine(models={"pay": CHAMPION}, scorers=[Wrong("pay", ("amount",), (1.0,))])
    with pytest.warns(RuntimeWarning):
        assert e.decide(event(amount=1.0)).score is None


# --- what does not fit is said at the start


@pytest.mark.parametrize(
    ("scorer", "says"),
    [
        (Linear("pay", ("amont",), (1.0,)), "reads `amont`, which the rulebook does not have; did you mean `amount`?"),
        (Linear("pay", ("email",), (1.0,)), "reads `email`, which is personal data"),
        (Linear("pay", ("country",), (1.0,)), "reads the text `country` and does not say which texts it knows"),
        (Linear("other", ("amount",), (1.0,)), "is not there"),
    ],
)
def test_a_model_that_does_not_fit_the_rulebook_is_refused(scorer, says):
    with pytest.raises(UsageError, match=says):
        engine(models={"pay": CHAMPION}, scorers=[scorer])


def test_a_model_without_a_place_and_a_version_that_differs_are_refused():
    with pytest.raises(UsageError, match=r"model `extra` has no place in the rulebook: add models/extra.yaml"):
        engine(models={}, scorers=[Linear("extra", (), ())])
    with pytest.raises(UsageError, match=r"models/pay.yaml: wants version abcdef of `pay`, loaded is"):
        engine(models={"pay": "{from: x, state: shadow, version: abcdef}"}, scorers=[AMOUNT])


# --- folders, data folders, rule tests


def with_folder(tmp_path, *rules: str) -> Rulebook:
    linear.write(AMOUNT, tmp_path / "book" / "trained" / "pay-1")
    made = book(*rules, models={"pay": "{from: trained/pay-1, state: champion}"})
    for name, text in made.files.items():
        path = tmp_path / "book" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Rulebook(tmp_path / "book")


def test_a_rulebook_folder_brings_its_model_along(tmp_path):
    made = with_folder(tmp_path, rule("stop", "score > 0.9", "deny"))
    assert Engine(made, mode="interpreted").decide(event(amount=200.0)).action == "deny"
    assert load(tmp_path / "book" / "trained" / "pay-1") == AMOUNT
    (tmp_path / "book" / "trained" / "pay-1" / "model.json").write_text('{"kind": "oracle"}')
    with pytest.raises(BadData, match="unknown kind 'oracle'"):
        Engine(made, mode="interpreted")


def test_a_stored_decision_keeps_what_was_said_and_a_replay_needs_no_model(tmp_path):
    made = with_folder(tmp_path, rule("stop", "score > 0.9", "deny"))
    with Engine(made, tmp_path / "data", mode="interpreted") as e:
        first = e.decide(event(0, amount=200.0))
        assert (first.action, first.model) == ("deny", "pay")
        state = e.state_hash()
    new = msgspec.structs.replace(first)  # the model changes; what was decided stays
    better = Linear("pay", ("amount",), (0.0,), bias=-5.0)
    with Engine(made, tmp_path / "data", mode="interpreted", models=[better]) as e:
        assert e.state_hash() == state
        assert e.decide(event(0, amount=200.0)) == new
        assert e.decide(event(1, amount=200.0)).action == "allow"
        switches = [f.meta["models"] for f in e.journal.log.replay() if f.kind == "switch"]
    assert switches == [{"pay": AMOUNT.version}, {"pay": better.version}]
    asked = "select event_id, score, model, scores['pay'] as pay from decisions order by seq"
    found = sql(tmp_path / "data", asked).to_pylist()
    assert found[0] == {"event_id": "e0", "score": first.score, "model": "pay", "pay": first.score}


def test_rule_tests_say_what_models_find(tmp_path):
    tests = """
        tests:
          - {name: high, events: [{type: order, ts: 0}], scores: {pay: 0.95}, expect: {action: deny}}
          - {name: risky, events: [{type: order, ts: 0}], scores: {pay: [0.5, 990]}, expect: {fires: true}}
          - {name: low, events: [{type: order, ts: 0}], scores: {pay: 0.2}, expect: {fires: false}}
          - {name: real, events: [{type: order, ts: 0, amount: 500}], expect: {fires: true}}
    """
    text = rule("stop", "score > 0.9 or risk > 950", "deny").split("tests:")[0] + tests.replace("\n        ", "\n")
    results = {r.test: (r.passed, r.why) for r in run_tests(book(text, models={"pay": CHAMPION}))}
    assert [results[name] for name in ("high", "risky", "low")] == [(True, "")] * 3
    passed, why = results["real"]
    assert not passed and why.endswith("say in the test what it finds, for example `scores: {pay: 0.9}`")
    assert all(r.passed for r in run_tests(with_folder(tmp_path, text)))


def test_an_engine_beside_keeps_the_models_that_stay_as_they_are(tmp_path):
    made = with_folder(tmp_path, rule("stop", "score > 0.9", "deny"))
    e = Engine(made, mode="interpreted", seed=SEED)
    texts = Rulebook.from_files(made.files | {"rules/r00.yaml": rule("stop", "score > 0.999999", "deny")})
    other = e.beside(texts)  # texts alone have no folder to load from
    assert other.models.versions == e.models.versions and other.decide(event(amount=200.0)).action == "allow"
    with pytest.raises(UsageError, match="models/pay.yaml: model `pay` is not there"):
        Engine(texts, mode="interpreted")
