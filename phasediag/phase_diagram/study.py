"""A phase diagram as a study: its spec together with its data, and the jobs that follow from both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

from ..spec.data import Dataset
from ..spec.parse import format_spec, parse_document, validate
from ..studies import Cost, Hash, Outline, Row, Study, counted
from .costs import cost_of, seconds_near_lines
from .jobs import Cell, Job
from .refinement import Placement, Refinement, refinement_of
from .spec import Spec
from .theory import round_exponent

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = {"depth", "width", "neurons", "gamma", "gamma_prime", "gamma_1", "seed"}
"""The keys of a job that depend on its cell, or on the network of the study."""
FINISHING_SECONDS = 3.0
"""Seconds of fits and figures for one layer, about, on two cores; measured on maps of 13 x 13 to 27 x 16 points."""


@dataclass(frozen=True, repr=False)
class PhaseDiagramStudy(Study[Cell, Job]):
    """A study of kind "phase-diagram"; its cells are (width, gamma, gamma_prime, seed).

    `placed` are the jobs that refinement has added so far, with their rounds: they follow from the spec and from results.
    """

    spec: Spec
    data: Dataset
    placed: Mapping[Cell, int] = field(default_factory=dict, hash=False)

    grouped_by = "width"

    def notes(self) -> Iterator[str]:
        yield from self.data.notes()
        rows, least = self.data.contradictions()
        if least > self.spec.train.loss_tolerance:
            yield (
                f"data: {rows} of {len(self.data.x)} rows have the x of another row and a different y, which no network fits: runs end "
                "stalled, fits leave them out, and every regime will be undetermined; "
                f"train.loss_tolerance would have to be above {least:.3g}"
            )
        widths = {width for grid in self.spec.grids for width in grid.width}
        neurons, points = self.spec.network.neurons, len(self.data.x)
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
        if neurons is None:
            return
        if neurons >= max(widths):
            yield f"network.neurons: {neurons} changes nothing, no width is larger"
        elif neurons < points:
            yield f"network.neurons: {neurons} for {points} data points: the error of sampling may be large"

    def outline(self) -> Outline:
        network, grids, (points, inputs) = self.spec.network, self.spec.grids, self.data.x.shape
        widths = sorted({width for grid in grids for width in grid.width})
        exponents = {point for grid in grids for point in grid.exponents()}
        return Outline(
            f"{network.depth} layers, m to {_short(widths[-1])}",
            f"n = {points}, d = {inputs}",
            ", ".join(
                (
                    counted(len(exponents), "point"),
                    counted(len(widths), "width"),
                    counted(len(self._seeds()), "seed"),
                )
            ),
        )

    def _seeds(self) -> set[int]:
        return {seed for grid in self.spec.grids for seed in grid.seeds}

    def cells(self) -> set[Cell]:
        return {cell for grid in self.spec.grids for cell in grid.cells()} | set(self.placed)

    def job_of(self, cell: Cell) -> Job:
        return self.job(*cell)

    def job(self, width: int, gamma: float, gamma_prime: float, seed: int) -> Job:
        """The job of one cell of the plane; the exponents are rounded to 10 decimals."""
        simulated = self.spec.network.simulated(int(width))
        cell: dict[str, Any] = {
            "depth": self.spec.network.depth,
            "width": int(width),
            "neurons": simulated,
            "gamma": round_exponent(gamma),
            "gamma_prime": round_exponent(gamma_prime),
            "gamma_1": self.spec.grid.gamma_1,
            "seed": int(seed),
        }
        hash_of = self._hash_of_whole if simulated == width else self._hash
        return Job(job_id=hash_of(cell), **cell)

    def stored_job(self, row: Row) -> Job:
        return self.job(*cast("Cell", tuple(row[name] for name in ("width", "gamma", "gamma_prime", "seed"))))

    def sample_jobs(self) -> list[Job]:
        samples = self.spec.samples
        return [self.job(samples.width, gamma, prime, samples.seed) for gamma, prime in samples.points]

    def cost(self, job: Job) -> Cost:
        points, inputs = self.data.x.shape
        train = self.spec.train
        fixed = None if train.method == "gradient-flow" else train.max_evaluations
        device = self.planned_device
        return cost_of(job, points, inputs, train.max_evaluations, fixed, device, train.accuracy)

    def compiles(self, job: Job) -> str:
        train = self.spec.train
        if train.method != "gradient-flow" or self.planned_device != "cpu":
            return ""
        return train.precision(job.mass != 1)

    def finishing_seconds(self) -> float:
        return FINISHING_SECONDS * self.spec.network.depth

    def group(self, job: Job) -> int:
        return job.width

    def tolerance(self) -> float:
        return self.spec.train.accuracy

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

    def added_jobs(self) -> Mapping[str, tuple[Job, int]]:
        jobs = ((self.job_of(cell), number) for cell, number in sorted(self.placed.items()))
        return {job.job_id: (job, number) for job, number in jobs}

    def more_jobs(self) -> tuple[int, float]:
        if self.spec.refine is None:
            return 0, 0.0
        return self.spec.refine.max_jobs - len(self.placed), seconds_near_lines(self.jobs(), self.cost)

    # What makes it this study.

    @cached_property
    def _hash(self) -> Hash:
        return Hash(self._content, _NUMBERS)

    @cached_property
    def _hash_of_whole(self) -> Hash:
        """A network that is whole is the same whether or not wider ones are."""
        return Hash(self._content, _NUMBERS - {"neurons"})

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

    def _with_grids_of(self, stored: Self, owners: Sequence[Self]) -> Self:
        self._require_same_data(stored, self.data == stored.data)
        grids = tuple(grid for owner in owners for grid in owner.spec.grids)
        refine = self.spec.refine or stored.spec.refine
        spec = self.spec.model_copy(update={"grid": grids[0], "more_grids": grids[1:], "refine": refine})
        text = format_spec(spec.document())  # what is stored has to be readable again
        validate(parse_document(text, self.source), Spec, self.source)
        return replace(self, spec=spec)


def _short(width: int) -> str:
    """A width as specs write it: 1600, 1e18."""
    return str(width) if width < 10**6 else f"{width:.3g}".replace("e+0", "e").replace("e+", "e")
