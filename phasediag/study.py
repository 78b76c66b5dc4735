"""A study: a spec together with its data, and the jobs that follow from them.

A job is one network to train. Its id is a hash of its content, so that the same network has the same id in every
study, whatever the study's name, the order of its grid or the resources it runs on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from .costs import Cost, cost_of
from .data import Dataset
from .errors import InputError
from .jobs import Job, hash_of
from .refinement import Placement, Refinement, refinement_of
from .spec import Spec, format_spec, parse_spec
from .tables import MAX_JOBS
from .theory import round_exponent

if TYPE_CHECKING:
    import pandas as pd

Cell = tuple[Any, ...]
"""What tells a job of a study from the others."""


@dataclass(frozen=True)
class Study(ABC):
    """What to train (`spec`) on which data; `source` names where it was read, for error messages.

    `placed` are the jobs that refinement has added so far: they follow from the spec and from results.
    """

    spec: Any
    data: Any
    source: str
    placed: frozenset[Cell] = frozenset()

    grouped_by = ""
    """What plans and summaries sum up by."""

    @abstractmethod
    def cells(self) -> set[Cell]:
        """Every job of the union of the study's grids, and those placed, by what tells each from the others."""

    @abstractmethod
    def job(self, *cell: Any) -> Any:
        """The job of a cell."""

    @abstractmethod
    def stored_job(self, row: Mapping[Any, Any]) -> Any:
        """The job that a row of `runs` is about, as this study has it (a row of another study gives another id)."""

    @abstractmethod
    def sample_jobs(self) -> list[Any]:
        """The jobs whose networks are kept whole. They need not be among `jobs`."""

    @abstractmethod
    def cost(self, job: Any) -> Cost:
        """What a job takes, predicted."""

    @abstractmethod
    def group(self, job: Any) -> Any:
        """The value of `grouped_by` of a job."""

    @abstractmethod
    def _fixed_keys(self) -> Iterator[tuple[str, Any]]:
        """The keys, with their values, that make two specs parts of different studies when they differ."""

    @abstractmethod
    def _united(self, stored: Any, grids: tuple[Any, ...]) -> Study:
        """This study with other grids: those of its union with the one that is stored."""

    @property
    def refinement(self) -> Refinement | None:
        """What places further jobs by itself, if the study asks for it."""
        return None

    def refined(self, read_runs: Callable[[], pd.DataFrame]) -> Self:
        """The study with the jobs that its refinement adds, as far as the runs tell: rows as in ``runs/``, read only if it has one."""
        return self if self.refinement is None else self.with_placed(self.refinement.advance(read_runs()))

    def with_placed(self, placement: Placement) -> Self:
        """The study with the jobs that refinement has placed by now."""
        return replace(self, placed=frozenset(placement.rounds))

    @property
    def kind(self) -> str:
        """The kind of the spec."""
        return str(self.spec.kind)

    def jobs(self) -> list[Any]:
        """Every job of the study, once, in the order of the cells."""
        return [self.job(*cell) for cell in sorted(self.cells())]

    def to_toml(self) -> str:
        """The spec as stored beside the results: every default explicit. Parses to an equal spec."""
        return format_spec(self.spec)

    def merged_with(self, stored: Study) -> Study:
        """The union of this study and the one that is stored already.

        Samples, resources and the path of the data are this study's, and so is the refinement if it has one. The stored grids stay if
        they hold every job; if this study's do, those replace them; otherwise this study's are appended as further grids.

        Raises:
            InputError: the studies differ in their name, network, training or data; the message names the key. Or
                the union is too large.
        """
        self._require_same_keys(stored)
        here, there = self.cells(), stored.cells()
        if len(here | there) > MAX_JOBS:
            raise InputError(
                f"{self.source}: grid: {len(here | there)} jobs together with those of {stored.source}"
            )
        if here <= there:
            grids = stored.spec.grids
        elif there <= here:
            grids = self.spec.grids
        else:
            grids = stored.spec.grids + self.spec.grids
        return self._united(stored, grids)

    def _require_same_keys(self, stored: Study) -> None:
        mine, theirs = dict(self._fixed_keys()), dict(stored._fixed_keys())
        for key in mine | theirs:
            if mine.get(key) != theirs.get(key):
                raise InputError(
                    f"{self.source}: {key}: {mine.get(key)!r} differs from what {stored.source} holds; "
                    f"allowed: {theirs.get(key)!r}, or another output folder"
                )

    def _require_same_data(self, stored: Study, same: bool) -> None:
        if not same:
            raise InputError(
                f"{self.source}: data: the points differ from those that {stored.source} was trained on; "
                "allowed: the same points, or another output folder"
            )


class PhaseDiagramStudy(Study):
    """A study of kind "phase-diagram"; its cells are (width, gamma, gamma_prime, seed)."""

    spec: Spec
    data: Dataset

    grouped_by = "width"

    def cells(self) -> set[Cell]:
        return {cell for grid in self.spec.grids for cell in grid.cells()} | self.placed

    @cached_property
    def refinement(self) -> Refinement | None:
        return refinement_of(self.spec.document())

    def sample_jobs(self) -> list[Job]:
        samples = self.spec.samples
        return [self.job(samples.width, gamma, prime, samples.seed) for gamma, prime in samples.points]

    def job(self, width: int, gamma: float, gamma_prime: float, seed: int) -> Job:
        """The job of one cell of the plane; the exponents are rounded to 10 decimals."""
        cell: dict[str, Any] = {
            "depth": self.spec.network.depth,
            "width": int(width),
            "gamma": round_exponent(gamma),
            "gamma_prime": round_exponent(gamma_prime),
            "gamma_1": self.spec.grid.gamma_1,
            "seed": int(seed),
        }
        return Job(job_id=hash_of({**self._content, **cell}), **cell)

    def stored_job(self, row: Mapping[Any, Any]) -> Job:
        return self.job(row["width"], row["gamma"], row["gamma_prime"], row["seed"])

    def cost(self, job: Job) -> Cost:
        points, inputs = self.data.x.shape
        train = self.spec.train
        fixed = None if train.method == "gradient-flow" else train.max_evaluations
        return cost_of(job, points, inputs, train.max_evaluations, fixed)

    def group(self, job: Job) -> int:
        return job.width

    @cached_property
    def _content(self) -> dict[str, Any]:
        """What all jobs of the study have in common."""
        return {
            "kind": self.spec.kind,
            "activation": self.spec.network.activation,
            "data": self.data.digest,
            "train": self.spec.train.model_dump(mode="json", exclude_none=True),
        }

    def _fixed_keys(self) -> Iterator[tuple[str, Any]]:
        yield "name", self.spec.name
        yield "kind", self.spec.kind
        yield "grid.gamma_1", self.spec.grid.gamma_1
        for table in ("network", "train"):
            for key, value in getattr(self.spec, table).model_dump(mode="json").items():
                yield f"{table}.{key}", value

    def _united(self, stored: PhaseDiagramStudy, grids: tuple[Any, ...]) -> PhaseDiagramStudy:
        self._require_same_data(stored, self.data == stored.data)
        refine = self.spec.refine or stored.spec.refine
        update = {"grid": grids[0], "more_grids": grids[1:], "refine": refine}
        spec = self.spec.model_copy(update=update)
        parse_spec(format_spec(spec), self.source)  # what is stored has to be readable again
        return replace(self, spec=spec)
