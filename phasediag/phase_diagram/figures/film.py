"""How kept networks condense: their neurons at a few times, and the number of their directions along the training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from ...display.figures import DOUBLE_COLUMN, STYLE, new_figure, shown_figure, shown_style
from ...errors import InputError
from .. import theory
from ..columns import FILM
from .examples import Kept, example_samples, label_orientation, legend_above, require_samples, scale_amplitude
from .labels import layer_symbol

COLUMNS = [column.name for column in FILM]
"""What the film is drawn from."""
_HEIGHT, _ABOVE = 2.5, 0.3
"""Inches of the rows of one network, and of the legend."""
_ORIENTATIONS, _CLUSTERS, _LOSS = "#0b559f", "#d9730d", "#7f7f7f"
_FRAME: dict[str, Any] = {
    "marker": "v",
    "color": "black",
    "markersize": 4,
    "linestyle": "none",
    "clip_on": False,
}
_LATE = 4.0
"""A training that ends before so many times the onset shows on a linear axis what is no further from the onset: all happens at its end."""
_FEW, _MANY = (1, 2, 5, 10, 20, 50), (1, 10, 100)
"""Numbers of directions on an axis."""


def plot_film(
    samples: pd.DataFrame,
    layer: str = "W1",
    points: Sequence[theory.Exponents] | None = None,
) -> list[Axes]:
    """Draw how kept networks condense along their training: two rows of panels for each point, in a new pyplot figure.

    The upper row is a film: amplitude and orientation of every neuron, as in `plot_features`, at a few times of the gradient flow. A ring
    is the neuron at the start. The lower panel has the effective number of directions, the number of their clusters and the loss against
    time, the predicted time of onset as a vertical line, and the times of the film as triangles. Of several networks of a point, the widest
    is shown, of the smallest seed.

    Args:
        samples: kept networks, as in ``samples/``.
        layer: the layer to show.
        points: pairs (gamma, gamma_prime), up to 7. If None, a linear, a critical and a condensed one.

    Returns:
        The axes: for each point the lower panel, that of the loss in it, and those of the film.

    Raises:
        InputError: ``samples`` lacks columns, has no row of this layer, a point is not among them, or no network has a film: it was trained
            by adam, or by a version before 0.2.
    """
    require_samples(samples, *COLUMNS)
    shown = _filmed(example_samples(samples, layer, points))
    if not shown:
        raise InputError(
            "samples: hold no film; allowed: networks of version 0.2 or later, not trained by adam"
        )
    with shown_style():
        return _film(shown, shown_figure).axes


@rc_context(STYLE)
def film(samples: pd.DataFrame, layer: str, slopes: pd.DataFrame | None = None) -> Figure:
    """The figure of `plot_film`; with ``slopes``, it names the measured regimes."""
    return _film(_filmed(example_samples(samples, layer, slopes=slopes)), new_figure)


def has_film(samples: pd.DataFrame) -> bool:
    """Whether there is one to draw."""
    return "film_time" in samples and bool((samples["film_time"].map(np.size) > 1).any())


def _filmed(shown: list[Kept]) -> list[Kept]:
    return [(example, sample) for example, sample in shown if np.size(sample["film_time"]) > 1]


def _film(shown: list[Kept], new: Callable[[float, float], Figure]) -> Figure:
    figure = new(DOUBLE_COLUMN, _HEIGHT * len(shown) + _ABOVE)
    parts = np.ravel(figure.subfigures(len(shown), 1, squeeze=False))
    for part, (example, sample) in zip(parts, shown, strict=True):
        part.suptitle(f"{example.title}, $m$ = {_number(sample['width'])}", fontsize=8.5)
        frames = len(sample["film_time"])
        grid = part.add_gridspec(2, frames, height_ratios=(1.1, 1.0))
        course = part.add_subplot(grid[1, :])
        _draw_course(course, sample)
        panels = [part.add_subplot(grid[0, 0])]
        panels += [part.add_subplot(grid[0, at], sharey=panels[0]) for at in range(1, frames)]
        _draw_frames(panels, sample, example.colour)
        legend_above(figure, of=course) if part is parts[0] else None
    return figure


def _draw_frames(panels: list[Axes], sample: pd.Series[Any], colour: str) -> None:
    orientations, amplitudes = sample["film_orientation"], sample["film_amplitude"]
    ring: dict[str, Any] = {"facecolor": "none", "edgecolor": "#a5a5a5", "linewidth": 0.4, "s": 6}
    dot: dict[str, Any] = {"color": colour, "linewidth": 0, "alpha": 0.7, "s": 3}
    for ax, time, x, y in zip(panels, sample["film_time"], orientations, amplitudes, strict=True):
        ax.scatter(orientations[0], amplitudes[0], rasterized=True, **ring)
        ax.scatter(x, y, rasterized=True, **dot)
        ax.set_title(f"$t$ = {_number(time)}", fontsize=7.5)
        label_orientation(ax, len(sample["input_final"][0]) == 2, "cosine")
        ax.tick_params(which="both", labelleft=ax is panels[0])
    lengths = np.concatenate(list(amplitudes))
    panels[0].set_ylim(lengths[lengths > 0].min() / 1.5, 1.5 * lengths.max())
    scale_amplitude(panels[0])
    panels[0].set_ylabel(rf"$\|w_k\|$ of ${layer_symbol(sample['layer'])}$")


def _draw_course(ax: Axes, sample: pd.Series[Any]) -> None:
    moments, onset, frames = sample["moments"], sample["onset"], sample["film_time"]
    end = moments[-1]
    linear = onset < end < _LATE * onset
    begin = max(0.0, onset - _LATE * (end - onset)) if linear else moments[1]
    highest = max(*sample["orientations"], *sample["clusters"], 2.0)
    ax.plot(moments, sample["orientations"], color=_ORIENTATIONS, label="directions")
    ax.plot(moments, sample["clusters"], color=_CLUSTERS, linestyle=(0, (4, 1)), label="clusters")
    ax.plot([], [], color=_LOSS, linewidth=1.0, label="loss")
    ax.plot([], [], color="black", linestyle=(0, (1, 1)), label="predicted onset")
    if begin < onset < end:
        ax.axvline(onset, color="black", linestyle=(0, (1, 1)))
    ax.set(xscale="linear" if linear else "log", xlim=(begin, end), xlabel="time $t$ of the flow")
    ax.set(yscale="log", ylim=(0.8, 1.5 * highest), ylabel="directions")
    ax.yaxis.set_major_locator(FixedLocator(_FEW if highest < max(_FEW) else _MANY))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter("{x:.0f}")
    loss = ax.twinx()
    loss.plot(moments, np.divide(sample["moment_loss"], sample["moment_loss"][0]), color=_LOSS, linewidth=1.0)
    loss.set(ylim=(0.0, 1.1), ylabel="$R(t)\\, /\\, R(0)$")
    loss.yaxis.label.set_color(_LOSS)
    top = ax.get_xaxis_transform()
    ax.plot(
        np.maximum(frames, begin), np.ones(len(frames)), transform=top, label="times of the film", **_FRAME
    )


def _number(value: float) -> str:
    """A number as mathtext, in three digits; a power of ten where it is large or small."""
    if value == 0 or 1e-2 <= value < 1e4:
        return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"$10^{{{int(exponent)}}}$" if mantissa == "1.00" else rf"${mantissa}\cdot 10^{{{int(exponent)}}}$"
