"""Figures at example points: relative change against width, and networks kept whole, before and after training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from ...display.figures import (
    DOUBLE_COLUMN,
    SINGLE_COLUMN,
    STYLE,
    Array,
    new_figure,
    shown_figure,
    shown_style,
)
from ...errors import InputError
from ...storage.schema import require_columns
from .. import theory
from ..fitting import (
    LINE_SLOPES,
    POINT,
    POINT_KEYS,
    complete_runs,
    fit,
    points_of,
    require_one_plane,
    select_layer,
    usable_runs,
)
from ..info import neurons_of
from .labels import layer_symbol

COLOURS = {"linear": "#2166ac", "critical": "#b8860b", "condensed": "#b2182b"}
MARKERS = {"linear": "o", "critical": "s", "condensed": "^"}
_SECOND_COLOUR = "#6a51a3"
_FURTHER = (
    ("#5aae61", "D"),
    ("#9970ab", "v"),
    ("#8c510a", "P"),
    ("#35978f", "X"),
    ("#dd6b9a", "<"),
    ("#4d4d4d", ">"),
)
"""Colours and markers of further points of a regime."""
MOST = 1 + len(_FURTHER)
"""Points that one figure can tell apart, whatever their regimes."""
_FEW = 4
"""A study of no more points shows them all."""
_MOST_TICKS = 6
"""Widths that have a tick each."""
_LAYER_LINES: tuple[Any, ...] = ("-", (0, (3, 1.5)), ":", "-.", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 3)))
_FAN, _FAN_SHARE = 4.0, 0.15
"""How far beyond the largest width the slope at infinite width is drawn, at least, and as a share of the decades that widths span."""
LARGER = 2.2
"""Markers of neurons in a legend, relative to their size in the figure."""
_SAME = 1e-6
"""Points this close are one: numbers of a grid are rounded."""
_FITTED = [f"{column}{end}" for column in LINE_SLOPES for end in ("", "_low", "_high")]


@dataclass(frozen=True)
class Example:
    """A point of the plane that stands for a predicted regime of a layer, and how it is drawn."""

    point: theory.Exponents
    layer: str
    regime: str
    colour: str
    marker: str

    @property
    def words(self) -> str:
        """The layer and its regime."""
        return f"${layer_symbol(self.layer)}$ {self.regime}"

    @property
    def title(self) -> str:
        """The regime and the point, as a title or a legend shows them."""
        where = rf"$\gamma={self.point[0]:g},\ \gamma'={self.point[1]:g}$"
        return f"{self.words}: {where}"

    def measured(self, slopes: pd.DataFrame | None) -> Example:
        """This example with its measured regime, which is what maps show; marked as predicted where none is known."""
        known: pd.Series[Any] = pd.Series(dtype=object)
        if slopes is not None:
            known = _at(slopes.loc[slopes["layer"] == self.layer], self.point)["regime"]
        return replace(self, regime=next(iter(known), f"{self.regime} (predicted)"))


Kept = tuple[Example, "pd.Series[Any]"]
"""A kept network at the point that it is shown for."""
Panels = Callable[[Sequence[Axes], list[Kept]], None]
"""Draws kept networks, one into each of these axes."""


def examples_of(table: pd.DataFrame, layer: str) -> list[Example]:
    """Up to one point per predicted regime of a layer, among the points of ``table``; per measured regime of a layer that theory does not
    know."""
    of_layer = table.loc[table["layer"] == layer]
    if of_layer.empty:
        return []
    depth, points = int(of_layer["depth"].iloc[0]), list(of_layer[POINT].itertuples(index=False, name=None))
    if not theory.is_known(layer, depth):
        return _measured_examples(of_layer, layer)
    gamma_1 = float(of_layer["gamma_1"].iloc[0])
    chosen = theory.example_points(points, depth, layer, gamma_1)
    examples = []
    for regime, point in chosen.items():
        there = theory.predicted_regime(layer, depth, *point, gamma_1) == regime
        words = regime if there else f"nearly {regime}"
        examples.append(Example(point, layer, words, COLOURS[regime], MARKERS[regime]))
    return examples


def _measured_examples(of_layer: pd.DataFrame, layer: str) -> list[Example]:
    """The point with the median slope of every measured regime; none where nothing was measured."""
    if "regime" not in of_layer:
        return []
    examples = []
    for regime in theory.REGIMES:
        found = of_layer.loc[of_layer["regime"] == regime].sort_values(["slope", *POINT])
        if len(found):
            point = found[POINT].iloc[len(found) // 2]
            place = float(point["gamma"]), float(point["gamma_prime"])
            examples.append(Example(place, layer, regime, COLOURS[regime], MARKERS[regime]))
    return examples


def read_point(text: str, table: pd.DataFrame) -> theory.Exponents:
    """The point that somebody types as "0.5,0". Raises `InputError`, with a point of ``table`` as an example, if it is none."""
    try:
        gamma, gamma_prime = map(float, text.split(","))
    except ValueError:
        example = ",".join(f"{number:g}" for number in points_of(table).iloc[0])
        raise InputError(
            f"--points: {text!r} is not supported; allowed: GAMMA,GAMMA_PRIME, two numbers, as in {example}"
        ) from None
    return gamma, gamma_prime


def chosen(table: pd.DataFrame, layer: str, points: Sequence[theory.Exponents]) -> list[Example]:
    """Points of ``table`` that somebody has chosen, in this order, with the regime of a layer that is predicted there, if theory knows it.

    Raises:
        InputError: there is none, there are more than `MOST`, or one is not in the table.
    """
    of_layer = select_layer(table, layer)
    depth, gamma_1 = int(of_layer["depth"].iloc[0]), float(of_layer["gamma_1"].iloc[0])
    found = list(dict.fromkeys(_nearest(of_layer, point) for point in points))
    if not 1 <= len(found) <= MOST:
        raise InputError(f"points: {len(found)} are not supported; allowed: 1 to {MOST}")
    looks = {regime: (COLOURS[regime], MARKERS[regime]) for regime in COLOURS}
    further = iter(_FURTHER)
    examples = []
    for point in found:
        known = theory.is_known(layer, depth)
        regime = theory.predicted_regime(layer, depth, *point, gamma_1) if known else ""
        look = looks.pop(regime, None) or next(further)
        examples.append(Example(point, layer, regime, *look))
    return examples


def _nearest(of_layer: pd.DataFrame, point: theory.Exponents) -> theory.Exponents:
    """The point of a table that this one is, but for rounding."""
    try:
        wanted = np.array(point, float)
        if wanted.shape != (2,) or not np.isfinite(wanted).all():
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(
            f"points: {point!r} is not supported; allowed: two numbers, (gamma, gamma_prime)"
        ) from None
    there = points_of(of_layer).to_numpy(float)
    away = np.abs(there - wanted).max(axis=1)
    gamma, gamma_prime = map(float, there[away.argmin()])
    if away.min() > _SAME:
        raise InputError(
            f"points: {wanted[0]:g},{wanted[1]:g} is not in the study; allowed: its points, the nearest {gamma:g},{gamma_prime:g}"
        )
    return gamma, gamma_prime


def plot_scaling(
    runs: pd.DataFrame,
    points: Sequence[theory.Exponents] | None = None,
    layer: str = "W1",
    ax: Axes | None = None,
    slopes: pd.DataFrame | None = None,
) -> Axes:
    """Draw the relative change of a layer against the width, every run a point, at some points of the plane.

    The line has the fitted slope and passes through the mean of the logarithms, as a least-squares line does; where the slope at
    infinite width is known, a fan beyond the largest width shows it with its interval. Runs that the fit left out are open
    markers. To the right of a grey line, networks are represented by as many neurons as it says.

    Args:
        runs: one row per run and layer, as for `phasediag.fit`, of one depth and one gamma_1.
        points: pairs (gamma, gamma_prime), up to 7. If None, a linear, a critical and a condensed one.
        layer: the layer to show.
        ax: axes to draw into. A new pyplot figure if None.
        slopes: rows as returned by `phasediag.fit` for these runs; fitted here if None.

    Returns:
        The axes.

    Raises:
        InputError: ``runs`` are not as `phasediag.fit` wants them, ``slopes`` lack columns, one of them has no row of this layer, or a
            point is not among them.
    """
    of_layer = select_layer(complete_runs(runs), layer)
    slopes = fit(of_layer) if slopes is None else slopes
    require_columns(slopes, [*POINT_KEYS, *_FITTED, "regime"], "slopes")
    require_one_plane(slopes)
    shown = _shown(select_layer(slopes, layer), layer, points)
    with shown_style():
        ax = ax or shown_figure(*_scaling_size(shown)).subplots()
        _draw_scalings(ax, of_layer, select_layer(slopes, layer), shown)
    return ax


@rc_context(STYLE)
def scaling(
    runs: pd.DataFrame, slopes: pd.DataFrame, layer: str, points: Sequence[theory.Exponents] | None = None
) -> Figure:
    """The figure of `plot_scaling`."""
    of_layer, slopes_of = select_layer(runs, layer), select_layer(slopes, layer)
    shown = _shown(slopes_of, layer, points)
    figure = new_figure(*_scaling_size(shown))
    _draw_scalings(figure.subplots(), of_layer, slopes_of, shown)
    return figure


def _shown(of_layer: pd.DataFrame, layer: str, points: Sequence[theory.Exponents] | None) -> list[Example]:
    """The points that were chosen, or else an example of every regime; all of a small study. With their measured regimes."""
    if points is not None:
        examples = chosen(of_layer, layer, points)
    else:
        examples = examples_of(of_layer, layer)
        examples += _others(of_layer, layer, examples)
    return [example.measured(of_layer) for example in examples]


def _scaling_size(shown: list[Example]) -> tuple[float, float]:
    """Width and height in inches: the legend has a line for each point."""
    return SINGLE_COLUMN, 3.2 + 0.16 * max(len(shown) - _FEW, 0)


def _draw_scalings(ax: Axes, of_layer: pd.DataFrame, slopes_of: pd.DataFrame, shown: list[Example]) -> None:
    _mark_represented(ax, of_layer)
    for example in shown:
        _draw_scaling(ax, _at(of_layer, example.point), _at(slopes_of, example.point).iloc[0], example)
    symbol = layer_symbol(str(of_layer["layer"].iloc[0]))
    ax.set(
        xscale="log", yscale="log", xlabel="width $m$", ylabel=rf"relative change $\mathrm{{RD}}({symbol})$"
    )
    widths = sorted(set(of_layer["width"]))
    if len(widths) <= _MOST_TICKS and widths[-1] < min(
        100 * widths[0], 1e5
    ):  # labels between powers of ten would overlap
        ax.set_xticks(widths, [f"{width:g}" for width in widths])
        ax.xaxis.set_minor_locator(NullLocator())
    handles, _ = ax.get_legend_handles_labels()
    if any(len(np.asarray(line.get_xdata())) for line in ax.lines if line.get_fillstyle() == "none"):
        style: dict[str, Any] = {"color": "#5c5c5c", "linestyle": "none", "marker": "o", "markersize": 4}
        handles.append(Line2D([], [], fillstyle="none", label="not converged: not in the fit", **style))
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.44, 1.0), "borderaxespad": 0.3}
    ax.legend(handles=handles, handlelength=1.4, **place)


def _others(of_layer: pd.DataFrame, layer: str, examples: list[Example]) -> list[Example]:
    """The points of a small study that are no examples: several are in one regime."""
    points = list(of_layer[POINT].itertuples(index=False, name=None))
    rest = sorted({*points} - {example.point for example in examples}) if len(points) <= _FEW else []
    regime = of_layer.set_index(POINT)["predicted_regime"]
    return [
        Example(point, layer, regime[point], colour, marker)
        for point, (colour, marker) in zip(rest, _FURTHER, strict=False)
    ]


def _mark_represented(ax: Axes, runs: pd.DataFrame) -> None:
    """A line where whole networks end and represented ones begin, with the number of their neurons."""
    neurons = runs.get("neurons", runs["width"])  # a table of whole networks need not have them
    represented = neurons.loc[neurons < runs["width"]]
    for number in sorted(set(represented)):
        ax.axvline(number, color="#9a9a9a", linewidth=0.8, zorder=0)
        text = f" $N = {number}$"
        ax.text(
            number, 0.01, text, transform=ax.get_xaxis_transform(), color="#6f6f6f", fontsize=7, va="bottom"
        )


def _draw_scaling(ax: Axes, runs: pd.DataFrame, slope: pd.Series[Any], example: Example) -> None:
    colour, marker = example.colour, example.marker
    used = usable_runs(runs)
    rest = runs.loc[~used & (runs["relative_change"] > 0) & np.isfinite(runs["relative_change"])]
    ax.plot(rest["width"], rest["relative_change"], marker, color=colour, fillstyle="none", markersize=4)
    width, change = (runs.loc[used, key].to_numpy(float) for key in ("width", "relative_change"))
    ax.plot(width, change, marker, color=colour, markersize=4, alpha=0.75, markeredgewidth=0)
    x, y = np.zeros(0), np.zeros(0)
    if np.isfinite(slope["slope"]):
        x = np.array([width.min(), width.max()])
        y = np.exp(np.log(change).mean()) * (x / np.exp(np.log(width).mean())) ** slope["slope"]
    if np.isfinite(slope["slope_infinite"]):
        last = float(np.exp(np.log(change[width == width.max()]).mean()))
        beyond = np.array([1.0, max(_FAN, (width.max() / width.min()) ** _FAN_SHARE)])
        low, middle, high = (last * beyond ** slope[f"slope_infinite{end}"] for end in ("_low", "", "_high"))
        ax.fill_between(width.max() * beyond, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(width.max() * beyond, middle, color=colour, linestyle=(0, (1, 1)))
    label = _scaling_label(slope, example)
    ax.plot(x, y, color=colour, marker=marker, markersize=4, markevery=[], label=label)


def _scaling_label(slope: pd.Series[Any], example: Example) -> str:
    """The slope that decides on the regime, with its interval."""
    if np.isfinite(slope["slope_infinite"]):
        low, middle, high = (_two_digits(slope[f"slope_infinite{end}"]) for end in ("_low", "", "_high"))
        return rf"{example.title}: $S_\infty$ = {middle} ({low} … {high})"
    if not np.isfinite(slope["slope"]):
        return example.title
    half_width = (slope["slope_high"] - slope["slope_low"]) / 2
    error = f" ± {half_width:.2f}" if np.isfinite(half_width) else ""
    return f"{example.title}: $S$ = {_two_digits(slope['slope'])}{error}"


def _two_digits(value: float) -> str:
    """Two decimals, without a negative zero."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def plot_functions(
    samples: pd.DataFrame,
    data: Mapping[str, NDArray[Any]] | None = None,
    points: Sequence[theory.Exponents] | None = None,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draw the function of kept networks of one input, before and after training, one panel for each point.

    Of several networks of a point, the widest is shown, of the smallest seed.

    Args:
        samples: kept networks, as in ``samples/``.
        data: x (n, 1) and y (n,) of the training, as in ``data.npz``, drawn as dots.
        points: pairs (gamma, gamma_prime), up to 7. If None, a linear, a critical and a condensed one.
        axes: one for each point. A new pyplot figure if None.

    Returns:
        The axes, one for each point.

    Raises:
        InputError: ``samples`` lacks columns or is empty, its networks have more than one input, a point is not among them, or there
            are not as many axes as points.
    """
    require_samples(samples, "x", "f_initial", "f_final")
    if not all(len(x) for x in samples["x"]):
        raise InputError(
            "samples: x is empty, as functions of more than one input are not kept; allowed: networks of one input"
        )
    return _plot_panels(partial(_draw_functions, data=data), samples, _first_layer(samples), points, axes)


@rc_context(STYLE)
def functions(
    samples: pd.DataFrame,
    data: Mapping[str, NDArray[Any]] | None = None,
    slopes: pd.DataFrame | None = None,
) -> Figure:
    """The figure of `plot_functions`; with ``slopes``, it names the measured regimes."""
    shown = example_samples(samples, _first_layer(samples), slopes=slopes)
    return _panels(partial(_draw_functions, data=data), shown, new_figure)


def _draw_functions(axes: Sequence[Axes], shown: list[Kept], data: Mapping[str, NDArray[Any]] | None) -> None:
    for ax, (_, sample) in zip(axes, shown, strict=True):
        ax.plot(sample["x"], sample["f_initial"], color="#7f7f7f", linestyle=(0, (3, 1.5)), label="before")
        ax.plot(sample["x"], sample["f_final"], color="#0b559f", label="after training")
        if data:
            ax.plot(data["x"][:, 0], data["y"], "o", color="black", markersize=4, label="data", zorder=3)
        ax.set_xlabel("$x$")
    axes[0].set_ylabel("$f(x)$")


def plot_features(
    samples: pd.DataFrame,
    layer: str = "W1",
    points: Sequence[theory.Exponents] | None = None,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draw orientation and amplitude of the input weights of every neuron of kept networks, before and after training, one panel for
    each point.

    With one-dimensional input, a neuron with input weight w and bias b has the orientation
    ``sign(b) arccos(w / sqrt(w^2 + b^2))`` and the amplitude ``sqrt(w^2 + b^2)`` (Luo 2021, as in its figures). In more
    dimensions the orientation is replaced by the cosine with the first principal direction of the trained weights. A ring around a dot
    is a neuron that has not moved. Of several networks of a point, the widest is shown, of the smallest seed.

    Args:
        samples: kept networks, as in ``samples/``.
        layer: the layer to show.
        points: pairs (gamma, gamma_prime), up to 7. If None, a linear, a critical and a condensed one.
        axes: one for each point. A new pyplot figure if None.

    Returns:
        The axes, one for each point.

    Raises:
        InputError: ``samples`` lacks columns, has no row of this layer, a point is not among them, or there are not as many axes as
            points.
    """
    require_samples(samples, "input_initial", "input_final")
    return _plot_panels(_draw_features, samples, layer, points, axes, LARGER)


@rc_context(STYLE)
def features(samples: pd.DataFrame, layer: str, slopes: pd.DataFrame | None = None) -> Figure:
    """The figure of `plot_features`; with ``slopes``, it names the measured regimes."""
    return _panels(_draw_features, example_samples(samples, layer, slopes=slopes), new_figure, LARGER)


def _draw_features(axes: Sequence[Axes], shown: list[Kept]) -> None:
    for ax, (_, sample) in zip(axes, shown, strict=True):
        planar, horizontals, amplitudes = neurons_of(sample)
        ring: dict[str, Any] = {"facecolor": "none", "edgecolor": "#8a8a8a", "linewidth": 0.4, "s": 10}
        dot: dict[str, Any] = {"color": "#b2182b", "linewidth": 0, "alpha": 0.7, "s": 3.5}
        drawn = [(ring, "before"), (dot, "after training")]
        for (style, label), x, y in zip(drawn, horizontals, amplitudes, strict=True):
            ax.scatter(x, y, label=label, rasterized=True, **style)
        label_orientation(ax, planar)
    scale_amplitude(axes[0])
    axes[0].set_ylabel(rf"amplitude $\|w_k\|$ of ${layer_symbol(shown[0][1]['layer'])}$")


def scale_amplitude(ax: Axes) -> None:
    """A logarithmic axis where amplitudes span a decade."""
    low, high = ax.get_ylim()
    if high > 10 * max(low, 0.0):
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        if high < 100 * low:
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            ax.yaxis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))
            ax.yaxis.set_minor_formatter(NullFormatter())


def label_orientation(ax: Axes, planar: bool, cosine: str = "cosine with first\nprincipal direction") -> None:
    """The axis of orientations or, of weights with more than two components, of cosines."""
    if planar:
        ax.set(xlim=(-1.05 * np.pi, 1.05 * np.pi), xlabel=r"orientation $\theta$")
        ax.set_xticks([-np.pi / 2, 0.0, np.pi / 2], [r"$-\pi/2$", "$0$", r"$\pi/2$"])
    else:
        ax.set(xlim=(-1.05, 1.05), xlabel=cosine)


@rc_context(STYLE)
def training(samples: pd.DataFrame, slopes: pd.DataFrame | None = None) -> Figure:
    """Loss and relative change of every layer along the training, at a point of each regime: against the time of the flow, or against
    evaluations where a method has none. With ``slopes``, it names the measured regimes.
    """
    flow = "time" in samples and all(_is_known(time) for time in samples["time"])
    along, label = ("time", "time $t$ of the flow") if flow else ("evaluations", "evaluations")
    figure = new_figure(DOUBLE_COLUMN, 2.6)
    loss_axes, change_axes = figure.subplots(1, 2)
    layers = sorted(set(samples["layer"]))
    for layer, line in zip(layers, _LAYER_LINES, strict=False):
        for example, sample in example_samples(samples, layer, slopes=slopes):
            x, y = _positive(sample[along], sample["relative_change"])
            change_axes.plot(x, y, color=example.colour, linestyle=line)
            if layer == layers[0]:
                x, y = _positive(sample[along], sample["loss"])
                loss_axes.plot(x, y, color=example.colour, label=example.title.replace(": ", "\n"))
    for ax in (loss_axes, change_axes):
        ax.set(yscale="log", xlabel=label)
        if flow:
            ax.set_xscale("log")
        else:
            ax.set_xlim(left=0)
    loss_axes.set_ylabel("loss $R$")
    symbol = layer_symbol(layers[0]) if len(layers) == 1 else "W"
    change_axes.set_ylabel(rf"relative change $\mathrm{{RD}}({symbol})$")
    if len(layers) > 1:
        for layer, line in zip(layers, _LAYER_LINES, strict=False):
            change_axes.plot([], [], color="black", linestyle=line, label=f"${layer_symbol(layer)}$")
        change_axes.legend(loc="best")
    legend_above(figure)
    return figure


def _is_known(time: Any) -> bool:
    """Whether a kept network has the time of its flow: not one of another method, or of an early version."""
    times = np.asarray(time if time is not None else [], float)
    return len(times) > 0 and bool(np.isfinite(times).all())


def _positive(x: Any, y: Any) -> tuple[Array, Array]:
    """The pairs that a log-log plot can show."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    shown = (x > 0) & (y > 0) & np.isfinite(y)
    return x[shown], y[shown]


def require_samples(samples: pd.DataFrame, *needed: str) -> None:
    """Raises `InputError` if kept networks lack columns, or there are none."""
    require_columns(samples, [*POINT_KEYS, "width", "seed", *needed], "samples")
    if samples.empty:
        raise InputError("samples: holds no network; allowed: those that a study with [samples] has kept")


def example_samples(
    samples: pd.DataFrame,
    layer: str,
    points: Sequence[theory.Exponents] | None = None,
    slopes: pd.DataFrame | None = None,
) -> list[Kept]:
    """The kept networks at the points: the widest one, of the first seed, if several were kept; with the measured regimes of slopes.

    Without points, they are the examples of the first layer, and of three layers one where the second one condenses.
    """
    of_layer = select_layer(samples, layer).sort_values(["width", "seed"], ascending=[False, True])
    if points is None:
        examples = examples_of(samples, _first_layer(samples))
        taken = {example.point for example in examples}
        examples += [
            replace(example, colour=_SECOND_COLOUR)
            for example in examples_of(samples, "W2")
            if example.regime.endswith("condensed") and example.point not in taken
        ]
    else:
        examples = chosen(samples, layer, points)
    return [(example.measured(slopes), _at(of_layer, example.point).iloc[0]) for example in examples]


def _first_layer(samples: pd.DataFrame) -> str:
    return str(samples["layer"].min())


def _plot_panels(
    draw: Panels,
    samples: pd.DataFrame,
    layer: str,
    points: Sequence[theory.Exponents] | None,
    axes: Sequence[Axes] | None,
    markerscale: float = 1.0,
) -> list[Axes]:
    """Draw kept networks into given axes, with the legend in the first one, or into a new pyplot figure, with the legend above."""
    shown = example_samples(samples, layer, points)
    with shown_style():
        if axes is None:
            return _panels(draw, shown, shown_figure, markerscale).axes
        given: list[Axes] = list(np.ravel(np.asarray(axes, dtype=object)))
        if len(given) != len(shown):
            raise InputError(f"axes: {len(given)} for {len(shown)} points; allowed: one for each")
        _draw_panels(draw, given, shown)
        given[0].legend(markerscale=markerscale)
    return given


def _panels(
    draw: Panels, shown: list[Kept], new: Callable[[float, float], Figure], markerscale: float = 1.0
) -> Figure:
    """A figure of one panel for each kept network."""
    width = float(np.clip(DOUBLE_COLUMN * len(shown) / 3, SINGLE_COLUMN, DOUBLE_COLUMN))
    figure = new(width, 2.5)
    _draw_panels(draw, list(figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]), shown)
    legend_above(figure, markerscale=markerscale)
    return figure


def _draw_panels(draw: Panels, axes: list[Axes], shown: list[Kept]) -> None:
    for ax, (example, _) in zip(axes, shown, strict=True):
        ax.set_title(example.title.replace(": ", "\n") if len(shown) > 3 else example.title)
    draw(axes, shown)


def _at(table: pd.DataFrame, point: theory.Exponents) -> pd.DataFrame:
    return table.loc[(table["gamma"] == point[0]) & (table["gamma_prime"] == point[1])]


def legend_above(figure: Figure, of: Axes | None = None, **options: Any) -> None:
    """The legend of the first axes, or of others, above a figure."""
    handles, labels = (of or figure.axes[0]).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), **options)
