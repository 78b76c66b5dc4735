"""The critical line of a layer in one row of a map: where the slope crosses zero, how certain this is, and between which points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .fitting import critical_line

Interval = tuple[float, float]


@dataclass(frozen=True)
class Crossing:
    """Where the slope S of a layer crosses zero in a row of the map, at one gamma_prime.

    Attributes:
        layer: the layer.
        gammas: of the points that have a slope, ascending.
        sign: of S at all of them, if it is the same everywhere (zero counts as below); 0 if S crosses zero, or is not known anywhere.
        gamma: of the crossing; NaN if there is none.
        band: its 95 % interval; NaN for an end that the points do not reach.
        local: half-width that the band would have if points were dense: that of the interval of S beside the crossing, over the
            rise of S there.
    """

    layer: str
    gammas: tuple[float, ...]
    sign: int
    gamma: float = math.nan
    band: Interval = (math.nan, math.nan)
    local: float = math.inf

    @property
    def half_width(self) -> float:
        """Half the width of the band, in gamma; infinite if the band has an open end, or there is none."""
        half = (self.band[1] - self.band[0]) / 2
        return half if math.isfinite(half) else math.inf

    @property
    def neighbours(self) -> Interval:
        """The gammas of the points on both sides."""
        return neighbours(self.gammas, self.gamma)


def crossing_of(slopes: pd.DataFrame, layer: str, column: str) -> Crossing:
    """The crossing of a layer in a row.

    Args:
        slopes: rows as returned by `phasediag.fit`, of one gamma_prime.
        layer: the layer.
        column: "slope" or "slope_infinite".
    """
    row = slopes.loc[(slopes["layer"] == layer) & np.isfinite(slopes[column])].sort_values("gamma")
    gammas, values = row["gamma"].to_numpy(float), row[column].to_numpy(float)
    points = tuple(gammas.tolist())
    line = critical_line(row, layer, column)
    if line.empty:
        above = bool(len(values)) and (values > 0).all()
        below = bool(len(values)) and (values <= 0).all()
        return Crossing(layer, points, int(above) - int(below))
    gamma, low, high = (float(line[name].iloc[0]) for name in ("gamma", "gamma_low", "gamma_high"))
    pair = row.loc[row["gamma"].isin(neighbours(points, gamma))]
    rise = float(np.ptp(pair[column]) / np.ptp(pair["gamma"]))
    spread = float((pair[f"{column}_high"] - pair[f"{column}_low"]).mean() / 2)
    return Crossing(layer, points, 0, gamma, (low, high), spread / rise if rise > 0 else math.inf)


def neighbours(gammas: Sequence[float], gamma: float) -> Interval:
    """The two of some ascending gammas between which a gamma lies."""
    right = min(max(int(np.searchsorted(gammas, gamma)), 1), len(gammas) - 1)
    return gammas[right - 1], gammas[right]
