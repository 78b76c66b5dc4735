"""What becomes of a batch that came back without its rows: tried again, split, run alone, or given up. Decides, and does nothing.

Separate budgets for separate misfortunes. A node that is preempted or dies, and whatever else befalls the cluster, says nothing of the
jobs: these are run again, up to `MAX_LOSSES` times. A training that raises, and a worker that dies (crashed, out of memory, or ended
since it took too long), may be the fault of a job: a batch is halved until the job stands alone, which is then tried `MAX_FAILURES`
times; at last, where memory may be what it lacks, once with nothing else on the cluster, on the node with most memory. Rows that cannot
be stored are nobody's fault: after `MAX_UNSTORED` times the sweep has to end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from .plan import Batch, split

MAX_FAILURES = 3
"""How often a job fails before it has failed."""
MAX_DEATHS = 2
"""How often a batch of several jobs may lose its worker before it is split: the first time, a neighbour may have been the cause."""
MAX_LOSSES = 20
"""How often a batch may be lost to the cluster."""
MAX_UNSTORED = 3
"""How often a batch may be trained in vain."""


class Misfortune(Enum):
    """Why a batch came back without its rows: RAISED by the training, DIED with its worker, LOST by the cluster, or UNSTORED."""

    RAISED = auto()
    DIED = auto()
    LOST = auto()
    UNSTORED = auto()


@dataclass(frozen=True)
class Attempt:
    """A batch on its way.

    Attributes:
        batch: the batch.
        failures: how often it raised, or its worker died.
        losses: how often the cluster lost it.
        unstored: how often its rows could not be stored.
        alone: nothing else runs beside it.
    """

    batch: Batch
    failures: int = 0
    losses: int = 0
    unstored: int = 0
    alone: bool = False


def next_attempts(attempt: Attempt, misfortune: Misfortune, error: str) -> list[Attempt]:
    """What to do next: the same batch again, its halves, or the only job alone; nothing if it is given up."""
    if misfortune is Misfortune.LOST:
        losses = attempt.losses + 1
        return [replace(attempt, losses=losses)] if losses < MAX_LOSSES else []
    if misfortune is Misfortune.UNSTORED:
        unstored = attempt.unstored + 1
        return [replace(attempt, unstored=unstored)] if unstored < MAX_UNSTORED else []
    died, failures = misfortune is Misfortune.DIED, attempt.failures + 1
    if len(attempt.batch.jobs) > 1:
        if died and failures < MAX_DEATHS:
            return [replace(attempt, failures=failures)]
        return [Attempt(half, losses=attempt.losses) for half in split(attempt.batch)]
    if attempt.alone:
        return []
    if failures < MAX_FAILURES:
        return [replace(attempt, failures=failures)]
    return [replace(attempt, failures=failures, alone=True)] if died or "memory" in error.lower() else []
