"""From runs to slopes: log-log fits of a measure, regimes, and the measured critical line."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError, choices, hint
from ..storage.schema import STATUSES, require_columns
from . import theory
from .columns import MEASURE, SLOPES
from .extrapolation import LEAST_WIDTHS, infinite_width_slopes
from .measures import MEASURES, NETWORK, RELATIVE_CHANGE, Measure, power_named

Array = NDArray[np.float64]
Line = Callable[[Array], Array]
"""A critical line: gamma at given gamma_prime."""

POINT = ["gamma", "gamma_prime"]
POINT_KEYS = ["depth", "layer", "gamma", "gamma_prime", "gamma_1"]
LINE_COLUMNS = ["gamma_prime", "gamma", "gamma_low", "gamma_high", "predicted", "distance"]
LINE_SLOPES = ("slope", "slope_infinite")
"""The slopes whose zero is a critical line: the plain slope, and the slope at infinite width."""
DEFAULTS: dict[str, Any] = {"depth": 2, "gamma_1": 0.0, "status": "converged"}
"""Columns of runs that a reader's own table may lack, and what they then hold."""
OPTIONAL = (*DEFAULTS, "seed", "neurons")
"""Columns of runs that are used if they are there."""
REGIMES = ("linear", "critical", "condensed", "undetermined")

CONFIDENCE = 0.95
CRITICAL_HALF_WIDTH = 0.05


def fit(runs: pd.DataFrame, measure: str = "relative_change") -> pd.DataFrame:
    """Fit the slope ``S = d log q / d log m`` of a measure q, the relative change by default, of every layer at every point of the plane.

    The plain slope is the ordinary least-squares fit of log(measure) on log(width) over all converged runs of
    a layer at a point; every seed of every width counts once. Represented networks of one seed and number of neurons have the same
    initial weights at every width: each such seed has its own intercept, and all whole networks share one. The 95 % interval is
    Student's with ``runs - intercepts - 1`` degrees of freedom. Runs that did not converge, or whose measure is not a
    positive number, are left out and counted. The slope is NaN where no intercept has two widths, its interval also without a degree of
    freedom. `phasediag.phase_diagram.extrapolation` gives the slope at infinite width, with its interval; NaN with fewer than four
    widths.

    Args:
        runs: one row per run and layer, with the columns layer, gamma, gamma_prime, width and the measure's. Without them, depth is 2,
            gamma_1 is 0 and every status is "converged"; layers other than W1 and a need depth. With seed, a run that appears
            twice is an error; represented networks need neurons and seed. Other columns are ignored, with a warning if a name is nearly
            one of these.
        measure: the column to fit: relative_change, relative_change_spectral (in the operator norm), kernel_change, linear_gap,
            linear_gap_test, time_half or time.

    Returns:
        One row per layer and point, sorted, with the columns of ``slopes.parquet`` (`phasediag.phase_diagram.columns.SLOPES`). Where the
        measure is not the relative change, the first column, measure, is its name, by which maps and lines know it. A measure of
        the whole network has one row per point, whose layer is "network". regime is "" where the sign of S means no regime (time,
        time_half); predicted_slope is NaN and predicted_regime "" where nothing is predicted.

    Raises:
        InputError: runs are no table, columns are missing (the message names all of them), a value is not a number where one belongs,
            a status is unknown, a measure is negative, a width is not above 0, a run appears twice, or gamma_1 of two layers is not
            0. A message on values names the column, and says how many rows hold such values. Or the measure is none of these.
    """
    of = power_named(measure)
    runs = complete_runs(runs, measure)
    if "seed" in runs:
        keys = [*POINT_KEYS, "width", "seed", *(["neurons"] if "neurons" in runs else [])]
        twice = runs.loc[runs.duplicated(keys), keys]
        if len(twice):
            which = ", ".join(f"{key} {value}" for key, value in twice.iloc[0].items())
            raise InputError(
                f"runs: duplicate rows: {len(twice)}, the first {which}; allowed: one per layer of a run"
            )
    if ((runs["depth"] == 2) & (runs["gamma_1"] != 0)).any():
        raise InputError(
            "runs: gamma_1 of networks of two layers is not 0; allowed: 0, they have no weights between hidden layers"
        )
    return slopes_of(measured_rows(runs, of), of)


def complete_runs(runs: pd.DataFrame, measure: str = RELATIVE_CHANGE.name) -> pd.DataFrame:
    """Runs with all columns that fits and figures need, of numbers where numbers belong.

    Args:
        runs: as for `fit`.
        measure: the column that is fitted or shown.

    Raises:
        InputError: runs are no table, lack a column without a default, or hold values that are not allowed.
    """
    two_layers = (
        isinstance(runs, pd.DataFrame) and runs.get("layer", pd.Series()).isin(theory.LAYERS[2]).all()
    )
    needed = [key for key in POINT_KEYS if key not in DEFAULTS or (key == "depth" and not two_layers)]
    needed += ["width", measure, *(["seed"] if "neurons" in runs else [])]
    others = [name for name in MEASURES if name != measure]  # no slip of the pen for one another
    asked = runs.drop(columns=others, errors="ignore") if isinstance(runs, pd.DataFrame) else runs
    require_columns(asked, needed, why={"depth": "layers other than W1 and a need depth"})
    absent = [key for key in OPTIONAL if key not in runs]
    for near in runs.columns.difference([*POINT_KEYS, *OPTIONAL, "width", "relative_change"], sort=False):
        if question := hint(near, absent):  # it would change what is fitted
            warnings.warn(f"runs: column {near!r} is ignored; {question.strip()}", stacklevel=3)
    runs = runs.assign(**{key: value for key, value in DEFAULTS.items() if key not in runs})
    _refuse(
        runs["layer"],
        [not isinstance(name, str) for name in runs["layer"]],
        "allowed: names, such as W1, W2, a",
    )
    unknown = ~runs["status"].isin(STATUSES)
    _refuse(runs["status"], unknown, choices(next(iter(runs.loc[unknown, "status"]), None), STATUSES))
    numeric = [key for key in (*POINT_KEYS, "width", "neurons") if key in runs and key != "layer"]
    runs = runs.assign(**{key: _numbers(runs[key]) for key in [*numeric, measure]})
    values = {key: runs[key].to_numpy(float, na_value=np.nan) for key in [*numeric, measure]}
    for key in numeric:
        _refuse(runs[key], ~np.isfinite(values[key]), "allowed: finite numbers")
        if key in ("width", "neurons"):
            _refuse(runs[key], values[key] <= 0, "allowed: numbers above 0")
    of_none = (values["depth"] < 2) & (values["depth"] != 0) | (values["depth"] % 1 > 0)
    _refuse(runs["depth"], of_none, "allowed: whole numbers from 2, and 0 of modules")
    _refuse(runs[measure], values[measure] < 0, "allowed: numbers from 0, and NaN where there is none")
    return runs


def _numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column of numbers, if it holds nothing else."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    _refuse(column, [not isinstance(value, Real) for value in column], "allowed: numbers")
    return pd.to_numeric(column.astype(object))


def _refuse(column: pd.Series[Any], wrong: ArrayLike, allowed: str) -> None:
    """Raises `InputError` if values of a column are wrong: it shows the first one, and says how many rows hold such values."""
    values = column[np.asarray(wrong, dtype=bool)]
    if len(values):
        rows, first = f"in {len(values)} of {len(column)} rows", values.iloc[0]
        shown = first if isinstance(first, Real) else repr(first)
        raise InputError(f"runs: {column.name}: {shown} is not supported, {rows}; {allowed}")


def slopes_of(runs: pd.DataFrame, measure: Measure = RELATIVE_CHANGE) -> pd.DataFrame:
    """What `fit` returns, of the rows that a measure is read from, if they are known to be as it wants them.

    A run may be there more than once, and then counts as often.
    """
    usable = usable_runs(runs, measure)
    points = runs.groupby(POINT_KEYS)
    point = points.ngroup().to_numpy()
    slopes = points.size().index.to_frame(index=False)
    used = runs.loc[usable]
    logs = _Logs.of(
        point[usable],
        len(slopes),
        _groups(used),
        used["width"].to_numpy(float),
        used[measure.name].to_numpy(float),
    )
    slopes["left_out"] = np.bincount(point, ~usable, len(slopes)).astype("int64")
    slopes = slopes.assign(**_log_log_fits(logs), **_infinite_width_fits(logs))
    slopes = _with_regimes(slopes, measure)[SLOPES.names]
    if measure is not RELATIVE_CHANGE:
        slopes.insert(0, MEASURE.name, pd.Series(measure.name, index=slopes.index, dtype="str"))
    return slopes


def measured_rows(runs: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """The rows that a measure is read from: all of them, or, if it belongs to the whole network, `network_rows`."""
    return runs if measure.of_layers else network_rows(runs)


def network_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run, which stands for the whole network: that of one layer, as "network"."""
    first = runs.groupby("depth")["layer"].transform("first")
    return runs.loc[runs["layer"] == first].assign(layer=NETWORK)


def usable_runs(runs: pd.DataFrame, measure: Measure = RELATIVE_CHANGE) -> pd.Series[bool]:
    """True for the runs of which a measure is used: converged, with a finite value; of a power of the width, one above its resolution."""
    value = runs[measure.name]
    usable: pd.Series[bool] = (runs["status"] == "converged") & np.isfinite(value)
    return usable & (value > measure.resolution) if measure.is_power else usable


def _groups(runs: pd.DataFrame) -> NDArray[np.intp]:
    """Which runs (r,) share an intercept: 0 of whole networks; represented ones of one seed and number of neurons are the same draws."""
    groups = np.zeros(len(runs), dtype=np.intp)
    if "neurons" in runs:
        represented = (runs["neurons"] < runs["width"]).to_numpy()
        groups[represented] = 1 + runs.loc[represented].groupby(["neurons", "seed"]).ngroup().to_numpy()
    return groups


@dataclass(frozen=True)
class _Logs:
    """Runs in logarithms, r of them, at p points, in g groups and at k widths.

    Attributes:
        x, y: (r,) log(width) and log(relative change), each less its mean over the runs of a group at a point.
        point: (r,) index of the point of a run.
        widths: (k,) ascending.
        counts: (p, g, k) runs.
        means: (p, g, k) mean of log(relative change); NaN where there is no run.
        squares: (p, k) sum of squared deviations from these means.
    """

    x: Array
    y: Array
    point: NDArray[np.integer[Any]]
    widths: Array
    counts: NDArray[np.integer[Any]]
    means: Array
    squares: Array

    @classmethod
    def of(
        cls,
        point: NDArray[np.integer[Any]],
        points: int,
        group: NDArray[np.intp],
        width: Array,
        change: Array,
    ) -> _Logs:
        widths, column = np.unique(width, return_inverse=True)
        groups = int(group.max(initial=0)) + 1
        x, y, block = np.log(width), np.log(change), point * groups + group
        cell, cells = block * len(widths) + column, points * groups * len(widths)
        counts = np.bincount(cell, minlength=cells)
        with np.errstate(invalid="ignore"):
            means = np.bincount(cell, y, cells) / counts
            of_group = [np.bincount(block, values) / np.bincount(block) for values in (x, y)]
        shape, at_width = (points, groups, len(widths)), points * len(widths)
        squares = np.bincount(point * len(widths) + column, np.square(y - means[cell]), at_width)
        return cls(
            x - of_group[0][block],
            y - of_group[1][block],
            point,
            widths,
            counts.reshape(shape),
            means.reshape(shape),
            squares.reshape(points, len(widths)).astype(float, copy=False),
        )

    def sum(self, values: Array) -> Array:
        """Sums (p,) of what the runs have, by point."""
        return np.bincount(self.point, values, len(self.counts)).astype(float, copy=False)


def _log_log_fits(logs: _Logs) -> dict[str, NDArray[Any]]:
    """Numbers of widths and runs, least-squares slope of y on x and its interval (p,), from centred sums."""
    from scipy.special import stdtrit  # a tenth of a second, for which only fits wait

    there = logs.counts > 0
    widths, runs = there.any(axis=1).sum(axis=1), logs.counts.sum(axis=(1, 2))
    intercepts, sloped = there.any(axis=2).sum(axis=1), (there.sum(axis=2) > 1).any(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        xx, xy, yy = logs.sum(logs.x**2), logs.sum(logs.x * logs.y), logs.sum(logs.y**2)
        slope = np.where(sloped, xy / xx, np.nan)
        freedom = np.where(runs > intercepts + 1, runs - intercepts - 1.0, np.nan)
        residual = np.maximum(yy - slope * xy, 0.0)
        half_width = stdtrit(freedom, (1 + CONFIDENCE) / 2) * np.sqrt(residual / freedom / xx)
    return {
        "widths": widths,
        "runs": runs,
        "slope": slope,
        "slope_low": slope - half_width,
        "slope_high": slope + half_width,
    }


def _infinite_width_fits(logs: _Logs) -> dict[str, Array]:
    """slope_infinite and its interval (p,), all points that have the same runs together."""
    found = np.full((3, len(logs.counts)), np.nan)
    patterns, members = np.unique(logs.counts, axis=0, return_inverse=True)
    for index, counts in enumerate(patterns):
        points, widths, groups = (
            np.flatnonzero(members.ravel() == index),
            np.flatnonzero(counts.any(axis=0)),
            np.flatnonzero(counts.any(axis=1)),
        )
        if len(widths) >= LEAST_WIDTHS:
            found[:, points] = infinite_width_slopes(
                logs.widths[widths],
                counts[np.ix_(groups, widths)],
                logs.means[np.ix_(points, groups, widths)],
                logs.squares[np.ix_(points, widths)],
                CONFIDENCE,
            )
    return dict(zip(("slope_infinite", "slope_infinite_low", "slope_infinite_high"), found, strict=True))


def _with_regimes(slopes: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    points = slopes[["layer", "depth", "gamma", "gamma_prime", "gamma_1"]].to_numpy(object)
    predicted = [_prediction(point, measure.operator_norm) for point in points]
    measured = regimes(slopes) if measure.has_regimes else ""
    return slopes.assign(
        regime=pd.Series(measured, index=slopes.index, dtype="str"),
        predicted_slope=pd.Series([slope for slope, _ in predicted], index=slopes.index, dtype="float64"),
        predicted_regime=pd.Series([regime for _, regime in predicted], index=slopes.index, dtype="str"),
    )


def _prediction(point: Any, operator_norm: bool | None) -> tuple[float, str]:
    """The predicted slope and regime at (layer, depth, gamma, gamma_prime, gamma_1); NaN and "" where the rule says nothing."""
    layer, depth, gamma, gamma_prime, gamma_1 = point
    if operator_norm is None or not theory.is_known(layer, depth):
        return np.nan, ""
    at = layer, depth, gamma, gamma_prime, gamma_1, operator_norm
    return theory.predicted_slope(*at), theory.predicted_regime(*at)


def regimes(slopes: pd.DataFrame) -> NDArray[np.str_]:
    """The measured regime of every row of ``slopes``.

    The interval of the infinite-width slope decides where it is finite, the plain one elsewhere:

    1. "linear" if it lies wholly below 0;
    2. "condensed" if it lies wholly above 0;
    3. "critical" if it lies wholly inside [-0.05, 0.05];
    4. "undetermined" otherwise, and where there is no interval.

    The first that holds counts: an interval wholly inside +-0.05 that excludes 0 has settled the sign of the slope,
    so it is "linear" or "condensed", not "critical".
    """
    low, high = _deciding_interval(slopes)
    conditions = [high < 0.0, low > 0.0, (low >= -CRITICAL_HALF_WIDTH) & (high <= CRITICAL_HALF_WIDTH)]
    return np.select(conditions, ["linear", "condensed", "critical"], default="undetermined")


def _deciding_interval(slopes: pd.DataFrame) -> tuple[Array, Array]:
    low, high = (slopes[f"slope_infinite_{end}"].to_numpy(float) for end in ("low", "high"))
    finite = np.isfinite(low) & np.isfinite(high)
    plain_low, plain_high = (slopes[f"slope_{end}"].to_numpy(float) for end in ("low", "high"))
    return np.where(finite, low, plain_low), np.where(finite, high, plain_high)


def regime_counts(slopes: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many points of every layer are in every regime: layer -> regime -> count, absent regimes as 0."""
    return {
        str(layer): {regime: int((of_layer["regime"] == regime).sum()) for regime in REGIMES}
        for layer, of_layer in slopes.groupby("layer")
    }


def critical_line(
    slopes: pd.DataFrame, layer: str, column: str = "slope", side: str = "linear"
) -> pd.DataFrame:
    """The measured critical line of a layer: where its slope crosses 0 along gamma, row by row of the map.

    At every gamma_prime the slope is interpolated between neighbouring gammas. The line is the crossing from the linear (negative) to the
    condensed (positive) side; of several crossings, the middle one. Slopes of the limit have a kink on the line, so two straight lines
    through the pairs of points on both sides interpolate, where they meet in between, else one straight line (subcell
    resolution; Harten, Journal of Computational Physics 1989). The 95 % band comes from the crossings of the upper and the lower ends of
    the slopes' intervals, and includes the crossing of the one straight line.

    The slopes of kernel_change, linear_gap and linear_gap_test can stay at 0 beyond the linear regime. Their line is where they reach 0:
    the first point with a slope above -0.05 ends the linear regime, and the straight line through the two points before it is continued to
    0, no further than the next point. Where the condensed regime begins, they have another one.

    Args:
        slopes: rows as returned by `fit`, of one measure, one depth and one gamma_1.
        layer: the layer; "network" for a measure of the whole network.
        column: "slope" or "slope_infinite".
        side: which regime the line bounds, "linear" or "condensed"; it is the same line unless slopes stay at 0 in between.

    Returns:
        One row per gamma_prime with a crossing, sorted: gamma_prime; gamma of the crossing; gamma_low and gamma_high,
        its band (NaN where that end does not cross within the map); predicted, the gamma of the predicted line (NaN
        where there is none); distance = gamma - predicted, NaN where the predicted line lies outside the gammas of
        the map.

    Raises:
        InputError: the rows of the layer are of several planes, ``slopes`` lacks columns, or ``column`` is not one of the two.
    """
    if column not in LINE_SLOPES:
        raise InputError(f"column: {column!r} is not supported; {choices(column, LINE_SLOPES)}")
    if side not in _SIDES:
        raise InputError(f"side: {side!r} is not supported; {choices(side, _SIDES)}")
    require_columns(slopes, [*POINT_KEYS, *(f"{column}{end}" for end in ("", "_low", "_high"))], "slopes")
    of_layer = slopes.loc[slopes["layer"] == layer]
    require_one_plane(of_layer)
    names = ["gamma_prime", "gamma", *(f"{column}{end}" for end in ("", "_low", "_high"))]
    points = np.column_stack([of_layer[name].to_numpy(float) for name in names])
    points = points[np.lexsort(points[:, 1::-1].T)]
    primes, first = np.unique(points[:, 0], return_index=True)
    rows = np.split(points[:, 1:], first[1:]) if len(points) else []
    crossing = _SIDES[side] if measure_of(of_layer).levels_off else _crossing
    gamma, low, high = np.array([crossing(*row.T) for row in rows]).reshape(-1, 3).T
    predicted = _predicted_gammas(of_layer, primes)
    inside = (points[:, 1].min(initial=np.inf) <= predicted) & (
        predicted <= points[:, 1].max(initial=-np.inf)
    )
    distance = np.where(inside, gamma - predicted, np.nan)
    lines = np.column_stack([primes, gamma, low, high, predicted, distance])
    return pd.DataFrame(lines[np.isfinite(gamma)], columns=LINE_COLUMNS)


def _crossing(gamma: Array, slope: Array, slope_low: Array, slope_high: Array) -> tuple[float, float, float]:
    """gamma of the crossing in a row of the map, and the ends of its band."""
    crossing, straight = _upward_crossing(gamma, slope)
    # The upper end of a rising slope's interval reaches 0 first.
    low, high = (_upward_crossing(gamma, end)[0] for end in (slope_high, slope_low))
    return (
        crossing,
        low if np.isnan(low) else min(low, straight),
        high if np.isnan(high) else max(high, straight),
    )


def _end_of_linear(
    gamma: Array, slope: Array, slope_low: Array, slope_high: Array
) -> tuple[float, float, float]:
    """gamma at which slopes that stay at 0 reach it in a row of the map, and the ends of its band."""
    reached, *ends = (_reach(gamma, values) for values in (slope, slope_high, slope_low))
    return reached, min(ends[0], reached), max(ends[1], reached)


def _begin_of_condensed(
    gamma: Array, slope: Array, slope_low: Array, slope_high: Array
) -> tuple[float, float, float]:
    """gamma at which slopes leave 0 for good, and the ends of its band: where they reach it from the other side."""
    left, low, high = _end_of_linear(*(-values[::-1] for values in (gamma, slope, slope_high, slope_low)))
    return -left, -high, -low


_SIDES = {"linear": _end_of_linear, "condensed": _begin_of_condensed}


def _reach(gamma: Array, slope: Array) -> float:
    """Where the slope reaches 0 from below along gamma; NaN if it never does, or is not below 0 at first."""
    finite = np.isfinite(slope)
    gamma, slope = gamma[finite], slope[finite]
    (there,) = np.nonzero(slope > -CRITICAL_HALF_WIDTH)
    if not there.size or there[0] == 0:
        return np.nan
    i = int(
        there[0]
    )  # the two points of the line are those before it, or, of the second point of the row, the first two
    before = max(i - 1, 1)
    rise = (slope[before] - slope[before - 1]) / (gamma[before] - gamma[before - 1])
    last = i if slope[i] >= 0.0 else min(i + 1, len(gamma) - 1)
    if rise <= 0.0:
        return float(gamma[i])
    return float(np.clip(gamma[i - 1] - slope[i - 1] / rise, gamma[i - 1], gamma[last]))


def count_predicted_rows(slopes: pd.DataFrame, layer: str) -> int:
    """Number of values of gamma_prime at which the predicted critical line of a layer lies inside the map.

    Rows of few points, placed near a measured line, count if that line can be compared there.
    """
    line, of_layer = critical_line(slopes, layer), slopes.loc[slopes["layer"] == layer]
    rows = of_layer.groupby("gamma_prime")["gamma"].agg(["min", "max"])
    predicted = _predicted_gammas(of_layer, rows.index.to_numpy(float))
    compared = rows.index.isin(line.loc[line["distance"].notna(), "gamma_prime"])
    return int((compared | (rows["min"] <= predicted) & (predicted <= rows["max"])).sum())


def _predicted_gammas(of_layer: pd.DataFrame, gamma_primes: Array) -> Array:
    """The predicted critical line of a layer at some gamma_prime; NaN where there is none."""
    line = predicted_line(of_layer)
    return np.full(len(gamma_primes), np.nan) if line is None else line(gamma_primes)


def measure_of(slopes: pd.DataFrame) -> Measure:
    """The measure that slopes were fitted to. Raises `InputError` if there are several, or it is unknown."""
    if MEASURE.name not in slopes:
        return RELATIVE_CHANGE
    names = list(dict.fromkeys(slopes[MEASURE.name].fillna(RELATIVE_CHANGE.name)))
    if len(names) > 1:
        raise InputError(f"slopes: rows of {len(names)} measures ({', '.join(names)}); allowed: of one")
    return power_named(names[0]) if names else RELATIVE_CHANGE


def predicted_line(of_layer: pd.DataFrame) -> Line | None:
    """The predicted critical line for the slopes of one layer, in the norm of their measure; None where there is none."""
    if of_layer.empty:
        return None
    layer, depth, gamma_1 = (of_layer[key].iloc[0] for key in ("layer", "depth", "gamma_1"))
    operator_norm = measure_of(of_layer).operator_norm
    if operator_norm is None or not theory.is_known(layer, depth):
        return None
    return lambda gamma_prime: theory.critical_gamma(layer, depth, gamma_prime, gamma_1, operator_norm)


def _upward_crossing(gamma: Array, slope: Array) -> tuple[float, float]:
    """Where the slope goes from <= 0 to > 0 along gamma (the middle one of several), with a kink on the line where the points on both sides
    ask for one, and by a straight line; NaN if it never does."""
    finite = np.isfinite(slope)
    gamma, slope = gamma[finite], slope[finite]
    (before,) = np.nonzero((slope[:-1] <= 0.0) & (slope[1:] > 0.0))
    if not before.size:
        return np.nan, np.nan
    i = before[(before.size - 1) // 2]
    rises, step = np.diff(slope) / np.diff(gamma), gamma[i + 1] - gamma[i]
    straight = float(gamma[i] - slope[i] / rises[i])
    if not 0 < i < len(rises) - 1 or rises[i - 1] == rises[i + 1]:
        return straight, straight
    left, right = rises[i - 1], rises[i + 1]
    ahead = (slope[i + 1] - slope[i] - right * step) / (left - right)
    if not 0.0 < ahead < step:
        return straight, straight
    if slope[i] + left * ahead > 0.0:
        return float(gamma[i] - slope[i] / left), straight
    return float(gamma[i + 1] - slope[i + 1] / right), straight


def line_distance(line: pd.DataFrame) -> tuple[float, float, int]:
    """(mean, largest, number) of the distances in gamma between the measured and the predicted critical line.

    Args:
        line: as returned by `critical_line`; rows whose predicted line lies outside the map do not count.

    Returns:
        mean |distance|, max |distance| (both NaN if no row counts), and the number of rows that count.
    """
    distance = line["distance"].abs().dropna()
    return float(distance.mean()), float(distance.max()), len(distance)


def line_distances(slopes: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """How far the measured critical line of each layer lies from the predicted one, in gamma.

    Returns:
        layer -> column ("slope", and "slope_infinite" where there is any) -> {"mean": mean |distance|, "max": largest, "rows":
        number of values of gamma_prime compared, "crossed": number of those where the predicted line lies inside the
        map}; NaN where nothing can be compared.
    """
    distances: dict[str, dict[str, dict[str, float]]] = {}
    for depth, layer in slopes[["depth", "layer"]].drop_duplicates().itertuples(index=False):
        if not theory.is_known(layer, depth):
            continue
        distances[str(layer)] = {}
        crossed = count_predicted_rows(slopes, layer)
        for column in LINE_SLOPES:
            if slopes.loc[slopes["layer"] == layer, column].notna().any() or column == "slope":
                mean, largest, rows = line_distance(critical_line(slopes, layer, column))
                found = {"mean": mean, "max": largest, "rows": rows, "crossed": crossed}
                distances[str(layer)][column] = found
    return distances


def select_layer(table: pd.DataFrame, layer: str) -> pd.DataFrame:
    """The rows of a layer.

    Raises:
        InputError: there are none.
    """
    of_layer = table.loc[table["layer"] == layer]
    if of_layer.empty:
        raise InputError(f"layer: {layer!r} has no rows; {choices(layer, sorted(set(table['layer'])))}")
    return of_layer


def require_one_plane(of_layer: pd.DataFrame) -> None:
    """Raises `InputError` if slopes are of several measures, depths or gamma_1: no map and no line is theirs."""
    measure_of(of_layer)
    planes = dict.fromkeys(zip(of_layer["depth"], of_layer["gamma_1"], strict=True))
    if len(planes) > 1:
        found = "; ".join(f"depth = {depth}, gamma_1 = {g:g}" for depth, g in planes)
        raise InputError(
            f"slopes: rows of {len(planes)} planes ({found}); allowed: rows of one depth and one gamma_1"
        )


def points_of(table: pd.DataFrame) -> pd.DataFrame:
    """The distinct points of the plane."""
    return table[POINT].drop_duplicates()
