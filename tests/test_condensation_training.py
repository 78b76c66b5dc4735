"""From jobs to rows: what a condensation study trains and measures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tomli_w
import torch
from peak import Peak
from studies import draw_each, trainer_of

import phasediag
from phasediag.condensation import figures, measures, training
from phasediag.condensation.columns import TABLES
from phasediag.condensation.costs import card_bytes
from phasediag.condensation.counts import count, summarise
from phasediag.condensation.training import Trainer
from phasediag.kinds import read_study
from phasediag.storage.schema import runs_table

SPEC: dict[str, Any] = {
    "name": "small",
    "kind": "condensation",
    "network": {"hidden": [20]},
    "data": {
        "kind": "function",
        "target": "sum_sin",
        "amplitude": 3.5,
        "frequency": 5.0,
        "phase": 1.0,
        "dimension": 2,
        "low": -4.0,
        "high": 2.0,
        "samples": 30,
    },
    "grid": {"activation": ["tanh", "x_tanh"], "std": [0.005], "seeds": 3},
    "train": {"method": "adam", "epochs": 40, "learning_rate": 1e-3, "snapshots": [10]},
}


@pytest.fixture
def study(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A study with some tables changed."""

    def read(**tables: dict[str, Any]) -> Any:
        spec = dict(SPEC)
        for table, changes in tables.items():
            spec[table] = {**spec.get(table, {}), **changes}
        path = tmp_path / "spec.toml"
        path.write_text(tomli_w.dumps(spec))
        return read_study(path)

    return read


def trainer(study: Any) -> Trainer:
    found = trainer_of(study)
    assert isinstance(found, Trainer)
    return found


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as stored, without what may differ between two runs."""
    table = runs_table(rows, TABLES.runs).to_pandas()
    return table.drop(columns=["wall_seconds"]).sort_values(list(TABLES.order), ignore_index=True)


@pytest.mark.parametrize("method", ["adam", "gd", "gradient-flow", "normalized-gd"])
def test_a_row_for_every_job_snapshot_and_layer(study: Any, method: str) -> None:
    here = study(network={"hidden": [9, 6]}, train={"method": method})
    rows = frame(trainer(here).batch(here.jobs(), "cpu", 1))
    assert len(rows) == 6 * 3 * 2
    assert not rows.duplicated(list(TABLES.run_key)).any()
    assert set(rows["epoch"]) == {0, 10, 40} and set(rows["layer"]) == {"H1", "H2"}
    assert set(rows["status"]) == {"converged"} and set(rows["method"]) == {method}
    assert (rows["hidden"] == rows["layer"].map({"H1": 9, "H2": 6})).all()
    assert dict(zip(rows["activation"], rows["multiplicity"], strict=True)) == {"tanh": 1, "x_tanh": 2}
    assert rows["aligned_fraction"].between(0, 1).all()
    assert (
        rows[["lines", "orientations", "active_neurons"]].apply(lambda column: column % 1 == 0).all(axis=None)
    )


@pytest.mark.parametrize("method", ["adam", "normalized-gd", "gradient-flow"])
@pytest.mark.parametrize("hidden", [[20], [6, 6, 6]])
def test_rows_do_not_depend_on_batch_or_threads(study: Any, method: str, hidden: list[int]) -> None:
    here = study(network={"hidden": hidden, "residual": len(hidden) > 1}, train={"method": method})
    jobs, train = here.jobs(), trainer(here)
    together = frame(train.batch(jobs, "cpu", 1))
    alone = frame([row for job in jobs for row in train.batch([job], "cpu", 1)])
    pd.testing.assert_frame_equal(alone, together, check_exact=True)


def test_chunks_on_several_threads_give_the_same_rows(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = study()
    together = frame(trainer(here).batch(here.jobs(), "cpu", 1))
    monkeypatch.setattr(training, "CHUNK_ELEMENTS", 2 * 30 * 20)
    for threads in (1, 3):
        chunked = frame(trainer(here).batch(here.jobs()[::-1], "cpu", threads))
        pd.testing.assert_frame_equal(chunked, together, check_exact=True)


@pytest.mark.parametrize("method", ["adam", "gradient-flow"])
@pytest.mark.parametrize(("hidden", "dimension"), [([200], 2), ([60, 60], 3), ([100], 300)])
def test_memory_is_what_batches_are_sized_by(
    study: Any, method: str, hidden: list[int], dimension: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as many jobs take as much more as is counted for them, nearly."""
    monkeypatch.setattr(training, "CHUNK_ELEMENTS", 2**40)
    peaks = []
    for seeds in (6, 12):
        here = study(
            network={"hidden": hidden},
            data={"dimension": dimension},
            grid={"activation": ["tanh"], "std": [0.01], "seeds": seeds},
            train={"method": method, "epochs": 3, "snapshots": [3]},
        )
        jobs = here.jobs()
        with Peak() as peak:
            trainer(here).batch(jobs, "cpu", 1)
        peaks.append((len(jobs), peak.bytes))
    (few, low), (many, high) = peaks
    counted = card_bytes(dimension, hidden, here.data.points, 8)
    assert 0.3 * counted < (high - low) / (many - few) <= counted


def test_the_loss_is_the_mean_squared_error(study: Any) -> None:
    """At the start, f is nearly 0."""
    here = study(grid={"std": [1e-6]})
    rows = frame(trainer(here).batch(here.jobs(), "cpu", 1))
    for seed in range(3):
        expected = np.mean(np.square(here.data.of(2, seed).y))
        there = rows.loc[(rows["seed"] == seed) & (rows["epoch"] == 0), "loss"]
        np.testing.assert_allclose(there, expected, rtol=1e-6)


def test_a_job_that_diverges_has_a_status_and_no_count(study: Any) -> None:
    here = study(
        train={"method": "gd", "learning_rate": {"x_tanh": 1e12, "tanh": 1e-3}, "snapshots": [1, 20]}
    )
    rows = frame(trainer(here).batch(here.jobs(), "cpu", 1))
    gone = rows.loc[(rows["activation"] == "x_tanh") & (rows["epoch"] >= 20)]
    assert set(gone["status"]) == {"diverged"}
    assert gone[["loss", "lines", "aligned_fraction", "predicted_alignment"]].isna().all(axis=None)
    rest = rows.drop(gone.index)
    assert set(rest.loc[rest["epoch"] == 0, "status"]) == {"converged"}
    assert set(rest.loc[rest["activation"] == "tanh", "status"]) == {"converged"}


def test_a_loss_that_has_exploded_is_no_condensate(study: Any) -> None:
    """Weights beyond what float32 can hold, and losses of 1e18 on the way there, are finite numbers, but no result."""
    here = study(
        grid={"activation": ["tanh", "x2_tanh", "relu"]}, train={"method": "gd", "learning_rate": 1e6}
    )
    rows = frame(trainer(here).batch(here.jobs(), "cpu", 1))
    later = rows.loc[rows["epoch"] == 40]
    assert set(later["status"]) == {"diverged"} and later["lines"].isna().all()
    kept = [row for job in here.sample_jobs() for row in trainer(here).sample(job, "cpu", 1)]
    samples = pa.Table.from_pylist(kept, schema=TABLES.samples.schema).to_pandas()
    assert all(np.isfinite(np.stack(weights)).all() for weights in samples["input"])
    for figure in draw_each(figures.drawings(rows, samples, here.data.arrays())).values():
        figure.canvas.draw()


def test_a_network_that_is_never_finite_keeps_its_weights_and_is_drawn(study: Any) -> None:
    here = study(
        network={"hidden": [12] * 7},
        data={"dimension": 1},
        grid={"activation": ["x2_tanh"], "std": [1000.0], "seeds": 2},
    )
    rows = frame(trainer(here).batch(here.jobs(), "cpu", 1))
    assert set(rows["status"]) == {"diverged"}
    kept = trainer(here).sample(here.jobs()[0], "cpu", 1)
    samples = pa.Table.from_pylist(kept, schema=TABLES.samples.schema).to_pandas()
    assert list(samples["layer"]) == [f"H{layer}" for layer in range(1, 8)] and set(samples["epoch"]) == {0}
    assert np.isfinite(np.stack(samples["input"].iloc[0])).all()
    assert all(len(samples[name].iloc[0]) == 0 for name in ("predicted", "f", "residual", "losses"))
    for figure in draw_each(figures.drawings(rows, samples, here.data.arrays())).values():
        figure.canvas.draw()


def test_snapshots_beyond_the_limit_of_a_flow_say_so(study: Any) -> None:
    here = study(train={"method": "gradient-flow", "epochs": 10**6, "snapshots": [1], "max_evaluations": 50})
    rows = frame(trainer(here).batch(here.jobs(), "cpu", 1))
    assert set(rows.loc[rows["epoch"] == 1, "status"]) == {"converged"}
    late = rows.loc[rows["epoch"] == 10**6]
    assert set(late["status"]) == {"evaluation_limit"} and late["lines"].isna().all()
    assert rows["evaluations"].between(50, 56).all()


def test_networks_without_active_neurons_have_no_lines_and_no_error(
    study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phasediag.condensation import networks

    def nothing(inputs: int, hidden: Any, seed: int) -> list[Any]:
        return [np.zeros((hidden[0], inputs + 1)), np.zeros(hidden[0])]

    monkeypatch.setattr(networks, "initial_weights", nothing)
    here = study(train={"method": "gd"})
    rows = frame(trainer(here).batch(here.jobs(), "cpu", 1))
    assert set(rows["status"]) == {"converged"}
    assert (rows[["lines", "orientations", "active_neurons"]] == 0).all(axis=None)
    assert rows[["aligned_fraction", "predicted_alignment", "predicted_fraction"]].isna().all(axis=None)
    assert len(count(rows.assign(wall_seconds=0.0))) == 2 * 3


def test_failed_jobs_have_every_row_and_the_reason(study: Any) -> None:
    here = study()
    rows = trainer(here).failed(here.jobs()[0], "MemoryError: no room")
    table = runs_table(rows, TABLES.runs).to_pandas()
    assert len(table) == 3
    assert set(table["status"]) == {"failed"} and set(table["error"]) == {"MemoryError: no room"}
    assert table[["lines", "loss", "predicted_alignment"]].isna().all(axis=None)


def test_predictions_are_there_where_the_residual_reaches_a_layer(study: Any) -> None:
    def predicted(names: list[str], skips: bool) -> list[bool]:
        here = study(network={"hidden": [5, 5], "residual": skips}, grid={"activation": [names]})
        rows = frame(trainer(here).batch(here.jobs()[:1], "cpu", 1))
        last = rows.loc[rows["epoch"] == 40].sort_values("layer")
        return list(last["predicted_alignment"].notna())

    assert predicted(["tanh", "tanh"], False) == [True, True]
    assert predicted(["tanh", "x_tanh"], False) == [False, True]
    assert predicted(["tanh", "x_tanh"], True) == [True, True]


def test_predictions_for_signs_belong_to_adam(study: Any) -> None:
    for method, there in (("adam", True), ("normalized-gd", False)):
        here = study(train={"method": method})
        rows = frame(trainer(here).batch(here.jobs(), "cpu", 1))
        assert rows["sign_fraction"].notna().all() == rows["sign_lines"].notna().all() == there


def test_kept_networks_are_those_of_the_rows(study: Any) -> None:
    here = study(data={"dimension": 1}, samples={"seeds": [1]})
    rows = frame(trainer(here).batch(here.jobs(), "cpu", 1))
    job = here.sample_jobs()[0]
    kept = trainer(here).sample(job, "cpu", 1)
    table = pa.Table.from_pylist(kept, schema=TABLES.samples.schema).to_pandas()
    mine = rows.loc[rows["job_id"] == job.job_id]
    assert list(table["epoch"]) == [0, 10, 40]
    np.testing.assert_array_equal(table["loss"], mine["loss"])
    first, last = table.iloc[0], table.iloc[-1]
    assert np.stack(first["input"]).shape == (20, 2) and np.stack(first["output"]).shape == (20, 1)
    np.testing.assert_allclose(
        np.linalg.norm(np.stack(last["input"]), axis=1).max(), mine["largest_weight"].iloc[-1], rtol=1e-6
    )
    data = here.data.of(1, 1)
    np.testing.assert_allclose(
        np.interp(data.x[:, 0], last["x"], last["f"]) - data.y, last["residual"], atol=1e-5
    )
    assert len(last["epochs"]) == len(last["losses"]) == 41
    assert np.stack(last["field"]).shape == (measures.FIELD_POINTS**2, 2)


def test_the_direction_field_is_that_of_the_definition(study: Any) -> None:
    here = study(data={"dimension": 1}, samples={"seeds": [0]})
    [job] = [job for job in here.sample_jobs() if job.activations == ("x_tanh",)]
    last = trainer(here).sample(job, "cpu", 1)[-1]
    x = np.column_stack([here.data.of(1, 0).x, np.ones(30)])
    assert len(last["field"]) > 37
    for place, arrow in list(zip(last["field_at"], last["field"], strict=True))[::37]:
        z = x @ place
        slope = np.tanh(z) + z / np.cosh(z) ** 2
        np.testing.assert_allclose(
            arrow, -np.mean(np.array(last["residual"]) * slope * x.T, axis=1), rtol=1e-4
        )


def test_weights_before_and_after(study: Any) -> None:
    here = study(network={"hidden": [5, 3]})
    rows, arrays = trainer(here).weights(here.jobs()[0], "cpu")
    shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes == {
        "x": (30, 2),
        "y": (30,),
        **{f"W1_{end}": (5, 3) for end in ("initial", "final")},
        **{f"W2_{end}": (3, 6) for end in ("initial", "final")},
        **{f"a_{end}": (3,) for end in ("initial", "final")},
    }
    assert len(rows) == 3 * 2


def test_a_polynomial_of_degree_p_fits_its_own_kind(study: Any) -> None:
    """Networks of one input so small that only the leading term counts."""
    here = study(
        data={"dimension": 1},
        grid={"activation": ["tanh", "x_tanh", "x2_tanh"], "std": [1e-3]},
        train={"learning_rate": 1e-5},
    )
    rows = frame(trainer(here).batch(here.jobs(), "cpu", 1))
    assert (rows["polynomial_misfit"] < 1e-3).all()
    two = study()
    assert frame(trainer(two).batch(two.jobs(), "cpu", 1))["polynomial_misfit"].isna().all()


def test_a_study_is_trained_in_this_process(study: Any) -> None:
    calls: list[tuple[int, int]] = []
    here = study()
    runs = phasediag.train(here, progress=lambda done, total: calls.append((done, total)))
    assert list(runs.columns) == TABLES.runs.names
    assert calls[-1] == (6, 6)
    assert set(runs["job_id"]) == {job.job_id for job in here.jobs()}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", ["adam", "gradient-flow", "normalized-gd"])
def test_gpu_rows_agree_with_cpu_rows(study: Any, method: str) -> None:
    here = study(train={"method": method})
    gpu, cpu = (frame(trainer(here).batch(here.jobs(), device, 1)) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(gpu["loss"], cpu["loss"], rtol=1e-6)
    np.testing.assert_array_equal(gpu["lines"], cpu["lines"])


# What the paper claims, at the settings where it holds.


def test_one_input_condenses_on_one_two_and_three_lines(study: Any) -> None:
    here = study(
        network={"hidden": [100]},
        data={
            "target": "sin_mix",
            "dimension": 1,
            "low": -1.0,
            "high": 1.5,
            "samples": 40,
            "spacing": "even",
            "amplitude": 1.0,
            "frequency": 1.0,
            "phase": 0.0,
        },
        grid={"activation": ["tanh", "x_tanh", "x2_tanh"], "seeds": 8},
        train={"epochs": 200, "learning_rate": 5e-4, "snapshots": [50, 70, 100, 150]},
    )
    runs = phasediag.train(here)
    found = summarise(runs).set_index("activation")
    assert dict(found["lines"]) == {"tanh": 1, "x_tanh": 2, "x2_tanh": 3}
    assert (found["share"] >= 0.8).all()
    assert (found.loc[["x_tanh", "x2_tanh"], "predicted_fraction"] >= 0.85).all()
    assert (found["last"] >= 2 * found["first"]).all()
    last = runs.loc[runs["epoch"] == 200]
    assert (last["polynomial_misfit"] < 0.02).all()


def test_normalised_steps_reach_the_extreme_eigenvectors(study: Any) -> None:
    """Two lines for multiplicity 2 in several dimensions, from weights so small that leading order holds for long."""
    here = study(
        data={"dimension": 3, "samples": 80},
        grid={"activation": ["x_tanh"], "std": [1e-5], "seeds": 6},
        train={"method": "normalized-gd", "epochs": 1500, "learning_rate": 2e-5, "snapshots": [500]},
    )
    runs = phasediag.train(here)
    last = runs.loc[runs["epoch"] == 1500]
    assert (last["lines"] <= 2).mean() >= 0.8
    assert last["predicted_fraction"].median() >= 0.9
    assert (last["predicted_lines"] == 2).all()
    near = last["lines_near_predicted"]
    assert (near <= last["lines"]).all() and (near == last["lines"]).mean() >= 0.5
    assert math.isnan(last["sign_fraction"].iloc[0])
