"""A folder of results as frames, for notebooks and scripts. Needs neither torch nor Ray."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import choices
from ..kinds import kind_in, open_store, require_study
from ..storage.store import Store
from .results import require_runs


@dataclass(frozen=True, repr=False)
class Results:
    """What a folder of results holds, each part read when it is first asked for and not again.

    What is fitted goes by its own name too: ``slopes`` of a phase diagram, ``counts`` of a condensation study.

    Attributes:
        store: the folder.
    """

    store: Store

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per job and layer, as in ``runs/``."""
        return self.store.runs()

    @cached_property
    def fitted(self) -> pd.DataFrame:
        """The slopes, or counts, of exactly these runs: those in the folder, or fitted here if they are out of date."""
        if self.runs.empty:
            return self.store.tables.fitted.empty_frame()
        return kind_in(self.store).fit(self.runs) if self._kept_fit is None else self._kept_fit

    @cached_property
    def _kept_fit(self) -> pd.DataFrame | None:
        """What is fitted in the folder, if that was to these runs, content for content."""
        return self.store.fitted_to(self.runs)

    @property
    def is_fitted(self) -> bool:
        """Whether what is fitted in the folder was fitted to the runs that it holds, content for content."""
        return self._kept_fit is not None

    def keep_fit(self) -> bool:
        """Writes what is fitted to the folder if it is not there, and tells whether it was not.

        Raises:
            InputError: the folder holds no runs.
        """
        if self.is_fitted:
            return False
        require_runs(self.runs, self.store)
        self.store.write_fitted(self.fitted, self.runs)
        self.__dict__["_kept_fit"] = self.fitted
        return True

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Networks that were kept whole: one row per neuron; without rows if there are none."""
        return self.store.samples()

    @cached_property
    def data(self) -> dict[str, NDArray[np.generic]]:
        """The arrays of ``data.npz``: x (n, d) and y (n,) among them; none where the file is missing."""
        return self.store.read_data() or {}

    def __getattr__(self, name: str) -> pd.DataFrame:
        if name == self.store.tables.fitted_name:
            return self.fitted
        raise AttributeError(
            f"results have no {name!r}; {choices(name, ['runs', self.store.tables.fitted_name, 'samples', 'data'])}"
        )

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), self.store.tables.fitted_name})

    def __repr__(self) -> str:
        return f"{self._title}\n" + "\n".join(f"  {name:8} {what}" for name, what in self._parts.items())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{name}</th><td>{escape(what)}</td></tr>" for name, what in self._parts.items()
        )
        return f"<table><caption>{escape(self._title)}</caption>{rows}</table>"

    @property
    def _title(self) -> str:
        document = self.store.read_document() or {}
        return f"{document.get('name')} ({document.get('kind')}), {self.store.out}"

    @property
    def _parts(self) -> dict[str, str]:
        jobs = self.runs["job_id"].nunique()
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.data.items())
        return {
            "runs": f"{len(self.runs):,} rows of {jobs:,} networks",
            self.store.tables.fitted_name: f"{len(self.fitted):,} rows",
            "samples": f"{self.samples['job_id'].nunique():,} networks kept whole",
            "data": shapes or "missing",
        }


def load(out: str | Path) -> Results:
    """The results in a folder or bucket that `phasediag run` has written, finished or not.

    Args:
        out: a folder, or a URI such as s3://bucket/prefix.

    Raises:
        InputError: it holds no study, or a file in it is damaged.

    Example:
        ``phasediag.plot_map(phasediag.load("results/study").slopes, layer="W1")``
    """
    store = open_store(out)
    require_study(store)
    return Results(store)
