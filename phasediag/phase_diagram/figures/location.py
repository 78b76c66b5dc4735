"""One initialisation on the predicted map of every layer."""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import Any

import matplotlib
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...display.figures import DOUBLE_COLUMN, STYLE, Array, new_figure
from .. import theory
from ..info import SLOPE_LIMIT
from ..locate.location import Location
from .labels import draw_named_initialisations, draw_regime_words, in_fractions, layer_symbol, sides
from .maps import draw_predicted
from .plane import GAMMA, GAMMA_PRIME

_STAR: Any = {"marker": "*", "markersize": 11, "markerfacecolor": "#ffd92f", "markeredgewidth": 0.8}
_DIAMOND: Any = {"marker": "D", "markersize": 4.5, "markerfacecolor": "white"}
_STEPS = 121
_MARGIN = 0.4
"""Least distance of the point, and of its bars, from the frame."""


@rc_context(STYLE)
def location_map(location: Location) -> Figure:
    """The predicted slope of every layer over the plane of an initialisation, with its critical line; and the initialisation, with bars of
    its uncertainty. Matrices between hidden layers, which all have the same map, are shown in both norms."""
    depth, gamma_1 = location.depth, _plane(location)
    first, *between, last = theory.LAYERS[depth]
    hidden = (
        f"{layer_symbol(between[0])}" + (rf" \ldots {layer_symbol(between[-1])}" if len(between) > 1 else "")
        if between
        else ""
    )
    panels = [(first, f"${layer_symbol(first)}$", False)]
    panels += [(layer, f"${hidden}$", False) for layer in between[:1]]
    panels += [(layer, f"${hidden}$ in operator norm", True) for layer in between[:1]]
    panels += [(last, f"${last}$", False)]
    rows = len(panels) // 2
    figure = new_figure(DOUBLE_COLUMN, 0.3 + 2.7 * rows)
    axes = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
    for ax, (layer, title, operator_norm) in zip(axes.flat, panels, strict=True):
        _draw(ax, location, layer, operator_norm)
        ax.set_title(title)
    for ax in axes[-1]:
        ax.set_xlabel(GAMMA + (rf"   ($\gamma_1 = {gamma_1:.3g}$)" if gamma_1 else ""))
    for ax in axes[:, 0]:
        ax.set_ylabel(GAMMA_PRIME)
    colours = ScalarMappable(Normalize(-SLOPE_LIMIT, SLOPE_LIMIT), "RdBu_r")
    bar = figure.colorbar(colours, ax=axes, extend="both", aspect=24 * rows, pad=0.02)
    bar.set_label(r"predicted slope $S\ (m \to \infty)$")
    star, diamond = (Line2D([], [], linestyle="none", color="black", **style) for style in (_STAR, _DIAMOND))
    star.set_label(
        "this initialisation, with its uncertainty" if any(location.uncertainty) else "this initialisation"
    )
    diamond.set_label("others in common use")
    handles = [axes[0, 0].lines[0], star, *([diamond] if not gamma_1 else [])]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _draw(ax: Axes, location: Location, layer: str, operator_norm: bool) -> None:
    """One layer's map."""
    depth, (gamma, gamma_prime, _) = location.depth, location.exponents
    off, gamma_1 = location.uncertainty, _plane(location)
    across = _range(gamma, off.gamma, depth / 2 - 1.0, max(depth / 2 + 1.5, depth + 0.25))
    up = _range(gamma_prime, off.gamma_prime, -0.75, 1.25)
    slope = partial(theory.predicted_slope, layer, depth, gamma_1=gamma_1, operator_norm=operator_norm)
    slopes: Array = np.array([list(map(slope, across, repeat(float(at)))) for at in up])
    ax.imshow(
        slopes,
        extent=(across[0], across[-1], up[0], up[-1]),
        origin="lower",
        aspect="auto",
        interpolation="bilinear",
        cmap=matplotlib.colormaps["RdBu_r"],
        vmin=-SLOPE_LIMIT,
        vmax=SLOPE_LIMIT,
    )

    def line(at: Array) -> Array:
        return theory.critical_gamma(layer, depth, at, gamma_1, operator_norm)

    draw_predicted(ax, line, "predicted critical line")
    ax.set(xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
    reach = np.linspace(-1.0, 1.0)[:, None]
    at, ends = np.array([gamma, gamma_prime]), np.diag([off.gamma, off.gamma_prime])
    bars = np.concatenate([at + reach * end for end in ends])
    labels = draw_named_initialisations(ax, depth, gamma_1, [line], bars)
    draw_regime_words(
        ax,
        [line],
        sides(line, operator_norm),
        np.vstack([labels, in_fractions(ax, np.array([[gamma, gamma_prime]]))]),
    )
    ax.errorbar(
        gamma,
        gamma_prime,
        xerr=off.gamma or None,
        yerr=off.gamma_prime or None,
        color="black",
        elinewidth=1.0,
        capsize=2.5,
        linestyle="none",
        zorder=8,
        **_STAR,
    )


def _plane(location: Location) -> float:
    """The gamma_1 of the plane that is drawn: 0 where it may be."""
    gamma_1 = location.exponents.gamma_1
    return 0.0 if abs(gamma_1) <= location.uncertainty.gamma_1 else gamma_1


def _range(at: float, off: float, low: float, high: float) -> Array:
    """Coordinates of an axis that holds a point with its bar, and at least these two numbers."""
    reach = abs(off) + _MARGIN
    return np.linspace(min(low, at - reach), max(high, at + reach), _STEPS)
