"""The parts of every kind of study: the study, its jobs, their costs, and their trainer.

A job is one network to train. Its id is a hash of its content, so the same network has the same id in every study, whatever the study's
name, the order of its grid or its resources.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .spec.parse import format_spec
from .spec.tables import MAX_JOBS, ResourcesSpec
from .storage.schema import VERSION

if TYPE_CHECKING:
    import pandas as pd

_ID_DIGITS = 20
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode

Row = Mapping[str, object]
"""A row of a table: a value for every column."""
Cell = tuple[object, ...]
"""What identifies a job of a study."""


def hash_of(content: Mapping[str, object]) -> str:
    """The id of a job of this content: the first 20 hexadecimal digits of the sha256 of its canonical JSON."""
    return _digest(_canonical(content))


class Hash:
    """`hash_of` many contents that differ in numbers alone, in a fraction of the time.

    Args:
        common: what all of them have.
        numbers: the keys of the numbers, ints and finite floats.
    """

    def __init__(self, common: Mapping[str, object], numbers: Iterable[str]) -> None:
        texts = {key: _canonical(value).replace("%", "%%") for key, value in common.items()}
        texts |= {key: f"%({key})r" for key in numbers}
        self._text = "{" + ",".join(f'"{key}":{texts[key]}' for key in sorted(texts)) + "}"

    def __call__(self, numbers: Mapping[str, object]) -> str:
        """The id of a job with these numbers."""
        return _digest(self._text % numbers)


def _digest(canonical: str) -> str:
    return hashlib.sha256(canonical.encode()).hexdigest()[:_ID_DIGITS]


class Job(Protocol):
    """One network to train, whatever the kind of its study."""

    @property
    def job_id(self) -> str:
        """The first 20 hexadecimal digits of the hash of the job's content."""
        ...


JobT = TypeVar("JobT", bound=Job)
JobT_contra = TypeVar("JobT_contra", bound=Job, contravariant=True)
CellT = TypeVar("CellT", bound=Cell)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job takes.

    Attributes:
        shape: jobs of one shape can be trained together.
        seconds: predicted, on one core or one GPU.
        shared: seconds that all jobs of its batch share, however many these are: those of the longest.
        numbers: 8-byte numbers that its training keeps at one time.
        worst: seconds, alone, if it goes on to its limit of evaluations.
    """

    shape: tuple[object, ...]
    seconds: float
    shared: float
    numbers: int
    worst: float


class Trainer(Protocol[JobT_contra]):
    """Jobs in, rows out, whatever the kind of the study. Processes send it to each other."""

    def batch(self, jobs: Sequence[JobT_contra], device: str, threads: int) -> Sequence[Row]:
        """Trains jobs of one shape: the rows of ``runs``. Numerical failure is a status in the row, never an exception."""
        ...

    def sample(self, job: JobT_contra, device: str, threads: int) -> Sequence[Row]:
        """Trains a network and keeps it whole: the rows of ``samples``."""
        ...

    def weights(
        self, job: JobT_contra, device: str
    ) -> tuple[Sequence[Row], Mapping[str, NDArray[np.generic]]]:
        """Trains one job: its rows of ``runs``, its data, and its weights before and after."""
        ...

    def failed(self, job: JobT_contra, error: str) -> Sequence[Row]:
        """The rows of ``runs`` of a job that could not be run, with the reason."""
        ...


class StudySpec(Protocol):
    """What the spec of every kind of study has."""

    @property
    def name(self) -> str:
        """The name of the study."""
        ...

    @property
    def kind(self) -> str:
        """The kind of the study."""
        ...

    @property
    def resources(self) -> ResourcesSpec:
        """What one task asks of the cluster."""
        ...

    def document(self) -> dict[str, object]:
        """The spec as TOML can hold it, every default explicit."""
        ...


class StudyData(Protocol):
    """What the data of every kind of study have."""

    def arrays(self) -> Mapping[str, NDArray[np.generic]]:
        """What `data.npz` holds of them: x, y and whatever the kind adds."""
        ...


def counted(number: int, what: str) -> str:
    """A number of things: "1 seed", "3 seeds"."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


class Outline(NamedTuple):
    """A study in a few words: its networks, their data, and the grid that it spans."""

    networks: str
    data: str
    grid: str


@dataclass(frozen=True, repr=False)
class Study(ABC, Generic[CellT, JobT]):
    """What to train (`spec`) on which data; `source` names where it was read, for error messages; `device`: the kind of device that tasks
    find, where it is known."""

    spec: StudySpec
    data: StudyData
    source: str
    device: str = field(default="", compare=False, kw_only=True)

    grouped_by: ClassVar[str] = ""
    """What plans and summaries sum up by."""

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name} {array.shape}" for name, array in self.data.arrays().items() if array.ndim
        )
        return f"{self.spec.name} ({self.kind}), {len(self.cells()):,} networks on {shapes}"

    def outline(self) -> Outline:
        """The study in a few words."""
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.data.arrays().items())
        return Outline(f"{len(self.cells()):,} networks", shapes, "")

    @property
    def planned_device(self) -> str:
        """The kind of device, "cpu" or "cuda", that costs are predicted for: the one that tasks find, or the one that the spec asks for."""
        return self.device or self.spec.resources.planned_device

    def on(self, device: str) -> Self:
        """This study, where its tasks are known to find this kind of device."""
        return replace(self, device=device)

    def notes(self) -> Iterator[str]:
        """What its author may not expect: "key: what is the case"."""
        yield from ()

    @abstractmethod
    def cells(self) -> set[CellT]:
        """The identity of every job in the union of the study's grids, and of jobs that results have added."""

    @abstractmethod
    def job_of(self, cell: CellT) -> JobT:
        """The job of a cell."""

    @abstractmethod
    def stored_job(self, row: Row) -> JobT:
        """The job that a row of `runs` is about, as this study has it (a row of another study gives another id)."""

    @abstractmethod
    def sample_jobs(self) -> list[JobT]:
        """The jobs whose networks are kept whole. They need not be among `jobs`."""

    @abstractmethod
    def cost(self, job: JobT) -> Cost:
        """What a job takes, predicted, on the planned device."""

    def sample_cost(self, job: JobT) -> Cost:
        """What it takes to train a network and keep it whole, predicted; unless a study says otherwise, what training it takes."""
        return self.cost(job)

    @abstractmethod
    def group(self, job: JobT) -> object:
        """The value of `grouped_by` of a job."""

    @abstractmethod
    def tolerance(self) -> float:
        """Relative difference that the results of two kinds of devices may have."""

    @abstractmethod
    def _fixed_keys(self) -> Iterator[tuple[str, object]]:
        """The keys, with their values, that make two specs parts of different studies when they differ."""

    @abstractmethod
    def _with_grids_of(self, stored: Self, owners: Sequence[Self]) -> Self:
        """This study with the grids of `owners` one after the other, once it is known to agree with the one that is stored."""

    def compiles(self, job: JobT) -> str:
        """The part of the engine that is compiled before a job like this is first trained on a machine; "" if there is none."""
        return ""

    def finishing_seconds(self) -> float:
        """Seconds of fits and figures, about."""
        return 0.0

    # A study may grow as results come in. Those that do not leave these as they are.

    @property
    def grows(self) -> bool:
        """Whether results may ask for further jobs."""
        return False

    def refined(self, read_runs: Callable[[], pd.DataFrame]) -> Self:
        """The study with the jobs that results ask for by now: rows as in ``runs/``, read only if it `grows`."""
        return self

    def added_jobs(self) -> Mapping[str, tuple[JobT, int]]:
        """The jobs that results have added, by id, with the number of the round that did so."""
        return {}

    def more_jobs(self) -> tuple[int, float]:
        """Most jobs that results may still add, and the predicted seconds of one of them."""
        return 0, 0.0

    @property
    def kind(self) -> str:
        """The kind of the spec."""
        return self.spec.kind

    def jobs(self) -> list[JobT]:
        """Every job of the study, once, in the order of the cells."""
        return [self.job_of(cell) for cell in sorted(self.cells())]

    def to_toml(self) -> str:
        """The spec as stored beside the results, with a line on top that says by what: every default explicit. Parses to an equal spec."""
        header = f"# written by phasediag {VERSION}; the study as run, with every default explicit\n"
        return header + format_spec(self.spec.document())

    def merged_with(self, stored: Self) -> Self:
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
            raise InputError(f"{self.source}: grid: {len(here | there)} jobs together with {stored.source}")
        if here <= there:
            return self._with_grids_of(stored, [stored])
        return self._with_grids_of(stored, [self] if there <= here else [stored, self])

    def _require_same_keys(self, stored: Self) -> None:
        mine, theirs = dict(self._fixed_keys()), dict(stored._fixed_keys())
        for key in mine | theirs:
            if mine.get(key) != theirs.get(key):
                raise InputError(
                    f"{self.source}: {key}: {mine.get(key)!r} differs from what {stored.source} holds; "
                    f"allowed: {theirs.get(key)!r}, or another output folder"
                )

    def _require_same_data(self, stored: Self, same: bool) -> None:
        if not same:
            raise InputError(
                f"{self.source}: data: the points differ from those of {stored.source}; "
                "allowed: the same points, or another output folder"
            )


AnyStudy = Study[Cell, Job]
"""A study of a kind that is not known here."""
