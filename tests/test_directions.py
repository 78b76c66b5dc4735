"""Predicted directions: fixed points of the dynamics they come from, known answers, and the dynamics itself."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from phasediag.condensation.directions import (
    MOST_COORDINATES,
    Leading,
    flow_directions,
    potential,
    sign_directions,
)

Array = NDArray[np.float64]


def problem(inputs: int, points: int, seed: int) -> tuple[Array, Array]:
    """Inputs with the constant last, and a residual."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(-4, 2, (points, inputs))
    return np.column_stack([x, np.ones(points)]), -np.sum(3.5 * np.sin(5 * x + 1), axis=1)


def angle(u: Array, v: Array) -> float:
    """Degrees between two lines."""
    return math.degrees(math.acos(min(abs(float(u @ v)) / np.linalg.norm(u) / np.linalg.norm(v), 1.0)))


def follow_gradient(inputs: Array, residual: Array, leading: Leading, w: Array, a: float) -> Array:
    """Where a neuron goes: dw/dt = -a grad Phi(w), da/dt = -Phi(w), in many steps that are small against both w and (w, a)."""
    for _ in range(3000):
        phi, gradient = potential(inputs, residual, leading, w[None])
        to_w, to_a = -a * gradient[0], -float(phi[0])
        length, size = float(np.linalg.norm(w)), math.hypot(float(np.linalg.norm(w)), a)
        step = min(
            0.02 * length / max(float(np.linalg.norm(to_w)), 1e-300), 0.2 * size / max(abs(to_a), 1e-300)
        )
        w, a = (w + step * to_w) / size, (a + step * to_a) / size
    return w


def follow_sign(inputs: Array, residual: Array, leading: Leading, w: Array, a: float) -> Array:
    """The same along the sign of the gradient, in steps that do not shrink while the weights grow."""
    for _ in range(20000):
        phi, gradient = potential(inputs, residual, leading, w[None])
        w, a = w - 1e-3 * np.sign(a * gradient[0]), a - 1e-3 * np.sign(phi[0])
    return w


@pytest.mark.parametrize("power", [1, 2, 3, 4])
@pytest.mark.parametrize("inputs", [1, 2, 5, 10])
def test_flow_directions_are_radial(inputs: int, power: int) -> None:
    """At each of them, the gradient of Phi points along w: the direction stays."""
    for seed in range(5):
        x, e = problem(inputs, 80, seed)
        found = flow_directions(x, e, Leading(power))
        assert len(found) and np.allclose(np.linalg.norm(found, axis=1), 1.0)
        _, gradient = potential(x, e, Leading(power), found)
        for direction, g in zip(found, gradient, strict=True):
            assert angle(direction, g) < 0.5


def test_one_line_for_multiplicity_one() -> None:
    x, e = problem(5, 80, 0)
    [line] = flow_directions(x, e, Leading(1))
    assert angle(line, np.sum(e[:, None] * x, axis=0)) == pytest.approx(0, abs=1e-5)


def test_two_lines_for_multiplicity_two_are_the_extreme_eigenvectors() -> None:
    x, e = problem(5, 80, 0)
    matrix = sum(e_i * np.outer(x_i, x_i) for e_i, x_i in zip(e, x, strict=True))
    smallest, largest = flow_directions(x, e, Leading(2))
    values = np.linalg.eigvalsh(matrix)
    np.testing.assert_allclose(matrix @ smallest, values[0] * smallest, atol=1e-9 * abs(values).max())
    np.testing.assert_allclose(matrix @ largest, values[-1] * largest, atol=1e-9 * abs(values).max())


@pytest.mark.parametrize("power", [1, 2, 3, 4, 5])
def test_roots_of_one_input_solve_the_equation_of_the_paper(power: int) -> None:
    looked_at = 0
    for seed in range(10):
        inputs, e = problem(1, 40, seed)
        x = inputs[:, 0]
        found = flow_directions(inputs, e, Leading(power))
        assert 1 - power % 2 <= len(found) <= power  # an odd polynomial has a root
        for first, second in found:
            root = first / second
            left = np.sum((root * x + 1) ** (power - 1) * e * x)
            right = root * np.sum((root * x + 1) ** (power - 1) * e)
            scale = np.sum(np.abs((root * x + 1) ** (power - 1) * e) * (np.abs(x) + abs(root)))
            assert abs(left - right) < 1e-7 * scale
        looked_at += len(found)
    assert looked_at >= 10


def test_a_root_at_infinity_is_a_direction_without_bias() -> None:
    inputs = np.array([[-1.0, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(np.abs(flow_directions(inputs, np.array([-1.0, 1.0]), Leading(1))), [[1, 0]])
    found = flow_directions(inputs, np.array([-1.0, 1.0]), Leading(2))
    assert len(found) == 2


@pytest.mark.parametrize("lines", [3, 4, 6])
@pytest.mark.parametrize("power", [3, 4])
def test_cubic_and_quartic_potentials_have_as_many_lines_as_there_are_orthogonal_points(
    lines: int, power: int
) -> None:
    """Phi = sum_k e_k (v_k . u)^p with orthonormal v_k has its maxima at the v_k: no bound of p lines."""
    basis, _ = np.linalg.qr(np.random.default_rng(lines).standard_normal((lines, lines)))
    found = flow_directions(basis, 1.0 + 0.3 * np.arange(lines) / lines, Leading(power))
    assert len(found) == lines
    np.testing.assert_allclose(np.sort(np.abs(found @ basis.T), axis=1)[:, -1], 1.0, atol=1e-6)


def test_maxima_are_found_within_the_span_of_few_points() -> None:
    generator = np.random.default_rng(3)
    points = generator.standard_normal((4, 300))
    found = flow_directions(points, np.array([1.0, -0.8, 0.7, 0.9]), Leading(3))
    basis, _ = np.linalg.qr(points.T)
    np.testing.assert_allclose(np.linalg.norm(found @ basis, axis=1), 1.0)
    assert len(found) == 4  # points in so many dimensions are nearly orthogonal


@pytest.mark.parametrize("power", [2, 3])
def test_neurons_follow_the_flow_to_predicted_directions(power: int) -> None:
    x, e = problem(2, 80, 4)
    leading, found = Leading(power), flow_directions(x, e, Leading(power))
    generator = np.random.default_rng(0)
    for _ in range(10):
        end = follow_gradient(x, e, leading, generator.standard_normal(3), generator.standard_normal())
        assert min(angle(end, u) for u in found) < 5


@pytest.mark.parametrize("power", [1, 2, 3])
def test_neurons_follow_signs_to_predicted_directions(power: int) -> None:
    x, e = problem(3, 80, 1)
    leading, found = Leading(power), sign_directions(x, e, Leading(power))
    generator = np.random.default_rng(0)
    for _ in range(5):
        w, a = 0.1 * generator.standard_normal(4), 0.1 * generator.standard_normal()
        end = follow_sign(x, e, leading, w, a)
        assert min(angle(end, u) for u in found) < 5


def test_signs_of_multiplicity_one() -> None:
    x, e = problem(5, 80, 0)
    [line] = sign_directions(x, e, Leading(1))
    assert angle(line, np.sign(e @ x)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("power", [2, 3])
def test_vertices_that_signs_map_to_themselves_are_predicted(power: int) -> None:
    """Corners s of the cube with s = sign(grad Phi(s)) are strict maxima over it, so that none may be missed."""
    looked_at = 0
    for seed in range(5):
        x, e = problem(4, 80, seed)
        corners = np.array(list(itertools.product([1.0, -1.0], repeat=5)))
        phi, gradient = potential(x, e, Leading(power), corners)
        fixed = corners[(np.sign(gradient) == np.sign(phi)[:, None] * corners).all(axis=1)]
        found = sign_directions(x, e, Leading(power))
        for corner in fixed:
            assert min(angle(corner, u) for u in found) < 3
        looked_at += len(fixed)
    assert looked_at >= 5


def test_more_lines_than_two_for_signs_of_multiplicity_two() -> None:
    """Why Adam's lines can outnumber p: maxima of a quadratic form over the cube are not those on the sphere."""
    counts = [len(sign_directions(*problem(5, 80, seed), Leading(2))) for seed in range(20)]
    assert np.mean(np.array(counts) > 2) > 0.8


def test_relu_has_directions_that_are_no_lines() -> None:
    """Data on one side: neurons that see them turn to sum_i e_i x_i or its opposite; those that do not see them do not move."""
    generator = np.random.default_rng(0)
    x = np.column_stack([generator.uniform(1, 2, (30, 2)), np.ones(30)])
    e = generator.uniform(0.5, 1.0, 30)
    found = flow_directions(x, e, Leading(0, 1.0, 0.0))
    expected = e @ x / np.linalg.norm(e @ x)
    assert len(found) == 1
    assert float(found[0] @ expected) > math.cos(math.radians(1))


def test_nothing_is_predicted_without_a_residual() -> None:
    x, e = problem(3, 20, 0)
    assert flow_directions(x, 0 * e, Leading(2)).shape == (0, 4)
    assert sign_directions(x, 0 * e, Leading(2)).shape == (0, 4)


@pytest.mark.parametrize("power", [2, 3])
def test_inputs_and_residuals_of_one_sign_have_one_line_of_signs(power: int) -> None:
    """Images: whatever w is, the gradient has one sign in every pixel, and pixels that are never lit do not count."""
    generator = np.random.default_rng(0)
    x = np.column_stack([generator.uniform(0, 1, (100, 60)), np.zeros((100, 20)), np.ones(100)])
    x[:, 10:20] *= generator.random((100, 10)) < 0.2
    found = sign_directions(x, -generator.uniform(1, 9, 100), Leading(power))
    expected = np.sign(x.sum(axis=0))
    assert len(found) == 1
    assert angle(found[0], expected) == pytest.approx(0, abs=1e-5)


def test_settled_signs_are_fixed_points_in_many_dimensions() -> None:
    x, e = problem(MOST_COORDINATES + 10, 80, 0)
    found = sign_directions(x, e, Leading(2))
    corners = np.sign(found)
    phi, gradient = potential(x, e, Leading(2), corners)
    assert (np.sign(gradient) == np.sign(phi)[:, None] * corners).all()
    assert len(sign_directions(x, e, Leading(1))) == 1


def test_an_eigenvalue_of_zero_predicts_nothing() -> None:
    """Two points in three dimensions, residuals of one sign: of four eigenvalues two are positive and two are zero."""
    x, e = problem(3, 2, 0)
    [line] = flow_directions(x, np.abs(e), Leading(2))
    matrix = (x.T * np.abs(e)) @ x
    np.testing.assert_allclose(matrix @ line, np.linalg.eigvalsh(matrix)[-1] * line, atol=1e-9)
    assert len(flow_directions(x, np.array([1.0, -1.0]), Leading(2))) == 2


@example(inputs=1, points=3, power=3, seed=192, scale=1e-12)  # two roots that nearly meet
@settings(max_examples=25, deadline=None)
@given(
    inputs=st.integers(1, 6),
    points=st.integers(2, 40),
    power=st.integers(0, 4),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-12, 1.0, 1e6]),
)
def test_predictions_do_not_depend_on_the_scale_of_the_residual(
    inputs: int, points: int, power: int, seed: int, scale: float
) -> None:
    x, e = problem(inputs, points, seed)
    leading = Leading(power)
    noise = np.random.default_rng(seed).standard_normal((5, points))
    for predict in (flow_directions, sign_directions):
        first, second = predict(x, e, leading), predict(x, scale * e, leading)
        # Two roots that nearly meet are two or none by rounding, whatever the scale.
        assume(all(len(predict(x, e * (1 + 1e-9 * near), leading)) == len(first) for near in noise))
        assert first.shape == second.shape
        np.testing.assert_allclose(np.abs(np.sum(first * second, axis=1)), 1.0, atol=1e-3)
