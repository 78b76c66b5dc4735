"""The spec of a phase diagram: the keys of its TOML file, and the messages for mistakes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..spec import tables
from ..spec.tables import (
    NAME,
    POSITIVE,
    SEED,
    SEEDS,
    Count,
    DataSpec,
    Name,
    Number,
    ResourcesSpec,
    Seed,
    SeedAxis,
    Table,
    check_size,
    expand_range,
    expand_whole_range,
    not_empty,
    sorted_unique,
)
from .jobs import Cell, grid_cells
from .theory import MAX_DEPTH, example_points, round_exponent

MAX_EXPONENT = 20.0
MAX_WIDTH = 10**18
MAX_NEURONS, MAX_NEURONS_DEEPER = tables.MAX_WIDTH, 10**5
"""Most neurons of a hidden layer that are simulated, of two layers and of more."""
MIN_NEURONS = 10
DEEPER_ACCURACY = 0.03
"""The default of more than two layers."""
# The residual is a difference: rounding leaves about this fraction of the loss of f = 0.
_LEAST_TOLERANCE = {"float32": 1e-12, "float64": 1e-24}


def _whole(value: Any) -> Any:
    """1e10 -> 10000000000: so widths are written."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _default_sample_width(depth: int) -> int:
    """The width of networks that are kept whole: with more than two layers, one of width 1000 would be ten megabytes."""
    return 1000 if depth == 2 else 400


Exponent = Annotated[
    float,
    Field(strict=True, allow_inf_nan=False, ge=-MAX_EXPONENT, le=MAX_EXPONENT),
    AfterValidator(round_exponent),
]
Points = Annotated[tuple[tuple[Exponent, Exponent], ...], AfterValidator(sorted_unique)]
ExponentAxis = Annotated[tuple[Exponent, ...], BeforeValidator(expand_range), AfterValidator(sorted_unique)]
Width = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=1, le=MAX_WIDTH)]
WidthAxis = Annotated[
    tuple[Width, ...],
    BeforeValidator(expand_whole_range),
    AfterValidator(not_empty),
    AfterValidator(sorted_unique),
]

_EXPONENT = f"a number from {-MAX_EXPONENT:g} to {MAX_EXPONENT:g}"
_PAIRS = f"[gamma, gamma_prime] pairs of numbers from {-MAX_EXPONENT:g} to {MAX_EXPONENT:g}"
_EXPONENTS = f"a list of numbers from {-MAX_EXPONENT:g} to {MAX_EXPONENT:g}, or {{start, stop, num}}"


class NetworkSpec(Table):
    """Architecture. `depth` counts the layers of weights: two for one hidden layer, three for two of equal width, and so on.

    A network wider than `neurons` is simulated by this number of neurons in every hidden layer, each of which represents
    width/neurons of them; narrower networks are whole. Without the key, all networks are whole.
    """

    depth: int = Field(strict=True, ge=2, le=MAX_DEPTH, description=f"a whole number from 2 to {MAX_DEPTH}")
    activation: Literal["relu"] = Field(default="relu", description="relu")
    neurons: (
        Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=MIN_NEURONS, le=MAX_NEURONS)] | None
    ) = Field(default=None, description=f"a whole number from {MIN_NEURONS} to {MAX_NEURONS}")

    def simulated(self, width: int) -> int:
        """How many neurons of each hidden layer are simulated in a network of this width."""
        return width if self.neurons is None else min(width, self.neurons)


class GridSpec(Table):
    """Which networks to train: every width and seed at every grid point.

    Grid points are the product of `gamma` and `gamma_prime`, which may be empty, and the pairs in `points`. `seeds = 3` means
    [0, 1, 2]. Axes are sorted, and duplicates removed. `gamma_1` belongs to three layers and more, and has one value for the
    whole study: a map is a plane. Widths may be written as 1e10.
    """

    width: WidthAxis = Field(
        description=f"a list of whole numbers from 1 to {MAX_WIDTH}, or {{start, stop, num}}"
    )
    gamma: ExponentAxis = Field(default=(), description=_EXPONENTS)
    gamma_prime: ExponentAxis = Field(default=(), description=_EXPONENTS)
    seeds: SeedAxis = Field(description=SEEDS)
    points: Points = Field(default=(), description=f"a list of {_PAIRS}")
    gamma_1: Exponent = Field(default=0.0, description=_EXPONENT)

    @model_validator(mode="after")
    def _has_points(self) -> GridSpec:
        if not (self.gamma and self.gamma_prime) and not self.points:
            raise ValueError(
                "no grid point: gamma or gamma_prime is empty, and so is points; "
                "allowed: numbers for both, or some points"
            )
        check_size(self.size)
        return self

    @property
    def size(self) -> int:
        """Number of jobs (a pair in `points` that is on the product grid too counts twice)."""
        points = len(self.gamma) * len(self.gamma_prime) + len(self.points)
        return len(self.width) * len(self.seeds) * points

    def exponents(self) -> set[tuple[float, float]]:
        """The grid points, (gamma, gamma_prime)."""
        return {(g, g_prime) for g in self.gamma for g_prime in self.gamma_prime} | set(self.points)

    def cells(self) -> Iterator[Cell]:
        """(width, gamma, gamma_prime, seed) of every job, in no particular order, each once."""
        return grid_cells(self.model_dump())


class TrainSpec(Table):
    """How a network is trained, and how accurately.

    `accuracy` is the relative error allowed in the relative change. It belongs to the `method` gradient-flow. Its default is 0.03 for
    more than two layers, where seeds of one point scatter by 3 to 15 %. Gradient descent (gd) and adam take steps of fixed size,
    the required `learning_rate`, without control of the error. A run has converged when its loss is at most `loss_tolerance` times
    the loss of f = 0. It ends after `max_evaluations` (full-batch forward and backward passes) in any case; a represented network that
    stalls is trained up to twice again, with as many each time. `dtype` holds for the
    weights of whole networks; represented networks use float64.
    """

    method: Literal["gradient-flow", "gd", "adam"] = Field(
        default="gradient-flow", description="gradient-flow, gd, adam"
    )
    learning_rate: Number | None = Field(
        default=None, gt=0.0, validate_default=True, description="a finite number above 0"
    )
    accuracy: Number = Field(default=0.01, gt=0.0, le=0.5, description="a number above 0, at most 0.5")
    loss_tolerance: Number = Field(default=1e-6, gt=0.0, lt=1.0, description="a number between 0 and 1")
    max_evaluations: Count = Field(default=20000, description=POSITIVE)
    dtype: Literal["float32", "float64"] = Field(default="float32", description="float32, float64")

    def precision(self, represented: bool) -> str:
        """How the gradient flow computes networks on a CPU; numbers of one that stands for a much wider one are beyond float32."""
        return "float64" if represented else self.dtype

    @field_validator("learning_rate", mode="after")
    @classmethod
    def _step_of_method(cls, value: float | None, info: ValidationInfo) -> float | None:
        method = info.data.get("method")  # missing where it is refused itself
        if method == "gradient-flow" and value is not None:
            raise ValueError(
                "is not supported here: gradient-flow chooses its own steps; allowed: with the methods gd and adam"
            )
        if method in ("gd", "adam") and value is None:
            raise ValueError(
                f"required by the method {method}, but missing; allowed: a finite number above 0"
            )
        return value

    @model_validator(mode="after")
    def _within_reach(self) -> TrainSpec:
        least = _LEAST_TOLERANCE[self.dtype]
        if self.loss_tolerance < least:
            raise ValueError(
                f"loss_tolerance: {self.loss_tolerance:g} is below what {self.dtype} can resolve; "
                f"allowed: at least {least:g}"
            )
        return self


class SamplesSpec(Table):
    """Networks kept whole: one at each of `points`, with this `width` and `seed`. They need not be on the grid.

    The defaults: one point of the grid for each regime of the first layer (with more than two layers, also one with a condensed
    second layer); the width of the grid nearest to 1000 (with more than two layers, to 400); the first seed.
    """

    points: Points = Field(description=f"a list of {_PAIRS}; [] keeps no network")
    width: Width = Field(description=f"a whole number from 1 to {MAX_WIDTH}")
    seed: Seed = Field(description=SEED)


class RefineSpec(Table):
    """Further points that the sweep places near the critical lines (see `phasediag.refinement`).

    `target` is the desired half-width, in gamma, of the 95 % band of every critical line. `max_jobs` limits the jobs added to
    the grid, `rounds` the successive steps in each row of the map.
    """

    target: Number = Field(ge=1e-4, le=1.0, description="a number from 0.0001 to 1")
    max_jobs: Count = Field(default=2000, description=POSITIVE)
    rounds: int = Field(default=8, strict=True, ge=1, le=100, description="a whole number from 1 to 100")


class PlaneSpec(Table):
    """What specs have in common whose networks lie on the plane of two exponents."""

    name: Name = Field(description=NAME)
    kind: str
    network: Table
    data: DataSpec = Field(discriminator="kind")
    grid: GridSpec
    train: Table
    resources: ResourcesSpec = ResourcesSpec()
    refine: RefineSpec | None = Field(default=None, description="a table [refine], or none")
    more_grids: tuple[GridSpec, ...] = Field(
        default=(), description="tables [[more_grids]] with the keys of [grid]"
    )
    """Further grids of a study that grew by something that is not one product grid. Programs write this key."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        more = self.refine.max_jobs if self.refine else 0
        check_size(sum(grid.size for grid in self.grids) + more)
        return self

    @model_validator(mode="after")
    def _refinable(self) -> Self:
        """A line lies between points of a row, and a slope has an interval from three runs on."""
        if self.refine is None:
            return self
        gammas: defaultdict[float, set[float]] = defaultdict(set)
        for gamma, gamma_prime in set().union(*(grid.exponents() for grid in self.grids)):
            gammas[gamma_prime].add(gamma)
        if max(map(len, gammas.values())) < 2:
            raise ValueError(
                "refine: no value of gamma_prime has two points between which a critical line could lie; "
                "allowed: with a grid of at least two values of gamma"
            )
        if not any(len(grid.width) >= 2 and len(grid.width) * len(grid.seeds) >= 3 for grid in self.grids):
            raise ValueError(
                "refine: slopes have no intervals; allowed: with at least two widths, and three runs at a point"
            )
        return self

    @property
    def grids(self) -> tuple[GridSpec, ...]:
        """All grids of the study, which is their union."""
        return (self.grid, *self.more_grids)

    def document(self) -> dict[str, Any]:
        """The spec as TOML can hold it, every default explicit."""
        document = self.model_dump(mode="json", exclude_none=True)
        if not self.more_grids:
            del document["more_grids"]
        return document


class Spec(PlaneSpec):
    """A phase-diagram study as written in its file, with every default filled in."""

    kind: Literal["phase-diagram"] = Field(description="phase-diagram")
    network: NetworkSpec
    train: TrainSpec = Field(default_factory=dict, validate_default=True)
    samples: SamplesSpec = Field(default_factory=dict, validate_default=True)

    @field_validator("train", mode="before")
    @classmethod
    def _fill_accuracy(cls, value: Any, info: ValidationInfo) -> Any:
        deeper = "network" in info.data and info.data["network"].depth > 2
        of_flow = isinstance(value, dict) and value.get("method", "gradient-flow") == "gradient-flow"
        return {"accuracy": DEEPER_ACCURACY, **value} if deeper and of_flow else value

    @field_validator("samples", mode="before")
    @classmethod
    def _fill_samples(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        if "grid" not in info.data or "network" not in info.data:
            return SamplesSpec.model_construct()  # the spec is refused anyhow, for its grid or its network
        return {**_default_samples(info.data["grid"], info.data["network"].depth, value), **value}

    @model_validator(mode="after")
    def _one_plane(self) -> Spec:
        if self.network.depth == 2 and any("gamma_1" in grid.model_fields_set for grid in self.grids):
            raise ValueError(
                "grid.gamma_1: is not supported here, it belongs to networks of depth 3 and more; allowed: no such key"
            )
        if len({grid.gamma_1 for grid in self.grids}) > 1:
            raise ValueError("more_grids: gamma_1 differs from [grid]; allowed: one plane per study")
        return self

    @model_validator(mode="after")
    def _within_memory(self) -> Spec:
        """Whole networks fit into a machine; neurons that stand for others are moved by the gradient flow on a CPU."""
        network, widest = self.network, max(max(grid.width) for grid in self.grids)
        widest = max(widest, self.samples.width if self.samples.points else 0)
        limit = MAX_NEURONS if network.depth == 2 else MAX_NEURONS_DEEPER
        if network.simulated(widest) > limit:
            key = "grid.width" if network.neurons is None else "network.neurons"
            wider = f", or {_NEURONS}" if network.neurons is None else ""
            raise ValueError(f"{key}: {_too_wide(network, widest)}; allowed: up to {limit}{wider}")
        if network.simulated(widest) == widest:
            return self
        if self.train.method != "gradient-flow":
            raise ValueError(
                f"network.neurons: is not supported with the method {self.train.method}: how fast neurons move depends on "
                "how many each represents, and one fixed step does not suit all widths; allowed: with gradient-flow"
            )
        return self

    def document(self) -> dict[str, Any]:
        document = super().document()
        if self.network.depth == 2:
            for grid in (document["grid"], *document.get("more_grids", ())):
                del grid["gamma_1"]
        return document


_NEURONS = "wider ones with network.neurons, of which each stands for many"


def _too_wide(network: NetworkSpec, width: int) -> str:
    """What the widest network would take."""
    neurons = network.simulated(width)
    weights = neurons * 8 + (network.depth - 2) * neurons**2
    gigabytes = 4 * weights / 1e9
    size = f"{gigabytes:,.0f}" if gigabytes >= 10 else f"{gigabytes:.2g}"
    return f"{neurons} neurons per hidden layer would take {size} GB for the weights of one network"


def _default_samples(grid: GridSpec, depth: int, given: dict[str, Any]) -> dict[str, Any]:
    """An example of each regime, at the grid width nearest to 1000 (more than two layers: 400) on a log scale and the first seed."""
    width = min(grid.width, key=lambda m: abs(math.log(m / _default_sample_width(depth))))
    points = [] if "points" in given else _examples(grid, depth)
    return {"points": points, "width": width, "seed": grid.seeds[0]}


def _examples(grid: GridSpec, depth: int) -> list[tuple[float, float]]:
    """A point in each regime of the first layer; with more than two layers, also one in the condensed regime of the second."""
    examples = dict(example_points(grid.exponents(), depth))
    if depth > 2:
        of_second = example_points(grid.exponents(), depth, "W2")
        examples |= {"second": of_second["condensed"]} if "condensed" in of_second else {}
    return list(examples.values())
