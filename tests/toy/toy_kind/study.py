"""The spec, the study, its jobs and what trains them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from phasediag.spec.tables import Count, Name, Number, ResourcesSpec, Table
from phasediag.storage.schema import VERSION
from phasediag.studies import Cost, Row, Study, hash_of

from .columns import RUNS


class DecaySpec(Table):
    """A study of decay."""

    name: Name = Field(description="letters, digits, - and _")
    kind: Literal["decay"] = Field(description="decay")
    rates: tuple[Number, ...] = Field(description="a list of numbers")
    steps: Count = Field(default=10, description="a whole number above 0")
    resources: ResourcesSpec = ResourcesSpec()

    def document(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)


@dataclass(frozen=True)
class NoData:
    """There are no data to speak of."""

    def arrays(self) -> Mapping[str, NDArray[np.generic]]:
        return {"x": np.zeros((1, 1)), "y": np.ones(1)}


@dataclass(frozen=True)
class Job:
    """One rate."""

    job_id: str
    rate: float


class DecayStudy(Study[tuple[float], Job]):
    """A study of decay; its cells are (rate,)."""

    spec: DecaySpec
    data: NoData

    grouped_by = "rate"

    def cells(self) -> set[tuple[float]]:
        return {(rate,) for rate in self.spec.rates}

    def job_of(self, cell: tuple[float]) -> Job:
        return Job(hash_of({"kind": "decay", "rate": cell[0], "steps": self.spec.steps}), cell[0])

    def stored_job(self, row: Row) -> Job:
        return self.job_of((float(str(row["rate"])),))

    def sample_jobs(self) -> list[Job]:
        return []

    def cost(self, job: Job) -> Cost:
        return Cost((), 1e-6 * self.spec.steps, 0.0, 1, 1e-5)

    def group(self, job: Job) -> float:
        return job.rate

    def tolerance(self) -> float:
        return 0.0

    def _fixed_keys(self) -> Iterator[tuple[str, object]]:
        yield "name", self.spec.name
        yield "kind", self.spec.kind
        yield "steps", self.spec.steps

    def _with_grids_of(self, stored: Self, owners: Sequence[Self]) -> Self:
        rates = tuple(sorted({rate for owner in owners for rate in owner.spec.rates}))
        return replace(self, spec=self.spec.model_copy(update={"rates": rates}))


@dataclass(frozen=True)
class Trainer:
    """Gradient descent on w^2 / 2 from w = 1."""

    steps: int

    def batch(self, jobs: Sequence[Job], device: str, threads: int) -> list[Row]:
        return [self._row(job, "converged", (1.0 - job.rate) ** self.steps, device=device) for job in jobs]

    def sample(self, job: Job, device: str, threads: int) -> list[Row]:
        raise NotImplementedError("no network is kept")

    def weights(self, job: Job, device: str) -> tuple[list[Row], Mapping[str, NDArray[np.generic]]]:
        rows = self.batch([job], device, 1)
        return rows, {"w_initial": np.ones(1), "w_final": np.array([rows[0]["left"]], dtype=float)}

    def failed(self, job: Job, error: str) -> list[Row]:
        return [self._row(job, "failed", float("nan"), error=error)]

    def _row(self, job: Job, status: str, left: float, **more: str) -> Row:
        known = {"job_id": job.job_id, "rate": job.rate, "left": left, "status": status, "version": VERSION}
        return {**RUNS.blank(), **known, "evaluations": self.steps, "wall_seconds": 0.0, **more}
