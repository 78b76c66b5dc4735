"""What kinds of study have in common whose networks lie on the plane of two exponents: from rows to slopes, maps, pages and comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..kinds import Held, JobT, Kind, Reproducible, SpecT, StudyT, stored_study
from ..storage.store import Store
from ..sweep.results import require_runs, stored_runs
from .columns import DIFFERENCES, LINES, MEASURE_SLOPES

if TYPE_CHECKING:  # each method imports what it needs
    from matplotlib.figure import Figure

    from ..display.figures import Drawing
    from ..display.page.report import Report
    from ..display.terminal import TextTable
    from .comparison import Differences
    from .measures import Measure


class PlaneKind(Kind[SpecT, StudyT, JobT]):
    """A kind whose rows of ``runs/`` are of a layer, a width and a point of the plane, with at least the columns of phase diagrams."""

    def fit(self, runs: pd.DataFrame) -> pd.DataFrame:
        from .fitting import fit

        return fit(runs)

    def summary(self, store: Store) -> dict[str, Any]:
        from .fitting import line_distances, regime_counts
        from .refinement import refined

        slopes = store.fitted()
        counted = slopes[["runs", "left_out"]].sum()
        placement = refined(store.read_document(), store.runs())
        refinement = {} if placement is None else {"refinement": placement.summary()}
        return {
            "regimes": regime_counts(slopes),
            "critical_line_distance": line_distances(slopes),
            "runs": int(counted["runs"]),
            "left_out": int(counted["left_out"]),
            **refinement,
        }

    def finding(self, fitted: pd.DataFrame) -> str:
        from .fitting import critical_line, line_distance

        column = "slope_infinite" if fitted["slope_infinite"].notna().any() else "slope"
        layers = fitted["layer"].unique()
        means = {layer: line_distance(critical_line(fitted, layer, column))[0] for layer in layers}
        measured = {layer: mean for layer, mean in means.items() if np.isfinite(mean)}
        layer = max(measured, key=lambda name: measured[name], default="")
        return f"{layer} off {measured[layer]:.3f}" if layer else ""

    def thumbnail(self, fitted: pd.DataFrame) -> bytes:
        from .figures.thumbnail import thumbnail

        return thumbnail(fitted)

    def print_summary(self, summary: Mapping[str, Any]) -> None:
        from .printing import print_slopes

        print_slopes(summary)

    def figures(self, results: Held) -> dict[str, Drawing]:
        from .figures.all import drawings
        from .figures.refinement import refinement_map
        from .folder import networks_in
        from .refinement import refined

        runs, slopes = results.runs, results.fitted
        layers = networks_in(results.store).layers
        drawn = drawings(runs, slopes, results.samples, results.data, layers)
        placement = refined(results.store.read_document(), runs)
        if placement is not None and placement.rounds:
            drawn["refinement"] = partial(refinement_map, slopes, placement)
        return drawn

    def scaling(self, results: Held, points: Sequence[str]) -> dict[str, Drawing]:
        from .figures.all import scalings
        from .folder import networks_in

        layers = networks_in(results.store).layers
        return scalings(results.runs, results.fitted, layers, points)

    def measures(self) -> list[tuple[str, str]]:
        from .measures import MEASURES

        return [(measure.name, measure.words) for measure in MEASURES.values()]

    def measure(self, results: Held, name: str, fitted: bool = False) -> OfMeasure:
        from .fitting import usable_runs
        from .measures import in_order, measure_named, power_named

        measure = power_named(name) if fitted else measure_named(name)
        runs = require_runs(results.runs, results.store)
        allowed = [one for one in in_order(runs.columns) if one.is_power or not fitted]
        there = [one.name for one in allowed if usable_runs(runs, one).any()]
        if name not in there:
            raise InputError(
                f"{results.store.name('runs')}: {name} has no value in any row; allowed: {', '.join(there) or 'none'}"
            )
        return OfMeasure(runs, measure)

    def reproducible(self, rows: pd.DataFrame) -> Reproducible:
        row = rows.iloc[0]
        width, neurons = int(row["width"]), int(row["neurons"])
        of = "" if neurons == width else f" ({neurons} neurons, each for {width / neurons:g})"
        network = (
            f"width {width}{of}, gamma {row['gamma']:g}, gamma' {row['gamma_prime']:g}, seed {row['seed']}"
        )
        changes = dict(zip(rows["layer"], rows["relative_change"].astype(float), strict=True))
        return Reproducible(network, "relative change", changes)

    def report(self, store: Store) -> Report:
        from .report.content import MapReport

        return MapReport(store)

    def compare(self, a: Store, b: Store, common: bool) -> Comparison:
        from .comparison import CELL, check_grids, compare

        names, outs = [], (a.out, b.out)
        cells = []
        for store in (a, b):
            study = stored_study(store)
            names.append(study.spec.name)
            cells.append(pd.DataFrame(sorted(study.cells()), columns=CELL))
        check_grids(cells[0], cells[1], common, list(outs))
        runs_a, runs_b = stored_runs(a), stored_runs(b)
        found = compare(runs_a, runs_b, common=True, names=outs)
        return Comparison(
            found,
            (names[0], names[1]),
            outs,
            (
                *_without_slopes(outs, set(cells[0]["width"]) & set(cells[1]["width"])),
                *_left_out(outs, set(runs_a["layer"]), set(runs_b["layer"])),
            ),
        )


def _without_slopes(outs: tuple[str, str], widths: set[int]) -> Iterator[str]:
    """Why there are no differences, if two studies have a single width in common."""
    if len(widths) == 1:
        yield f"no slopes: {outs[0]} and {outs[1]} have one width in common ({min(widths)}), and a slope needs two"


def _left_out(outs: tuple[str, str], layers_a: set[str], layers_b: set[str]) -> Iterator[str]:
    """Layers that only one of two studies has."""
    for out, only in zip(outs, (layers_a - layers_b, layers_b - layers_a), strict=True):
        if only:
            yield f"left out: {', '.join(sorted(only))}, only in {out}"


@dataclass(frozen=True)
class OfMeasure:
    """What the rows of a phase diagram say of one measure.

    Attributes:
        runs: the rows.
        measure: which.
    """

    runs: pd.DataFrame
    measure: Measure

    @cached_property
    def slopes(self) -> pd.DataFrame:
        """The fit. Raises `InputError` if the measure is shown as a value."""
        from .fitting import fit

        fitted = fit(self.runs, self.measure.name)
        # some layers have no value: a, in operator norm
        there = fitted.groupby("layer")["runs"].transform("any")
        return fitted.loc[there].reset_index(drop=True)

    def summary(self) -> dict[str, Any]:
        from .fitting import regime_counts
        from .info import rule_distances, sides

        counted = self.slopes[["runs", "left_out"]].sum()
        return {
            "measure": self.measure.name,
            "words": self.measure.words,
            "regimes": regime_counts(self.slopes) if self.measure.has_regimes else {},
            "rule_distance": {side: rule_distances(self.slopes, side) for side in sides(self.measure)},
            "runs": int(counted["runs"]),
            "left_out": int(counted["left_out"]),
        }

    def tables(self) -> list[TextTable]:
        from .printing import measure_tables

        return measure_tables(self.summary())

    def figures(self) -> dict[str, Drawing]:
        from .figures.all import of_measure

        return of_measure(self.runs, self.measure)

    def write(self, store: Store) -> Iterator[str]:
        name = f"slopes_{self.measure.name}.parquet"
        store.write_table(name, self.slopes, MEASURE_SLOPES)
        yield name


@dataclass(frozen=True)
class Comparison:
    """What differs between the phase diagrams of two folders.

    Attributes:
        found: the differences.
        names: of both studies.
        outs: their folders.
        notes: what to know of it.
    """

    found: Differences
    names: tuple[str, str]
    outs: tuple[str, str]
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        from .comparison import summarise

        runs, left_out = (int(self.found.slopes[column].sum()) for column in ("runs", "left_out"))
        sides = zip("ab", self.names, self.outs, strict=True)
        studies = {side: {"name": name, "out": out} for side, name, out in sides}
        return {**studies, **summarise(self.found), "runs": runs, "left_out": left_out}

    def tables(self) -> list[TextTable]:
        from .printing import difference_tables

        return difference_tables(self.summary())

    def remarks(self) -> list[str]:
        from .printing import difference_remarks

        return difference_remarks(self.summary())

    def figures(self) -> dict[str, Figure]:
        from .figures.difference import draw_differences

        return draw_differences(self.found, self.names)

    def write(self, store: Store) -> Iterator[str]:
        from ..display.figures import render

        for name, frame, declared in (
            ("differences.parquet", self.found.slopes, DIFFERENCES),
            ("lines.parquet", self.found.lines, LINES),
        ):
            store.write_table(name, frame, declared)
            yield name
        for key, figure in self.figures().items():
            for ending, content in render(figure).items():
                store.write_figure(f"{key}.{ending}", content, folder="")
                yield f"{key}.{ending}"
