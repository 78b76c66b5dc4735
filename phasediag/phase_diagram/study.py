"""A phase diagram as a study: its spec together with its data, and the jobs that follow from both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ..studies import Cost, Hash, Outline
from .costs import cost_of, seconds_near_lines
from .jobs import Job
from .plane_study import PlaneStudy
from .spec import Spec
from .theory import round_exponent

_NUMBERS = {"depth", "width", "neurons", "gamma", "gamma_prime", "gamma_1", "seed"}
"""The keys of a job that depend on its cell, or on the network of the study."""
FINISHING_SECONDS = 3.0
"""Seconds of fits and figures for one layer, about, on two cores; measured on maps of 13 x 13 to 27 x 16 points."""


@dataclass(frozen=True, repr=False)
class PhaseDiagramStudy(PlaneStudy[Job]):
    """A study of kind "phase-diagram"."""

    spec: Spec

    def notes(self) -> Iterator[str]:
        yield from super().notes()
        rows, least = self.data.contradictions()
        if least > self.spec.train.loss_tolerance:
            yield (
                f"data: {rows} of {len(self.data.x)} rows have the x of another row and a different y, which no network fits: runs end "
                "stalled, fits leave them out, and every regime will be undetermined; "
                f"train.loss_tolerance would have to be above {least:.3g}"
            )
        neurons, points = self.spec.network.neurons, len(self.data.x)
        widths = {width for grid in self.spec.grids for width in grid.width}
        if neurons is None:
            return
        if neurons >= max(widths):
            yield f"network.neurons: {neurons} changes nothing, no width is larger"
        elif neurons < points:
            yield f"network.neurons: {neurons} for {points} data points: the error of sampling may be large"

    def outline(self) -> Outline:
        network, (points, inputs) = self.spec.network, self.data.x.shape
        widest = max(width for grid in self.spec.grids for width in grid.width)
        return Outline(
            f"{network.depth} layers, m to {_short(widest)}",
            f"n = {points}, d = {inputs}",
            self._grid_in_words(),
        )

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

    def sample_jobs(self) -> list[Job]:
        samples = self.spec.samples
        return [self.job(samples.width, gamma, prime, samples.seed) for gamma, prime in samples.points]

    def cost(self, job: Job) -> Cost:
        points, inputs = self.data.x.shape
        train = self.spec.train
        fixed = None if train.method == "gradient-flow" else train.max_evaluations
        device = self.planned_device
        return cost_of(job, points, inputs, train.max_evaluations, fixed, device, train.accuracy)

    def sample_cost(self, job: Job) -> Cost:
        cost = self.cost(job)
        if self.spec.train.method == "adam":
            return cost
        # for its film, the network is trained again
        return replace(cost, seconds=2 * cost.seconds, shared=2 * cost.shared, worst=2 * cost.worst)

    def compiles(self, job: Job) -> str:
        train = self.spec.train
        if train.method != "gradient-flow" or self.planned_device != "cpu":
            return ""
        return train.precision(job.mass != 1)

    def finishing_seconds(self) -> float:
        return FINISHING_SECONDS * self.spec.network.depth

    def tolerance(self) -> float:
        return self.spec.train.accuracy

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


def _short(width: int) -> str:
    """A width as specs write it: 1600, 1e18."""
    return str(width) if width < 10**6 else f"{width:.3g}".replace("e+0", "e").replace("e+", "e")
