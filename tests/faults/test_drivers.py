"""Drivers that are killed, at every step of what they write, and two drivers at a time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from waiting import wait_for

from faults import steps, sweeps
from phasediag.errors import InputError, PhasediagError
from phasediag.kinds import open_store
from phasediag.storage.store import Store
from phasediag.sweep import lease


@pytest.mark.usefixtures("two_cores")
def test_a_killed_driver_is_replaced_and_trains_only_what_is_missing(store: Store) -> None:
    study = sweeps.study_of()
    with sweeps.start_driver(store.out, RAY_ADDRESS="") as first:
        wait_for(lambda: len(store.statuses()) > 0)
        first.kill()
        first.wait()
    before = len(store.statuses())
    assert before < 60
    outcome = sweeps.sweep(study, store, sweeps.nothing)
    assert (outcome.finished, outcome.failed) == (60, 0) and outcome.trained <= 60 - before
    time.sleep(1.5)  # for workers of the first driver that might still be there
    sweeps.check("the driver is killed while tasks run", 1, study, store)


STEPS = """
import os, sys
from faults import steps, sweeps
from phasediag.kinds import open_store
from phasediag.sweep.results import fit_folder

study = sweeps.study_of(1)
for step in range(int(sys.argv[2]), 1000, int(sys.argv[3])):
    child = os.fork()  # a driver in a process of its own, without the time that imports take
    if not child:
        store = open_store(f"{sys.argv[1]}/{step}")
        sweeps.make_a_mess(study, store)
        steps.kill_at(step)
        sweeps.sweep(study, store, sweeps.nothing, retry_failed=True, finish=lambda: fit_folder(store))
        print(*sorted(steps.seen), flush=True)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(step, ended, flush=True)
    if ended == 0:
        break
"""


@pytest.mark.parametrize(
    ("first", "stride"), [(5, 25), pytest.param(1, 1, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_a_driver_killed_at_any_step_of_its_writing_is_followed_by_another(
    tmp_path: Path, two_cores: str, first: int, stride: int
) -> None:
    """Each line of the store that changes something on disk is a step, of a sweep that finds failed jobs, repeated rows and litter; the
    last driver comes to its end before it has reached its step."""
    result = subprocess.run(
        [sys.executable, "-c", STEPS, str(tmp_path), str(first), str(stride)],
        env={**os.environ, "RAY_ADDRESS": two_cores},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    *lines, seen, last = result.stdout.splitlines()
    killed = [tuple(map(int, line.split())) for line in lines]
    assert last.split()[1] == "0", result.stderr[-2000:]
    assert set(seen.split()) == steps.WRITING
    assert len(killed) >= 4 and {code for _, code in killed} == {-signal.SIGKILL}
    study = sweeps.study_of(1)
    for step, _ in killed:
        store = open_store(tmp_path / str(step))
        sweeps.sweep(study, store, sweeps.nothing, retry_failed=True)
        sweeps.check("the driver is killed at a step of its writing", 1, study, store)


def test_a_second_driver_is_refused_while_the_first_is_alive(store: Store, two_cores: str) -> None:
    study = sweeps.study_of()
    with sweeps.start_driver(store.out, RAY_ADDRESS=two_cores) as first:
        wait_for(lambda: len(store.statuses()) > 0)
        with pytest.raises(InputError, match="another driver"):
            sweeps.sweep(study, store, sweeps.nothing)
        assert first.wait(timeout=60) == 0
    sweeps.check("a second driver starts", 1, study, store)


def test_a_driver_that_lost_the_race_for_the_folder_stops_and_does_no_harm(
    store: Store, two_cores: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated = sweeps.race(store, two_cores, monkeypatch)
    sweeps.check("two drivers start in the same instant", repeated, sweeps.study_of(20), store)


@pytest.mark.parametrize("ahead", [0.0, 1000.0, -1000.0], ids=["same", "ahead", "behind"])
def test_a_driver_elsewhere_is_alive_as_long_as_its_sign_of_life_changes_whatever_its_clock(
    store: Store, two_cores: str, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    monkeypatch.setattr(lease, "SILENCE_SECONDS", 4.0)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 4.0)
    study, ended = sweeps.study_of(2), threading.Event()
    record = {"token": "x", "state": "running", "host": "elsewhere", "pid": 1}

    def live() -> None:
        while not ended.wait(0.5):
            store.write_driver({**record, "heartbeat": time.time() + ahead})

    thread = threading.Thread(target=live)
    thread.start()
    wait_for(store.read_driver)
    with pytest.raises(InputError, match="elsewhere"):
        sweeps.sweep(study, store, sweeps.nothing)
    ended.set()
    thread.join()
    sweeps.sweep(study, store, sweeps.nothing)
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
