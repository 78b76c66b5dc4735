"""The numbers that the figures and the page of a phase diagram show: frames in, frames out; nothing is drawn here.

Frames have the columns of the files of a sweep: ``runs`` (one row per run and layer), ``slopes`` (one row per point and layer, see
`phasediag.fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError
from ..storage.schema import FAILED
from . import theory
from .fitting import (
    LINE_SLOPES,
    POINT,
    POINT_KEYS,
    Array,
    complete_runs,
    critical_line,
    measured_rows,
    select_layer,
    usable_runs,
)
from .measures import NETWORK, RELATIVE_CHANGE, Measure, measure_named

Limits = tuple[tuple[float, float], tuple[float, float]]
"""The lowest and the highest gamma of a map, and the lowest and the highest gamma_prime."""
SLOPE_LIMIT = 1.0
"""Colours end at this |slope|. Slopes of the linear regime reach -2.5: colours as far as that would hide the condensed one, below 1."""
COMBINED_REGIMES = {
    ("linear", "linear"): "both linear",
    ("condensed", "linear"): "$W_1$ condensed",
    ("linear", "condensed"): "$W_2$ condensed",
    ("condensed", "condensed"): "both condensed",
}
"""Names of the regimes of W1 and W2 together, where both are settled."""


# Points of the plane.


@dataclass(frozen=True)
class Plane:
    """The points of a map, split into a product grid (drawn as cells) and the rest (drawn as markers)."""

    table: pd.DataFrame
    gammas: Array
    gamma_primes: Array
    scattered: pd.DataFrame

    @property
    def edges(self) -> tuple[Array, Array]:
        """Edges of the columns and of the rows of cells."""
        return _edges(self.gammas), _edges(self.gamma_primes)

    @property
    def limits(self) -> Limits:
        """The part of the plane that the map shows: every cell and every scattered point."""
        gamma, gamma_prime = (
            _axis_limits(edges, self.scattered[key].to_numpy(float))
            for edges, key in zip(self.edges, POINT, strict=True)
        )
        return gamma, gamma_prime

    def row_edges(self, gamma_prime: float) -> tuple[float, float]:
        """Edges of the row of cells that this value lies in; off the grid, a thirtieth of the map below and above it."""
        edges = self.edges[1]
        at = int(np.searchsorted(edges, gamma_prime))
        if len(self.gamma_primes) and 0 < at < len(edges):
            return float(edges[at - 1]), float(edges[at])
        low, high = self.limits[1]
        return gamma_prime - (high - low) / 30, gamma_prime + (high - low) / 30

    def rows_with(self, gamma_primes: pd.Index[float]) -> pd.Index[float]:
        """The rows of the grid and these, sorted: a line over them is interrupted where it has no value."""
        rows: pd.Index[float] = pd.Index(sorted({*gamma_primes, *self.gamma_primes}), name="gamma_prime")
        return rows


def split_points(table: pd.DataFrame) -> Plane:
    """Split the points of ``table``: the grid keeps the rows and columns of the plane that are more than half full."""
    table = table.drop_duplicates(POINT)
    gammas, columns = np.unique(table["gamma"].to_numpy(float), return_inverse=True)
    primes, rows = np.unique(table["gamma_prime"].to_numpy(float), return_inverse=True)
    filled = np.zeros((len(primes), len(gammas)), bool)
    filled[rows, columns] = True
    keep_row, keep_column = _dense_part(filled)
    on_grid = keep_row[rows] & keep_column[columns]
    return Plane(table, gammas[keep_column], primes[keep_row], table.loc[~on_grid])


def _dense_part(filled: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows and columns left after dropping the emptiest one until all are more than half full.

    Nothing is left of a set of points that form no grid.
    """
    rows, columns = (np.ones(size, bool) for size in filled.shape)
    while rows.any():
        fill_rows = np.where(rows, filled[:, columns].mean(axis=1), np.inf)
        fill_columns = np.where(columns, filled[rows].mean(axis=0), np.inf)
        if min(fill_rows.min(), fill_columns.min()) > 0.5:
            break
        if fill_rows.min() <= fill_columns.min():
            rows[fill_rows.argmin()] = False
        else:
            columns[fill_columns.argmin()] = False
    if rows.sum() * columns.sum() <= 1:
        rows[:], columns[:] = False, False
    return rows, columns


def _edges(values: Array) -> Array:
    """Edges of cells around sorted values of any spacing, halfway between them; a single value gets a width of 0.1."""
    if len(values) < 2:
        return np.concatenate([values - 0.05, values + 0.05])
    middle = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])


def _axis_limits(edges: Array, scattered: Array) -> tuple[float, float]:
    """Limits that hold the cells exactly and the scattered points with a margin; never narrower than 0.3."""
    low, high = (float(f(np.concatenate([edges, scattered]))) for f in (np.min, np.max))
    margin = 0.06 * (high - low)
    low, high = (
        min([low, *(scattered - margin)]),
        max([high, *(scattered + margin)]),
    )
    missing = max(0.3 - (high - low), 0.0) / 2
    return low - missing, high + missing


def named_initialisations(depth: int, gamma_1: float, limits: Limits) -> dict[theory.Exponents, list[str]]:
    """The named initialisations inside the limits of a map, by point: those at one point together, in the order of their table.

    There are none where gamma_1 is not 0: theirs is.
    """
    by_point: dict[theory.Exponents, list[str]] = {}
    for name, point in theory.named_initialisations(depth).items():
        inside = all(low <= at <= high for at, (low, high) in zip(point, limits, strict=True))
        if inside and not gamma_1:
            by_point.setdefault(point, []).append(name)
    return by_point


# Over the seeds of a point.


def values(runs: pd.DataFrame, measure: str, width: int | None = None) -> pd.DataFrame:
    """A measure at one width, over the runs of a point: the geometric mean of one that is a power of the width, else the median.

    Args:
        runs: as for `phasediag.fit`, with the column of the measure.
        measure: its column: orientations, effective_rank, effective_rank_change, test_loss, test_error, or one that `phasediag.fit` takes.
        width: of the runs; the largest if None.

    Returns:
        One row per layer and point: depth, layer ("network" for a measure of the whole network), gamma, gamma_prime, gamma_1, width; the
        measure; runs, how many converged there with a value. NaN where there are none. `phasediag.plot_map` draws it.

    Raises:
        InputError: as `phasediag.fit` does, or no run has this width.
    """
    of = measure_named(measure)
    runs = measured_rows(complete_runs(runs, measure), of)
    there = sorted(set(runs["width"]))
    if width is not None and width not in there:
        raise InputError(f"width: no run has {width}; allowed: {', '.join(map(str, there))}")
    chosen = max(there, default=0) if width is None else width
    used = runs.loc[usable_runs(runs, of) & (runs["width"] == chosen)]
    points = runs.groupby(POINT_KEYS).size().index
    found = {
        "width": chosen,
        measure: _average(used, of, POINT_KEYS).reindex(points),
        "runs": used.groupby(POINT_KEYS).size().reindex(points, fill_value=0),
    }
    return pd.DataFrame(found, index=points).reset_index()


def by_width(
    runs: pd.DataFrame, measure: Measure, layer: str, points: pd.DataFrame, widths: list[int]
) -> pd.DataFrame:
    """A measure of a layer over the runs of which it is used: a row per point, a column per width.

    Of a power of the width it is the geometric mean, else the median; NaN where there is no run.
    """
    used = runs.loc[(runs["layer"] == layer) & usable_runs(runs, measure)]
    return _in_columns(_average(used, measure, [*POINT, "width"]), points, widths)


def _average(used: pd.DataFrame, measure: Measure, by: list[str]) -> pd.Series[float]:
    """The geometric mean of a power of the width, the median of any other measure, over the runs of each group."""
    if not measure.is_power:
        return used.groupby(by)[measure.name].median()
    logs = used.assign(**{measure.name: np.log(used[measure.name])}).groupby(by)[measure.name].mean()
    return logs.apply(np.exp)


def evaluations_by_width(runs: pd.DataFrame, points: pd.DataFrame, widths: list[int]) -> pd.DataFrame:
    """Medians of the number of evaluations over the runs that did not fail: a row per point, a column per width."""
    found = _trained(runs).groupby([*POINT, "width"])["evaluations"].median()
    return _in_columns(found, points, widths)


def _in_columns(found: pd.Series[float], points: pd.DataFrame, widths: list[int]) -> pd.DataFrame:
    """Numbers by point and width as a table: rows in the order of ``points``; NaN where there is no run."""
    return found.unstack("width").reindex(index=pd.MultiIndex.from_frame(points[POINT]), columns=widths)


def _trained(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run, whatever its layers; evaluations are NaN where it failed."""
    jobs = runs.drop_duplicates("job_id")
    return jobs.assign(evaluations=jobs["evaluations"].where(jobs["status"] != FAILED).astype(float))


def reliability(runs: pd.DataFrame) -> pd.DataFrame:
    """How far the runs of a point can be trusted, over all its widths and seeds.

    Returns:
        One row per point: gamma, gamma_prime; evaluations, their median over the runs that did not fail; loss_fraction, the largest
        finite ratio of the final to the initial loss; not_converged, the share of runs with any other status than converged.
    """
    jobs = _trained(runs)
    fraction = (jobs["loss_final"] / jobs["loss_initial"]).where(lambda ratio: np.isfinite(ratio))
    jobs = jobs.assign(loss_fraction=fraction, not_converged=jobs["status"] != "converged")
    rules = {"evaluations": "median", "loss_fraction": "max", "not_converged": "mean"}
    return jobs.groupby(POINT, as_index=False).agg(rules)


# Slopes, regimes and critical lines.


def deciding_slope(slopes: pd.DataFrame) -> str:
    """The column whose interval decides on regimes: "slope_infinite" where it is known, else "slope"."""
    return "slope_infinite" if np.isfinite(slopes["slope_infinite_low"]).sum() > 1 else "slope"


def slope_limit(slopes: Array, measure: Measure = RELATIVE_CHANGE) -> float:
    """The slope at which colours end: the largest finite |slope|, at most `SLOPE_LIMIT` where the sign of slopes matters most."""
    largest = float(np.abs(slopes[np.isfinite(slopes)]).max(initial=0.0)) or SLOPE_LIMIT
    return min(largest, SLOPE_LIMIT) if measure.has_regimes else largest


def error_bars(slopes: pd.DataFrame, column: str) -> Array:
    """Lengths (2, p) of the interval of a slope below and above it; 0 where it has none."""
    low, middle, high = (slopes[f"{column}{end}"].to_numpy(float) for end in ("_low", "", "_high"))
    error: Array = np.nan_to_num(np.array([middle - low, high - middle])).clip(min=0.0)
    return error


def log_range(values: Array, least: float = 30.0) -> tuple[float, float]:
    """Ends of a logarithmic scale over the positive values, whose ratio is ``least`` or more; around 1 to 10 where there are none."""
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if positive.size else (1.0, 10.0)
    stretch = max(least / (high / low), 1.0) ** 0.5
    return float(low / stretch), float(high * stretch)


def value_range(values: Array, measure: Measure) -> tuple[float, float]:
    """Ends of the scale of a measure's values; around 0 to 1 where there are none, or they are all the same."""
    if measure.is_logarithmic:
        return log_range(values, least=4.0)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), min(finite.max(), measure.most)) if finite.size else (0.0, 1.0)
    return (float(low), float(high)) if low < high else (float(high) - 0.5, float(high) + 0.5)


def combined_regimes(slopes: pd.DataFrame) -> pd.DataFrame:
    """The regimes of W1 and W2 together, one row per point that has both: gamma, gamma_prime, W1, W2, regime.

    The regime is one of `COMBINED_REGIMES`; "undetermined" if one of the layers is, else "critical" if one of them is.
    """
    first, second = (select_layer(slopes, layer).set_index(POINT)["regime"] for layer in ("W1", "W2"))
    both = pd.DataFrame({"W1": first, "W2": second}).dropna()
    names = [_combined_name(*pair) for pair in both.itertuples(index=False, name=None)]
    return both.assign(regime=names).reset_index()


def _combined_name(first: str, second: str) -> str:
    for regime in ("undetermined", "critical"):
        if regime in (first, second):
            return regime
    return COMBINED_REGIMES[first, second]


def rule_lines(table: pd.DataFrame) -> list[theory.CriticalLine]:
    """The critical lines of the rule that belong on the map of a layer, in both norms, or on that of a whole network, those of all layers.

    Without any where the rule says nothing.
    """
    if table.empty:
        return []
    layer, depth, gamma_1 = (table[key].iloc[0] for key in ("layer", "depth", "gamma_1"))
    if depth not in theory.LAYERS:
        return []
    lines = theory.critical_lines(int(depth), float(gamma_1))
    return [line for line in lines if layer == NETWORK or layer in line.layers]


Distances = dict[str, dict[str, dict[str, dict[str, float]]]]


def rule_distances(slopes: pd.DataFrame, side: str = "linear") -> Distances:
    """How far the critical line of a measure lies, in gamma, from every line of the rule that is on its map.

    Args:
        slopes: rows as returned by `phasediag.fit`.
        side: as for `phasediag.critical_line`.

    Returns:
        layer -> line -> column ("slope", "slope_infinite") -> {"mean": mean |distance|, "max": largest, "rows": number of values of
        gamma_prime compared, "crossed": number of those where the line of the rule lies inside the map}.
    """
    return {
        str(layer): {line.name: _distances(of_layer, line, side) for line in rule_lines(of_layer)}
        for layer, of_layer in slopes.groupby("layer")
    }


def _distances(of_layer: pd.DataFrame, line: theory.CriticalLine, side: str) -> dict[str, dict[str, float]]:
    rows = of_layer.groupby("gamma_prime")["gamma"].agg(["min", "max"])
    rule = pd.Series(line.gamma(rows.index.to_numpy(float)), rows.index)
    rule = rule[(rows["min"] <= rule) & (rule <= rows["max"])]
    found = {}
    for column in LINE_SLOPES:
        if of_layer[column].notna().any():
            measured = critical_line(of_layer, of_layer["layer"].iloc[0], column, side)
            off = (measured.set_index("gamma_prime")["gamma"] - rule).abs().dropna()
            numbers = {"mean": off.mean(), "max": off.max(), "rows": len(off), "crossed": len(rule)}
            found[column] = {key: float(number) for key, number in numbers.items()}
    return found


def sides(measure: Measure) -> tuple[str, ...]:
    """The sides of the critical lines of a measure: two where its slopes can stay at 0 in between."""
    return ("linear", "condensed") if measure.levels_off else ("linear",)


def measured_line(of_layer: pd.DataFrame, plane: Plane, column: str, side: str = "linear") -> pd.DataFrame:
    """The measured critical line by gamma_prime (index), from the slopes of one layer: gamma, gamma_low, gamma_high, and NaN in rows
    of the grid without a crossing, which interrupt the line. Without rows if there is no crossing. An interval that is open at one end
    goes to the edge of the map there.
    """
    layer = next(iter(of_layer["layer"]), "")
    line = critical_line(of_layer, layer, column, side).set_index("gamma_prime")
    if line.empty:
        return line
    open_low, open_high = line["gamma_low"].isna(), line["gamma_high"].isna()
    left, right = plane.limits[0]
    line.loc[open_low & ~open_high, "gamma_low"] = left
    line.loc[open_high & ~open_low, "gamma_high"] = right
    return line.reindex(plane.rows_with(line.index))


# Neurons.


def neurons_of(sample: pd.Series[Any]) -> tuple[bool, list[Array], list[Array]]:
    """The m neurons of a row of ``samples/``.

    Returns:
        Whether their input weights have two components, bias last; the `orientation` of each if so, else its cosine with the
        `principal_direction` of the trained weights; the norm of its weights. Before and after training: two arrays (m,).
    """
    return places_of([_matrix(sample[f"input_{when}"]) for when in ("initial", "final")])


def places_of(weights: Sequence[Array]) -> tuple[bool, list[Array], list[Array]]:
    """Where neurons with these input weights are in the figure of features: a matrix (m, d + 1) per time, the last one after training.

    Returns:
        What `neurons_of` returns, with an array (m,) for each time.
    """
    amplitudes = [np.linalg.norm(one, axis=1) for one in weights]
    if weights[0].shape[1] == 2:
        return True, [orientation(one) for one in weights], amplitudes
    direction = principal_direction(weights[-1])
    return False, [_cosine(one, direction) for one in weights], amplitudes


def orientation(weights: Array) -> Array:
    """Orientation in (-pi, pi] of input weights (m, 2), bias last: ``sign(b) arccos(w / sqrt(w^2 + b^2))`` (m,)."""
    w, b = weights.T
    return np.asarray(np.where(b < 0, -1.0, 1.0) * np.arctan2(np.abs(b), w))


_MANY_INPUTS = 256
"""Beyond these, all singular vectors take minutes and one takes a second."""


def principal_direction(weights: Array) -> Array:
    """Unit vector (d + 1,) with the largest sum of squared inner products with the rows of ``weights`` (m, d + 1)."""
    if weights.shape[1] > _MANY_INPUTS:
        from scipy.sparse.linalg import svds  # scipy takes a while to import, and few figures need it

        start = np.random.default_rng(0).standard_normal(min(weights.shape))
        direction = svds(weights, k=1, v0=start, tol=1e-6, return_singular_vectors="vh")[2][0]
    else:
        direction = np.linalg.svd(weights, full_matrices=False)[2][0]
    # The sign is free: most of the weight points along the direction.
    return np.asarray(direction if (weights @ direction).sum() >= 0 else -direction)


def _cosine(weights: Array, direction: Array) -> Array:
    norms = np.linalg.norm(weights, axis=1)
    return np.asarray(weights @ direction / np.where(norms > 0, norms, 1.0))


def _matrix(rows: Any) -> Array:
    """Weights (m, d + 1) as Parquet gives them back, rows of rows, as one array."""
    return np.array([np.asarray(row, float) for row in rows])
