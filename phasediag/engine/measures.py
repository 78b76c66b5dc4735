"""What is measured on a trained network: relative change, norms, ranks, number of orientations. float64 sums."""

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
COVERED = 0.9
"""Share of the length of all weights that clusters have to hold together."""
SMALL, FEW = 256, 48
"""Up to so many rows or columns, all eigenvalues are found faster than the largest one: from nowhere, and from where it was before."""
STEPS, SETTLED = 60, 1e-5
"""Most steps from there, and the relative change of the eigenvalue that ends them."""


class Measured(NamedTuple):
    """What is measured on a layer: the Frobenius and the operator norm of the change of its weights, both of its weights after training,
    and their effective number of orientations. NaN for output weights, where it means nothing. Frobenius norms are those of the network
    that simulated neurons stand for, operator norms those over the root of what one stands for."""

    change: float
    spectral: float
    final: float
    final_spectral: float
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
    return _stretched(matrix, False)[0]


def stretched(matrix: Array) -> tuple[float, Array]:
    """Operator norm of a matrix, and the unit vector of its smaller side that it stretches most; empty where there is none."""
    norm, vector = _stretched(matrix, True)
    return norm, vector


def _stretched(matrix: Array, vectors: bool) -> tuple[float, Array]:
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    scale, nothing = float(np.abs(tall).max(initial=0.0)), np.empty(0)
    if not np.isfinite(scale):
        return float("nan"), nothing
    if scale == 0.0:
        return 0.0, nothing
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
            found = eigsh(operator, k=1, which="LA", v0=start, tol=1e-6, return_eigenvectors=vectors)
            values, columns_of = found if vectors else (found, nothing[None])
            return scale * float(np.sqrt(max(values[0], 0.0))), columns_of[:, 0] if vectors else nothing
        except ArpackNoConvergence:
            pass
    tall = np.divide(tall, scale, dtype=np.float64)
    gram = tall.T @ tall
    values, vector = np.linalg.eigvalsh(gram), nothing
    if vectors:
        vector = np.linalg.eigh(gram)[1][:, -1]
    return scale * float(np.sqrt(max(values[-1], 0.0))), vector


def spectral_near(matrix: Array, near: Array) -> float:
    """Operator norm of a matrix that was ``near`` the one it stretched most (see `stretched`) before training: to about 1e-4.

    By Lanczos' method from there (Golub and Van Loan, section 10.1). It takes few steps where training has changed little, and where what
    it has added is far larger than all else.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    if tall.shape[1] <= FEW or len(near) != tall.shape[1]:
        return spectral(matrix)
    basis = np.zeros((STEPS + 1, len(near)))
    tridiagonal = np.zeros((STEPS + 1, STEPS + 1))
    basis[0], largest = near, 0.0
    for step in range(STEPS):
        known = basis[: step + 1]
        with np.errstate(over="ignore", invalid="ignore"):
            product = (tall @ basis[step].astype(tall.dtype)) @ tall
        if not np.isfinite(product).all():
            return float("nan")
        along = known @ product
        product = product - along @ known
        product -= (known @ product) @ known  # once leaves what rounding has brought back
        tridiagonal[step, step], length = along[-1], float(np.linalg.norm(product))
        before, largest = largest, float(np.linalg.eigvalsh(tridiagonal[: step + 1, : step + 1])[-1])
        if not length > SETTLED * largest or (step > 2 and largest - before <= SETTLED * largest):
            break
        tridiagonal[step + 1, step] = tridiagonal[step, step + 1] = length
        basis[step + 1] = product / length
    return float(np.sqrt(largest))


def stable_rank(frobenius: float, spectral: float) -> float:
    """``|A|_F^2 / |A|^2`` from both norms of a matrix (Rudelson and Vershynin, J. ACM 54, 2007); NaN where it is zero."""
    return ratio(frobenius, spectral) ** 2


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
    directions, share = _directions(weights, seed)
    if not len(share):
        return float("nan")
    if directions.shape[1] == 2:
        return float(1 / _alike_on_a_circle(np.arctan2(directions[:, 1], directions[:, 0]), share))
    close = directions @ directions.T >= np.cos(SAME_ORIENTATION)
    np.fill_diagonal(close, True)  # rounding must not part a neuron from itself
    return float(1 / (share @ close @ share))


def clusters(weights: Array, seed: int) -> int:
    """Number of clusters of directions of input weights (m, d + 1).

    A cluster is what points within 10 degrees of its leader. Leaders are chosen one after the other: of the neurons in no cluster yet, the
    one that has most of the remaining length ``|w|`` of all within 10 degrees. The number is that of the clusters which hold 9/10 of the
    length, so that many short neurons that have hardly moved do not count. Directions that are spread out have many clusters, as they have
    many `orientations`. More than 512 neurons are represented as there. 0 if no neuron has a finite, nonzero weight.

    Counting directions whose cosine is above a threshold is how Zhou et al. (NeurIPS 2022, arXiv 2105.11686) read condensation from
    cosines of input weights; taking the largest first is maximum coverage by the greedy rule (Nemhauser et al., 1978).
    """
    units, share = _directions(weights, seed)
    # in an order of their own: what rounding decides between equals does not depend on the order of the neurons
    order = np.lexsort((share, np.einsum("qk,k->q", units, np.cos(np.arange(units.shape[1])))))
    units, rest = units[order], share[order]
    close = (units @ units.T >= np.cos(SAME_ORIENTATION)).astype(np.float64)
    np.fill_diagonal(close, 1.0)
    around, found = close @ rest, 0
    while rest.sum() > (1 - COVERED + 1e-9) * share.sum():
        members = np.flatnonzero(close[np.argmax(np.where(rest > 0, around, -1.0))] * rest)
        around -= close[:, members] @ rest[members]
        rest[members] = 0.0
        found += 1
    return found


def _directions(weights: Array, seed: int) -> tuple[Array, Array]:
    """Directions (q, d + 1) of the neurons that stand for all, and the share that each has; none where no weight means anything."""
    lengths = np.sqrt(np.einsum("kj,kj->k", weights, weights, dtype=np.float64))
    alive, share = drawn_neurons(lengths, seed) or (np.empty(0, np.int64), np.empty(0))
    return weights[alive] / lengths[alive, None], share


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
