"""Studies, their folders and their sweeps, as many tests need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from phasediag import kinds
from phasediag.display.progress import Progress
from phasediag.storage.store import Store
from phasediag.sweep.local import this_process
from phasediag.sweep.ray_cluster import ray_cluster
from phasediag.sweep.sweep import Opening, Outcome, run

OPENINGS = {"ray": ray_cluster, "local": this_process}


def starter(kind: str) -> str:
    """The spec that `phasediag init` writes."""
    return kinds.named(kind, "tests").starter()


def trainer_of(study: Any) -> Any:
    """What trains the jobs of a study."""
    return kinds.named(study.kind, "tests").trainer(study)


def store_of(kind: str, folder: Path | str) -> Store:
    """The folder of a study of this kind."""
    return Store(folder, kinds.named(kind, "tests").tables)


def sweep(
    study: Any,
    store: Store,
    progress: Progress | None = None,
    opening: Opening = ray_cluster,
    **options: Any,
) -> Outcome:
    """Runs a sweep, on Ray unless told otherwise."""
    return run(study, store, opening, progress or Progress(), **options)


def draw_each(drawings: Mapping[str, Callable[[], Figure]]) -> dict[str, Figure]:
    """The figures of drawings, by name."""
    return {name: draw() for name, draw in drawings.items()}
