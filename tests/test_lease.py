"""Who runs a sweep: signs of life, and what becomes of a driver that was replaced."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from waiting import no_longer, wait_for

from phasediag.errors import InputError, PhasediagError
from phasediag.kinds import open_store
from phasediag.sweep import lease, lifeline


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "out")


def holder():
    """A process that holds a lifeline until it is killed, and the record that it leaves."""
    script = (
        "import json, sys, time; from phasediag.sweep.lifeline import Lifeline; held = Lifeline(sys.argv[1]); "
        "print(json.dumps(held.record), flush=True); time.sleep(3600)"
    )
    token = uuid4().hex
    process = subprocess.Popen([sys.executable, "-c", script, token], stdout=subprocess.PIPE, text=True)
    return process, {
        "token": token,
        "state": "running",
        "heartbeat": time.time(),
        "lifeline": json.loads(process.stdout.readline()),
    }


def test_a_driver_is_there_as_long_as_its_process_is(store):
    """Whatever its sign of life says: it may be stopped for a while, or its storage may be."""
    process, record = holder()
    with process:
        old = {**record, "heartbeat": 0.0}
        assert lease.process_is_there(record) is True
        assert lease.is_alive(store, old) is True
        assert not lease.is_alive(store, {**record, "state": "interrupted"})
        process.kill()
        process.wait()
        assert lease.process_is_there(record) is False
        assert lease.is_alive(store, record) is False
    lifeline.remove(record["token"])


def test_a_process_that_was_not_waited_for_yet_is_gone(store):
    process, record = holder()
    with process:
        process.kill()
        wait_for(lambda: lease.process_is_there(record) is False)
    lifeline.remove(record["token"])


@pytest.mark.parametrize(
    "ask", ["unshare --pid --fork --mount-proc", "unshare --uts --pid --fork --mount-proc"]
)
def test_another_container_with_the_same_host_name_sees_it_run(store, ask):
    """Process numbers are others there, and the temporary folder is the same."""
    if subprocess.run([*ask.split(), "true"], capture_output=True).returncode:
        pytest.skip("needs the rights to make namespaces")
    process, record = holder()
    with no_longer(process):
        script = "import json, sys; from phasediag.sweep.lease import process_is_there; print(process_is_there(json.loads(sys.argv[1])))"
        asked = [*ask.split(), sys.executable, "-c", script, json.dumps(record)]
        there = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        process.kill()
        process.wait()
        gone = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert (there, gone) == ("True\n", "False\n")
    lifeline.remove(record["token"])


@pytest.mark.parametrize(
    "sight", ["cleared", "another token", "another start", "a pipe", "a folder", "of an earlier version"]
)
def test_what_says_nothing_of_a_process_is_not_taken_for_its_end(store, tmp_path, sight):
    """A container with a temporary folder of its own; a machine that is cloned, or has started since; files of others."""
    process, record = holder()
    process.kill()
    process.wait()
    process.stdout.close()
    file = Path(record["lifeline"]["file"])
    assert lease.process_is_there(record) is False
    if sight == "cleared":
        file.unlink()
    elif sight == "another token":
        file.write_text("someone else's")
    elif sight == "another start":
        record["lifeline"]["boot"] = "of another machine"
    elif sight == "a pipe":
        os.mkfifo(tmp_path / "pipe")
        record["lifeline"]["file"] = str(tmp_path / "pipe")
    elif sight == "a folder":
        record["lifeline"]["file"] = str(tmp_path)
    else:
        record = {**record, "host": socket.gethostname(), "pid": 2**22 + 1, "lifeline": None}
    assert lease.process_is_there(record) is None
    assert lease.is_alive(store, record), "its sign of life is fresh"
    lifeline.remove(record["token"])


@pytest.mark.parametrize(
    ("age", "beating", "alive"),
    [(5, False, True), (1000, True, True), (-1000, True, True), (1000, False, False), (-1000, False, False)],
)
def test_elsewhere_its_sign_of_life_decides_whatever_its_clock(store, monkeypatch, age, beating, alive):
    monkeypatch.setattr(lease, "time", Clock())
    record = {"token": "x", "state": "running", "host": "elsewhere", "heartbeat": lease.time.time() - age}
    store.write_driver(record)
    read = store.read_driver
    store.read_driver = lambda: {
        **read(),
        "heartbeat": record["heartbeat"] + (lease.time.now % 1000 if beating else 0),
    }
    assert lease.is_alive(store, record) is alive


def test_nothing_is_left_of_a_lease_that_is_released(store):
    with lease.hold(store):
        file = Path(store.read_driver()["lifeline"]["file"])
        assert file.read_text() == store.read_driver()["token"]
    assert not file.exists()


def test_a_driver_goes_on_without_a_temporary_folder(store, monkeypatch):
    monkeypatch.setattr(lifeline, "_path", lambda token: Path("/proc/nowhere", str(token)))
    with lease.hold(store) as held:
        assert store.read_driver()["lifeline"] is None
        assert lease.holds(store, held.token)


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
