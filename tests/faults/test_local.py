"""Faults of a sweep that trains in its own process: what it writes is what any sweep writes, and a sweep takes milliseconds.

Killed at every step, bits that flip, jobs that raise, storage that takes nothing.
"""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
from waiting import no_longer, wait_for

from faults import killed, steps, sweeps, test_drivers, test_jobs
from phasediag.errors import InputError, PhasediagError
from phasediag.kinds import open_store
from phasediag.storage import files
from phasediag.storage.store import Store
from phasediag.sweep import sweep as driver


def test_a_driver_killed_at_any_step_of_its_writing_is_followed_by_another(tmp_path: Path) -> None:
    """A step is a line of the storage that changes something on disk. That no line is missed is checked in three ways: by the source, all
    lines that look like that are reached; all methods of the store that change something are; and between two steps, whatever the lines
    look like, no more than one thing changes on disk.

    What a driver leaves that is killed at a step is what another one has there: that is compared at every thirteenth step. Another driver
    goes on from each of them."""
    killed_at, told = test_drivers.killed_drivers(tmp_path, "local", 4, 13)
    assert set(map(tuple, told["lines"])) == set(steps.lines().values())
    assert set(told["doors"]) == steps.all_doors()
    assert told["several"] == [] and told["changes"] > 40
    left = list(Path(tmp_path, "left").iterdir())
    assert len(left) == told["steps"] > 100 and len(killed_at) > 5
    study = killed.study()
    for folder in [*left, *(tmp_path / str(step) for step in killed_at)]:
        store = open_store(folder)
        sweeps.check("the driver, which trains itself, is killed at a step of its writing", 1, study, store)
        assert store.sample_ids() == {job.job_id for job in study.sample_jobs()}
        assert store.damaged() == []


def test_a_bit_that_flips_in_a_finished_file_costs_no_row(store: Store) -> None:
    """Its jobs are trained again, wherever in the file the bit is, unless it says nothing: the file is kept for those who want to look at
    it."""
    study, choice, found = sweeps.study_of(2), random.Random(0), 0
    sweeps.sweep_here(study, store, sweeps.nothing)
    runs = Path(store.out, "runs")
    for _ in range(60):
        file = choice.choice(sorted(runs.iterdir()))
        before = file.read_bytes()
        sweeps.flip_bit(file, choice.randrange(8 * len(before)))
        try:
            damaged = store.damaged()
        except InputError as error:  # one bit in thousands makes it look like another program's
            assert "not written by phasediag" in str(error)
            file.write_bytes(before)
            continue
        outcome = sweeps.sweep_here(study, store, sweeps.nothing)
        assert (outcome.finished, outcome.failed) == (12, 0)
        assert (outcome.trained > 0) == bool(damaged)
        sweeps.check("a bit flips in a finished file", 1, study, store)
        found += bool(damaged)
    assert found > 10
    assert list(Path(store.out, "damaged").iterdir())


def test_a_job_that_raises_fails_alone_and_is_tried_again_on_request(store: Store) -> None:
    study = sweeps.study_of()
    poison = sweeps.poisoned(study)
    outcome = sweeps.sweep_here(study, store, test_jobs.raises)
    assert (outcome.finished, set(outcome.failed_ids)) == (59, poison)
    sweeps.check("a job raises in the process of the driver", 1, study, store, failed=poison)
    assert sweeps.sweep_here(study, store, sweeps.nothing, retry_failed=True).failed == 0
    sweeps.check("a job raises in the process of the driver, mended, --retry-failed", 1, study, store)


@pytest.mark.parametrize("times", [3, 1000], ids=["for a while", "for good"])
def test_a_disk_that_takes_nothing_is_waited_for_and_ends_the_sweep_at_last(
    store: Store, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(driver, "STORE_PATIENCE", (0.01,) * 5)
    study, refused = sweeps.study_of(), 0
    replace = files._replace

    def refuse(target: Path, content: bytes, staging: Path) -> None:
        nonlocal refused
        if target.parent.name == "runs" and store.statuses() and refused < times:
            refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(target, content, staging)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_replace", refuse)
        if times < 5:
            assert sweeps.sweep_here(study, store, sweeps.nothing).finished == 60
            fault = "the disk takes nothing for a while, in the process of the driver"
        else:
            with pytest.raises(PhasediagError, match="No space left"):
                sweeps.sweep_here(study, store, sweeps.nothing)
            assert 0 < len(store.statuses()) < 60
            fault = "the disk takes nothing any more, in the process of the driver; resumed after that"
    assert sweeps.sweep_here(study, store, sweeps.nothing).finished == 60
    sweeps.check(fault, refused, study, store)


def test_a_driver_killed_while_it_trains_is_followed_by_another(store: Store, tmp_path: Path) -> None:
    study, never = sweeps.study_of(), sweeps.Rest(str(tmp_path / "never"))
    with no_longer(sweeps.start_driver(store.out, never, executor="local")) as first:
        wait_for(lambda: len(store.statuses()) > 0)
        first.kill()
        first.wait()
    before = len(store.statuses())
    assert 0 < before < 60
    outcome = sweeps.sweep_here(study, store, sweeps.nothing)
    assert (outcome.finished, outcome.trained) == (60, 60 - before)
    sweeps.check("the driver is killed while it trains", 1, study, store)
