"""Sweeps into an S3 bucket, on a server that fails now and then: moto's, in this process, the workers' S3 client is the real one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
import test_driver
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import make_server

from phasediag import driver
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


def assert_every_job_once(store: Store) -> None:
    runs = pd.read_parquet(f"{store.out}/runs")
    study = test_driver.study()
    assert sorted(zip(runs["job_id"], runs["layer"], strict=True)) == sorted(
        (job.job_id, layer) for job in study.jobs() for layer in ("W1", "a")
    )
    assert set(runs["status"]) == {"converged"}


def test_a_sweep_into_a_bucket_resumes_and_is_read_back(store: Store) -> None:
    outcome = test_driver.run(test_driver.study(seeds=10), store)
    assert (outcome.finished, outcome.failed) == (20, 0)
    outcome = test_driver.run(test_driver.study(), store)
    assert (outcome.finished, outcome.trained) == (40, 20)
    assert_every_job_once(store)
    status = read_status(store)
    assert (status.state, status.finished) == ("complete", 40)
    bucket, root = fs.FileSystem.from_uri(store.out)
    found = bucket.get_file_info(fs.FileSelector(root, recursive=True))
    assert {Path(info.path).suffix for info in found if info.type == fs.FileType.File} == {
        ".parquet",
        ".json",
        ".toml",
        ".npz",
    }


@pytest.mark.parametrize("fault", ["error", "drop"])
def test_requests_that_fail_lose_nothing(
    store: Store, server: Server, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "STORE_PATIENCE", (0.2,) * 10)

    def misbehave() -> None:
        time.sleep(0.5)
        server.fault = fault

    threading.Thread(target=misbehave).start()
    outcome = test_driver.run(test_driver.study(), store, test_driver.slowly)
    server.fault = ""
    assert (outcome.finished, outcome.failed) == (40, 0) and server.faults > 0
    assert_every_job_once(store)


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
    outcome = test_driver.run(test_driver.study(), store, test_driver.slowly)
    assert restarted.wait(30)
    assert (outcome.finished, outcome.failed) == (40, 0)
    assert_every_job_once(store)
