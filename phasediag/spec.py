"""The TOML file of a study: its tables, what each key may hold, and the error messages for what it may not.

`parse_spec` is the only way in: what it returns is frozen and valid, so that nothing downstream checks again.
`format_spec` writes the normal form of a spec, which parses to an equal one.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from .errors import InputError
from .theory import example_points, round_exponent
from .version import VERSION

MAX_JOBS = 10**7
MAX_WIDTH = 10**7
MAX_SEED = 2**31 - 1
MAX_EXPONENT = 20.0
_MAX_AXIS = 10**6
_MAX_RANGE_END = 1e9
# Of three layers, one network of width 1000 would be ten megabytes.
_DEFAULT_SAMPLE_WIDTH = {2: 1000, 3: 400}
# The residual is a difference: rounding leaves about this fraction of the loss of f = 0.
_LEAST_TOLERANCE = {"float32": 1e-12, "float64": 1e-24}

_T = TypeVar("_T")


# Values. The description of a field says what it allows; error messages quote it.


def _not_empty(values: tuple[_T, ...]) -> tuple[_T, ...]:
    if not values:
        raise ValueError("an empty list is not supported; allowed: at least one entry")
    return values


def _sorted_unique(values: tuple[_T, ...]) -> tuple[_T, ...]:
    return tuple(sorted(set(values)))  # type: ignore[type-var]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_RANGE_END


def _expand_range(value: Any) -> Any:
    """{start, stop, num} -> num evenly spaced numbers with both ends included, in either order."""
    if not isinstance(value, dict):
        return value
    if set(value) != {"start", "stop", "num"}:
        raise ValueError(f"has the keys {_listed(value) or 'none'}; allowed: exactly start, stop, num")
    start, stop, num = value["start"], value["stop"], value["num"]
    if not (_is_number(start) and _is_number(stop)):
        raise ValueError("start and stop must be finite numbers, at most 1e9 in size")
    if not (isinstance(num, int) and _is_number(num) and 1 <= num <= _MAX_AXIS):
        raise ValueError(
            f"num: {_shown(num)} is not supported; allowed: a whole number from 1 to {_MAX_AXIS}"
        )
    if num == 1 and start != stop:
        raise ValueError("num = 1 cannot include both ends; allowed: start = stop, or num of at least 2")
    return np.linspace(start, stop, num).tolist()


def _expand_whole_range(value: Any) -> Any:
    """As `_expand_range`, each number rounded to the nearest whole one."""
    expanded = _expand_range(value)
    return [round(number) for number in expanded] if isinstance(value, dict) else expanded


def _expand_seeds(value: Any) -> Any:
    """n -> 0, 1, ..., n - 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        return _expand_whole_range(value)
    if not 1 <= value <= _MAX_AXIS:
        raise ValueError(
            f"{_shown(value)} is not supported; allowed: a number of seeds from 1 to {_MAX_AXIS}, or a list"
        )
    return list(range(value))


def _no_other_number(value: Any) -> Any:
    """Literal alone takes 2.0 for 2."""
    if isinstance(value, float | bool):
        raise ValueError(f"{_shown(value)} is not supported; allowed: 2 or 3")
    return value


def _whole_above_one(value: float) -> float:
    if value > 1.0 and value != math.floor(value):
        raise ValueError(f"{value} is not supported; allowed: a fraction below 1, or a whole number")
    return value


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]
Seed = Annotated[int, Field(strict=True, ge=0, le=MAX_SEED)]
Width = Annotated[int, Field(strict=True, ge=1, le=MAX_WIDTH)]
Exponent = Annotated[
    float,
    Field(strict=True, allow_inf_nan=False, ge=-MAX_EXPONENT, le=MAX_EXPONENT),
    AfterValidator(round_exponent),
]
Points = Annotated[tuple[tuple[Exponent, Exponent], ...], AfterValidator(_sorted_unique)]
ExponentAxis = Annotated[tuple[Exponent, ...], BeforeValidator(_expand_range), AfterValidator(_sorted_unique)]
WidthAxis = Annotated[
    tuple[Width, ...],
    BeforeValidator(_expand_whole_range),
    AfterValidator(_not_empty),
    AfterValidator(_sorted_unique),
]
SeedAxis = Annotated[
    tuple[Seed, ...],
    BeforeValidator(_expand_seeds),
    AfterValidator(_not_empty),
    AfterValidator(_sorted_unique),
]

_EXPONENT = f"a number from {-MAX_EXPONENT:g} to {MAX_EXPONENT:g}"
_PAIRS = f"[gamma, gamma_prime] pairs of numbers from {-MAX_EXPONENT:g} to {MAX_EXPONENT:g}"
_EXPONENTS = f"a list of numbers from {-MAX_EXPONENT:g} to {MAX_EXPONENT:g}, or {{start, stop, num}}"
_SEED = f"a whole number from 0 to {MAX_SEED}"
_POSITIVE = f"a whole number from 1 to {MAX_SEED}"
_SUBSET = f"how many rows to draw, {_POSITIVE}"
_SWITCH = "true or false"


# Tables.


class Table(BaseModel):
    """A table of the file: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkSpec(Table):
    """Architecture. `depth` counts the layers of weights: two for one hidden layer, three for two of equal width."""

    depth: Annotated[Literal[2, 3], BeforeValidator(_no_other_number)] = Field(description="2 or 3")
    activation: Literal["relu"] = Field(default="relu", description="relu")


class PointsData(Table):
    """Training points written out in the file: `x` has n rows of d numbers, `y` n numbers; used as they are."""

    kind: Literal["points"]
    x: Annotated[tuple[tuple[Number, ...], ...], AfterValidator(_not_empty)] = Field(
        description="rows of finite numbers, for example [[-1.0], [0.5]]"
    )
    y: tuple[Number, ...] = Field(description="a list of finite numbers, one for each row of x")

    @model_validator(mode="after")
    def _shapes_agree(self) -> PointsData:
        lengths = {len(row) for row in self.x}
        if len(lengths) > 1 or lengths == {0}:
            raise ValueError("the rows of x differ in length or are empty; allowed: rows of one length")
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} rows, y {len(self.y)} numbers; allowed: equal lengths")
        return self


class SubsetData(Table):
    """Data read from elsewhere, of which `samples` rows are drawn with `seed`."""

    samples: int = Field(default=200, strict=True, ge=1, le=MAX_SEED, description=_SUBSET)
    seed: Seed = Field(default=0, description=_SEED)
    standardize: Switch = Field(default=True, description=_SWITCH)


class DigitsData(SubsetData):
    """The handwritten digits that come with scikit-learn."""

    kind: Literal["digits"]


class MnistData(SubsetData):
    """The training pair of MNIST, or of any data set of ten classes in its format, in the folder `path`."""

    kind: Literal["mnist"]
    path: Text = Field(min_length=1, description="a folder with the standard IDX files")


class FileData(SubsetData):
    """A CSV, Parquet or .npz file. Without `samples`: 200 rows, or all of them where there are fewer."""

    kind: Literal["file"]
    path: Text = Field(min_length=1, description="a .csv, .parquet or .npz file")
    samples: int | None = Field(  # type: ignore[assignment]
        None, strict=True, ge=1, le=MAX_SEED, description=_SUBSET
    )


DataSpec = PointsData | DigitsData | MnistData | FileData


class GridSpec(Table):
    """Which networks to train: every width and seed at every grid point.

    Grid points are the product of `gamma` and `gamma_prime`, which may be empty, and the pairs in `points`. Each axis
    is kept sorted, without duplicates. `gamma_1` belongs to three layers and is the same for the whole study: a map is a plane.
    """

    width: WidthAxis = Field(
        description=f"a list of whole numbers from 1 to {MAX_WIDTH}, or {{start, stop, num}}"
    )
    gamma: ExponentAxis = Field(default=(), description=_EXPONENTS)
    gamma_prime: ExponentAxis = Field(default=(), description=_EXPONENTS)
    seeds: SeedAxis = Field(description=f"a number of seeds, or a list of whole numbers from 0 to {MAX_SEED}")
    points: Points = Field(default=(), description=f"a list of {_PAIRS}")
    gamma_1: Exponent = Field(default=0.0, description=_EXPONENT)

    @model_validator(mode="after")
    def _has_points(self) -> GridSpec:
        if not (self.gamma and self.gamma_prime) and not self.points:
            raise ValueError(
                "no grid point: gamma or gamma_prime is empty, and so is points; "
                "allowed: numbers for both, or some points"
            )
        _check_size([self])
        return self

    @property
    def size(self) -> int:
        """Number of jobs (a pair in `points` that is on the product grid too counts twice)."""
        points = len(self.gamma) * len(self.gamma_prime) + len(self.points)
        return len(self.width) * len(self.seeds) * points

    def exponents(self) -> set[tuple[float, float]]:
        """The grid points, (gamma, gamma_prime)."""
        return {(g, g_prime) for g in self.gamma for g_prime in self.gamma_prime} | set(self.points)

    def cells(self) -> Iterator[tuple[int, float, float, int]]:
        """(width, gamma, gamma_prime, seed) of every job, in no particular order, each once."""
        for gamma, gamma_prime in self.exponents():
            for width in self.width:
                for seed in self.seeds:
                    yield width, gamma, gamma_prime, seed


class TrainSpec(Table):
    """How a network is trained, and how well.

    `accuracy` is the relative error allowed on the relative change. It belongs to the gradient flow: gradient descent
    (gd) and adam take steps of the fixed size `learning_rate`, and nothing controls their error. A run has converged
    when its loss is at most `loss_tolerance` times the loss of f = 0.
    """

    method: Literal["gradient-flow", "gd", "adam"] = Field(
        default="gradient-flow", description="gradient-flow, gd, adam"
    )
    learning_rate: Number | None = Field(
        default=None, gt=0.0, validate_default=True, description="a finite number above 0"
    )
    accuracy: Number = Field(default=0.01, gt=0.0, le=0.5, description="a number above 0, at most 0.5")
    loss_tolerance: Number = Field(default=1e-6, gt=0.0, lt=1.0, description="a number between 0 and 1")
    max_evaluations: int = Field(default=20000, strict=True, ge=1, le=MAX_SEED, description=_POSITIVE)
    dtype: Literal["float32", "float64"] = Field(default="float32", description="float32, float64")

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


class ResourcesSpec(Table):
    """What one task of the sweep asks of the cluster. Fractions below one share a core or a GPU."""

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto, cpu, cuda")
    cpus_per_task: Annotated[Number, AfterValidator(_whole_above_one)] = Field(
        default=1.0, gt=0.0, description="a fraction above 0, or a whole number"
    )
    gpus_per_task: Annotated[Number, AfterValidator(_whole_above_one)] = Field(
        default=0.0, ge=0.0, description="0, a fraction, or a whole number"
    )


class SamplesSpec(Table):
    """Networks kept whole: one at each of `points`, of this width and seed. None of these need be on the grid."""

    points: Points = Field(description=f"a list of {_PAIRS}; [] keeps no network")
    width: Width = Field(description=f"a whole number from 1 to {MAX_WIDTH}")
    seed: Seed = Field(description=_SEED)


class Spec(Table):
    """A phase-diagram study as written in its file, with every default filled in."""

    name: Text = Field(
        pattern=r"^[A-Za-z0-9_-]+$", max_length=100, description="up to 100 letters, digits, - and _"
    )
    kind: Literal["phase-diagram"] = Field(description="phase-diagram")
    network: NetworkSpec
    data: DataSpec = Field(discriminator="kind")
    grid: GridSpec
    train: TrainSpec = TrainSpec()
    resources: ResourcesSpec = ResourcesSpec()
    samples: SamplesSpec = Field(default_factory=dict, validate_default=True)
    more_grids: tuple[GridSpec, ...] = Field(
        default=(), description="tables [[more_grids]] with the keys of [grid]"
    )
    """Further grids of a study that grew by something that is not one product grid. Programs write this key."""

    @field_validator("samples", mode="before")
    @classmethod
    def _fill_samples(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        if "grid" not in info.data or "network" not in info.data:
            return SamplesSpec.model_construct()  # the spec is refused anyhow, for its grid or its network
        return {**_default_samples(info.data["grid"], info.data["network"].depth, value), **value}

    @model_validator(mode="after")
    def _bounded(self) -> Spec:
        _check_size(self.grids)
        return self

    @model_validator(mode="after")
    def _one_plane(self) -> Spec:
        if self.network.depth != 3 and any("gamma_1" in grid.model_fields_set for grid in self.grids):
            raise ValueError(
                "grid.gamma_1: is not supported here, it belongs to networks of depth 3; allowed: no such key"
            )
        if len({grid.gamma_1 for grid in self.grids}) > 1:
            raise ValueError("more_grids: gamma_1 differs from that of [grid]; allowed: one plane per study")
        return self

    @property
    def grids(self) -> tuple[GridSpec, ...]:
        """All grids of the study, which is their union."""
        return (self.grid, *self.more_grids)


def _default_samples(grid: GridSpec, depth: int, given: dict[str, Any]) -> dict[str, Any]:
    """An example of each regime, at the grid width nearest to 1000 (three layers: 400) on a log scale and the first seed.

    The regimes are those of the first layer; of three layers, one example of a condensed second layer comes with them.
    """
    width = min(grid.width, key=lambda m: abs(math.log(m / _DEFAULT_SAMPLE_WIDTH[depth])))
    examples = dict(example_points(grid.exponents(), depth))
    if depth == 3:
        of_second = example_points(grid.exponents(), depth, "W2")
        examples |= {"second": of_second["condensed"]} if "condensed" in of_second else {}
    points = [] if "points" in given else list(examples.values())
    return {"points": points, "width": width, "seed": grid.seeds[0]}


def _check_size(grids: Sequence[GridSpec]) -> None:
    jobs = sum(grid.size for grid in grids)
    if jobs > MAX_JOBS:
        raise ValueError(f"{jobs} jobs are too many; allowed: up to {MAX_JOBS}")


# Reading and writing.


def parse_spec(text: str, source: str) -> Spec:
    """The spec in the TOML `text`, with every default filled in.

    Args:
        text: the content of the file.
        source: the name of the file, for error messages.

    Raises:
        InputError: the text is not TOML, or holds something that is not allowed. The message is one line that names
            the file, the key and what is allowed; with several mistakes it describes one and counts the others.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not valid TOML: {_one_line(error)}") from None
    try:
        return Spec.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{source}: {_explain(error.errors(include_url=False))}") from None


def format_spec(spec: Spec) -> str:
    """The normal form of a spec as TOML: every default explicit, axes as sorted lists, one comment line on top."""
    document = spec.model_dump(mode="json", exclude_none=True)
    if not spec.more_grids:
        del document["more_grids"]
    if spec.network.depth != 3:
        for grid in (document["grid"], *document.get("more_grids", ())):
            del grid["gamma_1"]
    header = f"# written by phasediag {VERSION}; the study as run, with every default explicit\n"
    return header + _on_one_line(tomli_w.dumps(document))


def _on_one_line(toml: str) -> str:
    """Each array on one line. Line breaks inside brackets are layout only: those of strings are escaped."""
    toml = re.sub(r"(?<=\[)\n\s+|,?\n\s*(?=\])", "", toml)
    return re.sub(r",\n\s+", ", ", toml)


# Error messages.

_TABLES: dict[str, type[Table]] = {
    "network": NetworkSpec,
    "grid": GridSpec,
    "train": TrainSpec,
    "resources": ResourcesSpec,
    "samples": SamplesSpec,
    "more_grids": GridSpec,
}
_DATA: dict[str, type[Table]] = {
    "points": PointsData,
    "digits": DigitsData,
    "mnist": MnistData,
    "file": FileData,
}
_NOT_YET = ("refine",)


def _explain(errors: list[ErrorDetails]) -> str:
    """The most telling of the errors, as "key: what is wrong; allowed: ...", and how many more there are."""
    first = min(errors, key=_rank)
    # A wrong kind makes most of the file wrong: the other errors say nothing then.
    more = len(errors) - 1 if first["loc"] != ("kind",) else 0
    note = f"; {more} more {'mistake' if more == 1 else 'mistakes'} in this file" if more else ""
    table, path = _locate(first["loc"])
    if path == ["data"] and first["type"].startswith("union_tag"):
        path = ["data", "kind"]
    key = _key(path)
    return f"{key}: {_reason(first, table, path)}{note}" if key else f"{_reason(first, table, path)}{note}"


def _rank(error: ErrorDetails) -> int:
    """Lowest first: a misspelt key explains a missing one."""
    if error["loc"] == ("kind",):
        return 0
    if error["type"] != "extra_forbidden":
        return 2
    return 3 if error["loc"][-1] in _NOT_YET else 1


def _locate(loc: tuple[int | str, ...]) -> tuple[type[Table], list[int | str]]:
    """The table an error is in, and the path of its key as written in the file."""
    path = list(loc)
    if len(path) > 1 and path[0] == "data" and path[1] in _DATA:
        return _DATA[str(path.pop(1))], path
    if len(path) > 1 and path[0] in _TABLES:
        return _TABLES[str(path[0])], path
    return Spec, path


def _key(path: Sequence[int | str]) -> str:
    """`["grid", "points", 2]` -> `grid.points[2]`."""
    key = ""
    for part in path:
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            quoted = part if re.fullmatch("[A-Za-z0-9_-]+", part) else json.dumps(part)
            key += f".{quoted}" if key else quoted
    return key


def _reason(error: ErrorDetails, table: type[Table], path: Sequence[int | str]) -> str:
    names = [part for part in path if isinstance(part, str)]
    if error["type"] == "extra_forbidden":
        return _unknown_key(names[-1], table)
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"].startswith("union_tag"):
        return _data_kind(error["input"])
    allowed = _allowed(table, names)
    if error["type"] == "missing":
        return f"required, but missing; allowed: {allowed}"
    return f"{_shown(error['input'])} is not supported; allowed: {allowed}"


def _unknown_key(key: str, table: type[Table]) -> str:
    # What programs write is nothing to suggest to people.
    allowed = f"allowed: {', '.join(name for name in table.model_fields if name != 'more_grids')}"
    if key in _NOT_YET:
        return f"is not supported yet; {allowed}"
    homes = [name for name, home in _TABLES.items() if name != "more_grids" and key in home.model_fields]
    if homes:
        return f"belongs to [{homes[0]}]; {allowed}"
    close = difflib.get_close_matches(key, table.model_fields, n=1)
    return f"unknown key; did you mean '{close[0]}'? {allowed}" if close else f"unknown key; {allowed}"


def _data_kind(data: Any) -> str:
    if isinstance(data, dict) and "kind" in data:
        return f"{_shown(data['kind'])} is not supported; allowed: {', '.join(_DATA)}"
    return f"required, but missing; allowed: {', '.join(_DATA)}"


def _allowed(table: type[Table], names: Sequence[str]) -> str:
    field = table.model_fields.get(names[0] if table is Spec else names[-1]) if names else None
    if field is not None and field.description:
        return field.description
    return f"a table [{names[0]}]" if names else "a table"


def _shown(value: object) -> str:
    """A value of the file, short enough for an error message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return f"{'a table' if isinstance(value, dict) else 'a list'} of {len(value)}" if value else "nothing"
    if isinstance(value, int) and abs(value) > 2**63:
        return "a number beyond 64 bits"
    shown = repr(value) if isinstance(value, str | int | float) else str(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _listed(keys: Any) -> str:
    return ", ".join(_key([key]) for key in keys)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
