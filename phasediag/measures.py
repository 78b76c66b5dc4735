"""What is measured on a trained network: relative change, norms, number of orientations. NumPy only, float64 sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

MAX_NEURONS = 512
SAME_ORIENTATION = np.cos(np.radians(10.0))


def frobenius(matrix: Array) -> float:
    """Frobenius norm, summed in float64; a vector's is its length."""
    return float(np.sqrt(np.sum(np.square(matrix, dtype=np.float64))))


def spectral(matrix: Array) -> float:
    """Operator norm of a matrix (m, d), from the smaller of its two Gram matrices; NaN if it is not finite."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    scale = float(np.abs(tall).max(initial=0.0))
    if not np.isfinite(scale):
        return float("nan")
    if scale == 0.0:
        return 0.0
    tall = tall.astype(np.float64) / scale  # tiny changes would underflow when squared
    return scale * float(np.sqrt(max(np.linalg.eigvalsh(tall.T @ tall)[-1], 0.0)))


def ratio(numerator: float, denominator: float) -> float:
    """Their quotient, NaN where there is nothing to divide by."""
    return numerator / denominator if denominator > 0 else float("nan")


def orientations(weights: Array, seed: int) -> float:
    """Effective number of orientations of input weights (m, d + 1).

    ``1 / sum_jk p_j p_k 1[angle(w_j, w_k) <= 10 degrees]`` with ``p_j = |w_j| / sum |w|``: 1 when all neurons point the same
    way, large when their directions are spread out. More than 512 neurons are represented by 512, drawn with probabilities
    ``p_j`` by a generator seeded with ``seed`` and the width: the number is then at most 512, and means something where it is
    well below. NaN if there is no neuron with a finite, nonzero weight.
    """
    lengths = np.sqrt(np.sum(np.square(weights, dtype=np.float64), axis=1))
    if not np.isfinite(lengths).all() or not lengths.sum() > 0:
        return float("nan")
    alive = lengths > 0
    directions, share = weights[alive] / lengths[alive, None], lengths[alive] / lengths.sum()
    drawn = len(weights) > MAX_NEURONS
    if drawn:
        generator = np.random.default_rng([seed, len(weights)])
        directions = directions[generator.choice(len(share), size=MAX_NEURONS, p=share)]
    close = directions @ directions.T >= SAME_ORIENTATION
    np.fill_diagonal(close, True)  # rounding must not part a neuron from itself
    if drawn:  # all with the same share
        return float(MAX_NEURONS**2 / np.count_nonzero(close))
    return float(1 / (share @ close @ share))
