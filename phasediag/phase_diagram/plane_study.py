"""What studies have in common whose networks lie on the plane of two exponents: grids, data, and what refinement adds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Self, TypeVar, cast

from ..spec.data import Dataset
from ..spec.parse import format_spec, parse_document, validate
from ..studies import Row, Study, counted
from .jobs import Cell, PlaneJob
from .refinement import Placement, Refinement, refinement_of
from .spec import PlaneSpec

if TYPE_CHECKING:
    import pandas as pd


PlaneJobT = TypeVar("PlaneJobT", bound=PlaneJob)


@dataclass(frozen=True, repr=False)
class PlaneStudy(Study[Cell, PlaneJobT], Generic[PlaneJobT]):
    """A study whose cells are (width, gamma, gamma_prime, seed).

    `placed` are the jobs that refinement has added so far, with their rounds: they follow from the spec and from results.
    """

    spec: PlaneSpec
    data: Dataset
    placed: Mapping[Cell, int] = field(default_factory=dict, hash=False)

    grouped_by = "width"

    @abstractmethod
    def job(self, width: int, gamma: float, gamma_prime: float, seed: int) -> PlaneJobT:
        """The job of one cell of the plane; the exponents are rounded to 10 decimals."""

    def notes(self) -> Iterator[str]:
        yield from self.data.notes()
        widths = {width for grid in self.spec.grids for width in grid.width}
        if len(widths) == 1:
            yield (
                "grid.width: one width gives no slope, so every regime will be undetermined; "
                "two widths give a slope, four its limit of infinite width"
            )
        elif len(widths) == 2 and len(self._seeds()) == 1:
            yield (
                "grid.width: two widths and one seed give slopes without intervals, so every regime will be undetermined; "
                "a second seed or a third width gives intervals"
            )
        elif len(widths) == 2:
            yield (
                "grid.width: with two widths, the seeds alone give the intervals of slopes, which miss how a slope changes "
                "with the width; four widths give its limit of infinite width"
            )

    def _grid_in_words(self) -> str:
        grids = self.spec.grids
        points = {point for grid in grids for point in grid.exponents()}
        widths = {width for grid in grids for width in grid.width}
        numbers = (len(points), "point"), (len(widths), "width"), (len(self._seeds()), "seed")
        return ", ".join(counted(number, what) for number, what in numbers)

    def _seeds(self) -> set[int]:
        return {seed for grid in self.spec.grids for seed in grid.seeds}

    def cells(self) -> set[Cell]:
        return {cell for grid in self.spec.grids for cell in grid.cells()} | set(self.placed)

    def job_of(self, cell: Cell) -> PlaneJobT:
        return self.job(*cell)

    def stored_job(self, row: Row) -> PlaneJobT:
        return self.job(*cast("Cell", tuple(row[name] for name in ("width", "gamma", "gamma_prime", "seed"))))

    def sample_jobs(self) -> list[PlaneJobT]:
        return []

    def group(self, job: PlaneJobT) -> int:
        return job.width

    # Refinement.

    @cached_property
    def refinement(self) -> Refinement | None:
        """What places further jobs by itself, if the study asks for it."""
        return refinement_of(self.spec.document())

    @property
    def grows(self) -> bool:
        return self.spec.refine is not None

    def refined(self, read_runs: Callable[[], pd.DataFrame]) -> Self:
        return self if self.refinement is None else self.with_placed(self.refinement.advance(read_runs()))

    def with_placed(self, placement: Placement) -> Self:
        """The study with the jobs that refinement has placed by now."""
        return replace(self, placed=dict(placement.rounds))

    def added_jobs(self) -> Mapping[str, tuple[PlaneJobT, int]]:
        jobs = ((self.job_of(cell), number) for cell, number in sorted(self.placed.items()))
        return {job.job_id: (job, number) for job, number in jobs}

    def _with_grids_of(self, stored: Self, owners: Sequence[Self]) -> Self:
        self._require_same_data(stored, self.data == stored.data)
        grids = tuple(grid for owner in owners for grid in owner.spec.grids)
        refine = self.spec.refine or stored.spec.refine
        spec = self.spec.model_copy(update={"grid": grids[0], "more_grids": grids[1:], "refine": refine})
        text = format_spec(spec.document())  # what is stored has to be readable again
        validate(parse_document(text, self.source), type(self.spec), self.source)
        return replace(self, spec=spec)
