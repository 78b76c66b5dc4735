"""Running a sweep on Ray: the only module that imports it.

The driver keeps a bounded number of tasks in flight, the longest first. A task trains one batch of jobs and
publishes its rows itself; what comes back is a receipt. All state is in the folder of the study: running
again resumes.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from joblib import cpu_count
from ray import exceptions as failures
from ray.autoscaler.sdk import request_resources
from ray.util.metrics import Counter as RayCounter
from ray.util.metrics import Gauge, Histogram
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .errors import InputError, PhasediagError
from .interruption import interruptible
from .lease import Lease, check_free, hold, holds
from .log import Log
from .plan import Batch, make_batches, missing_batches
from .progress import Progress
from .retries import Attempt, Misfortune, describe_fate, next_attempts
from .schemas import FAILED
from .store import Store, patiently
from .study import Study
from .tables import ResourcesSpec
from .trainers import Trainer, trainer_of
from .worker import ERROR_LENGTH, Receipt, Shared, describe, work

WINDOW_PER_SLOT = 3
"""Tasks in flight per slot: enough that a slot never waits for the driver."""
STORE_PATIENCE = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds to wait before trying the storage again, for a worker that has trained something, and for the driver of a sweep under way."""
POLL_SECONDS = 0.5
NODE_SECONDS = 900.0
"""How long a cluster without nodes for tasks may take to start the first."""
_SLOTS_SECONDS = 10.0
_RATE_SECONDS = 10.0
# Between two looks at what refinement asks for, in units of what the first one took: it reads all rows.
_REFINE_PAUSE = 4.0
_CONNECT_SECONDS = 10.0
# After an interruption, for tasks that are about to publish.
_DRAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Attributes:
        total: jobs of the study.
        finished: those that have rows by now, without the failed ones.
        failed: those that could not be run.
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
    study: Study,
    store: Store,
    progress: Progress,
    *,
    retry_failed: bool = False,
    trainer: Trainer | None = None,
    finish: Callable[[], None] | None = None,
    log: Log | None = None,
) -> Outcome:
    """Trains what is missing of a study, on the Ray cluster there is or else on a local one.

    Args:
        study: the study, already united with what is stored.
        store: its folder.
        progress: shows how far it is.
        retry_failed: try the jobs again that have failed before.
        trainer: in place of the study's own, for tests.
        finish: called when all jobs have ended, while the folder is still this driver's.
        log: gets a line per batch.

    Raises:
        InputError: another driver runs in the folder, or a task asks for more than any node has; nothing is
            written.
        PhasediagError: the sweep cannot go on (the rows cannot be stored, say). What was finished is kept.
        KeyboardInterrupt: interrupted by Ctrl-C or SIGTERM. What was finished is kept.
    """
    progress.phase("looking for other drivers")
    with interruptible():
        previous = check_free(store)
    complete = not _missing(study, store, retry_failed)
    progress.phase("starting" if complete else _starting())
    cluster = nullcontext() if complete else _connected(study, progress)
    with interruptible(), cluster as joined, interruptible(), hold(store, previous) as lease:
        store.clean_staging()
        store.write_data(study.data.arrays())
        store.write_study(study.to_toml())
        if retry_failed:
            store.drop_failed()
        try:
            if joined is None:
                outcome = _as_stored(study, store)
            else:
                sweep = _Sweep(
                    study, store, lease, joined, progress, trainer or trainer_of(study), log or Log()
                )
                outcome = sweep.run()
            if finish is not None:
                finish()
        except InputError as error:  # of the storage: what was asked for was found possible before
            raise PhasediagError(str(error)) from None
    return outcome


def _missing(study: Study, store: Store, retry_failed: bool) -> bool:
    """Whether there is anything to train."""
    statuses = store.statuses()
    if retry_failed:
        statuses = {job_id: status for job_id, status in statuses.items() if status != FAILED}
    return bool(missing_batches(study.refined(store.runs), statuses, store.sample_ids(), 1))


def _as_stored(study: Study, store: Store) -> Outcome:
    """The outcome of a sweep that was complete before it began."""
    statuses = store.settle()
    return _outcome(_of_study(study.refined(store.runs), statuses), failed_samples=0, trained=0, seconds=0.0)


def _outcome(statuses: Mapping[str, str], failed_samples: int, trained: int, seconds: float) -> Outcome:
    failed = tuple(sorted(job_id for job_id, status in statuses.items() if status == FAILED))
    total = len(statuses)
    return Outcome(total, total - len(failed), len(failed), failed, failed_samples, trained, seconds)


# The cluster.


@dataclass(frozen=True)
class _Cluster:
    """The Ray that runs; `borrowed` if it was there before the sweep and stays after it."""

    resources: ResourcesSpec
    borrowed: bool

    def slots(self) -> int:
        """How many tasks can run at a time now."""
        return max(count_slots(_resources(), self.resources), 1)

    def roomiest(self) -> NodeAffinitySchedulingStrategy | str:
        """A strategy for a task that needs memory: on the node that has most of it, of those on which it fits."""
        fitting = [node for node in _nodes() if _fitting(node["Resources"], self.resources)]
        if not fitting:
            return "DEFAULT"
        largest = max(fitting, key=lambda node: float(node["Resources"].get("memory", 0.0)))
        # Soft: the node may be gone before the task gets there.
        return NodeAffinitySchedulingStrategy(largest["NodeID"], soft=True)


@contextmanager
def _connected(study: Study, progress: Progress) -> Iterator[_Cluster]:
    """Ray for the duration of a `with` block.

    A Ray that runs in this process already is used as it is; RAY_ADDRESS is joined; otherwise a local one is
    started.
    """
    resources = study.spec.resources
    _check_device(resources, study.source)
    if ray.is_initialized():
        _await_node(resources, progress)
        yield _checked(_Cluster(resources, borrowed=True), study.source)
        return
    address = _address()
    if address == "local":
        _check_fits("cpus_per_task", resources.cpus_per_task, float(cpu_count()), study.source)
        _check_fits("gpus_per_task", resources.gpus_per_task, _local_gpus(resources), study.source)
    _check_reachable(address)
    _start_ray(address)
    try:
        if address != "local":
            with interruptible():  # Ray has its own in place now
                _await_node(resources, progress)
        yield _checked(_Cluster(resources, borrowed=False), study.source)
    finally:
        ray.shutdown()


def _await_node(resources: ResourcesSpec, progress: Progress) -> None:
    """On a cluster without any CPU, or GPU if tasks want one, asks for a node and waits for it: such a cluster grows when work comes.

    One that has some, but less than a task wants, is not waited for, nor is one for longer than `NODE_SECONDS`.
    """
    wanted = {"CPU": resources.cpus_per_task, "GPU": resources.gpus_per_task}
    bundle = {name: number for name, number in wanted.items() if number}

    def lacking() -> bool:
        return any(all(not node.get(name) for node in _resources()) for name in bundle)

    if not lacking():
        return
    progress.phase("waiting for a node with " + " and ".join(f"{n:g} {name}" for name, n in bundle.items()))
    request_resources(bundles=[bundle])
    try:
        end = time.monotonic() + NODE_SECONDS
        while lacking() and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
    finally:
        request_resources(bundles=[])  # stands until it is replaced, also beyond this driver


def _checked(cluster: _Cluster, source: str) -> _Cluster:
    """The same cluster; raises `InputError` if no task fits on any of its nodes."""
    resources = cluster.resources
    for key, name in (("cpus_per_task", "CPU"), ("gpus_per_task", "GPU")):
        largest = max((node.get(name, 0.0) for node in _resources()), default=0.0)
        _check_fits(key, getattr(resources, key), largest, source)
    if not count_slots(_resources(), resources):
        raise InputError(
            f"{source}: resources.cpus_per_task, resources.gpus_per_task: no single node has "
            f"{resources.cpus_per_task:g} CPUs and {resources.gpus_per_task:g} GPUs"
        )
    return cluster


def _local_gpus(resources: ResourcesSpec) -> float:
    """Number of GPUs that torch can use on this machine; not looked for where none is asked for."""
    if not resources.gpus_per_task:
        return 0.0
    import torch

    return float(torch.cuda.device_count())


def _starting() -> str:
    """What is under way until there is a Ray."""
    address = _address()
    return "starting Ray" if address == "local" else f"joining the cluster at {address}"


def _address() -> str:
    return os.environ.get("RAY_ADDRESS") or "local"


def _check_reachable(address: str) -> None:
    """Raises `InputError` if nothing listens at HOST:PORT; Ray itself would try for minutes."""
    if address.startswith(("http://", "https://")):
        raise InputError(
            f"RAY_ADDRESS: {address} is an address for 'ray job submit'; allowed for 'phasediag run': HOST:PORT of the head, "
            "port 6379 if no other was chosen"
        )
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return  # "local", "auto" or a URI: for Ray to resolve
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"RAY_ADDRESS: nothing answers at {address} ({error}); allowed: the address of a cluster"
        ) from None


def _start_ray(address: str) -> None:
    local = address == "local"
    options: dict[str, Any] = {"include_dashboard": False, "num_cpus": cpu_count()} if local else {}
    if local:
        options["_node_ip_address"] = "127.0.0.1"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # A private cluster gets a token of its own. Ray would write one to the home directory, and clusters
        # that the user starts later would ask for it.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # Ray's future default; silences its notice
    try:
        with _loopback() if local else nullcontext():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError, failures.RayError) as error:
        where = "a local Ray could not be started" if local else f"RAY_ADDRESS: {address} cannot be joined"
        hint = "" if local else _joining_hint(address, error)
        raise InputError(f"{where}: {_last_line(error)}{hint}") from None
    except SystemExit:  # while it starts, Ray's own handler of SIGTERM is in place
        raise KeyboardInterrupt from None
    _silence_raylet()


def _joining_hint(address: str, error: Exception) -> str:
    """What to do about a cluster that cannot be joined."""
    if not isinstance(error, ConnectionError) or ":" not in address:
        return "; allowed: HOST:PORT of the head of a cluster"
    # Something answers there. Ray's own error does not say that it may be the token, nor that a driver sends none unless it is told to.
    if os.environ.get("RAY_AUTH_MODE") == "token":
        return "; the token in RAY_AUTH_TOKEN or ~/.ray/auth_token may not be that of the cluster"
    return "; a cluster that asks for a token is joined with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"


@contextmanager
def _loopback() -> Iterator[None]:
    """Makes a Ray that is started at 127.0.0.1 within a `with` block listen there alone.

    Ray 2.60 would take the address of the machine on its network instead, and has no public switch; a version that does not have this
    function does as it likes.
    """
    services, name = ray._private.services, "resolve_ip_for_localhost"
    resolve = getattr(services, name, None)
    if resolve is not None:
        setattr(services, name, lambda host: host)
    try:
        yield
    finally:
        if resolve is not None:
            setattr(services, name, resolve)


def _silence_raylet() -> None:
    """Keeps reports of dead workers off standard output: the driver deals with them and notes them itself.

    Ray has no public switch for them; a version that does not have this function just goes on printing.
    """
    internals = ray._private.worker
    if hasattr(internals, "print_to_stdstream"):
        internals.print_to_stdstream = lambda *_, **__: None


def _nodes() -> list[dict[str, Any]]:
    """The nodes that are alive."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _resources() -> list[Mapping[str, float]]:
    """What every node that is alive has to offer."""
    return [node["Resources"] for node in _nodes()]


def count_slots(nodes: Sequence[Mapping[str, float]], resources: ResourcesSpec) -> int:
    """How many tasks fit on the nodes at a time."""
    return sum(_fitting(node, resources) for node in nodes)


def _fitting(node: Mapping[str, float], resources: ResourcesSpec) -> int:
    fitting = int(node.get("CPU", 0.0) / resources.cpus_per_task + 1e-9)
    if resources.gpus_per_task:
        fitting = min(fitting, int(node.get("GPU", 0.0) / resources.gpus_per_task + 1e-9))
    return fitting


def _check_fits(key: str, wanted: float, largest: float, source: str) -> None:
    if wanted > largest:
        raise InputError(
            f"{source}: resources.{key}: {wanted:g} is more than any node has; allowed: up to {largest:g}"
        )


def _check_device(resources: ResourcesSpec, source: str) -> None:
    if resources.device == "cuda" and not resources.gpus_per_task:
        raise InputError(
            f'{source}: resources.gpus_per_task: 0 hides the GPU that device = "cuda" asks for; '
            "allowed: a fraction above 0, or a whole number"
        )


# The sweep.

# max_calls: a GPU task would otherwise get a process, and a CUDA context, of its own.
_task = ray.remote(max_retries=0, max_calls=0)(work)


class _Metrics:
    """What Ray exports of a sweep, to Prometheus say, under names that begin with ``ray_phasediag_``."""

    def __init__(self, study: Study) -> None:
        tags = {"study": study.spec.name}

        def tagged(metric: Any) -> Any:
            metric.set_default_tags(tags)
            return metric

        keys = tuple(tags)
        self._done = tagged(RayCounter("phasediag_jobs_done", "Jobs that have ended, failed ones too.", keys))
        self._failed = tagged(RayCounter("phasediag_jobs_failed", "Jobs that could not be run.", keys))
        self._flying = tagged(Gauge("phasediag_jobs_in_flight", "Jobs handed to the cluster.", keys))
        self._evaluations = tagged(
            RayCounter("phasediag_evaluations", "Full-batch forward and backward passes.", keys)
        )
        self._rate = tagged(Gauge("phasediag_evaluations_per_second", "The same per second, lately.", keys))
        self._seconds = tagged(
            Histogram(
                "phasediag_batch_seconds",
                "Duration of the training of a batch.",
                boundaries=[0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000],
                tag_keys=keys,
            )
        )
        self._lately, self._since = 0, time.monotonic()

    def fly(self, attempts: Collection[Attempt]) -> None:
        """Tells what is in flight; to be called now and then."""
        self._flying.set(sum(len(attempt.batch.jobs) for attempt in attempts if not attempt.batch.sample))
        seconds = time.monotonic() - self._since
        if seconds >= _RATE_SECONDS:
            self._rate.set(self._lately / seconds)
            self._lately, self._since = 0, time.monotonic()

    def end(self) -> None:
        """Tells that nothing is in flight any more."""
        self._flying.set(0)
        self._rate.set(0)

    def count(self, jobs: int, failed: int) -> None:
        """Counts jobs that have ended."""
        if jobs:
            self._done.inc(jobs)
        if failed:
            self._failed.inc(failed)

    def observe(self, receipt: Receipt) -> None:
        """Counts what a batch took."""
        self._seconds.observe(receipt.seconds)
        if receipt.evaluations:
            self._evaluations.inc(receipt.evaluations)
            self._lately += receipt.evaluations


class _Sweep:
    """The batches of one sweep on their way: waiting, in flight, ended."""

    def __init__(
        self,
        study: Study,
        store: Store,
        lease: Lease,
        cluster: _Cluster,
        progress: Progress,
        trainer: Trainer,
        log: Log,
    ) -> None:
        self._study, self._store, self._lease, self._progress = study, store, lease, progress
        self._log, self._metrics = log, _Metrics(study)
        self._cluster = cluster
        self._slots, self._slots_time = cluster.slots(), time.monotonic()
        self._trainer = trainer
        self._refinement = study.refinement
        self._waiting: deque[Attempt] = deque()
        self._alone: deque[Attempt] = deque()  # for the end, when nothing else runs
        self._in_flight: dict[ray.ObjectRef[Any], tuple[Attempt, float]] = {}
        self._trained = self._failed_samples = 0
        self._refined = 0  # jobs that had been run when it was last looked what refinement asks for, and when to look again:
        self._refine_time = -math.inf
        self._stored = 0  # batches, and how many of them there were when one last could not be stored:
        self._stored_before: dict[Batch, int] = {}
        self._started = time.monotonic()

    def run(self) -> Outcome:
        self._prepare()
        try:
            while self._refine() or self._waiting or self._in_flight or self._alone:
                self._lease.check()
                self._lease.note(seconds_left=self._progress.seconds_left())
                self._submit()
                self._collect(POLL_SECONDS)
        except BaseException as error:
            self._log.write("stop", error=describe(error), done=self._progress.done)
            self._metrics.end()
            self._progress.phase("stopping")
            with suppress(failures.RayError):  # there may be no cluster any more
                self._stop()
            raise
        return self._outcome()

    def _prepare(self) -> None:
        statuses = self._store.settle()
        self._study = self._study.refined(self._store.runs)
        statuses = _of_study(self._study, statuses)
        batches = missing_batches(self._study, statuses, self._store.sample_ids(), self._slots)
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
            slots=self._slots,
        )
        resources = self._study.spec.resources
        self._shared = ray.put(
            Shared(self._trainer, resources, self._store, self._lease.token, STORE_PATIENCE)
        )
        self._options = {"num_cpus": resources.cpus_per_task, "num_gpus": resources.gpus_per_task or None}
        self._task = _task.options(**self._options)

    def _refine(self) -> bool:
        """Queues what the refinement of the map asks for by now; whether there is anything new.

        Looked at when jobs have ended and little waits, now and then. The points follow from what is stored, not from when it is looked.
        """
        if self._refinement is None or self._trained == self._refined or len(self._waiting) >= self._slots:
            return False
        started = time.monotonic()
        if self._in_flight and started < self._refine_time:
            return False
        self._refined = self._trained
        runs = patiently(self._store.runs, STORE_PATIENCE)
        placement = self._refinement.advance(runs)
        self._refine_time = time.monotonic() + _REFINE_PAUSE * (time.monotonic() - started)
        known, self._study = self._study.placed, self._study.with_placed(placement)
        new = self._study.placed - known
        jobs, stored = [self._study.job(*cell) for cell in sorted(new)], set(runs["job_id"])
        missing = [job for job in jobs if job.job_id not in stored]
        there = len(jobs) - len(missing)  # of an earlier grid, or of other rules
        self._progress.grow(there, 0.0)
        self._progress.advance(there, 0, 0.0)
        if missing:
            self._queue(missing)
            number = max(placement.rounds[cell] for cell in new)
            self._progress.phase(f"refining, round {number}")
            self._log.write("refine", round=number, jobs=len(missing), total=self._progress.total)
        return bool(missing)

    def _queue(self, jobs: Sequence[Any]) -> None:
        """Adds jobs to the sweep that have come up on its way."""
        batches = make_batches(jobs, self._study.cost, self._slots)
        self._waiting.extend(Attempt(batch) for batch in batches)
        self._progress.grow(len(jobs), sum(batch.seconds for batch in batches))
        self._lease.note(total=self._progress.total)

    def _submit(self) -> None:
        """Fills the window with what waits."""
        if time.monotonic() - self._slots_time > _SLOTS_SECONDS:
            self._slots, self._slots_time = self._cluster.slots(), time.monotonic()
        if not (self._waiting or self._in_flight):
            self._fly(self._alone.popleft())
        while self._waiting and len(self._in_flight) < WINDOW_PER_SLOT * self._slots:
            self._fly(self._waiting.popleft())
        self._metrics.fly([attempt for attempt, _ in self._in_flight.values()])

    def _fly(self, attempt: Attempt) -> None:
        task = self._task
        if attempt.unstored:  # elsewhere: the node may be to blame
            task = _task.options(**self._options, scheduling_strategy="SPREAD")
        if attempt.alone:
            task = _task.options(**self._options, scheduling_strategy=self._cluster.roomiest())
        self._in_flight[task.remote(attempt.batch, self._shared)] = attempt, time.monotonic()

    def _collect(self, timeout: float) -> None:
        """Waits for a task to end, for a while, and takes in all that have."""
        flying = list(self._in_flight)
        ray.wait(flying, num_returns=1, timeout=timeout)
        ended, _ = ray.wait(flying, num_returns=len(flying), timeout=0)
        for ref in ended:
            attempt, begun = self._in_flight.pop(ref)
            trouble = self._take_in(ref, attempt.batch, time.monotonic() - begun)
            if trouble is not None:
                self._mend(attempt, *trouble)

    def _take_in(
        self, ref: ray.ObjectRef[Any], batch: Batch, seconds: float
    ) -> tuple[Misfortune, str] | None:
        """Takes in what a task left, that many seconds after it was handed out; returns what went wrong if there are no rows."""
        try:
            receipt: Receipt = ray.get(ref)
        except failures.RayTaskError as error:
            return Misfortune.UNSTORED, _last_line(error.cause or error)
        except failures.OutOfMemoryError:
            return Misfortune.DIED, "the worker ran out of memory and was ended"
        except failures.WorkerCrashedError:
            if seconds >= batch.limit:
                return (
                    Misfortune.STUCK,
                    f"not done within {batch.limit:.0f} s of being handed out (the worker's log says where it was)",
                )
            return Misfortune.DIED, "the worker died: crashed, or ended from outside (its log may say more)"
        except failures.RayError as error:
            return Misfortune.LOST, _last_line(error)
        if receipt.error:
            return Misfortune.RAISED, receipt.error
        if receipt.statuses is None:
            self._lease.check()
            return Misfortune.UNSTORED, "driver.json was replaced or removed"
        self._stored += 1
        self._metrics.observe(receipt)
        self._count(batch, receipt.statuses.get(FAILED, 0))
        self._log.write(
            "batch",
            **_content(batch),
            statuses=dict(receipt.statuses),
            seconds=round(receipt.seconds, 3),
            predicted_seconds=round(batch.seconds, 3),
            evaluations=receipt.evaluations,
            worker=receipt.where,
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

    def _publish_failed(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Publishes the rows of a job that failed, unless another driver has taken over; whether it has done so."""
        ours = holds(self._store, self._lease.token)
        if ours:
            self._store.publish_runs(rows)
        return ours

    def _count(self, batch: Batch, failed: int) -> None:
        jobs = 0 if batch.sample else len(batch.jobs)
        self._trained += jobs
        self._metrics.count(jobs, failed)
        self._progress.advance(jobs, failed, batch.seconds)

    def _stop(self) -> None:
        """Gives tasks in flight a moment to publish, then ends them.

        Those of a cluster that was joined or started for this sweep end as the driver leaves it. They are not
        killed one by one, since Ray 2.60 aborts the driver if a task ends by itself while it is being killed.
        """
        if not self._in_flight:
            return
        flying = list(self._in_flight)
        _, running = ray.wait(flying, num_returns=len(flying), timeout=_DRAIN_SECONDS)
        if self._cluster.borrowed:
            for ref in running:
                ray.cancel(ref)

    def _outcome(self) -> Outcome:
        """What the folder holds now, each job once.

        Raises:
            PhasediagError: rows that were published are not there.
        """
        self._metrics.end()
        statuses = _of_study(self._study, patiently(self._store.settle, STORE_PATIENCE))
        total = len(self._study.jobs())
        if len(statuses) < total:
            raise PhasediagError(
                f"{self._store.out}: rows of {total - len(statuses)} jobs that were trained are not there; "
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


def _of_study(study: Study, statuses: Mapping[str, str]) -> dict[str, str]:
    """The status of every job of the study that has rows."""
    return {job.job_id: statuses[job.job_id] for job in study.jobs() if job.job_id in statuses}


def _count_failed(statuses: Mapping[str, str]) -> int:
    return sum(status == FAILED for status in statuses.values())


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__
    return text[:ERROR_LENGTH]
