"""Figures at example points: relative change against width, and networks kept whole, before and after training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

from ...display.figures import DOUBLE_COLUMN, SINGLE_COLUMN, STYLE, Array, new_figure
from .. import theory
from ..fitting import POINT, select_layer, usable_runs
from ..info import neurons_of
from .labels import layer_symbol

COLOURS = {"linear": "#2166ac", "critical": "#b8860b", "condensed": "#b2182b"}
MARKERS = {"linear": "o", "critical": "s", "condensed": "^"}
_SECOND_COLOUR = "#6a51a3"
_FURTHER = (("#5aae61", "D"), ("#9970ab", "v"), ("#8c510a", "P"))
_FEW = 4
"""A study of no more points shows them all."""
_LAYER_LINES: tuple[Any, ...] = ("-", (0, (3, 1.5)), ":", "-.", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 3)))
_FAN, _FAN_SHARE = 4.0, 0.15
"""How far beyond the largest width the slope at infinite width is drawn, at least, and as a share of the decades that widths span."""


@dataclass(frozen=True)
class Example:
    """A point of the plane that stands for a regime, and how it is drawn."""

    point: theory.Exponents
    words: str
    colour: str
    marker: str

    @property
    def title(self) -> str:
        """The regime and the point, as a title or a legend shows them."""
        where = rf"$\gamma={self.point[0]:g},\ \gamma'={self.point[1]:g}$"
        return f"{self.words}: {where}"


def examples_of(table: pd.DataFrame, layer: str) -> list[Example]:
    """Up to one point per predicted regime of a layer, among the points of ``table``."""
    of_layer = table.loc[table["layer"] == layer]
    if of_layer.empty:
        return []
    depth, points = int(of_layer["depth"].iloc[0]), list(of_layer[POINT].itertuples(index=False, name=None))
    gamma_1 = float(of_layer["gamma_1"].iloc[0])
    chosen = theory.example_points(points, depth, layer, gamma_1)
    examples = []
    for regime, point in chosen.items():
        there = theory.predicted_regime(layer, depth, *point, gamma_1) == regime
        words = f"${layer_symbol(layer)}$ {'' if there else 'nearly '}{regime}"
        examples.append(Example(point, words, COLOURS[regime], MARKERS[regime]))
    return examples


@rc_context(STYLE)
def scaling(runs: pd.DataFrame, slopes: pd.DataFrame, layer: str) -> Figure:
    """Relative change against width, every run a point, at a linear, a critical and a condensed point.

    The line has the fitted slope and passes through the mean of the logarithms, as a least-squares line does; where the slope at
    infinite width is known, a fan beyond the largest width shows it with its interval. Runs that the fit left out are open
    markers. To the right of a grey line, networks are represented by as many neurons as it tells.
    """
    of_layer, slopes_of = select_layer(runs, layer), select_layer(slopes, layer)
    figure = new_figure(SINGLE_COLUMN, 3.2)
    ax = figure.subplots()
    _mark_represented(ax, of_layer)
    examples = examples_of(slopes, layer)
    for example in [*examples, *_others(slopes_of, examples)]:
        _draw_scaling(ax, _at(of_layer, example.point), _at(slopes_of, example.point).iloc[0], example)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="width $m$",
        ylabel=rf"relative change $\mathrm{{RD}}({layer_symbol(layer)})$",
    )
    handles, _ = ax.get_legend_handles_labels()
    if any(len(np.asarray(line.get_xdata())) for line in ax.lines if line.get_fillstyle() == "none"):
        style: dict[str, Any] = {"color": "#5c5c5c", "linestyle": "none", "marker": "o", "markersize": 4}
        handles.append(Line2D([], [], fillstyle="none", label="not converged: not in the fit", **style))
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.44, 1.0), "borderaxespad": 0.3}
    ax.legend(handles=handles, handlelength=1.4, **place)
    return figure


def _others(of_layer: pd.DataFrame, examples: list[Example]) -> list[Example]:
    """The points of a small study that are no examples: several are in one regime."""
    points = list(of_layer[POINT].itertuples(index=False, name=None))
    rest = sorted({*points} - {example.point for example in examples}) if len(points) <= _FEW else []
    regime = of_layer.set_index(POINT)["predicted_regime"]
    symbol = layer_symbol(str(of_layer["layer"].iloc[0]))
    return [
        Example(point, f"${symbol}$ {regime[point]}", colour, marker)
        for point, (colour, marker) in zip(rest, _FURTHER, strict=False)
    ]


def _mark_represented(ax: Axes, runs: pd.DataFrame) -> None:
    """A line where whole networks end and represented ones begin, with the number of their neurons."""
    represented = runs.loc[runs["neurons"] < runs["width"], "neurons"]
    for neurons in sorted(set(represented)):
        ax.axvline(neurons, color="#9a9a9a", linewidth=0.8, zorder=0)
        text = f" $N = {neurons}$"
        ax.text(
            neurons, 0.01, text, transform=ax.get_xaxis_transform(), color="#6f6f6f", fontsize=7, va="bottom"
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


@rc_context(STYLE)
def functions(samples: pd.DataFrame, data_xy: tuple[Array, Array] | None = None) -> Figure:
    """The function of the network before and after training at a point of each regime (one-dimensional input).

    ``data_xy`` is x (n, 1) and y (n,), drawn as points.
    """
    figure, panels = _example_panels(samples, _first_layer(samples))
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
    dimensions the orientation is replaced by the cosine with the first principal direction of the trained weights. A ring around a dot
    is a neuron that has not moved.
    """
    figure, panels = _example_panels(samples, layer)
    planar = True
    for ax, sample in panels:
        planar, horizontals, amplitudes = neurons_of(sample)
        ring: dict[str, Any] = {"facecolor": "none", "edgecolor": "#8a8a8a", "linewidth": 0.4, "s": 10}
        dot: dict[str, Any] = {"color": "#b2182b", "linewidth": 0, "alpha": 0.7, "s": 3.5}
        drawn = [(ring, "before"), (dot, "after training")]
        for (style, label), x, y in zip(drawn, horizontals, amplitudes, strict=True):
            ax.scatter(x, y, label=label, rasterized=True, **style)
        _label_orientation(ax, planar)
    low, high = figure.axes[0].get_ylim()
    if high > 10 * max(low, 0.0):
        figure.axes[0].set_yscale("log")
        low, high = figure.axes[0].get_ylim()
        if high < 100 * low:
            figure.axes[0].yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            figure.axes[0].yaxis.set_major_formatter(
                LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf))
            )
            figure.axes[0].yaxis.set_minor_formatter(NullFormatter())
    figure.axes[0].set_ylabel(rf"amplitude $\|w_k\|$ of ${layer_symbol(layer)}$")
    _legend_above(figure, markerscale=2.2)
    return figure


def _label_orientation(ax: Axes, planar: bool) -> None:
    if planar:
        ax.set(xlim=(-1.05 * np.pi, 1.05 * np.pi), xlabel=r"orientation $\theta$")
        ax.set_xticks([-np.pi / 2, 0.0, np.pi / 2], [r"$-\pi/2$", "$0$", r"$\pi/2$"])
    else:
        ax.set(xlim=(-1.05, 1.05), xlabel="cosine with first\nprincipal direction")


@rc_context(STYLE)
def training(samples: pd.DataFrame) -> Figure:
    """Loss and relative change of every layer along the training, at a point of each regime: against the time of the flow, or against
    evaluations where a method has none.
    """
    flow = "time" in samples and all(_is_known(time) for time in samples["time"])
    along, label = ("time", "time $t$ of the flow") if flow else ("evaluations", "evaluations")
    figure = new_figure(DOUBLE_COLUMN, 2.6)
    loss_axes, change_axes = figure.subplots(1, 2)
    layers = sorted(set(samples["layer"]))
    for layer, line in zip(layers, _LAYER_LINES, strict=False):
        for example, sample in _example_samples(samples, layer):
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
    _legend_above(figure)
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


def _example_samples(samples: pd.DataFrame, layer: str) -> list[tuple[Example, pd.Series[Any]]]:
    """The kept networks at the example points: the widest one, of the first seed, if several were kept.

    The points are those of the first layer, and of three layers one where the second one condenses.
    """
    of_layer = select_layer(samples, layer).sort_values(["width", "seed"], ascending=[False, True])
    examples = examples_of(samples, _first_layer(samples))
    taken = {example.point for example in examples}
    examples += [
        replace(example, colour=_SECOND_COLOUR)
        for example in examples_of(samples, "W2")
        if example.words.endswith("condensed") and example.point not in taken
    ]
    return [(example, _at(of_layer, example.point).iloc[0]) for example in examples]


def _first_layer(samples: pd.DataFrame) -> str:
    return str(samples["layer"].min())


def _example_panels(samples: pd.DataFrame, layer: str) -> tuple[Figure, list[tuple[Axes, pd.Series[Any]]]]:
    chosen = _example_samples(samples, layer)
    figure = new_figure(np.clip(DOUBLE_COLUMN * len(chosen) / 3, SINGLE_COLUMN, DOUBLE_COLUMN), 2.5)
    axes = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
    for ax, (example, _) in zip(axes, chosen, strict=True):
        ax.set_title(example.title.replace(": ", "\n") if len(chosen) > 3 else example.title)
    return figure, [(ax, sample) for ax, (_, sample) in zip(axes, chosen, strict=True)]


def _at(table: pd.DataFrame, point: theory.Exponents) -> pd.DataFrame:
    return table.loc[(table["gamma"] == point[0]) & (table["gamma_prime"] == point[1])]


def _legend_above(figure: Figure, **options: Any) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), **options)
