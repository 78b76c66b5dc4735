"""The difference of two phase diagrams on one grid: of their slopes, and of their critical lines. Frames in, frames out.

The same job of both studies is a pair. The slope is linear in log RD, so S_B - S_A is the slope of log(RD_B / RD_A) against log m: pairs
are fitted like runs. If the networks have as many layers and inputs, one seed has the same initial weights in both studies. Initial
weights cause most of the scatter, so it cancels in the ratio, and the interval of the difference is much shorter than the intervals of the
slopes suggest. If the initial weights differ, the scatter does not cancel. Pairing then does no harm: it does not matter which seeds make
a pair, and the interval is about as long as for two independent slopes.

Where scatter cancels, the error of training remains. The seeds of one width and point share this error, so a fit that takes runs for
independent would trust its slope too much. The interval of the plain difference therefore adds the error in quadrature. Like the interval
of a slope, it assumes equal scatter at all widths, and is a little short where the scatter differs. `phasediag.extrapolation` gives the
limit of infinite width unchanged, with its own error of training. For a ratio, this error and the amplitude of corrections are up to
sqrt(2) times larger. The amplitude is averaged over, from 0.01 to 4 in steps of 1.6, and a larger error counts as scatter or as
correction. In simulations of two independent errors and of two sets of corrections, about 95 % of the intervals contain the difference
(tests/test_comparison.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from ..errors import InputError
from ..storage.schema import require_columns
from .extrapolation import TRAINING_ERROR
from .fitting import CONFIDENCE, LINE_SLOPES, critical_line, fit, usable_runs

CELL = ["width", "gamma", "gamma_prime", "seed"]
"""The columns that identify a job of a study."""
_AXES = {"points": ["gamma", "gamma_prime"], "widths": ["width"], "seeds": ["seed"], "jobs": CELL}
_PAIR = ["layer", "gamma_1", *CELL]
_POINT = ["layer", "gamma", "gamma_prime", "gamma_1"]
_SIDES = ("a", "b")

Array = NDArray[np.float64]

DIFFERENCES = {"slope": "difference", "slope_infinite": "difference_infinite"}
"""The column of the difference of each slope; `_low` and `_high` are its interval."""


class Differences(NamedTuple):
    """What differs between two phase diagrams A and B; every difference is B - A.

    Attributes:
        slopes: one row per layer and point: depth_a, depth_b, layer, gamma, gamma_prime, gamma_1; the slopes slope_a, slope_b,
            and their difference with difference_low and difference_high, its 95 % interval; the same at infinite width
            (slope_infinite_a, slope_infinite_b, difference_infinite, ..._low, ..._high; NaN with fewer than four widths); widths and
            runs, the number of pairs in the fit; left_out, pairs with a run that cannot be used.
        lines: one row per layer, slope ("slope" or "slope_infinite") and gamma_prime at which either critical line exists:
            gamma_a with gamma_low_a and gamma_high_a, its band; predicted_a; the same columns for B; difference = gamma_b - gamma_a, with
            difference_low and difference_high. NaN where a line, its band or a prediction does not exist.
    """

    slopes: pd.DataFrame
    lines: pd.DataFrame


def compare(
    runs_a: pd.DataFrame, runs_b: pd.DataFrame, common: bool = False, names: Sequence[str] = ("A", "B")
) -> Differences:
    """Compare two phase diagrams: S_B - S_A at every point, and the critical lines.

    Slopes and lines use only pairs of runs that are both usable (`phasediag.fitting.usable_runs`). The difference is
    slope_b - slope_a. The limit is not linear in the data: difference_infinite, which has the interval, is only close to
    slope_infinite_b - slope_infinite_a. The band of a line's difference adds the half-widths of both bands in quadrature, and is
    too wide where the studies share their initial weights.

    Args:
        runs_a: one row per run and layer, with the columns that `phasediag.fit` needs, and seed.
        runs_b: the rows of the other study.
        common: whether to compare the common part if the grids differ, instead of refusing. Only common layers are compared.
        names: names of the two studies in messages.

    Raises:
        InputError: a column is missing, or rows repeat; the rows are of condensation studies, or of planes with different gamma_1;
            the grids differ, or have nothing in common.
    """
    for name, runs in zip(names, (runs_a, runs_b), strict=True):
        _check_runs(runs, name)
    both = " and ".join(names)
    _check_planes(runs_a, runs_b, both)
    check_grids(runs_a[CELL], runs_b[CELL], common, names)
    pairs = _pairs(runs_a, runs_b, both)
    slopes_a, slopes_b = (_fit(pairs, side, pairs[f"relative_change_{side}"]) for side in _SIDES)
    ratio = _fit(pairs, "a", pairs["relative_change_b"] / pairs["relative_change_a"])
    half_width = np.hypot((ratio["slope_high"] - ratio["slope_low"]) / 2.0, _error_of_training(pairs))
    ratio = ratio.assign(slope_low=ratio["slope"] - half_width, slope_high=ratio["slope"] + half_width)
    return Differences(_slope_differences(slopes_a, slopes_b, ratio), _line_differences(slopes_a, slopes_b))


def check_grids(
    cells_a: pd.DataFrame, cells_b: pd.DataFrame, common: bool = False, names: Sequence[str] = ("A", "B")
) -> None:
    """Raises `InputError` if two grids differ, or, where they may, if they have nothing in common.

    Args:
        cells_a: the jobs of a study, with the columns `CELL`; they may repeat.
        cells_b: of the other study.
        common: whether the grids may differ.
        names: what to call the two in the message.
    """
    for what, columns in _AXES.items():
        a, b = (set(cells[columns].itertuples(index=False, name=None)) for cells in (cells_a, cells_b))
        if not a & b:
            raise InputError(
                f"{names[0]} and {names[1]} have no {what} in common (e.g. {_shown(a)} and {_shown(b)}); "
                f"allowed: studies of the same {what}"
            )
        if a != b and not common:
            differ = [*_missing(what, a, b, names[0], names[1]), *_missing(what, b, a, names[1], names[0])]
            raise InputError(
                f"{'; '.join(differ)}; allowed: the same grid, or --common (common=True) for what both have"
            )


def _missing(
    what: str, mine: set[tuple[Any, ...]], others: set[tuple[Any, ...]], name: str, other: str
) -> Iterator[str]:
    if lacking := mine - others:
        yield f"{len(lacking)} of {len(mine)} {what} of {name} are not in {other}, e.g. {_shown(lacking)}"


def _shown(cells: set[tuple[Any, ...]]) -> str:
    values = ", ".join(f"{value:.10g}" for value in min(cells)) if cells else "none"
    return f"({values})" if "," in values else values


def _check_runs(runs: pd.DataFrame, name: str) -> None:
    require_columns(runs, [*_PAIR, "depth", "relative_change", "status"], name)
    if runs.duplicated(_PAIR).any() or runs["depth"].nunique() > 1:
        raise InputError(f"{name}: rows of several studies; allowed: one row per job and layer, of one depth")


def _check_planes(runs_a: pd.DataFrame, runs_b: pd.DataFrame, both: str) -> None:
    planes = {*runs_a["gamma_1"], *runs_b["gamma_1"]}
    if len(planes) > 1:
        shown = ", ".join(f"{plane:g}" for plane in sorted(planes))
        raise InputError(f"{both}: gamma_1: {shown}; allowed: one plane, the same in both studies")


def _pairs(runs_a: pd.DataFrame, runs_b: pd.DataFrame, both: str) -> pd.DataFrame:
    """One row per job and layer of both studies; relative changes are NaN unless both can be used."""
    columns = [*_PAIR, "depth", "relative_change", "usable"]
    a, b = (runs.assign(usable=usable_runs(runs))[columns] for runs in (runs_a, runs_b))
    pairs = a.merge(b, on=_PAIR, suffixes=("_a", "_b"))
    if pairs.empty:
        raise InputError(f"{both} have no layers in common; allowed: studies with a common layer")
    changes = ["relative_change_a", "relative_change_b"]
    pairs[changes] = pairs[changes].where(pairs["usable_a"] & pairs["usable_b"])
    return pairs


def _fit(pairs: pd.DataFrame, side: str, change: pd.Series[float]) -> pd.DataFrame:
    """Slopes of a quantity of the pairs, in an order that does not depend on the quantity."""
    return fit(pairs.assign(depth=pairs[f"depth_{side}"], relative_change=change, status="converged"))


def _error_of_training(pairs: pd.DataFrame) -> Array:
    """Half-width, at every point, of the 95 % interval of a slope from the training errors of two studies, independent at every width."""
    widths = pairs.assign(x=np.log(pairs["width"]).where(pairs["relative_change_a"].notna()))
    spread = widths.drop_duplicates([*_POINT, "width", "x"]).groupby(_POINT)["x"]
    squares = (spread.var(ddof=0) * spread.count()).where(spread.nunique() > 1)
    error: Array = ndtri((1.0 + CONFIDENCE) / 2.0) * np.sqrt(2.0 / squares.to_numpy(float)) * TRAINING_ERROR
    return error


def _slope_differences(slopes_a: pd.DataFrame, slopes_b: pd.DataFrame, ratio: pd.DataFrame) -> pd.DataFrame:
    table = ratio[_POINT].copy()
    table.insert(0, "depth_a", slopes_a["depth"])
    table.insert(1, "depth_b", slopes_b["depth"])
    for slope, difference in DIFFERENCES.items():
        table[f"{slope}_a"], table[f"{slope}_b"] = slopes_a[slope], slopes_b[slope]
        for end in ("", "_low", "_high"):
            table[f"{difference}{end}"] = ratio[f"{slope}{end}"]
    counts = ["widths", "runs", "left_out"]
    return table.join(ratio[counts])


def _line_differences(slopes_a: pd.DataFrame, slopes_b: pd.DataFrame) -> pd.DataFrame:
    lines = [
        _line_difference(
            critical_line(slopes_a, layer, column), critical_line(slopes_b, layer, column)
        ).assign(layer=layer, slope=column)
        for layer in slopes_a["layer"].unique()
        for column in LINE_SLOPES
    ]
    table = pd.concat(lines, ignore_index=True)
    return table[["layer", "slope", *table.columns.drop(["layer", "slope"])]]


def _line_difference(line_a: pd.DataFrame, line_b: pd.DataFrame) -> pd.DataFrame:
    """Both critical lines of a layer, and gamma_b - gamma_a with its band."""
    lines = line_a.drop(columns="distance").merge(
        line_b.drop(columns="distance"), how="outer", on="gamma_prime", suffixes=("_a", "_b")
    )
    difference = lines["gamma_b"] - lines["gamma_a"]
    below = np.hypot(lines["gamma_b"] - lines["gamma_low_b"], lines["gamma_high_a"] - lines["gamma_a"])
    above = np.hypot(lines["gamma_high_b"] - lines["gamma_b"], lines["gamma_a"] - lines["gamma_low_a"])
    return lines.assign(
        difference=difference, difference_low=difference - below, difference_high=difference + above
    )


def differs(table: pd.DataFrame, column: str = "difference") -> pd.Series[bool]:
    """True where the interval of a difference excludes 0."""
    excludes: pd.Series[bool] = (table[f"{column}_low"] > 0.0) | (table[f"{column}_high"] < 0.0)
    return excludes


def deciding_slope(slopes: pd.DataFrame) -> str:
    """The slope to show: "slope_infinite" where its difference is known, else "slope"."""
    known = np.isfinite(slopes["difference_infinite_low"]).sum() > 1
    return "slope_infinite" if known else "slope"


def summarise(found: Differences) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """What differs, in few numbers.

    Returns:
        {"slopes": layer -> slope -> numbers, "critical_lines": the same}, where slope is "slope", and "slope_infinite" where
        there is any. The numbers: "number" of points, or of rows of the map with a crossing, that have a difference; "of" so
        many; "mean" difference; "mean_size" and "max_size", mean and largest |difference|; "differ", the number of points whose
        interval excludes 0. NaN where there is nothing to average.
    """
    summary: dict[str, dict[str, dict[str, dict[str, float]]]] = {"slopes": {}, "critical_lines": {}}
    for layer, slopes in found.slopes.groupby("layer"):
        shown = [
            slope for slope in LINE_SLOPES if slope == "slope" or slopes[DIFFERENCES[slope]].notna().any()
        ]
        lines = found.lines.loc[found.lines["layer"] == layer]
        summary["slopes"][str(layer)] = {slope: _numbers(slopes, DIFFERENCES[slope]) for slope in shown}
        summary["critical_lines"][str(layer)] = {
            slope: _numbers(lines.loc[lines["slope"] == slope], "difference") for slope in shown
        }
    return summary


def _numbers(table: pd.DataFrame, column: str) -> dict[str, float]:
    difference = table[column].dropna()
    return {
        "number": len(difference),
        "of": len(table),
        "mean": float(difference.mean()),
        "mean_size": float(difference.abs().mean()),
        "max_size": float(difference.abs().max()),
        "differ": int(differs(table, column).sum()),
    }
