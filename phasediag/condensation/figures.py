"""Figures of a condensation study: inner products of input weights, outputs, direction fields, and counts of lines.

DataFrames in, matplotlib figures out; nothing else is computed. Frames have the columns of the files of a study.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..display.figures import DOUBLE_COLUMN, SINGLE_COLUMN, STYLE, Array, Drawing, new_figure
from .clusters import THRESHOLD, Directions
from .counts import CONDENSED, condensed_share, summarise

NAMES = {
    "x_tanh": r"$x\,\tanh x$",
    "x2_tanh": r"$x^2\tanh x$",
    "relu": "ReLU",
}
"""How activations are written; others as they are called."""
NEVER = "#dddddd"
"""Colour of what never condensed."""
FEW_ACTIVE = 0.2
"""With a smaller share of active neurons, being on a line says little."""
_BLUE, _RED, _GREEN, _GREY = "#2166ac", "#b2182b", "#1b9e4b", "#6f6f6f"
_PANEL = 1.15
"""Width of a small panel in inches."""
_ACROSS = 6
_BEYOND = ScalarMappable(Normalize(0.0, 1.0), "Reds")
"""Colours of the share of seeds beyond the bound."""
_THRESHOLDS = np.arange(5.0, 61.0, 1.0)
_DOT = 32.0
"""Area of the dot of all seeds, in points squared."""
_MOST_PLANES = 4
"""Values of dimension and std together, up to which every one gets figures of its own."""


def drawings(
    runs: pd.DataFrame, samples: pd.DataFrame, data: Mapping[str, NDArray[Any]]
) -> dict[str, Drawing]:
    """What draws every figure that the data of a study allow.

    Args:
        runs: rows of ``runs/``.
        samples: rows of ``samples/``.
        data: the arrays of ``data.npz``, or nothing.

    Returns:
        file name without ending -> drawing.
    """
    found: dict[str, Drawing] = {}
    planes = list(runs.groupby(["dimension", "std"], sort=True))
    for (dimension, std), of_plane in planes[:_MOST_PLANES] if len(planes) <= _MOST_PLANES else []:
        kept = samples.loc[(samples["dimension"] == dimension) & (samples["std"] == std)]
        ending = f"_d{dimension}_std{std:g}" if len(planes) > 1 else ""
        found |= {f"{key}{ending}": drawing for key, drawing in _of_plane(of_plane, kept, data).items()}
    if len(planes) > 1:
        found["overview"] = partial(overview, runs)
    return found


def _of_plane(
    runs: pd.DataFrame, samples: pd.DataFrame, data: Mapping[str, NDArray[Any]]
) -> dict[str, Drawing]:
    found: dict[str, Drawing] = {}
    if runs["lines"].notna().any():
        found = {"counts": partial(counts, runs), "evolution": partial(evolution, runs)}
    kept = samples.loc[samples["seed"] == samples["seed"].min()] if len(samples) else samples
    if len(kept) and "counts" in found:
        found |= {"heatmap": partial(heatmap, kept, runs), "thresholds": partial(thresholds, kept, runs)}
        found["training"] = partial(training, kept)
        if all(len(field) for field in kept["field"]):
            found |= {
                "outputs": partial(outputs, kept, runs, data),
                "directions": partial(directions, kept, runs),
            }
    return found


# Panels: one for each network, or for each layer of one.


def title_of(activation: str) -> str:
    """An activation as it is written in a title."""
    return NAMES.get(activation, activation)


class Panel(NamedTuple):
    """What a panel shows: a network, or a layer of one.

    Attributes:
        key: (activations, layer).
        rows: its rows of a table.
        title: identifies it among the others.
    """

    key: tuple[str, str]
    rows: pd.DataFrame
    title: str


def panels_of(table: pd.DataFrame) -> list[Panel]:
    """The panels of a table, by multiplicity and layer; without multiplicity last."""
    found = [
        ((str(key[0]), str(key[1])), rows)
        for key, rows in table.groupby(["activations", "layer"])
        if isinstance(key, tuple)
    ]
    order = {name: index for index, name in enumerate(["tanh", "sigmoid", "softplus", "x_tanh", "x2_tanh"])}

    def place(panel: tuple[tuple[str, str], pd.DataFrame]) -> tuple[Any, ...]:
        (network, layer), rows = panel
        first = table.loc[table["activations"] == network, "multiplicity"].iloc[0]
        alone = rows["activation"].iloc[0] == network
        return (not alone, (first or 99) if alone else 0, order.get(network, 99), network, layer)

    layers, networks = table["layer"].nunique() > 1, table["activations"].nunique() > 1
    return [Panel(key, rows, _title(key, rows, layers, networks)) for key, rows in sorted(found, key=place)]


def _title(key: tuple[str, str], rows: pd.DataFrame, several_layers: bool, several_networks: bool) -> str:
    network, layer = key
    first = rows.iloc[0]
    p = f", $p={first['multiplicity']}$" if first["multiplicity"] else ""
    mixed = several_networks and network != first["activation"]
    above = f"{'/'.join(map(title_of, network.split('/')))}\n" if mixed else ""
    return f"{above}{f'{layer}: ' if several_layers else ''}{title_of(first['activation'])}{p}"


def _grid(
    panels: int,
    height: float,
    rows: int = 1,
    share: bool = True,
    width: float = _PANEL,
    least: float = SINGLE_COLUMN,
) -> tuple[Figure, NDArray[Any]]:
    """A figure of so many panels, `_ACROSS` next to each other, each of `rows` axes; axes[row, panel]."""
    across = min(panels, _ACROSS)
    down = math.ceil(panels / across)
    wide = min(max(across * width + 0.75, least), DOUBLE_COLUMN)
    figure = new_figure(wide, height * down * rows + 0.55)
    axes = figure.subplots(down * rows, across, squeeze=False, sharex=share, sharey="row" if share else False)
    placed = np.empty((rows, panels), dtype=object)
    for row in range(rows):
        for panel in range(down * across):
            ax = axes[(panel // across) * rows + row, panel % across]
            if panel < panels:
                placed[row, panel] = ax
            else:
                ax.remove()
    return figure, placed


def _epochs(runs: pd.DataFrame) -> dict[tuple[str, str], int]:
    """The epoch at which each layer has condensed most, in the median over seeds."""
    best = summarise(runs).dropna(subset=["epoch"]).to_dict("records")
    return {(row["activations"], row["layer"]): int(row["epoch"]) for row in best}


def _at(rows: pd.DataFrame, epoch: int) -> pd.Series[Any] | None:
    there = rows.loc[rows["epoch"] == epoch]
    return None if there.empty else there.iloc[0]


def matrix(value: Any) -> Array:
    """A matrix of a table, which holds it as a list of rows."""
    rows = [np.asarray(row, dtype=float) for row in value]
    return np.stack(rows) if rows else np.empty((0, 0))


# Inner products.


@rc_context(STYLE)
def heatmap(samples: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """D(u, v) between the active neurons of kept networks, at the start and where condensation is strongest, ordered by line.

    One column for each activation, or for each layer of a network that has several (Zhou 2022b, figures 2 and 3). Below each: the
    share of neurons on a line, and the number of lines where this network has condensed.
    """
    panels, epochs = panels_of(samples), _epochs(runs)
    figure, axes = _grid(len(panels), _PANEL + 0.3, rows=2, share=False, least=2.1)
    figure.set_layout_engine("constrained", h_pad=0.06)
    norm = Normalize(-1.0, 1.0)
    for panel, (key, rows, name) in enumerate(panels):
        best = epochs.get(key, int(rows["epoch"].max()))
        for row, epoch in enumerate((int(rows["epoch"].min()), best)):
            ax = axes[row, panel]
            _draw_products(ax, _at(rows, epoch), norm)
            title = f"{name}\n" if row == 0 else ""
            ax.set_title(f"{title}epoch {epoch}", fontsize=7.5)
    bar = figure.colorbar(ScalarMappable(norm, "RdBu_r"), ax=axes.ravel().tolist(), shrink=0.6, aspect=30)
    bar.set_label("$D(u, v)$")
    figure.supxlabel("active neurons, ordered by line", fontsize=8.5)
    return figure


def _say_not_reached(ax: Axes) -> None:
    ax.text(0.5, 0.5, "not reached", ha="center", va="center", transform=ax.transAxes)


def _draw_products(ax: Axes, sample: pd.Series[Any] | None, norm: Normalize) -> None:
    ax.set(xticks=[], yticks=[])
    if sample is None:
        _say_not_reached(ax)
        return
    found = Directions.of(matrix(sample["input"]))
    order = found.in_order()
    if not len(order):
        ax.text(0.5, 0.5, "no active\nneuron", ha="center", va="center", transform=ax.transAxes)
        return
    ax.imshow(found.cosines[np.ix_(order, order)], norm=norm, cmap="RdBu_r", interpolation="nearest")
    for edge in np.cumsum([len(group) for group in found.groups()]):
        if edge < len(order):
            ax.axhline(edge - 0.5, color="black", linewidth=0.4)
            ax.axvline(edge - 0.5, color="black", linewidth=0.4)
    lines, aligned = len(found.groups()), found.aligned_fraction()
    # A few neurons that happen to be parallel are no line of the network's.
    on = f"{lines} line{'s' if lines != 1 else ''}" if aligned >= CONDENSED else "a line"
    ax.set_xlabel(f"{aligned:.0%} on {on}", fontsize=7.5, labelpad=2)


# Counts.


@rc_context(STYLE)
def counts(runs: pd.DataFrame) -> Figure:
    """The number of lines over the seeds, for every activation or layer, beside the bound p, where condensation is strongest."""
    panels, epochs = panels_of(runs), _epochs(runs)
    figure = new_figure(min(max(SINGLE_COLUMN, 0.62 * len(panels) + 1.0), DOUBLE_COLUMN), 2.7)
    ax = figure.subplots()
    labels, highest = [], 1.0
    for place, (key, rows, name) in enumerate(panels):
        first, epoch = rows.iloc[0], epochs.get(key)
        there = rows.loc[(rows["epoch"] == epoch) & rows["lines"].notna()]
        numbers, times = np.unique(there["lines"], return_counts=True)
        highest = max(highest, *numbers, float(first["multiplicity"]))
        ax.scatter(
            np.full(len(numbers), place), numbers, s=130 * times / max(len(there), 1), color=_BLUE, zorder=3
        )
        if first["multiplicity"]:
            ax.plot([place - 0.4, place + 0.4], 2 * [first["multiplicity"]], color=_RED, linewidth=1.6)
        what = name.replace(", ", "\n").replace(": ", "\n")
        when = f"epoch {epoch}" if epoch is not None else "no count"
        labels.append("\n".join([what, *([] if first["multiplicity"] else ["no $p$"]), when]))
    long = len(labels) > 10 or any(
        len(line) > 12 for label in labels for line in label.split("\n") if "$" not in line
    )
    if long:
        labels = [label.replace("\n", ", ") for label in labels]
    ax.set_xticks(
        range(len(labels)), labels, fontsize=6.5 if len(labels) > 4 else 7.5, rotation=90 if long else 0
    )
    ax.set(ylabel="lines", ylim=(-0.6, highest + 0.7), xlim=(-0.6, len(labels) - 0.4))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    ax.grid(axis="y", linewidth=0.3, color="#d0d0d0")
    ax.set_axisbelow(True)
    dots = [
        Line2D([], [], marker="o", linestyle="", color=_BLUE, markersize=math.sqrt(130 * s), label=f"{s:.0%}")
        for s in (0.25, 1.0)
    ]
    bound = Line2D([], [], color=_RED, linewidth=1.6, label="bound: $p$ lines")
    figure.legend(
        handles=[bound, *dots],
        loc="outside upper center",
        ncols=3,
        title="share of the seeds, as area",
        title_fontsize=7.5,
    )
    return figure


@rc_context(STYLE)
def evolution(runs: pd.DataFrame) -> Figure:
    """When condensation appears and dissolves: above, the number of lines over the seeds at every snapshot, with the bound p; below,
    the shares of active neurons on their lines and near predicted directions, median and quartiles."""
    panels = panels_of(runs)
    figure, axes = _grid(len(panels), 1.25, rows=2, width=1.25)
    most = float(np.nanmax(runs[["lines", "multiplicity"]].to_numpy(float)))
    for panel, (_, rows, name) in enumerate(panels):
        above, below = axes[0, panel], axes[1, panel]
        above.set_title(name, fontsize=7.5)
        _draw_lines(above, rows, most)
        _draw_shares(below, rows)
        for ax in (above, below):
            _epoch_axis(ax, _first_epoch(runs), float(runs["epoch"].max()))
        above.tick_params(labelbottom=False)
    axes[0, 0].set_ylabel("lines")
    axes[1, 0].set_ylabel("share of\nactive neurons")
    figure.supxlabel("epoch", fontsize=8.5)
    handles = _evolution_handles(runs)
    room: dict[str, Any] = {"ncols": 4} if len(panels) > 4 else {"ncols": 2, "fontsize": 6.5}
    figure.legend(handles=handles, loc="outside upper center", columnspacing=1.0, handlelength=1.3, **room)
    return figure


def _epoch_axis(ax: Axes, first: float, last: float) -> None:
    """Epochs from 0 on a logarithmic axis, which is linear up to the first one."""
    last = max(first, last)
    ax.set_xscale("symlog", linthresh=first, linscale=0.4)
    ax.set_xlim(0, last)
    decades = [10.0**k for k in range(math.ceil(math.log10(first)), math.floor(math.log10(last)) + 1)]
    shown = decades[:: max(1, math.ceil(len(decades) / 4))]
    if len(shown) < 2:
        shown = sorted({first, *shown, last})
    names = [f"{epoch:g}" if epoch < 1e4 else rf"$10^{{{math.log10(epoch):.0f}}}$" for epoch in shown]
    ax.set_xticks([0, *shown], ["0", *names])
    ax.minorticks_off()
    ax.tick_params(axis="x", labelsize=6.5)


def _first_epoch(runs: pd.DataFrame) -> float:
    return float(max(min([epoch for epoch in runs["epoch"].unique() if epoch > 0], default=1), 1))


def _draw_lines(ax: Axes, rows: pd.DataFrame, most: float) -> None:
    seeds = rows["seed"].nunique()
    table = rows.dropna(subset=["lines"]).groupby(["epoch", "lines"]).size().rename("seeds").reset_index()
    ax.scatter(
        table["epoch"],
        table["lines"],
        s=_DOT * table["seeds"] / seeds,
        color=_BLUE,
        linewidth=0,
        zorder=3,
        clip_on=False,
    )
    bound = rows["multiplicity"].iloc[0]
    if bound:
        ax.axhline(bound, color=_RED, linewidth=1.0)
    ax.set_ylim(-0.5, most + 0.7)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    share = condensed_share(rows)
    for first, last in _stretches(share.index.to_numpy(float), share.to_numpy() >= 0.5):
        ax.axvspan(first, last, color="#fee08b", alpha=0.6, linewidth=0, zorder=0)


def _stretches(epochs: Array, yes: NDArray[np.bool_]) -> Iterator[tuple[float, float]]:
    """First and last epoch of every stretch of neighbouring snapshots for which something holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], yes.astype(int), [0]])))
    for first, after in zip(edges[::2], edges[1::2], strict=True):
        yield epochs[first], epochs[after - 1]


SHARES: dict[str, tuple[str, Any, str]] = {
    "aligned_fraction": ("black", "-", "on their lines"),
    "predicted_fraction": (_GREEN, "-", "as predicted (gradient)"),
    "sign_fraction": (_RED, "--", "as predicted (sign)"),
}
"""Shares of active neurons: colour, style and meaning."""


def _draw_shares(ax: Axes, rows: pd.DataFrame) -> None:
    for column, (colour, style, _) in SHARES.items():
        known = rows.dropna(subset=[column])
        if known.empty:
            continue
        by_epoch = known.groupby("epoch")[column]
        low, middle, high = (by_epoch.quantile(q) for q in (0.25, 0.5, 0.75))
        ax.fill_between(low.index, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.plot(middle.index, middle, color=colour, linestyle=style, linewidth=1.0)
    ax.set_ylim(-0.03, 1.03)


def _evolution_handles(runs: pd.DataFrame) -> list[Any]:
    shown = [(column, look) for column, look in SHARES.items() if runs[column].notna().any()]
    lines = [Line2D([], [], color=colour, linestyle=style, label=text) for _, (colour, style, text) in shown]
    condensed = Line2D([], [], color="#fee08b", linewidth=6, label="half of the seeds condensed")
    dot = Line2D(
        [],
        [],
        marker="o",
        markersize=math.sqrt(_DOT),
        linestyle="",
        color=_BLUE,
        label="all seeds (area: share)",
    )
    bound = (
        [Line2D([], [], color=_RED, linewidth=1.0, label="bound: $p$ lines")]
        if runs["multiplicity"].any()
        else []
    )
    return [condensed, dot, *bound, *lines]


@rc_context(STYLE)
def thresholds(samples: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """How the number of lines depends on the threshold at which groups of neurons are one, where condensation is strongest.

    The curve belongs to a kept network; the dots are means over all seeds, with their standard deviation.
    """
    panels, epochs = panels_of(samples), _epochs(runs)
    figure, axes = _grid(len(panels), 1.5)
    for panel, (key, rows, name) in enumerate(panels):
        ax, epoch = axes[0, panel], epochs.get(key, int(rows["epoch"].max()))
        ax.set_title(f"{name}\nepoch {epoch}", fontsize=7.5)
        sample = _at(rows, epoch)
        if sample is not None:
            found = Directions.of(matrix(sample["input"]))
            ax.step(
                _THRESHOLDS,
                [found.count_lines(t) for t in _THRESHOLDS],
                color=_GREY,
                where="mid",
                linewidth=2.4,
            )
        there = runs.loc[
            (runs["activations"] == key[0]) & (runs["layer"] == key[1]) & (runs["epoch"] == epoch)
        ]
        for threshold, column in ((20.0, "lines_narrow"), (THRESHOLD, "lines"), (40.0, "lines_wide")):
            values = there[column].dropna()
            if len(values):
                spread = values.std(ddof=0)
                ax.errorbar(
                    threshold, values.mean(), spread, color=_BLUE, marker="o", markersize=3, capsize=2
                )
        if rows["multiplicity"].iloc[0]:
            ax.axhline(rows["multiplicity"].iloc[0], color=_RED, linewidth=0.8)
        ax.set(xticks=[20, 30, 40, 60])
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    top = max(ax.get_ylim()[1] for ax in axes[0])
    for ax in axes[0]:
        ax.set(ylim=(0, top + 0.2))
    axes[0, 0].set_ylabel("lines")
    figure.supxlabel("angle up to which two groups are one line [degrees]", fontsize=8.5)
    handles = [
        Line2D([], [], color=_BLUE, marker="o", markersize=3, linestyle="", label="all seeds: mean ± std"),
        Line2D([], [], color=_GREY, linewidth=2.4, label="kept network"),
        Line2D([], [], color=_RED, linewidth=0.8, label="bound: $p$ lines"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, columnspacing=1.0, fontsize=6.5)
    return figure


@rc_context(STYLE)
def overview(runs: pd.DataFrame) -> Figure:
    """The number of lines over dimensions and scales of initial weights, one panel for each activation (see `draw_overview`)."""
    panels = panels_of(summarise(runs))
    figure, axes = _grid(len(panels), 1.2, share=False, width=1.5)
    figure.set_figheight(figure.get_figheight() + 0.7)  # for the bar and the legend
    for panel, (_, rows, name) in enumerate(panels):
        ax = axes[0, panel]
        ax.set_title(name, fontsize=7.5)
        draw_overview(ax, rows)
        ax.set_xlabel("dimension $d$", fontsize=7.5)
        if panel % _ACROSS:
            ax.tick_params(labelleft=False)
        else:
            ax.set_ylabel("std", fontsize=7.5)
    add_overview_bar(figure, axes.ravel().tolist())
    figure.legend(handles=overview_handles(), loc="outside upper center", ncols=2)
    return figure


def overview_handles() -> list[Patch]:
    """What the cells of overviews that have no colour of the bar are."""
    never = Patch(color=NEVER, label="less than half condensed")
    few = Patch(
        facecolor="white", hatch="//////", edgecolor="#9a9a9a", label="few neurons active", linewidth=0
    )
    return [never, few]


def add_overview_bar(figure: Figure, axes: Sequence[Axes]) -> None:
    """The colour bar of overviews."""
    wide = figure.get_figwidth() > SINGLE_COLUMN
    bar = figure.colorbar(_BEYOND, ax=axes, location="bottom", aspect=45 if wide else 25, shrink=0.7)
    bar.set_label("seeds with more than $p$ lines")
    bar.set_ticks([0.0, 0.5, 1.0], labels=["0", "50 %", "100 %"])


def draw_overview(ax: Axes, summary: pd.DataFrame) -> None:
    """Cells (dimension, std): the most frequent number of lines where condensation is strongest, coloured by the share of the seeds
    with more than p.

    Grey cells never condensed; without a multiplicity, cells stay white; in hatched ones, few neurons are active.
    """
    dimensions, stds = (sorted(summary[column].unique()) for column in ("dimension", "std"))
    rows: list[dict[str, Any]] = summary.to_dict("records")  # type: ignore[assignment]
    for row in rows:
        x, y = dimensions.index(row["dimension"]), stds.index(row["std"])
        lines, bound, condensed = row["lines"], row["multiplicity"], bool(np.isfinite(row["first"]))
        colour: Any = NEVER
        if condensed:
            colour = _BEYOND.to_rgba(1.0 - row["within_bound"]) if bound else "white"
        few = condensed and row["active_neurons"] < FEW_ACTIVE * row["hidden"]
        box: dict[str, Any] = {"facecolor": colour, "hatch": "////" if few else None, "edgecolor": "#9a9a9a"}
        ax.fill_between([x - 0.5, x + 0.5], y - 0.5, y + 0.5, linewidth=0, **box)
        if np.isfinite(lines):
            ink = "white" if row["within_bound"] < 0.3 else "black"
            ink = ink if condensed else "#8a8a8a"
            ax.text(x, y, f"{lines:.0f}", ha="center", va="center", fontsize=7, color=ink)
    ax.set_xticks(range(len(dimensions)), [str(d) for d in dimensions])
    ax.set_yticks(range(len(stds)), names_of_stds(stds))
    ax.set(xlim=(-0.5, len(dimensions) - 0.5), ylim=(-0.5, len(stds) - 0.5))
    ax.tick_params(length=0, labelsize=6.5)


def names_of_stds(stds: Sequence[float]) -> list[str]:
    """Scales of initial weights as text, all in powers of ten if one of them is very small."""
    if min(stds, default=1.0) >= 1e-3:
        return [f"{std:g}" for std in stds]
    parts = [f"{std:e}".split("e") for std in stds]
    factors = ["" if float(factor) == 1 else rf"{float(factor):g}\cdot" for factor, _ in parts]
    return [rf"${factor}10^{{{int(power)}}}$" for factor, (_, power) in zip(factors, parts, strict=True)]


# Networks of one input.


@rc_context(STYLE)
def outputs(samples: pd.DataFrame, runs: pd.DataFrame, data: Mapping[str, NDArray[Any]]) -> Figure:
    """The function of kept networks of one input, where condensation is strongest and at the end, and its best polynomial of degree p."""
    panels, epochs = panels_of(samples), _epochs(runs)
    figure, axes = _grid(len(panels), 1.35, rows=2, share=False, width=1.6)
    for panel, (key, rows, name) in enumerate(panels):
        last = int(rows["epoch"].max())
        for row, epoch in enumerate((epochs.get(key, last), last)):
            ax, sample = axes[row, panel], _at(rows, epoch)
            title = f"{name}\n" if row == 0 else ""
            ax.set_title(f"{title}epoch {epoch}", fontsize=7.5)
            if sample is not None:
                _draw_output(ax, sample, training_data(data, sample) if row else None)
            else:
                _say_not_reached(ax)
            ax.tick_params(labelsize=6.5)
    axes[0, 0].set_ylabel("$f(x)$")
    axes[1, 0].set_ylabel("$f(x)$")
    figure.supxlabel("$x$", fontsize=8.5)
    handles = [
        Line2D([], [], color=_BLUE, label="network"),
        Line2D([], [], color=_RED, linestyle="--", label="polynomial of degree $p$"),
        Line2D([], [], color=_GREY, marker="o", markersize=2.5, linestyle="", label="data"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def training_data(
    data: Mapping[str, NDArray[Any]], sample: pd.Series[Any]
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The training data x (n, d) and y (n,) of a kept network; None if there are none."""
    if not data:
        return None
    if data["x"].ndim == 2:
        return data["x"], data["y"]
    [there] = np.flatnonzero((data["dimension"] == sample["dimension"]) & (data["seed"] == sample["seed"]))
    return data["x"][there][:, : sample["dimension"]], data["y"][there]


def _draw_output(ax: Axes, sample: pd.Series[Any], points: tuple[NDArray[Any], NDArray[Any]] | None) -> None:
    x, f = (np.asarray(sample[key], dtype=float) for key in ("x", "f"))
    if points is not None:
        ax.plot(points[0][:, 0], points[1], "o", color=_GREY, markersize=1.8, markeredgewidth=0)
    ax.plot(x, f, color=_BLUE, linewidth=1.4)
    if sample["multiplicity"] and len(x):
        fitted = np.polynomial.Polynomial.fit(x, f, int(sample["multiplicity"]))(x)
        ax.plot(x, fitted, color=_RED, linestyle="--", linewidth=1.0)


@rc_context(STYLE)
def directions(samples: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """The direction field of kept networks of one input in the plane of weight and bias, where condensation is strongest.

    Arrows: where an input weight with output weight a > 0 goes, the residual being as it is at that epoch, of one length; with a < 0 it
    goes the other way. A neuron that the field of earlier epochs has moved may lie where this one leads away from. Dots: the neurons,
    by the sign of their output weight. Lines: the directions that leading order predicts.
    """
    panels, epochs = panels_of(samples), _epochs(runs)
    figure, axes = _grid(len(panels), 1.9, share=False, width=1.95)
    for panel, (key, rows, name) in enumerate(panels):
        ax, epoch = axes[0, panel], epochs.get(key, int(rows["epoch"].max()))
        ax.set_title(f"{name}, epoch {epoch}", fontsize=7.5)
        sample = _at(rows, epoch)
        if sample is not None and len(sample["field_at"]):
            _draw_field(ax, sample)
        else:
            _say_not_reached(ax)
        ax.tick_params(labelsize=6.5)
    axes[0, 0].set_ylabel("bias $b$")
    figure.supxlabel("weight $w$", fontsize=8.5)
    dot: dict[str, Any] = {"marker": "o", "markersize": 3, "linestyle": ""}
    arrow: dict[str, Any] = {"marker": r"$\rightarrow$", "markersize": 7, "linestyle": ""}
    handles = [
        Line2D([], [], color=_RED, label="neurons with $a > 0$", **dot),
        Line2D([], [], color=_BLUE, label="neurons with $a < 0$", **dot),
        Line2D([], [], color=_GREEN, label="predicted lines"),
        Line2D([], [], color="#9a9a9a", label="flow of $a > 0$ at this epoch", **arrow),
    ]
    columns = 4 if len(panels) > 2 else 2
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, columnspacing=1.0)
    return figure


def _draw_field(ax: Axes, sample: pd.Series[Any]) -> None:
    places, field = matrix(sample["field_at"]), matrix(sample["field"])
    weights, output = matrix(sample["input"]), matrix(sample["output"])[:, 0]
    reach = float(np.abs(places).max())
    lengths = np.linalg.norm(field, axis=1, keepdims=True)
    arrows = np.divide(field, lengths, out=np.zeros_like(field), where=lengths > 0)
    every = _every_other(places)
    ax.quiver(
        *places[every].T,
        *arrows[every].T,
        color="#b0b0b0",
        scale=22,
        width=0.006,
        headwidth=4,
        pivot="mid",
        zorder=1,
    )
    for direction in matrix(sample["predicted"]):
        end = 2 * reach * direction
        ax.plot([-end[0], end[0]], [-end[1], end[1]], color=_GREEN, linewidth=1.0, zorder=2)
    for sign, colour in ((output > 0, _RED), (output <= 0, _BLUE)):
        ax.plot(*weights[sign].T, "o", color=colour, markersize=2.2, markeredgewidth=0, alpha=0.8, zorder=3)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.locator_params(nbins=4)


def _every_other(places: Array) -> NDArray[np.bool_]:
    """Every other place along both axes of a square grid: arrows need room."""
    side = math.isqrt(len(places))
    odd = np.arange(side) % 2 == 0
    return np.outer(odd, odd).ravel()


@rc_context(STYLE)
def training(samples: pd.DataFrame) -> Figure:
    """The loss of kept networks along the training, relative to the loss at the start."""
    figure = new_figure(SINGLE_COLUMN, 2.5)
    ax = figure.subplots()
    traced = samples.loc[[len(losses) > 0 for losses in samples["losses"]]]
    colours = ["#2166ac", "#b2182b", "#1b9e4b", "#b8860b", "#6a51a3", "#444444"]
    for index, ((network, _), rows, _) in enumerate(panels_of(traced)):
        epochs, losses = (np.asarray(rows[key].iloc[0], dtype=float) for key in ("epochs", "losses"))
        label = " / ".join(title_of(name) for name in network.split("/"))
        style = "-" if index < len(colours) else "--"
        ax.plot(epochs, losses / losses[0], style, color=colours[index % len(colours)], label=label)
    if any(np.max(losses) > 10 * losses[0] for losses in traced["losses"]):
        ax.set_yscale("log")
    longest = max((float(np.max(epochs)) for epochs in traced["epochs"]), default=1.0)
    _epoch_axis(ax, max(longest / 1000, 1.0), longest)
    ax.set(xlabel="epoch", ylabel="loss / initial loss")
    if len(traced):
        figure.legend(loc="outside upper center", ncols=3)
    return figure
