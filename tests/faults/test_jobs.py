"""Jobs that raise, crash, hang, take all memory or come to nothing: they fail alone, and the rest does not notice.

What a sweep does about those that raise is in `test_local.py` as well, which takes less time.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from studies import trainer_of

from faults import sweeps
from phasediag.kinds import parse_spec
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.study import PhaseDiagramStudy
from phasediag.spec.data import make_dataset
from phasediag.storage.store import Store
from phasediag.sweep import plan, retries
from phasediag.sweep import sweep as driver

pytestmark = pytest.mark.usefixtures("two_cores")


def raises(jobs: Sequence[Job]) -> None:
    if any(map(sweeps.is_poison, jobs)):
        raise ArithmeticError("no such luck")


def crashes(jobs: Sequence[Job]) -> None:
    """A segmentation fault, as compiled code makes them."""
    if any(map(sweeps.is_poison, jobs)):
        ctypes.string_at(0)


def exits(jobs: Sequence[Job]) -> None:
    if any(map(sweeps.is_poison, jobs)):
        os._exit(1)


def hangs(jobs: Sequence[Job]) -> None:
    """Waits where no other thread of Python gets to run."""
    if any(map(sweeps.is_poison, jobs)):
        ctypes.PyDLL(None).sleep(3600)


def hurried(batch: plan.Batch) -> plan.Batch:
    """With a short time limit for those that will hang, and a long one for the others, which may be slow."""
    return replace(batch, limit=3.0 if any(map(sweeps.is_poison, batch.jobs)) else 3600.0)


@pytest.mark.parametrize(
    ("fault", "disturb", "words"),
    [
        pytest.param("a job raises", raises, "ArithmeticError: no such luck", marks=pytest.mark.slow),
        ("a job crashes its worker (SIGSEGV)", crashes, "the worker died: crashed"),
        pytest.param("a job ends its worker", exits, "the worker died", marks=pytest.mark.slow),
        pytest.param("a job hangs", hangs, "not done within 3 s", marks=pytest.mark.slow),
    ],
)
def test_a_poison_job_fails_alone_and_is_tried_again_on_request(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: str, disturb: sweeps.Disturbance, words: str
) -> None:
    study = sweeps.study_of(seeds := 4)
    poison = sweeps.poisoned(study)
    with monkeypatch.context() as patch:
        if disturb is hangs:
            patch.setattr(
                driver, "missing_batches", lambda *them: list(map(hurried, plan.missing_batches(*them)))
            )
            patch.setattr(retries, "split", lambda batch: list(map(hurried, plan.split(batch))))
        outcome = sweeps.sweep(study, store, disturb)
    assert (outcome.finished, set(outcome.failed_ids)) == (6 * seeds - 1, poison)
    assert all(words in error for error in store.runs().query("status == 'failed'")["error"])
    sweeps.check(fault, 1, study, store, failed=poison)
    assert sweeps.sweep(study, store, sweeps.nothing).failed == 1
    assert sweeps.sweep(study, store, sweeps.nothing, retry_failed=True).failed == 0
    sweeps.check(f"{fault}, mended, --retry-failed", 1, study, store)


@dataclass(frozen=True)
class NeedsTheCluster:
    """A job that fits into memory only as long as no other task runs beside it."""

    folder: Path

    def __call__(self, jobs: Sequence[Job]) -> None:
        running = self.folder / f"running-{os.getpid()}"
        running.touch()
        try:
            time.sleep(0.3)
            neighbours = len(list(self.folder.glob("running-*"))) - 1
            if any(map(sweeps.is_poison, jobs)) and (neighbours or not (self.folder / "met").exists()):
                (self.folder / "met").touch()
                raise MemoryError
        finally:
            running.unlink()


def test_a_job_short_of_memory_has_the_cluster_for_itself_at_last(store: Store, tmp_path: Path) -> None:
    study, folder = sweeps.study_of(), tmp_path / "running"
    folder.mkdir()
    outcome = sweeps.sweep(study, store, NeedsTheCluster(folder))
    assert (outcome.finished, outcome.failed) == (60, 0)
    sweeps.check("a job raises MemoryError", 1, study, store)


DIVERGING = """
name = "diverging"
kind = "phase-diagram"
network = { depth = 2 }
data = { kind = "points", x = [[-1.0], [0.5]], y = [0.5, -0.5] }
grid = { width = [10, 40], gamma = [0.5, 1.0, 1.75], gamma_prime = [0.0, 0.5], seeds = 3 }
train = { method = "gd", learning_rate = 10000.0, max_evaluations = 500 }
samples = { points = [] }
"""


def test_a_job_whose_numbers_run_away_harms_none_of_its_batch(store: Store) -> None:
    data = make_dataset(np.array([[-1.0], [0.5]]), np.array([0.5, -0.5]), "data")
    study = PhaseDiagramStudy(parse_spec(DIVERGING, "diverging.toml"), data, "diverging.toml")
    trainer = trainer_of(study)
    outcome = sweeps.sweep_here(study, store, sweeps.nothing, trainer=trainer)
    assert outcome.failed == 0
    statuses = store.statuses()
    diverged = sum(status == "diverged" for status in statuses.values())
    assert 0 < diverged < len(statuses)
    assert store.runs().query("status == 'diverged'")["relative_change"].isna().all()
    sweeps.check("a job returns NaN", diverged, study, store, trainer=trainer)
