"""Where input weights should point early in training: the directions that leading order predicts.

As long as weights are small, the output is f = 0 up to small terms, the residual e_i = f(x_i) - y_i hardly changes, and an activation of
multiplicity p is c z^p. The input weight w and output weight a of a neuron then follow the potential of the residual alone,

    dw/dt = -a grad Phi(w),    da/dt = -Phi(w),    Phi(w) = sum_i e_i (w . x_i)^p,    x_i with the constant 1 last,

up to units of time. From either sign at the start, a ends with the sign of -Phi(w), and w climbs |Phi|. Under steps along the gradient,
plain or normalised, directions settle at the local maxima of |Phi| on the unit *sphere* (Zhou 2022b, section 5):

    p = 1: one line, sum_i e_i x_i;
    p = 2: two lines, the eigenvectors of sum_i e_i x_i x_i^T with the largest and the smallest eigenvalue;
    one input: along (r, 1), for the at most p real roots r of sum_i (r x_i + 1)^(p-1) e_i x_i = r sum_i (r x_i + 1)^(p-1) e_i;
    otherwise: the maxima of |Phi|, of which there can be more than p; found here by climbing from many starts.

Adam's first steps have the same size in every coordinate, whatever the gradient: they go along sign(grad Phi), which is steepest
ascent in the maximum norm, and settle at the local maxima of |Phi| over the *cube* max |w_j| <= 1. For p = 1 there is one line, along
sign(sum_i e_i x_i); for p > 1 there can be many more than p.

An activation with a kink at 0 is c z to the right of it and c' z to the left. With this function in place of z^p the same holds for
directions instead of lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.linalg import qr

Array = NDArray[np.float64]

STARTS, FEWEST_STARTS = 192, 16
"""Starts of a climb, drawn at random from a fixed seed, half of which climb Phi and half -Phi; and of one over much data."""
MOST_COORDINATES = 24
"""Most dimensions of a cube in which all maxima are searched: beyond, only maxima in corners."""
_MOST_FOR_CORNERS = 11
_SMOOTH_STEPS, _KINKED_STEPS, _SIGN_STEPS = 250, 600, 60
CLIMB_STEPS = max(_SMOOTH_STEPS, _KINKED_STEPS)
_WORK = 2**24
"""Starts, points and coordinates of a climb, multiplied, that are affordable."""
_FIRST_STEP, _LAST_STEP = 0.5, 2e-3
_SAME = math.radians(5.0)
_NO_EIGENVALUE = 1e-10
_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Leading:
    """The leading term of an activation at 0: z^power, or for power 0 (right z) to the right and (left z) to the left of a kink."""

    power: int
    right: float = 1.0
    left: float = 0.0

    @property
    def even_or_odd(self) -> bool:
        """Whether opposite directions are equivalent: Phi(-w) = +-Phi(w)."""
        return self.power > 0

    def __call__(self, z: Array) -> tuple[Array, Array]:
        """The value and the derivative of the term at z, both of the shape of z."""
        if self.power == 0:
            slope = np.where(z > 0, self.right, self.left)
            return slope * z, slope
        below = np.ones_like(z)
        for _ in range(self.power - 1):
            below = below * z
        return below * z, self.power * below


def flow_directions(inputs: Array, residual: Array, leading: Leading) -> Array:
    """The unit vectors (q, k) that steps along the gradient settle at, one of each pair of opposites if these are equivalent.

    Args:
        inputs: what the neurons see, (n, k), the constant 1 last.
        residual: (n,).
        leading: the leading term of their activation.
    """
    if not np.any(residual):
        return np.empty((0, inputs.shape[1]))
    if leading.power == 1:
        return _units(residual @ inputs)
    if inputs.shape[1] == 2 and leading.power:
        return _roots(inputs[:, 0], residual, leading.power)
    if leading.power == 2:
        values, vectors = np.linalg.eigh((inputs.T * residual) @ inputs)
        # With fewer points than coordinates, an end of the spectrum may be 0: nothing moves along its many eigenvectors.
        ends = [end for end in (0, -1) if abs(values[end]) > _NO_EIGENVALUE * np.abs(values).max()]
        return np.ascontiguousarray(vectors[:, ends].T)
    if len(inputs) < inputs.shape[1]:
        return _within_span(inputs, residual, leading)
    return _maxima(inputs, residual, leading, "sphere")


def sign_directions(inputs: Array, residual: Array, leading: Leading) -> Array:
    """The unit vectors (q, k) that steps along the sign of the gradient settle at; the arguments are as for `flow_directions`.

    For more than `MOST_COORDINATES` coordinates, only corners of the cube are looked for, s = +-sign(grad Phi(s)): where steps along
    signs settle if they do so at all.
    """
    if not np.any(residual):
        return np.empty((0, inputs.shape[1]))
    if leading.power == 1:
        return _units(np.sign(residual @ inputs))
    if inputs.shape[1] > MOST_COORDINATES:
        return _settled_signs(inputs, residual, leading)
    return _maxima(inputs, residual, leading, "cube")


def potential(inputs: Array, residual: Array, leading: Leading, weights: Array) -> tuple[Array, Array]:
    """Phi (q,) and its gradient (q, k) at weights (q, k)."""
    value, slope = leading(weights @ inputs.T)
    return value @ residual, (slope * residual) @ inputs


def _units(vectors: Array) -> Array:
    """The nonzero rows (or one vector) at unit length."""
    rows = np.atleast_2d(vectors)
    lengths = np.linalg.norm(rows, axis=1)
    return np.asarray(rows[lengths > 0] / lengths[lengths > 0, None])


def _roots(x: Array, residual: Array, power: int) -> Array:
    """The directions (q, 2) of one input: real roots, as physics.md has them."""
    coefficients = np.zeros(power + 1)
    for j in range(power):
        binomial = math.comb(power - 1, j)
        coefficients[j] += binomial * np.sum(residual * x ** (j + 1))
        coefficients[j + 1] -= binomial * np.sum(residual * x**j)
    scale = np.abs(coefficients).max()
    if scale == 0:
        return np.empty((0, 2))
    # A leading coefficient that is zero but for rounding is a root at infinity, the direction (1, 0).
    at_infinity = abs(coefficients[-1]) <= 1e-12 * scale
    roots = np.polynomial.polynomial.polyroots(np.trim_zeros(coefficients, "b"))
    real = roots.real[np.abs(roots.imag) <= 1e-9 * (1 + np.abs(roots))]
    directions = np.column_stack([real, np.ones_like(real)])
    return _units(np.vstack([directions, [[1.0, 0.0]]]) if at_infinity else directions)


def _within_span(inputs: Array, residual: Array, leading: Leading) -> Array:
    """Maxima on the sphere lie in the span of the inputs: with fewer points than coordinates, they are looked for there."""
    basis, _ = qr(inputs.T, mode="economic")  # (k, n)
    return np.asarray(_maxima(inputs @ basis, residual, leading, "sphere") @ basis.T)


def climb_starts(size: int) -> int:
    """How many starts are affordable over so many points times coordinates."""
    return min(max(_WORK // size, FEWEST_STARTS), STARTS)


def _maxima(inputs: Array, residual: Array, leading: Leading, ball: Literal["sphere", "cube"]) -> Array:
    """Local maxima of |Phi| over a ball, as unit vectors (q, k), the highest first; ends of climbs within 5 degrees are one."""
    inputs = inputs / np.sqrt(np.mean(np.sum(inputs**2, axis=1)))
    residual = residual / np.abs(residual).sum()

    def climb(w: Array) -> tuple[Array, Array]:
        phi, gradient = potential(inputs, residual, leading, w)
        return sign * phi, sign[:, None] * gradient

    geometry = _SPHERE if ball == "sphere" else _CUBE
    starts = climb_starts(inputs.size)
    start = np.random.default_rng(inputs.shape[1]).standard_normal((starts, inputs.shape[1]))
    start = geometry.onto(geometry.unit(start))
    # A neuron climbs Phi or -Phi by the sign of its output weight, whatever the sign of Phi where it starts.
    sign = np.where(np.arange(starts) % 2 == 0, 1.0, -1.0)
    if ball == "cube" and inputs.shape[1] <= _MOST_FOR_CORNERS:
        corners, of_corners = _fixed_corners(inputs, residual, leading)
        start, sign = np.concatenate([start, corners]), np.concatenate([sign, of_corners])
    w, height = (_climb_smooth if leading.power else _climb_kinked)(start, climb, geometry)
    return _distinct(_units(w), height, leading.even_or_odd)


def _settled_signs(inputs: Array, residual: Array, leading: Leading) -> Array:
    """Unit vectors (q, k) along the corners that s -> +-sign(grad Phi(s)) settles at, from random ones."""
    start = np.random.default_rng(inputs.shape[1]).standard_normal((FEWEST_STARTS, inputs.shape[1]))
    signs, settled = np.sign(start), np.zeros(FEWEST_STARTS, dtype=bool)
    for _ in range(_SIGN_STEPS):
        phi, gradient = potential(inputs, residual, leading, signs)
        mapped = np.where(phi < 0, -1.0, 1.0)[:, None] * np.sign(gradient)
        settled = (mapped == signs).all(axis=1)
        if settled.all():
            break
        signs = mapped
    corners = signs[settled & signs.any(axis=1)]
    height = np.abs(potential(inputs, residual, leading, corners)[0])
    return _distinct(_units(corners), height, leading.even_or_odd)


def _fixed_corners(inputs: Array, residual: Array, leading: Leading) -> tuple[Array, Array]:
    """The corners s of the cube with s = +-sign(grad Phi(s)), maxima however small the part of the cube that leads there, and those
    signs."""
    signs = np.array(list(product([1.0, -1.0], repeat=inputs.shape[1])))
    phi, gradient = potential(inputs, residual, leading, signs)
    sign = np.where(phi < 0, -1.0, 1.0)
    fixed = (np.sign(gradient) == sign[:, None] * signs).all(axis=1)
    return signs[fixed], sign[fixed]


@dataclass(frozen=True)
class _Geometry:
    """How to step over a ball: the unit of a gradient that is steepest in its norm, and the way back onto the ball, of rows."""

    unit: Callable[[Array], Array]
    onto: Callable[[Array], Array]


def _normalised(w: Array) -> Array:
    return np.asarray(w / np.maximum(np.linalg.norm(w, axis=1, keepdims=True), _TINY))


_SPHERE = _Geometry(_normalised, _normalised)
_CUBE = _Geometry(
    lambda w: w / np.maximum(np.abs(w).max(axis=1, keepdims=True), _TINY), lambda w: np.clip(w, -1.0, 1.0)
)

Climb = Callable[[Array], tuple[Array, Array]]
"""A function to climb: from places (q, k) to their heights (q,) and the gradients there (q, k)."""


def _climb_smooth(w: Array, climb: Climb, geometry: _Geometry) -> tuple[Array, Array]:
    """Places and heights where climbs end: steps of a size of their own, which grows as long as it helps."""
    height, gradient = climb(w)
    step = np.full((len(w), 1), _FIRST_STEP)
    for _ in range(_SMOOTH_STEPS):
        tried = geometry.onto(w + step * geometry.unit(gradient))
        reached, slope = climb(tried)
        better = reached > height
        w, height = np.where(better[:, None], tried, w), np.where(better, reached, height)
        gradient = np.where(better[:, None], slope, gradient)
        step = np.clip(np.where(better[:, None], 1.5 * step, 0.4 * step), 1e-6, 8 * _FIRST_STEP)
    return w, height


def _climb_kinked(w: Array, climb: Climb, geometry: _Geometry) -> tuple[Array, Array]:
    """Places and heights where climbs end, if maxima sit on kinks, at which no single step helps: steps that shrink on a schedule."""
    for step in np.geomspace(_FIRST_STEP, _LAST_STEP, _KINKED_STEPS):
        _, gradient = climb(w)
        w = geometry.onto(w + step * geometry.unit(gradient))
    return w, climb(w)[0]


def _distinct(directions: Array, height: Array, antipodal: bool) -> Array:
    """The highest of every group of directions that are the same."""
    if len(directions) < 2:
        return directions
    cosines = directions @ directions.T
    angles = np.arccos(np.clip(np.abs(cosines) if antipodal else cosines, -1.0, 1.0))
    groups = fcluster(
        linkage(angles[np.triu_indices(len(angles), 1)], "average"), _SAME, criterion="distance"
    )
    order = np.argsort(-height, kind="stable")
    _, first = np.unique(groups[order], return_index=True)
    chosen = order[np.sort(first)]
    return directions[chosen[height[chosen] > 0]]
