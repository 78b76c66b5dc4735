"""Where to train further networks: at the points that narrow the critical lines most.

A row of the map has one gamma_prime. A step is due while the 95 % band of a layer's line is wider in this row than the target, or while
the points beside the crossing are too far apart for S to be straight between them (a band knows the noise of S, not its bends). It adds
the first of these that applies:

- points on both sides of the crossing, where the points beside it are further apart than the width of the band, with as few of the
  smaller widths as give an interval of S;
- the larger widths at the points beside the crossing, if finite size dominates;
- points at the ends of the band, if no point is near;
- more seeds beside the crossing, if noise dominates, that is, if they can be expected to narrow the interval of S. If not, these widths
  leave the limit open: the band is at its floor.

A row begins between two rows where the line bends too much to be interpolated: where both straight continuations of the line, from beyond
these rows, miss the interpolated line by more than the target. (If a straight line has its corner in one of the two rows, one continuation
is right.)

The steps of a row depend on its own runs alone, and a row between two rows depends on rows that have ended. So nothing waits for a round to
end, and the study and its results determine the points, for any number of workers and after any crash. Only a round for which `max_jobs`
may be too small waits for the round before it; its widest bands come first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from .crossings import Crossing, Interval, crossing_of, neighbours
from .extrapolation import LEAST_WIDTHS
from .fitting import slopes_of, usable_runs
from .folder import networks_of
from .jobs import Cell, grid_cells
from .theory import round_exponent

REACHED, FLOOR, OUTSIDE, LIMIT, OPEN = "reached", "floor", "outside", "limit", "open"
"""States of a line in a row: its band is within the target; as narrow as these widths allow; not in the row; max_jobs or rounds are used
up; to be narrowed."""

# Points beside a crossing further apart than so many half-widths of the band, or targets, leave room for points between them: slopes of
# the limit have a kink on the line, where they change by a factor of four; one straight line across it is off by a third of the gap.
_CLOSE = 3.0
# How far from a crossing new points are, in half-widths of its band: in a row that is there, and in one that begins with them (its
# guess is good, and the ends of the band should lie between them).
_REACH, _FIRST_REACH = 0.8, 1.25
# New points keep away from others by so many half-widths of the band.
_APART = 0.3
# More seeds have to narrow the interval of S by this factor. Twice as many give 0.71 where noise is all that matters.
_WORTH = 0.85
# Seeds that a step adds at a point, at most, in units of those of the grid.
_MOST_SEEDS = 4


@dataclass(frozen=True)
class Rules:
    """What a refinement goes by.

    Attributes:
        layers: whose critical lines to refine.
        widths: of the grid, ascending.
        seeds: of the grid.
        target: half-width of a band, in gamma.
        max_jobs: most jobs to add to the grid.
        rounds: most steps one after the other.
    """

    layers: tuple[str, ...]
    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    target: float
    max_jobs: int
    rounds: int

    @property
    def column(self) -> str:
        """The slope whose zero is the line: that at infinite width if the widths allow it."""
        return "slope_infinite" if len(self.widths) >= LEAST_WIDTHS else "slope"

    @property
    def first_widths(self) -> tuple[int, ...]:
        """The widths that points of a search begin with: as few as give the slope `column`."""
        return self.widths[:LEAST_WIDTHS]

    def largest_step(self, seeds: int) -> int:
        """Most jobs that a step of a row can have, if its points have at most so many seeds."""
        return 2 * len(self.widths) * min(max(seeds, len(self.seeds)), _MOST_SEEDS * len(self.seeds))

    def tidy(self, gamma: float) -> float:
        """The nearest gamma with as few digits as the target asks for."""
        decade = 10.0 ** math.floor(math.log10(self.target / 2))
        unit = max(digit * decade for digit in (1, 2, 5) if digit * decade <= self.target / 2)
        return round_exponent(round(gamma / unit) * unit)


@dataclass(frozen=True)
class Line:
    """How well a layer's critical line is known in one row, and why no better.

    Attributes:
        layer, gamma_prime: the layer and the row.
        gamma, half_width: of the crossing and of its 95 % band; NaN and infinite where there is none.
        state: "reached", "floor", "outside", "limit", or "open" while the row is being refined.
    """

    layer: str
    gamma_prime: float
    gamma: float
    half_width: float
    state: str


@dataclass(frozen=True)
class Placement:
    """What refinement adds to the grid of a study, as far as the results tell.

    Attributes:
        rounds: the jobs added, with the number of the round, from 1.
        lines: of each layer and row.
        ended: whether nothing will be added any more: the jobs of the study and of `rounds` have ended, and need no others.
        short: whether more was asked for than max_jobs allows.
    """

    rounds: Mapping[Cell, int]
    lines: tuple[Line, ...]
    ended: bool
    short: bool

    def round_of_points(self) -> dict[tuple[float, float], int]:
        """The round that placed the first job of each point (gamma, gamma_prime) beside the grid."""
        first: dict[tuple[float, float], int] = {}
        for (_, *point, _), number in sorted(self.rounds.items(), key=lambda item: item[1]):
            first.setdefault((point[0], point[1]), number)
        return first

    def summary(self) -> dict[str, Any]:
        """How many jobs were placed in how many rounds, and, of each layer, in how many rows its line is in which state, and the mean and
        the largest half-width of its bands."""
        return {
            "jobs": len(self.rounds),
            "rounds": max(self.rounds.values(), default=0),
            "ended": self.ended,
            "short": self.short,
            "lines": {
                layer: _summary([line for line in self.lines if line.layer == layer])
                for layer in sorted({line.layer for line in self.lines})
            },
        }


def _summary(lines: Sequence[Line]) -> dict[str, Any]:
    halves = [line.half_width for line in lines if math.isfinite(line.half_width)]
    return {
        "rows": dict(sorted(Counter(line.state for line in lines).items())),
        "half_width_mean": float(np.mean(halves)) if halves else math.nan,
        "half_width_max": max(halves, default=math.nan),
    }


@dataclass
class _Row:
    """The search for one layer's line in a row of the map.

    Attributes:
        layer, gamma_prime: the layer and the row.
        cells: its jobs so far.
        crossing: what these told when the last step was chosen.
        ended: it has no further step.
        unknown: the round from which on its steps are unknown, since some of its jobs have not ended; or 0.
    """

    layer: str
    gamma_prime: float
    cells: set[Cell]
    crossing: Crossing
    ended: bool = False
    unknown: int = 0

    @property
    def gammas(self) -> list[float]:
        return sorted({cell[1] for cell in self.cells})

    @property
    def most_seeds(self) -> int:
        """The largest number of seeds that a point of the row has at one width."""
        return max(Counter(cell[:2] for cell in self.cells).values(), default=0)

    def at(self, gamma: float) -> set[Cell]:
        """The jobs of the row at one gamma."""
        return {cell for cell in self.cells if cell[1] == gamma}


@dataclass
class _Step:
    """Jobs that a row asks for, and the half-width of the band that they narrow."""

    row: _Row
    cells: set[Cell]
    need: float


class Refinement:
    """The points that refine the map of a study.

    Args:
        grid: the jobs of its grid.
        rules: see `Rules`.
    """

    def __init__(self, grid: Iterable[Cell], rules: Rules) -> None:
        self.rules = rules
        self._grid: dict[float, set[Cell]] = {}
        for cell in grid:
            self._grid.setdefault(cell[2], set()).add(cell)
        gammas = [cell[1] for cells in self._grid.values() for cell in cells]
        self._box = min(gammas), max(gammas)
        self._looked: dict[Hashable, tuple[Crossing, set[Cell]]] = {}

    def advance(self, runs: pd.DataFrame) -> Placement:
        """What is to be added to the grid, given the runs that have ended: a function of these alone.

        The rounds are gone through from the first one, as if nothing were known beyond them.

        Args:
            runs: rows as in ``runs/``; rows of jobs outside of the study do not count.
        """
        data = _Data(runs)
        lines = [_Search(self, layer) for layer in self.rules.layers]
        rounds: dict[Cell, int] = {}
        short = False
        most = 0  # jobs that the rounds so far can have added, whatever those that are not known will ask for
        for number in range(1, self.rules.rounds + 1):
            steps = [step for line in lines for step in line.steps(data, number)]
            unknown = sum(line.most_unknown(number) for line in lines)
            most += unknown
            affordable = self._affordable(steps, self.rules.max_jobs - most, set(rounds))
            short = len(affordable) < len(steps)
            if not (short and unknown):  # else which of them have the widest bands is not known yet
                for step in affordable:
                    most += len(step.cells - rounds.keys())  # two layers may ask for one job
                    rounds = {**dict.fromkeys(step.cells, number), **rounds}
                    step.row.cells |= step.cells
            for line in lines:
                line.drop_empty()
            if short or not (steps or unknown):
                break
        return self._placement([row for line in lines for row in line.rows], rounds, data, short)

    @staticmethod
    def _affordable(steps: Sequence[_Step], jobs: int, placed: set[Cell]) -> list[_Step]:
        """The steps that so many jobs suffice for, beside the jobs already placed: the widest bands first."""
        chosen = []
        for step in sorted(steps, key=lambda step: (-step.need, step.row.layer, step.row.gamma_prime)):
            jobs -= len(step.cells - placed)
            if jobs < 0:
                break
            placed = placed | step.cells
            chosen.append(step)
        return chosen

    def _placement(
        self, rows: Sequence[_Row], rounds: dict[Cell, int], data: _Data, short: bool
    ) -> Placement:
        known = [row for row in rows if data.has(row)]
        ended = len(known) == len(rows)
        lines = []
        for row in known:
            crossing, wanted = self.look(row, data)
            state = self._state(crossing, wanted)
            state = LIMIT if state == OPEN and ended else state
            lines.append(Line(row.layer, row.gamma_prime, crossing.gamma, crossing.half_width, state))
        return Placement(rounds, tuple(lines), ended, short)

    def _state(self, crossing: Crossing, wanted: set[Cell]) -> str:
        if wanted:
            return OPEN
        if crossing.half_width <= self.rules.target:
            return REACHED
        return FLOOR if math.isfinite(crossing.gamma) else OUTSIDE

    # Rows and their steps.

    def grid_rows(self, layer: str) -> list[_Row]:
        """The rows of the grid in which a line can lie: rows of two points or more."""
        return [
            _Row(layer, prime, set(cells), _nothing(layer))
            for prime, cells in sorted(self._grid.items())
            if len({cell[1] for cell in cells}) > 1
        ]

    def look(self, row: _Row, data: _Data) -> tuple[Crossing, set[Cell]]:
        """What the runs of a row tell, and the jobs that they ask for."""
        runs = data.of(row)
        values = runs[["width", "gamma", "seed", "relative_change"]].to_numpy(float)
        key = row.layer, row.gamma_prime, frozenset(row.cells), values.tobytes()
        if key not in self._looked:
            slopes = slopes_of(runs)
            crossing = crossing_of(slopes, row.layer, self.rules.column)
            self._looked[key] = crossing, self._wanted(crossing, row, runs, slopes)
        return self._looked[key]

    def _wanted(self, crossing: Crossing, row: _Row, runs: pd.DataFrame, slopes: pd.DataFrame) -> set[Cell]:
        """The jobs that narrow a line; none if it is narrow enough, or nothing helps."""
        if not math.isfinite(crossing.gamma):
            return self._search(crossing, row)
        left, right = crossing.neighbours
        scale = max(self.rules.target, min(crossing.local, right - left))
        if right - left > _CLOSE * scale:
            around = crossing.gamma - _REACH * scale, crossing.gamma + _REACH * scale
            inside = [gamma for gamma in around if left < gamma < right]
            return self._points(inside, row, scale, self.rules.first_widths)
        if crossing.half_width <= self.rules.target:
            return set()
        return (
            self._larger_widths(row, (left, right))
            or self._points(self._ends(crossing, scale), row, scale, self.rules.widths)
            or self._more_seeds(row, (left, right), runs, slopes)
        )

    def _search(self, crossing: Crossing, row: _Row) -> set[Cell]:
        """A point beyond those of a row whose slopes have one sign, on the side where the line must be, as far again as they reach."""
        if not crossing.sign:
            return set()
        low, high = row.gammas[0], row.gammas[-1]
        reach = max(high - low, 2 * self.rules.target)
        beyond = low - reach if crossing.sign > 0 else high + reach
        return self._points([beyond], row, self.rules.target, self.rules.first_widths)

    def _ends(self, crossing: Crossing, scale: float) -> list[float]:
        """Ends of the band that lie far from any point, or, where points do not reach an end, a gamma beyond them."""
        left, right = crossing.neighbours
        ends = []
        for end, beyond in zip(crossing.band, (2 * left - right, 2 * right - left), strict=True):
            if not math.isfinite(end):
                ends.append(beyond)
            elif np.diff(neighbours(crossing.gammas, end))[0] > _CLOSE * scale:
                ends.append(end)
        return ends

    def _points(self, gammas: Iterable[float], row: _Row, scale: float, widths: Sequence[int]) -> set[Cell]:
        """The jobs of new points of a row, within the map, where no other point is near."""
        known, cells = row.gammas, set[Cell]()
        for gamma in gammas:
            new = min(max(self.rules.tidy(gamma), self._box[0]), self._box[1])
            if all(abs(new - other) > _APART * scale for other in known):
                known.append(new)
                cells.update(
                    (width, new, row.gamma_prime, seed) for width in widths for seed in self.rules.seeds
                )
        return cells

    def _larger_widths(self, row: _Row, gammas: Interval) -> set[Cell]:
        """The widths that these points do not have yet."""
        cells: set[Cell] = set()
        for gamma in gammas:
            seeds = {cell[3] for cell in row.at(gamma)}
            cells |= {(width, gamma, row.gamma_prime, seed) for width in self.rules.widths for seed in seeds}
        return cells - row.cells

    def _more_seeds(self, row: _Row, gammas: Interval, runs: pd.DataFrame, slopes: pd.DataFrame) -> set[Cell]:
        """Twice as many seeds for the points at which this narrows the interval of S."""
        new = {gamma: self._new_seeds(row.at(gamma)) for gamma in gammas}
        # As if the scatter of the new seeds were that of as many there are.
        again = [
            runs.loc[(runs["gamma"] == gamma) & (runs["seed"].rank(method="dense") <= len(seeds))]
            for gamma, seeds in new.items()
        ]
        now, then = (
            self._spread(table, gammas)
            for table in (slopes, slopes_of(pd.concat([runs.loc[runs["gamma"].isin(gammas)], *again])))
        )
        return {
            (cell[0], gamma, row.gamma_prime, seed)
            for gamma in gammas
            if then[gamma] <= _WORTH * now[gamma]
            for cell in row.at(gamma)
            for seed in new[gamma]
        }

    def _new_seeds(self, here: set[Cell]) -> range:
        """The next seeds of a point, above its own: as many as it has, within a limit."""
        seeds = {cell[3] for cell in here}
        return range(max(seeds) + 1, max(seeds) + 1 + min(len(seeds), _MOST_SEEDS * len(self.rules.seeds)))

    def _spread(self, slopes: pd.DataFrame, gammas: Interval) -> dict[float, float]:
        """Width of the interval of S at points of a row."""
        table = slopes.set_index("gamma")
        spread = table[f"{self.rules.column}_high"] - table[f"{self.rules.column}_low"]
        return {gamma: float(spread.get(gamma, math.nan)) for gamma in gammas}

    def begin(self, layer: str, gamma_prime: float, gamma: float, half: float) -> _Step:
        """A new row: points on both sides of where its line is guessed to be, given half the width of its band."""
        row = _Row(layer, gamma_prime, set(), _nothing(layer))
        scale = max(half, self.rules.target)
        around = gamma - _FIRST_REACH * scale, gamma + _FIRST_REACH * scale
        return _Step(row, self._points(around, row, scale, self.rules.widths), math.inf)

    def within(self, gamma: float) -> bool:
        """Whether a gamma is one of the map."""
        return self._box[0] <= gamma <= self._box[1]


class _Search:
    """The rows of one layer as the rounds go by, and the gaps between them.

    A gap is decided on once, when the rows around it have ended: closed, or parted by a new row.
    """

    def __init__(self, refinement: Refinement, layer: str) -> None:
        self._refinement, self._layer = refinement, layer
        self.rows = refinement.grid_rows(layer)
        self._closed: set[Interval] = set()
        self._unknown: dict[Interval, int] = {}

    def steps(self, data: _Data, number: int) -> list[_Step]:
        """The next step of each row that has one, and the first of new rows."""
        steps = []
        for row in self.rows:
            if not (row.ended or row.unknown or data.has(row)):
                row.unknown = number
            if row.ended or row.unknown:
                continue
            row.crossing, cells = self._refinement.look(row, data)
            row.ended = not cells
            if cells:
                steps.append(_Step(row, cells, row.crossing.half_width))
        begun = self._begun(number)
        self.rows = sorted([*self.rows, *(step.row for step in begun)], key=lambda row: row.gamma_prime)
        return steps + begun

    def drop_empty(self) -> None:
        """Forgets rows that max_jobs did not suffice for."""
        self.rows = [row for row in self.rows if row.cells]

    def most_unknown(self, number: int) -> int:
        """Most jobs of a round that are not known: of rows, and of those that gaps may hold by then, twice as many with every round. The
        seeds of a point double with every step at most."""
        rules, new = self._refinement.rules, len(self._refinement.rules.seeds)
        rows = sum(
            rules.largest_step(row.most_seeds << (number - row.unknown)) for row in self.rows if row.unknown
        )
        ages = [number - since for since in self._unknown.values()]
        return rows + sum(rules.largest_step(new << age) << age for age in ages)

    def _begun(self, number: int) -> list[_Step]:
        gaps = [(below.gamma_prime, above.gamma_prime) for below, above in pairwise(self.rows)]
        begun = []
        for index, gap in enumerate(gaps):
            around, beside = self.rows[max(index - 1, 0) : index + 3], gaps[max(index - 1, 0) : index + 2]
            if gap in self._closed or gap in self._unknown:
                continue
            if any(row.unknown for row in around) or any(other in self._unknown for other in beside):
                self._unknown[gap] = number
            elif all(row.ended for row in around):
                self._closed.add(gap)
                begun += self._parting(index)
        return begun

    def _parting(self, index: int) -> list[_Step]:
        """A row between row `index` and the next one, if the line cannot be interpolated there."""
        below, above = self.rows[index], self.rows[index + 1]
        target = self._refinement.rules.target
        if above.gamma_prime - below.gamma_prime <= target:
            return []
        gamma, half, doubt = _interpolated(self.rows, index)
        if not (doubt > target and self._refinement.within(gamma)):
            return []
        middle = round_exponent((below.gamma_prime + above.gamma_prime) / 2)
        return [self._refinement.begin(self._layer, middle, gamma, half)]


def _nothing(layer: str) -> Crossing:
    return Crossing(layer, (), 0)


def _interpolated(rows: Sequence[_Row], index: int) -> tuple[float, float, float]:
    """The line half-way between row `index` and the next one: its gamma, half the width of its band, and by how far, at least, the
    continuations of the line from beyond these rows miss it (NaN without any).

    Where the line leaves the map between the two rows, it is continued, and the doubt is how much of it is missing.
    """
    middle = (rows[index].gamma_prime + rows[index + 1].gamma_prime) / 2
    found = {
        i: rows[i]
        for i in range(max(index - 1, 0), min(index + 3, len(rows)))
        if math.isfinite(rows[i].crossing.gamma)
    }

    def straight(i: int, j: int) -> float:
        share = (middle - found[i].gamma_prime) / (found[j].gamma_prime - found[i].gamma_prime)
        return found[i].crossing.gamma * (1 - share) + found[j].crossing.gamma * share

    sides = (index - 1, index), (index + 1, index + 2)
    continued = [straight(i, j) for i, j in sides if i in found and j in found]
    halves = [row.crossing.half_width for row in found.values() if math.isfinite(row.crossing.half_width)]
    half = max(halves, default=0.0)
    if index in found and index + 1 in found:
        gamma = straight(index, index + 1)
        return gamma, half, min((abs(other - gamma) for other in continued), default=math.nan)
    if len(continued) == 1:
        last = found[index if index in found else index + 1].crossing.gamma
        return continued[0], half, abs(continued[0] - last)
    return math.nan, half, math.nan


class _Data:
    """The runs by layer and row of the map."""

    def __init__(self, runs: pd.DataFrame) -> None:
        self._rows = dict(tuple(runs.groupby(["layer", "gamma_prime"])))
        self._cells = {key: set(_keys(of_row)) for key, of_row in self._rows.items()}

    def has(self, row: _Row) -> bool:
        """Whether all jobs of a row have ended."""
        return row.cells <= self._cells.get((row.layer, row.gamma_prime), set())

    def of(self, row: _Row) -> pd.DataFrame:
        """The usable runs of the jobs of a row."""
        runs = self._rows[row.layer, row.gamma_prime]
        chosen = np.fromiter((key in row.cells for key in _keys(runs)), bool, len(runs))
        return runs.loc[chosen & usable_runs(runs)]


def _keys(runs: pd.DataFrame) -> Iterable[Cell]:
    return zip(*(runs[name].tolist() for name in ("width", "gamma", "gamma_prime", "seed")), strict=True)


def refinement_of(document: Mapping[str, Any]) -> Refinement | None:
    """The refinement that a study asks for; None if it asks for none.

    Args:
        document: the content of `study.toml`, in its normal form: every default explicit, axes as sorted lists.
    """
    if "refine" not in document:
        return None
    grids = [document["grid"], *document.get("more_grids", ())]
    depth, layers = networks_of(document)
    layers = layers[:-1] if depth else layers  # the line of the output weights follows from the others
    widths, seeds = (tuple(sorted({v for grid in grids for v in grid[key]})) for key in ("width", "seeds"))
    cells = frozenset(cell for grid in grids for cell in grid_cells(grid))
    return _shared(cells, Rules(layers, widths, seeds, **document["refine"]))


def refined(document: Mapping[str, Any] | None, runs: pd.DataFrame) -> Placement | None:
    """What the refinement of a folder's study has placed, given its runs, and how well its critical lines are known; None if the study
    has no refinement.

    Args:
        document: the content of `study.toml`.
        runs: rows as in ``runs/``.
    """
    refinement = None if document is None else refinement_of(document)
    return None if refinement is None else refinement.advance(runs)


# A command asks for the refinement of its folder more than once: its status, its fits, its figures. The rows looked at stay known.
_shared = lru_cache(maxsize=4)(Refinement)
