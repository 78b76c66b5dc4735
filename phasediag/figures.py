"""Figures of a phase diagram: one function per figure, DataFrames in, a matplotlib Figure out.

Nothing here is fitted or read from disk. Frames have the columns of the files of a sweep: ``runs`` (one row per run and
layer), ``slopes`` (one row per point and layer, see `phasediag.fitting.fit`) and ``samples`` (one row per kept network and
layer of input weights). Every map takes the name of the layer that it shows.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
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
from .errors import InputError
from .fitting import REGIMES, critical_line, usable_runs

Array = NDArray[np.float64]
Data = tuple[Array, Array]

SINGLE_COLUMN, DOUBLE_COLUMN = 3.4, 7.0
"""Widths of a figure in inches: one and two columns of a journal page."""

STYLE: Any = {
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.4,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "lines.linewidth": 1.3,
    "hatch.linewidth": 0.5,
    "svg.hashsalt": "phasediag",
    "svg.fonttype": "path",
    "savefig.dpi": 200,
}

# Blue, yellow and red stay apart for the common colour-vision deficiencies, and agree with the diverging slope map.
REGIME_COLOURS = {
    "linear": "#67a9cf",
    "critical": "#fee08b",
    "condensed": "#e06c55",
    "undetermined": "#c4c4c4",
}
EXAMPLE_COLOURS = {"linear": "#2166ac", "critical": "#b8860b", "condensed": "#b2182b"}
EXAMPLE_MARKERS = {"linear": "o", "critical": "s", "condensed": "^"}
PREDICTED_COLOUR = "#1b9e4b"
_HATCHED: Any = {"facecolor": "#ececec", "edgecolor": "#9a9a9a", "hatch": "////", "linewidth": 0.0}
_CROSS: Any = {"marker": "x", "markersize": 4.5, "linestyle": "none", "color": "#6f6f6f"}
# Slopes of the linear regime reach -2.5 where those of the condensed one stay below 1: colours beyond would hide it.
SLOPE_LIMIT = 1.0

GAMMA, GAMMA_PRIME = r"$\gamma$", r"$\gamma'$"
POINT = ["gamma", "gamma_prime"]


# --- every figure of a sweep --------------------------------------------------------------------------------------


def draw_all(
    runs: pd.DataFrame,
    slopes: pd.DataFrame,
    samples: pd.DataFrame | None,
    data_xy: Data | None,
    depth: int,
    name: str,
) -> dict[str, Figure]:
    """Every figure that the data allow.

    Args:
        runs: rows of ``runs/``.
        slopes: rows of ``slopes.parquet``.
        samples: rows of ``samples/``, or None.
        data_xy: the training data, x (n, d) and y (n,), or None.
        depth: number of layers.
        name: name of the study, for the files' metadata.

    Returns:
        file name without ending -> figure. Maps need two points; the figures of kept networks need samples.
    """
    figures: dict[str, Figure] = {}
    for layer in [layer for layer in theory.LAYERS[depth] if (slopes["layer"] == layer).any()]:
        figures |= _layer_figures(runs, slopes, layer, depth)
    if _points(runs).shape[0] > 1:
        figures["diagnosis"] = diagnosis(runs)
    if samples is not None and len(samples):
        figures |= _sample_figures(samples, data_xy, depth)
    for key, figure in figures.items():
        figure.set_label(f"{name}: {key}")
    return figures


def _layer_figures(runs: pd.DataFrame, slopes: pd.DataFrame, layer: str, depth: int) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    of_layer = slopes.loc[slopes["layer"] == layer]
    if len(_points(of_layer)) > 1:
        figures[f"slope_map_{layer}"] = slope_map(slopes, layer)
        figures[f"regime_map_{layer}"] = regime_map(slopes, layer)
    if np.isfinite(of_layer["slope_infinite"]).sum() > 1:
        figures[f"slope_infinite_map_{layer}"] = slope_map(slopes, layer, "slope_infinite")
    if usable_runs(runs.loc[runs["layer"] == layer]).any() and _examples(slopes, layer, depth):
        figures[f"scaling_{layer}"] = scaling(runs, slopes, layer)
    return figures


def _sample_figures(samples: pd.DataFrame, data_xy: Data | None, depth: int) -> dict[str, Figure]:
    if not _examples(samples, samples["layer"].iloc[0], depth):
        return {}
    figures = {f"features_{layer}": features(samples, layer) for layer in sorted(set(samples["layer"]))}
    figures["training"] = training(samples)
    if all(len(x) for x in samples["x"]):
        figures["functions"] = functions(samples, data_xy)
    return figures


def render(figure: Figure) -> dict[str, bytes]:
    """The figure as files: {"png": 200 dpi, "svg": text as paths}, the same bytes for the same figure every time."""
    title = {"Title": figure.get_label() or "phasediag"}
    files = {}
    with rc_context(STYLE):
        for kind, metadata in {"png": title, "svg": {**title, "Date": None}}.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=metadata)
            files[kind] = buffer.getvalue()
    return files


# --- maps over (gamma, gamma') ------------------------------------------------------------------------------------


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
def slope_map(slopes: pd.DataFrame, layer: str, column: str = "slope") -> Figure:
    """Map of the slope S of a layer: diverging colours about 0, measured and predicted critical lines.

    Points on a product grid (of any spacing) are cells, further points are coloured markers; what has no slope is
    hatched, or a cross. ``column`` is "slope" or "slope_infinite".
    """
    figure = _new_figure(*_map_size(slopes))
    _draw_slope_map(figure.subplots(), slopes, layer, column)
    return figure


@rc_context(STYLE)
def regime_map(slopes: pd.DataFrame, layer: str) -> Figure:
    """Map of the measured regime of a layer, with the measured and the predicted critical lines."""
    figure = _new_figure(*_map_size(slopes))
    ax = figure.subplots()
    of_layer = _of_layer(slopes, layer)
    codes = of_layer["regime"].map({regime: float(i) for i, regime in enumerate(REGIMES)})
    plane = _plane(of_layer.assign(code=codes))
    colours = ListedColormap([REGIME_COLOURS[regime] for regime in REGIMES])
    missing = _paint(ax, plane, "code", Normalize(-0.5, len(REGIMES) - 0.5), colours, "not run")
    present = [regime for regime in REGIMES if (of_layer["regime"] == regime).any()]
    handles: list[Any] = [Patch(facecolor=REGIME_COLOURS[regime], label=regime) for regime in present]
    handles += _draw_lines(ax, plane, of_layer, "slope") + missing
    _draw_named_initialisations(ax, int(of_layer["depth"].iloc[0]))
    _finish_map(ax, handles, columns=3)
    return figure


@rc_context(STYLE)
def diagnosis(runs: pd.DataFrame) -> Figure:
    """Three maps that tell how far the runs can be trusted, over all widths and seeds of a point.

    The median number of evaluations of finished runs; the largest final loss, as a fraction of the initial one (finite
    losses only); the fraction of runs that did not converge (stalled, at the limit, diverged or failed).
    """
    plane = _plane(_diagnosis_table(runs))
    figure = _new_figure(DOUBLE_COLUMN, 2.5 if plane.table["gamma_prime"].nunique() > 1 else 1.8)
    panels = {
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


def _draw_slope_map(ax: Axes, slopes: pd.DataFrame, layer: str, column: str) -> None:
    of_layer = _of_layer(slopes, layer)
    plane = _plane(of_layer)
    colours = matplotlib.colormaps["RdBu_r"]
    norm, extend = _symmetric_norm(of_layer[column].to_numpy(float))
    missing = _paint(ax, plane, column, norm, colours, "no slope")
    handles = _draw_lines(ax, plane, of_layer, column) + missing
    depth = int(of_layer["depth"].iloc[0])
    labels = _draw_named_initialisations(ax, depth)
    if theory.has_critical_line(layer, depth):
        _draw_regime_words(ax, layer, depth, labels)
    bar = ax.figure.colorbar(ScalarMappable(norm, colours), ax=ax, extend=extend, aspect=24, pad=0.03)
    bar.set_label(_slope_label(layer, column))
    _finish_map(ax, handles, columns=2)


def _slope_label(layer: str, column: str) -> str:
    limit = r"\ (m \to \infty)" if column == "slope_infinite" else ""
    symbol = _layer_symbol(layer)
    return rf"$S = \mathrm{{d}}\,\log\,\mathrm{{RD}}({symbol})\,/\,\mathrm{{d}}\,\log\,m{limit}$"


def _layer_symbol(layer: str) -> str:
    """Mathtext of a layer's name: W1 -> W_1."""
    return f"{layer[0]}_{layer[1:]}" if len(layer) > 1 else layer


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


def _draw_lines(ax: Axes, plane: _Plane, of_layer: pd.DataFrame, column: str) -> list[Line2D]:
    """Draw the measured and the predicted critical line as far as they exist; return their legend handles."""
    layer, depth = str(of_layer["layer"].iloc[0]), int(of_layer["depth"].iloc[0])
    handles = []
    line = critical_line(of_layer, layer, column)
    if len(line):
        handles.append(_draw_measured(ax, line, plane.gamma_primes))
    if theory.has_critical_line(layer, depth) and (of_layer["gamma_1"] == 0.0).all():
        handles.append(_draw_predicted(ax, layer, depth))
    return handles


def _draw_measured(ax: Axes, line: pd.DataFrame, gamma_primes: Array) -> Line2D:
    # Rows of the grid without a crossing interrupt the line; a crossing alone in its map is a tick.
    line = line.set_index("gamma_prime")
    line = line.reindex(sorted({*line.index, *gamma_primes}))
    style: dict[str, Any] = {"color": "black", "linewidth": 1.8, "zorder": 4}
    if line["gamma"].count() == 1:
        ax.plot(line["gamma"], line.index, marker="|", markersize=14, markeredgewidth=1.8, **style)
    y = line.index.to_numpy(float)
    low, high = line["gamma_low"].to_numpy(float), line["gamma_high"].to_numpy(float)
    band = np.isfinite(low) & np.isfinite(high)
    if band.sum() > 1:
        ax.fill_betweenx(y, low, high, where=list(band), color="black", alpha=0.18, linewidth=0, zorder=2)
    (measured,) = ax.plot(line["gamma"], y, label="measured $S = 0$", **style)
    return measured


def _draw_predicted(ax: Axes, layer: str, depth: int) -> Line2D:
    gamma_prime = np.linspace(*ax.get_ylim(), 801)
    gamma = theory.critical_gamma(layer, depth, gamma_prime)
    style: dict[str, Any] = {"color": PREDICTED_COLOUR, "linewidth": 1.5, "dashes": (3.2, 1.8), "zorder": 5}
    (predicted,) = ax.plot(gamma, gamma_prime, label="predicted", **style)
    return predicted


def _draw_named_initialisations(ax: Axes, depth: int) -> Array:
    """Mark the named initialisations inside the map; return where labels lie, in fractions of the axes (k, 2)."""
    by_point: dict[theory.Exponents, list[str]] = {}
    for name, point in theory.NAMED_INITIALISATIONS.get(depth, {}).items():
        by_point.setdefault(point, []).append(name)
    occupied = [_draw_named(ax, point, names) for point, names in by_point.items()]
    return np.concatenate([np.empty((0, 2)), *(place for place in occupied if place is not None)])


def _draw_named(ax: Axes, point: theory.Exponents, names: list[str]) -> Array | None:
    across, up = _fraction(ax, np.array([point]))[0]
    if not (0 <= across <= 1 and 0 <= up <= 1):
        return None
    leftwards, above = across > 0.7, up < 0.1
    label, width = ", ".join(names), 0.031  # the width of a letter
    room = across if leftwards else 1.0 - across
    if width * len(label) > room:
        label = ",\n".join(names)
    lines = label.split("\n")
    length = width * max(len(line) for line in lines)
    ax.plot(*point, "D", color="white", markeredgecolor="black", markersize=4.5, zorder=6)
    ax.annotate(
        label,
        point,
        xytext=(-4 if leftwards else 4, 4 if above else -4),
        textcoords="offset points",
        ha="right" if leftwards else "left",
        va="bottom" if above else "top",
        fontsize=7.5,
        zorder=7,
        path_effects=[withStroke(linewidth=2.2, foreground="white")],
    )
    reach = across + np.linspace(0.0, -length if leftwards else length, 9)
    heights = up + (0.04 if above else -0.04) * np.arange(1, 2 * len(lines), 2)
    return np.column_stack([np.tile(reach, len(lines)), np.repeat(heights, 9)])


def _draw_regime_words(ax: Axes, layer: str, depth: int, labels: Array) -> None:
    """Write "linear" and "condensed" where there is most room beside the critical line, the labels and the frame."""
    across, up = (
        values.ravel() for values in np.meshgrid(np.linspace(0.05, 0.95, 46), np.linspace(0.05, 0.95, 46))
    )
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    gamma, gamma_prime = left + across * (right - left), bottom + up * (top - bottom)
    beyond = gamma - theory.critical_gamma(layer, depth, gamma_prime)
    line = np.linspace(bottom, top, 201)
    obstacles = np.concatenate(
        [_fraction(ax, np.column_stack([theory.critical_gamma(layer, depth, line), line])), labels]
    )
    room = _room(np.column_stack([across, up]), obstacles)
    for word, inside in {"linear": beyond < 0, "condensed": beyond > 0}.items():
        best = int(np.argmax(np.where(inside, room, -1.0)))
        if inside.any() and room[best] > 0.08:
            _write_word(ax, word, (float(across[best]), float(up[best])))


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


def _finish_map(ax: Axes, handles: list[Any], columns: int) -> None:
    ax.set(xlabel=GAMMA, ylabel=GAMMA_PRIME)
    if handles:
        place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderaxespad": 0.3}
        ax.legend(handles=handles, ncols=min(columns, len(handles)), **place)


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


def _log_norm(values: Array) -> LogNorm:
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if positive.size else (1.0, 10.0)
    # A narrower bar would hardly carry two labels.
    stretch = max(30.0 / (high / low), 1.0) ** 0.5
    return LogNorm(low / stretch, high * stretch, clip=True)


def _of_layer(table: pd.DataFrame, layer: str) -> pd.DataFrame:
    of_layer = table.loc[table["layer"] == layer]
    if of_layer.empty:
        raise InputError(f"layer: {layer!r} is not there; allowed: {', '.join(sorted(set(table['layer'])))}")
    return of_layer


def _points(table: pd.DataFrame) -> pd.DataFrame:
    return table[POINT].drop_duplicates()


# --- relative change against width --------------------------------------------------------------------------------


@rc_context(STYLE)
def scaling(runs: pd.DataFrame, slopes: pd.DataFrame, layer: str) -> Figure:
    """Relative change against width, every run a point, at a linear, a critical and a condensed point.

    The line has the fitted slope and passes through the mean of the logarithms, as a least-squares line does. Runs
    that the fit left out are open markers.
    """
    figure = _new_figure(SINGLE_COLUMN, 3.2)
    ax = figure.subplots()
    of_layer = _of_layer(runs, layer)
    depth = int(of_layer["depth"].iloc[0])
    examples = _examples(slopes, layer, depth)
    for regime, point in examples.items():
        slope = _at(_of_layer(slopes, layer), point).iloc[0]
        _draw_scaling(ax, _at(of_layer, point), slope, regime)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="width $m$",
        ylabel=rf"relative change $\mathrm{{RD}}({_layer_symbol(layer)})$",
    )
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), borderaxespad=0.3)
    return figure


def _draw_scaling(ax: Axes, runs: pd.DataFrame, slope: pd.Series[Any], regime: str) -> None:
    colour, marker = EXAMPLE_COLOURS[regime], EXAMPLE_MARKERS[regime]
    used = usable_runs(runs)
    rest = runs.loc[~used & (runs["relative_change"] > 0) & np.isfinite(runs["relative_change"])]
    ax.plot(rest["width"], rest["relative_change"], marker, color=colour, fillstyle="none", markersize=4)
    width, change = (runs.loc[used, key].to_numpy(float) for key in ("width", "relative_change"))
    ax.plot(width, change, marker, color=colour, markersize=4, alpha=0.75, markeredgewidth=0)
    x, y = np.zeros(0), np.zeros(0)
    if np.isfinite(slope["slope"]):
        x = np.array([width.min(), width.max()])
        y = np.exp(np.log(change).mean()) * (x / np.exp(np.log(width).mean())) ** slope["slope"]
    ax.plot(
        x, y, color=colour, marker=marker, markersize=4, markevery=[], label=_scaling_label(slope, regime)
    )


def _scaling_label(slope: pd.Series[Any], regime: str) -> str:
    where = rf"{regime}, $\gamma={slope['gamma']:g},\ \gamma'={slope['gamma_prime']:g}$"
    if not np.isfinite(slope["slope"]):
        return where
    half_width = (slope["slope_high"] - slope["slope_low"]) / 2
    error = rf" \pm {half_width:.3f}" if np.isfinite(half_width) else ""
    return rf"{where}: $S={slope['slope']:.3f}{error}$"


# --- kept networks ------------------------------------------------------------------------------------------------


@rc_context(STYLE)
def functions(samples: pd.DataFrame, data_xy: Data | None = None) -> Figure:
    """The function of the network before and after training at a point of each regime (one-dimensional input).

    ``data_xy`` is x (n, 1) and y (n,), drawn as points.
    """
    figure, panels = _example_panels(samples, str(samples["layer"].iloc[0]))
    for ax, sample in panels:
        ax.plot(sample["x"], sample["f_initial"], color="#7f7f7f", linestyle=(0, (3, 1.5)), label="before")
        ax.plot(sample["x"], sample["f_final"], color="#0b559f", label="after training")
        if data_xy is not None:
            ax.plot(data_xy[0][:, 0], data_xy[1], "o", color="black", markersize=4, label="data", zorder=3)
        ax.set_xlabel("$x$")
    figure.axes[0].set_ylabel("$f(x)$")
    _legend_above(figure)
    return figure


@rc_context(STYLE)
def features(samples: pd.DataFrame, layer: str) -> Figure:
    """Orientation and amplitude of the input weights of every neuron, before and after training.

    With one-dimensional input, a neuron with input weight w and bias b has the orientation
    ``sign(b) arccos(w / sqrt(w^2 + b^2))`` and the amplitude ``sqrt(w^2 + b^2)`` (Luo 2021, as in its figures). In more
    dimensions the orientation is replaced by the cosine with the first principal direction of the trained weights.
    """
    figure, panels = _example_panels(_of_layer(samples, layer), layer)
    planar = True
    for ax, sample in panels:
        before, after = (_matrix(sample[f"input_{when}"]) for when in ("initial", "final"))
        planar = before.shape[1] == 2
        for weights, colour, label in [(before, "#9a9a9a", "before"), (after, "#b2182b", "after training")]:
            horizontal = orientation(weights) if planar else _cosine(weights, principal_direction(after))
            style: dict[str, Any] = {
                "s": 5,
                "color": colour,
                "linewidth": 0,
                "alpha": 0.6,
                "rasterized": True,
            }
            ax.scatter(horizontal, np.linalg.norm(weights, axis=1), label=label, **style)
        ax.set_yscale("log")
        _label_orientation(ax, planar)
    figure.axes[0].set_ylabel(rf"amplitude $\|w_k\|$ of ${_layer_symbol(layer)}$")
    _legend_above(figure, markerscale=2.2)
    return figure


def _label_orientation(ax: Axes, planar: bool) -> None:
    if planar:
        ax.set(xlim=(-1.05 * np.pi, 1.05 * np.pi), xlabel=r"orientation $\theta$")
        ax.set_xticks([-np.pi, 0.0, np.pi], [r"$-\pi$", "$0$", r"$\pi$"])
    else:
        ax.set(xlim=(-1.05, 1.05), xlabel="cosine with first\nprincipal direction")


@rc_context(STYLE)
def training(samples: pd.DataFrame) -> Figure:
    """Loss and relative change along the training, against evaluations, at a point of each regime."""
    figure = _new_figure(DOUBLE_COLUMN, 2.6)
    loss_axes, change_axes = figure.subplots(1, 2)
    layer = str(samples["layer"].iloc[0])
    for regime, sample in _example_samples(samples, layer).items():
        for ax, column in [(loss_axes, "loss"), (change_axes, "relative_change")]:
            x, y = _positive(sample["evaluations"], sample[column])
            ax.plot(x, y, color=EXAMPLE_COLOURS[regime], label=_point_title(regime, sample))
    for ax in (loss_axes, change_axes):
        ax.set(yscale="log", xlabel="evaluations")
        ax.set_xlim(left=0)
    loss_axes.set_ylabel("loss $R$")
    change_axes.set_ylabel(rf"relative change $\mathrm{{RD}}({_layer_symbol(layer)})$")
    _legend_above(figure)
    return figure


def orientation(weights: Array) -> Array:
    """Orientation in (-pi, pi] of input weights (m, 2), bias last: ``sign(b) arccos(w / sqrt(w^2 + b^2))`` (m,)."""
    w, b = weights.T
    return np.asarray(np.where(b < 0, -1.0, 1.0) * np.arctan2(np.abs(b), w))


def principal_direction(weights: Array) -> Array:
    """Unit vector (d + 1,) with the largest sum of squared inner products with the rows of ``weights`` (m, d + 1)."""
    direction = np.linalg.svd(weights, full_matrices=False)[2][0]
    # The sign is free: most of the weight points along the direction.
    return np.asarray(direction if (weights @ direction).sum() >= 0 else -direction)


def _cosine(weights: Array, direction: Array) -> Array:
    norms = np.linalg.norm(weights, axis=1)
    return np.asarray(weights @ direction / np.where(norms > 0, norms, 1.0))


def _matrix(rows: Any) -> Array:
    return np.array([np.asarray(row, float) for row in rows])


def _positive(x: Any, y: Any) -> tuple[Array, Array]:
    """The pairs that a log-log plot can show."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    shown = (x > 0) & (y > 0) & np.isfinite(y)
    return x[shown], y[shown]


def _examples(table: pd.DataFrame, layer: str, depth: int) -> dict[str, theory.Exponents]:
    """regime -> point, among the points of a layer of ``table`` for which theory predicts a regime."""
    of_layer = table.loc[(table["layer"] == layer) & (table["gamma_1"] == 0.0), POINT]
    return theory.example_points(list(of_layer.itertuples(index=False, name=None)), depth)


def _example_samples(samples: pd.DataFrame, layer: str) -> dict[str, pd.Series[Any]]:
    """regime -> kept network at its example point (the widest one, of the first seed, if several were kept)."""
    of_layer = samples.loc[samples["layer"] == layer].sort_values(["width", "seed"], ascending=[False, True])
    examples = _examples(of_layer, layer, int(of_layer["depth"].iloc[0]))
    return {regime: _at(of_layer, point).iloc[0] for regime, point in examples.items()}


def _example_panels(samples: pd.DataFrame, layer: str) -> tuple[Figure, list[tuple[Axes, pd.Series[Any]]]]:
    chosen = _example_samples(samples, layer)
    figure = _new_figure(max(DOUBLE_COLUMN * len(chosen) / 3, SINGLE_COLUMN), 2.5)
    axes = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
    for ax, (regime, sample) in zip(axes, chosen.items(), strict=True):
        ax.set_title(_point_title(regime, sample))
    return figure, list(zip(axes, chosen.values(), strict=True))


def _point_title(regime: str, point: pd.Series[Any]) -> str:
    return rf"{regime}: $\gamma={point['gamma']:g},\ \gamma'={point['gamma_prime']:g}$"


def _at(table: pd.DataFrame, point: theory.Exponents) -> pd.DataFrame:
    return table.loc[(table["gamma"] == point[0]) & (table["gamma_prime"] == point[1])]


def _legend_above(figure: Figure, **options: Any) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), **options)


def _new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
