"""Which jobs are missing, and how they are grouped into batches: one shape each, bounded in time and memory.

The cost model only shapes the batches, orders them and predicts how long a sweep takes; no result depends on
it.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .store import FAILED
from .study import Job, Study
from .theory import LAYERS, critical_gamma


@dataclass(frozen=True, slots=True)
class _Engine:
    """What training costs, measured on one core.

    Evaluations (forward and backward passes) of a job on four points are few where the features of the first layer hardly move and grow
    across its critical line (``crossover``: from where to where, in gamma beyond it), and with a power of the number of points. An
    evaluation takes seconds per neuron and point; per neuron and pair of points; per neuron, point and input; per weight of W2 and
    point; per cubed number of points (the eigendecomposition of the kernel); and some however small the network is. All jobs of a batch
    share what a pass over the batch takes however small it is.
    """

    evaluations_linear: float
    evaluations_condensed: float
    evaluations_power: float
    crossover: tuple[float, float]
    point: float
    pair: float = 0.0
    column: float = 0.0
    weight: float = 0.0
    small: float = 0.0
    shared: float = 50e-6
    decomposition: float = 0.25e-9

    def evaluations(self, job: Job, points: int) -> float:
        start, end = self.crossover
        beyond = job.gamma - critical_gamma(LAYERS[job.depth][0], job.depth, job.gamma_prime)
        share = min(max((beyond - start) / (end - start), 0.0), 1.0)
        few = self.evaluations_linear + (self.evaluations_condensed - self.evaluations_linear) * share
        return float(few * (max(points, 4) / 4) ** self.evaluations_power)

    def seconds(self, job: Job, points: int, inputs: int) -> float:
        """Of an evaluation."""
        neuron = points * (self.point + self.pair * points + self.column * inputs)
        weights = job.width * points * self.weight if job.depth == 3 else 0.0
        return job.width * (neuron + weights) + self.decomposition * points**3 + self.small


_LINE = _Engine(10.0, 50.0, 0.0, (-0.6, 0.2), point=10e-9, pair=0.15e-9, small=25e-6)
_TWO_LAYERS = _Engine(10.0, 50.0, 0.35, (-0.6, 0.2), point=15e-9, pair=1.0e-9, small=25e-6)
_THREE_LAYERS = _Engine(20.0, 1300.0, 0.1, (-0.5, 0.7), point=35e-9, pair=1.5e-9, weight=0.12e-9, small=25e-6)
# A fixed step: the evaluations are not known, but for their limit.
_DESCENT = _Engine(
    0.0,
    0.0,
    0.0,
    (0.0, 1.0),
    point=45e-9,
    column=0.07e-9,
    weight=0.1e-9,
    shared=1e-3,
    decomposition=0.0,
)
LINE_POINTS = 256
"""Most points of networks of one input that have an engine of their own."""

BATCHES_PER_SLOT = 8
"""Batches that every slot should get at least, so that the last ones end at about the same time."""
MAX_BATCH_SECONDS = 60.0
"""Predicted duration that a batch of several jobs does not exceed: what a worker that dies loses."""
MAX_BATCH_BYTES = 2**30
MAX_BATCH_JOBS = 4096
# Arrays of every size that the training keeps at one time, in 8-byte numbers.
_ARRAYS_PER_WEIGHT = 4
_ARRAYS_PER_ACTIVATION = 12


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs of one depth and width that one task trains together, or one network to be kept whole.

    Attributes:
        jobs: the jobs.
        seconds: predicted duration on one core.
        sample: the network of the only job is kept whole.
    """

    jobs: tuple[Job, ...]
    seconds: float
    sample: bool = False


@dataclass(frozen=True, slots=True)
class WidthPlan:
    """The share of one width in a plan; the columns are those of `Plan`."""

    width: int
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
        widths: the same by width.
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
    widths: tuple[WidthPlan, ...]

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON can hold it."""
        return asdict(self)


def predicted_evaluations(job: Job, points: int, inputs: int, max_evaluations: int | None = None) -> float:
    """Forward and backward passes of a job on so many points of so many inputs: they grow from the linear to the condensed regime.

    Those of a method with a fixed step depend on the step: what is known of them is their limit, `max_evaluations`.
    """
    if max_evaluations is not None:
        return float(max_evaluations)
    return _engine(job, points, inputs).evaluations(job, points)


def predicted_seconds(job: Job, points: int, inputs: int, max_evaluations: int | None = None) -> float:
    """Seconds that a job will take on one core, without the overhead that its batch shares.

    Args:
        job: the job.
        points: number n of training points.
        inputs: number d of inputs.
        max_evaluations: evaluations after which a method with a fixed step ends, None for the gradient flow.
    """
    evaluations = predicted_evaluations(job, points, inputs, max_evaluations)
    return evaluations * _engine(job, points, inputs, max_evaluations).seconds(job, points, inputs)


def _engine(job: Job, points: int, inputs: int, max_evaluations: int | None = None) -> _Engine:
    if max_evaluations is not None:
        return _DESCENT
    if job.depth == 3:
        return _THREE_LAYERS
    return _LINE if inputs == 1 and points <= LINE_POINTS else _TWO_LAYERS


def make_batches(
    jobs: Sequence[Job], points: int, inputs: int, slots: int, max_evaluations: int | None = None
) -> list[Batch]:
    """Groups jobs into batches of one depth and width each, the longest first.

    Every slot gets at least eight batches where there are enough jobs. A batch of several jobs is predicted
    to take at most a minute and a gibibyte. The result does not depend on the order of the jobs.

    Args:
        jobs: jobs to run, each once.
        points: number n of training points.
        inputs: number d of inputs.
        slots: batches that will run at a time.
        max_evaluations: evaluations after which a method with a fixed step ends, None for the gradient flow.
    """
    if not jobs:
        return []
    costs = sorted((_Cost.of(job, points, inputs, max_evaluations) for job in jobs), key=_Cost.order)
    capacity = {cost.shape: _max_jobs(cost.job, points, inputs) for cost in costs}
    wanted = BATCHES_PER_SLOT * max(slots, 1)
    limit = min(MAX_BATCH_SECONDS, 2 * _together(costs) / wanted)
    groups = list(_groups(costs, capacity, limit))
    while len(groups) < min(wanted, len(jobs)):
        limit *= 0.7
        groups = list(_groups(costs, capacity, limit))
    return longest_first(Batch(tuple(cost.job for cost in group), _together(group)) for group in groups)


def sample_batches(
    jobs: Iterable[Job], points: int, inputs: int, max_evaluations: int | None = None
) -> list[Batch]:
    """One batch for every network that is kept whole; `max_evaluations` as in `make_batches`."""
    return [
        Batch((job,), _together([_Cost.of(job, points, inputs, max_evaluations)]), sample=True)
        for job in jobs
    ]


def longest_first(batches: Iterable[Batch]) -> list[Batch]:
    """The batches by predicted duration, the longest first."""
    return sorted(batches, key=lambda batch: (-batch.seconds, batch.sample, batch.jobs[0].job_id))


def split(batch: Batch) -> tuple[Batch, Batch]:
    """The two halves of a batch of several jobs."""
    middle = len(batch.jobs) // 2
    halves = batch.jobs[:middle], batch.jobs[middle:]
    first, second = (
        Batch(jobs, batch.seconds * len(jobs) / len(batch.jobs), batch.sample) for jobs in halves
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
    points, inputs = study.data.x.shape
    kept = set(kept)
    missing = [job for job in study.jobs() if job.job_id not in statuses]
    samples = [job for job in study.sample_jobs() if job.job_id not in kept]
    train = study.spec.train
    limit = train.max_evaluations if train.method != "gradient-flow" else None
    batches = make_batches(missing, points, inputs, slots, limit)
    return longest_first([*batches, *sample_batches(samples, points, inputs, limit)])


def make_plan(study: Study, statuses: Mapping[str, str], kept: Iterable[str], slots: int) -> Plan:
    """The plan of a study; the arguments are those of `missing_batches`."""
    batches = missing_batches(study, statuses, kept, slots)
    widths = _width_plans(study, statuses, batches)
    return Plan(
        total=sum(row.total for row in widths),
        finished=sum(row.finished for row in widths),
        failed=sum(row.failed for row in widths),
        missing=sum(row.missing for row in widths),
        samples=sum(batch.sample for batch in batches),
        batches=len(batches),
        cpu_seconds=sum(batch.seconds for batch in batches),
        slots=slots,
        wall_seconds=_makespan(batches, slots),
        widths=widths,
    )


def _width_plans(
    study: Study, statuses: Mapping[str, str], batches: Sequence[Batch]
) -> tuple[WidthPlan, ...]:
    jobs = Counter((job.width, _stage(statuses.get(job.job_id))) for job in study.jobs())
    tasks = Counter(batch.jobs[0].width for batch in batches)
    seconds: defaultdict[int, float] = defaultdict(float)
    for batch in batches:
        seconds[batch.jobs[0].width] += batch.seconds
    return tuple(
        WidthPlan(
            width=width,
            total=sum(jobs[width, stage] for stage in ("finished", "failed", "missing")),
            finished=jobs[width, "finished"],
            failed=jobs[width, "failed"],
            missing=jobs[width, "missing"],
            batches=tasks[width],
            cpu_seconds=seconds[width],
        )
        for width in sorted({width for width, _ in jobs} | set(tasks))
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
class _Cost:
    """A job with its predicted seconds, and those that it shares with its batch."""

    job: Job
    seconds: float
    shared: float

    @classmethod
    def of(cls, job: Job, points: int, inputs: int, max_evaluations: int | None) -> _Cost:
        evaluations = predicted_evaluations(job, points, inputs, max_evaluations)
        seconds = predicted_seconds(job, points, inputs, max_evaluations)
        return cls(job, seconds, evaluations * _engine(job, points, inputs, max_evaluations).shared)

    @property
    def shape(self) -> tuple[int, int]:
        return self.job.depth, self.job.width

    def order(self) -> tuple[tuple[int, int], float, str]:
        """Jobs of one shape and of like duration side by side."""
        return self.shape, self.seconds, self.job.job_id


def _groups(
    costs: Sequence[_Cost], capacity: Mapping[tuple[int, int], int], limit: float
) -> Iterator[list[_Cost]]:
    """Neighbouring jobs of one shape together, up to `limit` seconds and to the number that memory allows."""
    group: list[_Cost] = []
    seconds = 0.0
    for cost in costs:
        # Sorted by duration, the last job of a batch takes the most evaluations.
        together = seconds + cost.seconds + cost.shared
        if group and (cost.shape != group[0].shape or len(group) >= capacity[cost.shape] or together > limit):
            yield group
            group, seconds = [], 0.0
        group.append(cost)
        seconds += cost.seconds
    yield group


def _together(costs: Sequence[_Cost]) -> float:
    """Predicted seconds of a batch."""
    return max(cost.shared for cost in costs) + sum(cost.seconds for cost in costs)


def _max_jobs(job: Job, points: int, inputs: int) -> int:
    weights = inputs + 2 + (job.width if job.depth == 3 else 0)
    numbers = job.width * (_ARRAYS_PER_WEIGHT * weights + _ARRAYS_PER_ACTIVATION * points)
    return max(1, min(MAX_BATCH_JOBS, MAX_BATCH_BYTES // (8 * numbers)))
