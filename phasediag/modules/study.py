"""A study of torch modules: its spec together with its data, and the jobs that follow from both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from ..errors import InputError
from ..phase_diagram.plane_study import PlaneStudy
from ..phase_diagram.theory import round_exponent
from ..studies import Cost, Hash, Outline, counted
from .costs import cost_of
from .jobs import Job
from .spec import GIVEN, Spec


@dataclass(frozen=True, repr=False)
class ModuleStudy(PlaneStudy[Job]):
    """A study of kind "module".

    Attributes:
        folders: where the module of its function is looked for.
        sizes: numbers of trainable weights, by width, where they are known.
    """

    spec: Spec
    folders: tuple[str, ...] = field(default=(), compare=False)
    sizes: Mapping[int, int] = field(default_factory=dict, compare=False)

    def outline(self) -> Outline:
        points, inputs = self.data.x.shape
        tests = f", {counted(len(self.data.y_test), 'test point')}" if len(self.data.y_test) else ""
        layers = len(self.spec.network.layers)
        widest = max(width for grid in self.spec.grids for width in grid.width)
        return Outline(
            f"{self.spec.network.factory}, {counted(layers, 'layer')}, width to {widest}",
            f"n = {points}, d = {inputs}{tests}",
            self._grid_in_words(),
        )

    def job(self, width: int, gamma: float, gamma_prime: float, seed: int) -> Job:
        """The job of one cell of the plane; the exponents are rounded to 10 decimals."""
        cell: dict[str, Any] = {
            "width": int(width),
            "gamma": round_exponent(gamma),
            "gamma_prime": round_exponent(gamma_prime),
            "seed": int(seed),
        }
        return Job(job_id=self._hash(cell), **cell)

    def cost(self, job: Job) -> Cost:
        return cost_of(job, self.data.x.shape, self.spec.train, self.sizes)

    def tolerance(self) -> float:
        return 0.05

    @cached_property
    def _hash(self) -> Hash:
        content = {
            "kind": self.spec.kind,
            "factory": self.spec.network.factory.rpartition(":")[2],
            "arguments": self.spec.network.model_dump(mode="json")["arguments"],
            "code": self.spec.network.code,
            "data": self.data.digest,
            "train": self.spec.train.model_dump(mode="json"),
        }
        return Hash(content, set(GIVEN))

    def _require_same_keys(self, stored: Self) -> None:
        mine, theirs = self.spec.network, stored.spec.network
        if mine.factory == theirs.factory and mine.code != theirs.code:
            raise InputError(
                f"{self.source}: network.factory: the code of {mine.factory} differs from the code that the networks of "
                f"{stored.source} were made with; allowed: that code, with other comments and layout, or another output folder"
            )
        super()._require_same_keys(stored)

    def _fixed_keys(self) -> Iterator[tuple[str, Any]]:
        yield "name", self.spec.name
        yield "kind", self.spec.kind
        for table in ("network", "train"):
            for key, value in getattr(self.spec, table).model_dump(mode="json").items():
                yield f"{table}.{key}", value
