"""A sweep in this process, on all of its cores and without Ray; and `train`, which writes no folder.

One batch is trained at a time, its jobs side by side on the cores. A batch that raises is halved and tried again, as on Ray. A crash, or a
kill by the system for memory, ends the sweep, since tasks have no process of their own. Running again resumes.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..devices import DeviceLost, cores, gpus, resolve_device
from ..display.progress import Progress
from ..errors import InputError
from ..kinds import named
from ..spec.tables import ResourcesSpec
from ..storage.store import Store
from ..studies import AnyStudy
from .executor import Ended, Executor, Place, Trouble
from .plan import Batch
from .retries import Misfortune
from .sweep import run
from .worker import Receipt, Shared, last_line, work

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def this_process(study: AnyStudy, progress: Progress) -> Iterator[Executor]:
    """This process for the duration of a `with` block.

    Raises:
        InputError: the study needs a GPU, and there is none.
    """
    device = resolve_device(study.spec.resources.device, f"{study.source}: resources.device")
    yield LocalExecutor(device)


class LocalExecutor(Executor):
    """Runs the tasks of one sweep one after the other, whenever the sweep waits for them."""

    def __init__(self, device: str) -> None:
        on_card = device == "cuda"
        self._resources = ResourcesSpec(
            device="cuda" if on_card else "cpu",
            cpus_per_task=1.0 if on_card else float(cores()),
            gpus_per_task=float(gpus()) if on_card else 0.0,
        )
        self.device, self.threads = device, self._resources.threads
        self._numbers = count()
        self._waiting: deque[tuple[int, Batch]] = deque()

    def slots(self) -> int:
        return 1

    def share(self, shared: Shared) -> None:
        self._shared = replace(shared, resources=self._resources)

    def submit(self, batch: Batch, place: Place = Place.ANYWHERE) -> int:
        number = next(self._numbers)
        self._waiting.append((number, batch))
        return number

    def wait(self, seconds: float) -> list[Ended]:
        number, batch = self._waiting.popleft()
        return [Ended(number, self._result(batch))]

    def stop(self) -> None:
        self._waiting.clear()

    def _result(self, batch: Batch) -> Receipt | Trouble:
        try:
            return work(batch, self._shared)
        except DeviceLost:
            raise  # this process cannot go on
        except Exception as error:
            return Trouble(Misfortune.UNSTORED, last_line(error))


def train(study: AnyStudy, progress: bool | Callable[[int, int], None] = True) -> pd.DataFrame:
    """Trains every job of the study, including jobs that its refinement adds, in this process, on all cores, without Ray.

    A terminal or a notebook shows how far it is, unless ``progress`` is False; or ``progress(done, total)`` is called after every batch of
    jobs. Returns the rows that
    a sweep would have written to ``runs/``, sorted by job. A job that cannot be run has the status "failed", with the reason in
    ``error``; a warning says how many there are. What `phasediag plan` would note of the study is a warning too.
    """
    if isinstance(study, str | Path):
        raise InputError(
            f"train(): {type(study).__name__}; allowed: a study, as phasediag.read_study returns it"
        )
    for note in study.notes():
        warnings.warn(f"{study.source}: {note}", stacklevel=2)
    tables = named(study.kind).tables
    shown = _Told(progress) if callable(progress) else Progress()
    with TemporaryDirectory(prefix="phasediag-") as folder, ExitStack() as stack:
        if progress is True:
            stack.enter_context(shown.shown(in_logs=False))
        store = Store(folder, tables)
        outcome = run(study, store, this_process, shown, samples=False)
        if outcome.failed:
            reason = next(iter(store.errors().values()))
            warnings.warn(f"{outcome.failed} of {outcome.total} jobs failed: {reason}", stacklevel=2)
        return store.runs()


class _Told(Progress):
    """Reports the progress of a sweep to a function."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        super().__init__()
        self._tell = tell

    def advance(self, jobs: int, failed: int, cost: float) -> None:
        super().advance(jobs, failed, cost)
        if jobs:
            self._tell(self.done, self.total)
