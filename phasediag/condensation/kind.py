"""Condensation studies as a kind of study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..kinds import Held, Kind, Reproducible
from ..storage.store import Store
from ..sweep.results import stored_runs
from .columns import TABLES
from .jobs import Job

if TYPE_CHECKING:  # each method imports what it needs
    from ..display.figures import Drawing
    from ..display.page.report import Report
    from .spec import CondensationSpec
    from .study import CondensationStudy
    from .training import Trainer


class Condensation(Kind["CondensationSpec", "CondensationStudy", Job]):
    """Small networks early in training: on how many lines their input weights gather."""

    name = "condensation"
    tables = TABLES

    def spec(self) -> type[CondensationSpec]:
        from .spec import CondensationSpec

        return CondensationSpec

    def study(self, spec: CondensationSpec, folder: Path, source: str) -> CondensationStudy:
        from ..spec.data import require_numbers
        from .study import CondensationStudy, load_datasets

        require_numbers(spec.data, self.name, source)
        return CondensationStudy(spec, load_datasets(spec, folder, source), source)

    def restored(
        self, spec: CondensationSpec, arrays: Mapping[str, NDArray[np.generic]], source: str
    ) -> CondensationStudy:
        from ..spec.data import require_points
        from .study import CondensationStudy, Datasets

        datasets = Datasets.from_arrays(arrays, f"{source}: data")
        require_points(spec.data, datasets.shared, source)
        return CondensationStudy(spec, datasets, source)

    def trainer(self, study: CondensationStudy) -> Trainer:
        from .training import Trainer

        network = study.spec.network
        return Trainer(study.data, network.hidden, network.residual, study.spec.train)

    def fit(self, runs: pd.DataFrame) -> pd.DataFrame:
        from .counts import count

        return count(runs)

    def summary(self, store: Store) -> dict[str, Any]:
        from .counts import summarise

        runs = stored_runs(store)
        rows = summarise(runs).to_dict("records")
        return {"layers": rows, "rows": len(runs), "left_out": int(runs["lines"].isna().sum())}

    def thumbnail(self, fitted: pd.DataFrame) -> bytes:
        from .thumbnail import thumbnail

        return thumbnail(fitted)

    def print_summary(self, summary: Mapping[str, Any]) -> None:
        from .printing import print_counts

        print_counts(summary)

    def figures(self, results: Held) -> dict[str, Drawing]:
        from .figures import drawings

        return drawings(results.runs, results.samples, results.data)

    def reproducible(self, rows: pd.DataFrame) -> Reproducible:
        row = rows.iloc[0]
        network = (
            f"{row['activations']}, dimension {row['dimension']}, std {row['std']:g}, seed {row['seed']}, "
            f"{row['method']}"
        )
        return Reproducible(network, "loss and lines", _losses_and_lines(rows))

    def report(self, store: Store) -> Report:
        from .report.content import CondensationReport

        return CondensationReport(store)


def _losses_and_lines(rows: pd.DataFrame) -> dict[str, float]:
    """The loss at every snapshot that was reached, and the lines of every layer at the last of these."""
    reached = rows.loc[rows["loss"].notna()]
    losses = reached.drop_duplicates("epoch").set_index("epoch")["loss"]
    last = reached.loc[reached["epoch"] == reached["epoch"].max()]
    return {f"loss at epoch {epoch}": float(loss) for epoch, loss in losses.items()} | {
        f"lines of {layer} at epoch {epoch}": float(lines)
        for layer, epoch, lines in last[["layer", "epoch", "lines"]].itertuples(index=False)
    }


KIND = Condensation()
