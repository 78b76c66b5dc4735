"""What is kept of the way of a network, against gradient descent with small steps, written from scratch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasediag.engine import measures
from phasediag.engine.networks import Moment, initial_weights
from phasediag.phase_diagram import film, info, training
from phasediag.phase_diagram.columns import FILM, TABLES
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec

X = np.array([[-1.0], [-0.35], [0.3], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2])
SETTINGS = TrainSpec(loss_tolerance=1e-4)
Row = dict[str, Any]


def small_steps(job: Job, x: np.ndarray, times: list[float]) -> list[np.ndarray]:
    """Input weights (N, d+1) of a network of two layers at these times."""
    mass, kappa = job.width / job.neurons, job.width**-job.gamma
    slow = job.width ** (-2 * job.gamma_prime)
    inputs = np.column_stack([x, np.ones(len(x))])
    w_start, a_start = initial_weights(2, job.neurons, x.shape[1], job.seed)
    w, a, time, found = w_start.copy(), a_start.copy(), 0.0, []
    first = np.maximum(inputs @ w_start.T, 0) @ a_start
    for due in times:
        while time < due:
            h = np.maximum(inputs @ w.T, 0)
            residual = kappa * (np.sqrt(mass) * first + mass * (h @ a - first)) - Y
            kernel = (
                kappa**2 * mass * ((h**2).sum() + slow * ((h > 0) @ a**2 * (inputs**2).sum(axis=1)).sum())
            )
            fastest = max(kernel / len(x), kappa * np.sqrt(slow) * np.abs(residual).mean())
            step = min(0.02 / fastest, due - time)
            pull = -kappa / len(x) * ((h > 0) * residual[:, None]).T @ inputs
            w, a = w + slow * step * a[:, None] * pull, a + step * np.einsum("kd,kd->k", pull, w)
            time += step
        found.append(w.copy())
    return found


CASES = [
    (Job("", 2, 60, 60, 0.6, 0.0, 0.0, 0), X),
    (Job("", 2, 60, 60, 1.5, 0.0, 0.0, 0), X),
    (Job("", 2, 10**8, 60, 1.75, 0.1, 0.0, 0), X),
    (Job("", 2, 60, 60, 1.75, 0.0, 0.0, 1), np.random.default_rng(0).standard_normal((4, 5))),
]


@pytest.mark.parametrize(("job", "x"), CASES, ids=["linear", "condensed", "represented", "five inputs"])
def test_directions_along_the_training_are_those_of_small_steps(job: Job, x: np.ndarray) -> None:
    [row] = training.train_sample(job, x, Y, TrainSpec(loss_tolerance=1e-2))
    expected = small_steps(job, x, row["moments"])
    counts = [(measures.orientations(w, 0), measures.clusters(w, 0)) for w in expected]
    orientations, clusters = map(np.array, zip(*counts, strict=True))
    off = np.abs(row["orientations"] / orientations - 1)
    assert np.median(off) < 0.01 and np.quantile(off, 0.9) < 0.06 and off.max() < 0.2
    apart = np.abs(row["clusters"] - clusters)
    assert (apart <= 1).all() and (apart == 0).mean() > 0.6
    frames = [expected[row["moments"].index(time)] for time in row["film_time"]]
    assert len(frames) == 6
    _, horizontals, amplitudes = info.places_of(frames)
    # later, which of many equal neurons meets a kink first, and stays behind, is a matter of rounding
    for frame, lengths in enumerate(amplitudes[:3] if job.mass > 1 else amplitudes):
        np.testing.assert_allclose(
            row["film_amplitude"][frame], lengths, rtol=0.08, atol=0.02 * lengths.max()
        )
        turned = np.abs(row["film_orientation"][frame] - horizontals[frame])
        long = lengths > 0.1 * lengths.max()
        assert np.minimum(turned, 2 * np.pi - turned)[long].max() < 0.1


def test_a_condensed_network_condenses_before_it_learns_and_a_linear_one_never() -> None:
    linear, condensed = (
        training.train_sample(Job("", 2, 1000, 1000, gamma, 0.0, 0.0, 0), X, Y, SETTINGS)[0]
        for gamma in (0.5, 1.75)
    )
    assert min(linear["orientations"]) > 15 and min(linear["clusters"]) > 12
    before, after = (
        np.interp(condensed["onset"] * by, condensed["moments"], condensed["orientations"]) for by in (0.3, 2)
    )
    assert before > 14 and after < 4


def test_rows_do_not_depend_on_threads() -> None:
    job = Job("", 2, 80, 80, 1.5, 0.0, 0.0, 0)
    one, several = (training.train_sample(job, X, Y, SETTINGS, threads=threads)[0] for threads in (1, 3))
    for name in FILM.names:
        np.testing.assert_array_equal(one[name], several[name])


def test_moments_begin_at_the_start_and_end_at_the_end() -> None:
    for row in training.train_sample(Job("", 3, 50, 50, 2.0, 0.0, 0.0, 0), X, Y, SETTINGS):
        TABLES.samples.table([{**row, "error": ""} if "error" in TABLES.samples.names else row])
        moments = row["moments"]
        assert moments == sorted(set(moments)) and moments[0] == 0 and moments[-1] == row["time"][-1]
        assert len(moments) == len(row["orientations"]) == len(row["clusters"]) <= film.MOMENTS + 6
        assert row["film_time"][0] == 0 and row["film_time"][-1] == moments[-1]
        assert set(row["film_time"]) <= set(moments)
        among = np.isin(row["time"], moments)
        np.testing.assert_allclose(
            np.interp(row["time"], moments, row["moment_loss"])[among], np.array(row["loss"])[among]
        )
        final = np.array(row["input_final"])
        assert row["orientations"][-1] == pytest.approx(measures.orientations(final, 0))
        np.testing.assert_allclose(row["film_amplitude"][-1], np.linalg.norm(final, axis=1), rtol=1e-5)


def test_wide_layers_show_some_of_their_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "SHOWN", 7)
    job = Job("", 2, 90, 90, 1.0, 0.0, 0.0, 0)
    [row] = training.train_sample(job, X, Y, SETTINGS)
    assert np.shape(row["film_orientation"]) == np.shape(row["film_amplitude"]) == (6, 7)


def test_gradient_descent_has_a_film_of_whole_steps_and_adam_none() -> None:
    job = Job("", 2, 60, 60, 1.5, 0.0, 0.0, 0)
    gd = TrainSpec(method="gd", learning_rate=20.0, loss_tolerance=1e-2)
    [flow] = training.train_sample(job, X, Y, TrainSpec(loss_tolerance=1e-2))
    [descent] = training.train_sample(job, X, Y, gd)
    assert np.interp(flow["onset"], descent["moments"], descent["moment_loss"]) == pytest.approx(
        0.9 * descent["loss"][0], rel=0.03
    )
    np.testing.assert_allclose(np.array(descent["moments"]) / 20.0 % 1.0 % 0.999999, 0, atol=1e-5)
    assert descent["onset"] == pytest.approx(flow["onset"])
    for share in (0.1, 0.5, 1.0):
        there = [
            np.interp(share * flow["time"][-1], row["moments"], row["orientations"])
            for row in (flow, descent)
        ]
        assert there[0] == pytest.approx(there[1], rel=0.1)
    [adam] = training.train_sample(
        job, X, Y, TrainSpec(method="adam", learning_rate=1e-2, max_evaluations=50)
    )
    assert np.isnan(adam["onset"]) and adam["moments"] == adam["film_amplitude"] == []


def test_a_network_that_diverges_has_no_film() -> None:
    row, _ = training.train_sample(
        Job("", 3, 20, 20, 0.5, 0.0, 0.0, 0), X, Y, TrainSpec(method="gd", learning_rate=1e6)
    )
    assert row["status"] == "diverged" and row["moments"] == row["film_time"] == []


def test_a_network_that_never_moves_has_one_moment() -> None:
    [row] = training.train_sample(Job("", 2, 50, 50, 0.5, 0.0, 0.0, 0), X, Y, TrainSpec(max_evaluations=1))
    assert row["moments"] == row["film_time"] == [0.0]


def test_a_fixed_step_that_is_never_taken_has_one_moment() -> None:
    limits = TrainSpec(method="gd", learning_rate=1.0, max_evaluations=1)
    [row] = training.train_sample(Job("", 2, 50, 50, 0.5, 0.0, 0.0, 0), X, Y, limits)
    assert row["moments"] == [0.0]


@given(
    st.lists(
        st.tuples(st.floats(1e-30, 1e30), st.floats(0, 1e3), st.floats(0, 1e9)), min_size=1, max_size=20
    ),
    st.one_of(st.just(float("nan")), st.floats(1e-20, 1e20)),
)
def test_moments_and_frames_of_any_course_lie_within_it(
    steps: list[tuple[float, float, float]], onset: float
) -> None:
    times = np.concatenate([[0.0], np.cumsum([length for length, _, _ in steps])])
    trace = [Moment(0, 0.0, 1.0, {"W1": 0.0, "a": 0.0})]
    trace += [
        Moment(at, time, loss, {"W1": moved, "a": 0.0})
        for at, (time, (_, loss, moved)) in enumerate(zip(times[1:], steps, strict=True), 1)
    ]
    moments, frames = film.moment_times(trace, onset), film.frame_times(trace, onset)
    for found in (moments, frames):
        assert found[0] == 0 and found[-1] == times[-1] and found == sorted(found)


def test_moments_are_where_most_happens() -> None:
    """A loss that waits, falls within a hundredth of the time, and waits again."""
    times = [0.0, 1.0, 50.0, 50.5, 51.0, 100.0]
    losses = [1.0, 1.0, 0.99, 1e-2, 1e-4, 1e-4]
    moved = [0.0, 0.01, 0.5, 3.0, 4.0, 4.0]
    trace = [Moment(i, t, r, {"W1": d}) for i, (t, r, d) in enumerate(zip(times, losses, moved, strict=True))]
    found = film.moment_times(trace, 50.0)
    assert found[0] == 0 and found[-1] == 100.0
    assert sum(50 <= time <= 51 for time in found) > len(found) / 3
    frames = film.frame_times(trace, 50.0)
    assert frames[:3] == [0.0, 25.0, 50.0] and frames[-1] == 100.0
    assert 50 < frames[3] < frames[4] < 51
