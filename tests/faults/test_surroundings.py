"""What surrounds a sweep: a terminal that takes nothing, containers that look alike, file systems that do less than others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from heads import environment
from waiting import PATIENCE, no_longer, wait_for

from faults import sweeps
from phasediag.storage.store import Store

CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc"]
"""Before a command: process numbers of its own, the name and the folders of this host."""
ASKING = """
import json, sys
from faults import sweeps
from phasediag.errors import InputError
from phasediag.kinds import open_store
from phasediag.sweep.lease import check_free, is_alive
store = open_store(sys.argv[1])
record = store.read_driver()
try:
    check_free(store)
    refused = ""
except InputError as error:
    refused = str(error)
print(json.dumps({"alive": is_alive(store, record), "refused": refused}))
"""
NO_SYNC = """
import errno, os, stat
sync = os.fsync
def refuse(descriptor):
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    sync(descriptor)
os.fsync = refuse
"""


def test_a_driver_is_seen_from_another_container_of_the_same_name(store: Store, tmp_path: Path) -> None:
    if subprocess.run([*CONTAINER, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make namespaces")
    asked = tmp_path / "asked"
    with no_longer(sweeps.start_driver(store.out, sweeps.Rest(str(asked)), executor="local")) as driver:
        wait_for(lambda: len(store.statuses()) > 0)
        command = [*CONTAINER, sys.executable, "-c", ASKING, store.out]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert told["alive"] and "another driver is running it" in told["refused"]
        asked.touch()
        assert driver.wait(timeout=PATIENCE) == 0
    sweeps.check("a second driver starts, in a container of the same name", 1, sweeps.study_of(), store)


def test_a_file_system_that_cannot_synchronise_folders_is_enough(store: Store) -> None:
    with no_longer(
        sweeps.start_driver(store.out, sweeps.Pause(0.0), executor="local", before=NO_SYNC)
    ) as driver:
        assert driver.wait(timeout=PATIENCE) == 0
    sweeps.check("folders cannot be synchronised", 1, sweeps.study_of(), store)


@pytest.mark.slow
def test_a_worker_dies_while_nobody_can_be_told(store: Store, tmp_path: Path) -> None:
    """Standard error is on a full disk: a line that cannot be printed is no reason to end."""
    spec, killed = tmp_path / "spec.toml", tmp_path / "killed"
    spec.write_text(sweeps.SPEC.format(seeds=10))
    script = "from faults import held, sweeps; held.main(sweeps.FORMULA)"
    command = [sys.executable, "-c", script, str(killed), "run", str(spec), "--out", store.out]
    with Path("/dev/full").open("w") as full:
        driver = subprocess.Popen(command, env=environment(), stdout=full, stderr=full, text=True)
    with no_longer(driver):
        wait_for(lambda: len(store.statuses()) > 0 or driver.poll() is not None)
        workers = [
            child
            for child in psutil.Process(driver.pid).children(recursive=True)
            if " ".join(child.cmdline()).startswith(
                "ray::_work"
            )  # not the agents of the node, which dies with them
        ]
        for worker in workers:
            worker.kill()
        killed.touch()
        assert driver.wait(timeout=PATIENCE) == 0
    sweeps.check("workers are killed, and standard error is full", len(workers), sweeps.study_of(), store)
