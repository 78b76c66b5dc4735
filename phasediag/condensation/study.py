"""A condensation study: its spec, its data, and the jobs that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..spec.data import Dataset, load_data, make_dataset
from ..studies import Cost, Outline, Row, Study, counted, hash_of
from .costs import cost_of
from .jobs import Job, Names
from .spec import SEPARATOR, CondensationSpec, FunctionData, TrainSpec, name_of

# What the sine of two machines differs by must not make different jobs of the same spec.
_DECIMALS = 8
FINISHING_SECONDS = 3.0
"""Seconds of counts and figures, about, on two cores."""


@dataclass(frozen=True)
class Datasets:
    """The data of a study: one data set for all jobs, or one for each dimension and seed.

    Attributes:
        shared: the one, or None.
        drawn: the others, by (dimension, seed).
    """

    shared: Dataset | None
    drawn: Mapping[tuple[int, int], Dataset]

    def of(self, dimension: int, seed: int) -> Dataset:
        """The data set of the jobs with this dimension and seed.

        Raises:
            InputError: there is none, of a folder whose files do not belong together.
        """
        if self.shared is not None:
            return self.shared
        if (dimension, seed) not in self.drawn:
            raise InputError(f"data: none for dimension {dimension} and seed {seed}")
        return self.drawn[dimension, seed]

    @property
    def points(self) -> int:
        """Number n of points of every data set."""
        return len(next(iter(self.drawn.values())).y if self.shared is None else self.shared.y)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `data.npz` holds of it: the arrays of the one, or of k data sets x (k, n, largest d), y (k, n), dimension (k,), seed (k,).

        Where the dimensions differ, x is NaN beyond its own.
        """
        if self.shared is not None:
            return self.shared.arrays()
        keys = sorted(self.drawn)
        widest = max(dimension for dimension, _ in keys)
        x = np.full((len(keys), self.points, widest), np.nan)
        for index, key in enumerate(keys):
            x[index, :, : key[0]] = self.drawn[key].x
        dimension, seed = np.array(keys).T
        return {
            "x": x,
            "y": np.stack([self.drawn[key].y for key in keys]),
            "dimension": dimension,
            "seed": seed,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], source: str) -> Datasets:
        """The inverse of `arrays`.

        Raises:
            InputError: the arrays do not belong together.
        """
        if arrays["x"].ndim == 2:
            return cls(Dataset.from_arrays(arrays, source), {})
        try:
            keys = [(int(d), int(s)) for d, s in zip(arrays["dimension"], arrays["seed"], strict=True)]
            sets = {
                key: make_dataset(x[:, : key[0]], y, source)
                for key, x, y in zip(keys, arrays["x"], arrays["y"], strict=True)
            }
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{source}: x, y, dimension and seed do not belong together ({error})") from None
        return cls(None, sets)

    def agrees_with(self, other: Datasets) -> bool:
        """Whether both have the same data wherever both have any."""
        if self.shared is not None or other.shared is not None:
            return self.shared == other.shared
        return all(self.drawn[key] == other.drawn[key] for key in self.drawn.keys() & other.drawn.keys())

    def united_with(self, other: Datasets) -> Datasets:
        """All data sets of both."""
        return Datasets(self.shared, {**other.drawn, **self.drawn})


def load_datasets(spec: CondensationSpec, folder: Path, source: str) -> Datasets:
    """The data of a spec that was read from `source` in `folder`.

    Raises:
        InputError: they cannot be read, or cannot be trained on.
    """
    if not isinstance(spec.data, FunctionData):
        return Datasets(load_data(spec.data, folder, source), {})
    if spec.data.spacing == "even":
        return Datasets(sample_function(spec.data, 1, 0, f"{source}: data"), {})
    seeds = {seed for grid in spec.grids for seed in grid.seeds} | set(spec.samples.seeds)
    return Datasets(
        None,
        {
            (dimension, seed): sample_function(spec.data, dimension, seed, f"{source}: data")
            for dimension in spec.data.dimension
            for seed in seeds
        },
    )


def sample_function(data: FunctionData, dimension: int, seed: int, source: str) -> Dataset:
    """Points of a function of so many inputs, rounded to 8 decimals; random ones are drawn by a generator keyed on (d, seed)."""
    if data.spacing == "even":
        x = np.linspace(data.low, data.high, data.samples)[:, None]
    else:
        generator = np.random.default_rng([dimension, seed])
        x = generator.uniform(data.low, data.high, (data.samples, dimension))
    x = np.round(x, _DECIMALS)
    if data.target == "sin_mix":
        y = np.sin(3 * x[:, 0]) + np.sin(6 * x[:, 0]) / 2
    else:
        y = np.sum(data.amplitude * np.sin(data.frequency * x + data.phase), axis=1)
    return make_dataset(x, np.round(y, _DECIMALS), source)


Cell = tuple[Names, int, float, int]
"""(activations, dimension, std, seed): what identifies a job of a condensation study."""


class CondensationStudy(Study[Cell, Job]):
    """A study of kind "condensation"; its cells are (activations, dimension, std, seed)."""

    spec: CondensationSpec
    data: Datasets

    grouped_by = "activation"

    def outline(self) -> Outline:
        grids, hidden = self.spec.grids, self.spec.network.hidden
        activations = {name_of(names) for grid in grids for names in grid.activation}
        seeds = {seed for grid in grids for seed in grid.seeds}
        equal = f"{len(hidden)} × {hidden[0]}" if len(hidden) > 1 else str(hidden[0])
        neurons = equal if len(set(hidden)) == 1 else ", ".join(map(str, hidden))
        shared = self.data.shared
        dimensions = self._dimensions if shared is None else [shared.x.shape[1]]
        span = " – ".join(str(end) for end in dict.fromkeys((min(dimensions), max(dimensions))))
        several = f"{len(activations)} activations" if len(activations) > 1 else "mixed"
        single = activations.pop() if len(activations) == 1 else SEPARATOR
        return Outline(
            f"{several if SEPARATOR in single else single}, {neurons} neurons",
            f"n = {self.data.points}, d = {span}",
            f"{counted(len({std for grid in grids for std in grid.std}), 'scale')}, {counted(len(seeds), 'seed')}",
        )

    def notes(self) -> Iterator[str]:
        if self.data.shared is not None:
            yield from self.data.shared.notes()
            if len(self.data.shared.y_test):
                yield "data: no row of a condensation study tells of the test points"

    def cells(self) -> set[Cell]:
        return {cell for grid in self.spec.grids for cell in grid.cells(self._dimensions)}

    def sample_jobs(self) -> list[Job]:
        points = sorted({cell[:3] for cell in self.cells()})
        seeds = self.spec.samples.seeds
        return [self.job(names, dimension, std, seed) for names, dimension, std in points for seed in seeds]

    def job_of(self, cell: Cell) -> Job:
        return self.job(*cell)

    def job(self, activations: Names, dimension: int, std: float, seed: int) -> Job:
        """The job of one cell."""
        rate = self.spec.train.rate_of(activations)
        assert rate is not None  # a valid spec
        content = {
            "kind": self.spec.kind,
            "hidden": list(self.spec.network.hidden),
            "residual": self.spec.network.residual,
            "activation": list(activations),
            "data": self.data.of(dimension, seed).digest,
            "std": float(std),
            "seed": int(seed),
            "train": _train_content(self.spec.train, rate),
        }
        return Job(hash_of(content), tuple(activations), int(dimension), float(std), int(seed), rate)

    def stored_job(self, row: Row) -> Job:
        names = tuple(str(row["activations"]).split(SEPARATOR))
        layers = len(self.spec.network.hidden)
        activations = names if len(names) == layers else names * layers
        dimension, std, seed = cast("tuple[int, float, int]", (row["dimension"], row["std"], row["seed"]))
        return self.job(activations, int(dimension), float(std), int(seed))

    def cost(self, job: Job) -> Cost:
        device = self.planned_device
        return cost_of(job, self.spec.network.hidden, self.data.points, self.spec.train, device)

    def group(self, job: Job) -> str:
        return name_of(job.activations)

    def finishing_seconds(self) -> float:
        return FINISHING_SECONDS

    def tolerance(self) -> float:
        return self.spec.train.accuracy

    @property
    def _dimensions(self) -> tuple[int, ...]:
        return self.spec.dimensions if self.data.shared is None else (self.data.shared.x.shape[1],)

    def _fixed_keys(self) -> Iterator[tuple[str, Any]]:
        yield "name", self.spec.name
        yield "kind", self.spec.kind
        for table in ("network", "train"):
            for key, value in getattr(self.spec, table).model_dump(mode="json").items():
                if key != "learning_rate":  # further activations may have new rates
                    yield f"{table}.{key}", value
        yield "data.kind", self.spec.data.kind
        yield "data.dimension", list(self._dimensions)
        if isinstance(self.spec.data, FunctionData):
            for key, value in self.spec.data.model_dump(exclude={"kind", "dimension"}).items():
                yield f"data.{key}", value

    def _with_grids_of(self, stored: Self, owners: Sequence[Self]) -> Self:
        rates = self._united_rates(stored)
        self._require_same_data(stored, self.data.agrees_with(stored.data))
        grids = tuple(grid for owner in owners for grid in owner.spec.grids)
        train = self.spec.train.model_copy(update={"learning_rate": rates})
        update = {"grid": grids[0], "more_grids": grids[1:], "train": train}
        data = self.data.united_with(stored.data)
        return replace(self, spec=self.spec.model_copy(update=update), data=data)

    def _united_rates(self, stored: CondensationStudy) -> float | dict[str, float]:
        """The learning rates of the networks of both studies, which have to agree on common networks."""
        mine, theirs = self._rates, stored._rates
        for name in sorted(mine.keys() & theirs.keys()):
            if mine[name] != theirs[name]:
                raise InputError(
                    f"{self.source}: train.learning_rate: {mine[name]:g} for {name} differs from what {stored.source} "
                    f"holds; allowed: {theirs[name]:g}, or another output folder"
                )
        both = {**theirs, **mine}
        return both if len(set(both.values())) > 1 else next(iter(both.values()))

    @property
    def _rates(self) -> dict[str, float]:
        """The learning rate of every network of the study, by its activations."""
        rates = {
            names: self.spec.train.rate_of(names) for grid in self.spec.grids for names in grid.activation
        }
        return {name_of(names): rate for names, rate in rates.items() if rate is not None}


def _train_content(train: TrainSpec, rate: float) -> dict[str, Any]:
    """What identifies the training of a job with this learning rate."""
    content = train.model_dump(mode="json", exclude={"learning_rate"}) | {"learning_rate": rate}
    if train.method != "gradient-flow":
        del content["accuracy"], content["max_evaluations"]
    return content
