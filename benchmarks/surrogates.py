"""A published uniform map as a stand-in for training: the relative change and the cost of any network of its plane, at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from phasediag.phase_diagram.columns import SLOPES
from phasediag.phase_diagram.fitting import slopes_of
from phasediag.phase_diagram.jobs import Cell
from phasediag.phase_diagram.theory import LAYERS

Array = NDArray[np.float64]

_POINT = ["layer", "gamma", "gamma_prime"]


class Surrogate:
    """Networks between those of a map, by linear interpolation of log RD and of log seconds over (gamma, gamma').

    Seeds that the map does not have scatter about the mean as its seeds do: log RD of such a seed is the mean and a random combination
    of their residuals, the same one all over the plane and in all layers, as one draw of weights serves all exponents.

    Args:
        runs: rows as in ``runs/`` of a uniform map, all converged.

    Attributes:
        layers: those with critical lines.
        gammas, gamma_primes, widths, seeds: of the map, ascending.
    """

    def __init__(self, runs: pd.DataFrame) -> None:
        self.depth = int(runs["depth"].iloc[0])
        self.layers = LAYERS[self.depth][:-1]
        axes = ("gamma", "gamma_prime", "width", "seed")
        self.gammas, self.gamma_primes, self.widths, self.seeds = (sorted(set(runs[name])) for name in axes)
        shape = [len(axis) for axis in (self.gammas, self.gamma_primes, self.widths, self.seeds)]

        def field(layer: str, column: str) -> Array:
            rows = runs.loc[runs["layer"] == layer].sort_values(list(axes))
            values: Array = np.log(rows[column].to_numpy(float)).reshape(shape)
            return values

        changes = np.stack([field(layer, "relative_change") for layer in self.layers], axis=2)
        means = changes.mean(axis=-1, keepdims=True)
        plane = self.gammas, self.gamma_primes
        self._changes = RegularGridInterpolator(plane, np.concatenate([means, changes - means], axis=-1))
        self._seconds = RegularGridInterpolator(plane, field(self.layers[0], "wall_seconds").mean(axis=-1))
        self._fits: dict[Any, tuple[Any, ...]] = {}

    def runs(self, cells: Iterable[Cell]) -> pd.DataFrame:
        """Rows as in ``runs/``, as far as fits need them."""
        jobs = pd.DataFrame(sorted(cells), columns=["width", "gamma", "gamma_prime", "seed"])
        fields = self._changes(jobs[["gamma", "gamma_prime"]].to_numpy())  # (jobs, layers, widths, 1 + seeds)
        of_width = fields[np.arange(len(jobs)), :, np.searchsorted(self.widths, jobs["width"])]
        drawn = {key: self._shares(*key) for key in set(zip(jobs["width"], jobs["seed"], strict=True))}
        shares = np.array([drawn[key] for key in zip(jobs["width"], jobs["seed"], strict=True)])
        changes = np.exp(np.einsum("jls,js->jl", of_width, shares))
        jobs = jobs.assign(depth=self.depth, gamma_1=0.0, status="converged")
        layers = enumerate(self.layers)
        return pd.concat([jobs.assign(layer=layer, relative_change=changes[:, i]) for i, layer in layers])

    def _shares(self, width: int, seed: int) -> Array:
        """Shares of the mean, 1, and of the residual of each seed of the map in log RD of a seed."""
        if seed in self.seeds:
            residuals = np.array([float(seed == other) for other in self.seeds])
        else:
            draws = np.random.default_rng([width, seed]).normal(size=len(self.seeds))
            residuals = draws / np.sqrt(len(self.seeds) - 1)
        return np.concatenate([[1.0], residuals])

    def seconds(self, cells: Iterable[Cell]) -> float:
        """Seconds of training of these jobs together."""
        jobs = pd.DataFrame(sorted(cells), columns=["width", "gamma", "gamma_prime", "seed"])
        of_widths = self._seconds(jobs[["gamma", "gamma_prime"]].to_numpy())
        return float(
            np.exp(of_widths[np.arange(len(jobs)), np.searchsorted(self.widths, jobs["width"])]).sum()
        )

    def slopes(self, cells: Iterable[Cell]) -> pd.DataFrame:
        """What `phasediag.fit` finds in the runs of these jobs."""
        return self.slopes_of(self.runs(cells))

    def slopes_of(self, runs: pd.DataFrame) -> pd.DataFrame:
        """The slopes of runs of this surrogate, kept: the slope of a point is the same as long as its runs are."""
        points = dict(tuple(runs.groupby(_POINT)))
        keys = {
            point: (point, tuple(sorted(zip(rows["width"], rows["seed"], strict=True))))
            for point, rows in points.items()
        }
        missing = [points[point] for point, key in keys.items() if key not in self._fits]
        if missing:
            for row in slopes_of(pd.concat(missing)).itertuples(index=False):
                self._fits[keys[row.layer, row.gamma, row.gamma_prime]] = tuple(row)
        return pd.DataFrame([self._fits[key] for key in keys.values()], columns=SLOPES.names)
