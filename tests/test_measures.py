"""Measures on matrices whose answer is known."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize("size", [(40, 41), (200, 201), (400, 401), (900, 70)])
@pytest.mark.parametrize("grown", [0.0, 1e-3, 0.1, 1.0, 10.0])
def test_the_operator_norm_is_found_from_what_it_was_before(size: tuple[int, int], grown: float) -> None:
    """Whether nothing has changed, or a coherent part has grown out of a random matrix: below its norm, next to it, far beyond."""
    generator = np.random.default_rng(5)
    start = generator.standard_normal(size)
    norm, near = measures.stretched(start)
    assert norm == pytest.approx(np.linalg.norm(start, 2), rel=1e-8)
    np.testing.assert_allclose(
        np.linalg.norm((start if size[0] > size[1] else start.T) @ near),
        norm * np.linalg.norm(near),
        rtol=1e-6,
    )
    coherent = np.outer(*(np.sign(generator.standard_normal(number)) for number in size)) / np.sqrt(size[1])
    for dtype in (np.float32, np.float64):
        final = (start + grown * coherent).astype(dtype)
        found = measures.spectral_near(final, near)
        assert found == pytest.approx(np.linalg.norm(final.astype(np.float64), 2), rel=3e-4)


def test_the_operator_norm_of_what_has_gone_astray_is_nan() -> None:
    start = np.random.default_rng(6).standard_normal((60, 61))
    near = measures.stretched(start)[1]
    assert np.isnan(measures.spectral_near(np.full((60, 61), np.inf), near))
    assert measures.spectral_near(np.zeros((60, 61)), near) == 0
    assert np.isnan(measures.stable_rank(0.0, 0.0)) and np.isnan(measures.stable_rank(np.nan, 1.0))


def test_the_stable_rank_of_equal_directions_is_their_number() -> None:
    basis = np.linalg.qr(np.random.default_rng(7).standard_normal((30, 5)))[0]
    rank = measures.stable_rank(measures.frobenius(basis), measures.spectral(basis))
    assert rank == pytest.approx(5)


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


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("width", [60, 3000])
def test_directions_that_are_close_are_one_cluster(count: int, width: int) -> None:
    spread = np.radians(np.random.default_rng(0).uniform(-4, 4, width))
    angles = np.resize(np.arange(count) * 2 * np.pi / 5, width) + spread
    lengths = np.random.default_rng(1).uniform(0.5, 2.0, width)
    weights = lengths[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    assert measures.clusters(weights, 0) == count


def test_short_neurons_make_no_cluster_and_opposite_ones_make_two() -> None:
    scattered = 1e-3 * np.random.default_rng(0).standard_normal((200, 2))
    assert measures.clusters(np.vstack([[[5.0, 0.0], [-5.0, 0.0]], scattered]), 0) == 2


def test_directions_that_are_spread_out_have_many_clusters() -> None:
    generator = np.random.default_rng(2)
    around = measures.clusters(generator.standard_normal((500, 2)), 0)
    assert 13 <= around <= 18  # cones of 20 degrees on nine tenths of a circle, and gaps between them
    assert measures.clusters(generator.standard_normal((200, 100)), 0) > 150


def test_clusters_of_dead_and_of_broken_weights() -> None:
    assert measures.clusters(np.array([[0.0, 0.0], [1.0, 0.0]]), 0) == 1
    assert measures.clusters(np.zeros((3, 2)), 0) == 0
    assert measures.clusters(np.array([[np.nan, 1.0]]), 0) == 0


def greedily(weights: np.ndarray) -> int:
    """The clusters by their definition, one neuron after the other."""
    neurons = [one for one in weights if np.any(one)]
    rest, whole, found = neurons, sum(map(np.linalg.norm, neurons)), 0

    def near(one: np.ndarray) -> list[int]:
        angles = [np.degrees(np.arctan2(*_across_and_along(one, other))) for other in rest]
        return [place for place, angle in enumerate(angles) if angle <= 10]

    while sum(map(np.linalg.norm, rest)) > 0.1 * whole + 1e-9 * whole:
        members = max(map(near, rest), key=lambda places: sum(np.linalg.norm(rest[at]) for at in places))
        rest = [one for place, one in enumerate(rest) if place not in members]
        found += 1
    return found


def _across_and_along(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    along = float(one @ other) / float(np.linalg.norm(one))
    return float(np.linalg.norm(other - along * one / np.linalg.norm(one))), along


MATRICES = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(MATRICES, st.integers(1, 40), st.integers(2, 4))
def test_clusters_are_those_of_the_definition(
    generator: np.random.Generator, neurons: int, inputs: int
) -> None:
    weights = generator.standard_normal((neurons, inputs)) * generator.lognormal(0, 2, (neurons, 1))
    assert measures.clusters(weights, 0) == greedily(weights)


SMALL = st.integers(-3, 3).map(float)


@given(
    st.lists(st.tuples(SMALL, SMALL), min_size=1, max_size=30),
    st.randoms(),
    st.integers(-40, 40),
    st.integers(),
)
def test_clusters_depend_neither_on_the_order_nor_on_the_scale(
    rows: list[tuple[float, float]], random: Any, power: int, seed: int
) -> None:
    """Not even where neurons are equal or directions are at the same distances: rows of small integers often are."""
    weights = np.array(rows)
    shuffled = np.array(random.sample(rows, len(rows)))
    assert measures.clusters(2.0**power * shuffled, abs(seed)) == measures.clusters(weights, 0)
