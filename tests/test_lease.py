"""Who runs a sweep: signs of life, and what becomes of a driver that was replaced."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phasediag.errors import InputError, PhasediagError
from phasediag.kinds import open_store
from phasediag.sweep import lease


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "out")


@pytest.mark.parametrize(
    ("age", "host", "alive"),
    [(5, "elsewhere", True), (120, "elsewhere", False), (5, socket.gethostname(), False)],
)
def test_a_driver_is_alive_by_its_heartbeat_or_its_process(age, host, alive):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    record = {"state": "running", "host": host, "pid": ended.pid, "heartbeat": time.time() - age}
    assert lease.is_alive(record) is alive
    assert not lease.is_alive({**record, "state": "interrupted"})


def test_a_driver_that_lost_the_lease_never_writes_it_again(store):
    with lease.hold(store) as held:
        store.write_driver({"token": "another", "state": "running", "host": "elsewhere"})
        with pytest.raises(PhasediagError, match="another driver"):
            held.describe(10, 0)
    assert store.read_driver()["token"] == "another"
    assert not lease.holds(store, held.token)


def test_a_storage_that_errs_says_nothing_of_the_driver_elsewhere(store, monkeypatch):
    record = {"token": "x", "state": "running", "host": "elsewhere", "heartbeat": time.time()}
    monkeypatch.setattr(lease, "time", Clock())
    store.write_driver(record)
    read, reads = store.read_driver, []

    def err_at_first():
        reads.append(1)
        if 1 < len(reads) < 4:
            raise InputError("no such luck")
        return read()

    store.read_driver = err_at_first
    assert lease.check_free(store)["token"] == "x"
    assert len(reads) == 1 + lease.SILENCE_SECONDS / lease._WATCH_SECONDS


class Clock:
    """Time that passes only as one sleeps."""

    def __init__(self):
        self.now = time.time()

    def time(self):
        return self.now

    monotonic = time

    def sleep(self, seconds):
        self.now += seconds


def test_a_process_that_has_the_number_of_an_older_one_is_not_taken_for_it():
    record = {"state": "running", "host": socket.gethostname(), "pid": os.getpid(), "heartbeat": time.time()}
    assert lease.is_alive(record)
    if Path("/proc/self/stat").exists():
        assert not lease.is_alive({**record, "process_started": "1"})
