"""What is measured on a trained network: relative change, norms, number of orientations. float64 sums."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

BLOCK = 2**22
"""Numbers that are squared at a time: of large matrices, there is no room for another one."""
MAX_NEURONS = 512
"""Neurons that the orientations are counted of."""
SAME_ORIENTATION = np.radians(10.0)
SMALL = 256
"""Up to so many rows or columns, all eigenvalues are found faster than the largest one."""


class Measured(NamedTuple):
    """What is measured on a layer: the Frobenius and the operator norm of the change of its weights, the Frobenius norm of its weights
    after training, and their effective number of orientations. NaN for output weights, where it means nothing. Frobenius norms are those of
    the network that simulated neurons stand for."""

    change: float
    spectral: float
    final: float
    orientations: float


def frobenius(matrix: Array) -> float:
    """Frobenius norm, summed in float64; a vector's is its length."""
    rows = max(1, BLOCK // max(matrix[:1].size, 1))
    blocks = (matrix[start : start + rows] for start in range(0, len(matrix), rows))
    return float(np.sqrt(sum(float(np.sum(np.square(block, dtype=np.float64))) for block in blocks)))


def spectral(matrix: Array) -> float:
    """Operator norm of a matrix (m, d); NaN if it is not finite.

    Of small matrices from all eigenvalues of the smaller Gram matrix, of others by Lanczos' method (ARPACK) from a fixed start.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    scale = float(np.abs(tall).max(initial=0.0))
    if not np.isfinite(scale):
        return float("nan")
    if scale == 0.0:
        return 0.0
    # relative to the largest number: tiny changes would underflow when squared
    columns = tall.shape[1]
    if columns > SMALL:
        from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

        scaled = tall / tall.dtype.type(scale)

        def squared(v: Array) -> Array:
            product: Array = scaled.T @ (scaled @ v.astype(scaled.dtype))
            return product

        operator = LinearOperator((columns, columns), matvec=squared, dtype=np.float64)
        start = np.random.default_rng(columns).standard_normal(columns)
        try:
            # its error is the square of the tolerance, about
            largest = eigsh(operator, k=1, which="LA", v0=start, tol=1e-6, return_eigenvectors=False)[0]
            return scale * float(np.sqrt(max(largest, 0.0)))
        except ArpackNoConvergence:
            pass
    tall = np.divide(tall, scale, dtype=np.float64)
    return scale * float(np.sqrt(max(np.linalg.eigvalsh(tall.T @ tall)[-1], 0.0)))


def ratio(numerator: float, denominator: float) -> float:
    """The quotient of two numbers, NaN where the denominator is not positive."""
    return numerator / denominator if denominator > 0 else float("nan")


def orientations(weights: Array, seed: int) -> float:
    """Effective number of orientations of input weights (m, d + 1).

    ``1 / sum_jk p_j p_k 1[angle(w_j, w_k) <= 10 degrees]`` with ``p_j = |w_j| / sum |w|``: 1 when all neurons point the same
    way, large when their directions are spread out. More than 512 neurons are represented by 512, drawn with probabilities
    ``p_j`` by a generator seeded with ``seed`` and the width: the number is then at most 512, and means something where it is
    well below. NaN if there is no neuron with a finite, nonzero weight.
    """
    lengths = np.sqrt(np.einsum("kj,kj->k", weights, weights, dtype=np.float64))
    drawn = drawn_neurons(lengths, seed)
    if drawn is None:
        return float("nan")
    alive, share = drawn
    directions = weights[alive] / lengths[alive, None]
    if directions.shape[1] == 2:
        return float(1 / _alike_on_a_circle(np.arctan2(directions[:, 1], directions[:, 0]), share))
    close = directions @ directions.T >= np.cos(SAME_ORIENTATION)
    np.fill_diagonal(close, True)  # rounding must not part a neuron from itself
    return float(1 / (share @ close @ share))


def drawn_neurons(lengths: NDArray[np.float64], seed: int) -> tuple[NDArray[np.int64], Array] | None:
    """The neurons that stand for all, by the lengths (m,) of their weights, and the share that each has; None where there is none."""
    if not np.isfinite(lengths).all() or not lengths.sum() > 0:
        return None
    alive = np.flatnonzero(lengths)
    share = lengths[alive] / lengths.sum()
    if len(lengths) > MAX_NEURONS:
        generator = np.random.default_rng([seed, len(lengths)])
        alive = alive[generator.choice(len(share), size=MAX_NEURONS, p=share)]
        share = np.full(MAX_NEURONS, 1 / MAX_NEURONS)
    return alive, share


def _alike_on_a_circle(angles: Array, share: Array) -> float:
    """``sum_jk p_j p_k 1[|angle_j - angle_k| <= 10 degrees]``, from the sorted angles."""
    order = np.argsort(angles)
    angles, share = angles[order], share[order]
    around = np.concatenate([angles - 2 * np.pi, angles, angles + 2 * np.pi])
    before = np.concatenate([[0.0], np.cumsum(np.tile(share, 3))])
    first = np.searchsorted(around, angles - SAME_ORIENTATION, side="left")
    last = np.searchsorted(around, angles + SAME_ORIENTATION, side="right")
    return float(share @ (before[last] - before[first]))
