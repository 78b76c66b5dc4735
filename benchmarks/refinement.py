"""Where to place the points of a phase diagram: python -m benchmarks.refinement [--quick]

phasediag's refinement beside other methods, on surrogates of the published uniform maps; then real refined sweeps beside uniform ones.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from phasediag.display.figures import DOUBLE_COLUMN, STYLE, new_figure, render
from phasediag.kinds import open_store, read_study
from phasediag.phase_diagram.figures.refinement import draw_refinement
from phasediag.phase_diagram.fitting import critical_line, select_layer
from phasediag.phase_diagram.info import deciding_slope
from phasediag.phase_diagram.jobs import Cell
from phasediag.phase_diagram.refinement import Placement, refined
from phasediag.phase_diagram.study import PhaseDiagramStudy
from phasediag.phase_diagram.theory import LAYERS
from phasediag.storage.store import Store
from phasediag.sweep.load import Results

from .common import table
from .placing import METHODS, Method, World, phasediag, phasediag_all_widths, placement
from .surrogates import Surrogate

ROOT = Path(__file__).parent.parent
NAMES = {2: "two_layer", 3: "three_layer"}
WORDS = {2: "two layers", 3: "three layers"}

NARROW = 1.05
"""A line is as good as the uniform map's if the mean half-width of its band is at most so many times that one's."""
MISSED = 1
"""And if so many of its rows, at most, are not covered, and the line lies within the uniform map's band in all others."""
MOST = 0.5
"""Share of the cost of the uniform map at which a method is stopped."""
BAR = "#0072b2"
REACHED, ENDED, STOPPED = "reached", "ends before", f"not within {MOST:.0%}"

VARIANTS: dict[str, Method] = {
    "as it is": phasediag,
    "all widths at once": phasediag_all_widths,
    "no more seeds": partial(phasediag, _WORTH=0.0),
    "reach 0.5": partial(phasediag, _REACH=0.5),
    "reach 1.25": partial(phasediag, _REACH=1.25),
    "close 2": partial(phasediag, _CLOSE=2.0),
    "close 4": partial(phasediag, _CLOSE=4.0),
}
SEEDS_DRAWN = (100, 200)
"""First seeds of the worlds, beside that of the seeds of the map, that variants are tried on."""


@dataclass(frozen=True)
class Fit:
    """A critical line beside that of the uniform map, in the rows of the latter, interpolated where it has no such row.

    Attributes:
        rows, covered: rows in which the uniform map's line has a whole band, and how many of them lie between such rows of this line.
        half, half_uniform: half-widths of both bands, mean and largest over the covered rows.
        off: distance of the lines, mean and largest over the covered rows.
        outside: covered rows in which the line lies outside the uniform map's band.
    """

    rows: int
    covered: int
    half: tuple[float, float]
    half_uniform: tuple[float, float]
    off: tuple[float, float]
    outside: int

    @property
    def good(self) -> bool:
        """Whether it is as good as the uniform map's."""
        covers = self.covered >= self.rows - MISSED
        return covers and not self.outside and self.half[0] <= NARROW * self.half_uniform[0]

    def cells(self) -> list[str]:
        pairs = zip(self.half, self.half_uniform, strict=True)
        halves = [f"{mine:.3f} ({uniform:.3f})" for mine, uniform in pairs]
        return [*halves, *(f"{off:.3f}" for off in self.off), f"{self.covered} of {self.rows}"]


FIT_COLUMNS = ("half-width (uniform)", "largest (uniform)", "off", "largest", "rows")
Fits = Mapping[str, Fit]


@dataclass(frozen=True)
class Outcome:
    """What a method has come to: jobs, their share of the cost of the uniform map, the lines, and why it goes no further."""

    jobs: int
    share: float
    fits: Fits
    end: str


def compare(slopes: pd.DataFrame, uniform: pd.DataFrame, layers: Sequence[str]) -> Fits:
    """The lines in slopes beside those in the slopes of a uniform map, as users get them."""
    return {layer: _compare(_line(slopes, layer), _line(uniform, layer)) for layer in layers}


def _line(slopes: pd.DataFrame, layer: str) -> pd.DataFrame:
    line = critical_line(slopes, layer, deciding_slope(select_layer(slopes, layer)))
    return line.assign(half=(line["gamma_high"] - line["gamma_low"]) / 2)


def _compare(line: pd.DataFrame, uniform: pd.DataFrame) -> Fit:
    banded, uniform = line.dropna(subset="half"), uniform.dropna(subset="half")
    inside = uniform["gamma_prime"].between(banded["gamma_prime"].min(), banded["gamma_prime"].max())
    if not inside.any():
        nothing = math.nan, math.nan
        return Fit(len(uniform), 0, nothing, nothing, nothing, 0)
    there = uniform.loc[inside]
    half = np.interp(there["gamma_prime"], banded["gamma_prime"], banded["half"])
    off = np.abs(np.interp(there["gamma_prime"], line["gamma_prime"], line["gamma"]) - there["gamma"])
    return Fit(
        len(uniform),
        len(there),
        (float(half.mean()), float(half.max())),
        (float(there["half"].mean()), float(there["half"].max())),
        (float(off.mean()), float(off.max())),
        int((off > there["half"]).sum()),
    )


# Part 1: surrogates.


def world_of(depth: int) -> World:
    """The surrogate of a uniform map, with the coarse grid and the rules of the refined sweep of the same networks."""
    surrogate = Surrogate(open_store(ROOT / f"results/{NAMES[depth]}_synthetic").runs())
    study = read_study(ROOT / f"sweeps/{NAMES[depth]}_refined.toml")
    assert isinstance(study, PhaseDiagramStudy) and study.refinement is not None
    return World(surrogate, frozenset(study.cells()), study.refinement.rules)


def outcome_of(world: World, cells: set[Cell]) -> Outcome:
    surrogate = world.surrogate
    fits = compare(surrogate.slopes(cells), surrogate.slopes(world.uniform), surrogate.layers)
    end = REACHED if all(fit.good for fit in fits.values()) else ENDED
    return Outcome(len(cells), world.share(cells), fits, end)


def trial(world: World, method: Method) -> Outcome:
    """A method until its lines are as good as those of the uniform map, it ends, or costs too much."""
    for cells in method(world):
        outcome = outcome_of(world, cells)
        if outcome.end == REACHED:
            break
        if outcome.share > MOST:
            return replace(outcome, end=STOPPED)
    return outcome


def rows_of(name: str, outcome: Outcome, others: Sequence[Outcome]) -> list[list[str]]:
    """A row of the table per layer."""
    drawn = ", ".join(share_of(other) for other in others)
    heads = [[name, f"{outcome.jobs}", percent_of(outcome.share), outcome.end, drawn], [""] * 5]
    return [[*heads[min(i, 1)], layer, *fit.cells()] for i, (layer, fit) in enumerate(outcome.fits.items())]


def share_of(outcome: Outcome) -> str:
    """In brackets if the lines are not as good as those of the uniform map."""
    share = f"{100 * outcome.share:.0f} %"
    return share if outcome.end == REACHED else f"({share})"


def percent_of(share: float) -> str:
    return f"{100 * share:.1f} %"


def methods(depth: int, world: World) -> dict[str, Outcome]:
    """Every method; prints their table."""
    others = [_with_seeds(world, first) for first in SEEDS_DRAWN]
    found, rows = {}, []
    for name, method in METHODS.items():
        found[name] = trial(world, method)
        rows += rows_of(name, found[name], [trial(other, method) for other in others])
    ends = [_end(one, phasediag) for one in (world, *others)]
    rows += rows_of(f"phasediag, to its end (target {world.rules.target:g})", ends[0], ends[1:])
    note = (
        "Until all lines are as good as those of the uniform map: mean half-width at most 5 % larger, all rows but one covered,\n"
        "  and the line within the uniform map's band in these. Drawn seeds: shares with other seeds, in brackets where this is not so.\n"
        f"  Coarse grid: {len(world.grid)} jobs, {percent_of(world.share(set(world.grid)))}; not for bisection."
    )
    title = f"{WORDS[depth]}, surrogate of results/{NAMES[depth]}_synthetic: ways to place points"
    table(title, ["", "jobs", "share", "end", "drawn seeds", "layer", *FIT_COLUMNS], rows, note)
    return found


def variants(depth: int, world: World) -> None:
    """phasediag's own with other constants, to its end, on several draws of seeds; prints their table."""
    worlds = [world, *(_with_seeds(world, first) for first in SEEDS_DRAWN)]
    rows = []
    for name, method in VARIANTS.items():
        ends = [_end(one, method) for one in worlds]
        shares = [end.share for end in ends]
        head = [
            name,
            f"{np.mean([end.jobs for end in ends]):.0f}",
            percent_of(float(np.mean(shares))),
            f"{100 * min(shares):.1f}–{100 * max(shares):.1f}",
        ]
        for i, layer in enumerate(world.surrogate.layers):
            rows.append([*(head if i == 0 else [""] * 4), layer, *_means([end.fits[layer] for end in ends])])
    columns = [
        "",
        "jobs",
        "share",
        "from–to",
        "layer",
        "half-width, of uniform",
        "largest",
        "off",
        "largest",
        "rows missed",
    ]
    note = f"means over {len(worlds)} worlds with seeds of their own; largest, rows missed: of all"
    table(f"{WORDS[depth]}: constants of phasediag's refinement, to its end", columns, rows, note)


def _with_seeds(world: World, first: int) -> World:
    """The same with other seeds, as many."""
    seeds = tuple(first + i for i in range(len(world.rules.seeds)))
    grid = frozenset((w, g, p, first + seed) for w, g, p, seed in world.grid)
    return World(world.surrogate, grid, replace(world.rules, seeds=seeds))


def _end(world: World, method: Method) -> Outcome:
    *_, cells = method(world)
    return outcome_of(world, cells)


def _means(fits: Sequence[Fit]) -> list[str]:
    return [
        f"{np.mean([fit.half[0] / fit.half_uniform[0] for fit in fits]):.2f}",
        f"{max(fit.half[1] for fit in fits):.3f}",
        f"{np.mean([fit.off[0] for fit in fits]):.4f}",
        f"{max(fit.off[1] for fit in fits):.3f}",
        f"{max(fit.rows - fit.covered for fit in fits)}",
    ]


# Part 2: real sweeps.


@dataclass(frozen=True)
class Sweep:
    """A folder: its runs and slopes, and what its training took."""

    store: Store
    runs: pd.DataFrame
    slopes: pd.DataFrame

    @property
    def jobs(self) -> pd.DataFrame:
        return self.runs.drop_duplicates("job_id")

    @property
    def work(self) -> float:
        """Evaluations times weights, over all jobs."""
        jobs, data = self.jobs, self.store.read_data()
        assert data is not None
        width, depth = jobs["width"].astype(float), int(jobs["depth"].iloc[0])
        weights = width * (data["x"].shape[1] + 2) + (width * (width + 1) if depth == 3 else 0.0)
        return float((jobs["evaluations"] * weights).sum())

    @property
    def seconds(self) -> float:
        return float(self.jobs["wall_seconds"].sum())


def read_sweep(name: str) -> Sweep | None:
    """A published sweep; None if it is not there."""
    folder = ROOT / "results" / name
    if not folder.exists():
        return None
    store = open_store(folder)
    runs = store.runs()
    return Sweep(store, runs, Results(store).fitted)


def real(depth: int) -> Sweep | None:
    """The refined sweep beside the uniform one; prints their table."""
    name = NAMES[depth]
    sweep, uniform = read_sweep(f"{name}_refined"), read_sweep(f"{name}_synthetic")
    if sweep is None or uniform is None:
        print(
            f"\n{WORDS[depth]}: results/{name}_refined or results/{name}_synthetic is missing: not compared"
        )
        return None
    layers = LAYERS[depth][:-1]
    rows = []
    for title, one in (("uniform", uniform), ("refined", sweep)):
        work, seconds = one.work / uniform.work, one.seconds / uniform.seconds
        head = [title, f"{len(one.jobs)}", percent_of(work), percent_of(seconds)]
        for i, (layer, fit) in enumerate(compare(one.slopes, uniform.slopes, layers).items()):
            rows.append([*(head if i == 0 else [""] * 4), layer, *fit.cells()])
    known = refined(sweep.store.read_document(), sweep.runs)
    ended = "" if known is not None and known.ended else "; the refined sweep has not ended"
    table(
        f"{WORDS[depth]}, trained: results/{name}_refined beside results/{name}_synthetic",
        ["", "jobs", "work", "seconds", "layer", *FIT_COLUMNS],
        rows,
        f"work: evaluations x weights; seconds: of training, as stored; machines, and what else ran on them, differ{ended}",
    )
    return sweep


# The figure.


@rc_context(STYLE)
def draw(
    found: Mapping[int, Mapping[str, Outcome]], maps: Mapping[int, tuple[pd.DataFrame, Placement]]
) -> Figure:
    """Above, where refinement placed points; below, the share of the uniform map's training that each method takes."""
    figure = new_figure(DOUBLE_COLUMN, 5.2)
    above, below = figure.subfigures(2, 1, height_ratios=[2.5, 1.0], squeeze=False)[:, 0]
    top, bottom = above.subplots(1, len(found)), below.subplots(1, len(found), sharey=True)
    for ax, bars, (depth, outcomes) in zip(top, bottom, found.items(), strict=True):
        draw_refinement(ax, *maps[depth])
        ax.set_title(WORDS[depth], pad=48)
        legend = ax.get_legend()
        assert legend is not None
        legend.set_in_layout(False)  # wider than its map, it would push the colour bar away
        _draw_shares(bars, outcomes)
        bars.set_title(WORDS[depth])
    worse = Patch(facecolor="white", edgecolor=BAR, hatch="////", linewidth=0.6, label="lines not as good")
    bottom[0].legend(handles=[worse], loc="lower right")
    figure.set_label("Ways to place the points of a phase diagram")
    return figure


def _draw_shares(ax: Axes, outcomes: Mapping[str, Outcome]) -> None:
    for i, outcome in enumerate(outcomes.values()):
        good = outcome.end == REACHED
        style: dict[str, Any] = {} if good else {"facecolor": "white", "hatch": "////"}
        share = 100 * outcome.share
        ax.barh(i, share, height=0.62, linewidth=0.6, **{"facecolor": BAR, "edgecolor": BAR, **style})
        label = f"> {100 * MOST:.0f} %" if outcome.end == STOPPED else f"{share:.0f} %"
        ax.annotate(label, (share, i), (3, 0), textcoords="offset points", va="center", fontsize=7.5)
    ax.set(xlim=(0, 119), xlabel="share of the uniform map's training (%)", ylim=(len(outcomes) - 0.5, -0.5))
    ax.set_yticks(range(len(outcomes)), list(outcomes))
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right"]].set_visible(False)


def placed(world: World, sweep: Sweep | None) -> tuple[pd.DataFrame, Placement]:
    """Slopes of a refined map, and what was placed: of the sweep, or, without one, on the surrogate."""
    known = None if sweep is None else refined(sweep.store.read_document(), sweep.runs)
    if sweep is not None and known is not None:
        return sweep.slopes, known
    *_, cells = phasediag(world)
    return world.surrogate.slopes(cells), placement(world, cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="two layers, no variants, no figure: does it run?"
    )
    quick = parser.parse_args().quick
    depths = (2,) if quick else (2, 3)
    worlds = {depth: world_of(depth) for depth in depths}
    found = {depth: methods(depth, world) for depth, world in worlds.items()}
    if not quick:
        for depth, world in worlds.items():
            variants(depth, world)
    sweeps = {depth: real(depth) for depth in depths}
    if not quick:
        maps = {depth: placed(world, sweeps[depth]) for depth, world in worlds.items()}
        for kind, content in render(draw(found, maps)).items():
            Path(__file__).with_name(f"refinement.{kind}").write_bytes(content)


if __name__ == "__main__":
    main()
