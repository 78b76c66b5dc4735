"""What rows tell beside relative changes, against independent references in float64: gradients by autograd, the linearised network by a
matrix exponential, time by explicit small steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from reference import Flow, Weights, layers
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


def job_of(shape: tuple[int, int, int], beyond: float, prime: float = 0.1) -> Job:
    """``beyond``: in gamma, of the exponent of the NTK."""
    depth, width, neurons = shape
    return Job("x", depth, width, neurons, depth / 2 - 0.5 + beyond, prime, 0.05 * (depth > 2), 3)


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


@pytest.mark.parametrize(("depth", "beyond"), [(3, 0.6), (3, 1.6), (4, 1.0)])
def test_ranks_of_a_represented_network_are_those_of_the_whole_one(depth: int, beyond: float) -> None:
    """But for what a quarter of the neurons leaves of the scatter of draws."""
    whole, part = (
        train_batch([job_of((depth, 480, neurons), beyond)], X, Y, TrainSpec(loss_tolerance=TOLERANCE))
        for neurons in (480, 120)
    )
    for one, other in zip(whole[:-1], part[:-1], strict=True):
        for name in ("effective_rank", "effective_rank_change"):
            assert other[name] == pytest.approx(one[name], rel=0.15), (one["layer"], name)


def small_steps(
    flow: Flow, start: Weights, step: float
) -> tuple[float, float, Array, Array, Array, Weights]:
    """Euler's method to the tolerance: the time at the end and at half of the loss; the kernel (n, n) at the start and, at the end, averaged
    over the last steps, in which neurons go to and fro across a kink that they slide along."""
    weights, time, times, losses, kernels = start, 0.0, [0.0], [], []
    first = flow.kernel(start)
    while True:
        velocity, residual = flow.velocity(weights)
        losses.append(float(np.mean(residual**2)))
        kernel = flow.kernel(weights)
        kernels = [*kernels[-199:], kernel]
        if losses[-1] <= TOLERANCE * float(np.mean(Y**2)):
            break
        length = step / max(float(np.linalg.eigvalsh(kernel)[-1]), 2 * flow.growth(weights, residual))
        time += length
        times.append(time)
        weights = tuple(w + length * v for w, v in zip(weights, velocity, strict=True))
    at = next(i for i, loss in enumerate(losses) if loss <= losses[0] / 2)
    share = np.log(2 * losses[at - 1] / losses[0]) / np.log(losses[at - 1] / losses[at])
    half = times[at - 1] + share * (times[at] - times[at - 1])
    return time, half, first, np.mean(kernels, axis=0), residual, weights


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("beyond", [0.0, 0.6])
def test_time_and_kernel_are_those_of_small_steps(shape: tuple[int, int, int], beyond: float) -> None:
    """Time to the accuracy of the flow: of few neurons, each one that gets stuck a bit earlier or later shows in the kernel."""
    job = job_of(shape, beyond)
    start = initial_weights(job.depth, job.neurons, X.shape[1], job.seed)
    flow = layers(X, Y, job.gamma, job.gamma_prime, job.gamma_1, start, job.width / job.neurons)
    time, half, first, last, *_ = small_steps(flow, start, 0.02)
    [row, *_] = train_batch([job], X, Y, TrainSpec(loss_tolerance=TOLERANCE, accuracy=0.001, dtype="float64"))
    assert row["time"] == pytest.approx(time, rel=0.02)
    assert row["time_half"] == pytest.approx(half, rel=0.02)
    assert row["kernel_change"] == pytest.approx(np.linalg.norm(last - first) / np.linalg.norm(first), rel=0.1)
