"""A task: it trains one batch of jobs, publishes its rows, and leaves a receipt. Does not know Ray."""

from __future__ import annotations

import faulthandler
import os
import socket
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..devices import device_of_task, raise_if_lost
from ..errors import InputError
from ..spec.tables import ResourcesSpec
from ..storage.files import patiently
from ..storage.schema import FAILED
from ..storage.store import Store
from ..studies import Job, Row, Trainer
from .lease import holds
from .plan import Batch

ERROR_LENGTH = 500
"""Characters of an error that are kept."""


@dataclass(frozen=True)
class Shared:
    """What every task needs, sent to each node once."""

    trainer: Trainer[Job]
    resources: ResourcesSpec
    store: Store
    token: str
    patience: tuple[float, ...]


@dataclass(frozen=True)
class Receipt:
    """What comes back from a task: the status counts of its jobs, or the error of the training, or neither.

    Neither means that the worker found its driver replaced and published nothing.

    Attributes:
        statuses: number of jobs by status.
        error: of the training.
        evaluations: full-batch forward and backward passes of all jobs.
        seconds: duration of the training.
        where: host and process of the worker.
    """

    statuses: Mapping[str, int] | None = None
    error: str = ""
    evaluations: int = 0
    seconds: float = 0.0
    where: str = ""


def work(batch: Batch, shared: Shared) -> Receipt:
    """Trains a batch and publishes its rows. Errors of the training come back as text; others are raised.

    Raises:
        DeviceLost: the GPU does not answer this process any more.
        InputError: this node cannot do what the study asks for, or the rows cannot be stored.
        OSError: the rows cannot be stored.
    """
    where, started = f"{socket.gethostname()}:{os.getpid()}", time.monotonic()
    try:
        rows = _train(batch, shared)
    except InputError:
        raise  # this node cannot do what the study asks for
    except Exception as error:  # whatever it is, it belongs to this batch alone
        raise_if_lost(error)
        return Receipt(error=describe(error), where=where)
    seconds = time.monotonic() - started
    if not patiently(lambda: _publish(batch, shared, rows), shared.patience):
        time.sleep(
            shared.patience[0]
        )  # if it is this node that sees another folder, others are to have the work
        return Receipt(where=where)
    if batch.sample:
        return Receipt(statuses={}, seconds=seconds, where=where)
    jobs = {row["job_id"]: row for row in rows}.values()  # the layers of a job agree in what follows
    statuses = Counter(str(job["status"]) for job in jobs)
    evaluations = sum(int(str(job["evaluations"])) for job in jobs)
    return Receipt(statuses, evaluations=evaluations, seconds=seconds, where=where)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Ends the process if a `with` block takes longer, whatever it is stuck in, having written where into the worker's log.

    The driver cannot: Ray 2.60 aborts it if a task ends by itself while it is being killed.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _publish(batch: Batch, shared: Shared, rows: Sequence[Row]) -> bool:
    """Publishes the rows, unless another driver has taken over; whether it has done so."""
    if not holds(shared.store, shared.token):
        return False
    if batch.sample:
        shared.store.publish_sample(rows)
        return True
    for failed in (False, True):  # they have files of their own
        if some := [row for row in rows if (row["status"] == FAILED) == failed]:
            shared.store.publish_runs(some)
    return True


def _train(batch: Batch, shared: Shared) -> Sequence[Row]:
    resources = shared.resources
    device = device_of_task(
        resources.device, resources.gpus_per_task
    )  # Ray shows a task the GPUs that it was given
    if batch.sample:
        return shared.trainer.sample(batch.jobs[0], device, resources.threads)
    return shared.trainer.batch(batch.jobs, device, resources.threads)


def describe(error: BaseException) -> str:
    """The type and the message of an error, and where it was raised, within bounds."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = " ".join("".join(traceback.format_exception_only(error)).split())
    return f"{text[:ERROR_LENGTH]}{place}"


def last_line(error: BaseException) -> str:
    """The type of an error and the last line of its message, within bounds."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__
    return text[:ERROR_LENGTH]
