"""The page of a decay study: its speeds as a plot, its runs as a table."""

from __future__ import annotations

import pandas as pd

from phasediag.display.page.numbers import rounded
from phasediag.display.page.report import Content, Progress, Report
from phasediag.storage.store import Store
from phasediag.sweep.report import Jobs, frame, job_columns, missing, statuses


class DecayReport(Report):
    """All runs are one cell."""

    package, scripts = __package__, ("page.js",)

    def __init__(self, store: Store) -> None:
        self._store = store

    def content(self, progress: Progress | None) -> Content:
        runs = self._store.runs()
        return {
            **frame(self._store, Jobs.of(runs), progress),
            "notes": missing(len(runs), True, progress),
            "cells": ["all"],
            "rates": rounded(runs["rate"]),
            "left": rounded(runs["left"]),
        }

    @property
    def fitted(self) -> pd.DataFrame:
        return self._store.fitted()

    def runs(self, cell: str) -> Content:
        runs = self._store.runs()
        return {**job_columns(runs, statuses(runs)), "rate": rounded(runs["rate"])}
