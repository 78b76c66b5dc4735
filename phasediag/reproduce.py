"""Training one stored job again, to compare the result with its rows and to look at its weights."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .errors import InputError
from .jobs import AnyJob
from .status import stored_study
from .store import Store
from .study import Study
from .trainers import trainer_of

SAME_DEVICE_TOLERANCE = 1e-4
"""Relative difference allowed on the same kind of device; elsewhere it is the accuracy of the study."""
_SHOWN_IDS = 3


@dataclass(frozen=True)
class Comparison:
    """Stored and recomputed numbers of a job, the tolerance, and whether they agree.

    Attributes:
        job: the job.
        what: which network it is, in words.
        measure: what is compared: of a phase diagram the relative change by layer, of a condensation study the loss by epoch, and by
            layer the number of lines at the last one.
    """

    job: AnyJob
    what: str
    measure: str
    stored: dict[str, float]
    recomputed: dict[str, float]
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
        """Whether all numbers do; a NaN agrees with nothing."""
        return bool(self.stored) and all(self.difference(name) <= self.tolerance for name in self.stored)


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
    device = _device(rows["device"].iloc[0])
    trained, arrays = trainer_of(study).weights(job, device)
    if weights_file is not None:
        _save(weights_file, arrays)
    same = _kind(trained[0]["device"]) == _kind(rows["device"].iloc[0])
    what, measure, compared = _COMPARED[study.kind]
    return Comparison(
        job=job,
        what=what(rows.iloc[0]),
        measure=measure,
        stored=compared(rows),
        recomputed=compared(pd.DataFrame(trained)),
        device_stored=str(rows["device"].iloc[0]),
        device=str(trained[0]["device"]),
        tolerance=SAME_DEVICE_TOLERANCE if same else max(study.spec.train.accuracy, SAME_DEVICE_TOLERANCE),
    )


def _phase_diagram_network(row: pd.Series[Any]) -> str:
    return f"width {row['width']}, gamma {row['gamma']:g}, gamma' {row['gamma_prime']:g}, seed {row['seed']}"


def _relative_changes(rows: pd.DataFrame) -> dict[str, float]:
    return dict(zip(rows["layer"], rows["relative_change"].astype(float), strict=True))


def _condensation_network(row: pd.Series[Any]) -> str:
    return (
        f"{row['activations']}, dimension {row['dimension']}, std {row['std']:g}, seed {row['seed']}, "
        f"{row['method']}"
    )


def _losses_and_lines(rows: pd.DataFrame) -> dict[str, float]:
    """The loss at every snapshot that was reached, and the lines of every layer at the last of these."""
    reached = rows.loc[rows["loss"].notna()]
    losses = reached.drop_duplicates("epoch").set_index("epoch")["loss"]
    last = reached.loc[reached["epoch"] == reached["epoch"].max()]
    return {f"loss at epoch {epoch}": float(loss) for epoch, loss in losses.items()} | {
        f"lines of {layer} at epoch {epoch}": float(lines)
        for layer, epoch, lines in last[["layer", "epoch", "lines"]].itertuples(index=False)
    }


_COMPARED: dict[str, tuple[Callable[[Any], str], str, Callable[[pd.DataFrame], dict[str, float]]]] = {
    "phase-diagram": (_phase_diagram_network, "relative change", _relative_changes),
    "condensation": (_condensation_network, "loss and lines", _losses_and_lines),
}
"""By the kind of the study: what network a row is about, what is compared, and where it stands."""


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
