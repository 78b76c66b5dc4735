"""Where the tasks of a sweep run: the interface between a sweep and the processes that work for it.

A sweep hands batches to an executor and takes their outcomes back. `ray_cluster` spreads batches over a cluster, `local` trains them in
this process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from .plan import Batch
from .retries import Misfortune
from .worker import Receipt, Shared


class Place(Enum):
    """Where a task is to run: ANYWHERE; ELSEWHERE than where it ran before, if that is possible; ALONE, with as much memory as there is,
    when nothing else is in flight."""

    ANYWHERE = auto()
    ELSEWHERE = auto()
    ALONE = auto()


@dataclass(frozen=True)
class Trouble:
    """A task that left no receipt: the reason, as far as it is known, and in words."""

    misfortune: Misfortune
    error: str


@dataclass(frozen=True)
class Ended:
    """A task that has ended: the number that `Executor.submit` gave it, and what came back."""

    task: int
    result: Receipt | Trouble


class Metrics:
    """What is counted while a sweep runs. This class shows it nowhere."""

    def observe(self, receipt: Receipt) -> None:
        """Counts what a batch took."""

    def count(self, jobs: int, failed: int) -> None:
        """Counts jobs that have ended, and how many of them failed."""

    def fly(self, jobs: int) -> None:
        """Reports the number of jobs in flight; to be called now and then, and with 0 at the end."""


class Executor(ABC):
    """Runs the tasks of one sweep."""

    here = True
    """Whether tasks run on this machine."""
    threads = 1
    """How many jobs a task trains at a time."""
    device = ""
    """The kind of device that tasks are known to find; "" for what the spec asks for."""

    @abstractmethod
    def slots(self) -> int:
        """How many tasks can run at a time now; at least one."""

    @abstractmethod
    def share(self, shared: Shared) -> None:
        """Takes what every task needs. To be called once, before the first task."""

    @abstractmethod
    def submit(self, batch: Batch, place: Place = Place.ANYWHERE) -> int:
        """Hands out a batch; returns the number of the task."""

    @abstractmethod
    def wait(self, seconds: float) -> Sequence[Ended]:
        """Waits for a task to end, for so many seconds about, and returns all that have ended since."""

    @abstractmethod
    def stop(self) -> None:
        """Gives tasks in flight a moment to publish, then ends them. Raises nothing, whatever state the executor is in."""

    @property
    def metrics(self) -> Metrics:
        """Where an executor shows what happens, beside the progress display; nowhere, unless it has a place for that."""
        return Metrics()
