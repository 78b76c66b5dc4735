"""Disks that are full, or that nobody may write to any more, in the middle of a sweep: for a while, or for good."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from studies import OPENINGS
from waiting import PATIENCE, wait_for

from faults import sweeps
from phasediag.errors import InputError
from phasediag.kinds import open_store
from phasediag.storage.store import Store
from phasediag.sweep import sweep as driver

SMALL, LARGE = "size=60k", "size=8m"
Remount = Callable[[str], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Store, Remount]]:
    """A folder on a small disk of its own, in memory, and what changes the options of that disk."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["mount", *arguments, "-o", options, "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    try:
        mounted = mount(SMALL, "-t", "tmpfs").returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a disk")

    def remount(options: str) -> None:
        # Busy as long as a file is open for writing, if it is to become read-only.
        wait_for(lambda: mount(f"remount,{options}", "-t", "tmpfs").returncode == 0)

    yield open_store(folder / "out"), remount
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(
    ("fault", "broken", "executor"),
    [
        ("the disk is full, in the process of the driver", SMALL, "local"),
        pytest.param("the disk is full", SMALL, "ray", marks=pytest.mark.slow),
        pytest.param("the disk is read-only", "ro", "ray", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_takes_nothing_for_a_while_is_waited_for(
    disk: tuple[Store, Remount],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    fault: str,
    broken: str,
    executor: str,
) -> None:
    if executor == "ray":
        request.getfixturevalue("two_cores")
    monkeypatch.setattr(driver, "STORE_PATIENCE", (0.5,) * 1200)
    (store, remount), study, struck = disk, sweeps.study_of(), tmp_path / "struck"
    if broken != SMALL:
        remount(LARGE)
    with ThreadPoolExecutor(1) as pool:
        sweep = pool.submit(sweeps.sweep, study, store, sweeps.Rest(str(struck)), OPENINGS[executor])
        wait_for(lambda: len(store.statuses()) > 0)
        if broken != SMALL:
            remount(broken)
        struck.touch()
        time.sleep(1.0)
        before = settled(store)
        assert 0 < before < 60 and not sweep.done()
        remount(f"rw,{LARGE}")
        outcome = sweep.result()
    assert (outcome.finished, outcome.failed) == (60, 0)
    sweeps.check(f"{fault} for a while", 1, study, store)


def settled(store: Store) -> int:
    """Waits until no more rows arrive, and returns how many jobs have some."""
    found = -1
    while found != (found := len(store.statuses())):
        time.sleep(1.5)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "broken"), [("the disk is full", SMALL), ("the disk is read-only", "ro")])
def test_a_disk_that_takes_nothing_any_more_ends_the_sweep_with_1_and_another_resumes(
    disk: tuple[Store, Remount], two_cores: str, tmp_path: Path, fault: str, broken: str
) -> None:
    """By the command line: exit 2 is for bad input alone."""
    (store, remount), study, struck = disk, sweeps.study_of(), tmp_path / "struck"
    if broken != SMALL:
        remount(LARGE)
    with sweeps.start_impatient(tmp_path, store, struck, RAY_ADDRESS=two_cores) as first:
        wait_for(lambda: len(store.statuses()) > 0)
        if broken != SMALL:
            remount(broken)
        struck.touch()
        _, errors = first.communicate(timeout=PATIENCE)
    assert first.returncode == 1 and "Traceback" not in errors, errors
    assert re.search("error: .*(No space left on device|Read-only file system)", errors)
    assert 0 < len(store.statuses()) < 60
    if broken == "ro":
        with pytest.raises(InputError, match="cannot be written"):
            store.check_writable()
    remount(f"rw,{LARGE}")
    outcome = sweeps.sweep(study, store, sweeps.nothing)
    assert (outcome.finished, outcome.failed) == (60, 0)
    sweeps.check(f"{fault} for good; resumed after that", 1, study, store)
