"""Sweeps into an S3 bucket, on a server that fails now and then: moto's, in this process, the workers' S3 client is the real one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from pyarrow import fs
from waiting import PATIENCE, wait_for

from faults import sweeps
from faults.buckets import SECRET, Server, bucket_server
from phasediag.errors import InputError
from phasediag.kinds import open_store
from phasediag.storage.store import Store
from phasediag.sweep import lease
from phasediag.sweep import sweep as driver
from phasediag.sweep.log import Log
from phasediag.sweep.status import read_status


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with bucket_server() as found:
        yield found


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Iterator[Store]:
    server.fault, server.faults = "", 0
    yield open_store(f"s3://bucket/{tmp_path.name}")
    server.fault = ""


def test_a_sweep_into_a_bucket_resumes_and_is_read_back_and_keeps_no_secret(
    store: Store, two_cores: str, tmp_path: Path
) -> None:
    log_file = tmp_path / "log"
    with closing(Log(log_file)) as log:
        outcome = sweeps.sweep(sweeps.study_of(5), store, sweeps.nothing, log=log)
    assert (outcome.finished, outcome.failed) == (30, 0)
    outcome = sweeps.sweep(study := sweeps.study_of(), store, sweeps.nothing)
    assert (outcome.finished, outcome.trained) == (60, 30)
    sweeps.check("a sweep into a bucket grows", 1, study, store)
    status = read_status(store)
    assert (status.state, status.finished) == ("complete", 60)
    bucket, root = fs.FileSystem.from_uri(store.out)
    found = bucket.get_file_info(fs.FileSelector(root, recursive=True))
    files = [info.path for info in found if info.type == fs.FileType.File]
    assert {Path(path).suffix for path in files} == {".parquet", ".json", ".toml", ".npz"}
    contents = [bucket.open_input_stream(path).read() for path in files]
    assert not any(SECRET.encode() in content for content in [*contents, log_file.read_bytes()])


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("error", "the bucket answers 500"),
        pytest.param("drop", "the bucket drops connections", marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("two_cores")
def test_requests_that_fail_lose_nothing(
    store: Store, server: Server, fault: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long enough for the client to give up, twice in a sweep."""
    monkeypatch.setattr(driver, "STORE_PATIENCE", (0.2,) * 3000)
    done = tmp_path / "done"

    def misbehave() -> None:
        wait_for(store.statuses)
        for _ in range(2):
            before = server.faults
            server.fault = fault
            wait_for(lambda before=before: server.faults > before)  # type: ignore[misc]
            time.sleep(6.0)
            server.fault = ""
        done.touch()

    with ThreadPoolExecutor(1) as pool:
        misbehaved = pool.submit(misbehave)
        outcome = sweeps.sweep(study := sweeps.study_of(), store, sweeps.Hold(0.7, str(done)))
        misbehaved.result()
    assert (outcome.finished, outcome.failed) == (60, 0)
    sweeps.check(name, server.faults, study, store)


@pytest.mark.slow
@pytest.mark.usefixtures("two_cores")
def test_a_server_that_is_gone_for_a_while_is_waited_for(
    store: Store, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "STORE_PATIENCE", (0.5,) * 1200)
    restarted = tmp_path / "restarted"

    def restart() -> None:
        wait_for(store.statuses)
        server.stop()
        time.sleep(3.0)
        server.start()
        restarted.touch()

    with ThreadPoolExecutor(1) as pool:
        restarting = pool.submit(restart)
        outcome = sweeps.sweep(study := sweeps.study_of(), store, sweeps.Hold(0.4, str(restarted)))
        restarting.result()
    assert (outcome.finished, outcome.failed) == (60, 0)
    sweeps.check("the bucket's server is restarted", 1, study, store)


@pytest.mark.slow
def test_a_server_that_is_gone_for_good_ends_the_sweep_with_1_and_another_resumes(
    store: Store, server: Server, two_cores: str, tmp_path: Path
) -> None:
    """By the command line, after a few of the client's own attempts, and not after some for every task in flight."""
    study, gone = sweeps.study_of(), tmp_path / "gone"
    with sweeps.start_impatient(tmp_path, store, gone, RAY_ADDRESS=two_cores) as first:
        wait_for(lambda: len(store.statuses()) > 0)
        server.stop()
        gone.touch()
        try:
            _, errors = first.communicate(timeout=PATIENCE)
        finally:
            server.start()
    assert first.returncode == 1 and "Traceback" not in errors, errors
    assert "cannot be reached" in errors
    assert 0 < len(store.statuses()) < 60
    outcome = sweeps.sweep(study, store, sweeps.nothing)
    assert (outcome.finished, outcome.failed) == (60, 0)
    sweeps.check("the bucket is gone for good; resumed after that", 1, study, store)


def test_a_driver_elsewhere_is_waited_out_if_it_is_silent_and_refused_if_it_is_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = sweeps.study_of(2)
    with sweeps.another_driver(store), pytest.raises(InputError, match="elsewhere"):
        sweeps.sweep_here(study, store, sweeps.nothing)
    assert store.statuses() == {}
    monkeypatch.setattr(lease, "SILENCE_SECONDS", 2.0)
    assert sweeps.sweep_here(study, store, sweeps.nothing).finished == 12
    sweeps.check("a driver elsewhere falls silent, in a bucket", 1, study, store)


@pytest.mark.slow
def test_a_driver_that_lost_the_race_for_the_bucket_stops_and_does_no_harm(
    store: Store, two_cores: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated = sweeps.race(store, two_cores, tmp_path / "signs", monkeypatch)
    sweeps.check("two drivers start in the same instant, in a bucket", repeated, sweeps.study_of(20), store)
