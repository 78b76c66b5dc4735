"""The spec of a condensation study: networks, data, training and snapshots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from ..errors import choices
from ..spec.tables import (
    NAME,
    POSITIVE,
    SEED,
    SEEDS,
    SWITCH,
    Count,
    Name,
    Number,
    ResourcesSpec,
    Seed,
    SeedAxis,
    Switch,
    Table,
    Width,
    check_size,
    expand_range,
    expand_whole_range,
    not_empty,
    shown,
    sorted_unique,
)
from ..spec.tables import DataSpec as StoredData
from .activations import ACTIVATIONS, RESERVED, fault_of, known
from .jobs import Names

MAX_EPOCHS = 10**8
MAX_DIMENSION = 10**5
MAX_SNAPSHOTS = 1000
MIN_STD, MAX_STD = 1e-30, 1e3
"""Weights of such scales can be stored as float32."""
MAX_RATE = 1e12
MAX_NUMBER = 1e9
"""Largest number, of either sign, that describes a function."""
_DEFAULT_SNAPSHOTS = 12
SEPARATOR = "/"


def _known(name: Any) -> str:
    if not isinstance(name, str) or name not in known():
        raise ValueError(f"{shown(name)} is not a known activation; {choices(name, known())}")
    if fault := fault_of(name):
        raise ValueError(f"{name} {fault}")
    return name


def _read_names(entry: Any) -> Any:
    """An entry of grid.activation: one name for all layers, or a list of one for each."""
    if isinstance(entry, list | tuple):
        if not entry:
            raise ValueError("an empty list is not supported; allowed: one activation for each hidden layer")
        return tuple(_known(name) for name in entry)
    return (_known(entry),)


def _read_rates(value: Any) -> Any:
    """A learning rate, or a table of them by activation."""
    rates = value if isinstance(value, dict) else {RESERVED: value}
    for key, rate in rates.items():
        if key != RESERVED:
            for name in key.split(SEPARATOR):
                _known(name)
        number = isinstance(rate, int | float) and not isinstance(rate, bool)
        if not (number and 0 < rate <= MAX_RATE):
            where = f"{key}: " if isinstance(value, dict) else ""
            raise ValueError(
                f"{where}{shown(rate)} is not supported; allowed: a number above 0, at most {MAX_RATE:g}"
            )
    if not rates:
        raise ValueError("an empty table is not supported; allowed: a rate for each activation, or default")
    return {key: float(rate) for key, rate in rates.items()} if isinstance(value, dict) else float(value)


def _one_or_several(value: Any) -> Any:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def name_of(names: Names) -> str:
    """How a network's activations are called in tables: "tanh", or "x2_tanh/tanh" where they differ from layer to layer."""
    return names[0] if len(set(names)) == 1 else SEPARATOR.join(names)


Dimensions = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=1, le=MAX_DIMENSION)], ...],
    BeforeValidator(_one_or_several),
    AfterValidator(not_empty),
    AfterValidator(sorted_unique),
]
Moderate = Annotated[Number, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
_MODERATE = f"a number from {-MAX_NUMBER:g} to {MAX_NUMBER:g}"


class NetworkSpec(Table):
    """Fully connected layers: `hidden`, neurons of each hidden layer; `residual`, whether these have skip connections."""

    hidden: Annotated[tuple[Width, ...], AfterValidator(not_empty)] = Field(
        description="a list with the number of neurons of each hidden layer"
    )
    residual: Switch = Field(default=False, description=SWITCH)

    @model_validator(mode="after")
    def _layers_fit(self) -> NetworkSpec:
        if self.residual and len(set(self.hidden)) > 1:
            widths = ", ".join(map(str, self.hidden))
            raise ValueError(
                f"hidden: residual layers of unequal width ({widths}); allowed: equal widths, or residual = false"
            )
        return self


class FunctionData(Table):
    """Points of a function, drawn anew for each seed of the grid, or evenly spaced.

    target "sum_sin": ``y = sum_k amplitude sin(frequency x_k + phase)``; "sin_mix", for one input: ``y = sin(3x) + sin(6x) / 2``.
    ``dimension`` may be a list: the study then has networks for each number of inputs.
    """

    kind: Literal["function"]
    target: Literal["sum_sin", "sin_mix"] = Field(description="sum_sin, sin_mix")
    amplitude: Moderate = Field(default=1.0, description=_MODERATE)
    frequency: Moderate = Field(default=1.0, description=_MODERATE)
    phase: Moderate = Field(default=0.0, description=_MODERATE)
    dimension: Dimensions = Field(
        default=(1,), description=f"a whole number from 1 to {MAX_DIMENSION}, or a list of such"
    )
    low: Moderate = Field(description=f"{_MODERATE}, below high")
    high: Moderate = Field(description=f"{_MODERATE}, above low")
    samples: int = Field(default=80, strict=True, ge=2, le=10**7, description="a whole number of at least 2")
    spacing: Literal["uniform-random", "even"] = Field(
        default="uniform-random", description="uniform-random, even"
    )

    @model_validator(mode="after")
    def _agrees(self) -> FunctionData:
        if not self.low < self.high:
            raise ValueError(f"low: {self.low:g} is not below high = {self.high:g}; allowed: low below high")
        if self.spacing == "even" and self.dimension != (1,):
            raise ValueError("spacing: 'even' needs dimension = 1; allowed: uniform-random")
        if self.target == "sin_mix":
            if self.dimension != (1,):
                raise ValueError("dimension: the target sin_mix has one input; allowed: 1")
            for key in ("amplitude", "frequency", "phase"):
                if (
                    key in self.model_fields_set
                    and getattr(self, key) != type(self).model_fields[key].default
                ):
                    raise ValueError(f"{key}: belongs to the target sum_sin; allowed: no such key")
        return self


DataSpec = FunctionData | StoredData


class GridSpec(Table):
    """Which networks to train: every `activation` at every scale `std` of initial weights, with every seed of `seeds`.

    `std` is the standard deviation of all initial weights. A seed selects these weights and, for random data, the sample.
    """

    activation: Annotated[
        tuple[Annotated[Names, BeforeValidator(_read_names)], ...], AfterValidator(not_empty)
    ] = Field(
        description="a list of activations, each a name or a list with a name for each hidden layer; "
        f"{', '.join(ACTIVATIONS)}, or one of an installed package"
    )
    std: Annotated[
        tuple[Annotated[Number, Field(ge=MIN_STD, le=MAX_STD)], ...],
        BeforeValidator(expand_range),
        AfterValidator(not_empty),
        AfterValidator(sorted_unique),
    ] = Field(description=f"a list of numbers from {MIN_STD:g} to {MAX_STD:g}")
    seeds: SeedAxis = Field(description=SEEDS)

    def cells(self, dimensions: Sequence[int]) -> Iterator[tuple[Names, int, float, int]]:
        """(activations, dimension, std, seed) of every job."""
        for names in self.activation:
            for dimension in dimensions:
                for std in self.std:
                    for seed in self.seeds:
                        yield names, dimension, std, seed

    def for_layers(self, layers: int) -> GridSpec:
        """This grid with one activation for each of so many layers.

        Raises:
            ValueError: an entry has another number of them.
        """
        expanded = []
        for index, names in enumerate(self.activation):
            if len(names) not in (1, layers):
                raise ValueError(
                    f"activation[{index}]: {len(names)} activations for {layers} hidden layers; "
                    "allowed: one for each, or a single name"
                )
            expanded.append(names if len(names) == layers else names * layers)
        return self.model_copy(update={"activation": sorted_unique(tuple(expanded))})


class TrainSpec(Table):
    """How networks are trained, and when they are measured.

    One epoch is one step over all points; for the gradient flow, the time ``learning_rate``. Snapshots are taken at epoch 0, at the last
    epoch, and at ``snapshots`` (by default, at epochs between, spaced geometrically). ``accuracy``, the relative error allowed in
    a step, and ``max_evaluations`` belong to the gradient flow.
    """

    method: Literal["adam", "gd", "gradient-flow", "normalized-gd"] = Field(
        description="adam, gd, gradient-flow, normalized-gd"
    )
    epochs: int = Field(
        strict=True, ge=1, le=MAX_EPOCHS, description=f"a whole number from 1 to {MAX_EPOCHS}"
    )
    learning_rate: Annotated[float | dict[str, float], BeforeValidator(_read_rates)] = Field(
        description=f"a number above 0, at most {MAX_RATE:g}, or a table of them by activation"
    )
    snapshots: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=0)], ...] | None, BeforeValidator(expand_whole_range)
    ] = Field(default=None, validate_default=True, description="a list of epochs")
    accuracy: Number = Field(default=1e-4, gt=0.0, le=0.1, description="a number above 0, at most 0.1")
    max_evaluations: Count = Field(default=20000, description=POSITIVE)
    dtype: Literal["float32", "float64"] = Field(default="float64", description="float32, float64")

    @field_validator("snapshots", mode="after")
    @classmethod
    def _within_training(cls, value: tuple[int, ...] | None, info: ValidationInfo) -> tuple[int, ...]:
        epochs = info.data.get("epochs")  # missing where it is refused itself
        if epochs is None:
            return value or ()
        if value is None:
            ratio = epochs ** (1 / (_DEFAULT_SNAPSHOTS - 2))
            value = tuple(round(ratio**k) for k in range(_DEFAULT_SNAPSHOTS - 1))
        for epoch in value:
            if epoch > epochs:
                raise ValueError(f"{epoch} is beyond the last epoch; allowed: from 0 to {epochs}")
        kept = sorted_unique((0, *value, epochs))
        if len(kept) > MAX_SNAPSHOTS:
            raise ValueError(f"{len(kept)} snapshots are too many; allowed: up to {MAX_SNAPSHOTS}")
        return kept

    def rate_of(self, names: Names) -> float | None:
        """The learning rate of a network, None if the table has none for it."""
        if isinstance(self.learning_rate, float):
            return self.learning_rate
        return self.learning_rate.get(name_of(names), self.learning_rate.get(RESERVED))


class SamplesSpec(Table):
    """Networks kept whole at every snapshot: of these `seeds`, for every activation, dimension and std.

    The default is the first seed.
    """

    seeds: Annotated[tuple[Seed, ...], BeforeValidator(expand_whole_range), AfterValidator(sorted_unique)] = (
        Field(description=f"a list of whole numbers from 0 to 2147483647; [] keeps no network ({SEED})")
    )


class CondensationSpec(Table):
    """A condensation study as written in its file, with every default filled in."""

    name: Name = Field(description=NAME)
    kind: Literal["condensation"] = Field(description="condensation")
    network: NetworkSpec
    data: DataSpec = Field(discriminator="kind")
    grid: GridSpec
    train: TrainSpec
    resources: ResourcesSpec = ResourcesSpec()
    samples: SamplesSpec = Field(default_factory=dict, validate_default=True)
    more_grids: tuple[GridSpec, ...] = Field(
        default=(), description="tables [[more_grids]] with the keys of [grid]"
    )
    """Further grids of a study that grew by something that is not one product grid. Programs write this key."""

    @field_validator("grid", mode="after")
    @classmethod
    def _expand(cls, value: GridSpec, info: ValidationInfo) -> GridSpec:
        network = info.data.get("network")
        return value if network is None else value.for_layers(len(network.hidden))

    @field_validator("more_grids", mode="after")
    @classmethod
    def _expand_more(cls, value: tuple[GridSpec, ...], info: ValidationInfo) -> tuple[GridSpec, ...]:
        network = info.data.get("network")
        return value if network is None else tuple(grid.for_layers(len(network.hidden)) for grid in value)

    @field_validator("samples", mode="before")
    @classmethod
    def _fill_samples(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        if "grid" not in info.data:
            return SamplesSpec.model_construct()  # the spec is refused anyhow, for its grid
        return {"seeds": [info.data["grid"].seeds[0]], **value}

    @model_validator(mode="after")
    def _whole(self) -> CondensationSpec:
        dimensions = len(self.dimensions)
        check_size(dimensions * sum(len(g.activation) * len(g.std) * len(g.seeds) for g in self.grids))
        for names in sorted({names for grid in self.grids for names in grid.activation}):
            if self.train.rate_of(names) is None:
                raise ValueError(
                    f"train.learning_rate: has no rate for {name_of(names)}; allowed: one for each activation, "
                    f"or {RESERVED}"
                )
        return self

    @property
    def grids(self) -> tuple[GridSpec, ...]:
        """All grids of the study, which is their union."""
        return (self.grid, *self.more_grids)

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Numbers of inputs of the study; (0,) where only the data tell."""
        return self.data.dimension if isinstance(self.data, FunctionData) else (0,)

    def document(self) -> dict[str, Any]:
        """The spec as TOML can hold it, every default explicit."""
        document: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        if not self.more_grids:
            del document["more_grids"]
        for grid in (document["grid"], *document.get("more_grids", ())):
            grid["activation"] = [
                names[0] if len(set(names)) == 1 else list(names) for names in grid["activation"]
            ]
        return document
