"""Training one stored job again, to compare the result with its row and to look at its weights."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .errors import InputError
from .status import stored_study
from .store import Store
from .study import Job, Study

SAME_DEVICE_TOLERANCE = 1e-4
"""Relative difference allowed on the same kind of device; elsewhere it is the accuracy of the study."""
_SHOWN_IDS = 3


@dataclass(frozen=True)
class Comparison:
    """Stored and recomputed relative change by layer, the tolerance, and whether they agree."""

    job: Job
    stored: dict[str, float]
    recomputed: dict[str, float]
    device_stored: str
    device: str
    tolerance: float

    def difference(self, layer: str) -> float:
        """|recomputed - stored| / |stored|."""
        stored, recomputed = self.stored[layer], self.recomputed.get(layer, math.nan)
        if stored == recomputed:
            return 0.0
        return abs(recomputed - stored) / abs(stored) if stored else math.inf

    @property
    def agrees(self) -> bool:
        """Whether every layer does; a NaN agrees with nothing."""
        return all(self.difference(layer) <= self.tolerance for layer in self.stored)


def reproduce(store: Store, prefix: str, weights_file: Path | None = None) -> Comparison:
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
        _check_parent(weights_file)
    rows = _rows(store, prefix)
    study = stored_study(store)
    job = _job(study, rows, store)
    settings, data = study.spec.train, study.data
    device = _device(rows["device"].iloc[0])
    from .training import train_weights

    trained, weights = train_weights(job, data.x, data.y, settings, device)
    if weights_file is not None:
        _save(weights_file, {"x": data.x, "y": data.y, **weights})
    same = _kind(trained[0]["device"]) == _kind(rows["device"].iloc[0])
    return Comparison(
        job=job,
        stored=dict(zip(rows["layer"], rows["relative_change"], strict=True)),
        recomputed={row["layer"]: float(row["relative_change"]) for row in trained},
        device_stored=str(rows["device"].iloc[0]),
        device=str(trained[0]["device"]),
        tolerance=SAME_DEVICE_TOLERANCE if same else max(settings.accuracy, SAME_DEVICE_TOLERANCE),
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


def _job(study: Study, rows: pd.DataFrame, store: Store) -> Any:
    row = rows.iloc[0].to_dict()
    job = study.stored_job(row)
    if job.job_id != row["job_id"]:
        raise InputError(
            f"{store.out}: job {row['job_id']} does not belong to its study.toml and data.npz, "
            f"which give it the id {job.job_id}"
        )
    return job


def _device(stored: str) -> str:
    """The kind of device of a row if there is one here, else the CPU."""
    if _kind(stored) != "cuda":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _kind(device: str) -> str:
    return "cuda" if device.startswith("cuda") else "cpu"


def _check_parent(path: Path) -> None:
    try:
        if path.is_dir():
            raise IsADirectoryError
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError:
        raise InputError(f"{path}: cannot be written; allowed: a file in a folder that can be") from None


def _save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with path.open("wb") as file:  # np.savez adds an ending to a name that has none
        np.savez(file, **arrays)  # type: ignore[arg-type]
