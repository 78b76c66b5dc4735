"""Several condensation studies together: where the bound of p lines holds, and in which epochs neurons have condensed.

    python -m phasediag.condensation.audit OUT [OUT ...] [-o audit.png]

reads the runs of the folders, prints a table, and draws one figure: a row for each optimiser and a column for each activation.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..display.figures import DOUBLE_COLUMN, STYLE, new_figure, render
from ..display.streams import unfailing
from ..display.terminal import say
from ..errors import InputError
from ..kinds import kind_in, open_store
from .counts import summarise
from .figures import add_overview_bar, draw_overview, names_of_stds, overview_handles, title_of
from .kind import KIND

METHODS = {
    "adam": "Adam",
    "gd": "gradient\ndescent",
    "gradient-flow": "gradient\nflow",
    "normalized-gd": "normalised\nsteps",
}
_ORDER = ["tanh", "sigmoid", "softplus", "x_tanh", "x2_tanh", "relu"]
_STD_COLOURS = ["#440154", "#31688e", "#35b779", "#e9a21a", "#b2182b"]
_SHOWN_DIMENSION = 5


def read_runs(folders: Sequence[str]) -> pd.DataFrame:
    """The runs of several condensation studies.

    Raises:
        InputError: a folder holds no runs, or runs of a phase diagram.
    """
    frames = []
    for folder in folders:
        store = open_store(folder)
        if not store.exists() or kind_in(store) is not KIND:
            raise InputError(
                f"{folder}: holds no condensation study; allowed: folders that 'phasediag run' has written"
            )
        frames.append(store.runs())
    runs = pd.concat(frames, ignore_index=True)
    if runs.empty:
        raise InputError(f"{', '.join(folders)}: hold no rows")
    return runs


def table(summary: pd.DataFrame) -> pd.DataFrame:
    """One row per optimiser, activation and std: in how many dimensions of the data neurons condense, and what holds of the bound there.

    ``condensed``: dimensions at which at least half of the seeds condense, out of all; ``lines``: the range of the most frequent number
    there; ``within_bound``: mean share of seeds with at most p lines, there; ``as_predicted``: the share of active neurons near
    predicted directions at their best snapshot, the median there; of the prediction for signs for Adam.
    """
    rows = []
    names = _in_order(summary["activation"])
    order = summary.sort_values(
        ["method", "activation", "std"],
        key=lambda column: column.map(names.index) if column.name == "activation" else column,
    )
    for key, cells in order.groupby(["method", "activation", "multiplicity", "std"], sort=False):
        condensed = cells.loc[cells["first"].notna()]
        column = "sign_fraction" if condensed["sign_fraction"].notna().any() else "predicted_fraction"
        rows.append(
            {
                **dict(zip(("method", "activation", "p", "std"), key, strict=True)),
                "condensed": f"{len(condensed)} of {len(cells)}",
                "lines": _span(condensed["lines"]),
                "within_bound": condensed["within_bound"].mean(),
                "as_predicted": condensed[column].median(),
            }
        )
    return pd.DataFrame(rows)


def _in_order(activations: pd.Series[Any]) -> list[str]:
    """The activations in the order of the figure: built-in ones by their multiplicity, then others by name."""
    there = set(activations)
    return [*(name for name in _ORDER if name in there), *sorted(there - set(_ORDER))]


def _span(numbers: pd.Series[Any]) -> str:
    if numbers.empty:
        return "-"
    low, high = int(numbers.min()), int(numbers.max())
    return str(low) if low == high else f"{low}-{high}"


@rc_context(STYLE)
def figure_of(summary: pd.DataFrame) -> Figure:
    """Left: over dimensions and scales of initial weights, the most frequent number of lines where condensation is strongest, coloured
    by the share of seeds with more than p. Right: from when to when at least half of the seeds have condensed, in one dimension."""
    methods = [name for name in METHODS if name in set(summary["method"])]
    names = _in_order(summary["activation"])
    stds = sorted(summary["std"].unique())
    figure = new_figure(DOUBLE_COLUMN, 1.35 * len(methods) + 0.8)
    grid = figure.add_gridspec(len(methods), len(names) + 1, width_ratios=[*[1.0] * len(names), 1.9])
    for row, method in enumerate(methods):
        of_method = summary.loc[summary["method"] == method]
        for column, name in enumerate(names):
            ax = figure.add_subplot(grid[row, column])
            cells = of_method.loc[of_method["activation"] == name]
            draw_overview(ax, cells)
            _label_panel(ax, cells, row == 0, row == len(methods) - 1, column == 0, METHODS[method])
            if (row, column) == (len(methods) - 1, len(names) // 2):
                ax.set_xlabel("dimension $d$ of the data")
        _draw_spans(figure.add_subplot(grid[row, len(names)]), of_method, names, stds, row == 0)
    add_overview_bar(figure, figure.axes)
    handles = [
        Line2D([], [], color=colour, linewidth=3, label=f"std {name}")
        for name, colour in zip(names_of_stds(stds), _STD_COLOURS, strict=False)
    ]
    figure.legend(
        handles=[*handles, *overview_handles()], loc="outside upper center", ncols=6, columnspacing=0.9
    )
    return figure


def _label_panel(ax: Axes, cells: pd.DataFrame, top: bool, bottom: bool, left: bool, method: str) -> None:
    if top and len(cells):
        p = cells["multiplicity"].iloc[0]
        ax.set_title(
            f"{title_of(cells['activation'].iloc[0])}\n{f'$p={p}$' if p else 'no $p$'}", fontsize=7.5
        )
    if not bottom:
        ax.tick_params(labelbottom=False)
    if left:
        ax.set_ylabel(f"{method}\nstd", fontsize=7.5)
    else:
        ax.tick_params(labelleft=False)


def _draw_spans(
    ax: Axes, summary: pd.DataFrame, names: Sequence[str], stds: Sequence[float], top: bool
) -> None:
    """Bars from the first to the last epoch at which at least half of the seeds have condensed, one for each activation and std."""
    dimensions = summary["dimension"].unique()
    shown = min(dimensions, key=lambda d: abs(d - _SHOWN_DIMENSION), default=_SHOWN_DIMENSION)
    there: list[dict[str, Any]] = summary.loc[summary["dimension"] == shown].to_dict("records")  # type: ignore[assignment]
    for cells in there:
        if np.isfinite(cells["first"]):
            place = names.index(cells["activation"]) + 0.19 * (stds.index(cells["std"]) - (len(stds) - 1) / 2)
            first, last = max(cells["first"], 1.0), max(cells["last"], 1.2)
            colour = _STD_COLOURS[stds.index(cells["std"]) % len(_STD_COLOURS)]
            ax.plot(
                [first, max(last, 1.15 * first)],
                [place, place],
                color=colour,
                linewidth=2.4,
                solid_capstyle="butt",
            )
    ax.set_xscale("log")
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), [title_of(name) for name in names], fontsize=6.5)
    ax.yaxis.tick_right()
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=6.5)
    ax.grid(axis="x", linewidth=0.3, color="#d0d0d0")
    if top:
        ax.set_title(f"epochs, condensed\n$d={shown}$", fontsize=7.5)


def main(
    folders: Annotated[list[str], typer.Argument(metavar="OUT...", help="Folders of condensation studies.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to draw: .png or .svg.")] = Path(
        "audit.png"
    ),
) -> None:
    """Where does the bound of p lines hold? Prints a table over several studies, and draws it."""
    kind = output.suffix.lstrip(".")
    if kind not in ("png", "svg"):
        raise InputError(f"{output}: is not supported; allowed: a .png or .svg file")
    summary = summarise(read_runs(folders))
    figure = figure_of(summary)
    figure.set_label("audit of condensation")
    output.write_bytes(render(figure)[kind])
    formats: dict[str, Any] = {"p": lambda p: f"{p}" if p else "-", "std": "{:g}".format}
    formats |= dict.fromkeys(("within_bound", "as_predicted"), lambda share: f"{share:.0%}")
    say(table(summary).to_string(index=False, na_rep="-", formatters=formats))
    say(f"wrote {output}")


if __name__ == "__main__":
    with unfailing():
        try:
            typer.run(main)
        except (InputError, OSError) as error:
            say(f"error: {error}", error=True)
            sys.exit(2)
