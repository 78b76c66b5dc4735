"""Sweeps into an S3 bucket, on a server that fails now and then: moto's, in this process, the workers' S3 client is the real one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import make_server

from faults import sweeps
from phasediag import driver, lease
from phasediag.errors import InputError
from phasediag.status import read_status
from phasediag.store import Store

logging.getLogger("werkzeug").setLevel(logging.ERROR)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Server:
    """An S3 server that can be stopped and started again with what it holds, and that fails on request.

    Attributes:
        fault: what becomes of every third request: "" for nothing, "error", or (of every tenth, for the client waits longer) "drop".
        faults: how many requests have met it.
    """

    def __init__(self) -> None:
        self.fault, self.faults, self._requests = "", 0, 0
        self._application: Application = DomainDispatcherApplication(create_backend_app)
        self.port = 0
        self.start()

    def __call__(self, environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        self._requests += 1
        if self.fault and self._requests % (10 if self.fault == "drop" else 3) == 0:
            self.faults += 1
            if self.fault == "drop":
                environ["werkzeug.socket"].close()
                return []
            respond("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [b"<Error><Code>InternalError</Code><Message>no such luck</Message></Error>"]
        return self._application(environ, respond)

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self.port, self, threaded=True)
        self.port = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The server, and a Ray whose workers know it from their environment."""
    found = Server()
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{found.port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        patch.setenv(name, value)
    maker, _ = fs.FileSystem.from_uri("s3://bucket?allow_bucket_creation=true")
    maker.create_dir("bucket")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
    )
    yield found
    ray.shutdown()
    found.stop()
    patch.undo()


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Iterator[Store]:
    server.fault, server.faults = "", 0
    yield Store(f"s3://bucket/{tmp_path.name}")
    server.fault = ""


def test_a_sweep_into_a_bucket_resumes_and_is_read_back(store: Store) -> None:
    outcome = sweeps.sweep(sweeps.study_of(5), store, sweeps.nothing)
    assert (outcome.finished, outcome.failed) == (30, 0)
    outcome = sweeps.sweep(study := sweeps.study_of(), store, sweeps.nothing)
    assert (outcome.finished, outcome.trained) == (60, 30)
    sweeps.check("a sweep into a bucket grows", 1, study, store)
    status = read_status(store)
    assert (status.state, status.finished) == ("complete", 60)
    bucket, root = fs.FileSystem.from_uri(store.out)
    found = bucket.get_file_info(fs.FileSelector(root, recursive=True))
    assert {Path(info.path).suffix for info in found if info.type == fs.FileType.File} == {
        ".parquet",
        ".json",
        ".toml",
        ".npz",
    }


@pytest.mark.parametrize(
    ("fault", "name"), [("error", "the bucket answers 500"), ("drop", "the bucket drops connections")]
)
def test_requests_that_fail_lose_nothing(
    store: Store, server: Server, fault: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "STORE_PATIENCE", (0.2,) * 10)

    def misbehave() -> None:
        time.sleep(0.5)
        server.fault = fault

    threading.Thread(target=misbehave).start()
    outcome = sweeps.sweep(study := sweeps.study_of(), store, sweeps.Pause(0.4))
    server.fault = ""
    assert (outcome.finished, outcome.failed) == (60, 0)
    sweeps.check(name, server.faults, study, store)


def test_a_server_that_is_gone_for_a_while_is_waited_for(
    store: Store, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "STORE_PATIENCE", (0.5,) * 20)
    restarted = threading.Event()

    def restart() -> None:
        time.sleep(1.0)
        server.stop()
        time.sleep(3.0)
        server.start()
        restarted.set()

    threading.Thread(target=restart).start()
    outcome = sweeps.sweep(study := sweeps.study_of(), store, sweeps.Pause(0.4))
    assert restarted.wait(30)
    assert (outcome.finished, outcome.failed) == (60, 0)
    sweeps.check("the bucket's server is restarted", 1, study, store)


def test_a_second_driver_is_refused_while_the_first_is_alive_and_a_silent_one_is_replaced(
    store: Store,
) -> None:
    study = sweeps.study_of(2)
    silent = {"token": "x", "state": "running", "host": "elsewhere", "pid": 1, "heartbeat": time.time() - 5}
    store.write_driver(silent)
    with pytest.raises(InputError, match="elsewhere"):
        sweeps.sweep(study, store, sweeps.nothing)
    assert store.statuses() == {}
    store.write_driver({**silent, "heartbeat": time.time() - lease.SILENCE_SECONDS - 1})
    assert sweeps.sweep(study, store, sweeps.nothing).finished == 12
    sweeps.check("a driver elsewhere falls silent, in a bucket", 1, study, store)


def test_a_driver_that_lost_the_race_for_the_bucket_stops_and_does_no_harm(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps.race(store, ray.get_runtime_context().gcs_address, monkeypatch)
    sweeps.check("two drivers start in the same instant, in a bucket", 1, sweeps.study_of(20), store)
