"""Jobs in, rows out; and the public functions from a spec to a map."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from peak import Peak

import phasediag
from phasediag.engine import relu_cpu
from phasediag.engine.networks import initial_weights
from phasediag.phase_diagram import training
from phasediag.phase_diagram.columns import TABLES
from phasediag.phase_diagram.costs import CARD_BYTES, card_bytes
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.predictions import HeldOut
from phasediag.phase_diagram.spec import TrainSpec
from phasediag.phase_diagram.theory import LAYERS, predicted_slope
from phasediag.storage.schema import runs_table

X = np.array([[-1.0], [-0.35], [0.3], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2])
SETTINGS = TrainSpec()
POINTS = [(0.5, 0.0), (0.8, 0.3), (1.0, -0.4), (1.5, 0.5), (1.75, 0.0)]
JOBS = [
    Job(f"{gamma}/{prime}/{seed}", 2, 90, 90, gamma, prime, 0.0, seed)
    for gamma, prime in POINTS
    for seed in (0, 1)
]
VARIABLE = ["wall_seconds", "device", "version"]


def frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(rows).drop(columns=VARIABLE).sort_values(["job_id", "layer"], ignore_index=True)


def test_rows_have_the_schema_and_every_job_has_each_layer_once() -> None:
    table = runs_table(training.train_batch(JOBS, X, Y, SETTINGS), TABLES.runs)
    assert table.num_rows == 2 * len(JOBS)
    assert set(zip(*(table[name].to_pylist() for name in ("job_id", "layer")), strict=True)) == {
        (job.job_id, layer) for job in JOBS for layer in ("W1", "a")
    }
    assert set(table["status"].to_pylist()) == {"converged"}


@pytest.mark.parametrize("depth", [2, 3])
def test_the_engine_is_compiled_once_whatever_the_arrays_of_the_data_are_like(depth: int) -> None:
    """Those of a Ray worker, say, cannot be written to."""
    job = Job("x", depth, 10, 10, 1.0, 0.0, 0.0, 0)
    expected = frame(training.train_batch([job], X, Y, SETTINGS))
    before = list(relu_cpu._try_steps.signatures)
    locked, strided = (X.copy(), Y.copy()), (np.repeat(X, 2, axis=1)[:, ::2], np.repeat(Y, 2)[::2])
    for array in locked:
        array.setflags(write=False)
    for x, y in (locked, strided):
        pd.testing.assert_frame_equal(frame(training.train_batch([job], x, y, SETTINGS)), expected)
    assert relu_cpu._try_steps.signatures == before


def test_measures_are_those_of_the_weights() -> None:
    rows, weights = training.train_weights(JOBS[-1], X, Y, SETTINGS)
    w, a = initial_weights(2, 90, 1, 1)
    np.testing.assert_allclose(weights["W1_initial"], w, rtol=1e-6)
    np.testing.assert_allclose(weights["a_initial"], a, rtol=1e-6)
    change = weights["W1_final"] - weights["W1_initial"]
    by_layer = {row["layer"]: row for row in rows}
    assert by_layer["W1"]["relative_change"] == pytest.approx(
        np.linalg.norm(change) / np.linalg.norm(w), rel=1e-6
    )
    spectral = np.linalg.norm(change, 2) / np.linalg.norm(w, 2)
    assert by_layer["W1"]["relative_change_spectral"] == pytest.approx(spectral, rel=1e-6)
    assert by_layer["a"]["norm_final"] == pytest.approx(np.linalg.norm(weights["a_final"]), rel=1e-6)
    assert np.isnan(by_layer["a"]["relative_change_spectral"])
    assert np.isnan(by_layer["a"]["orientations"])
    assert by_layer["W1"]["orientations"] < 8
    f = (
        90**-1.75
        * np.maximum(np.hstack([X, np.ones((4, 1))]) @ weights["W1_final"].T, 0)
        @ weights["a_final"]
    )
    assert np.mean((f - Y) ** 2) / 2 == pytest.approx(by_layer["a"]["loss_final"], rel=0.02)
    assert np.mean((f - Y) ** 2) <= 1.01e-6 * np.mean(Y**2)


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_do_not_depend_on_chunks_or_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = HeldOut(np.linspace(-1.3, 1.3, 6)[:, None], np.linspace(-0.5, 0.5, 6))
    together = frame(training.train_batch(JOBS, X, Y, SETTINGS, held_out=held_out))
    monkeypatch.setattr(training, "CHUNK_ELEMENTS", 3 * 90 * 6)
    chunked = frame(training.train_batch(JOBS[::-1], X, Y, SETTINGS, threads=threads, held_out=held_out))
    pd.testing.assert_frame_equal(chunked, together, rtol=1e-6, atol=0)


def test_large_matrices_are_drawn_once_for_all_jobs_of_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order of the jobs, in which the rows come; and how many factors one job keeps is nothing to the others."""
    jobs = [
        Job(f"{gamma}/{seed}", 3, 70, 70, gamma, 0.0, 0.0, seed)
        for gamma in (1.0, 1.5, 2.0)
        for seed in (0, 1)
    ]
    monkeypatch.setattr(relu_cpu, "LARGE", 0)
    alone = [row for job in jobs for row in training.train_batch([job], X, Y, SETTINGS)]
    drawn = []

    def draw(*shape_and_seed: int) -> tuple[np.ndarray, ...]:
        drawn.append(shape_and_seed[-1])
        return initial_weights(*shape_and_seed)

    monkeypatch.setattr(relu_cpu, "initial_weights", draw)
    together = training.train_batch(jobs, X, Y, SETTINGS)
    assert drawn == [0, 1]
    rows = [pd.DataFrame(rows).drop(columns=VARIABLE) for rows in (together, alone)]
    pd.testing.assert_frame_equal(*rows, check_exact=True)


def test_torch_is_left_as_it_was_found() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    training.train_batch(JOBS[:1], X, Y, SETTINGS)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_failed_rows_fit_the_schema() -> None:
    table = runs_table(training.failed_rows(JOBS[0], "RuntimeError: no memory"), TABLES.runs)
    assert table["status"].to_pylist() == ["failed"] * 2
    assert np.isnan(table["relative_change"].to_pylist()).all()


def test_a_sample_keeps_the_network_its_function_and_its_course() -> None:
    [row] = training.train_sample(JOBS[0], X, Y, SETTINGS)
    pa.Table.from_pylist([row], schema=TABLES.samples.schema)
    assert np.shape(row["input_final"]) == (90, 2)
    assert np.shape(row["output_final"]) == (90,)
    fitted = np.interp(X[:, 0], row["x"], row["f_final"])
    np.testing.assert_allclose(fitted, Y, atol=0.02)  # interpolated on the grid of the figure
    assert row["evaluations"] == sorted(row["evaluations"])
    assert row["loss"][-1] <= 1e-6 * np.mean(Y**2) / 2
    [whole] = [one for one in training.train_batch(JOBS[:1], X, Y, SETTINGS) if one["layer"] == "W1"]
    assert row["relative_change"][-1] == pytest.approx(whole["relative_change"], rel=1e-6)


def test_a_sample_of_three_layers_has_a_row_for_each_layer_of_input_weights() -> None:
    job = Job("three", 3, 60, 60, 1.0, 0.3, 0.0, 0)
    first, second = training.train_sample(job, X, Y, SETTINGS)
    pa.Table.from_pylist([first, second], schema=TABLES.samples.schema)
    assert (first["layer"], second["layer"]) == ("W1", "W2")
    assert np.shape(first["input_final"]) == (60, 2)
    assert np.shape(second["input_final"]) == (60, 61)
    np.testing.assert_allclose(np.interp(X[:, 0], first["x"], first["f_final"]), Y, atol=0.02)
    rows = {row["layer"]: row for row in training.train_batch([job], X, Y, SETTINGS)}
    for row in (first, second):
        # What the curve shows along the way is summed up step by step, which is no less than the distance.
        whole, summed = rows[row["layer"]]["relative_change"], row["relative_change"][-1]
        assert 0.999 * whole < summed < 1.02 * whole


def test_a_sample_in_higher_dimensions_has_no_curve() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3))
    [row] = training.train_sample(JOBS[0], x, np.linspace(-1, 1, 5), SETTINGS)
    assert row["x"] == row["f_final"] == []


WITHOUT_TORCH = """
import sys
import numpy as np
sys.modules["torch"] = None  # an attempt to import it fails
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec
from phasediag.phase_diagram.training import train_batch
for depth, inputs, points in ((2, 1, 4), (2, 2, 12), (3, 1, 4), (3, 2, 12)):
    x = np.random.default_rng(0).standard_normal((points, inputs))
    rows = train_batch([Job("a", depth, 50, 50, 0.6, 0.0, 0.0, 0)], x, x[:, 0], TrainSpec(loss_tolerance=1e-2))
    assert {row["status"] for row in rows} == {"converged"}, rows
"""


def test_the_flow_on_a_cpu_goes_without_torch() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_rows_agree_with_cpu_rows() -> None:
    gpu, cpu = (frame(training.train_batch(JOBS, X, Y, SETTINGS, device)) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(gpu["relative_change"], cpu["relative_change"], rtol=SETTINGS.accuracy)


def test_from_a_spec_to_a_map(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The Python interface as the README shows it, names in any order, twice."""
    spec = tmp_path / "spec.toml"
    spec.write_text(
        'name = "api"\nkind = "phase-diagram"\nnetwork = { depth = 2 }\n'
        'data = { kind = "points", x = [[-1.0], [-0.35], [0.3], [1.0]], y = [0.6, -0.4, 0.5, -0.2] }\n'
        "grid = { width = [50, 100, 200], gamma = [0.5, 1.0, 1.75], gamma_prime = [0.0, 0.2], seeds = 2 }\n"
    )
    calls: list[tuple[int, int]] = []
    for _ in range(2):
        study = phasediag.read_study(spec)
        runs = phasediag.train(study, progress=lambda done, total: calls.append((done, total)))
        slopes = phasediag.fit(runs)
        ax = phasediag.plot_map(slopes, layer="W1")
    assert calls[-1] == (36, 36)
    assert list(runs.columns) == TABLES.runs.names
    assert set(runs["job_id"]) == {job.job_id for job in study.jobs()}
    regimes = slopes[slopes.layer == "W1"].set_index(["gamma", "gamma_prime"])["regime"]
    assert (regimes[0.5, 0.0], regimes[1.75, 0.0]) == ("linear", "condensed")
    assert ax.get_xlabel()


def test_three_layer_rows_do_not_depend_on_the_batch() -> None:
    jobs = [Job(str(i), 3, 60, 60, gamma, 0.3, 0.0, i % 2) for i, gamma in enumerate((0.9, 1.5, 2.0, 2.6))]
    settings = TrainSpec(loss_tolerance=1e-4)
    together = frame(training.train_batch(jobs, X, Y, settings))
    alone = frame([row for job in jobs for row in training.train_batch([job], X, Y, settings)])
    pd.testing.assert_frame_equal(alone, together, rtol=1e-6, atol=0)


def test_three_layer_jobs_have_a_row_for_each_layer() -> None:
    job = Job("three", 3, 50, 50, 1.0, 0.3, 0.0, 0)
    table = runs_table(training.train_batch([job], X, Y, TrainSpec(loss_tolerance=1e-3)), TABLES.runs)
    assert table["layer"].to_pylist() == ["W1", "W2", "a"]
    assert table["status"].to_pylist() == ["converged"] * 3
    w1, w2, a = initial_weights(3, 50, 1, 0)
    norms = [float(np.linalg.norm(part)) for part in (w1, w2, a)]
    assert table["norm_initial"].to_pylist() == pytest.approx(norms, rel=1e-6)


SMALL_STEP_SLOPES = {
    (1.5, 0.0): (-0.03, -0.49),
    (2.0, 0.0): (0.19, -0.29),
    (2.0, 0.25): (-0.03, -0.21),
    (2.5, 0.5): (-0.01, 0.01),
    (2.5, 0.8): (-0.35, 0.05),
    (3.0, 0.0): (0.52, 0.03),
}
"""Slopes of W1 and W2 over widths 100, 300 and 1000, two seeds each, by gradient descent with small steps."""


def test_three_layer_slopes_are_those_measured_with_small_steps() -> None:
    rows = []
    for width in (100, 300, 1000):
        jobs = [
            Job(f"{point}/{seed}", 3, width, width, *point, 0.0, seed)
            for point in SMALL_STEP_SLOPES
            for seed in (0, 1)
        ]
        rows += training.train_batch(jobs, X, Y, TrainSpec())
    slopes = phasediag.fit(pd.DataFrame(rows)).set_index(["gamma", "gamma_prime", "layer"])
    for point, expected in SMALL_STEP_SLOPES.items():
        for layer, slope in zip(("W1", "W2"), expected, strict=True):
            row = slopes.loc[(*point, layer)]
            half_width = (row["slope_high"] - row["slope_low"]) / 2
            assert row["slope"] == pytest.approx(slope, abs=max(0.05, half_width)), (point, layer)
    on_its_line = [
        ((1.5, 0.0), "W1"),
        ((2.0, 0.25), "W1"),
        ((2.5, 0.5), "W1"),
        ((2.5, 0.5), "W2"),
        ((3.0, 0.0), "W2"),
    ]
    for point, layer in on_its_line:
        assert abs(slopes.loc[(*point, layer), "slope"]) < 0.05


WIDE = [
    Job(f"{depth}", depth, 10**8, 60, depth / 2, 0.2, 0.1 if depth > 2 else 0.0, 1) for depth in (2, 3, 4)
]


@pytest.mark.parametrize("job", WIDE, ids=lambda job: f"depth {job.depth}")
def test_the_measures_of_represented_networks_are_those_of_the_network(job: Job) -> None:
    """Sums over weights, each as often as the neurons that it belongs to; f on the grid runs through the data."""
    rows, weights = training.train_weights(job, X, Y, SETTINGS)
    assert weights["mass"] == job.mass == 10**8 / 60
    for row in rows:
        start, end = (weights[f"{row['layer']}_{when}"] for when in ("initial", "final"))
        count = np.full(start.shape, job.mass)
        if row["layer"] not in ("W1", "a"):
            count[:, :-1] = job.mass**2
        norm, moved = (np.sqrt((count * part**2).sum()) for part in (start, end - start))
        assert (row["width"], row["neurons"], row["status"]) == (10**8, 60, "converged")
        assert row["norm_initial"] == pytest.approx(norm)
        assert row["relative_change"] == pytest.approx(moved / norm, rel=1e-6)
        if row["layer"] == "W1":
            expected = np.linalg.norm(end - start, 2) / np.linalg.norm(start, 2)
            assert row["relative_change_spectral"] == pytest.approx(expected)
        elif row["layer"] != "a":
            # M |dW| against sqrt(M) |W(0)|; biases are a few of many inputs
            expected = np.sqrt(job.mass) * np.linalg.norm((end - start)[:, :-1], 2) / np.linalg.norm(start, 2)
            assert row["relative_change_spectral"] == pytest.approx(expected, rel=0.01)
    [first, *_] = training.train_sample(job, X, Y, SETTINGS)
    np.testing.assert_allclose(np.interp(X[:, 0], first["x"], first["f_final"]), Y, atol=0.03)


def test_rows_of_represented_networks_do_not_depend_on_the_batch() -> None:
    """Widths beside each other too."""
    jobs = [Job(str(width), 3, width, 60, 1.6, 0.2, 0.0, 0) for width in (61, 10**5, 10**12)]
    together = training.train_batch(jobs, X, Y, SETTINGS)
    alone = [row for job in jobs for row in training.train_batch([job], X, Y, SETTINGS)]
    for one, other in zip(together, alone, strict=True):
        assert one["relative_change"] == other["relative_change"]
        assert one["evaluations"] == other["evaluations"]


def test_networks_that_get_stuck_on_a_plateau_have_not_diverged() -> None:
    """Of 10^18 neurons by 200, where what moves next is beyond the arithmetic."""
    stuck = [(3.0, 0.0, 1), (3.4, -0.1, 0)]
    jobs = [Job(f"{g}/{p}/{seed}", 3, 10**18, 200, g, p, 0.0, seed) for g, p, seed in stuck]
    rows = training.train_batch(jobs, X, Y, TrainSpec(accuracy=0.03))
    assert {row["status"] for row in rows} <= {"stalled", "converged", "evaluation_limit"}
    assert all(row["loss_final"] < row["loss_initial"] for row in rows)


def test_slopes_of_represented_networks_are_those_of_the_rule() -> None:
    widths = (10**6, 10**10)
    for depth, point in ((2, (1.5, 0.5)), (3, (2.0, 0.25)), (4, (2.6, 0.2))):
        jobs = [Job(str(width), depth, width, 100, *point, 0.0, 0) for width in widths]
        rows = training.train_batch(jobs, X, Y, TrainSpec(accuracy=0.03))
        for layer in LAYERS[depth]:
            near, far = (row["relative_change"] for row in rows if row["layer"] == layer)
            slope = np.log(far / near) / np.log(widths[1] / widths[0])
            assert slope == pytest.approx(predicted_slope(layer, depth, *point), abs=0.02)


def test_a_gpu_takes_as_many_jobs_as_it_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a batch hold neighbours by seed; several cards share it evenly."""
    jobs = [Job(str(k), 2, 50, 50, 1.0, 0.0, 0.0, k % 3) for k in range(10)]
    asked: list[tuple[int, int]] = []

    def fitting(job_bytes: int, shared_bytes: int) -> int:
        asked.append((job_bytes, shared_bytes))
        return 4

    monkeypatch.setattr(training, "fitting", fitting)
    chunks = training._chunks(jobs, (4, 1), TrainSpec(), "cuda", 1)
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]
    assert [one.seed for chunk in chunks for one in chunk] == sorted(one.seed for one in jobs)
    assert asked == [(card_bytes(jobs[0], 4, 4), CARD_BYTES)]
    assert [len(chunk) for chunk in training._chunks(jobs, (4, 1), TrainSpec(), "cuda", 5)] == [2] * 5


@pytest.mark.parametrize("method", ["gd", "adam"])
@pytest.mark.parametrize(
    ("depth", "width", "points", "inputs"), [(2, 400, 4, 1), (3, 200, 4, 1), (2, 100, 60, 64)]
)
def test_the_memory_of_descent_is_what_batches_are_sized_by(
    method: str, depth: int, width: int, points: int, inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as many jobs take as much more as is counted for them, nearly."""
    generator, peaks, counted = np.random.default_rng(0), [], []
    x, y = generator.standard_normal((points, inputs)), generator.uniform(-1, 1, points)
    values = {"method": method, "learning_rate": 1e-3, "max_evaluations": 8, "dtype": "float64"}
    settings = TrainSpec.model_validate(values)
    monkeypatch.setattr(training, "fitting", lambda job_bytes, _: counted.append(job_bytes) or 99)
    for count in (8, 16):
        jobs = [Job(str(seed), depth, width, width, depth / 2, 0.1, 0.0, seed) for seed in range(count)]
        training._chunks(jobs, x.shape, settings, "cuda", 1)
        with Peak() as peak:
            training._descend(jobs, x, y, settings, "cpu")
        peaks.append(peak.bytes)
    assert 0.4 * counted[0] < (peaks[1] - peaks[0]) / 8 <= counted[0]
