"""What trains a study, and how to do so in this process, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from .condensation.study import CondensationStudy
from .condensation.training import Trainer as CondensationTrainer
from .plan import missing_batches
from .schemas import TABLES
from .training import Trainer as PhaseDiagramTrainer
from .training import resolve_device

if TYPE_CHECKING:
    import pandas as pd

    from .study import Study

Row = dict[str, Any]


class Trainer(Protocol):
    """Jobs in, rows out, whatever the kind of the study. Processes send it to each other."""

    def batch(self, jobs: Sequence[Any], device: str, threads: int) -> list[Row]:
        """Trains jobs of one shape: the rows of ``runs``. Numerical failure is a status in the row, never an exception."""
        ...

    def sample(self, job: Any, device: str, threads: int) -> list[Row]:
        """Trains a network and keeps it whole: the rows of ``samples``."""
        ...

    def weights(self, job: Any, device: str) -> tuple[list[Row], dict[str, NDArray[Any]]]:
        """Trains one job: its rows of ``runs``, its data, and its weights before and after."""
        ...

    def failed(self, job: Any, error: str) -> list[Row]:
        """The rows of ``runs`` of a job that could not be run, with the reason."""
        ...


def trainer_of(study: Study) -> Trainer:
    """What trains the jobs of a study."""
    if isinstance(study, CondensationStudy):
        network = study.spec.network
        return CondensationTrainer(study.data, network.hidden, network.residual, study.spec.train)
    return PhaseDiagramTrainer(study.data.x, study.data.y, study.spec.train)


def train(study: Study, progress: Callable[[int, int], None] | None = None) -> pd.DataFrame:
    """Trains every job of the study, and those that its refinement adds, in this process, without Ray, on all cores.

    ``progress(done, total)`` is called after every batch of jobs. Returns the rows that a sweep would have written to ``runs/``,
    sorted by job.
    """
    import pandas as pd
    from joblib import cpu_count

    trainer, tables = trainer_of(study), TABLES[study.kind]
    device = resolve_device(study.spec.resources.device)
    rows: list[Row] = []

    def runs() -> pd.DataFrame:
        return pd.DataFrame(rows, columns=tables.runs.names)

    kept, statuses = [job.job_id for job in study.sample_jobs()], dict[str, str]()
    while batches := missing_batches(study, statuses, kept, 1):
        total = len(study.jobs())
        for batch in batches:
            rows += trainer.batch(batch.jobs, device, cpu_count())
            statuses = {row["job_id"]: row["status"] for row in rows}
            if progress is not None:
                progress(len(statuses), total)
        study = study.refined(runs)
    return runs().sort_values(list(tables.order), ignore_index=True)
