"""Decay as a kind of study."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phasediag.display.terminal import new_table, print_table
from phasediag.kinds import Held, Kind, Reproducible
from phasediag.storage.store import Store

from .columns import TABLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from phasediag.display.figures import Drawing
    from phasediag.display.page.report import Report

    from .study import DecaySpec, DecayStudy, Trainer


class Decay(Kind["DecaySpec", "DecayStudy", "Job"]):
    """How fast gradient descent on one weight loses its start."""

    name = "decay"
    tables = TABLES

    def spec(self) -> type[DecaySpec]:
        from .study import DecaySpec

        return DecaySpec

    def study(self, spec: DecaySpec, folder: Path, source: str) -> DecayStudy:
        from .study import DecayStudy, NoData

        return DecayStudy(spec, NoData(), source)

    def restored(self, spec: DecaySpec, arrays: Mapping[str, NDArray[np.generic]], source: str) -> DecayStudy:
        return self.study(spec, Path(), source)

    def trainer(self, study: DecayStudy) -> Trainer:
        from .study import Trainer

        return Trainer(study.spec.steps)

    def fit(self, runs: pd.DataFrame) -> pd.DataFrame:
        usable = runs.loc[runs["status"] == "converged"]
        return pd.DataFrame(
            {"rate": usable["rate"], "speed": -np.log(usable["left"].abs()) / usable["evaluations"]}
        )

    def summary(self, store: Store) -> dict[str, Any]:
        return {"speeds": store.fitted().set_index("rate")["speed"].to_dict()}

    def print_summary(self, summary: Mapping[str, Any]) -> None:
        table = new_table("rate", "speed")
        for rate, speed in summary["speeds"].items():
            table.add_row(f"{rate:g}", f"{speed:.3f}")
        print_table(table)

    def figures(self, results: Held) -> dict[str, Drawing]:
        return {"speeds": partial(draw_speeds, results.fitted)}

    def reproducible(self, rows: pd.DataFrame) -> Reproducible:
        row = rows.iloc[0]
        return Reproducible(f"rate {row['rate']:g}", "what is left", {"w": float(row["left"])})

    def report(self, store: Store) -> Report:
        from .page import DecayReport

        return DecayReport(store)


def draw_speeds(speeds: pd.DataFrame) -> Figure:
    """The speed against the rate."""
    from phasediag.display.figures import new_figure

    figure = new_figure(3.0, 2.0)
    figure.subplots().plot("rate", "speed", data=speeds)
    return figure


KIND = Decay()
