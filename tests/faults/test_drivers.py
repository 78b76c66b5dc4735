"""Drivers that are killed, at every step of what they write, and two drivers at a time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from heads import ONE_WORKER
from waiting import PATIENCE, no_longer, wait_for

from faults import sweeps
from phasediag.errors import InputError, PhasediagError
from phasediag.kinds import open_store
from phasediag.storage.store import Store
from phasediag.sweep import lease


def test_a_killed_driver_is_replaced_and_trains_only_what_is_missing(store: Store, tmp_path: Path) -> None:
    """One with a Ray of its own, by one that trains in its own process."""
    study, never = sweeps.study_of(), sweeps.Rest(str(tmp_path / "never"))
    with no_longer(sweeps.start_driver(store.out, never, RAY_ADDRESS="", **ONE_WORKER)) as first:
        wait_for(lambda: len(store.statuses()) > 0)
        first.kill()
        first.wait()
    before = len(store.statuses())
    assert before < 60
    outcome = sweeps.sweep_here(study, store, sweeps.nothing)
    assert (outcome.finished, outcome.failed) == (60, 0) and outcome.trained <= 60 - before
    time.sleep(1.5)  # for workers of the first driver that might still be there
    sweeps.check("the driver is killed while tasks run", 1, study, store)


@pytest.mark.parametrize(
    ("first", "stride"), [(5, 40), pytest.param(8, 10, marks=pytest.mark.slow)], ids=["some", "more"]
)
def test_a_driver_killed_at_a_step_of_its_writing_is_followed_by_another(
    tmp_path: Path, two_cores: str, first: int, stride: int
) -> None:
    """All steps, on an executor that takes less time: `test_local.py`."""
    killed, _ = killed_drivers(tmp_path, "ray", first, stride, RAY_ADDRESS=two_cores)
    assert len(killed) >= 3
    study = sweeps.study_of(1)
    for step in killed:
        store = open_store(tmp_path / str(step))
        sweeps.sweep(study, store, sweeps.nothing, retry_failed=True)
        sweeps.check("the driver is killed at a step of its writing", 1, study, store)


def killed_drivers(
    folder: Path, executor: str, first: int, stride: int, **environment: str
) -> tuple[list[int], dict[str, Any]]:
    """Has drivers killed at steps of their writing: these steps, and what the last driver tells, which was not killed."""
    result = subprocess.run(
        [sys.executable, "-m", "faults.killed", str(folder), executor, str(first), str(stride)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=6 * PATIENCE,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    told: dict[str, Any] = {}
    for line in result.stdout.splitlines():
        told |= (found := json.loads(line))
        if "ended" in found:
            assert found["ended"] in (0, -signal.SIGKILL), result.stderr[-2000:]
            assert found.get("same", True), "a driver that is killed leaves something else"
    assert told["ended"] == 0 and told["steps"] < told["step"]
    return list(range(first, told["step"], stride)), told


def test_a_second_driver_is_refused_while_the_first_is_alive(store: Store, tmp_path: Path) -> None:
    study, refused = sweeps.study_of(), tmp_path / "refused"
    with no_longer(sweeps.start_driver(store.out, sweeps.Rest(str(refused)), executor="local")) as first:
        wait_for(lambda: len(store.statuses()) > 0)
        with pytest.raises(InputError, match="another driver"):
            sweeps.sweep_here(study, store, sweeps.nothing)
        refused.touch()
        assert first.wait(timeout=PATIENCE) == 0
    sweeps.check("a second driver starts", 1, study, store)


def test_a_driver_that_lost_the_race_for_the_folder_stops_and_does_no_harm(
    store: Store, two_cores: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated = sweeps.race(store, two_cores, tmp_path / "signs", monkeypatch)
    sweeps.check("two drivers start in the same instant", repeated, sweeps.study_of(20), store)


@pytest.mark.parametrize("ahead", [0.0, 1000.0, -1000.0], ids=["same", "ahead", "behind"])
def test_a_driver_elsewhere_is_alive_as_long_as_its_sign_of_life_changes_whatever_its_clock(
    store: Store, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    study = sweeps.study_of(2)
    monkeypatch.setattr(lease, "LOOK_SECONDS", PATIENCE)
    with sweeps.another_driver(store, ahead), pytest.raises(InputError, match="elsewhere"):
        sweeps.sweep_here(study, store, sweeps.nothing)
    monkeypatch.setattr(lease, "SILENCE_SECONDS", 4.0)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 4.0)
    sweeps.sweep_here(study, store, sweeps.nothing)
    found = store.read_driver()
    assert found is not None and (found["state"], found["host"]) == ("finished", socket.gethostname())
    sweeps.check("a driver elsewhere falls silent", 1, study, store)


@dataclass(frozen=True)
class Usurp:
    """Another driver takes over as the first task begins."""

    store: Store

    def __call__(self, jobs: object) -> None:
        self.store.write_driver({"token": "another driver", "state": "running", "host": "elsewhere"})


def test_workers_of_a_driver_that_was_replaced_publish_nothing(store: Store, two_cores: str) -> None:
    with pytest.raises(PhasediagError):
        sweeps.sweep(sweeps.study_of(), store, Usurp(store))
    assert store.statuses() == {}
    record = store.read_driver()
    assert record is not None and record["token"] == "another driver"
