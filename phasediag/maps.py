"""Maps over the plane (gamma, gamma'): slopes, regimes, orientations, and how far runs can be trusted.

Frames have the columns of the files of a sweep: ``runs`` (one row per run and layer), ``slopes`` (one row per point and layer, see
`phasediag.fitting.fit`). Every map takes the name of the layer that it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter
from numpy.typing import NDArray

from . import theory
from .fitting import critical_line, usable_runs
from .style import (
    DOUBLE_COLUMN,
    GAMMA,
    GAMMA_PRIME,
    POINT,
    SINGLE_COLUMN,
    STYLE,
    Array,
    layer_symbol,
    new_figure,
    select_layer,
)

Line = Callable[[Array], Array]
"""A critical line: gamma at given gamma_prime."""
Region = Callable[[Array, Array], NDArray[np.bool_]]
"""A part of the plane: whether (gamma, gamma_prime) are inside."""

# Blue, yellow and red stay apart for the common colour-vision deficiencies, and agree with the diverging slope map.
REGIME_COLOURS = {
    "linear": "#67a9cf",
    "critical": "#fee08b",
    "condensed": "#e06c55",
    "undetermined": "#c4c4c4",
}
PREDICTED_COLOUR = "#1b9e4b"
_HATCHED: Any = {"facecolor": "#ececec", "edgecolor": "#9a9a9a", "hatch": "////", "linewidth": 0.0}
_CROSS: Any = {"marker": "x", "markersize": 4.5, "linestyle": "none", "color": "#6f6f6f"}
# The same blue, yellow and grey, with orange and purple, which stay apart from them, for one condensed layer.
COMBINED_COLOURS = {
    "both linear": "#67a9cf",
    "$W_1$ condensed": "#f3a45c",
    "$W_2$ condensed": "#9d83c3",
    "both condensed": "#c8452f",
    "critical": "#fee08b",
    "undetermined": "#d4d4d4",
}
COMBINED_LINES: dict[str, dict[str, Any]] = {"W1": {"linestyle": "-"}, "W2": {"linestyle": (0, (1.2, 0.9))}}
# Slopes of the linear regime reach -2.5 where those of the condensed one stay below 1: colours beyond would hide it.
SLOPE_LIMIT = 1.0


def plot_map(slopes: pd.DataFrame, layer: str = "W1", ax: Axes | None = None) -> Axes:
    """Draw the slope map of a layer into ``ax``, or into a new pyplot figure.

    Args:
        slopes: rows as returned by `phasediag.fit`.
        layer: the layer to show.
        ax: axes to draw into; its figure gets a colour bar beside it.

    Returns:
        The axes.

    Raises:
        InputError: ``slopes`` has no row of this layer.
    """
    with rc_context(STYLE):
        if ax is None:
            from matplotlib import (
                pyplot as plt,
            )  # the only place where a figure has to show on a user's screen

            _, ax = plt.subplots(figsize=_map_size(slopes), layout="constrained")
        _draw_slope_map(ax, slopes, layer, "slope")
    return ax


@rc_context(STYLE)
def slope_map(slopes: pd.DataFrame, layer: str, column: str = "slope", operator_norm: bool = False) -> Figure:
    """Map of the slope S of a layer: diverging colours about 0, measured and predicted critical lines.

    Points on a product grid (of any spacing) are cells, further points are coloured markers; what has no slope is
    hatched, or a cross. ``column`` is "slope" or "slope_infinite"; ``operator_norm`` tells that the slopes are those of the
    relative change in that norm.
    """
    figure = new_figure(*_map_size(slopes))
    _draw_slope_map(figure.subplots(), slopes, layer, column, operator_norm)
    return figure


@rc_context(STYLE)
def regime_map(slopes: pd.DataFrame, layer: str) -> Figure:
    """Map of the measured regime of a layer, with the measured and the predicted critical lines."""
    figure = new_figure(*_map_size(slopes))
    ax = figure.subplots()
    of_layer = select_layer(slopes, layer)
    handles, plane = _paint_regimes(ax, of_layer, REGIME_COLOURS)
    handles += _draw_measured(ax, plane, of_layer, deciding_slope(of_layer))
    predicted = _predicted_line(of_layer)
    if predicted is not None:
        handles.append(_draw_predicted(ax, predicted))
    _draw_named_initialisations(ax, int(of_layer["depth"].iloc[0]), _gamma_1(of_layer))
    _finish_map(ax, handles, 3, _gamma_1(of_layer))
    return figure


@rc_context(STYLE)
def combined_regime_map(slopes: pd.DataFrame) -> Figure:
    """Map of the regimes of both layers of input weights of three-layer networks, with the critical lines of both.

    A point is critical if one of the layers is, and undetermined if one of them is.
    """
    figure = new_figure(1.42 * SINGLE_COLUMN, _map_size(slopes)[1])
    ax = figure.subplots()
    layers = {layer: select_layer(slopes, layer) for layer in COMBINED_LINES}
    handles, plane = _paint_regimes(ax, _combined_regimes(slopes), COMBINED_COLOURS)
    for layer, style in COMBINED_LINES.items():
        handles += _draw_measured(ax, plane, layers[layer], deciding_slope(layers[layer]), style)
    lines = [line for of_layer in layers.values() if (line := _predicted_line(of_layer)) is not None]
    handles += [_draw_predicted(ax, line) for line in lines][:1]
    labels = _draw_named_initialisations(ax, 3, _gamma_1(slopes))
    if lines:
        words = {
            name.replace(" ", "\n"): _combined_region(name, lines) for name in list(COMBINED_COLOURS)[:4]
        }
        _draw_regime_words(ax, lines, words, labels)
    _finish_map(ax, [], 1, _gamma_1(slopes))
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _combined_regimes(slopes: pd.DataFrame) -> pd.DataFrame:
    """One row per point: gamma, gamma_prime, and the regime of both layers together, named as in `COMBINED_COLOURS`."""
    first, second = (select_layer(slopes, layer).set_index(POINT)["regime"] for layer in ("W1", "W2"))
    both = pd.DataFrame({"W1": first, "W2": second}).dropna()
    names = [_combined_name(*pair) for pair in both.itertuples(index=False, name=None)]
    return both.assign(regime=names).reset_index()


def _combined_name(first: str, second: str) -> str:
    for regime in ("undetermined", "critical"):
        if regime in (first, second):
            return regime
    return {
        ("linear", "linear"): "both linear",
        ("condensed", "linear"): "$W_1$ condensed",
        ("linear", "condensed"): "$W_2$ condensed",
        ("condensed", "condensed"): "both condensed",
    }[first, second]


def _combined_region(name: str, lines: Sequence[Line]) -> Region:
    """Where theory expects a combined regime, given the critical lines of W1 and W2."""
    condensed = (name in ("both condensed", "$W_1$ condensed"), name in ("both condensed", "$W_2$ condensed"))

    def inside(gamma: Array, gamma_prime: Array) -> NDArray[np.bool_]:
        first, second = (gamma > line(gamma_prime) for line in lines)
        return np.asarray((first == condensed[0]) & (second == condensed[1]))

    return inside


@rc_context(STYLE)
def orientation_map(runs: pd.DataFrame, slopes: pd.DataFrame, layer: str) -> Figure:
    """The slope map of a layer beside the effective number of orientations of its neurons after training.

    The number, at most 512, is the median over the converged runs of the largest width of a point: few orientations are what
    condensation means, and the map shows that they come with S > 0.
    """
    of_layer, slopes_of = select_layer(runs, layer), select_layer(slopes, layer)
    widest = of_layer.loc[usable_runs(of_layer) & (of_layer["width"] == of_layer["width"].max())]
    counts = slopes_of[POINT].merge(
        widest.groupby(POINT, as_index=False)["orientations"].median(), how="left", on=POINT
    )
    figure = new_figure(DOUBLE_COLUMN, _map_size(slopes)[1])
    left, right = figure.subplots(1, 2, sharey=True)
    column = deciding_slope(slopes_of)
    _draw_slope_map(left, slopes, layer, column)
    plane = _plane(counts)
    scale = _log_norm(counts["orientations"].to_numpy(float), least=4.0)
    missing = _paint(right, plane, "orientations", scale, matplotlib.colormaps["viridis"], "no run")
    handles: list[Any] = [*_draw_measured(right, plane, slopes_of, column)]
    predicted = _predicted_line(slopes_of)
    if predicted is not None:
        handles.append(_draw_predicted(right, predicted))
    ticks: dict[str, Any] = {"ticks": LogLocator(subs=(1.0, 2.0, 5.0)), "format": "{x:g}"}
    bar = figure.colorbar(ScalarMappable(scale, "viridis"), ax=right, aspect=24, pad=0.03, **ticks)
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.set_label(f"orientations of ${layer_symbol(layer)}$ at $m = {int(of_layer['width'].max())}$")
    _finish_map(right, handles + missing, 2, _gamma_1(slopes_of))
    right.set_ylabel("")
    return figure


def deciding_slope(slopes: pd.DataFrame) -> str:
    """The column whose interval decides on regimes: "slope_infinite" where it is known, else "slope"."""
    return "slope_infinite" if np.isfinite(slopes["slope_infinite_low"]).sum() > 1 else "slope"


def _paint_regimes(ax: Axes, table: pd.DataFrame, colours: Mapping[str, str]) -> tuple[list[Any], _Plane]:
    """Paint the regimes of points by name; return the legend handles of those present, and the plane."""
    names = list(colours)
    plane = _plane(table.assign(code=table["regime"].map({name: float(i) for i, name in enumerate(names)})))
    scale = Normalize(-0.5, len(names) - 0.5)
    missing = _paint(ax, plane, "code", scale, ListedColormap(list(colours.values())), "not run")
    present = [name for name in names if (table["regime"] == name).any()]
    return [Patch(facecolor=colours[name], label=name) for name in present] + missing, plane


@rc_context(STYLE)
def diagnosis(runs: pd.DataFrame) -> Figure:
    """Three maps that tell how far the runs can be trusted, over all widths and seeds of a point.

    The median number of evaluations of finished runs; the largest final loss, as a fraction of the initial one (finite
    losses only); the fraction of runs that did not converge (stalled, at the limit, diverged or failed).
    """
    plane = _plane(_diagnosis_table(runs))
    figure = new_figure(DOUBLE_COLUMN, 2.5 if plane.table["gamma_prime"].nunique() > 1 else 1.8)
    panels: dict[str, tuple[str, Callable[[Array], Normalize]]] = {
        "evaluations": ("evaluations (median)", _log_norm),
        "loss_fraction": ("final / initial loss (worst)", _log_norm),
        "not_converged": ("fraction not converged", lambda values: Normalize(0.0, 1.0)),
    }
    for ax, (column, (label, norm)) in zip(figure.subplots(1, 3, sharey=True), panels.items(), strict=True):
        scale = norm(plane.table[column].to_numpy(float))
        _paint(ax, plane, column, scale, matplotlib.colormaps["viridis"])
        bar = figure.colorbar(ScalarMappable(scale, "viridis"), ax=ax, location="top", aspect=18, pad=0.03)
        bar.set_label(label)
        if isinstance(scale, LogNorm):
            _label_decades(bar, scale)
        ax.set_xlabel(GAMMA)
    figure.axes[0].set_ylabel(GAMMA_PRIME)
    return figure


def _diagnosis_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per point: gamma, gamma_prime, evaluations, loss_fraction, not_converged."""
    jobs = runs.drop_duplicates("job_id")
    fraction = (jobs["loss_final"] / jobs["loss_initial"]).where(lambda ratio: np.isfinite(ratio))
    jobs = jobs[POINT].assign(
        evaluations=jobs["evaluations"].where(jobs["status"] != "failed").astype(float),
        loss_fraction=fraction,
        not_converged=jobs["status"] != "converged",
    )
    rules = {"evaluations": "median", "loss_fraction": "max", "not_converged": "mean"}
    return jobs.groupby(POINT, as_index=False).agg(rules)


def _label_decades(bar: Colorbar, scale: LogNorm) -> None:
    """Label the decades of a logarithmic colour bar, and the threes between them where decades are few."""
    few = float(scale.vmax or 1.0) < 100.0 * float(scale.vmin or 1.0)
    bar.locator = LogLocator(subs=(1.0, 3.0) if few else (1.0,), numticks=6)
    bar.formatter = LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf))
    bar.ax.xaxis.set_minor_formatter(NullFormatter())


def _draw_slope_map(
    ax: Axes, slopes: pd.DataFrame, layer: str, column: str, operator_norm: bool = False
) -> None:
    of_layer = select_layer(slopes, layer)
    plane = _plane(of_layer)
    colours = matplotlib.colormaps["RdBu_r"]
    norm, extend = _symmetric_norm(of_layer[column].to_numpy(float))
    missing = _paint(ax, plane, column, norm, colours, "no slope")
    predicted = _predicted_line(of_layer, operator_norm)
    handles = _draw_measured(ax, plane, of_layer, column)
    if predicted is not None:
        handles.append(_draw_predicted(ax, predicted))
    labels = _draw_named_initialisations(ax, int(of_layer["depth"].iloc[0]), _gamma_1(of_layer))
    if predicted is not None:
        words = (r"RD$\to 0$", r"RD$\to\infty$") if operator_norm else ("linear", "condensed")
        _draw_regime_words(ax, [predicted], _sides(predicted, words), labels)
    bar = ax.figure.colorbar(ScalarMappable(norm, colours), ax=ax, extend=extend, aspect=24, pad=0.03)
    bar.set_label(_slope_label(layer, column, operator_norm))
    _finish_map(ax, handles + missing, 2, _gamma_1(of_layer))


def _slope_label(layer: str, column: str, operator_norm: bool) -> str:
    limit = r"\ (m \to \infty)" if column == "slope_infinite" else ""
    norm = r"_\mathrm{op}" if operator_norm else ""
    change = rf"\mathrm{{RD}}{norm}({layer_symbol(layer)})"
    return rf"$S = \mathrm{{d}}\,\log\,{change}\,/\,\mathrm{{d}}\,\log\,m{limit}$"


def _predicted_line(of_layer: pd.DataFrame, operator_norm: bool = False) -> Line | None:
    """The predicted critical line of a layer, if there is one on this plane."""
    layer, depth = str(of_layer["layer"].iloc[0]), int(of_layer["depth"].iloc[0])
    if not theory.has_critical_line(layer, depth) or (of_layer["gamma_1"] != 0.0).any():
        return None
    return lambda gamma_prime: theory.critical_gamma(layer, depth, gamma_prime, operator_norm)


@dataclass(frozen=True)
class _Plane:
    """The points of a map, split into a product grid (drawn as cells) and the rest (drawn as markers)."""

    table: pd.DataFrame
    gammas: Array
    gamma_primes: Array
    scattered: pd.DataFrame

    @property
    def edges(self) -> tuple[Array, Array]:
        return _edges(self.gammas), _edges(self.gamma_primes)

    @property
    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        gamma, gamma_prime = (
            _axis_limits(edges, self.scattered[key].to_numpy(float))
            for edges, key in zip(self.edges, POINT, strict=True)
        )
        return gamma, gamma_prime


def _plane(table: pd.DataFrame) -> _Plane:
    """Split the points of ``table``: the grid keeps the rows and columns of the plane that are more than half full."""
    table = table.drop_duplicates(POINT)
    gammas, columns = np.unique(table["gamma"].to_numpy(float), return_inverse=True)
    primes, rows = np.unique(table["gamma_prime"].to_numpy(float), return_inverse=True)
    filled = np.zeros((len(primes), len(gammas)), bool)
    filled[rows, columns] = True
    keep_row, keep_column = _dense_part(filled)
    on_grid = keep_row[rows] & keep_column[columns]
    return _Plane(table, gammas[keep_column], primes[keep_row], table.loc[~on_grid])


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


def _paint(
    ax: Axes, plane: _Plane, column: str, norm: Normalize, colours: Any, missing: str = ""
) -> list[Any]:
    """Draw the cells and the scattered points of a column.

    Returns the legend handles, labelled ``missing``, of what has no value: a hatched patch, else a cross, else none.
    """
    ax.set(xlim=plane.limits[0], ylim=plane.limits[1])
    hatched = len(plane.gammas) > 0 and _paint_cells(ax, plane, column, norm, colours)
    crossed = _paint_scattered(ax, plane, column, norm, colours)
    if hatched:
        return [Patch(**_HATCHED, label=missing)]
    return [Line2D([], [], **_CROSS, label=missing)] if crossed else []


def _paint_scattered(ax: Axes, plane: _Plane, column: str, norm: Normalize, colours: Any) -> bool:
    """Draw the points off the grid; tell whether any of them has no value."""
    values = plane.scattered[column].to_numpy(float)
    known = np.isfinite(values)
    x, y = (plane.scattered[key].to_numpy(float) for key in POINT)
    if known.any():
        style: dict[str, Any] = {"s": 26, "edgecolor": "black", "linewidth": 0.5, "zorder": 3}
        ax.scatter(x[known], y[known], c=values[known], norm=norm, cmap=colours, **style)
    ax.plot(x[~known], y[~known], **_CROSS, zorder=3)
    return not known.all()


def _paint_cells(ax: Axes, plane: _Plane, column: str, norm: Normalize, colours: Any) -> bool:
    """Draw the cells of the grid; tell whether any of them has no value."""
    table = plane.table.pivot(index="gamma_prime", columns="gamma", values=column)
    values = np.ma.masked_invalid(
        table.reindex(index=plane.gamma_primes, columns=plane.gammas).to_numpy(float)
    )
    x, y = plane.edges
    ax.pcolormesh(x, y, values, norm=norm, cmap=colours, zorder=1)
    rows, columns = np.nonzero(np.ma.getmaskarray(values))
    boxes = [
        Rectangle((x[j], y[i]), x[j + 1] - x[j], y[i + 1] - y[i]) for i, j in zip(rows, columns, strict=True)
    ]
    if boxes:
        ax.add_collection(PatchCollection(boxes, zorder=1.5, **_HATCHED), autolim=False)
    return bool(boxes)


def _draw_measured(
    ax: Axes, plane: _Plane, of_layer: pd.DataFrame, column: str, style: Mapping[str, Any] | None = None
) -> list[Any]:
    """Draw the measured critical line as far as it exists, with its band; return their legend handles.

    With a ``style`` of its own it is one of several, and its label names the layer.
    """
    line = critical_line(of_layer, str(of_layer["layer"].iloc[0]), column)
    if line.empty:
        return []
    symbol = r"S_\infty" if column == "slope_infinite" else "S"
    name = f"({layer_symbol(str(of_layer['layer'].iloc[0]))})" if style else ""
    # Rows of the grid without a crossing interrupt the line; a crossing alone in its map is a tick.
    line = line.set_index("gamma_prime")
    line = line.reindex(sorted({*line.index, *plane.gamma_primes}))
    drawn: dict[str, Any] = {"color": "black", "linewidth": 1.8, "zorder": 4, **(style or {})}
    if line["gamma"].count() == 1:
        ax.plot(line["gamma"], line.index, marker="|", markersize=14, markeredgewidth=1.8, **drawn)
    y = line.index.to_numpy(float)
    low, high = line["gamma_low"].to_numpy(float), line["gamma_high"].to_numpy(float)
    band = np.isfinite(low) & np.isfinite(high)
    handles: list[Any] = ax.plot(line["gamma"], y, label=f"measured ${symbol}{name} = 0$", **drawn)
    if band.sum() > 1:
        ax.fill_betweenx(y, low, high, where=list(band), color="black", alpha=0.12, linewidth=0, zorder=2)
        for end in (low, high):
            ax.plot(end, y, color="black", linewidth=0.5, zorder=2)
        if not style:
            handles.append(Patch(facecolor="#dedede", edgecolor="black", linewidth=0.5, label="95 % band"))
    return handles


def _draw_predicted(ax: Axes, line: Line) -> Line2D:
    gamma_prime = np.linspace(*ax.get_ylim(), 801)
    style: dict[str, Any] = {"color": PREDICTED_COLOUR, "linewidth": 1.5, "dashes": (3.2, 1.8), "zorder": 5}
    (predicted,) = ax.plot(line(gamma_prime), gamma_prime, label="predicted", **style)
    return predicted


def _draw_named_initialisations(ax: Axes, depth: int, gamma_1: float) -> Array:
    """Mark the named initialisations inside the map; return where labels lie, in fractions of the axes (k, 2)."""
    if gamma_1:  # theirs is 0
        return np.empty((0, 2))
    by_point: dict[theory.Exponents, list[str]] = {}
    for name, point in theory.NAMED_INITIALISATIONS.get(depth, {}).items():
        by_point.setdefault(point, []).append(name)
    if not by_point:
        return np.empty((0, 2))
    places = _fraction(ax, np.array(list(by_point)))
    inside = np.asarray(((places >= 0) & (places <= 1)).all(axis=1))
    taken = [_Box(x, x, y, y).grown(0.015) for x, y in places[inside]]
    for (point, names), place, shown in zip(by_point.items(), places, inside, strict=True):
        if shown:
            taken.append(_draw_named(ax, point, place, names, taken))
    return np.concatenate([np.empty((0, 2)), *(box.spots for box in taken)])


@dataclass(frozen=True)
class _Box:
    """A rectangle in fractions of the axes."""

    left: float
    right: float
    bottom: float
    top: float

    def grown(self, by: float) -> _Box:
        return _Box(self.left - by, self.right + by, self.bottom - by, self.top + by)

    def overlap(self, other: _Box) -> float:
        """The area in common."""
        across = min(self.right, other.right) - max(self.left, other.left)
        up = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(across, 0.0) * max(up, 0.0)

    @property
    def outside(self) -> float:
        """How much of it lies outside the axes."""
        area = (self.right - self.left) * (self.top - self.bottom)
        return area - self.overlap(_Box(0.0, 1.0, 0.0, 1.0))

    @property
    def spots(self) -> Array:
        """Points all over it (k, 2)."""
        x, y = np.meshgrid(np.linspace(self.left, self.right, 9), np.linspace(self.bottom, self.top, 3))
        return np.column_stack([x.ravel(), y.ravel()])


def _draw_named(ax: Axes, point: theory.Exponents, place: Array, names: list[str], taken: list[_Box]) -> _Box:
    """Mark a point and write its names where they cover least of what is taken; return the box of the label."""
    options = [
        (text, rightwards, above)
        for text in dict.fromkeys([", ".join(names), ",\n".join(names)])
        for rightwards in (True, False)
        for above in (False, True)
    ]

    def box(text: str, rightwards: bool, above: bool) -> _Box:
        lines = text.split("\n")
        width, height = 0.031 * max(len(line) for line in lines), 0.065 * len(lines)  # those of a letter
        x, y = place
        left, bottom = (
            (x + 0.02 if rightwards else x - 0.02 - width),
            (y + 0.015 if above else y - 0.015 - height),
        )
        return _Box(left, left + width, bottom, bottom + height)

    def cost(option: tuple[str, bool, bool]) -> float:
        label = box(*option)
        return sum(label.overlap(other) for other in taken) + label.outside

    text, rightwards, above = chosen = min(options, key=cost)
    ax.plot(*point, "D", color="white", markeredgecolor="black", markersize=4.5, zorder=6)
    ax.annotate(
        text,
        point,
        xytext=(4 if rightwards else -4, 4 if above else -4),
        textcoords="offset points",
        ha="left" if rightwards else "right",
        va="bottom" if above else "top",
        fontsize=7.5,
        zorder=7,
        path_effects=[withStroke(linewidth=2.2, foreground="white")],
    )
    return box(*chosen)


def _draw_regime_words(ax: Axes, lines: Sequence[Line], words: Mapping[str, Region], labels: Array) -> None:
    """Write each word where it holds and there is most room beside the critical lines, the labels and the frame."""
    across, up = (
        values.ravel() for values in np.meshgrid(np.linspace(0.05, 0.95, 46), np.linspace(0.05, 0.95, 46))
    )
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    gamma, gamma_prime = left + across * (right - left), bottom + up * (top - bottom)
    height = np.linspace(bottom, top, 201)
    obstacles = [_fraction(ax, np.column_stack([line(height), height])) for line in lines]
    room = _room(np.column_stack([across, up]), np.concatenate([*obstacles, labels]))
    for word, holds in words.items():
        reach = 0.018 * max(map(len, word.split("\n")))  # half its width
        inside = holds(gamma, gamma_prime) & (np.abs(across - 0.5) < 0.5 - reach)
        best = int(np.argmax(np.where(inside, room, -1.0)))
        if inside.any() and room[best] > 0.06:
            _write_word(ax, word, (float(across[best]), float(up[best])))


def _sides(line: Line, words: tuple[str, str]) -> dict[str, Region]:
    """What to call the two sides of a predicted line: that of small gamma, and the other."""
    small, large = words
    return {
        small: lambda gamma, gamma_prime: np.asarray(gamma < line(gamma_prime)),
        large: lambda gamma, gamma_prime: np.asarray(gamma > line(gamma_prime)),
    }


def _room(places: Array, obstacles: Array) -> Array:
    """Distance of places (k, 2) from the nearest obstacle or edge; words are wide, so horizontal room counts less."""
    squeeze = np.array([0.4, 1.0])
    gaps: Array = np.linalg.norm((places[:, None] - obstacles[None]) * squeeze, axis=-1).min(axis=1)
    borders: Array = (np.minimum(places, 1.0 - places) * squeeze).min(axis=1)
    return np.minimum(gaps, borders)


def _write_word(ax: Axes, word: str, place: tuple[float, float]) -> None:
    outline = [withStroke(linewidth=2.4, foreground="white")]
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9.5, "style": "italic", "zorder": 7}
    ax.text(*place, word, transform=ax.transAxes, path_effects=outline, **style)


def _fraction(ax: Axes, points: Array) -> Array:
    """Data coordinates (k, 2) as fractions of the axes."""
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    return np.asarray((points - low) / (high - low))


def _finish_map(ax: Axes, handles: list[Any], columns: int, gamma_1: float = 0.0) -> None:
    plane = rf"   ($\gamma_1 = {gamma_1:g}$)" if gamma_1 else ""
    ax.set(xlabel=GAMMA + plane, ylabel=GAMMA_PRIME)
    if handles:
        place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderaxespad": 0.3}
        ax.legend(handles=handles, ncols=min(columns, len(handles)), **place)


def _gamma_1(table: pd.DataFrame) -> float:
    return float(table["gamma_1"].iloc[0])


def _map_size(slopes: pd.DataFrame) -> tuple[float, float]:
    one_row = slopes["gamma_prime"].nunique() < 2
    return SINGLE_COLUMN, 2.0 if one_row else 3.0


def _symmetric_norm(values: Array) -> tuple[Normalize, str]:
    """Colours centred on 0 up to the largest |value| or `SLOPE_LIMIT`, and which ends of the colour bar are cut."""
    values = values[np.isfinite(values)]
    limit = min(float(np.abs(values).max(initial=0.0)) or SLOPE_LIMIT, SLOPE_LIMIT)
    below, above = bool((values < -limit).any()), bool((values > limit).any())
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    return Normalize(-limit, limit), extend[below, above]


def _log_norm(values: Array, least: float = 30.0) -> LogNorm:
    """A logarithmic scale over the positive values that spans at least so large a ratio."""
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if positive.size else (1.0, 10.0)
    stretch = max(least / (high / low), 1.0) ** 0.5
    return LogNorm(low / stretch, high * stretch, clip=True)
