"""Numbers as a page carries them: rounded to a useful precision, NaN as None, long curves thinned out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

CURVE_POINTS = 401
"""Most points of a curve."""
_SHADES = 33


def rounded(values: Any, digits: int = 5) -> list[float | None]:
    """Numbers with so many significant digits; None where they are not finite."""
    numbers: Iterable[float] = np.asarray(values, float).tolist()
    form, is_finite = f"%.{digits}g", math.isfinite  # a page has hundreds of thousands of numbers
    return [float(form % number) if is_finite(number) else None for number in numbers]


def curve(values: Any) -> list[float | None]:
    """The numbers of a curve, at most `CURVE_POINTS` of them."""
    array = np.asarray(values, float)
    return rounded(array[spread(len(array), CURVE_POINTS)])


def spread(length: int, most: int) -> NDArray[np.int64]:
    """At most so many numbers below a length, at even distances, the first and the last one among them."""
    return np.unique(np.linspace(0, max(length - 1, 0), min(length, most)).round().astype(np.int64))


def codes(values: Iterable[Any], words: Iterable[Any]) -> list[int]:
    """The number of each value in a list of words; -1 for others."""
    code = {word: index for index, word in enumerate(words)}
    return [code.get(value, -1) for value in values]


def shades(colormap: str) -> list[str]:
    """The colours of a scale of matplotlib, from the lowest value to the highest."""
    return [to_hex(matplotlib.colormaps[colormap](s)) for s in np.linspace(0.0, 1.0, _SHADES)]
