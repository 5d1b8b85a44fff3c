"""The shipped rulebook on a small market: engine and SQL say the same about every event, to the last bit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from shopward import Engine, Rulebook
from shopward.batch import LABEL
from shopward.features import sql
from shopward.ingest import read
from shopward.market import generate
from tests.properties.agree import differences
from tests.properties.batches import SEED


def test_every_portable_feature_of_the_shipped_rulebook(tmp_path):
    generate(tmp_path, seed=5, days=2, accounts=600)
    book, events, labels = Rulebook.default(), [tmp_path / "events.ndjson"], tmp_path / "truth" / "event_labels.parquet"
    engine = Engine(book, mode="interpreted", seed=SEED)
    native: dict[str, list] = {name: [] for name in book.features if name not in sql.refused(book)}
    ids: list[str] = []
    for batch in engine.read(events, labels=labels):
        block, rows = engine.compute(batch), np.flatnonzero(batch.types != LABEL)
        ids += [batch.event_ids[i] for i in rows]
        for k, name in enumerate(book.features):
            if name in native:
                text = name in block.hashes
                native[name] += (
                    engine.windows.text(name, block.hashes[name][rows]) if text else block.values[k][rows].tolist()
                )
    table = sql.as_table(read(events, book, sql.needs(book), SEED, labels=labels), book)
    found = sql.run(table, book)
    assert isinstance(found, pa.Table) and found["event_id"].to_pylist() == ids
    assert len(ids) > 500 and sql.labels_in(table) != "none"
    assert differences(native, found.drop_columns("event_id").to_pydict(), [{"event_id": i} for i in ids]) == []
