"""What is measured at every point of the plane, kept up with a sweep: where no rows are new, nothing is computed again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ...storage.rows import Rows
from ...storage.store import Store
from ...sweep.report import Jobs
from .. import info
from ..columns import RUNS, SLOPES
from ..fitting import POINT, POINT_KEYS, network_rows, slopes_of, usable_runs
from ..measures import MEASURES, RELATIVE_CHANGE, Measure, in_order

_UNUSED = {"norm_initial", "norm_final"}
COLUMNS = [name for name in RUNS.names if name not in _UNUSED]
"""The columns of ``runs/`` that a page shows."""
ROWS_AT_ONCE = 200_000
"""Rows that are computed with at a time, for the sake of memory."""


class Measured:
    """Slopes, means over seeds and counts, by point.

    Attributes:
        slopes: as `phasediag.fit` returns them.
        jobs: the jobs, whose counts are separate for every point.
        evaluations: medians, at a point (index: gamma, gamma_prime) and width (columns).
        changes: by layer, geometric means of the relative change, at a point and width.
        orientations: by layer, medians, at a point and width.
        fits: by measure, the slopes of powers of the width other than the relative change, of those that have values.
        values: by measure and layer, medians of the others, at a point and width.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows = Rows(store, COLUMNS)
        self._places = self._due = _places(self._rows.table)
        self.slopes = SLOPES.empty_frame()
        self.jobs = Jobs.of(store.tables.runs.only(COLUMNS).empty_frame(), POINT)
        self.evaluations = _nothing()
        self.changes: dict[str, pd.DataFrame] = {}
        self.orientations: dict[str, pd.DataFrame] = {}
        self.fits: dict[str, pd.DataFrame] = {}
        self.values: dict[tuple[str, str], pd.DataFrame] = {}

    @property
    def layers(self) -> list[str]:
        """The layers that have rows."""
        return [layer for layer, table in self.changes.items() if len(table)]

    @property
    def widths(self) -> list[int]:
        """The widths that have rows, ascending."""
        return sorted(self.table["width"].unique().to_pylist())

    @property
    def ended(self) -> pd.DataFrame:
        """Runs at a point (index: gamma, gamma_prime) by their status (columns)."""
        return self.jobs.counts.groupby([*POINT, "status"])["runs"].sum().unstack("status", fill_value=0)

    @property
    def table(self) -> pa.Table:
        """All rows as of the last look, with `COLUMNS`; a row may be there twice."""
        return self._rows.table

    def look(self) -> None:
        """Computes anew what has changed since the last look.

        Raises:
            InputError: a file of ``runs/`` is damaged.
        """
        self._due = np.union1d(self._due, _places(self._rows.look()))
        if not self._due.size:
            return
        self._places = _places(self.table)
        for places in self._portions(self._due):
            self._drop(places)
            self._add(self.at(places))
            self._due = np.setdiff1d(self._due, places)  # what fails stays due
        self.slopes = self.slopes.sort_values(POINT_KEYS, kind="stable", ignore_index=True)
        self.jobs = self.jobs._replace(
            others=self.jobs.others.sort_values(["width", *POINT, "seed"], kind="stable")
        )

    def at(self, places: NDArray[np.complex128]) -> pd.DataFrame:
        """The rows at some points, each given as gamma + i gamma_prime."""
        return self._store.in_order(self.table.filter(pa.array(np.isin(self._places, places))))

    def _portions(self, places: NDArray[np.complex128]) -> Iterator[NDArray[np.complex128]]:
        """The points, as many at a time as have `ROWS_AT_ONCE` rows, about."""
        portions = int(np.isin(self._places, places).sum()) // ROWS_AT_ONCE + 1
        yield from (portion for portion in np.array_split(places, portions) if portion.size)

    def _drop(self, places: NDArray[np.complex128]) -> None:
        def rest(table: pd.DataFrame) -> pd.DataFrame:
            gamma, prime = (table.index.get_level_values(key).to_numpy(float) for key in POINT)
            return table.loc[~np.isin(gamma + 1j * prime, places)]

        self.slopes = self.slopes.loc[~np.isin(_places_of(self.slopes), places)]
        self.jobs = Jobs(*(part.loc[~np.isin(_places_of(part), places)] for part in self.jobs))
        self.evaluations = rest(self.evaluations)
        self.changes = {layer: rest(table) for layer, table in self.changes.items()}
        self.orientations = {layer: rest(table) for layer, table in self.orientations.items()}
        self.fits = {
            name: fitted.loc[~np.isin(_places_of(fitted), places)] for name, fitted in self.fits.items()
        }
        self.values = {key: rest(table) for key, table in self.values.items()}

    def _add(self, runs: pd.DataFrame) -> None:
        if runs.empty:
            return
        points, widths = runs[POINT].drop_duplicates(), sorted(set(runs["width"]))
        jobs = Jobs.of(runs.drop_duplicates("job_id"), POINT)
        self.slopes = pd.concat([self.slopes, slopes_of(runs)])
        self.jobs = Jobs(*(pd.concat(parts) for parts in zip(self.jobs, jobs, strict=True)))
        self.evaluations = _below(self.evaluations, info.evaluations_by_width(runs, points, widths))
        for layer in runs["layer"].unique():
            for tables, measure in (
                (self.changes, RELATIVE_CHANGE),
                (self.orientations, MEASURES["orientations"]),
            ):
                found = info.by_width(runs, measure, layer, points, widths)
                tables[layer] = _below(tables.get(layer, _nothing()), found)
        networks = network_rows(runs)
        for measure in in_order(set(COLUMNS) - {RELATIVE_CHANGE.name, "orientations"}):
            if np.isfinite(runs[measure.name]).any():
                self._add_measure(runs if measure.of_layers else networks, measure, points, widths)

    def _add_measure(
        self, rows: pd.DataFrame, measure: Measure, points: pd.DataFrame, widths: list[int]
    ) -> None:
        if measure.operator_norm:
            rows = rows.loc[rows["layer"].isin(_of_two_norms(rows))]
        used = usable_runs(rows, measure)
        if measure.is_power and used.any():
            fitted = slopes_of(rows, measure)
            self.fits[measure.name] = pd.concat([self.fits.get(measure.name, fitted.iloc[:0]), fitted])
        for layer in () if measure.is_power else rows.loc[used, "layer"].unique():
            found, key = info.by_width(rows, measure, layer, points, widths), (measure.name, layer)
            self.values[key] = _below(self.values.get(key, _nothing()), found)


def _of_two_norms(rows: pd.DataFrame) -> list[str]:
    """The layers whose lines differ in the two norms, and those of which nothing is predicted."""
    of_layers = rows.drop_duplicates("layer")
    return [
        layer
        for layer in of_layers["layer"]
        if len(info.rule_lines(of_layers.loc[of_layers["layer"] == layer])) != 1
    ]


def _below(table: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, more]) if len(table) else more


def _nothing() -> pd.DataFrame:
    return pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=POINT))


def _places(rows: pa.Table) -> NDArray[np.complex128]:
    """Both exponents of every row as one number, gamma + i gamma_prime."""
    return np.asarray(rows["gamma"].to_numpy() + 1j * rows["gamma_prime"].to_numpy(), complex)


def _places_of(frame: pd.DataFrame) -> NDArray[np.complex128]:
    return np.asarray(frame["gamma"].to_numpy(float) + 1j * frame["gamma_prime"].to_numpy(float), complex)
