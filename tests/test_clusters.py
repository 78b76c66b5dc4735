"""Counting lines: planted ones are found, whatever the dimension, the scale, the order and the signs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from phasediag.condensation.clusters import ACTIVE, Directions, alignment, centre_line

Array = NDArray[np.float64]


def separate_lines(lines: int, inputs: int, generator: np.random.Generator) -> Array:
    """Directions of lines at least 36 degrees apart (in two dimensions, as evenly as they can be)."""
    if inputs == 2:
        angles = np.pi * (np.arange(lines) / lines + generator.random())
        return np.column_stack([np.cos(angles), np.sin(angles)])
    while True:
        centres = generator.standard_normal((lines, inputs))
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        cosines = np.abs(centres @ centres.T)
        if np.max(cosines - np.eye(lines)) < math.cos(math.radians(45)):
            return centres


def planted(
    lines: int, inputs: int, noise: float, outliers: int, seed: int, neurons: int = 50
) -> tuple[Array, Array]:
    """Input weights on so many lines, off them by about `noise` degrees, with further neurons in random directions; and the lines."""
    generator = np.random.default_rng(seed)
    centres = separate_lines(lines, inputs, generator)
    on = np.concatenate([np.arange(lines), generator.integers(lines, size=neurons - lines)])
    on = np.sort(np.concatenate([np.arange(lines).repeat(5), on[5 * lines :]]))
    weights = centres[on] * generator.choice([-1.0, 1.0], (len(on), 1))
    off = generator.standard_normal(weights.shape) / math.sqrt(max(inputs - 1, 1))
    weights = weights + math.tan(math.radians(noise)) * off
    weights *= generator.uniform(0.3, 1.0, (len(on), 1))
    return np.concatenate([weights, 0.5 * generator.standard_normal((outliers, inputs))]), centres


@pytest.mark.parametrize("inputs", [2, 3, 6, 11, 50])
@pytest.mark.parametrize("lines", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("noise", [0.0, 2.0, 4.0])
def test_planted_lines_are_counted(lines: int, inputs: int, noise: float) -> None:
    for seed in range(5):
        weights, centres = planted(lines, inputs, noise, 0, seed)
        found = Directions.of(weights)
        assert found.count_lines() == lines
        assert found.aligned_fraction() >= (0.9 if noise else 1.0)
        assert np.abs(centres @ found.centres().T).max(axis=1).min() > math.cos(math.radians(5))


@pytest.mark.parametrize("inputs", [6, 11, 50])
@pytest.mark.parametrize("lines", [1, 3, 5])
def test_neurons_off_all_lines_make_no_line(lines: int, inputs: int) -> None:
    for seed in range(5):
        weights, _ = planted(lines, inputs, 3.0, 8, seed)
        found = Directions.of(weights)
        assert found.count_lines() == lines
        assert found.aligned_fraction() == pytest.approx(50 / 58, abs=0.07)


@pytest.mark.parametrize("inputs", [6, 11, 50])
def test_random_directions_are_no_lines(inputs: int) -> None:
    generator = np.random.default_rng(inputs)
    for _ in range(5):
        found = Directions.of(generator.standard_normal((50, inputs)))
        assert found.count_lines() <= 1
        assert found.aligned_fraction() <= 0.06


def test_opposite_neurons_are_one_line_and_two_orientations() -> None:
    line = np.array([[0.6, 0.8]])
    found = Directions.of(np.concatenate([line.repeat(7, axis=0), -line.repeat(5, axis=0)]))
    assert (found.count_lines(), found.count_orientations()) == (1, 2)
    assert found.aligned_fraction() == 1.0


def test_small_neurons_are_not_active() -> None:
    weights = np.eye(3)[[0, 0, 1]] * np.array([[1.0], [ACTIVE * 1.01], [ACTIVE * 0.99]])
    found = Directions.of(weights)
    assert found.neurons.tolist() == [0, 1]
    assert found.count_lines() == 1


def test_a_lone_neuron_is_a_line_only_where_few_are_active() -> None:
    few, many = np.eye(12)[:4], np.eye(12)
    assert Directions.of(few).count_lines() == 4
    assert Directions.of(many).count_lines() == 0
    assert Directions.of(many).aligned_fraction() == 0.0


def test_nothing_active_is_no_line_and_no_error() -> None:
    found = Directions.of(np.zeros((5, 3)))
    assert (len(found.units), found.count_lines(), found.count_orientations()) == (0, 0, 0)
    assert math.isnan(found.aligned_fraction())
    assert len(found.in_order()) == 0 and found.centres().shape == (0, 3)


def test_one_neuron_is_one_line() -> None:
    found = Directions.of(np.array([[3.0, -4.0]]))
    assert (found.count_lines(), found.count_orientations(), found.aligned_fraction()) == (1, 1, 1.0)


def test_weights_that_are_not_finite_have_no_directions() -> None:
    with pytest.raises(ValueError, match="not finite"):
        Directions.of(np.array([[1.0, np.nan]]))


def test_a_broad_band_is_no_line() -> None:
    angles = np.radians(np.linspace(0, 55, 40))
    found = Directions.of(np.column_stack([np.cos(angles), np.sin(angles)]))
    assert found.count_lines(threshold=90.0) == 0


def test_the_threshold_is_the_mean_angle_between_lines() -> None:
    angles = np.radians(np.repeat([0.0, 25.0], 10))
    found = Directions.of(np.column_stack([np.cos(angles), np.sin(angles)]))
    assert [found.count_lines(threshold) for threshold in (20.0, 24.9, 25.1)] == [2, 2, 0]


@settings(max_examples=50, deadline=None)
@given(
    lines=st.integers(1, 4),
    inputs=st.sampled_from([2, 3, 8]),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-300, 1e-20, 1.0, 1e20]),
)
def test_counts_do_not_depend_on_scale_signs_order_or_axes(
    lines: int, inputs: int, seed: int, scale: float
) -> None:
    weights, _ = planted(lines, inputs, 3.0, 4, seed)
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.standard_normal((inputs, inputs)))
    signs = generator.choice([-1.0, 1.0], (len(weights), 1))
    other = (scale * signs * weights)[generator.permutation(len(weights))] @ rotation
    first, second = Directions.of(weights), Directions.of(other)
    assert first.count_lines() == second.count_lines()
    assert first.aligned_fraction() == pytest.approx(second.aligned_fraction())


def test_order_puts_lines_and_orientations_next_to_each_other() -> None:
    weights, _ = planted(3, 6, 1.0, 4, seed=1)
    found = Directions.of(weights)
    order = found.in_order()
    assert sorted(order.tolist()) == list(range(len(found.units)))
    of_line = {int(member): k for k, members in enumerate(found.groups()) for member in members}
    labels = [of_line.get(int(index), 3) for index in order]
    assert labels == sorted(labels)
    for k, members in enumerate(found.groups()):
        block = [int(index) for index in order if of_line.get(int(index), 3) == k]
        along = found.units[block] @ centre_line(found.units[members])
        assert np.count_nonzero(np.diff(np.sign(along))) <= 1


@pytest.mark.parametrize(("lines", "expected"), [(True, (1.0, 1.0)), (False, (0.5 * (1.0 + 0.0), 0.5))])
def test_alignment_of_lines_and_of_orientations(lines: bool, expected: tuple[float, float]) -> None:
    units = np.array([[1.0, 0.0], [-1.0, 0.0]])
    predicted = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert alignment(units, predicted, lines) == expected


def test_alignment_with_nothing_is_unknown() -> None:
    nothing: Any = np.empty((0, 2))
    assert all(math.isnan(value) for value in alignment(nothing, np.eye(2), True))
    assert all(math.isnan(value) for value in alignment(np.eye(2), nothing, True))
