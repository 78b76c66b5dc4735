"""How far a trained network is from the one that is linearised in its weights at the start, and its kernel from that of the start.

Where the kernel K stays what it was, the residual obeys ``de/dt = -K e``: mode by mode, ``e(t) = exp(-K t) e(0)``, and its impulse
``integral of e dt = (1 - exp(-K t)) / K e(0)``, which is ``t e(0)`` where K vanishes (Jacot et al., NeurIPS 2018; Lee et al., NeurIPS
2019). In k steps s of gradient descent, the exponential is ``(1 - s K)^k``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .networks import Array, Course


class Ways(NamedTuple):
    """Jobs at their start and at their end. ``step``: of gradient descent; 0 of the flow."""

    residual: Array  # (B, n) at the start
    values: Array  # (B, n) eigenvalues of the kernel at the start, at least 0
    vectors: Array  # (B, n, n) and its eigenvectors, in columns
    residual_end: Array
    kernel_end: Array  # (B, n, n)
    time: Array  # (B,)
    time_half: Array
    step: Array


def courses(ways: Ways) -> Iterator[Course]:
    """The courses of jobs. What is not finite, or not defined, is NaN."""
    start, values, vectors = ways.residual, ways.values, ways.vectors
    with np.errstate(all="ignore"):
        faded = _faded(values, ways.time[:, None], ways.step[:, None])
        modes = _times(vectors.swapaxes(1, 2), start)
        impulse = _times(vectors, np.where(values > 0, faded / values, ways.time[:, None]) * modes)
        largest = values.max(axis=1)[:, None]
        before = vectors * (values / largest)[:, None, :] @ vectors.swapaxes(1, 2)
        change = _norm(ways.kernel_end / largest[:, :, None] - before) / _norm(values / largest)
        moved = ways.residual_end - start
        gap = _norm(moved + _times(vectors, faded * modes)) / _norm(moved)
        found = np.stack([ways.time, ways.time_half, change, gap], axis=1)
        found[~np.isfinite(found)] = np.nan
    for (time, time_half, kernel_change, linear_gap), pulled in zip(found.tolist(), impulse, strict=True):
        yield Course(time, time_half, kernel_change, linear_gap, pulled)


def _faded(values: Array, time: Array, step: Array) -> Array:
    """``1 - exp(-K t)`` in modes, or ``1 - (1 - s K)^(t / s)``."""
    reach = step * values
    rate = np.where(reach > 0, -np.log1p(-np.minimum(reach, 0.5)) / step, values)
    overshooting = 1 - np.power(1 - reach, np.round(time / step))
    faded: Array = np.where(reach > 0.5, overshooting, -np.expm1(-rate * time))
    return faded


def _times(matrices: Array, vectors: Array) -> Array:
    product: Array = np.matmul(matrices, vectors[:, :, None])[:, :, 0]
    return product


def _norm(arrays: Array) -> Array:
    norms: Array = np.sqrt(np.square(arrays).reshape(len(arrays), -1).sum(axis=1))
    return norms
