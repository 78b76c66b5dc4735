"""What all figures have in common: their sizes and fonts, and how they become files."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import colormaps, interactive, is_interactive, rc_context, rcParamsDefault
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

Array = NDArray[np.float64]
Drawing = Callable[[], Figure]
"""Draws a figure. Processes send it to each other: a `functools.partial` of a function of a module."""

SINGLE_COLUMN, DOUBLE_COLUMN = 3.4, 7.0
"""Widths of a figure in inches: one and two columns of a journal page."""

DPI = 200
"""Dots per inch of a PNG."""

_OF_WINDOWS = ("backend", "backend_fallback", "interactive", "toolbar")

STYLE: Any = {
    # complete: what the user has set for other figures does not show in these
    **{key: value for key, value in rcParamsDefault.items() if key not in _OF_WINDOWS},
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
    "pdf.fonttype": 42,  # TrueType, which journals ask for
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, not known to pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def shown_figure(width: float, height: float) -> Figure:
    """An empty figure of pyplot's, of so many inches, which a notebook or a window shows."""
    from matplotlib import pyplot  # the only place where a figure has to show on a user's screen

    return pyplot.figure(figsize=(width, height), layout="constrained")


@contextmanager
def shown_style() -> Iterator[None]:
    """The look of all figures while one that pyplot shows is drawn. The first one makes a notebook interactive, which has to last."""
    with rc_context(STYLE):
        yield
        lasting = is_interactive()
    interactive(lasting)


def plain_text(text: str, longest: int = 40) -> str:
    """Text of users as a label: nothing in it is mathtext, and it is not too long."""
    text = " ".join(text.split())
    return (text if len(text) <= longest else f"{text[: longest - 1]}…").replace("$", r"\$")


FORMATS: dict[str, tuple[Any, dict[str, None]]] = {
    "png": (FigureCanvasAgg, {}),
    "svg": (FigureCanvasSVG, {"Date": None}),
    "pdf": (FigureCanvasPdf, {"CreationDate": None}),
}
"""What writes each format, and what its metadata leave out: the same figure is the same bytes every time."""


def render(figure: Figure, formats: Sequence[str] = ("png", "svg")) -> dict[str, bytes]:
    """The figure as files, by format: PNG of 200 dpi; SVG with text as paths; PDF. The same bytes for the same figure every time.

    It is laid out once, as a PNG: all files show the same arrangement.
    """
    title = figure.get_label() or "phasediag"
    files = {}
    with rc_context(STYLE), _dates_of_fonts_unheeded():
        figure.dpi = DPI
        for name in ("png", *(name for name in formats if name != "png")):
            canvas, left_out = FORMATS[name]
            content = io.BytesIO()
            getattr(canvas(figure), f"print_{name}")(content, metadata={"Title": title, **left_out})
            figure.set_layout_engine("none")
            files[name] = content.getvalue()
    return {name: files[name] for name in formats}


def pixels(values: NDArray[np.float64], colormap: str, ends: tuple[float, float]) -> bytes:
    """A PNG with one pixel for each of the values (rows, columns), the first row lowest; NaN is grey."""
    content, colours = io.BytesIO(), colormaps[colormap].with_extremes(bad="#b8bec5")
    imsave(content, np.flipud(values), vmin=ends[0], vmax=ends[1], cmap=colours, format="png")
    return content.getvalue()


@contextmanager
def _dates_of_fonts_unheeded() -> Iterator[None]:
    """Without the warnings of fontTools, in a PDF, that matplotlib's own font has an early date."""
    fonts = logging.getLogger("fontTools.ttLib.tables._h_e_a_d")
    fonts.addFilter(_is_not_about_dates)
    try:
        yield
    finally:
        fonts.removeFilter(_is_not_about_dates)


def _is_not_about_dates(record: logging.LogRecord) -> bool:
    return "timestamp" not in record.getMessage()
