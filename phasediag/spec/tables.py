"""The parts of specs of every kind: values, common tables, and messages for mistakes.

The description of a field says what it allows; error messages quote it.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import ErrorDetails

from ..errors import choices, hint

MAX_SEED = 2**31 - 1
MAX_WIDTH = 10**7
MAX_JOBS = 10**7
_MAX_AXIS = 10**6
_MAX_RANGE_END = 1e9

_T = TypeVar("_T")


# Values.


def not_empty(values: tuple[_T, ...]) -> tuple[_T, ...]:
    """The values as they are; raises `ValueError` if there are none."""
    if not values:
        raise ValueError("an empty list is not supported; allowed: at least one entry")
    return values


def sorted_unique(values: tuple[_T, ...]) -> tuple[_T, ...]:
    """The values in ascending order, each once."""
    return tuple(sorted(set(values)))  # type: ignore[type-var]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_RANGE_END


def expand_range(value: Any) -> Any:
    """{start, stop, num} -> num evenly spaced numbers with both ends included, in either order."""
    if not isinstance(value, dict):
        return value
    if set(value) != {"start", "stop", "num"}:
        raise ValueError(f"has the keys {_listed(value) or 'none'}; allowed: exactly start, stop, num")
    start, stop, num = value["start"], value["stop"], value["num"]
    if not (_is_number(start) and _is_number(stop)):
        raise ValueError("start and stop must be finite numbers, at most 1e9 in size")
    if not (isinstance(num, int) and _is_number(num) and 1 <= num <= _MAX_AXIS):
        raise ValueError(f"num: {shown(num)} is not supported; allowed: a whole number from 1 to {_MAX_AXIS}")
    if num == 1 and start != stop:
        raise ValueError("num = 1 cannot include both ends; allowed: start = stop, or num of at least 2")
    return np.linspace(start, stop, num).tolist()


def expand_whole_range(value: Any) -> Any:
    """The numbers of a table {start, stop, num}, as by `expand_range`, rounded to whole ones; anything else as it is."""
    expanded = expand_range(value)
    return [round(number) for number in expanded] if isinstance(value, dict) else expanded


def _expand_seeds(value: Any) -> Any:
    """n -> 0, 1, ..., n - 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        return expand_whole_range(value)
    if not 1 <= value <= _MAX_AXIS:
        raise ValueError(
            f"{shown(value)} is not supported; allowed: a number of seeds from 1 to {_MAX_AXIS}, or a list"
        )
    return list(range(value))


def _whole_above_one(value: float) -> float:
    if value > 1.0 and value != math.floor(value):
        raise ValueError(f"{value} is not supported; allowed: a fraction below 1, or a whole number")
    return value


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]
Seed = Annotated[int, Field(strict=True, ge=0, le=MAX_SEED)]
Width = Annotated[int, Field(strict=True, ge=1, le=MAX_WIDTH)]
Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]+$", max_length=100)]
Count = Annotated[int, Field(strict=True, ge=1, le=MAX_SEED)]
SeedAxis = Annotated[
    tuple[Seed, ...],
    BeforeValidator(_expand_seeds),
    AfterValidator(not_empty),
    AfterValidator(sorted_unique),
]

NAME = "up to 100 letters, digits, - and _"
SEED = f"a whole number from 0 to {MAX_SEED}"
SEEDS = f"a number of seeds, or a list of whole numbers from 0 to {MAX_SEED}"
POSITIVE = f"a whole number from 1 to {MAX_SEED}"
_SUBSET = f"how many rows to draw, {POSITIVE}"
SWITCH = "true or false"


# Tables.


class Table(BaseModel):
    """A table of the file: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PointsData(Table):
    """Training points in the file itself: `x` has n rows of d numbers, `y` n numbers. They are used unchanged.

    `x_test` and `y_test` are test points, which no network is trained on. `targets = "class"`: `y` holds labels 0 to K - 1 of K classes.
    """

    kind: Literal["points"]
    x: Annotated[tuple[tuple[Number, ...], ...], AfterValidator(not_empty)] = Field(
        description="rows of finite numbers, for example [[-1.0], [0.5]]"
    )
    y: tuple[Number, ...] = Field(description="a list of finite numbers, one for each row of x")
    targets: Literal["number", "class"] = Field(default="number", description="number, class")
    x_test: tuple[tuple[Number, ...], ...] = Field(default=(), description="rows like those of x")
    y_test: tuple[Number, ...] = Field(
        default=(), description="a list of finite numbers, one for each row of x_test"
    )

    @model_validator(mode="after")
    def _shapes_agree(self) -> PointsData:
        lengths = {len(row) for row in self.x}
        if len(lengths) > 1 or lengths == {0}:
            raise ValueError("the rows of x differ in length or are empty; allowed: rows of one length")
        if {len(row) for row in self.x_test} - lengths:
            raise ValueError(f"x_test has rows of another length than x; allowed: rows of {lengths.pop()}")
        for x, y in (("x", "y"), ("x_test", "y_test")):
            rows, numbers = len(getattr(self, x)), len(getattr(self, y))
            if rows != numbers:
                raise ValueError(f"{x} has {rows} rows, {y} {numbers} numbers; allowed: equal lengths")
        return self


class SubsetData(Table):
    """Data from a file or package, of which `samples` rows are drawn with `seed`.

    `standardize` scales each input to zero mean and unit variance, then divides it by the square root of the number of inputs. At the
    end, all inputs are divided by `divide_by`.
    """

    samples: int = Field(default=200, strict=True, ge=1, le=MAX_SEED, description=_SUBSET)
    seed: Seed = Field(default=0, description=SEED)
    standardize: Switch = Field(default=True, description=SWITCH)
    divide_by: Number = Field(default=1.0, gt=0.0, description="a finite number above 0")


class SplitData(SubsetData):
    """Data without a test set: the share `test_fraction` of the drawn rows, rounded, are test points, and the others train."""

    test_fraction: Number = Field(
        default=0.0, ge=0.0, lt=1.0, description="a number from 0, for no test points, to below 1"
    )


class LabelledData(SubsetData):
    """Data of K classes, with equally many rows of each class in every sample.

    `targets` makes one target of the labels, 2 label / (K - 1) - 1 ("centred") or the label itself ("label"), or leaves the class to
    networks with K outputs ("class").
    """

    targets: Literal["centred", "label", "class"] = Field(
        default="centred", description="centred, label, class"
    )


class DigitsData(LabelledData, SplitData):
    """The handwritten digits of scikit-learn."""

    kind: Literal["digits"]


class ImagesData(LabelledData):
    """Images in the files of their authors, of which `test_samples` test points are drawn from the test set."""

    test_samples: int = Field(
        default=0, strict=True, ge=0, le=MAX_SEED, description=f"a whole number from 0 to {MAX_SEED}"
    )


class MnistData(ImagesData):
    """The training and the test pair of MNIST, or of any data set of ten classes in its format, in the folder `path`."""

    kind: Literal["mnist"]
    path: Text = Field(min_length=1, description="a folder with the standard IDX files, or Keras' mnist.npz")


class Cifar10Data(ImagesData):
    """CIFAR-10 in the folder `path`: 3072 inputs, the red, green and blue planes of 32 x 32 pixels one after the other."""

    kind: Literal["cifar10"]
    path: Text = Field(
        min_length=1, description="a folder with the binary version, data_batch_1.bin and the others"
    )


class FileData(SplitData):
    """A CSV, Parquet or .npz file. By default, `samples` is 200, or all rows if the file has fewer.

    Arrays `x_test` and `y_test` of an .npz file are test points, all of them. `targets = "class"`: `y` holds labels 0 to K - 1 of K
    classes, with equally many rows of each class in the sample.
    """

    kind: Literal["file"]
    path: Text = Field(min_length=1, description="a .csv, .parquet or .npz file")
    samples: int | None = Field(  # type: ignore[assignment]
        None, strict=True, ge=1, le=MAX_SEED, description=_SUBSET
    )
    targets: Literal["number", "class"] = Field(default="number", description="number, class")


DataSpec = PointsData | DigitsData | MnistData | Cifar10Data | FileData
"""The data that every kind of study can be trained on."""


class ResourcesSpec(Table):
    """The resources of one task of the sweep. Fractions below one share a core or a GPU.

    The `device` "auto" means a GPU if there is one.
    """

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto, cpu, cuda")
    cpus_per_task: Annotated[Number, AfterValidator(_whole_above_one)] = Field(
        default=1.0, gt=0.0, description="a fraction above 0, or a whole number"
    )
    gpus_per_task: Annotated[Number, AfterValidator(_whole_above_one)] = Field(
        default=0.0, ge=0.0, description="0, a fraction, or a whole number"
    )

    @property
    def threads(self) -> int:
        """How many jobs a task trains at a time."""
        return max(1, int(self.cpus_per_task))

    @property
    def planned_device(self) -> Literal["cpu", "cuda"]:
        """The kind of device that tasks will find: a GPU if they are given one, whatever is in this machine."""
        return "cuda" if self.device == "cuda" or (self.gpus_per_task and self.device != "cpu") else "cpu"


def check_size(jobs: int) -> None:
    """Raises `ValueError` for more jobs than a study may have."""
    if jobs > MAX_JOBS:
        raise ValueError(f"{jobs} jobs are too many; allowed: up to {MAX_JOBS}")


# Messages.

_WRITTEN_BY_PROGRAMS = ("more_grids",)


def explain(spec: type[Table], errors: Sequence[ErrorDetails]) -> str:
    """The most telling of the errors of a spec, as "key: what is wrong; allowed: ...", and how many more there are."""
    first = min(errors, key=_rank)
    more = len(errors) - 1
    note = f"; {more} more {'mistake' if more == 1 else 'mistakes'}" if more else ""
    table, path = _locate(spec, first["loc"])
    if path == ["data"] and first["type"].startswith("union_tag"):
        path = ["data", "kind"]
    key = _key(path)
    reason = _reason(spec, first, table, path) + note
    return f"{key}: {reason}" if key else reason


def shown(value: object) -> str:
    """A value of the file, short enough for an error message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return f"{'a table' if isinstance(value, dict) else 'a list'} of {len(value)}" if value else "nothing"
    if isinstance(value, int) and abs(value) > 2**63:
        return "a number beyond 64 bits"
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _rank(error: ErrorDetails) -> int:
    """Lowest first: a misspelt key explains a missing one."""
    return int(error["type"] != "extra_forbidden")


def _tables(spec: type[Table]) -> dict[str, type[Table]]:
    """The tables of a spec by their key; data has several and is not among them."""
    found = {}
    for key, field in spec.model_fields.items():
        for candidate in (field.annotation, *get_args(field.annotation)[:1]):
            if key != "data" and inspect.isclass(candidate) and issubclass(candidate, Table):
                found[key] = candidate
    return found


def _data_tables(spec: type[Table]) -> dict[str, type[Table]]:
    """The tables that [data] may be, by their kind; none of a spec without data."""
    options = get_args(spec.model_fields["data"].annotation) if "data" in spec.model_fields else ()
    return {get_args(table.model_fields["kind"].annotation)[0]: table for table in options}


def _locate(spec: type[Table], loc: tuple[int | str, ...]) -> tuple[type[Table], list[int | str]]:
    """The table an error is in, and the path of its key as written in the file."""
    path, tables, data = list(loc), _tables(spec), _data_tables(spec)
    if len(path) > 1 and path[0] == "data" and path[1] in data:
        return data[str(path.pop(1))], path
    if len(path) > 1 and path[0] in tables:
        return tables[str(path[0])], path
    return spec, path


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


def _reason(spec: type[Table], error: ErrorDetails, table: type[Table], path: Sequence[int | str]) -> str:
    names = [part for part in path if isinstance(part, str)]
    if error["type"] == "extra_forbidden":
        return _unknown_key(spec, names[-1], table)
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"].startswith("union_tag"):
        return _data_kind(error["input"], _data_tables(spec))
    allowed = _allowed(spec, table, names)
    if error["type"] == "missing":
        return f"required, but missing; allowed: {allowed}"
    names = re.findall(r"'([^']*)'", error["ctx"]["expected"]) if error["type"] == "literal_error" else []
    return f"{shown(error['input'])} is not supported; {hint(error['input'], names)}allowed: {allowed}"


def _unknown_key(spec: type[Table], key: str, table: type[Table]) -> str:
    # What programs write is nothing to suggest to people.
    known = [name for name in table.model_fields if name not in _WRITTEN_BY_PROGRAMS]
    tables = _tables(spec).items()
    homes = [name for name, home in tables if name not in _WRITTEN_BY_PROGRAMS and key in home.model_fields]
    if homes:
        return f"belongs to [{homes[0]}]; allowed: {', '.join(known)}"
    return f"unknown key; {choices(key, known)}"


def _data_kind(data: Any, tables: Mapping[str, type[Table]]) -> str:
    if isinstance(data, dict) and "kind" in data:
        return f"{shown(data['kind'])} is not supported; {choices(data['kind'], tables)}"
    return f"required, but missing; allowed: {', '.join(tables)}"


def _allowed(spec: type[Table], table: type[Table], names: Sequence[str]) -> str:
    field = table.model_fields.get(names[0] if table is spec else names[-1]) if names else None
    if field is not None and field.description:
        return field.description
    return f"a table [{names[0]}]" if names else "a table"


def _listed(keys: Any) -> str:
    return ", ".join(_key([key]) for key in keys)
