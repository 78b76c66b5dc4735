"""The slope at infinite width: log RD against log m with corrections to scaling, and an interval that admits what they may be.

At finite width the relative change is a power law with corrections,

    log RD = c + S log m + g(m) + noise,        g(m) = sum over omega of b_omega (m / m_1)^(-omega),

where m_1 is the smallest width, the b_omega are independent and normal with one standard deviation A, and the exponents
omega are spread evenly over `EXPONENTS`: a Gaussian process (finite-size scaling calls g the corrections to scaling). c and S
are free. The noise of a run is normal with standard deviation s (m / m_1)^(-nu): the sums over m neurons that make up a run
scatter as m^(-1/2), but some limits keep a scatter of their own (nu = 0).

Given A, s and nu, the restricted likelihood of the means over seeds leaves a normal S with a known variance; the scatter of
the seeds about their means adds what it says of s and nu. The three are not fixed at a best value but averaged over, with a
flat prior on a grid of log A, log s and nu: a handful of widths does not determine them, and an interval that pretends it did
is too short. Resampling seeds has the same purpose as s; but three seeds resampled understate their scatter by sqrt(2/3).

What no such method can see is a crossover that has not begun at the widths measured: a correction with an omega below those
assumed looks like a slope.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

LEAST_WIDTHS = 4
EXPONENTS = np.linspace(0.2, 1.5, 8)
"""omega of the corrections. Below 0.2 they cannot be told from a slope over the two or three decades of width that one trains."""
_AMPLITUDES = np.geomspace(0.01, 2.0, 12)
# Runs that scatter by less than a thousandth do so below the accuracy of training.
_SCATTERS = np.geomspace(1e-3, 3.0, 28)
_DECAYS = np.array([0.0, 0.25, 0.5, 0.75])
_LARGEST_WEIGHTS = 96
_BISECTIONS = 50


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
    amplitude, scatter, decay = (
        axis.ravel() for axis in np.meshgrid(_AMPLITUDES, _SCATTERS, _DECAYS, indexing="ij")
    )
    ratio = widths / widths[0]
    noise = scatter[:, None] ** 2 * ratio ** (-2.0 * decay[:, None])
    slope_weights, slope_variance, roots, constant = _projections(ratio, amplitude, noise / runs)
    constant = constant - 0.5 * ((runs - 1.0) * np.log(noise)).sum(axis=1)
    # log-likelihood (p, h) of every point under every (A, s, nu)
    fitted = np.square(np.einsum("hij,pj->phi", roots, means)).sum(axis=2)
    likelihood = constant - 0.5 * (fitted + squares @ (1.0 / noise).T)
    weight = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    kept = np.argsort(-weight, axis=1)[:, :_LARGEST_WEIGHTS]
    weight = np.take_along_axis(weight, kept, axis=1)
    weight /= weight.sum(axis=1, keepdims=True)
    centre = np.take_along_axis(means @ slope_weights.T, kept, axis=1)
    spread = np.sqrt(slope_variance)[kept]
    tail = (1.0 - confidence) / 2.0
    low, middle, high = (_quantile(weight, centre, spread, share) for share in (tail, 0.5, 1.0 - tail))
    return middle, low, high


def _projections(ratio: Array, amplitude: Array, noise: Array) -> tuple[Array, Array, Array, Array]:
    """What generalised least squares on k widths needs, for each of h covariances.

    Returns:
        weights (h, k) of the means in the slope; its variance (h,); matrices R (h, k, k) such that |R y|^2 is the weighted
        sum of squared residuals; the constant of the restricted log-likelihood (h,).
    """
    k = len(ratio)
    powers = ratio[:, None] ** -EXPONENTS
    corrections = powers @ powers.T / len(EXPONENTS)
    covariance = amplitude[:, None, None] ** 2 * corrections + np.eye(k) * noise[:, None, :]
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    design = whiten @ np.stack([np.ones(k), np.log(ratio)], axis=1)
    normal = np.linalg.inv(np.swapaxes(design, 1, 2) @ design)
    estimates = normal @ np.swapaxes(design, 1, 2) @ whiten
    residual = whiten - design @ estimates
    log_determinant = -2.0 * np.log(np.diagonal(whiten, axis1=1, axis2=2)).sum(axis=1)
    constant = -0.5 * (log_determinant - np.linalg.slogdet(normal)[1])
    return estimates[:, 1], normal[:, 1, 1], residual, constant


def _quantile(weight: Array, centre: Array, spread: Array, share: float) -> Array:
    """Quantiles (p,) of mixtures of normal distributions, weights, means and standard deviations (p, h)."""
    low, high = (centre - 9.0 * spread).min(axis=1), (centre + 9.0 * spread).max(axis=1)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        below = (weight * ndtr((middle[:, None] - centre) / spread)).sum(axis=1) < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2.0)
