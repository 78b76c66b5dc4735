"""Measures on matrices whose answer is known."""

import numpy as np
import pytest

from phasediag.engine import measures


def test_norms_agree_with_numpy() -> None:
    matrix = np.random.default_rng(0).standard_normal((40, 7))
    assert measures.frobenius(matrix) == pytest.approx(np.linalg.norm(matrix))
    assert measures.spectral(matrix) == pytest.approx(np.linalg.norm(matrix, 2))
    assert measures.spectral(matrix.T) == pytest.approx(np.linalg.norm(matrix, 2))


def test_the_largest_singular_value_of_a_large_matrix() -> None:
    generator = np.random.default_rng(3)
    for matrix in (generator.standard_normal((400, 401)), np.outer(np.arange(500.0), np.ones(300))):
        assert measures.spectral(matrix) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-8)


def test_on_a_circle_the_same_orientations_are_alike_as_anywhere() -> None:
    weights = np.random.default_rng(4).standard_normal((300, 2))
    flat = np.column_stack([weights, np.zeros(300)])
    assert measures.orientations(weights, 0) == pytest.approx(measures.orientations(flat, 0), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_the_operator_norm_scales(scale: float) -> None:
    matrix = np.random.default_rng(1).standard_normal((9, 3))
    assert measures.spectral(scale * matrix) == pytest.approx(scale * np.linalg.norm(matrix, 2))


def test_norms_of_nothing_and_of_the_infinite() -> None:
    assert measures.spectral(np.zeros((3, 2))) == 0
    assert np.isnan(measures.spectral(np.full((3, 2), np.inf)))
    assert np.isnan(measures.ratio(1.0, 0.0))


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("width", [60, 3000])
def test_equal_clusters_count_as_many_orientations(count: int, width: int) -> None:
    angles = np.repeat(np.arange(count) * 2 * np.pi / 5, width // count)
    weights = np.column_stack([np.cos(angles), np.sin(angles)])
    assert measures.orientations(weights, 0) == pytest.approx(count, rel=0.05)


def test_orientations_weigh_neurons_by_their_length_and_tell_opposites_apart() -> None:
    weights = np.array([[1e3, 0.0], [0.0, 1e-3], [-1e3, 0.0]])
    assert measures.orientations(weights, 0) == pytest.approx(2, rel=1e-4)


def test_orientations_of_one_draw_do_not_change() -> None:
    weights = np.random.default_rng(2).standard_normal((2000, 2))
    assert measures.orientations(weights, 3) == measures.orientations(weights, 3)
    assert measures.orientations(weights, 3) == pytest.approx(18, rel=0.1)  # 20 degrees of 360 around each


def test_orientations_of_dead_and_of_broken_weights() -> None:
    assert measures.orientations(np.array([[0.0, 0.0], [1.0, 0.0]]), 0) == 1
    assert np.isnan(measures.orientations(np.zeros((3, 2)), 0))
    assert np.isnan(measures.orientations(np.array([[np.nan, 1.0]]), 0))
