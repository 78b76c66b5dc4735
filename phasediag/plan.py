"""Which jobs are missing, and how they are grouped into batches: one shape each, bounded in time and memory."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from .costs import Cost
from .jobs import AnyJob
from .schemas import FAILED
from .study import Study
from .theory import LAYERS, critical_gamma

JobT = TypeVar("JobT", bound=AnyJob)

BATCHES_PER_SLOT = 8
"""Batches that every slot should get at least, so that the last ones end at about the same time."""
MAX_BATCH_SECONDS = 60.0
"""Predicted duration that a batch of several jobs does not exceed: what a worker that dies loses."""
MAX_BATCH_BYTES = 2**30
MAX_BATCH_JOBS = 4096
LIMIT_SECONDS, LIMIT_FACTOR = 900.0, 10.0
"""A batch is stuck if it takes longer than this: that much, and so many times what it would take if its longest job went to the limit of
evaluations. Nothing that progresses should ever be stopped."""
MAX_LIMIT_SECONDS = 30 * 86400.0
_NEAR = 0.1
"""How far from a critical line, in gamma, refinement places points, about."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs of one shape that one task trains together, or one network to be kept whole.

    Attributes:
        jobs: the jobs.
        seconds: predicted duration on one core.
        sample: the network of the only job is kept whole.
        limit: seconds after which it must be stuck.
    """

    jobs: tuple[AnyJob, ...]
    seconds: float
    sample: bool = False
    limit: float = LIMIT_SECONDS


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """The share of one width (or activation) in a plan; the other columns are those of `Plan`."""

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
        grouped_by: what the jobs have in common in `groups`, "width" or "activation".
        groups: the same by that.
        more_jobs: most jobs that refinement may add to these.
        more_cpu_seconds: what those would take on one core.
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

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON can hold it."""
        content = asdict(self)
        name, groups = content.pop("grouped_by"), content.pop("groups")
        return content | {f"{name}s": [{name: group.pop("group"), **group} for group in groups]}


def make_batches(jobs: Sequence[JobT], cost: Callable[[JobT], Cost], slots: int) -> list[Batch]:
    """Groups jobs into batches of one shape each, the longest first.

    Every slot gets at least eight batches where there are enough jobs. A batch of several jobs is predicted
    to take at most a minute and a gibibyte. The result does not depend on the order of the jobs.

    Args:
        jobs: jobs to run, each once.
        cost: tells what a job takes.
        slots: batches that will run at a time.
    """
    if not jobs:
        return []
    costed = sorted((_Costed(job, cost(job)) for job in jobs), key=_Costed.order)
    wanted = BATCHES_PER_SLOT * max(slots, 1)
    limit = min(MAX_BATCH_SECONDS, 2 * _together(costed) / wanted)
    groups = list(_groups(costed, limit))
    while len(groups) < min(wanted, len(jobs)):
        limit *= 0.7
        groups = list(_groups(costed, limit))
    return longest_first(_batch(group) for group in groups)


def _batch(costed: Sequence[_Costed], sample: bool = False) -> Batch:
    seconds = _together(costed)
    worst = seconds + max(one.cost.worst for one in costed)
    limit = min(LIMIT_SECONDS + LIMIT_FACTOR * worst, MAX_LIMIT_SECONDS)
    return Batch(tuple(one.job for one in costed), seconds, sample, limit)


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
    study: Study, statuses: Mapping[str, str], kept: Iterable[str], slots: int
) -> list[Batch]:
    """The batches that complete a study, the longest first.

    Args:
        study: the study.
        statuses: status by id of the jobs that have rows.
        kept: ids of the networks that are kept whole already.
        slots: batches that will run at a time.
    """
    kept = set(kept)
    missing = [job for job in study.jobs() if job.job_id not in statuses]
    samples = [_Costed(job, study.cost(job)) for job in study.sample_jobs() if job.job_id not in kept]
    whole = [_batch([one], sample=True) for one in samples]
    return longest_first([*make_batches(missing, study.cost, slots), *whole])


def make_plan(study: Study, statuses: Mapping[str, str], kept: Iterable[str], slots: int) -> Plan:
    """The plan of a study; the arguments are those of `missing_batches`."""
    batches = missing_batches(study, statuses, kept, slots)
    groups = _group_plans(study, statuses, batches)
    more_jobs = _most_more_jobs(study) if any(row.missing for row in groups) else 0
    return Plan(
        total=sum(row.total for row in groups),
        finished=sum(row.finished for row in groups),
        failed=sum(row.failed for row in groups),
        missing=sum(row.missing for row in groups),
        samples=sum(batch.sample for batch in batches),
        batches=len(batches),
        cpu_seconds=sum(batch.seconds for batch in batches),
        slots=slots,
        wall_seconds=_makespan(batches, slots),
        grouped_by=study.grouped_by,
        groups=groups,
        more_jobs=more_jobs,
        more_cpu_seconds=more_jobs * _seconds_near_lines(study) if more_jobs else 0.0,
    )


def _most_more_jobs(study: Study) -> int:
    """Most jobs that refinement may still add; it adds none when all that it has placed by now is there."""
    return 0 if study.refinement is None else study.refinement.rules.max_jobs - len(study.placed)


def _seconds_near_lines(study: Study) -> float:
    """Predicted seconds, on one core, of a job where refinement places them: the mean over the grid, by closeness to a predicted line."""
    jobs = study.jobs()
    near = [_closeness(job) for job in jobs]
    return sum(w * study.cost(job).seconds for w, job in zip(near, jobs, strict=True)) / sum(near)


def _closeness(job: Any) -> float:
    lines = [critical_gamma(layer, job.depth, job.gamma_prime) for layer in LAYERS[job.depth][:-1]]
    return sum(math.exp(-abs(job.gamma - line) / _NEAR) for line in lines)


def _group_plans(
    study: Study, statuses: Mapping[str, str], batches: Sequence[Batch]
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
        for group in sorted({group for group, _ in jobs} | set(tasks))
    )


def _stage(status: str | None) -> str:
    if status is None:
        return "missing"
    return "failed" if status == FAILED else "finished"


def _makespan(batches: Sequence[Batch], slots: int) -> float:
    """When the last batch ends if every slot takes the next batch as soon as it is free."""
    ends = [0.0] * max(slots, 1)
    for batch in batches:
        heapq.heapreplace(ends, ends[0] + batch.seconds)
    return max(ends)


@dataclass(frozen=True, slots=True)
class _Costed:
    """A job and what it takes."""

    job: AnyJob
    cost: Cost

    def order(self) -> tuple[tuple[object, ...], float, str]:
        """Jobs of one shape and of like duration side by side."""
        return self.cost.shape, self.cost.seconds, self.job.job_id


def _groups(costed: Sequence[_Costed], limit: float) -> Iterator[list[_Costed]]:
    """Neighbouring jobs of one shape together, up to `limit` seconds and to the number that memory allows."""
    group: list[_Costed] = []
    seconds = 0.0
    for one in costed:
        # Sorted by duration, the last job of a batch takes the most evaluations.
        together = seconds + one.cost.seconds + one.cost.shared
        full = len(group) >= _capacity(one.cost)
        if group and (one.cost.shape != group[0].cost.shape or full or together > limit):
            yield group
            group, seconds = [], 0.0
        group.append(one)
        seconds += one.cost.seconds
    yield group


def _together(costed: Sequence[_Costed]) -> float:
    """Predicted seconds of a batch."""
    return max(one.cost.shared for one in costed) + sum(one.cost.seconds for one in costed)


def _capacity(cost: Cost) -> int:
    """Jobs of that size that fit into the memory of a batch."""
    return max(1, min(MAX_BATCH_JOBS, MAX_BATCH_BYTES // (8 * cost.numbers)))
