"""The batches of one sweep: which are in flight, what comes back, and what is tried again. Does not know Ray.

A bounded number of tasks is in flight, the longest first. All state is in the folder of the study: running again resumes.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from ..display.progress import Progress
from ..engine.kept import COMPILING_SECONDS
from ..errors import InputError, PhasediagError
from ..kinds import named
from ..storage.files import patiently
from ..storage.schema import FAILED
from ..storage.store import Store
from ..studies import AnyStudy, Job, Row, Trainer
from .executor import Executor, Place, Trouble
from .interruption import interruptible
from .lease import Lease, check_free, hold, holds
from .log import Log
from .plan import Batch, make_batches, missing_batches, uncompiled
from .retries import Attempt, Misfortune, describe_fate, next_attempts
from .worker import Receipt, Shared, describe

WINDOW_PER_SLOT = 3
"""Tasks in flight per slot: enough that a slot never waits for the driver."""
STORE_PATIENCE = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds to wait before trying the storage again, for a worker that has trained something, and for the driver of a sweep under way."""
POLL_SECONDS = 0.5
# Between two looks at what results ask for, in units of what the first one took: it reads all rows.
_REFINE_PAUSE = 4.0

Opening = Callable[[AnyStudy, Progress], AbstractContextManager[Executor]]
"""Where a study is trained: `ray_cluster.ray_cluster`, `local.this_process`."""


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Attributes:
        total: jobs of the study.
        finished: jobs that have rows by now, without the failed ones.
        failed: jobs that could not be run.
        failed_ids: ids of these.
        failed_samples: networks that could not be kept whole.
        trained: jobs that this driver has run.
        seconds: duration of the training.
    """

    total: int
    finished: int
    failed: int
    failed_ids: tuple[str, ...]
    failed_samples: int
    trained: int
    seconds: float


def run(
    study: AnyStudy,
    store: Store,
    opening: Opening,
    progress: Progress,
    *,
    retry_failed: bool = False,
    trainer: Trainer[Job] | None = None,
    begin: Callable[[], None] | None = None,
    finish: Callable[[], None] | None = None,
    log: Log | None = None,
    samples: bool = True,
) -> Outcome:
    """Trains what is missing of a study.

    Args:
        study: the study, already united with what is stored.
        store: its folder.
        opening: where its tasks run; opened only if there is something to train.
        progress: shows how far it is.
        retry_failed: try the jobs again that have failed before.
        trainer: in place of the study's own, for tests.
        begin: called when nothing is refused any more, before the first job.
        finish: called when all jobs have ended, while the folder is still this driver's.
        log: gets a line per batch; its last events are kept in the folder, too.
        samples: keep the networks whole that the study asks for.

    Raises:
        InputError: another driver runs in the folder, a file in it is not the package's own, or a task asks for more than there is;
            nothing is written.
        PhasediagError: the sweep cannot go on (the rows cannot be stored, say). What was finished is kept.
        KeyboardInterrupt: interrupted by Ctrl-C or SIGTERM. What was finished is kept.
    """
    log = log or Log()
    progress.phase("looking for other drivers")
    with interruptible():
        previous = check_free(store)
        damaged = store.damaged()
    complete = not damaged and not _missing(study, store, retry_failed, samples)
    progress.phase("starting")
    place = nullcontext() if complete else opening(study, progress)
    with interruptible(), place as executor, interruptible(), hold(store, previous, log) as lease:
        _prepare_folder(study, store, retry_failed, damaged, progress)
        if begin is not None:
            begin()
        try:
            if executor is None:
                outcome = _as_stored(study, store)
            else:
                trained_by = trainer or named(study.kind).trainer(study)
                sweep = _Sweep(study, store, lease, executor, progress, trained_by, log, samples)
                outcome = sweep.run()
            if finish is not None:
                finish()
        except InputError as error:  # of the storage: what was asked for was found possible before
            raise PhasediagError(str(error)) from None
    return outcome


def _prepare_folder(
    study: AnyStudy, store: Store, retry_failed: bool, damaged: Sequence[str], progress: Progress
) -> None:
    """Writes what is trained, and removes what is to be trained again."""
    store.clean_staging()
    for path in damaged:
        if note := store.set_aside(path):
            progress.note(note)
    store.write_data(study.data.arrays())
    store.write_study(study.to_toml())
    if retry_failed:
        store.drop_failed()


def _missing(study: AnyStudy, store: Store, retry_failed: bool, samples: bool) -> bool:
    """Whether there is anything to train."""
    statuses = store.statuses()
    if retry_failed:
        statuses = {job_id: status for job_id, status in statuses.items() if status != FAILED}
    return bool(missing_batches(study.refined(store.runs), statuses, _kept(study, store, samples), 1))


def _kept(study: AnyStudy, store: Store, samples: bool) -> set[str]:
    """Ids of the networks that need not be kept whole any more."""
    return store.sample_ids() if samples else {job.job_id for job in study.sample_jobs()}


def _as_stored(study: AnyStudy, store: Store) -> Outcome:
    """The outcome of a sweep that was complete before it began."""
    statuses = store.settle()
    return _outcome(_of_study(study.refined(store.runs), statuses), failed_samples=0, trained=0, seconds=0.0)


def _outcome(statuses: Mapping[str, str], failed_samples: int, trained: int, seconds: float) -> Outcome:
    failed = tuple(sorted(job_id for job_id, status in statuses.items() if status == FAILED))
    total = len(statuses)
    return Outcome(total, total - len(failed), len(failed), failed, failed_samples, trained, seconds)


class _Sweep:
    """The batches of one sweep on their way: waiting, in flight, ended."""

    def __init__(
        self,
        study: AnyStudy,
        store: Store,
        lease: Lease,
        executor: Executor,
        progress: Progress,
        trainer: Trainer[Job],
        log: Log,
        samples: bool,
    ) -> None:
        self._samples = samples
        self._study = study.on(executor.device) if executor.device else study
        self._store, self._lease, self._progress = store, lease, progress
        self._executor, self._trainer, self._log = executor, trainer, log
        self._known: set[str] = set()  # ids of the jobs that results have added
        self._waiting: deque[Attempt] = deque()
        self._alone: deque[Attempt] = deque()  # for the end, when nothing else runs
        self._in_flight: dict[int, Attempt] = {}
        self._trained = self._failed_samples = 0
        self._refined = (
            0  # jobs that had been run when it was last looked what results ask for, and when to look again:
        )
        self._refine_time = -math.inf
        self._stored = 0  # batches, and how many of them there were when one last could not be stored:
        self._stored_before: dict[Batch, int] = {}
        self._compiled: set[str] = set()  # parts of the engine, wherever there is no place to keep them
        self._started = time.monotonic()

    def run(self) -> Outcome:
        self._prepare()
        try:
            while self._refine() or self._waiting or self._in_flight or self._alone:
                self._lease.check()
                self._lease.note(seconds_left=self._progress.seconds_left())
                self._submit()
                self._collect()
        except BaseException as error:
            self._log.write("stop", error=describe(error), done=self._progress.done)
            self._progress.phase("stopping")
            self._executor.metrics.fly(0)
            self._executor.stop()
            raise
        return self._outcome()

    def _prepare(self) -> None:
        statuses = self._store.settle()
        self._study = self._study.refined(self._store.runs)
        self._known = set(self._study.added_jobs())
        statuses = _of_study(self._study, statuses)
        slots = self._executor.slots()
        kept = _kept(self._study, self._store, self._samples)
        batches = missing_batches(self._study, statuses, kept, slots, self._executor.threads)
        self._waiting.extend(Attempt(batch) for batch in batches)
        total = len(self._study.jobs())
        failed = _count_failed(statuses)
        patiently(lambda: self._lease.describe(total, len(statuses)), STORE_PATIENCE)
        self._progress.start(total, len(statuses), failed, sum(batch.seconds for batch in batches))
        self._progress.phase("training")
        self._log.write(
            "start",
            study=self._study.spec.name,
            out=self._store.out,
            total=total,
            done=len(statuses),
            failed=failed,
            batches=len(batches),
            slots=slots,
        )
        resources = self._study.spec.resources
        self._executor.share(Shared(self._trainer, resources, self._store, self._lease.token, STORE_PATIENCE))

    def _refine(self) -> bool:
        """Queues the jobs that results ask for by now; whether there is anything new.

        Looked at when jobs have ended and little waits, now and then. What is asked for follows from what is stored, not from when it is
        looked.
        """
        if not self._study.grows or self._trained == self._refined:
            return False
        if len(self._waiting) >= self._executor.slots():
            return False
        started = time.monotonic()
        if self._in_flight and started < self._refine_time:
            return False
        self._refined = self._trained
        runs = patiently(self._store.runs, STORE_PATIENCE)
        self._study = self._study.refined(lambda: runs)
        self._refine_time = time.monotonic() + _REFINE_PAUSE * (time.monotonic() - started)
        added = self._study.added_jobs()
        new = {job_id: added[job_id] for job_id in added.keys() - self._known}
        self._known |= new.keys()
        stored = set(runs["job_id"])
        missing = [job for job_id, (job, _) in new.items() if job_id not in stored]
        there = len(new) - len(missing)  # of an earlier grid, or of other rules
        self._progress.grow(there, 0.0)
        self._progress.advance(there, 0, 0.0)
        if missing:
            self._queue(missing)
            number = max(number for _, number in new.values())
            self._progress.phase(f"refining, round {number}")
            self._log.write("refine", round=number, jobs=len(missing), total=self._progress.total)
        return bool(missing)

    def _queue(self, jobs: Sequence[Job]) -> None:
        """Adds jobs to the sweep that have come up on its way."""
        slots, threads = self._executor.slots(), self._executor.threads
        batches = make_batches(jobs, self._study.cost, slots, self._study.planned_device, threads)
        self._waiting.extend(Attempt(batch) for batch in batches)
        self._progress.grow(len(jobs), sum(batch.seconds for batch in batches))
        self._lease.note(total=self._progress.total)

    def _submit(self) -> None:
        """Fills the window with what waits."""
        if not (self._waiting or self._in_flight):
            self._fly(self._alone.popleft())
        while self._waiting and len(self._in_flight) < WINDOW_PER_SLOT * self._executor.slots():
            self._fly(self._waiting.popleft())
        flying = [attempt.batch for attempt in self._in_flight.values()]
        self._executor.metrics.fly(sum(len(batch.jobs) for batch in flying if not batch.sample))
        if self._executor.here:
            first = flying[: self._executor.slots()]  # those that wait for a slot compile nothing yet
            compiling = uncompiled(self._study, first) - self._compiled
            self._progress.compiling(compiling, COMPILING_SECONDS)

    def _fly(self, attempt: Attempt) -> None:
        place = Place.ALONE if attempt.alone else Place.ANYWHERE
        if attempt.unstored and not attempt.alone:
            place = Place.ELSEWHERE  # the node may be to blame
        self._in_flight[self._executor.submit(attempt.batch, place)] = attempt

    def _collect(self) -> None:
        """Waits for a task to end, for a while, and takes in all that have."""
        for ended in self._executor.wait(POLL_SECONDS):
            attempt = self._in_flight.pop(ended.task)
            trouble = self._take_in(attempt.batch, ended.result)
            if trouble is not None:
                self._mend(attempt, trouble.misfortune, trouble.error)

    def _take_in(self, batch: Batch, result: Receipt | Trouble) -> Trouble | None:
        """Takes in what a task left; returns what went wrong if there are no rows."""
        if isinstance(result, Trouble):
            return result
        if result.error:
            return Trouble(Misfortune.RAISED, result.error)
        if result.statuses is None:
            self._lease.check()
            return Trouble(Misfortune.UNSTORED, "driver.json was replaced or removed")
        self._stored += 1
        self._compiled.add(self._study.compiles(batch.jobs[0]))
        self._executor.metrics.observe(result)
        self._count(batch, result.statuses.get(FAILED, 0))
        self._log.write(
            "batch",
            **_content(batch),
            statuses=dict(result.statuses),
            seconds=round(result.seconds, 3),
            predicted_seconds=round(batch.seconds, 3),
            evaluations=result.evaluations,
            worker=result.where,
            done=self._progress.done,
            total=self._progress.total,
        )
        return None

    def _mend(self, attempt: Attempt, misfortune: Misfortune, error: str) -> None:
        """Puts a batch that came back without its rows into the queue again, or its halves, or gives it up.

        Raises:
            PhasediagError: it was trained and could not be stored, again and again, and no other could either.
        """
        batch = attempt.batch
        if misfortune is not Misfortune.RAISED and self._is_there(batch):  # the worker died after that
            self._count(batch, 0)
            return
        unstored = misfortune is Misfortune.UNSTORED
        others = self._stored > self._stored_before.get(batch, self._stored)
        again = next_attempts(attempt, misfortune, error, others)
        fate = describe_fate(attempt, again)
        self._progress.note(f"{_name(batch)} {fate}: {error}")
        self._log.write(
            "trouble",
            **_content(batch),
            kind=misfortune.name.lower(),
            error=error,
            fate=fate,
        )
        if unstored:
            self._stored_before[batch] = self._stored
            self._waiting.extend(
                again
            )  # at the end: the node may be to blame, and others are to have their turn
            if again:
                return
            raise PhasediagError(f"{self._store.out}: workers cannot train or store anything: {error}")
        if not again:
            self._give_up(batch, error)
            return
        for following in reversed(again):
            (self._alone if following.alone else self._waiting).appendleft(following)

    def _is_there(self, batch: Batch) -> bool:
        """Whether a batch was published all the same.

        Raises:
            InputError, OSError: the storage does not answer any more. There may be hundreds to look for: the first ends the sweep.
        """
        ids = [job.job_id for job in batch.jobs]
        look = partial(self._store.has_sample, ids[0]) if batch.sample else partial(self._store.has_runs, ids)
        return patiently(look, STORE_PATIENCE)

    def _give_up(self, batch: Batch, error: str) -> None:
        """A single job that failed gets a row that says so; a batch that the cluster lost too often, a row for each."""
        if batch.sample:
            self._failed_samples += 1
            self._count(batch, 0)
            return
        for job in batch.jobs:
            rows = self._trainer.failed(job, error)
            if not patiently(partial(self._publish_failed, rows), STORE_PATIENCE):
                raise PhasediagError(f"{self._store.out}: another driver has taken over; this one stops")
        self._count(batch, len(batch.jobs))

    def _publish_failed(self, rows: Sequence[Row]) -> bool:
        """Publishes the rows of a job that failed, unless another driver has taken over; whether it has done so."""
        ours = holds(self._store, self._lease.token)
        if ours:
            self._store.publish_runs(rows)
        return ours

    def _count(self, batch: Batch, failed: int) -> None:
        jobs = 0 if batch.sample else len(batch.jobs)
        self._trained += jobs
        self._executor.metrics.count(jobs, failed)
        self._progress.advance(jobs, failed, batch.seconds)

    def _outcome(self) -> Outcome:
        """What the folder holds now, each job once.

        Raises:
            PhasediagError: rows that were published are not there.
        """
        self._executor.metrics.fly(0)
        statuses = _of_study(self._study, patiently(self._store.settle, STORE_PATIENCE))
        total = len(self._study.jobs())
        if len(statuses) < total:
            raise PhasediagError(
                f"{self._store.out}: rows of {total - len(statuses)} trained jobs are missing; "
                "all nodes must see the same folder"
            )
        outcome = _outcome(statuses, self._failed_samples, self._trained, time.monotonic() - self._started)
        self._log.write(
            "end",
            finished=outcome.finished,
            failed=outcome.failed,
            trained=outcome.trained,
            seconds=round(outcome.seconds, 3),
        )
        return outcome


def _content(batch: Batch) -> dict[str, object]:
    """What a batch holds, for the log: the first id and the number of jobs, for all of them may be thousands."""
    return {"job_id": batch.jobs[0].job_id, "jobs": len(batch.jobs), "sample": batch.sample}


def _name(batch: Batch) -> str:
    what = "sample" if batch.sample else "job"
    several = f" and {len(batch.jobs) - 1} more" if len(batch.jobs) > 1 else ""
    return f"{what} {batch.jobs[0].job_id}{several}"


def _of_study(study: AnyStudy, statuses: Mapping[str, str]) -> dict[str, str]:
    """The status of every job of the study that has rows."""
    return {job.job_id: statuses[job.job_id] for job in study.jobs() if job.job_id in statuses}


def _count_failed(statuses: Mapping[str, str]) -> int:
    return sum(status == FAILED for status in statuses.values())
