"""Maps over the plane (gamma, gamma'): slopes, regimes, orientations, and how far runs can be trusted.

Frames have the columns of the files of a sweep: ``runs`` (one row per run and layer), ``slopes`` (one row per point and layer, see
`phasediag.fitting.fit`). Every map takes the name of the layer that it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter
from numpy.typing import NDArray

from ...display.figures import (
    DOUBLE_COLUMN,
    SINGLE_COLUMN,
    STYLE,
    Array,
    new_figure,
    plain_text,
    shown_figure,
    shown_style,
)
from ...errors import InputError, choices
from ...storage.schema import require_columns
from .. import info, theory
from ..fitting import (
    LINE_SLOPES,
    POINT_KEYS,
    Line,
    measure_of,
    predicted_line,
    require_one_plane,
    select_layer,
)
from ..info import Plane, split_points
from ..measures import MEASURES, NETWORK, RELATIVE_CHANGE, Measure
from .labels import (
    Region,
    draw_named_initialisations,
    draw_regime_words,
    in_symbols,
    layer_symbol,
    sides,
    slope_symbol,
)
from .plane import GAMMA, GAMMA_PRIME, paint

# Blue, yellow and red stay apart for the common colour-vision deficiencies, and agree with the diverging slope map.
REGIME_COLOURS = {
    "linear": "#67a9cf",
    "critical": "#fee08b",
    "condensed": "#e06c55",
    "undetermined": "#e6e6e6",
}
PREDICTED_COLOUR = "#1b9e4b"
# The same blue, yellow and grey, with orange and purple, which stay apart from them, for one condensed layer.
COMBINED_COLOURS = {
    "both linear": "#67a9cf",
    "$W_1$ condensed": "#f3a45c",
    "$W_2$ condensed": "#9d83c3",
    "both condensed": "#c8452f",
    "critical": "#fee08b",
    "undetermined": "#e6e6e6",
}
COMBINED_LINES: dict[str, dict[str, Any]] = {"W1": {"linestyle": "-"}, "W2": {"linestyle": (0, (1.2, 0.9))}}
Dashes = tuple[float, ...]
"""Lengths of dashes and gaps, in line widths."""
RULE_STYLES: dict[str, tuple[str, Dashes]] = {
    "first": (PREDICTED_COLOUR, (3.2, 1.8)),
    "between": ("#8b35b5", (1.2, 1.0)),
    "operator": ("#8a7a00", (8.0, 1.8)),
    "last": ("#c25e00", (5.0, 1.4, 1.2, 1.4)),
}
"""Colour and dashes of the lines of the rule, by their kind, where a map shows several."""


def plot_map(
    slopes: pd.DataFrame, layer: str | None = None, ax: Axes | None = None, column: str = "slope"
) -> Axes:
    """Draw the map of a column of the slopes of a layer, or of a measure's values.

    Slopes have diverging colours about 0, other columns colours from their smallest to their largest number, with the measured and the
    predicted critical line and named initialisations. Where nothing is predicted of a measure, the lines are those of the rule
    for all layers. Points on a product grid (of any spacing) are cells, further points are
    markers; what has no number is hatched, or a cross. Where all points have one gamma', slopes are drawn against gamma, with their
    intervals and the rule.

    Args:
        slopes: rows as returned by `phasediag.fit` or `phasediag.values`, of one measure, one depth and one gamma_1.
        layer: the layer to show; the first one there is if None, that is W1, or "network" for a measure of the whole network.
        ax: axes to draw into; its figure gets a colour bar beside it. A new pyplot figure if None.
        column: "slope" over the widths, "slope_infinite", a measure of `phasediag.values` ("effective_rank"), or any other column of
            numbers ("predicted_slope", "left_out", one of your own).

    Returns:
        The axes.

    Raises:
        InputError: ``slopes`` lacks columns, has no row of this layer or rows of several planes, or ``column`` holds no number.
    """
    are_values = column in MEASURES and isinstance(slopes, pd.DataFrame) and "runs" in slopes
    lines = [column] if column in LINE_SLOPES else LINE_SLOPES
    of_layer = _one_plane(slopes, layer, ["width"] if are_values else _with_intervals(lines))
    if column not in of_layer or not pd.api.types.is_numeric_dtype(of_layer[column]):
        numbers = of_layer.select_dtypes("number").columns.difference(POINT_KEYS, sort=False)
        wrong = "holds no numbers" if column in of_layer else "is not in slopes"
        raise InputError(f"column: {column!r} {wrong}; {choices(column, numbers)}")
    if not np.isfinite(of_layer[column].to_numpy(float)).any():
        least = {"slope": "two widths have converged", "slope_infinite": "four widths have converged"}
        where = f", where {least[column]}" if column in least else ""
        raise InputError(f"column: {column} has no value at any point; allowed: columns with values{where}")
    with shown_style():
        ax = ax or shown_figure(*map_size(of_layer)).subplots()
        if column in LINE_SLOPES:
            _draw_slopes(ax, of_layer, column)
        elif are_values:
            draw_values(ax, of_layer, MEASURES[column])
        else:
            _draw_column(ax, of_layer, column)
    return ax


def plot_regimes(slopes: pd.DataFrame, layer: str | None = "W1", ax: Axes | None = None) -> Axes:
    """Draw the map of the measured regimes of a layer, with the measured and the predicted critical line and named initialisations.

    Args:
        slopes: rows as returned by `phasediag.fit`, of one depth and one gamma_1.
        layer: the layer to show; None for those of W1 and W2 together, in one map.
        ax: axes to draw into. A new pyplot figure if None.

    Returns:
        The axes.

    Raises:
        InputError: ``slopes`` lacks columns, has no row of the layer, or rows of several planes, or the measure has no regimes.
    """
    layers = [layer] if layer else list(COMBINED_LINES)
    _require_regimes(slopes)
    of_layers = {one: _one_plane(slopes, one, ["regime", *_with_intervals(LINE_SLOPES)]) for one in layers}
    with shown_style():
        ax = ax or shown_figure(*_regime_size(slopes, len(layers))).subplots()
        if layer:
            _draw_regimes(ax, of_layers[layer])
        else:
            _draw_combined_regimes(ax, of_layers)
    return ax


def _require_regimes(slopes: pd.DataFrame) -> None:
    measure = measure_of(slopes) if isinstance(slopes, pd.DataFrame) else RELATIVE_CHANGE
    if not measure.has_regimes:
        allowed = ", ".join(one.name for one in MEASURES.values() if one.has_regimes)
        raise InputError(f"slopes: those of {measure.name} mean no regime; allowed: slopes of {allowed}")


def _with_intervals(slopes: Iterable[str]) -> list[str]:
    """The columns of these slopes and of the ends of their intervals."""
    return [f"{column}{end}" for column in slopes for end in ("", "_low", "_high")]


def _one_plane(slopes: pd.DataFrame, layer: str | None, needed: Iterable[str]) -> pd.DataFrame:
    """The rows of a layer, or of the first one, once it is known that these columns are there and the points are of one plane."""
    require_columns(slopes, [*POINT_KEYS, *needed], "slopes")
    require_one_plane(slopes)
    return select_layer(slopes, layer or str(next(iter(slopes["layer"]), "")))


@rc_context(STYLE)
def slope_map(slopes: pd.DataFrame, layer: str, column: str = "slope") -> Figure:
    """The figure of `plot_map` for a slope."""
    of_layer = select_layer(slopes, layer)
    figure = new_figure(*map_size(of_layer))
    _draw_slopes(figure.subplots(), of_layer, column)
    return figure


@rc_context(STYLE)
def value_map(values: pd.DataFrame, layer: str, measure: Measure) -> Figure:
    """The figure of `plot_map` for what `phasediag.values` returns."""
    of_layer = select_layer(values, layer)
    figure = new_figure(*map_size(of_layer))
    draw_values(figure.subplots(), of_layer, measure)
    return figure


def _draw_slopes(ax: Axes, of_layer: pd.DataFrame, column: str) -> None:
    one_row = of_layer["gamma_prime"].nunique() < 2
    (_draw_slope_row if one_row else _draw_slope_map)(ax, of_layer, column)


def _draw_slope_row(ax: Axes, row: pd.DataFrame, column: str) -> None:
    layer, depth, gamma_1 = str(row["layer"].iloc[0]), int(row["depth"].iloc[0]), _gamma_1(row)
    measure = measure_of(row)
    gamma, gamma_prime = row["gamma"].to_numpy(float), float(row["gamma_prime"].iloc[0])
    ax.axhline(0.0, color="#9a9a9a", linewidth=0.7, zorder=0)
    style: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 3.5, "linestyle": "none"}
    ax.errorbar(
        gamma,
        row[column],
        info.error_bars(row, column),
        elinewidth=0.9,
        capsize=2,
        label="measured, 95 % interval",
        **style,
    )
    if measure.operator_norm is not None and theory.is_known(layer, depth):
        along = np.linspace(gamma.min(), gamma.max(), 401)
        rule = [
            theory.predicted_slope(layer, depth, float(at), gamma_prime, gamma_1, measure.operator_norm)
            for at in along
        ]
        dashes: Any = (3.2, 1.8)
        ax.plot(along, rule, color=PREDICTED_COLOUR, linewidth=1.5, dashes=dashes, label="predicted")
    subscripts = [*([r"\infty"] if column == "slope_infinite" else []), *filter(None, [measure.index])]
    symbol = f"S_{{{', '.join(subscripts)}}}" if subscripts else "S"
    whose = f"({layer_symbol(layer)})" if measure.of_layers else ""
    ax.set(xlabel=_along_gamma(gamma_prime), ylabel=f"${symbol}{whose}$")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), borderaxespad=0.3, ncols=2)


@rc_context(STYLE)
def regime_map(slopes: pd.DataFrame, layer: str) -> Figure:
    """The figure of `plot_regimes` for a layer."""
    figure = new_figure(*_regime_size(slopes))
    _draw_regimes(figure.subplots(), select_layer(slopes, layer))
    return figure


@rc_context(STYLE)
def combined_regime_map(slopes: pd.DataFrame) -> Figure:
    """The figure of `plot_regimes` for the first two layers of input weights.

    A point is critical if one of the layers is, and undetermined if one of them is.
    """
    figure = new_figure(*_regime_size(slopes, len(COMBINED_LINES)))
    _draw_combined_regimes(
        figure.subplots(), {layer: select_layer(slopes, layer) for layer in COMBINED_LINES}
    )
    return figure


def _regime_size(slopes: pd.DataFrame, layers: int = 1) -> tuple[float, float]:
    """Width and height of a map of regimes in inches: that of several layers has its legend beside it."""
    width, height = map_size(slopes)
    return width if layers == 1 else 1.42 * width, height


def _draw_regimes(ax: Axes, of_layer: pd.DataFrame) -> None:
    handles, plane = _paint_regimes(ax, of_layer, REGIME_COLOURS)
    drawn, lines = _draw_lines(ax, plane, of_layer, info.deciding_slope(of_layer))
    draw_named_initialisations(ax, int(of_layer["depth"].iloc[0]), _gamma_1(of_layer), lines)
    finish_map(ax, handles + drawn, 3, _gamma_1(of_layer))


def _draw_combined_regimes(ax: Axes, layers: Mapping[str, pd.DataFrame]) -> None:
    slopes = pd.concat(layers.values())
    handles, plane = _paint_regimes(ax, info.combined_regimes(slopes), COMBINED_COLOURS)
    drawn, lines = draw_lines_of_layers(ax, plane, layers)
    handles += drawn
    labels = draw_named_initialisations(ax, int(slopes["depth"].iloc[0]), _gamma_1(slopes), lines)
    if lines:
        words = {
            name.replace(" ", "\n"): _combined_region(regimes, lines)
            for regimes, name in info.COMBINED_REGIMES.items()
        }
        draw_regime_words(ax, lines, words, labels)
    finish_map(ax, [], 1, _gamma_1(slopes))
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))


def draw_lines_of_layers(
    ax: Axes, plane: Plane, layers: Mapping[str, pd.DataFrame]
) -> tuple[list[Any], list[Line]]:
    """Draw the measured critical lines of several layers, by their slopes, and the predicted ones.

    Returns:
        Legend handles, with one band for all lines and one prediction; and the predicted lines.
    """
    styles = list(COMBINED_LINES.values()) if len(layers) > 1 else [None]
    measured = [
        draw_measured(ax, plane, of_layer, info.deciding_slope(of_layer), style)
        for of_layer, style in zip(layers.values(), styles, strict=True)
    ]
    predicted = [line for of_layer in layers.values() if (line := predicted_line(of_layer)) is not None]
    handles = [line for drawn in measured for line in drawn[:1]]
    handles += [band for drawn in measured for band in drawn[1:]][:1]
    handles += [draw_predicted(ax, line) for line in predicted][:1]
    return handles, predicted


def _combined_region(regimes: tuple[str, str], lines: Sequence[Line]) -> Region:
    """Where theory expects these regimes of W1 and W2, given their critical lines."""

    def inside(gamma: Array, gamma_prime: Array) -> NDArray[np.bool_]:
        first, second = (
            (gamma > line(gamma_prime)) == (regime == "condensed")
            for line, regime in zip(lines, regimes, strict=True)
        )
        return np.asarray(first & second)

    return inside


@rc_context(STYLE)
def orientation_map(runs: pd.DataFrame, slopes: pd.DataFrame, layer: str) -> Figure:
    """The slope map of a layer beside the effective number of orientations of its neurons after training.

    The number, at most 512, is the median over the converged runs of the largest width of a point: few orientations are what
    condensation means, and the map shows that they come with S > 0.
    """
    slopes_of = select_layer(slopes, layer)
    counts = info.values(select_layer(runs, layer), "orientations")
    figure = new_figure(DOUBLE_COLUMN, map_size(slopes)[1])
    figure.set_layout_engine("constrained", wspace=0.06)
    left, right = figure.subplots(1, 2, sharey=True)
    column = info.deciding_slope(slopes_of)
    _draw_slope_map(left, slopes_of, column)
    plane = split_points(counts)
    missing = paint_values(right, plane, MEASURES["orientations"])
    handles, _ = _draw_lines(right, plane, slopes_of, column)
    finish_map(right, handles + missing, 2, _gamma_1(slopes_of))
    right.set_ylabel("")
    return figure


def draw_values(ax: Axes, values: pd.DataFrame, measure: Measure) -> None:
    """Draw what `phasediag.values` returns for one layer as a map, with the lines of the rule; against gamma where there is one gamma'."""
    if values["gamma_prime"].nunique() < 2:
        _draw_value_row(ax, values, measure)
        return
    missing = paint_values(ax, split_points(values), measure)
    lines = info.rule_lines(values)
    handles = draw_rule(ax, lines)
    depth, gamma_1 = int(values["depth"].iloc[0]), _gamma_1(values)
    draw_named_initialisations(ax, depth, gamma_1, [line.gamma for line in lines])
    finish_map(ax, handles + missing, 2, gamma_1)


def _draw_value_row(ax: Axes, row: pd.DataFrame, measure: Measure) -> None:
    ax.plot(row["gamma"], row[measure.name], "o", color="black", markersize=3.5)
    if measure.is_logarithmic:
        ax.set_yscale("log")
    gamma_prime = float(row["gamma_prime"].iloc[0])
    ax.set(xlabel=_along_gamma(gamma_prime), ylabel=_value_label(row, measure))


def _along_gamma(gamma_prime: float) -> str:
    return rf"{GAMMA}   ($\gamma' = {gamma_prime:g}$)"


def _value_label(values: pd.DataFrame, measure: Measure) -> str:
    layer, width = str(values["layer"].iloc[0]), int(values["width"].iloc[0])
    whose = f" of ${layer_symbol(layer)}$" if measure.of_layers else ""
    return f"{measure.words}{whose} at $m = {_power(width)}$"


def paint_values(ax: Axes, plane: Plane, measure: Measure, bar_at: str = "right") -> list[Any]:
    """Paint a measure of points, with a colour bar on this side; return the legend handle of what has no value, if any."""
    numbers = plane.table[measure.name].to_numpy(float)
    ends = info.value_range(numbers, measure)
    scale = LogNorm(*ends, clip=True) if measure.is_logarithmic else Normalize(*ends, clip=True)
    missing = paint(ax, plane, measure.name, scale, matplotlib.colormaps["viridis"], "none converged")
    few = measure.is_logarithmic and float(scale.vmax or 1.0) < 1000.0 * float(scale.vmin or 1.0)
    ticks: dict[str, Any] = {"ticks": LogLocator(subs=(1.0, 2.0, 5.0)), "format": "{x:g}"} if few else {}
    above = "max" if (numbers > ends[1]).any() else "neither"
    bar = _colour_bar(ax, ScalarMappable(scale, "viridis"), bar_at, extend=above, **ticks)
    bar.minorformatter = NullFormatter()
    bar.set_label(_value_label(plane.table, measure))
    return missing


def _colour_bar(ax: Axes, painted: ScalarMappable, at: str, **options: Any) -> Colorbar:
    shape: dict[str, Any] = {"aspect": 24 if at == "right" else 18, "pad": 0.03}
    bar: Colorbar = ax.figure.colorbar(painted, ax=ax, location=at, **shape, **options)
    return bar


def _power(width: int) -> str:
    """A width as mathtext: powers of ten as such."""
    exponent = len(str(width)) - 1
    return f"10^{{{exponent}}}" if exponent > 3 and width == 10**exponent else str(width)


def _paint_regimes(ax: Axes, table: pd.DataFrame, colours: Mapping[str, str]) -> tuple[list[Any], Plane]:
    """Paint the regimes of points by name; return the legend handles of those present, and the plane."""
    names = list(colours)
    plane = split_points(
        table.assign(code=table["regime"].map({name: float(i) for i, name in enumerate(names)}))
    )
    scale = Normalize(-0.5, len(names) - 0.5)
    missing = paint(ax, plane, "code", scale, ListedColormap(list(colours.values())), "not run")
    present = [name for name in names if (table["regime"] == name).any()]
    return [Patch(facecolor=colours[name], label=name) for name in present] + missing, plane


@rc_context(STYLE)
def diagnosis(runs: pd.DataFrame) -> Figure:
    """Three maps that tell how far the runs can be trusted, over all widths and seeds of a point.

    The median number of evaluations of finished runs; the largest final loss, as a fraction of the initial one (finite
    losses only); the fraction of runs that did not converge (stalled, at the limit, diverged or failed), unless all converged.
    """
    plane = split_points(info.reliability(runs))
    figure = new_figure(DOUBLE_COLUMN, 2.5 if plane.table["gamma_prime"].nunique() > 1 else 2.2)
    panels: dict[str, tuple[str, Callable[[Array], Normalize]]] = {
        "evaluations": ("evaluations (median)", log_norm),
        "loss_fraction": ("final / initial loss (worst)", log_norm),
        "not_converged": ("fraction not converged", lambda values: Normalize(0.0, 1.0)),
    }
    if not plane.table["not_converged"].any():
        del panels["not_converged"]
        figure.suptitle("all runs converged", fontsize="medium")
    axes = figure.subplots(1, len(panels), sharey=True)
    for ax, (column, (label, norm)) in zip(axes, panels.items(), strict=True):
        scale = norm(plane.table[column].to_numpy(float))
        paint(ax, plane, column, scale, matplotlib.colormaps["viridis"])
        bar = figure.colorbar(ScalarMappable(scale, "viridis"), ax=ax, location="top", aspect=18, pad=0.03)
        bar.set_label(label)
        if isinstance(scale, LogNorm):
            _label_decades(bar, scale)
        ax.set_xlabel(GAMMA)
    figure.axes[0].set_ylabel(GAMMA_PRIME)
    return figure


def _label_decades(bar: Colorbar, scale: LogNorm) -> None:
    """Label the decades of a logarithmic colour bar, and the threes between them where decades are few."""
    few = float(scale.vmax or 1.0) < 100.0 * float(scale.vmin or 1.0)
    bar.locator = LogLocator(subs=(1.0, 3.0) if few else (1.0,), numticks=6)
    bar.formatter = LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf))
    bar.ax.xaxis.set_minor_formatter(NullFormatter())


def _draw_slope_map(ax: Axes, of_layer: pd.DataFrame, column: str) -> None:
    plane, measure = split_points(of_layer), measure_of(of_layer)
    missing = paint_slopes(ax, plane, measure, column)
    handles, lines = _draw_lines(ax, plane, of_layer, column)
    labels = draw_named_initialisations(ax, int(of_layer["depth"].iloc[0]), _gamma_1(of_layer), lines)
    if len(lines) == 1:
        draw_regime_words(ax, lines, sides(lines[0], bool(measure.operator_norm)), labels)
    finish_map(ax, handles + missing, 2, _gamma_1(of_layer))


def paint_slopes(ax: Axes, plane: Plane, measure: Measure, column: str, bar_at: str = "right") -> list[Any]:
    """Paint the slopes of a measure, with a colour bar on this side; return the legend handle of what has no slope, if any."""
    colours = matplotlib.colormaps["RdBu_r"]
    norm, extend = symmetric_norm(plane.table[column].to_numpy(float), measure)
    missing = paint(ax, plane, column, norm, colours, "no slope")
    bar = _colour_bar(ax, ScalarMappable(norm, colours), bar_at, extend=extend)
    bar.set_label(_slope_label(str(plane.table["layer"].iloc[0]), column, measure))
    return missing


def _draw_column(ax: Axes, of_layer: pd.DataFrame, column: str) -> None:
    values, signed = of_layer[column].to_numpy(float), "slope" in column
    norm, extend = (
        symmetric_norm(values, measure_of(of_layer)) if signed else (_whole_range(values), "neither")
    )
    colours = matplotlib.colormaps["RdBu_r" if signed else "viridis"]
    plane = split_points(of_layer)
    missing = paint(ax, plane, column, norm, colours, "no number")
    handles, lines = _draw_lines(ax, plane, of_layer, info.deciding_slope(of_layer))
    draw_named_initialisations(ax, int(of_layer["depth"].iloc[0]), _gamma_1(of_layer), lines)
    bar = ax.figure.colorbar(ScalarMappable(norm, colours), ax=ax, extend=extend, aspect=24, pad=0.03)
    bar.set_label(f"{plain_text(column)} of ${layer_symbol(str(of_layer['layer'].iloc[0]))}$")
    finish_map(ax, handles + missing, 2, _gamma_1(of_layer))


def _slope_label(layer: str, column: str, measure: Measure) -> str:
    limit = r"\ (m \to \infty)" if column == "slope_infinite" else ""
    whose = f"({layer_symbol(layer)})" if measure.of_layers else ""
    return rf"$S = \mathrm{{d}}\,\log\,{measure.symbol}{whose}\,/\,\mathrm{{d}}\,\log\,m{limit}$"


def _draw_lines(ax: Axes, plane: Plane, of_layer: pd.DataFrame, column: str) -> tuple[list[Any], list[Line]]:
    """Draw the measured critical line of a layer, and the predicted one, or those of the rule where a measure has none.

    Returns:
        Their legend handles, and the predicted lines.
    """
    handles = draw_measured(ax, plane, of_layer, column) if measure_of(of_layer).has_regimes else []
    predicted = predicted_line(of_layer)
    if predicted is not None:
        return [*handles, draw_predicted(ax, predicted)], [predicted]
    rule = info.rule_lines(of_layer)
    return handles + draw_rule(ax, rule), [line.gamma for line in rule]


def draw_measured(
    ax: Axes, plane: Plane, of_layer: pd.DataFrame, column: str, style: Mapping[str, Any] | None = None
) -> list[Any]:
    """Draw the measured critical line as far as it exists, or both of them, with the band; return their legend handles.

    With a ``style`` of its own it is one of several, and its label names the layer.
    """
    lines = [info.measured_line(of_layer, plane, column, side) for side in info.sides(measure_of(of_layer))]
    drawn = [_draw_measured(ax, plane, of_layer, column, line, style) for line in lines if not line.empty]
    return drawn[0] if drawn else []


def _draw_measured(
    ax: Axes,
    plane: Plane,
    of_layer: pd.DataFrame,
    column: str,
    line: pd.DataFrame,
    style: Mapping[str, Any] | None,
) -> list[Any]:
    symbol = slope_symbol(column)
    name = f"({layer_symbol(str(of_layer['layer'].iloc[0]))})" if style else ""
    drawn: dict[str, Any] = {"color": "black", "linewidth": 1.8, "zorder": 4, **(style or {})}
    if line["gamma"].count() == 1:  # a crossing alone in its map is drawn over the height of its row
        line = line.dropna(subset="gamma")
        ends = plane.row_edges(float(line.index[0]))
        line = pd.concat([line, line]).set_axis(pd.Index(ends, name=line.index.name))
    y = line.index.to_numpy(float)
    low, high = line["gamma_low"].to_numpy(float), line["gamma_high"].to_numpy(float)
    band = np.isfinite(low) & np.isfinite(high)
    handles: list[Any] = ax.plot(line["gamma"], y, label=f"measured ${symbol}{name} = 0$", **drawn)
    if band.sum() > 1:
        ax.fill_betweenx(y, low, high, where=list(band), color="black", alpha=0.2, linewidth=0, zorder=2)
        for end in (low, high):
            ax.plot(end, y, color="black", linewidth=0.5, zorder=2)
        handles.append(Patch(facecolor="#cccccc", edgecolor="black", linewidth=0.5, label="95 % band"))
    return handles


def draw_predicted(ax: Axes, line: Line, label: str = "predicted", dashes: Dashes = (3.2, 1.8)) -> Line2D:
    """Draw a predicted critical line over the height of a map; return its legend handle."""
    gamma_prime = np.linspace(*ax.get_ylim(), 801)
    style: dict[str, Any] = {"color": PREDICTED_COLOUR, "linewidth": 1.5, "dashes": dashes, "zorder": 5}
    (predicted,) = ax.plot(line(gamma_prime), gamma_prime, label=label, **style)
    return predicted


def draw_rule(ax: Axes, lines: Sequence[theory.CriticalLine]) -> list[Any]:
    """Draw several lines of the rule over the height of a map, each with dashes and a colour of its own; return their legend handles."""
    handles = []
    for line in lines:
        colour, dashes = RULE_STYLES[line.kind]
        drawn = draw_predicted(
            ax, line.gamma, f"rule: {in_symbols(line.name.replace('operator', 'op.'))}", dashes
        )
        drawn.set(color=colour, path_effects=[withStroke(linewidth=2.9, foreground="white")])
        handles.append(drawn)
    return handles


def finish_map(ax: Axes, handles: list[Any], columns: int, gamma_1: float) -> None:
    """Name the axes of a map, and its plane unless gamma_1 is 0; put the legend above it, in so many columns."""
    plane = rf"   ($\gamma_1 = {gamma_1:g}$)" if gamma_1 else ""
    ax.set(xlabel=GAMMA + plane, ylabel=GAMMA_PRIME)
    if handles:
        place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderaxespad": 0.3}
        ax.legend(handles=handles, ncols=min(columns, len(handles)), **place)


def _gamma_1(table: pd.DataFrame) -> float:
    return float(table["gamma_1"].iloc[0])


def map_size(slopes: pd.DataFrame) -> tuple[float, float]:
    """Width and height of a map in inches: low if it has one row, wider if its legend has the lines of a whole network."""
    one_row = slopes["gamma_prime"].nunique() < 2
    several = not one_row and (slopes["layer"] == NETWORK).all() and len(info.rule_lines(slopes)) > 2
    return SINGLE_COLUMN * (1.25 if several else 1.0), 2.6 if one_row else 3.4 if several else 3.0


def symmetric_norm(slopes: Array, measure: Measure = RELATIVE_CHANGE) -> tuple[Normalize, str]:
    """Colours centred on 0 up to `phasediag.phase_diagram.info.slope_limit`, and which ends of the colour bar are cut."""
    values, limit = slopes[np.isfinite(slopes)], info.slope_limit(slopes, measure)
    below, above = bool((values < -limit).any()), bool((values > limit).any())
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    return Normalize(-limit, limit), extend[below, above]


def _whole_range(values: Array) -> Normalize:
    """Colours from the smallest to the largest finite number."""
    finite = values[np.isfinite(values)]
    return Normalize(finite.min(), finite.max())


def log_norm(values: Array, least: float = 30.0) -> LogNorm:
    """A logarithmic scale over the positive values that spans at least so large a ratio."""
    return LogNorm(*info.log_range(values, least), clip=True)
