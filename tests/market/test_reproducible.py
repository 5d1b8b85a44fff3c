"""The same arguments give the same bytes, in another process, with or without the access log."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from shopward.market import generate
from shopward.market.networks import COUNTRIES, plan
from shopward.market.texts import Texts, mix

SIZE = {"seed": 7, "days": 5, "accounts": 500, "events": 6000, "adversary": "hard"}
SCRIPT = "import sys; from shopward.market import generate; generate(sys.argv[1], **{size!r})"


def digests(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_two_processes_write_the_same_bytes(tmp_path):
    for name, hash_seed in (("a", "1"), ("b", "2")):
        code = SCRIPT.format(size=SIZE)
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
        )
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert set(digests(tmp_path / "a")) == {
        "events.ndjson", "access.ndjson", "truth/campaigns.parquet", "truth/event_labels.parquet", "truth/steps.parquet",
        "truth/actors.parquet", "truth/lookalikes.parquet", "truth/request_labels.parquet",
    }  # fmt: skip


def test_leaving_out_the_access_log_changes_no_event(tmp_path):
    generate(tmp_path / "with", **SIZE)
    generate(tmp_path / "without", **SIZE, access_log=False)
    whole, part = digests(tmp_path / "with"), digests(tmp_path / "without")
    assert whole.pop("access.ndjson") and whole.pop("truth/request_labels.parquet") and whole == part


def test_another_seed_is_another_market(tmp_path):
    generate(tmp_path / "a", **SIZE, access_log=False)
    generate(tmp_path / "b", **{**SIZE, "seed": 8}, access_log=False)
    first, second = ((tmp_path / name / "events.ndjson").read_bytes() for name in "ab")
    ids = [{part[:9] for part in text.split(b'"account":"')[1:]} for text in (first, second)]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize(
    ("kind", "n"), [("account", 50_000), ("session", 50_000), ("coupon", 60_000), ("product", 50_000)]
)
def test_ids_never_collide(kind, n):
    assert len(set(Texts(3).ids(kind, np.arange(n)).to_pylist())) == n


def test_phones_and_mails_never_collide():
    codes = np.arange(40_000)
    assert len(set(Texts(3).phones(codes).to_pylist())) == len(codes)
    assert len(set(Texts(3).emails(codes * 16 + 1).to_pylist())) == len(codes)


@pytest.mark.parametrize("bits", [16, 24, 32, 40])
def test_the_mix_is_one_to_one(bits):
    codes = np.arange(0, 1 << 16)
    assert len(np.unique(mix(codes, bits, 12345))) == len(codes)


def test_every_home_has_its_own_address_and_its_country():
    people = np.full(len(COUNTRIES), 900)
    net = plan(people, people, people // 50)
    for country in range(len(COUNTRIES)):
        homes = np.arange(900)
        ips = net.home_ip(np.full(900, country), homes, 0)
        assert set(net.country(ips)) == {country}
        moved = net.home_ip(np.full(900, country), homes, 30)
        assert 0.3 < np.mean(ips != moved) < 0.9
    six = net.home_ip6(np.array([3]), np.array([17]), 4, np.array([9]))
    assert net.country(six).tolist() == [3]


PEAK = "import resource, sys; from shopward.market import generate; generate(sys.argv[1], seed=3, days=int(sys.argv[2]), accounts=4000, access_log=False, " \
    "events=int(sys.argv[2]) * 8000); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"  # fmt: skip


def test_three_times_as_many_days_need_hardly_more_memory(tmp_path):
    peaks = []
    for days in ("8", "24"):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(tmp_path / days), days], check=True, capture_output=True, text=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.35 * peaks[0]
