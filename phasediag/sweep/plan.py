"""Which jobs are missing, and their batches: one shape each, bounded in time and memory."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..devices import BATCH_BYTES
from ..engine.kept import COMPILING_SECONDS, is_compiled
from ..storage.schema import FAILED
from ..studies import AnyStudy, Cost, Job, JobT

BATCHES_PER_SLOT = 8
"""Batches that every slot should get at least, so that the last ones end at about the same time."""
MAX_BATCH_SECONDS = 60.0
"""Predicted duration that a batch of several jobs does not exceed: what a worker that dies loses."""
MAX_BATCH_JOBS = 4096
SHARED_FACTOR = 3.0
"""A batch on a GPU takes at least so many times what its jobs share, if there are enough jobs."""
LIMIT_SECONDS, LIMIT_FACTOR = 900.0, 10.0
"""A batch is stuck if it takes longer than this: that much, and so many times what it would take if its longest job went to the limit of
evaluations. Nothing that progresses should ever be stopped."""
MAX_LIMIT_SECONDS = 30 * 86400.0
STARTING_SECONDS = 6.0
"""Seconds that Ray takes to start and to stop, about, on two cores."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs of one shape that one task trains together, or one network to be kept whole.

    Attributes:
        jobs: the jobs.
        seconds: predicted duration on one core.
        sample: the network of the only job is kept whole.
        limit: seconds after which it must be stuck.
    """

    jobs: tuple[Job, ...]
    seconds: float
    sample: bool = False
    limit: float = LIMIT_SECONDS


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """The share of one group of jobs (of one width, say) in a plan, with the counts of `Plan`; a batch counts in each of its groups."""

    group: object
    total: int
    finished: int
    failed: int
    missing: int
    batches: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep has to do.

    Attributes:
        total: number of jobs; the sum of the next three.
        finished: jobs that have rows.
        failed: jobs that could not be run; not run again unless asked for.
        missing: jobs to run.
        samples: networks to be kept whole that are missing.
        batches: tasks that these make.
        cpu_seconds: predicted time of all batches on one core.
        slots: batches that run at a time.
        wall_seconds: predicted duration with that many slots.
        grouped_by: what the jobs of each of the `groups` have in common, "width" say.
        groups: the same by that.
        more_jobs: most jobs that refinement may add to these.
        more_cpu_seconds: what those would take on one core.
        starting_seconds: what Ray takes to start on this machine, and to stop, about.
        compiles: the parts of the engine, such as "float32", that are compiled first, once on this machine.
        compiling_seconds: what this takes, about.
        finishing_seconds: what fits and figures take, about.
    """

    total: int
    finished: int
    failed: int
    missing: int
    samples: int
    batches: int
    cpu_seconds: float
    slots: int
    wall_seconds: float
    grouped_by: str
    groups: tuple[GroupPlan, ...]
    more_jobs: int = 0
    more_cpu_seconds: float = 0.0
    device: str = "cpu"
    starting_seconds: float = 0.0
    compiles: tuple[str, ...] = ()
    compiling_seconds: float = 0.0
    finishing_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON can hold it."""
        content = asdict(self)
        name, groups = content.pop("grouped_by"), content.pop("groups")
        return content | {f"{name}s": [{name: group.pop("group"), **group} for group in groups]}


def make_batches(
    jobs: Sequence[JobT], cost: Callable[[JobT], Cost], slots: int, device: str = "cpu", threads: int = 1
) -> list[Batch]:
    """Groups jobs into batches of one shape each, the longest first.

    Every slot gets at least eight batches where there are enough jobs, and every thread of a task a job. A batch of more jobs than threads
    is predicted to take at most a minute of each, and the memory that the device has for it (`phasediag.devices.BATCH_BYTES`). The result
    does not depend on the order of the jobs.

    Args:
        jobs: jobs to run, each once.
        cost: of a job.
        slots: batches that will run at a time.
        device: kind of device that they will run on.
        threads: jobs of a batch that are trained at a time.
    """
    if not jobs:
        return []
    costed = sorted((_Costed(job, cost(job)) for job in jobs), key=_Costed.order)
    wanted = BATCHES_PER_SLOT * max(slots, 1)
    # what the jobs of a batch share is little on a CPU; on a GPU, where it is most, batches of a few jobs would be made of nothing else
    least = 0.0 if device == "cpu" else SHARED_FACTOR * max(one.cost.shared for one in costed)
    limit = max(min(MAX_BATCH_SECONDS * threads, 2 * _together(costed) / wanted), least)
    groups = list(_groups(costed, limit, device, threads))
    while len(groups) < min(wanted, len(jobs) // threads) and limit > least:
        limit = max(0.7 * limit, least)
        groups = list(_groups(costed, limit, device, threads))
    return longest_first(_batch(group) for group in groups)


def _batch(costed: Sequence[_Costed], sample: bool = False) -> Batch:
    seconds = _together(costed)
    worst = seconds + max(one.cost.worst for one in costed)
    limit = min(LIMIT_SECONDS + LIMIT_FACTOR * worst, MAX_LIMIT_SECONDS)
    return Batch(tuple(one.job for one in costed), seconds, sample, limit)


def uncompiled(study: AnyStudy, batches: Iterable[Batch]) -> set[str]:
    """The parts of the engine that these batches compile first, as far as this machine knows."""
    parts = {study.compiles(batch.jobs[0]) for batch in batches}  # jobs of one shape compile the same
    return {part for part in parts if part and not is_compiled(part)}


def longest_first(batches: Iterable[Batch]) -> list[Batch]:
    """The batches by predicted duration, the longest first."""
    return sorted(batches, key=lambda batch: (-batch.seconds, batch.sample, batch.jobs[0].job_id))


def split(batch: Batch) -> tuple[Batch, Batch]:
    """The two halves of a batch of several jobs, with its limit."""
    middle = len(batch.jobs) // 2
    halves = batch.jobs[:middle], batch.jobs[middle:]
    first, second = (
        Batch(jobs, batch.seconds * len(jobs) / len(batch.jobs), batch.sample, batch.limit) for jobs in halves
    )
    return first, second


def missing_batches(
    study: AnyStudy, statuses: Mapping[str, str], kept: Iterable[str], slots: int, threads: int = 1
) -> list[Batch]:
    """The batches that complete a study, the longest first.

    Args:
        study: the study.
        statuses: status by id of the jobs that have rows.
        kept: ids of the networks that are kept whole already.
        slots: batches that will run at a time.
        threads: jobs of a batch that are trained at a time.
    """
    kept = set(kept)
    missing = [job for job in study.jobs() if job.job_id not in statuses]
    samples = [_Costed(job, study.sample_cost(job)) for job in study.sample_jobs() if job.job_id not in kept]
    whole = [_batch([one], sample=True) for one in samples]
    device = study.planned_device
    return longest_first([*make_batches(missing, study.cost, slots, device, threads), *whole])


def make_plan(study: AnyStudy, statuses: Mapping[str, str], kept: Iterable[str], slots: int) -> Plan:
    """The plan of a study on Ray; the arguments are as for `missing_batches`."""
    threads = study.spec.resources.threads
    batches = missing_batches(study, statuses, kept, slots, threads)
    groups = _group_plans(study, statuses, batches)
    compiles = tuple(sorted(uncompiled(study, batches)))
    # Nothing is added any more when all that was added by now is there.
    more_jobs, seconds = study.more_jobs() if any(row.missing for row in groups) else (0, 0.0)
    return Plan(
        total=sum(row.total for row in groups),
        finished=sum(row.finished for row in groups),
        failed=sum(row.failed for row in groups),
        missing=sum(row.missing for row in groups),
        samples=sum(batch.sample for batch in batches),
        batches=len(batches),
        cpu_seconds=sum(batch.seconds for batch in batches),
        slots=slots,
        wall_seconds=_makespan(batches, slots, threads),
        grouped_by=study.grouped_by,
        groups=groups,
        more_jobs=more_jobs,
        more_cpu_seconds=more_jobs * seconds,
        device=study.planned_device,
        starting_seconds=STARTING_SECONDS if batches else 0.0,
        compiles=compiles,
        compiling_seconds=COMPILING_SECONDS * len(compiles),
        finishing_seconds=study.finishing_seconds() if batches else 0.0,
    )


def _group_plans(
    study: AnyStudy, statuses: Mapping[str, str], batches: Sequence[Batch]
) -> tuple[GroupPlan, ...]:
    jobs = Counter((study.group(job), _stage(statuses.get(job.job_id))) for job in study.jobs())
    tasks: Counter[Any] = Counter()
    seconds: defaultdict[Any, float] = defaultdict(float)
    for batch in batches:
        for group, members in Counter(map(study.group, batch.jobs)).items():
            tasks[group] += 1
            seconds[group] += batch.seconds * members / len(batch.jobs)
    return tuple(
        GroupPlan(
            group=group,
            total=sum(jobs[group, stage] for stage in ("finished", "failed", "missing")),
            finished=jobs[group, "finished"],
            failed=jobs[group, "failed"],
            missing=jobs[group, "missing"],
            batches=tasks[group],
            cpu_seconds=seconds[group],
        )
        for group in sorted({group for group, _ in jobs} | set(tasks), key=_in_order)
    )


def _in_order(group: object) -> tuple[float, str]:
    """Sorts numbers by size and names by the alphabet."""
    return (float(group) if isinstance(group, int | float) else 0.0, str(group))


def _stage(status: str | None) -> str:
    if status is None:
        return "missing"
    return "failed" if status == FAILED else "finished"


def _makespan(batches: Sequence[Batch], slots: int, threads: int) -> float:
    """When the last batch ends if every slot takes the next batch as soon as it is free, and trains so many jobs of it at a time."""
    ends = [0.0] * max(slots, 1)
    for batch in batches:
        heapq.heapreplace(ends, ends[0] + batch.seconds / min(threads, len(batch.jobs)))
    return max(ends)


@dataclass(frozen=True, slots=True)
class _Costed:
    """A job and what it takes."""

    job: Job
    cost: Cost

    def order(self) -> tuple[tuple[object, ...], float, str]:
        """Jobs of one shape and of like duration side by side."""
        return self.cost.shape, self.cost.seconds, self.job.job_id


def _groups(costed: Sequence[_Costed], limit: float, device: str, threads: int) -> Iterator[list[_Costed]]:
    """Neighbouring jobs of one shape together, one for every thread and more up to `limit` seconds, as many as memory allows."""
    group: list[_Costed] = []
    seconds = 0.0
    for one in costed:
        # Sorted by duration, the last job of a batch takes the most evaluations.
        together = seconds + one.cost.seconds + one.cost.shared
        full = len(group) >= _capacity(one.cost, device)
        long = together > limit and len(group) >= threads
        if group and (one.cost.shape != group[0].cost.shape or full or long):
            yield group
            group, seconds = [], 0.0
        group.append(one)
        seconds += one.cost.seconds
    yield group


def _together(costed: Sequence[_Costed]) -> float:
    """Predicted seconds of a batch."""
    return max(one.cost.shared for one in costed) + sum(one.cost.seconds for one in costed)


def _capacity(cost: Cost, device: str) -> int:
    """Jobs of that size that fit into the memory of a batch."""
    return max(1, min(MAX_BATCH_JOBS, BATCH_BYTES[device] // (8 * cost.numbers)))
