"""Neurons that move in the span of their data: the exact move, and the pieces of a step."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm

from phasediag.engine import neurons
from phasediag.engine.pieces import PIECES, TREE, resolve

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("size", [1e-3, 0.3, 2.0])
def test_the_turn_and_the_rotation_are_exact_in_their_plane(size: float) -> None:
    """Half a turn by the commutator, the boost by the average force, half a turn: each as the exponential or Cayley's map of its matrix."""
    inputs, rate, scale = RNG.standard_normal((3, 4)), 0.3, size
    v, u, w, a = RNG.standard_normal(3), 0.1 * RNG.standard_normal(3), RNG.standard_normal(4), 0.7
    v /= np.linalg.norm(v @ inputs)
    force, late, gram = v @ inputs, u @ inputs, inputs @ inputs.T
    s = neurons.room(3, 32, np.float64)[0]
    rows = {
        neurons._GG: v @ gram @ v,
        neurons._GL: u @ gram @ v,
        neurons._LL: u @ gram @ u,
        neurons._WG: w @ force,
        neurons._WL: w @ late,
        neurons._START_A: a,
    }
    for row, value in rows.items():
        s[row] = value
    neurons._angles(s, 1, scale, 10)
    neurons._rotate(s, 1, scale, rate)
    moved = w + s[neurons._ALPHA] * force + s[neurons._BETA] * late

    turn = scale**2 * (np.outer(late, force) - np.outer(force, late)) / 2
    half = np.linalg.solve(np.eye(4) - turn / 2, np.eye(4) + turn / 2)
    boost = np.zeros((5, 5))
    boost[:4, 4], boost[4, :4] = -rate * scale * force, -scale / rate * force
    boosted = expm(boost) @ np.append(half @ w, a)
    np.testing.assert_allclose(moved, half @ boosted[:4], rtol=1e-9, atol=1e-9 * np.abs(boosted).max())
    np.testing.assert_allclose(
        a + s[neurons._NEXT_A], boosted[4], rtol=1e-9, atol=1e-9 * np.abs(boosted).max()
    )


def test_pieces_of_a_step_add_up() -> None:
    impulses, lags = RNG.standard_normal((PIECES, 3)), RNG.standard_normal((PIECES, 3))
    pulls, lates, shares = np.empty((TREE, 3)), np.empty((TREE, 3)), np.empty((TREE, 2))
    size = resolve(impulses, lags, 0.5, np.empty((2, TREE, 3)), pulls, lates, shares)
    np.testing.assert_allclose(size * pulls[PIECES - 1 :], 0.5 * impulses)
    np.testing.assert_allclose(size * pulls[0], 0.5 * impulses.sum(axis=0))
    # first moments about the middle, in units of the piece: those of the parts, and those of where the parts are
    places = (np.arange(PIECES) + 0.5) / PIECES - 0.5
    expected = 0.5 * (lags.sum(axis=0) / PIECES + places @ impulses)
    np.testing.assert_allclose(size * lates[0], expected)
    assert np.abs(pulls).max() == 1


def test_shares_of_a_step_are_those_of_its_impulse() -> None:
    pulls, lates, shares = np.empty((TREE, 2)), np.empty((TREE, 2)), np.empty((TREE, 2))
    fading = np.exp(-np.arange(PIECES) / 3)[:, None] * np.array([1.0, -2.0])
    resolve(fading, np.zeros_like(fading), 1.0, np.empty((2, TREE, 2)), pulls, lates, shares)
    leaves = shares[PIECES - 1 :]
    assert leaves[0, 0] == 0 and leaves[-1, 1] == pytest.approx(1)
    np.testing.assert_allclose(leaves[1:, 0], leaves[:-1, 1])
    np.testing.assert_allclose(np.diff(leaves).ravel(), fading[:, 0] / fading[:, 0].sum())


def test_products_by_way_of_the_inputs_are_those_with_their_gram_matrix() -> None:
    inputs = RNG.standard_normal((9, 2))
    rows = neurons.room(9, 32, np.float64)[1]
    rows[:, :64] = RNG.standard_normal((9, 64))
    neurons._multiply_gram(rows, neurons.BLOCK, 0, inputs @ inputs.T, neurons.factors(inputs, np.float64), 64)
    np.testing.assert_allclose(rows[:, neurons.BLOCK : neurons.BLOCK + 64], inputs @ inputs.T @ rows[:, :64])
    assert len(neurons.factors(inputs, np.float64)[1]) == 2
    assert len(neurons.factors(RNG.standard_normal((9, 5)), np.float64)[1]) == 0


def test_sinh_and_cosh() -> None:
    block = neurons.room(1, 32, np.float64)[0]
    angles = np.concatenate([[0.0, 1e-30], np.geomspace(1e-8, 20, 30)])

    def row(place: int) -> slice:
        return slice(place, place + 32)

    block[row(neurons._GG)] = angles**2
    neurons._angles(block, 32, 1.0, 6)
    np.testing.assert_allclose(block[row(neurons._ANGLE)], angles, rtol=1e-15)
    np.testing.assert_allclose(block[row(neurons._SINH)], np.sinh(angles), rtol=1e-12)
    np.testing.assert_allclose(
        block[row(neurons._COSH)], 2 * np.sinh(angles / 2) ** 2, rtol=1e-12, atol=1e-300
    )
