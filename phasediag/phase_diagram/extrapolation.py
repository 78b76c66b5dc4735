"""The slope at infinite width: log RD against log m with corrections to scaling, and an interval that allows for unknown corrections.

At finite width the relative change is a power law with corrections,

    log RD = c + S log m + g(m) + noise,        g(m) = sum over omega of b_omega (m / m_1)^(-omega),

where m_1 is the smallest width, the b_omega are independent and normal with one standard deviation A, and `exponents` gives the omega: a
Gaussian process. (Finite-size scaling calls g the corrections to scaling.) If the widths span more than three decades, there are slow
corrections too, with a standard deviation of at least `_SLOW`; powers of log m look like slow corrections.

S is free, and so is the intercept c of each *group* of runs. All whole networks are one group, since each width has its own weights.
Represented networks of one seed are a group, since they have the same weights at every width: a difference between two seeds that is the
same at all widths then says nothing about S. The noise of a run is normal with standard deviation s (m / m_1)^(-nu): sums over m neurons
scatter as m^(-1/2), but some limits keep a scatter of their own (nu = 0). Training adds a small error that all runs of a width share.

Given A, s and nu, the restricted likelihood of the runs leaves a normal S with a known variance. A handful of widths does not determine
these three, and an interval for their best values would be too short. So they are averaged over, with a flat prior on a grid of log A,
log s and nu. Resampling of seeds has the same purpose as s, but three resampled seeds understate their scatter by a factor of sqrt(2/3).

No such method sees a crossover that has not begun at the measured widths: a correction with a smaller omega than assumed looks like a
slope.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_WIDTHS = 4
EXPONENTS = np.linspace(0.2, 1.5, 8)
"""omega of the corrections over up to three decades of width. The data cannot distinguish lower ones from a slope there."""
_FEW_DECADES = 3.0 + 1e-6
_LEAST_SHRINKING = 0.15
"""Decades by which the slowest correction shrinks over all widths, where they span more than three."""
_SLOW = 1.0
"""The least standard deviation of corrections of these lower exponents: powers of log m are always there."""
_AMPLITUDES = np.geomspace(0.01, 4.0, 14)
TRAINING_ERROR = 0.003
"""What training may be off by in log RD at every width, in all runs alike: the default accuracy of 1 % is met by a third in most runs."""
_SCATTERS = np.geomspace(1e-3, 30.0, 34)
_DECAYS = np.array([0.0, 0.25, 0.5, 0.75])
_NEGLIGIBLE = 1e-6
"""Weight, relative to the largest, of what does not matter for a quantile."""
_POINTS_AT_A_TIME = 128
_BISECTIONS = 24


def infinite_width_slopes(
    widths: Array, runs: Array, means: Array, squares: Array, confidence: float
) -> tuple[Array, Array, Array]:
    """The slope S of the limit at many points that share their widths and numbers of runs.

    Args:
        widths: (k,) ascending, at least `LEAST_WIDTHS`.
        runs: (g, k) number of runs of each group at each width.
        means: (p, g, k) mean of log RD over the runs of a group of a point at a width; of no matter where there are none.
        squares: (p, k) sum of squared deviations from these means, over all groups.
        confidence: of the interval, 0.95 say.

    Returns:
        median, lower and upper end (p,) of the posterior distribution of S; NaN where no group has two widths.
    """
    if not ((runs > 0).sum(axis=1) > 1).any():
        return (np.full(len(means), np.nan),) * 3
    # groups that have the same runs share what is computed for them, whichever they are
    order = np.lexsort(runs.T)
    runs, means = runs[order], np.where(runs > 0, means, 0.0)[:, order]
    # A straight line is taken out first: what is left is small, and so are the differences of large numbers below.
    ratio = widths / widths[0]
    log_width, rest = _centred(np.log(ratio)[None], runs), _centred(means, runs)
    plain = (runs * log_width * rest).sum(axis=(1, 2)) / (runs * log_width**2).sum()
    rest -= plain[:, None, None] * log_width
    found = [
        _posterior(
            ratio,
            runs,
            rest[start : start + _POINTS_AT_A_TIME],
            squares[start : start + _POINTS_AT_A_TIME],
            confidence,
        )
        for start in range(0, len(means), _POINTS_AT_A_TIME)
    ]
    middle, low, high = (np.concatenate(parts) + plain for parts in zip(*found, strict=True))
    return middle, low, high


def exponents(ratio: Array) -> Array:
    """omega of the corrections to scaling over widths that are these multiples (k,) of the first: `EXPONENTS`.

    Over more than three decades, there are also lower ones, by factors of about 2, of which the lowest
    shrinks by a factor of 1.4 over these widths."""
    decades = float(np.log10(ratio[-1]))
    if decades <= _FEW_DECADES:
        return EXPONENTS
    slowest = min(_LEAST_SHRINKING / decades, EXPONENTS[0] / 2)
    lower = round(float(np.log2(EXPONENTS[0] / slowest)) + 0.49)
    return np.concatenate([np.geomspace(slowest, EXPONENTS[0], lower + 1)[:-1], EXPONENTS])


def _centred(values: Array, runs: Array) -> Array:
    """Values (..., g, k) less their means over the runs (g, k) of each group; 0 where there are none."""
    mean = (runs * values).sum(axis=-1) / runs.sum(axis=-1)
    return np.where(runs > 0, values - mean[..., None], 0.0)


def _posterior(
    ratio: Array, runs: Array, means: Array, squares: Array, confidence: float
) -> tuple[Array, Array, Array]:
    """Median and interval (p,) of S, of few points at a time."""
    log_weight, centre, variance = _fits(ratio, runs, means, squares)
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    matter = (weight > _NEGLIGIBLE).any(axis=0)
    weight = weight[:, matter] / weight[:, matter].sum(axis=1, keepdims=True)
    tail = (1.0 - confidence) / 2.0
    low, middle, high = (
        _quantile(weight, centre[:, matter], np.sqrt(variance[matter]), share)
        for share in (tail, 0.5, 1.0 - tail)
    )
    return middle, low, high


class _Hypotheses(NamedTuple):
    """What the normal equations of S and the b_omega (i of them) are under each of h hypotheses (A, s, nu), at k widths, for each of q
    sets of groups that have the same numbers of runs. The intercepts of the groups are projected out.

    Attributes:
        which: (g,) the set of a group.
        precision: (q, h, k) of the means of a group.
        total: (q, h) its sum over the widths.
        projection: (q, k, h i) from the means of a group to right-hand sides.
        inverse: (h, i, i) of the equations' matrix.
        scatter: (k, h) inverse variance of a run about the mean of its group and width.
        constant: (h,) what the log-likelihood has of the hypothesis alone.
    """

    which: NDArray[np.intp]
    precision: Array
    total: Array
    projection: Array
    inverse: Array
    scatter: Array
    constant: Array


@lru_cache(maxsize=16)  # refinement fits a row after another of the same widths and seeds
def _hypotheses(ratios: tuple[float, ...], counts: tuple[tuple[float, ...], ...]) -> _Hypotheses:
    """The normal equations for k widths, as multiples of the first, and the numbers of runs of each group at each."""
    ratio, runs = np.array(ratios), np.array(counts)
    amplitude, scatter, decay = (
        axis.ravel() for axis in np.meshgrid(_AMPLITUDES, _SCATTERS, _DECAYS, indexing="ij")
    )
    noise = scatter[:, None] ** 2 * ratio ** (-2.0 * decay[:, None])  # of a run (h, k)
    omega = exponents(ratio)
    least = np.where(omega < EXPONENTS[0], _SLOW, 0.0)
    prior = np.maximum(amplitude[:, None], least) ** 2 / len(omega)  # (h, omega)
    design = np.column_stack([np.log(ratio), ratio[:, None] ** -omega])
    # the training error is one for all runs of a width
    inverse_variance = 1.0 / (noise + runs.sum(axis=0) * TRAINING_ERROR**2)
    sets, which = np.unique(runs, axis=0, return_inverse=True)
    precision = sets[:, None] * inverse_variance
    total = precision.sum(axis=2)
    weighted = np.einsum("qhk,ki->qhki", precision, design)
    mean = weighted.sum(axis=2) / total[:, :, None]
    projected = weighted - precision[..., None] * mean[:, :, None]
    normal = np.einsum("q,qhki,kj->hij", np.bincount(which.ravel()), projected, design)
    corrections = np.arange(1, design.shape[1])
    normal[:, corrections, corrections] += 1.0 / prior
    there = (runs > 0).sum(axis=0)
    determinants = (
        np.log(total)[which.ravel()].sum(axis=0)
        - (there * np.log(inverse_variance)).sum(axis=1)
        + np.log(prior).sum(axis=1)
        + np.linalg.slogdet(normal)[1]
    )
    return _Hypotheses(
        which.ravel(),
        precision,
        total,
        projected.transpose(0, 2, 1, 3).reshape(len(sets), len(ratio), -1),
        np.linalg.inv(normal),
        (1.0 / noise).T,
        determinants + ((runs.sum(axis=0) - there) * np.log(noise)).sum(axis=1),
    )


def _fits(ratio: Array, runs: Array, means: Array, squares: Array) -> tuple[Array, Array, Array]:
    """Generalised least squares under every hypothesis.

    Returns:
        restricted log-likelihood (p, h) but for a constant, the estimate of S (p, h) and its variance (h,).
    """
    of = _hypotheses(tuple(ratio.tolist()), tuple(map(tuple, runs.tolist())))
    misfit, projected = squares @ of.scatter, np.zeros((len(means), of.projection.shape[2]))
    for index, precision in enumerate(of.precision):
        these = means[:, of.which == index]
        projected += these.sum(axis=1) @ of.projection[index]
        misfit += np.square(these).sum(axis=1) @ precision.T
        misfit -= np.square(these @ precision.T).sum(axis=1) / of.total[index]
    right = projected.reshape(len(means), len(of.inverse), -1)
    estimate = np.einsum("hij,phj->phi", of.inverse, right)
    misfit -= np.einsum("phi,phi->ph", right, estimate)
    return -0.5 * (misfit + of.constant), estimate[:, :, 0], of.inverse[:, 0, 0]


def _quantile(weight: Array, centre: Array, spread: Array, share: float) -> Array:
    """Quantiles (p,) of mixtures of normal distributions: weights and means (p, h), standard deviations (h,)."""
    from scipy.special import ndtr

    low, high = (centre - 9.0 * spread).min(axis=1), (centre + 9.0 * spread).max(axis=1)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        below = (weight * ndtr((middle[:, None] - centre) / spread)).sum(axis=1) < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2.0)
