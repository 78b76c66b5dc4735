"""How far input weights have condensed: which neurons are active, and on how many lines they lie.

Average linkage groups directions by their angles, and needs no number of groups beforehand: it joins two groups as long as the mean angle
between their neurons is at most a threshold. The angle between undirected lines is arccos |D(u, v)|, and between orientations
arccos D(u, v), with D the inner product of normalised input weights (Zhou 2022b, equation 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

Array = NDArray[np.float64]

ACTIVE = 0.1
"""A neuron is active if its input weight is at least this fraction of the largest of its layer, in length."""
THRESHOLD = 30.0
"""Mean angle, in degrees, up to which two groups of neurons are one line."""
NARROW, WIDE = 20.0, 40.0
"""Other thresholds, at which lines are counted to show how much the number depends on it."""
LEAST_SHARE = 0.05
"""A group is a line if it holds at least this share of the active neurons, and two of them where ten or more are active, ..."""
WITHIN = 10.0
"""... and if at least half of it is this close, in degrees, to its centre. Neurons that are so close are aligned."""


@dataclass(frozen=True)
class Directions:
    """The active neurons of a layer.

    Attributes:
        units: their normalised input weights (q, k).
        neurons: which neurons these are (q,).
    """

    units: Array
    neurons: NDArray[np.int64]

    @classmethod
    def of(cls, weights: NDArray[np.floating[Any]]) -> Directions:
        """The directions of input weights (m, k), the bias last; none if all of these are zero.

        Raises:
            ValueError: a weight is not finite.
        """
        weights = np.asarray(weights, dtype=np.float64)
        if not np.isfinite(weights).all():
            raise ValueError("weights that are not finite have no directions")
        largest = np.abs(weights).max(initial=0.0)
        scaled = weights / largest if largest > 0 else weights  # squares of tiny weights would underflow
        lengths = np.linalg.norm(scaled, axis=1)
        (neurons,) = np.nonzero((lengths > 0) & (lengths >= ACTIVE * lengths.max(initial=0.0)))
        return cls(scaled[neurons] / lengths[neurons, None], neurons)

    @cached_property
    def cosines(self) -> Array:
        """D(u, v) (q, q)."""
        return np.clip(self.units @ self.units.T, -1.0, 1.0)

    @cached_property
    def line_tree(self) -> Array:
        """The linkage of lines, in degrees."""
        return self._tree(np.abs(self.cosines))

    @cached_property
    def orientation_tree(self) -> Array:
        """The linkage of orientations, in degrees."""
        return self._tree(self.cosines)

    def groups(self, threshold: float = THRESHOLD) -> list[NDArray[np.int64]]:
        """The members of each line, as indices of `units`, the largest first."""
        return self._groups(self.line_tree, threshold)

    def count_lines(self, threshold: float = THRESHOLD) -> int:
        """The number of lines."""
        return len(self.groups(threshold))

    def centres(self, threshold: float = THRESHOLD) -> Array:
        """The centre of each line, as unit vectors (lines, k)."""
        lines = [centre_line(self.units[members]) for members in self.groups(threshold)]
        return np.stack(lines) if lines else np.empty((0, self.units.shape[1]))

    def count_orientations(self, threshold: float = THRESHOLD) -> int:
        """The number of orientations: opposite ones count as two."""
        return len(self._groups(self.orientation_tree, threshold))

    def aligned_fraction(self, threshold: float = THRESHOLD) -> float:
        """The share of the active neurons that are within 10 degrees of the centre of their line; NaN if none is active."""
        if not len(self.units):
            return math.nan
        return sum(int(_close(self.units[members]).sum()) for members in self.groups(threshold)) / len(
            self.units
        )

    def in_order(self) -> NDArray[np.int64]:
        """Indices of `units` that put the neurons of a line next to each other: first the lines, the largest first, then the rest."""
        groups = self.groups()
        of_lines = np.concatenate([np.empty(0, dtype=np.int64), *groups])
        rest = np.setdiff1d(np.arange(len(self.units)), of_lines)
        ordered = [_by_orientation(self.units[members], members) for members in groups]
        return np.concatenate([np.empty(0, dtype=np.int64), *ordered, rest])

    def _tree(self, cosines: Array) -> Array:
        if len(cosines) < 2:
            return np.empty((0, 4))
        angles = np.degrees(np.arccos(cosines))
        return np.asarray(linkage(angles[np.triu_indices(len(angles), 1)], "average"))

    def _groups(self, tree: Array, threshold: float) -> list[NDArray[np.int64]]:
        active = len(self.units)
        labels = fcluster(tree, threshold, criterion="distance") if active > 1 else np.ones(active, int)
        least = max(math.ceil(LEAST_SHARE * active - 1e-9), 2 if active >= 10 else 1)
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        lines = [
            members
            for members in groups
            if len(members) >= least and _close(self.units[members]).mean() >= 0.5
        ]
        return sorted(lines, key=lambda members: (-len(members), int(members[0])))


def _close(units: Array) -> NDArray[np.bool_]:
    """Which of the unit vectors (q, k) are within 10 degrees of the line that all are closest to."""
    return np.asarray(np.abs(units @ centre_line(units)) >= math.cos(math.radians(WITHIN)))


def centre_line(units: Array) -> Array:
    """The line (k,) that unit vectors (q, k) are closest to, in the sum of squared cosines."""
    _, _, axes = np.linalg.svd(units, full_matrices=False)
    return np.asarray(axes[0])


def alignment(units: Array, directions: Array, lines: bool) -> tuple[float, float]:
    """How well unit vectors (q, k) agree with predicted directions (r, k).

    Returns:
        The mean cosine between a vector and the nearest direction (of lines: its absolute value), and the share of vectors within 10
        degrees of one; NaN where there is nothing to compare.
    """
    if not len(units) or not len(directions):
        return math.nan, math.nan
    cosines = units @ directions.T
    nearest = np.minimum((np.abs(cosines) if lines else cosines).max(axis=1), 1.0)
    return float(nearest.mean()), float((nearest >= math.cos(math.radians(WITHIN))).mean())


def _by_orientation(units: Array, members: NDArray[np.int64]) -> NDArray[np.int64]:
    """The members of a line, one orientation before the other, by their angle to the line."""
    along = units @ centre_line(units)
    along = along if (along > 0).sum() * 2 >= len(along) else -along
    return members[np.argsort(-along, kind="stable")]
