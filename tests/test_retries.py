"""What becomes of batches that come back without rows: every job ends, and only those at fault as failed."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given, settings
from hypothesis import strategies as st

from phasediag.phase_diagram.jobs import Job
from phasediag.sweep.plan import Batch
from phasediag.sweep.retries import (
    MAX_DEATHS,
    MAX_FAILURES,
    MAX_LOSSES,
    MAX_STUCK,
    MAX_UNSTORED,
    Attempt,
    Misfortune,
    next_attempts,
)


def batch_of(jobs: int) -> Batch:
    return Batch(tuple(Job(str(k), 2, 10, 10, 1.0, 0.0, 0.0, k) for k in range(jobs)), 1.0, limit=7.0)


def played(
    batch: Batch, poison: dict[int, Misfortune], losses: list[bool], error: str = "boom"
) -> Counter[tuple[str, int]]:
    """Runs a batch in which some jobs always meet a misfortune, on a cluster that loses some of the attempts."""
    ends: Counter[tuple[str, int]] = Counter()
    waiting, lost = deque([Attempt(batch)]), deque(losses)
    for _ in range(100_000):
        if not waiting:
            return ends
        attempt = waiting.popleft()
        troubles = [poison[job.seed] for job in attempt.batch.jobs if job.seed in poison]
        if lost and lost.popleft():
            troubles = [Misfortune.LOST]
        if not troubles:
            ends.update(("finished", job.seed) for job in attempt.batch.jobs)
            continue
        again = next_attempts(attempt, troubles[0], error)
        if not again:
            ends.update(("failed", job.seed) for job in attempt.batch.jobs)
        waiting.extendleft(reversed(again))
    raise AssertionError("it does not end")


@settings(max_examples=200, deadline=None)
@given(
    jobs=st.integers(1, 40),
    poison=st.dictionaries(
        st.integers(0, 39),
        st.sampled_from([Misfortune.RAISED, Misfortune.DIED, Misfortune.STUCK]),
        max_size=6,
    ),
    losses=st.lists(st.booleans(), max_size=MAX_LOSSES - 1),
)
def test_every_job_ends_once_and_only_the_poisoned_ones_fail(
    jobs: int, poison: dict[int, Misfortune], losses: list[bool]
) -> None:
    poison = {seed: what for seed, what in poison.items() if seed < jobs}
    ends = played(batch_of(jobs), poison, losses)
    assert ends == Counter(("failed" if seed in poison else "finished", seed) for seed in range(jobs))


def ladder(misfortune: Misfortune, error: str = "") -> list[Attempt]:
    """The attempts of a single job that always meets the same misfortune."""
    attempts = [Attempt(batch_of(1))]
    while again := next_attempts(attempts[-1], misfortune, error):
        attempts += again
    return attempts


def test_a_job_whose_worker_dies_is_tried_alone_at_last() -> None:
    attempts = ladder(Misfortune.DIED)
    assert [attempt.alone for attempt in attempts] == [*[False] * MAX_FAILURES, True]


def test_a_job_that_raises_is_tried_alone_only_if_memory_may_help() -> None:
    assert [attempt.alone for attempt in ladder(Misfortune.RAISED, "ValueError: no")] == [
        False
    ] * MAX_FAILURES
    assert ladder(Misfortune.RAISED, "RuntimeError: not enough memory: you tried")[-1].alone
    assert ladder(Misfortune.RAISED, "MemoryError")[-1].alone


def test_a_job_that_gets_stuck_has_few_tries_and_none_alone() -> None:
    assert [attempt.alone for attempt in ladder(Misfortune.STUCK)] == [False] * MAX_STUCK
    assert len(next_attempts(Attempt(batch_of(4)), Misfortune.STUCK, "")) == 2


def test_a_batch_that_cannot_be_stored_while_others_are_is_not_given_up() -> None:
    attempt = Attempt(batch_of(1))
    for _ in range(3 * MAX_UNSTORED):
        [attempt] = next_attempts(attempt, Misfortune.UNSTORED, "", others_stored=True)
    assert attempt.unstored == 1


def test_budgets_are_separate() -> None:
    assert len(ladder(Misfortune.LOST)) == MAX_LOSSES
    assert len(ladder(Misfortune.UNSTORED)) == MAX_UNSTORED
    [attempt] = next_attempts(Attempt(batch_of(1), failures=MAX_FAILURES - 1), Misfortune.LOST, "")
    assert (attempt.failures, attempt.losses) == (MAX_FAILURES - 1, 1)


def test_a_batch_survives_a_death_whole_and_is_split_at_the_next() -> None:
    attempt = Attempt(batch_of(5), losses=2)
    for _ in range(MAX_DEATHS - 1):
        [attempt] = next_attempts(attempt, Misfortune.DIED, "")
        assert len(attempt.batch.jobs) == 5
    halves = next_attempts(attempt, Misfortune.DIED, "")
    assert [len(half.batch.jobs) for half in halves] == [2, 3]
    assert all((half.failures, half.losses, half.batch.limit) == (0, 2, 7.0) for half in halves)
