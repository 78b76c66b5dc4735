"""The independent references against the definitions, so that agreement with them means something."""

from __future__ import annotations

import numpy as np
import pytest
from reference import (
    Flow,
    small_step_flow,
    small_step_flow_three_layer,
    three_layers,
    two_layers,
)

from phasediag.engine.networks import initial_weights

X = np.array([[-1.0, 0.2], [-0.35, -0.5], [0.3, 0.9], [1.0, -0.1], [0.6, 0.6]])
Y = np.array([0.6, -0.4, 0.5, -0.2, 0.1])
WIDTH = 12
KAPPA, KAPPA_PRIME, KAPPA_1 = WIDTH**-0.9, WIDTH**-0.3, WIDTH**0.2
RATES = {2: (KAPPA_PRIME, 1 / KAPPA_PRIME), 3: (KAPPA_PRIME**2, KAPPA_1**2, 1.0)}


def network(depth: int) -> Flow:
    if depth == 2:
        return two_layers(X, Y, 0.9, 0.3, WIDTH)
    return three_layers(X, Y, 0.9, 0.3, -0.2, WIDTH)


def residual(*weights: np.ndarray) -> np.ndarray:
    """f - y, layer by layer; the last layer of weights is the output's."""
    layer = X
    for number, matrix in enumerate(weights[:-1]):
        layer = np.maximum(np.column_stack([layer, np.ones(len(X))]) @ matrix.T, 0)
        assert layer.shape == (len(X), WIDTH), number
    return KAPPA * layer @ weights[-1] - Y


def loss(*weights: np.ndarray) -> float:
    return float(np.mean(residual(*weights) ** 2) / 2)


@pytest.mark.parametrize("depth", [2, 3])
def test_velocities_are_gradients_times_rates(depth: int) -> None:
    weights = initial_weights(depth, WIDTH, 2, 0)
    velocities, error = network(depth).velocity(weights)
    np.testing.assert_allclose(error, residual(*weights), rtol=1e-12)
    for layer, (rate, velocity) in enumerate(zip(RATES[depth], velocities, strict=True)):
        for index in np.ndindex(velocity.shape):
            losses = []
            for shift in (1e-6, -1e-6):
                moved = [part.copy() for part in weights]
                moved[layer][index] += shift
                losses.append(loss(*moved))
            slope = (losses[0] - losses[1]) / 2e-6
            assert velocity[index] == pytest.approx(-rate * slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("depth", [2, 3])
def test_the_kernel_drives_the_residual(depth: int) -> None:
    weights = initial_weights(depth, WIDTH, 2, 0)
    velocities, error = network(depth).velocity(weights)
    time = 1e-6
    later = residual(*(part + time * v for part, v in zip(weights, velocities, strict=True)))
    np.testing.assert_allclose((later - error) / time, -network(depth).kernel(weights) @ error, rtol=1e-4)


def test_longer_steps_with_stages_agree_with_plain_ones() -> None:
    two, three = initial_weights(2, 200, 2, 0), initial_weights(3, 60, 2, 0)
    plain = small_step_flow(X, Y, 0.8, 0.1, *two, loss_tolerance=1e-4)
    long = small_step_flow(X, Y, 0.8, 0.1, *two, step=0.01, loss_tolerance=1e-4, reach=2500)
    np.testing.assert_allclose(long.changes, plain.changes, rtol=2e-3)
    assert 3 * long.evaluations < plain.evaluations
    plain = small_step_flow_three_layer(X, Y, 1.4, 0.1, 0.0, *three, loss_tolerance=1e-4)
    long = small_step_flow_three_layer(
        X, Y, 1.4, 0.1, 0.0, *three, step=0.01, loss_tolerance=1e-4, reach=2500
    )
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
