"""The slope at infinite width: log RD against log m with corrections to scaling, and an interval that admits what they may be.

At finite width the relative change is a power law with corrections,

    log RD = c + S log m + g(m) + noise,        g(m) = sum over omega of b_omega (m / m_1)^(-omega),

where m_1 is the smallest width, the b_omega are independent and normal with one standard deviation A, and the exponents
omega are spread evenly over `EXPONENTS`: a Gaussian process (finite-size scaling calls g the corrections to scaling). c and S
are free. The noise of a run is normal with standard deviation s (m / m_1)^(-nu): the sums over m neurons that make up a run
scatter as m^(-1/2), but some limits keep a scatter of their own (nu = 0). Training adds a small error that seeds share.

Given A, s and nu, the restricted likelihood of the means over seeds leaves a normal S with a known variance; the scatter of
the seeds about their means adds what it says of s and nu. The three are not fixed at a best value but averaged over, with a
flat prior on a grid of log A, log s and nu: a handful of widths does not determine them, and an interval that pretends it did
is too short. Resampling seeds has the same purpose as s; but three seeds resampled understate their scatter by sqrt(2/3).

What no such method can see is a crossover that has not begun at the widths measured: a correction with an omega below those
assumed looks like a slope.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_WIDTHS = 4
EXPONENTS = np.linspace(0.2, 1.5, 8)
"""omega of the corrections. Below 0.2 they cannot be told from a slope over the two or three decades of width that one trains."""
_AMPLITUDES = np.geomspace(0.01, 4.0, 14)
TRAINING_ERROR = 0.003
"""What training may be off by in log RD at every width, whatever the seed: the default accuracy of 1 % is met by a third in most runs."""
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
        runs: (k,) number of runs at each width, all above 0.
        means: (p, k) mean of log RD over the runs of a point at a width.
        squares: (p, k) sum of squared deviations from these means.
        confidence: of the interval, 0.95 say.

    Returns:
        median, lower and upper end (p,) of the posterior distribution of S.
    """
    ratio = widths / widths[0]
    # A straight line is taken out first: what is left is small, and so are the differences of large numbers below.
    line = np.stack([np.ones(len(ratio)), np.log(ratio)], axis=1)
    plain = means @ np.linalg.pinv(line).T
    rest = means - plain @ line.T
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
    middle, low, high = (np.concatenate(parts) + plain[:, 1] for parts in zip(*found, strict=True))
    return middle, low, high


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
    """What the normal equations of c, S and the b_omega (i of them) are under each of h hypotheses (A, s, nu), at k widths.

    Attributes:
        precision: (h, k) of a mean.
        projection: (k, h i) from means to right-hand sides.
        inverse: (h, i, i) of the equations' matrix.
        scatter: (k, h) inverse variance of a run.
        constant: (h,) what the log-likelihood has of the hypothesis alone.
    """

    precision: Array
    projection: Array
    inverse: Array
    scatter: Array
    constant: Array


@lru_cache(maxsize=16)  # refinement fits a row after another of the same widths and seeds
def _hypotheses(ratios: tuple[float, ...], counts: tuple[float, ...]) -> _Hypotheses:
    """The normal equations for k widths, as multiples of the first, and the numbers of runs at each."""
    ratio, runs = np.array(ratios), np.array(counts)
    amplitude, scatter, decay = (
        axis.ravel() for axis in np.meshgrid(_AMPLITUDES, _SCATTERS, _DECAYS, indexing="ij")
    )
    noise = scatter[:, None] ** 2 * ratio ** (-2.0 * decay[:, None])  # of a run (h, k)
    prior = amplitude**2 / len(EXPONENTS)
    design = np.column_stack([np.ones(len(ratio)), np.log(ratio), ratio[:, None] ** -EXPONENTS])
    variance = noise / runs + TRAINING_ERROR**2  # of a mean
    precision = 1.0 / variance
    normal = np.einsum("hk,ki,kj->hij", precision, design, design)
    corrections = np.arange(2, design.shape[1])
    normal[:, corrections, corrections] += 1.0 / prior[:, None]
    determinants = (
        np.log(variance).sum(axis=1) + len(EXPONENTS) * np.log(prior) + np.linalg.slogdet(normal)[1]
    )
    return _Hypotheses(
        precision,
        np.einsum("hk,ki->khi", precision, design).reshape(len(ratio), -1),
        np.linalg.inv(normal),
        (1.0 / noise).T,
        determinants + ((runs - 1.0) * np.log(noise)).sum(axis=1),
    )


def _fits(ratio: Array, runs: Array, means: Array, squares: Array) -> tuple[Array, Array, Array]:
    """Generalised least squares under every hypothesis.

    Returns:
        restricted log-likelihood (p, h) but for a constant, the estimate of S (p, h) and its variance (h,).
    """
    of = _hypotheses(tuple(ratio.tolist()), tuple(runs.tolist()))
    projected = (means @ of.projection).reshape(len(means), len(of.inverse), -1)
    estimate = np.einsum("hij,phj->phi", of.inverse, projected)
    misfit = np.square(means) @ of.precision.T - np.einsum("phi,phi->ph", projected, estimate)
    return -0.5 * (misfit + of.constant + squares @ of.scatter), estimate[:, :, 1], of.inverse[:, 1, 1]


def _quantile(weight: Array, centre: Array, spread: Array, share: float) -> Array:
    """Quantiles (p,) of mixtures of normal distributions: weights and means (p, h), standard deviations (h,)."""
    from scipy.special import ndtr

    low, high = (centre - 9.0 * spread).min(axis=1), (centre + 9.0 * spread).max(axis=1)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        below = (weight * ndtr((middle[:, None] - centre) / spread)).sum(axis=1) < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2.0)
