"""The card-payments example against pandas on a published table: every feature of sampled customers and terminals to 1e-9."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shopward import Engine, Rulebook
from shopward.rules_test import run_tests

EXAMPLE = Path(__file__).parents[2] / "examples" / "card-payments"
TABLE = Path(__file__).parents[3] / "shared" / "data" / "txn_fdh_simulated" / "tx_2018-04_to_07.parquet"
WINDOWS = (1, 7, 30)
KNOWN_AFTER = pd.Timedelta(days=7)

needs_table = pytest.mark.skipif(not TABLE.exists(), reason="../shared/data/txn_fdh_simulated is absent")


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    return Rulebook(EXAMPLE)


@pytest.fixture(scope="module")
def sample() -> pd.DataFrame:
    """Every payment of 60 customers or at 60 terminals, in the table's order, ids kept: histories of both sides are whole.

    The other customers of a sampled terminal keep only their payments there (and likewise for terminals), for us and for pandas.
    """
    payments = pd.read_parquet(TABLE)
    customers, terminals = payments.CUSTOMER_ID.unique(), payments.TERMINAL_ID.unique()
    rng = np.random.default_rng(7)
    frauds = payments[payments.TX_FRAUD == 1].TERMINAL_ID.unique()
    some = np.concatenate([rng.choice(terminals, 30, replace=False), rng.choice(frauds, 30, replace=False)])
    return payments[
        payments.CUSTOMER_ID.isin(rng.choice(customers, 60, replace=False)) | payments.TERMINAL_ID.isin(some)
    ]


@pytest.fixture(scope="module")
def ours(rulebook: Rulebook, sample: pd.DataFrame, tmp_path_factory) -> pd.DataFrame:
    """Our features of the sample, row for row, by the same path as `shopward features FILE`."""
    file = tmp_path_factory.mktemp("payments") / "payments.parquet"
    sample.to_parquet(file, index=False)
    engine = Engine(rulebook, mode="interpreted")
    tables = [engine.features_table(batch).to_pandas() for batch in engine.read([file])]
    found = pd.concat(tables, ignore_index=True)
    assert found.event_id.tolist() == sample.TRANSACTION_ID.astype(str).tolist()
    return found


def rolling(values: pd.Series, days: int) -> pd.core.window.Rolling:
    return values.rolling(f"{days}D", closed="both")


def per(payments: pd.DataFrame, key: str, measure) -> pd.Series:
    """measure(rows of one key, indexed by time) for every key, back in the order of the payments."""
    parts = []
    for _, rows in payments.groupby(key):
        values = measure(rows.set_index("TX_DATETIME"))
        parts.append(pd.Series(np.asarray(values, dtype=float), index=rows.index))
    return pd.concat(parts).reindex(payments.index)


def terminal(days: int, measure: str):
    """A measure of the labels that were known at each payment of one terminal.

    Payments (asking, no value) and labels (a week after their payment, before events of the same moment) stand on one time line.
    """

    def over(rows: pd.DataFrame) -> np.ndarray:
        known = pd.Series(rows.TX_FRAUD.to_numpy(float), index=rows.index + KNOWN_AFTER)
        line = pd.concat([known, pd.Series(np.nan, index=rows.index)])
        order = np.lexsort((np.arange(len(line)), line.index.asi8))
        values = getattr(rolling(line.iloc[order], days), measure)()
        return values.to_numpy()[order >= len(known)]

    return over


def same(ours: pd.Series, theirs: pd.Series) -> None:
    a, b = ours.to_numpy(float), theirs.to_numpy(float)
    assert np.isfinite(b).any()
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True)  # pandas adds and removes floats


# --- the rulebook


def test_every_rule_passes_the_tests_it_carries(rulebook):
    results = list(run_tests(rulebook))
    assert [(r.rule, r.test, r.why) for r in results if not r.passed] == []
    assert {r.rule for r in results} == set(rulebook.rules)


def test_it_has_the_fifteen_features_of_the_handbook(rulebook):
    assert len(rulebook.features) == 15
    assert rulebook.schema.label.field == "TX_FRAUD"
    assert rulebook.schema.label.known_after_ms == KNOWN_AFTER / pd.Timedelta(milliseconds=1)


# --- the numbers


@needs_table
def test_what_the_payment_itself_says(ours, sample):
    when = sample.TX_DATETIME.dt
    same(ours.payment_amount, sample.TX_AMOUNT)
    same(ours.payment_weekend, when.weekday >= 5)
    same(ours.payment_night, when.hour <= 6)


@needs_table
@pytest.mark.parametrize("days", WINDOWS)
def test_customer_windows_equal_pandas(ours, sample, days):
    same(
        ours[f"customer_count_{days}d"], per(sample, "CUSTOMER_ID", lambda rows: rolling(rows.TX_AMOUNT, days).count())
    )
    same(ours[f"customer_mean_{days}d"], per(sample, "CUSTOMER_ID", lambda rows: rolling(rows.TX_AMOUNT, days).mean()))


@needs_table
@pytest.mark.parametrize("days", WINDOWS)
def test_terminal_windows_equal_pandas_over_labels_that_were_known(ours, sample, days):
    same(ours[f"terminal_labels_{days}d"], per(sample, "TERMINAL_ID", terminal(days, "count")))
    same(ours[f"terminal_fraud_share_{days}d"], per(sample, "TERMINAL_ID", terminal(days, "mean")))


@needs_table
def test_terminal_windows_are_the_handbook_s_delayed_windows(ours, sample):
    """Its own arithmetic, payments of (delay + W) days minus those of the delay, gives ours except at the closed edge: a payment
    exactly `delay` days old counts as known here and as unknown there; the table's clock has whole seconds, so a few rows differ."""
    days, delay = 7, KNOWN_AFTER.days

    def delayed(rows: pd.DataFrame) -> pd.Series:
        return rolling(rows.TX_FRAUD, delay + days).count() - rolling(rows.TX_FRAUD, delay).count()

    theirs = per(sample, "TERMINAL_ID", delayed)
    agree = np.mean(ours[f"terminal_labels_{days}d"].to_numpy() == theirs.to_numpy())
    assert agree > 0.999


@needs_table
def test_no_feature_looks_ahead(rulebook, sample, ours, tmp_path):
    """Cut the table in the middle: everything before the cut stays as it was."""
    half = sample.iloc[: len(sample) // 2]
    file = tmp_path / "half.parquet"
    half.to_parquet(file, index=False)
    engine = Engine(rulebook, mode="interpreted")
    found = pd.concat([engine.features_table(batch).to_pandas() for batch in engine.read([file])], ignore_index=True)
    pd.testing.assert_frame_equal(found, ours.iloc[: len(half)])
