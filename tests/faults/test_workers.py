"""Workers that are killed: from outside at any time, and at every step of what they write."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from waiting import wait_for

from faults import steps, sweeps
from phasediag.phase_diagram.jobs import Job
from phasediag.storage.store import Store
from phasediag.sweep.log import Log

pytestmark = pytest.mark.usefixtures("two_cores")


@dataclass(frozen=True)
class Sign:
    """Leaves the number of the process in a folder while a batch lasts."""

    folder: Path
    hold: sweeps.Hold

    def __call__(self, jobs: Sequence[Job]) -> None:
        sign = self.folder / str(os.getpid())
        sign.touch()
        self.hold(jobs)
        sign.unlink(missing_ok=True)


def kill_one(folder: Path, choice: random.Random) -> bool:
    """Kills a worker that is at work, if there is one."""
    for sign in choice.sample(found := sorted(folder.iterdir()), len(found)):
        with suppress(FileNotFoundError, ProcessLookupError):
            sign.unlink()  # it has not ended meanwhile
            os.kill(int(sign.name), signal.SIGKILL)
            return True
    return False


def test_workers_that_are_killed_cost_no_row(store: Store, tmp_path: Path) -> None:
    study, folder, choice = sweeps.study_of(), tmp_path / "at-work", random.Random(0)
    folder.mkdir()
    kills, killed = 5, tmp_path / "killed"
    with ThreadPoolExecutor(1) as pool:
        sweep = pool.submit(sweeps.sweep, study, store, Sign(folder, sweeps.Hold(0.6, str(killed))))
        for _ in range(kills):
            wait_for(lambda: sweep.done() or kill_one(folder, choice))
            assert not sweep.done()
            time.sleep(choice.uniform(0.2, 0.8))
        killed.touch()
        outcome = sweep.result()
    assert (outcome.finished, outcome.failed) == (60, 0)
    sweeps.check("a worker is killed", kills, study, store)


@dataclass(frozen=True)
class DieAtStep:
    """Ends the worker of every batch once, each at a later step of its writing."""

    folder: Path
    stride: int

    def __call__(self, jobs: Sequence[Job]) -> None:
        steps.stop()
        try:
            (self.folder / f"batch-{jobs[0].job_id}").touch(exist_ok=False)
        except FileExistsError:
            return
        while True:
            kills = len(list(self.folder.glob("step-*")))
            with suppress(FileExistsError):
                (self.folder / f"step-{kills}").touch(exist_ok=False)
                break
        steps.kill_at(1 + kills * self.stride)


@pytest.mark.parametrize("stride", [2, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_a_worker_killed_at_any_step_of_its_writing_costs_no_row(
    store: Store, tmp_path: Path, stride: int
) -> None:
    study, folder = sweeps.study_of(20), tmp_path / "steps"
    # More tasks at a time than cores: more and smaller batches, each of which is killed once.
    resources = study.spec.resources.model_copy(update={"cpus_per_task": 0.25 if stride == 1 else 1.0})
    study = type(study)(study.spec.model_copy(update={"resources": resources}), study.data, study.source)
    folder.mkdir()
    file = tmp_path / "log"
    with closing(Log(file)) as log:
        outcome = sweeps.sweep(study, store, DieAtStep(folder, stride), log=log)
    assert (outcome.finished, outcome.failed) == (120, 0)
    deaths = file.read_text().count('"kind": "died"')
    # Those that were to die later than at the last step did not.
    assert deaths < len(list(folder.glob("step-*")))
    sweeps.check("a worker is killed at a step of its writing", deaths, study, store)
