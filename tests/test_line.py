"""The compiled passes over two-layer networks against their definition, against tensors, and against small steps."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from phasediag.engine import lanes
from phasediag.engine.flow import Settings, integrate
from phasediag.engine.line import LineTwoLayer
from phasediag.engine.networks import Outcome, Trial, initial_weights
from phasediag.engine.two_layer import TwoLayer
from phasediag.engine.two_layer_cpu import TwoLayerCPU

X = np.array([[-1.0], [-0.35], [0.3], [0.8], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2, 0.1])
INPUTS = np.hstack([X, np.ones((5, 1))])
JOBS = [(0.5, 0.0, 0), (1.0, 0.3, 1), (1.6, -0.2, 0)]
WIDTH = 300  # more than a block, and no multiple of anything


Compiled = LineTwoLayer | TwoLayerCPU


@pytest.fixture(params=[LineTwoLayer, TwoLayerCPU])
def kind(request: pytest.FixtureRequest) -> type[Compiled]:
    kind: type[Compiled] = request.param
    return kind


@pytest.fixture
def network(kind: type[Compiled]) -> Compiled:
    return kind.from_exponents(X, Y, WIDTH, JOBS, "float64")


def step(network: Compiled, impulse: np.ndarray, tolerance: float = 1e-3) -> Trial:
    """A steady step of all networks under ``impulse`` (n,) or (B, n)."""
    pieces = np.broadcast_to(impulse, (len(network.rates), 5))[:, None] / network.pieces
    pieces = np.repeat(pieces, network.pieces, axis=1)
    first = np.zeros(len(pieces), dtype=np.int64)
    return network.trial(first, np.ones(len(pieces)), pieces, np.zeros_like(pieces), tolerance)


def weights(network: Compiled, job: int) -> tuple[np.ndarray, np.ndarray]:
    initial, change = network.initial(job), network.change(job)
    return initial["W1"] + change["W1"], initial["a"] + change["a"]


def by_hand(job: int, w: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Residual (n,), and the kernels of W1 and a (n, n)."""
    kappa, rate = float(WIDTH) ** -JOBS[job][0], float(WIDTH) ** -JOBS[job][1]
    z = INPUTS @ w.T
    backward, features = (z > 0) * a, np.maximum(z, 0)
    first = backward @ backward.T * (INPUTS @ INPUTS.T)
    return kappa * features @ a - Y, kappa**2 * rate / 5 * first, kappa**2 / rate / 5 * features @ features.T


def small_steps(job: int, impulse: np.ndarray, steps: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Weights after explicit small steps under a steady impulse."""
    kappa, rate = float(WIDTH) ** -JOBS[job][0], float(WIDTH) ** -JOBS[job][1]
    w, a = initial_weights(2, WIDTH, 1, JOBS[job][2])
    e = kappa * impulse / 5 / steps
    for _ in range(steps):
        z = w @ INPUTS.T
        change_w, change_a = (
            -rate * a[:, None] * (((z > 0) * e) @ INPUTS),
            -np.maximum(z, 0) @ e / rate,
        )
        w, a = w + change_w, a + change_a
    return w, a


def test_the_start_is_that_of_the_definition(network: Compiled) -> None:
    residual, kernels = network.begin()
    for job, (_, _, seed) in enumerate(JOBS):
        w, a = initial_weights(2, WIDTH, 1, seed)
        expected, first, last = by_hand(job, w, a)
        np.testing.assert_allclose(residual[job], expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(kernels[job, 0], first, rtol=1e-12)
        np.testing.assert_allclose(kernels[job, 1], last, rtol=1e-12)
        np.testing.assert_array_equal(network.initial(job)["W1"], w)
        assert not network.change(job)["W1"].any()


def test_it_starts_where_tensors_start(kind: type[Compiled]) -> None:
    line = kind.from_exponents(X, Y, WIDTH, JOBS, "float32").begin()
    tensors = TwoLayer.from_exponents(X, Y, WIDTH, JOBS, torch.float32, "cpu").begin()
    np.testing.assert_allclose(line.residual, tensors.residual, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(line.kernels, tensors.kernels, rtol=1e-5)


@pytest.mark.parametrize("size", [0.01, 1.0])
def test_a_step_ends_where_small_steps_end(network: Compiled, size: float) -> None:
    """With neurons that pass kinks and others that come to rest on them, in one step of several hundredths and of several times |w|."""
    network.begin()
    factors = size * np.array([10.0, 300.0, 3000.0])
    impulse = np.array([0.3, -0.2, 0.5, 0.1, -0.7])
    trial = step(network, factors[:, None] * impulse)
    assert (trial.rotation < lanes.MAX_ROTATION).all()
    network.accept(np.ones(3, dtype=bool))
    for job, factor in enumerate(factors):
        w, a = weights(network, job)
        expected_w, expected_a = small_steps(job, factor * impulse)
        start_w, start_a = initial_weights(2, WIDTH, 1, JOBS[job][2])
        far_w, far_a = np.linalg.norm(expected_w - start_w), np.linalg.norm(expected_a - start_a)
        assert np.linalg.norm(w - expected_w) < (1e-4 if size < 1 else 0.01) * far_w
        assert np.linalg.norm(a - expected_a) < (1e-4 if size < 1 else 0.01) * far_a
        assert trial.travelled[job] == pytest.approx([far_w, far_a], rel=0.01)
        residual, _, last = by_hand(job, w, a)
        np.testing.assert_allclose(trial.residual[job], residual, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(trial.kernels[job, 1], last, rtol=1e-9)


def test_the_kernel_is_the_jacobian_of_the_residual_in_the_impulse(network: Compiled) -> None:
    """Also after a step that left neurons on kinks, along which alone they can still move."""
    network.begin()
    push = np.array([30.0, -20.0, 50.0, 10.0, -70.0])
    for _ in range(3):
        trial = step(network, push)
        network.accept(np.ones(3, dtype=bool))
    held = network._gates if isinstance(network, LineTwoLayer) else network._state.gate
    assert ((held > 0) & (held < 1)).any()
    small = 1e-5 * push
    moved = step(network, small)
    predicted = -(trial.kernels.sum(axis=1) @ small)
    np.testing.assert_allclose(
        moved.residual - trial.residual, predicted, rtol=0.02, atol=1e-3 * np.abs(predicted).max()
    )


def test_every_step_conserves_the_balance_of_each_neuron(network: Compiled) -> None:
    """The flow conserves kappa' a_k^2 - |w_k|^2 / kappa' for each neuron."""
    network.begin()
    step(network, np.array([30.0, -20.0, 50.0, 10.0, -70.0]))
    network.accept(np.ones(3, dtype=bool))
    for job, (_, gamma_prime, seed) in enumerate(JOBS):
        rate = float(WIDTH) ** -gamma_prime
        w, a = weights(network, job)
        start_w, start_a = initial_weights(2, WIDTH, 1, seed)
        before = rate * start_a**2 - (start_w**2).sum(axis=1) / rate
        np.testing.assert_allclose(rate * a**2 - (w**2).sum(axis=1) / rate, before, rtol=1e-9, atol=1e-9)


def test_steps_that_are_not_accepted_leave_no_trace(network: Compiled) -> None:
    network.begin()
    impulse = np.array([3.0, -2.0, 5.0, 1.0, -7.0])
    first = step(network, impulse)
    step(network, -20 * impulse)
    again = step(network, impulse)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_selected_networks_go_on_where_they_are(network: Compiled) -> None:
    network.begin()
    impulse = np.array([3.0, -2.0, 5.0, 1.0, -7.0])
    step(network, impulse)
    network.accept(np.array([True, False, True]))
    everyone = step(network, impulse)
    some = network.select(np.array([2, 1]))
    some.rates = network.rates[[2, 1]]
    for one, other in zip(step(some, impulse), everyone, strict=True):
        np.testing.assert_array_equal(one, other[[2, 1]])
    for key, change in network.change(2).items():
        np.testing.assert_array_equal(some.change(0)[key], change)


def test_steps_beyond_all_sense_are_called_so(network: Compiled) -> None:
    network.begin()
    trial = step(network, 1e6 * np.array([3.0, -2.0, 5.0, 1.0, -7.0]))
    assert (trial.rotation > lanes.MAX_ROTATION).any()


def few_or_many(width: int) -> tuple[list[tuple[float, float, int]], Settings]:
    """Networks that converge: one or two neurons reach no small loss, and with few seeds any at all. (Stopped early: errors grow.)"""
    loss, seeds = {1: (0.85, (1, 5, 11)), 2: (0.85, (0, 6, 7))}.get(width, (0.3, (0, 1, 2)))
    jobs = [(0.5, 0.0, seeds[0]), (1.0, 0.0, seeds[1]), (1.5, 0.2, seeds[2])]
    return jobs, Settings(max_evaluations=500, accuracy=0.002, loss_tolerance=loss)


@cache
def of_tensors(width: int, dtype: str) -> Outcome:
    jobs, settings = few_or_many(width)
    return integrate(TwoLayer.from_exponents(X, Y, width, jobs, getattr(torch, dtype), "cpu"), settings)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 2, 63, 64, 65, 257])
def test_padding_does_nothing(kind: type[Compiled], width: int, dtype: str) -> None:
    """Whatever the width, the flow is that of the tensors, which pad otherwise."""
    jobs, settings = few_or_many(width)
    line, tensors = (
        integrate(kind.from_exponents(X, Y, width, jobs, dtype), settings),
        of_tensors(width, dtype),
    )
    assert line.status == tensors.status == ["converged"] * 3
    for ours, theirs in zip(line.changes, tensors.changes, strict=True):
        for key in ("W1", "a"):
            assert np.linalg.norm(ours[key]) == pytest.approx(np.linalg.norm(theirs[key]), rel=0.02)


@pytest.mark.parametrize("gamma_prime", [-20.0, 20.0])
def test_exponents_beyond_the_arithmetic_diverge(kind: type[Compiled], gamma_prime: float) -> None:
    """300^20 is more than float32 holds: whatever comes out, it is no network that has come to rest."""
    result = integrate(kind.from_exponents(X, Y, WIDTH, [(1.0, gamma_prime, 0)], "float32"), Settings())
    assert result.status == ["diverged"]


def test_sinh_and_cosh() -> None:
    block, _ = lanes.rows(np.zeros(1), np.float64)
    angles = np.concatenate([[0.0, 1e-30], np.geomspace(1e-8, 20, 30)])
    force, angle = lanes._FORCE_W, slice(lanes._ANGLE, lanes._ANGLE + 32)
    block[force : force + 32] = angles
    lanes._angles(block, 32, 1.0, 6)
    np.testing.assert_allclose(block[angle], angles, rtol=1e-15)
    np.testing.assert_allclose(block[lanes._SINH : lanes._SINH + 32], np.sinh(angles), rtol=1e-12)
    np.testing.assert_allclose(
        block[lanes._COSH : lanes._COSH + 32], 2 * np.sinh(angles / 2) ** 2, rtol=1e-12, atol=1e-300
    )
