"""Ways to place the points of a phase diagram: phasediag's own, and what one would pick instead.

A method is a function of a `World`. It yields all jobs so far, after every batch, and ends where it has nothing to add.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from adaptive import Learner2D
from adaptive.learner.learner2D import areas
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from phasediag.phase_diagram import refinement
from phasediag.phase_diagram.jobs import Cell
from phasediag.phase_diagram.refinement import Placement, Refinement, Rules
from phasediag.phase_diagram.theory import round_exponent

from .surrogates import Surrogate

Array = NDArray[np.float64]
Point = tuple[float, float]

STEP = 0.05
"""Of gamma, in the lattice of points that straddle and adaptive choose from."""
BATCH = 8
BRACKET = 0.1
NORMAL = 1.96


@dataclass(frozen=True)
class World:
    """What a method can train, and what it begins with.

    Attributes:
        surrogate: the networks.
        grid: jobs of the coarse grid.
        rules: of phasediag's refinement.
    """

    surrogate: Surrogate
    grid: frozenset[Cell]
    rules: Rules

    def at(self, points: Iterable[Point]) -> set[Cell]:
        """All widths and seeds at these points."""
        return {(w, *point, seed) for point in points for w in self.rules.widths for seed in self.rules.seeds}

    @cached_property
    def uniform(self) -> set[Cell]:
        """The jobs of the uniform map."""
        return self.at(product(self.surrogate.gammas, self.surrogate.gamma_primes))

    def share(self, cells: set[Cell]) -> float:
        """Cost of these jobs over that of the uniform map."""
        return self.surrogate.seconds(cells) / self.surrogate.seconds(self.uniform)

    @property
    def lattice(self) -> list[Point]:
        """Points in the rows of the uniform map."""
        gammas, rows = self.surrogate.gammas, self.surrogate.gamma_primes
        count = round((gammas[-1] - gammas[0]) / STEP) + 1
        return [(round_exponent(g), row) for g in np.linspace(gammas[0], gammas[-1], count) for row in rows]

    def slopes(self, points: Sequence[Point]) -> tuple[Array, Array]:
        """S and the standard deviation that its interval stands for, (points, layers), with all widths and seeds."""
        found = self.surrogate.slopes(self.at(points))
        tables = [
            found.pivot(
                index=["gamma", "gamma_prime"], columns="layer", values=f"slope_infinite{end}"
            ).reindex(index=pd.MultiIndex.from_tuples(points), columns=pd.Index(self.surrogate.layers))
            for end in ("", "_low", "_high")
        ]
        middle, low, high = (table.to_numpy(float) for table in tables)
        return middle, (high - low) / (2 * NORMAL)


Method = Callable[[World], Iterator[set[Cell]]]


def uniform(world: World) -> Iterator[set[Cell]]:
    """All of the map."""
    yield world.uniform


def phasediag(world: World, **constants: Any) -> Iterator[set[Cell]]:
    """`phasediag.refinement`, with other constants than its own where they are given."""
    placing, cells = Refinement(world.grid, world.rules), set(world.grid)
    while True:
        yield set(cells)
        placed = set(_advanced(placing, world, cells, **constants).rounds)
        if placed <= cells:
            return
        cells |= placed


def placement(world: World, cells: set[Cell]) -> Placement:
    """What `phasediag.refinement` has placed in these jobs."""
    return _advanced(Refinement(world.grid, world.rules), world, cells)


def _advanced(placing: Refinement, world: World, cells: set[Cell], **constants: Any) -> Placement:
    with mock.patch.multiple(refinement, slopes_of=world.surrogate.slopes_of, **constants):
        return placing.advance(world.surrogate.runs(cells))


class _AllWidths(Rules):
    @property
    def first_widths(self) -> tuple[int, ...]:
        return self.widths


def phasediag_all_widths(world: World) -> Iterator[set[Cell]]:
    """phasediag's own, but all widths at once."""
    yield from phasediag(replace(world, rules=_AllWidths(**vars(world.rules))))


def bisection(world: World) -> Iterator[set[Cell]]:
    """Along gamma in every row of the uniform map and for every layer, from the ends of the row."""
    surrogate = world.surrogate
    ends = surrogate.gammas[0], surrogate.gammas[-1]
    brackets = [
        [*ends, row, layer] for row in surrogate.gamma_primes for layer in range(len(surrogate.layers))
    ]
    points = {(gamma, row) for gamma in ends for row in surrogate.gamma_primes}
    yield world.at(points)
    at = [world.slopes([(end, row) for _, _, row, _ in brackets])[0] for end in ends]
    brackets = [
        bracket for i, bracket in enumerate(brackets) if at[0][i, bracket[3]] <= 0.0 < at[1][i, bracket[3]]
    ]
    while wide := [bracket for bracket in brackets if bracket[1] - bracket[0] > BRACKET + 1e-9]:
        middles = [(round_exponent((low + high) / 2), row) for low, high, row, _ in wide]
        points |= set(middles)
        yield world.at(points)
        slopes = world.slopes(list(dict.fromkeys(middles)))[0]
        found = dict(zip(dict.fromkeys(middles), slopes, strict=True))
        for bracket, middle in zip(wide, middles, strict=True):
            bracket[int(found[middle][bracket[3]] > 0.0)] = middle[0]


def straddle(world: World) -> Iterator[set[Cell]]:
    """Bryan et al. 2005: where 1.96 sigma - |mu| of a Gaussian process of S is largest, over the layers; batches by believing mu."""
    points, candidates = _points_of(world.grid), world.lattice
    while candidates := [point for point in candidates if point not in set(points)]:
        yield world.at(points)
        values, spreads = world.slopes(points)
        processes = [
            _process(points, values[:, i], spreads[:, i]) for i in range(len(world.surrogate.layers))
        ]
        points = points + _straddling(processes, candidates)
    yield world.at(points)


def _process(points: Sequence[Point], values: Array, spreads: Array) -> GaussianProcessRegressor:
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF([0.5, 0.5], (0.05, 20.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianProcessRegressor(kernel, alpha=spreads**2).fit(points, values)


def _straddling(processes: Sequence[GaussianProcessRegressor], candidates: Sequence[Point]) -> list[Point]:
    chosen: list[Point] = []
    for _ in range(min(BATCH, len(candidates))):
        found = np.array([process.predict(candidates, return_std=True) for process in processes])
        means, spreads = found[:, 0], found[:, 1]
        worth = (NORMAL * spreads - np.abs(means)).max(axis=0)
        worth[[point in chosen for point in candidates]] = -np.inf
        best = int(np.argmax(worth))
        chosen.append(candidates[best])
        processes = [
            _believing(process, candidates[best], float(mean))
            for process, mean in zip(processes, means[:, best], strict=True)
        ]
    return chosen


def _believing(process: GaussianProcessRegressor, point: Point, mean: float) -> GaussianProcessRegressor:
    """The process as if S were its mean at a point."""
    alpha = np.append(process.alpha, float(np.median(process.alpha)))
    points, values = np.vstack([process.X_train_, point]), np.append(process.y_train_, mean)
    return GaussianProcessRegressor(process.kernel_, alpha=alpha, optimizer=None).fit(points, values)


def level_set(world: World) -> Iterator[set[Cell]]:
    """`adaptive.Learner2D`: the largest triangles in which a layer changes its sign, as long as they are larger than the lattice's."""
    points, lattice = _points_of(world.grid), np.array(world.lattice)
    bounds = tuple(zip(lattice.min(axis=0), lattice.max(axis=0), strict=True))
    extent = np.ptp(lattice, axis=0)
    smallest = STEP * extent[1] / (len(world.surrogate.gamma_primes) - 1) / np.prod(extent) / 2

    def loss(interpolation: Any) -> Array:
        above = interpolation.values[interpolation.tri.simplices] > 0.0  # (triangles, corners, layers)
        crossed = (above.any(axis=1) & ~above.all(axis=1)).any(axis=-1)
        size = areas(interpolation)
        return np.asarray(size * (crossed & (size > 1.01 * smallest)))

    while True:
        yield world.at(points)
        learner = Learner2D(None, bounds, loss)
        learner.stack_size = 1
        for point, value in zip(points, world.slopes(points)[0], strict=True):
            learner.tell(point, value)
        new = _asked(learner, lattice, extent, set(points))
        if not new:
            return
        points = points + new


def _asked(learner: Any, lattice: Array, extent: Array, known: set[Point]) -> list[Point]:
    """A batch of points of the lattice next to those that the learner asks for."""
    chosen: list[Point] = []
    while len(chosen) < BATCH:
        (asked,), (improvement,) = learner.ask(1)
        if improvement <= 0.0:
            break
        nearest = lattice[np.argmin(np.square((lattice - asked) / extent).sum(axis=1))]
        point = float(nearest[0]), float(nearest[1])
        if point not in known and point not in chosen:
            chosen.append(point)
            learner.pending_points.discard(tuple(asked))
            learner.tell_pending(point)
    return chosen


def _points_of(cells: frozenset[Cell]) -> list[Point]:
    return sorted({cell[1:3] for cell in cells})


METHODS: dict[str, Method] = {
    "uniform map": uniform,
    "phasediag": phasediag,
    "bisection in every row": bisection,
    "straddle": straddle,
    "adaptive, level set": level_set,
}
