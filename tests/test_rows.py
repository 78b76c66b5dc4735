"""Rows of a folder that is looked at again and again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from test_figures import make_runs

from phasediag.phase_diagram.columns import TABLES
from phasediag.storage import rows as module
from phasediag.storage.rows import Rows
from phasediag.storage.store import Store

COLUMNS = ["job_id", "layer", "relative_change"]


class Folder(Store):
    """A folder that counts what is read of it."""

    read = 0

    def run_file(self, path, columns):
        self.read += 1
        return super().run_file(path, columns)

    def expected(self):
        """All rows, read anew."""
        tables = [Store.run_file(self, path, COLUMNS) for path in self.run_files()]
        return pa.concat_tables(tables).to_pylist()


def publish(store, seed, shift=0.0):
    runs = make_runs([(1.0, 0.0), (1.5, 0.0)], widths=(100,), seeds=1)
    filled = runs.assign(**{name: value for name, value in TABLES.runs.blank().items() if name not in runs})
    filled["job_id"] = [f"{seed}-{job}" for job in filled["job_id"]]
    filled["relative_change"] += np.arange(len(runs)) + seed + shift
    return store.publish_runs(
        pa.Table.from_pandas(filled[TABLES.runs.names], TABLES.runs.schema, preserve_index=False)
    )


@pytest.mark.parametrize(("at_once", "chunks"), [(1, 1), (3, 4), (1000, 1000)])
def test_rows_are_those_of_all_files_in_their_order(tmp_path, monkeypatch, at_once, chunks):
    """Files come, are replaced and go, however many are read at once and whenever their rows are put together."""
    monkeypatch.setattr(module, "FILES_AT_ONCE", at_once)
    monkeypatch.setattr(module, "MOST_CHUNKS", chunks)
    store = Folder(tmp_path / "out", TABLES)
    rows = Rows(store, COLUMNS)
    assert rows.look().num_rows == rows.table.num_rows == 0 and rows.table.column_names == COLUMNS
    names = []
    for seeds in ([3], [1, 7, 5], [9], [2, 8], [4], [6]):
        names += [publish(store, seed) for seed in seeds]
        store.read = 0
        come = rows.look()
        assert (come.num_rows, store.read) == (4 * len(seeds), len(seeds))
        assert rows.table.to_pylist() == store.expected()
        assert rows.table.column(0).num_chunks <= chunks
        assert rows.look().num_rows == 0 and store.read == len(seeds)
    kept = {job.partition("-")[0] for job in rows.table["job_id"].to_pylist()}
    assert kept == set("123456789")
    store.files.delete(f"runs/{names[1]}")
    publish(store, 7, shift=0.5)
    changed = pd.DataFrame(rows.look().to_pylist())
    assert len(changed) == 12  # rows that are gone, rows that are replaced, and those in their place
    assert rows.table.to_pylist() == store.expected()
