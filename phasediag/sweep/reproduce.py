"""Training of one stored job again, to compare the result with its rows and to look at its weights."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..devices import device_of_row, kind_of_row
from ..errors import InputError
from ..kinds import named, stored_study
from ..storage.store import Store
from ..studies import AnyStudy, Job

SAME_DEVICE_TOLERANCE = 1e-4
"""Relative difference allowed on the same kind of device; elsewhere it is the accuracy of the study."""
_SHOWN_IDS = 3


@dataclass(frozen=True)
class Reproduction:
    """Stored and recomputed numbers of a job, the tolerance, and whether they agree.

    Attributes:
        job: the job.
        what: which network it is, in words.
        measure: what is compared.
        stored: the numbers in the folder, by name.
        recomputed: the numbers of the training here.
        device_stored: the device of the stored row.
        device: the device of the training here.
        tolerance: relative difference allowed.
    """

    job: Job
    what: str
    measure: str
    stored: Mapping[str, float]
    recomputed: Mapping[str, float]
    device_stored: str
    device: str
    tolerance: float

    def difference(self, name: str) -> float:
        """|recomputed - stored| / |stored|."""
        stored, recomputed = self.stored[name], self.recomputed.get(name, math.nan)
        if stored == recomputed:
            return 0.0
        return abs(recomputed - stored) / abs(stored) if stored else math.inf

    @property
    def agrees(self) -> bool:
        """Whether all numbers agree with the stored ones; a NaN agrees with nothing."""
        return bool(self.stored) and all(self.difference(name) <= self.tolerance for name in self.stored)


def reproduce(store: Store, prefix: str, weights_file: Path | None = None) -> Reproduction:
    """Trains a job of a folder again, from its row, `study.toml` and `data.npz`.

    Args:
        store: the folder.
        prefix: the id of the job, or the beginning of it.
        weights_file: where to write x, y and the initial and final normalised weights (.npz).

    Raises:
        InputError: no job or several have this id, the folder contradicts itself, or the file cannot be
            written.
    """
    if weights_file is not None:
        _check_file(weights_file, store)
    rows = _rows(store, prefix)
    study = stored_study(store)
    job = _job(study, rows, store)
    kind, stored = named(study.kind), str(rows["device"].iloc[0])
    trained, arrays = kind.trainer(study).weights(job, device_of_row(stored))
    if weights_file is not None:
        _save(weights_file, arrays)
    here = str(trained[0]["device"])
    same = kind_of_row(here) == kind_of_row(stored)
    found = kind.reproducible(rows)
    return Reproduction(
        job=job,
        what=found.network,
        measure=found.measure,
        stored=found.numbers,
        recomputed=kind.reproducible(pd.DataFrame(trained)).numbers,
        device_stored=stored,
        device=here,
        tolerance=SAME_DEVICE_TOLERANCE if same else max(study.tolerance(), SAME_DEVICE_TOLERANCE),
    )


def _rows(store: Store, prefix: str) -> pd.DataFrame:
    """The rows of the one job whose id begins with the prefix."""
    runs = store.runs()
    rows = runs.loc[runs["job_id"].str.startswith(prefix)] if prefix else runs
    ids = sorted(set(rows["job_id"]))
    if not ids:
        raise InputError(f"{store.name('runs')}: no job has an id that begins with {prefix!r}")
    if len(ids) > 1:
        shown = ", ".join(ids[:_SHOWN_IDS]) + (", ..." if len(ids) > _SHOWN_IDS else "")
        raise InputError(
            f"{store.name('runs')}: {len(ids)} jobs have an id that begins with {prefix!r}: {shown}"
        )
    return rows


def _job(study: AnyStudy, rows: pd.DataFrame, store: Store) -> Job:
    row = {str(name): value for name, value in rows.iloc[0].to_dict().items()}
    job = study.stored_job(row)
    if job.job_id != row["job_id"]:
        raise InputError(
            f"{store.out}: job {row['job_id']} does not belong to its study.toml and data.npz, "
            f"which give it the id {job.job_id}"
        )
    return job


def _check_file(path: Path, store: Store) -> None:
    if path.suffix != ".npz":
        raise InputError(f"{path}: is not supported; allowed: a file whose name ends in .npz")
    store.files.check_outside(path)
    try:
        if path.is_dir():
            raise IsADirectoryError
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError:
        raise InputError(f"{path}: cannot be written; allowed: a file in a writable folder") from None


def _save(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    with path.open("wb") as file:  # np.savez adds an ending to a name that has none
        np.savez(file, **arrays)  # type: ignore[arg-type]
