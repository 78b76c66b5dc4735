"""What to do with a batch that came back without its rows: try it again, split it, run it alone, or give up. Decides, and does nothing.

Each kind of misfortune has its own budget.

- Loss of a node, or any other trouble of the cluster, says nothing about the jobs: they run again, up to `MAX_LOSSES` times.
- A training that raises, or a worker that dies (it crashed, ran out of memory, or took too long), may be the fault of a job. The batch is
  halved until the job stands alone. The job is then tried `MAX_FAILURES` times and, where memory may be the reason, at last once with
  nothing else on the cluster, on the node with most memory.
- A job that hangs costs its whole time limit, so it has fewer tries, and none alone.
- Rows that cannot be stored are no fault of a job. After `MAX_UNSTORED` times, if no other batch could be stored meanwhile, the sweep ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from .plan import Batch, split

MAX_FAILURES = 3
"""How often a job fails before it has failed."""
MAX_DEATHS = 2
"""How often a batch of several jobs may lose its worker before it is split: the first time, a neighbour may have been the cause."""
MAX_STUCK = 2
"""How often a job gets stuck before it has failed."""
MAX_LOSSES = 20
"""How often a batch may be lost to the cluster."""
MAX_UNSTORED = 3
"""How often a batch may be trained in vain, while no other is stored."""


class Misfortune(Enum):
    """Why a batch came back without its rows: RAISED by the training, DIED with its worker, STUCK until its time was over, LOST by the
    cluster, or UNSTORED."""

    RAISED = auto()
    DIED = auto()
    STUCK = auto()
    LOST = auto()
    UNSTORED = auto()


@dataclass(frozen=True)
class Attempt:
    """A batch on its way.

    Attributes:
        batch: the batch.
        failures: how often it raised, or its worker died.
        losses: how often the cluster lost it.
        unstored: how often its rows could not be stored, since others could.
        alone: nothing else runs beside it.
    """

    batch: Batch
    failures: int = 0
    losses: int = 0
    unstored: int = 0
    alone: bool = False


def next_attempts(
    attempt: Attempt, misfortune: Misfortune, error: str, others_stored: bool = False
) -> list[Attempt]:
    """What to do next: the same batch again, its halves, or the only job alone; nothing if it is given up.

    Args:
        attempt: the batch, and what befell it before.
        misfortune: what befell it now.
        error: in words.
        others_stored: other batches were stored since this one last was not.
    """
    if misfortune is Misfortune.LOST:
        losses = attempt.losses + 1
        return [replace(attempt, losses=losses)] if losses < MAX_LOSSES else []
    if misfortune is Misfortune.UNSTORED:
        unstored = 1 if others_stored else attempt.unstored + 1
        return [replace(attempt, unstored=unstored)] if unstored < MAX_UNSTORED else []
    died, stuck = misfortune is Misfortune.DIED, misfortune is Misfortune.STUCK
    failures = attempt.failures + 1
    if len(attempt.batch.jobs) > 1:
        if died and failures < MAX_DEATHS:
            return [replace(attempt, failures=failures)]
        return [Attempt(half, losses=attempt.losses) for half in split(attempt.batch)]
    if attempt.alone:
        return []
    if failures < (MAX_STUCK if stuck else MAX_FAILURES):
        return [replace(attempt, failures=failures)]
    return [replace(attempt, failures=failures, alone=True)] if died or "memory" in error.lower() else []


def describe_fate(attempt: Attempt, again: Sequence[Attempt]) -> str:
    """What becomes of a batch, in words: `again` is what `next_attempts` returned."""
    if not again:
        return "failed"
    if len(again) > 1:
        return "failed and is split"
    if again[0].failures == attempt.failures:
        return "came back without its rows and is run again"
    if again[0].alone:
        return "failed and will be tried alone at the end"
    return "failed and is tried again"
