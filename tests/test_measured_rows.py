"""What rows tell beside relative changes, against independent references in float64: gradients by autograd, the linearised network by a
matrix exponential, time by explicit small steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from reference import Weights, layers
from scipy.linalg import expm
from torch import Tensor

from phasediag.engine.networks import initial_weights
from phasediag.phase_diagram.columns import MEASURES
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.predictions import HeldOut
from phasediag.phase_diagram.spec import TrainSpec
from phasediag.phase_diagram.theory import LAYERS
from phasediag.phase_diagram.training import train_batch, train_weights

pytestmark = pytest.mark.usefixtures("one_thread")

Array = NDArray[np.float64]

X = np.array([[-1.0], [-0.35], [0.3], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2])
TEST = HeldOut(np.linspace(-1.2, 1.2, 7)[:, None], np.linspace(0.5, -0.3, 7))
SHAPES = [(2, 60, 60), (3, 24, 24), (4, 16, 16), (2, 6000, 60), (3, 2400, 24), (4, 1600, 16)]
"""depth, width, neurons"""
TOLERANCE = 1e-3
LOOSE = TrainSpec(loss_tolerance=TOLERANCE)


def job_of(shape: tuple[int, int, int], beyond: float, seed: int = 3) -> Job:
    """``beyond``: in gamma, of the exponent of the NTK."""
    depth, width, neurons = shape
    return Job("x", depth, width, neurons, depth / 2 - 0.5 + beyond, 0.1, 0.05 * (depth > 2), seed)


class Network:
    """The network of a job as a function of all its weights: that of the definition, in which each simulated neuron stands for M."""

    def __init__(self, job: Job) -> None:
        self.mass, self.kappa = job.width / job.neurons, float(job.width) ** -job.gamma
        self.start = [
            torch.from_numpy(w) for w in initial_weights(job.depth, job.neurons, X.shape[1], job.seed)
        ]
        exponents = [-2 * job.gamma_prime, *[-2 * job.gamma_1] * (job.depth - 2), 0.0]
        self.rates = [float(job.width) ** exponent for exponent in exponents]

    def _sum(self, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        first, *between, a = weights
        h = torch.relu(x @ first[:, :-1].T + first[:, -1])
        for matrix, start in zip(between, self.start[1:-1], strict=True):
            acting = self.mass**0.5 * start[:, :-1] + self.mass * (matrix - start)[:, :-1]
            h = torch.relu(h @ acting.T + matrix[:, -1])
        return h @ a

    def __call__(self, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        before, now = self._sum(self.start, x), self._sum(weights, x)
        return self.kappa * (self.mass**0.5 * before + self.mass * (now - before))

    def kernel(self, weights: Sequence[Tensor], x: Array, others: Array) -> Array:
        """K(x, x') (k, n): gradients with respect to all weights that are stood for, of which each simulated one is so many."""
        both = torch.from_numpy(np.vstack([x, others]))
        jacobians = torch.func.jacrev(lambda *parts: self(parts, both), tuple(range(len(weights))))(*weights)
        total = torch.zeros(len(both), len(both), dtype=torch.float64)
        for layer, (rate, found) in enumerate(zip(self.rates, jacobians, strict=True)):
            count = torch.full(found.shape[1:], self.mass, dtype=torch.float64)
            if 0 < layer < len(weights) - 1:
                count[:, :-1] *= self.mass
            total += rate * (found.flatten(1) / count.flatten()) @ found.flatten(1).T
        kernel: Array = total[: len(x), len(x) :].numpy()
        return kernel

    def linearised(self, time: float) -> tuple[Array, Array]:
        """f on the data and on the test points after so much time: the residual e and f on the test points obey one linear system."""
        n, k = len(X), len(TEST.x)
        here, there = (self(self.start, torch.from_numpy(x)).numpy() for x in (X, TEST.x))
        rows = np.vstack([self.kernel(self.start, X, X), self.kernel(self.start, TEST.x, X)])
        system = np.hstack([-rows / n, np.zeros((n + k, k))])
        end = expm(time * system) @ np.concatenate([here - Y, there])
        return end[:n] + Y, end[n:]


def gap(linear: Array, f: Array, before: Array) -> float:
    return float(np.linalg.norm(linear - f) / np.linalg.norm(f - before))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("beyond", [0.0, 0.6])
def test_measures_are_those_of_the_weights(shape: tuple[int, int, int], beyond: float) -> None:
    """Given where the training ended. Rounding is what is left: the flow computes in float64."""
    job = job_of(shape, beyond)
    settings = TrainSpec(loss_tolerance=TOLERANCE, dtype="float64")
    rows, weights = train_weights(job, X, Y, settings, held_out=TEST)
    network = Network(job)
    final = [torch.from_numpy(weights[f"{layer}_final"]) for layer in LAYERS[job.depth]]
    row, x_test = rows[0], torch.from_numpy(TEST.x)
    residual = (network(final, x_test) - torch.from_numpy(TEST.y)).numpy()
    assert row["test_loss"] == pytest.approx(np.mean(residual**2) / 2, rel=1e-8)
    assert row["test_error"] == pytest.approx(np.linalg.norm(residual) / np.linalg.norm(TEST.y), rel=1e-8)
    for x, linear, name in zip(
        (X, TEST.x), network.linearised(row["time"]), ("linear_gap", "linear_gap_test"), strict=True
    ):
        f, before = (network(w, torch.from_numpy(x)).numpy() for w in (final, network.start))
        assert row[name] == pytest.approx(gap(linear, f, before), rel=1e-6, abs=1e-9)
    assert all(row[name] == other[name] for other in rows for name in MEASURES.names if "rank" not in name)
    assert [np.isnan(other["effective_rank"]) for other in rows] == [False] * (job.depth - 1) + [True]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ranks_are_those_of_the_network_that_is_represented(shape: tuple[int, int, int]) -> None:
    """Of M^2 weights for each between hidden layers, where a random matrix has M^(1/2) times the operator norm, a change M times."""
    job = job_of(shape, 0.6)
    rows, weights = train_weights(job, X, Y, TrainSpec(loss_tolerance=TOLERANCE, dtype="float64"))
    mass = job.width / job.neurons
    for row in rows[:-1]:
        start, final = (weights[f"{row['layer']}_{when}"] for when in ("initial", "final"))
        count, unit = np.full(start.shape[1], mass), np.ones(start.shape[1])
        if row["layer"] != "W1":
            count[:-1] *= mass
            unit[:-1] = mass**0.5
        change = final - start
        for name, norm, acting in (
            ("effective_rank", final, start + unit * change),
            ("effective_rank_change", change, unit * change),
        ):
            frobenius, operator = np.sum(count * norm**2), mass * np.linalg.norm(acting, 2) ** 2
            assert row[name] == pytest.approx(frobenius / operator, rel=1e-6), (row["layer"], name)


def test_ranks_of_a_represented_network_are_those_of_the_whole_one() -> None:
    """But for the scatter of draws, of which there are six."""
    found = np.array(
        [
            [
                [row[name] for row in rows[:-1] for name in ("effective_rank", "effective_rank_change")]
                for rows in (
                    train_batch([job_of((3, 480, neurons), 1.0, seed=seed)], X, Y, LOOSE)
                    for neurons in (480, 120)
                )
            ]
            for seed in range(6)
        ]
    )
    whole, part = np.log(found).mean(axis=0)
    np.testing.assert_allclose(part, whole, atol=0.1)


class Steps(NamedTuple):
    """Where explicit steps ended: how many there were and the time that they took, that at half of the loss, kernel at start and end."""

    count: int
    time: float
    time_half: float
    start: Array
    end: Array
    residuals: tuple[Array, Array]


def explicit(job: Job, tolerance: float = TOLERANCE, step: float = 0.0) -> Steps:
    """Euler's method to the tolerance, with a fixed step or small ones. The kernel at the end is averaged over the last steps, in which
    neurons go to and fro across the kink that they slide along; that of gradient descent is not."""
    weights: Weights = initial_weights(job.depth, job.neurons, X.shape[1], job.seed)
    flow = layers(X, Y, job.gamma, job.gamma_prime, job.gamma_1, weights, job.width / job.neurons)
    start, last = flow.kernel(weights), deque[Array](maxlen=1 if step else 200)
    times, residuals = [0.0], []
    while True:
        velocity, residual = flow.velocity(weights)
        residuals.append(residual)
        ended = np.mean(residual**2) <= tolerance * np.mean(Y**2)
        if ended or not step:
            last.append(flow.kernel(weights))
        if ended:
            break
        length = step
        if not length:
            fastest = float(np.linalg.eigvalsh(last[-1])[-1])
            length = 0.02 / max(fastest, 2 * flow.growth(weights, residual))
        times.append(times[-1] + length)
        weights = tuple(w + length * v for w, v in zip(weights, velocity, strict=True))
    losses = [float(np.mean(residual**2)) for residual in residuals]
    at = next(i for i, loss in enumerate(losses) if loss <= losses[0] / 2)
    share = np.log(2 * losses[at - 1] / losses[0]) / np.log(losses[at - 1] / losses[at])
    half = times[at - 1] + share * (times[at] - times[at - 1])
    ends = residuals[0], residuals[-1]
    return Steps(len(times) - 1, times[-1], half, start, np.mean(last, axis=0), ends)


def change(steps: Steps) -> float:
    return float(np.linalg.norm(steps.end - steps.start) / np.linalg.norm(steps.start))


@pytest.mark.parametrize(
    ("shape", "beyond"),
    [
        ((2, 60, 60), 0.0),
        ((2, 60, 60), 0.6),
        ((2, 6000, 60), 0.6),
        ((3, 40, 40), 0.6),
        ((3, 4000, 40), 0.0),
        ((4, 3200, 32), 0.6),
    ],
    ids=str,
)
def test_time_and_kernel_are_those_of_small_steps(shape: tuple[int, int, int], beyond: float) -> None:
    """The time to the accuracy of the flow, the step of the reference, and what few neurons leave to chance: one that gets stuck on a kink
    a bit earlier shows in the kernel."""
    job = job_of(shape, beyond)
    [row, *_] = train_batch([job], X, Y, TrainSpec(loss_tolerance=TOLERANCE, dtype="float64"))
    steps = explicit(job)
    assert row["time"] == pytest.approx(steps.time, rel=0.03)
    assert row["time_half"] == pytest.approx(steps.time_half, rel=0.02)
    assert row["kernel_change"] == pytest.approx(change(steps), rel=0.15)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_gradient_descent_is_measured_in_the_unit_of_the_flow(depth: int) -> None:
    """Against the same steps; the linearised network takes as many. Twenty-four neurons, so that it is not linear."""
    rate, tolerance = 0.05, 0.03
    job = job_of((depth, 24, 24), 0.2)
    unit = (
        rate * 24.0**job.gamma_prime if depth == 2 else rate
    )  # the step of the flow in which the rate of a is 1
    settings = TrainSpec(method="gd", learning_rate=rate, loss_tolerance=tolerance, dtype="float64")
    [row, *_], weights = train_weights(job, X, Y, settings, held_out=TEST)
    steps = explicit(job, tolerance, unit)
    assert row["evaluations"] == steps.count + 1
    assert row["time"] == pytest.approx(steps.time, rel=1e-9)
    assert row["time_half"] == pytest.approx(steps.time_half, rel=1e-6)
    assert row["kernel_change"] == pytest.approx(change(steps), rel=1e-6)
    network = Network(job)
    linear = steps.residuals[0]
    there = network(network.start, torch.from_numpy(TEST.x)).numpy()
    across, along = network.kernel(network.start, TEST.x, X) / len(X), steps.start
    for _ in range(steps.count):
        there = there - unit * across @ linear
        linear = linear - unit * along @ linear
    first, last = steps.residuals
    assert row["linear_gap"] == pytest.approx(gap(linear, last, first), rel=1e-6)
    final = [torch.from_numpy(weights[f"{layer}_final"]) for layer in LAYERS[depth]]
    f, before = (network(w, torch.from_numpy(TEST.x)).numpy() for w in (final, network.start))
    assert row["linear_gap_test"] == pytest.approx(gap(there, f, before), rel=1e-6)


def test_adam_follows_no_flow() -> None:
    """What needs one is not defined."""
    settings = TrainSpec(method="adam", learning_rate=0.01, loss_tolerance=TOLERANCE)
    [row, *_] = train_batch([job_of((3, 24, 24), 0.3)], X, Y, settings, held_out=TEST)
    undefined = {name for name in MEASURES.names if np.isnan(row[name])}
    assert undefined == {"time", "time_half", "linear_gap", "linear_gap_test"}


@pytest.mark.parametrize("depth", [2, 3])
def test_wide_networks_are_lazy_in_the_linear_regime_and_not_in_the_condensed_one(depth: int) -> None:
    """The kernel of the linear regime changes like m^(-1/2), but for neurons that happen to start at a kink, and the network follows its
    linearisation to what the steps of the flow leave."""
    widths = (10**4, 10**8, 10**12)
    linear, condensed = (
        [
            train_batch([job_of((depth, width, 200), beyond)], X, Y, LOOSE, held_out=TEST)[0]
            for width in widths
        ]
        for beyond in (0.0, 1.0)
    )
    for name in ("kernel_change", "linear_gap", "linear_gap_test"):
        found = [row[name] for row in linear]
        assert found[0] < 0.1 and found[2] < 1e-3, (name, found)
    assert linear[2]["kernel_change"] < 1e-2 * linear[0]["kernel_change"]
    for before, after in pairwise(row["kernel_change"] for row in condensed):
        assert after > 10 * before > 10
    for name in ("linear_gap", "linear_gap_test"):
        assert 0.7 < condensed[0][name] < condensed[2][name] and condensed[2][name] == pytest.approx(
            1, abs=0.01
        )


def test_what_is_not_defined_is_nan() -> None:
    """Of networks that do not move, or that diverge."""
    still = train_batch([job_of((3, 24, 24), 0.0)], X, Y, TrainSpec(max_evaluations=1), held_out=TEST)[1]
    assert still["time"] == 0 and still["kernel_change"] < 1e-14 and np.isfinite(still["test_loss"])
    names = ("time_half", "effective_rank_change", "linear_gap", "linear_gap_test")
    assert all(np.isnan(still[name]) for name in names)
    for method in ("gd", "adam"):
        settings = TrainSpec(method=method, learning_rate=1e30, max_evaluations=100)
        [row, *_] = train_batch([job_of((3, 24, 24), 0.0)], X, Y, settings, held_out=TEST)
        assert row["status"] == "diverged"
        assert all(np.isnan(row[name]) or np.isfinite(row[name]) for name in MEASURES.names)
        assert np.isnan(row["test_loss"]) and np.isnan(row["kernel_change"])
