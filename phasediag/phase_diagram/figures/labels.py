"""Words on a map: named initialisations and regimes, where they cover least."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from ...display.figures import Array
from .. import theory
from ..fitting import Line
from ..info import named_initialisations

_NOTHING: Array = np.empty((0, 2))
Region = Callable[[Array, Array], NDArray[np.bool_]]
"""A part of the plane: whether (gamma, gamma_prime) are inside."""


def layer_symbol(layer: str) -> str:
    """Mathtext of a layer's name: W1 -> W_1; names of parameters are upright."""
    if re.fullmatch(r"[a-zA-Z]\d*", layer):
        return f"{layer[0]}_{layer[1:]}" if len(layer) > 1 else layer
    escaped = re.sub(r"([_#%&${}])", r"\\\1", layer)
    return rf"\mathrm{{{escaped}}}"


def in_symbols(words: str) -> str:
    """Words in which the names of layers are mathtext: "W2 (operator norm), a"."""
    return re.sub(r"\b(W\d+|a)\b", lambda name: f"${layer_symbol(name.group())}$", words)


def slope_symbol(column: str) -> str:
    """Mathtext of "slope" and of "slope_infinite"."""
    return r"S_\infty" if column == "slope_infinite" else "S"


def draw_named_initialisations(
    ax: Axes, depth: int, gamma_1: float, lines: Sequence[Line], drawn: Array = _NOTHING
) -> Array:
    """Mark the named initialisations inside the map, beside the critical lines and the points (k, 2) of what else is drawn, where there is
    room; return where labels lie, in fractions of the axes (k, 2)."""
    by_point = named_initialisations(depth, gamma_1, (ax.get_xlim(), ax.get_ylim()))
    places = in_fractions(ax, np.array(list(by_point)).reshape(-1, 2))
    height = np.linspace(*ax.get_ylim(), 201)
    crossed = [in_fractions(ax, np.column_stack([line(height), height])) for line in lines]
    obstacles = np.concatenate([in_fractions(ax, drawn), *crossed])
    marks = [_Box(x, x, y, y).grown(0.015) for x, y in places]
    options = [_options(place, names) for place, names in zip(places, by_point.values(), strict=True)]
    labels = _placed(options, marks, obstacles)
    for point, label in zip(by_point, labels, strict=True):
        _draw_named(ax, point, label)
    return np.concatenate([_NOTHING, *(box.spots for box in [*marks, *(label.box for label in labels)])])


_LINE_POINT = 5e-4
"""What covering a point of a line costs, as an area: there are 201 over the height of a map."""
_LABELS_APART = 10.0
"""What covering another label costs, relative to covering anything else, once labels are known to be in each other's way."""


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

    def count(self, points: Array) -> int:
        """How many of these points (k, 2) lie inside."""
        low, high = (self.left, self.bottom), (self.right, self.top)
        return int(((points > low) & (points < high)).all(axis=1).sum())

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


@dataclass(frozen=True)
class _Label:
    """A way of writing the names of a point: to the right of its mark or to the left, above or below."""

    text: str
    rightwards: bool
    above: bool
    box: _Box


def _options(place: Array, names: list[str]) -> list[_Label]:
    """Every way of writing the names of a point at a place of the axes."""
    x, y = place
    options = []
    for text in dict.fromkeys([", ".join(names), ",\n".join(names)]):
        lines = text.split("\n")
        width, height = 0.031 * max(len(line) for line in lines), 0.065 * len(lines)  # those of a letter
        for rightwards in (True, False):
            for above in (False, True):
                left = x + 0.02 if rightwards else x - 0.02 - width
                bottom = y + 0.015 if above else y - 0.015 - height
                options.append(
                    _Label(text, rightwards, above, _Box(left, left + width, bottom, bottom + height))
                )
    return options


def _placed(options: Sequence[list[_Label]], marks: list[_Box], lines: Array) -> Sequence[_Label]:
    """One of the options of each point: one after the other where it covers least of marks, labels and lines (k, 2); if labels are then in
    each other's way, those that cover least together."""

    def alone(label: _Label) -> float:
        covered = sum(label.box.overlap(mark) for mark in marks) + 3 * label.box.outside
        return covered + _LINE_POINT * label.box.count(lines)

    costs = {label: alone(label) for one in options for label in one}
    labels: list[_Label] = []
    for one in options:
        labels.append(min(one, key=lambda label: costs[label] + _common([*labels, label])))
    if not _common(labels):
        return labels
    return min(
        product(*options), key=lambda all_: sum(map(costs.__getitem__, all_)) + _LABELS_APART * _common(all_)
    )


def _common(labels: Sequence[_Label]) -> float:
    """The area that labels have in common."""
    return sum(one.box.overlap(other.box) for one, other in combinations(labels, 2))


def _draw_named(ax: Axes, point: theory.Exponents, label: _Label) -> None:
    """Mark a point and write its names."""
    ax.plot(*point, "D", color="white", markeredgecolor="black", markersize=4.5, zorder=6, clip_on=False)
    ax.annotate(
        label.text,
        point,
        xytext=(4 if label.rightwards else -4, 4 if label.above else -4),
        textcoords="offset points",
        ha="left" if label.rightwards else "right",
        va="bottom" if label.above else "top",
        fontsize=7.5,
        zorder=7,
        path_effects=[withStroke(linewidth=2.2, foreground="white")],
    )


def draw_regime_words(ax: Axes, lines: Sequence[Line], words: Mapping[str, Region], labels: Array) -> None:
    """Write each word where it holds and there is most room beside the critical lines, the labels and the frame."""
    across, up = (
        values.ravel() for values in np.meshgrid(np.linspace(0.05, 0.95, 46), np.linspace(0.05, 0.95, 46))
    )
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    gamma, gamma_prime = left + across * (right - left), bottom + up * (top - bottom)
    height = np.linspace(bottom, top, 201)
    obstacles = [in_fractions(ax, np.column_stack([line(height), height])) for line in lines]
    room = _room(np.column_stack([across, up]), np.concatenate([*obstacles, labels]))
    for word, holds in words.items():
        reach = 0.021 * max(map(len, word.split("\n")))  # half its width
        inside = holds(gamma, gamma_prime) & (np.abs(across - 0.5) < 0.5 - reach)
        best = int(np.argmax(np.where(inside, room, -1.0)))
        if inside.any() and room[best] > 0.06:
            _write_word(ax, word, (float(across[best]), float(up[best])))


def sides(line: Line, operator_norm: bool) -> dict[str, Region]:
    """What to call the two sides of a predicted line: that of small gamma, and the other. Regimes are those of the Frobenius norm."""
    small, large = (r"RD$\to 0$", r"RD$\to\infty$") if operator_norm else ("linear", "condensed")
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


def in_fractions(ax: Axes, points: Array) -> Array:
    """Data coordinates (k, 2) as fractions of the axes."""
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    return np.asarray((points - low) / (high - low))
