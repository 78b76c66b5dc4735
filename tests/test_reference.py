"""The independent references against the definitions, so that agreement with them means something."""

from __future__ import annotations

import numpy as np
import pytest
from reference import Flow, layers, small_step_flow, small_step_flow_deep, two_layers

from phasediag.engine.networks import initial_weights

X = np.array([[-1.0, 0.2], [-0.35, -0.5], [0.3, 0.9], [1.0, -0.1], [0.6, 0.6]])
Y = np.array([0.6, -0.4, 0.5, -0.2, 0.1])
NEURONS = 12
CASES = [
    ("two layers", 2, 1.0),
    ("deep", 2, 1.0),
    ("deep", 3, 1.0),
    ("deep", 5, 1.0),
    ("deep", 2, 30.0),
    ("deep", 4, 30.0),
]
"""Which function, depth, and how many neurons each stands for."""


def width(mass: float) -> float:
    return mass * NEURONS


def network(which: str, depth: int, mass: float) -> Flow:
    if which == "two layers":
        return two_layers(X, Y, 0.9, 0.3, NEURONS)
    return layers(X, Y, 0.9, 0.3, -0.2, initial_weights(depth, NEURONS, 2, 0), mass)


def rates(which: str, depth: int, mass: float) -> list[float]:
    if which == "two layers":
        return [NEURONS**-0.3, NEURONS**0.3]
    return [width(mass) ** -0.6, *[width(mass) ** 0.4] * (depth - 2), 1.0]


def output(mass: float, *weights: np.ndarray) -> np.ndarray:
    """The sum over the neurons of the last hidden layer, layer by layer; the last layer of weights is the output's."""
    layer, root = X, 1.0
    for matrix in weights[:-1]:
        layer = np.maximum(np.column_stack([root * layer, np.ones(len(X))]) @ matrix.T, 0)
        root = mass**0.5
    return layer @ weights[-1]


def residual(mass: float, *weights: np.ndarray) -> np.ndarray:
    """f - y."""
    before = output(mass, *initial_weights(len(weights), NEURONS, 2, 0))
    moved = output(mass, *weights) - before
    return width(mass) ** -0.9 * (mass**0.5 * before + mass * moved) - Y


def loss(mass: float, *weights: np.ndarray) -> float:
    return float(np.mean(residual(mass, *weights) ** 2) / 2)


@pytest.mark.parametrize(("which", "depth", "mass"), CASES)
def test_velocities_are_gradients_times_rates(which: str, depth: int, mass: float) -> None:
    """Per neuron: the gradient in what is simulated is that of all neurons that it stands for."""
    weights = initial_weights(depth, NEURONS, 2, 0)
    generator = np.random.default_rng(1)
    weights = tuple(part + 0.1 * generator.standard_normal(part.shape) for part in weights)
    velocities, error = network(which, depth, mass).velocity(weights)
    np.testing.assert_allclose(error, residual(mass, *weights), rtol=1e-10)
    for layer, (rate, velocity) in enumerate(zip(rates(which, depth, mass), velocities, strict=True)):
        for index in list(np.ndindex(velocity.shape))[::3]:
            losses = []
            for shift in (1e-6, -1e-6):
                moved = [part.copy() for part in weights]
                moved[layer][index] += shift
                losses.append(loss(mass, *moved))
            slope = (losses[0] - losses[1]) / 2e-6
            scale = np.abs(velocity).max()
            assert velocity[index] == pytest.approx(-rate * slope / mass, rel=1e-4, abs=1e-6 * scale)


@pytest.mark.parametrize(("which", "depth", "mass"), CASES)
def test_the_kernel_drives_the_residual(which: str, depth: int, mass: float) -> None:
    weights = initial_weights(depth, NEURONS, 2, 0)
    flow = network(which, depth, mass)
    velocities, error = flow.velocity(weights)
    time = 1e-6 / np.linalg.eigvalsh(flow.kernel(weights))[-1]
    later = residual(mass, *(part + time * v for part, v in zip(weights, velocities, strict=True)))
    expected = -flow.kernel(weights) @ error
    np.testing.assert_allclose(
        (later - error) / time, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
    )


def test_longer_steps_with_stages_agree_with_plain_ones() -> None:
    two, three = initial_weights(2, 200, 2, 0), initial_weights(3, 60, 2, 0)
    plain = small_step_flow(X, Y, 0.8, 0.1, *two, loss_tolerance=1e-4)
    long = small_step_flow(X, Y, 0.8, 0.1, *two, step=0.01, loss_tolerance=1e-4, reach=2500)
    np.testing.assert_allclose(long.changes, plain.changes, rtol=2e-3)
    assert 3 * long.evaluations < plain.evaluations
    plain = small_step_flow_deep(X, Y, 1.4, 0.1, 0.0, three, loss_tolerance=1e-4)
    long = small_step_flow_deep(X, Y, 1.4, 0.1, 0.0, three, step=0.01, loss_tolerance=1e-4, reach=2500)
    np.testing.assert_allclose(long.changes, plain.changes, rtol=2e-3)
    assert 3 * long.evaluations < plain.evaluations


@pytest.mark.parametrize("tolerance", [0.3, 1e-2])
def test_flows_end_exactly_at_the_loss(tolerance: float) -> None:
    weights = initial_weights(2, 100, 2, 0)
    end = small_step_flow(X, Y, 0.6, 0.0, *weights, loss_tolerance=tolerance, further=(0.5,))
    assert end.loss == pytest.approx(tolerance, rel=2e-4)
    beyond = small_step_flow(X, Y, 0.6, 0.0, *weights, loss_tolerance=tolerance / 2)
    np.testing.assert_allclose(end.further[0], beyond.changes, rtol=1e-4)
    assert beyond.w > end.w


def test_the_number_of_steps_is_bounded() -> None:
    end = small_step_flow(X, Y, 0.6, 0.0, *initial_weights(2, 100, 2, 0), max_steps=7)
    assert end.steps == 7
    assert end.loss > 1e-6
