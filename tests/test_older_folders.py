"""Folders of the first schema, whose rows lack the newer measures: every command reads them, and what is trained now stands beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from test_cli import invoke

from phasediag.kinds import open_store
from phasediag.phase_diagram.columns import MEASURES
from phasediag.phase_diagram.kind import PhaseDiagram
from phasediag.storage.store import Store
from phasediag.sweep.load import Results

RESULTS = Path(__file__).parent.parent / "results"
EARLIER = RESULTS / "two_layer_synthetic_coarse"
NEW = [1.0, 0.1]
"""A point that the stored study lacks."""


def schema_versions(folder: Path) -> list[str]:
    return sorted(
        pq.read_schema(file).metadata[b"phasediag_schema"].decode() for file in folder.glob("runs/*.parquet")
    )


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EARLIER, tmp_path / "out", ignore=shutil.ignore_patterns("figures")))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep goes on, at one further point."""
    out = Path(
        shutil.copytree(
            EARLIER, tmp_path_factory.mktemp("mixed") / "out", ignore=shutil.ignore_patterns("figures")
        )
    )
    spec = out.parent / "spec.toml"
    spec.write_text((out / "study.toml").read_text().replace("points = []", f"points = [{NEW}]", 1))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PhaseDiagram, "figures", lambda kind, store: {})
        result = invoke("run", spec, "--out", out, "--local")
    assert result.exit_code == 0, result.output
    return out


def test_rows_of_the_first_schema_have_the_newer_measures_as_nan(earlier: Path) -> None:
    store: Store = open_store(earlier)
    runs, samples = store.runs(), store.samples()
    assert list(runs.columns) == store.tables.runs.names and len(samples) == 3
    assert runs[MEASURES.names].isna().all(axis=None)
    assert runs["relative_change"].notna().all()


def test_what_was_fitted_to_them_is_not_out_of_date() -> None:
    assert Results(open_store(RESULTS / "three_layer_refined")).is_fitted


def test_condensation_studies_of_the_first_schema_stay_readable(tmp_path: Path) -> None:
    name = "condensation_1d"
    out = Path(shutil.copytree(RESULTS / name, tmp_path / name))
    assert set(schema_versions(out)) == {"1"}
    assert invoke("fit", out).exit_code == 0
    assert Results(open_store(out)).is_fitted


def test_a_sweep_goes_on_beside_files_of_the_first_schema(mixed: Path) -> None:
    assert set(schema_versions(mixed)) == {"1", "2"}
    runs = open_store(mixed).runs()
    new = (runs["gamma"] == NEW[0]) & (runs["gamma_prime"] == NEW[1])
    assert new.sum() == 2 * 12
    for name in ("kernel_change", "time", "linear_gap"):
        assert (runs[name].notna() == new).all(), name
    assert runs["relative_change"].notna().all()
    status = invoke("status", mixed, "--json")
    assert status.exit_code == 0 and '"missing": 0' in status.output


@pytest.mark.parametrize("command", ["fit", "plot --only slope_map_W1 --format png", "report", "list"])
def test_commands_read_both(mixed: Path, command: str) -> None:
    name, *options = command.split()
    result = invoke(name, mixed.parent if name == "list" else mixed, *options)
    assert result.exit_code == 0, result.output


def test_an_export_has_all_columns(mixed: Path) -> None:
    file = mixed.parent / "all.parquet"
    assert invoke("export", mixed, file).exit_code == 0
    exported = pd.read_parquet(file)
    assert exported["kernel_change"].notna().sum() == 24 and len(exported) == len(open_store(mixed).runs())


def test_an_old_row_is_reproduced(mixed: Path) -> None:
    runs = open_store(mixed).runs()
    row = runs[np.isnan(runs["kernel_change"]) & (runs["width"] == 100)].iloc[0]
    result = invoke("reproduce", mixed, row["job_id"])
    assert result.exit_code == 0, result.output
