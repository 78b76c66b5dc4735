"""The predicted time of onset, against formulas and small steps of its own equations, and against when networks do begin to learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from phasediag.engine.networks import Initialisation, initial_weights
from phasediag.engine.onset import SHARE, onset
from phasediag.engine.relu_cpu import ReluNetworkCPU
from phasediag.engine.relu_gpu import ReluNetworkGPU
from phasediag.phase_diagram import training
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec

X = np.array([[-1.0], [-0.35], [0.3], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2])


def network(
    x: np.ndarray, y: np.ndarray, depth: int, width: int, neurons: int, exponents: tuple[float, float]
) -> ReluNetworkCPU:
    job = Initialisation(width, *exponents, 0.0, 3)
    return ReluNetworkCPU.initialised(x, y, depth, neurons, [job], "float64")


@pytest.mark.parametrize("exponents", [(0.7, 0.2), (1.5, 0.0), (1.5, 0.4), (2.0, -0.3)])
@pytest.mark.parametrize("width", [40, 10**7])
def test_of_a_single_point_there_is_a_formula(width: int, exponents: tuple[float, float]) -> None:
    """Output weights and preactivations of all neurons follow cosh and sinh, until a preactivation is zero: there it stays."""
    neurons, y, inputs = 40, 0.7, np.array([0.5, 1.0])
    mass, kappa, ratio = width / neurons, width ** -exponents[0], width ** -exponents[1]
    w, a = initial_weights(2, neurons, 1, 3)
    size = np.linalg.norm(inputs)
    z, a = (w @ inputs)[w @ inputs > 0] / size, a[w @ inputs > 0]
    whole = kappa * np.sqrt(mass) * size * (z @ a) - y
    rate = kappa * ratio * size * -whole

    def loss(time: float) -> float:
        """Relative to that of the start, ``whole`` being the residual there."""
        c, s = np.cosh(rate * time), np.sinh(rate * time)
        later = np.maximum(z * c + ratio * a * s, 0) * (a * c + z * s / ratio)
        return float((whole + kappa * mass * size * np.sum(later - z * a)) ** 2 / whole**2)

    end = 1e-6 / abs(rate)
    while loss(end) > 1 - SHARE:
        end *= 1.1
    expected = brentq(lambda time: loss(time) - (1 - SHARE), 0, end)
    found = onset(network(inputs[:1, None], np.array([y]), 2, width, neurons, exponents), 0.01)
    assert found == pytest.approx(expected, rel=1e-3)


def frozen(job: Job) -> float:
    """The same by small steps of the equations of single neurons."""
    mass, kappa = job.width / job.neurons, job.width**-job.gamma
    inputs = np.column_stack([X, np.ones(len(X))])
    w_start, a_start = initial_weights(2, job.neurons, 1, job.seed)
    w, a = w_start.copy(), a_start.copy()

    def output() -> np.ndarray:
        first = np.maximum(inputs @ w_start.T, 0) @ a_start
        return kappa * (np.sqrt(mass) * first + mass * (np.maximum(inputs @ w.T, 0) @ a - first))

    start = output() - Y
    slow = job.width ** (-2 * job.gamma_prime)
    step = 2e-3 / (kappa * np.sqrt(slow) * np.abs(start).mean())
    time = 0.0
    while np.mean((output() - Y) ** 2) > (1 - SHARE) * np.mean(start**2):
        for _ in range(2):
            gates = inputs @ w.T > 0
            pull = -kappa / len(X) * (gates * start[:, None]).T @ inputs
            a, w = (
                a + step * np.einsum("kd,kd->k", pull, w),
                w + slow * step * a[:, None] * pull,
            )
            time += step
    return float(time)


JOBS = [
    Job("", 2, width, 200, *point, 0.0, 1)
    for width, *point in [
        (200, 1.0, 0.0),
        (200, 1.75, 0.0),
        (10**10, 1.75, 0.0),
        (10**10, 2.0, 0.5),
        (10**6, 1.5, -0.3),
    ]
]


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_it_is_that_of_small_steps_under_the_residual_of_the_start(job: Job) -> None:
    starts = [Initialisation(job.width, job.gamma, job.gamma_prime, 0.0, job.seed)]
    found = onset(ReluNetworkCPU.initialised(X, Y, 2, job.neurons, starts, "float64"), 0.01)
    assert found == pytest.approx(frozen(job), rel=0.01)


@pytest.mark.parametrize(
    ("depth", "point"),
    [(2, (1.75, 0.0)), (2, (2.2, 0.3)), (2, (1.75, -0.3)), (3, (2.4, 0.0)), (4, (3.0, 0.1))],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_networks_begin_to_learn_when_it_is_predicted(
    depth: int, point: tuple[float, float], seed: int
) -> None:
    """In the condensed regime. The prediction is early by a share that fades like 1 / log m: the residual does not wait."""
    for width in (1000, 10**6, 10**12):
        job = Job("", depth, width, 200, *point, 0.0, seed)
        row = training.train_sample(job, X, Y, TrainSpec())[0]
        after = next(at for at, loss in enumerate(row["loss"]) if loss <= (1 - SHARE) * row["loss"][0])
        before, end = row["time"][after - 1], row["time"][after]
        assert 0.88 * before < row["onset"] < 1.02 * end
    assert row["onset"] > 0.96 * before


def test_what_never_moves_has_no_onset() -> None:
    assert np.isnan(onset(network(X, np.zeros(4), 2, 50, 50, (200.0, 0.0)), 0.01))


@pytest.mark.parametrize("depth", [2, 3])
def test_a_gpu_finds_the_same(depth: int) -> None:
    job = Initialisation(50, depth - 0.3, 0.1, 0.0, 0)
    cpu = ReluNetworkCPU.initialised(X, Y, depth, 50, [job], "float64")
    gpu = ReluNetworkGPU.initialised(X, Y, depth, 50, [job], "float64", "cpu")
    assert onset(gpu, 0.01) == pytest.approx(onset(cpu, 0.01), rel=0.01)
