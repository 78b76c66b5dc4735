"""The driver on real, local Ray: scheduling, failures, one driver at a time, resuming after a kill.

What the tasks do is replaced by something quick wherever the training itself is not the point.
"""

import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from waiting import wait_for

from phasediag.display.progress import Progress
from phasediag.errors import InputError, PhasediagError
from phasediag.kinds import open_store, parse_spec
from phasediag.phase_diagram.study import PhaseDiagramStudy
from phasediag.phase_diagram.training import failed_rows
from phasediag.spec.data import make_dataset
from phasediag.storage.store import Store
from phasediag.sweep import lease
from phasediag.sweep import sweep as driver
from phasediag.sweep.log import Log

SPEC = """
name = "driver"
kind = "phase-diagram"
network = {{ depth = 2 }}
data = {{ kind = "points", x = [[-1.0], [0.5]], y = [0.5, -0.5] }}
grid = {{ width = [10], gamma = [0.5, 1.0], gamma_prime = [0.0], seeds = {seeds} }}
samples = {{ points = [] }}
resources = {{ {resources} }}
"""


pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "out")


def study(seeds=20, resources=""):
    text = SPEC.format(seeds=seeds, resources=resources)
    data = make_dataset(np.array([[-1.0], [0.5]]), np.array([0.5, -0.5]), "data")
    return PhaseDiagramStudy(parse_spec(text, "driver.toml"), data, "driver.toml")


class Quick:
    """Trains nothing: what it makes of a batch is up to the test."""

    def __init__(self, batch):
        self.batch = batch

    def failed(self, job, error):
        return failed_rows(job, error)


def run(study, store, work=None, **options):
    return driver.run(study, store, Progress(), trainer=Quick(work or succeed), **options)


def succeed(jobs, device, threads):
    return [
        {**row, "status": "converged", "error": "", "relative_change": 1.0}
        for job in jobs
        for row in failed_rows(job, "", device)
    ]


def report_gpu(jobs, *arguments):
    gpus = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    return [{**row, "device": ",".join(gpus)} for row in succeed(jobs, *arguments)]


def raise_for_seed_3(jobs, *arguments):
    if any(job.seed == 3 for job in jobs):
        raise ArithmeticError("no such luck")
    return succeed(jobs, *arguments)


def lose_storage_once(store, marker, jobs, *arguments):
    """Puts a file where the folder of rows should be, for a moment."""
    runs = Path(store.out, "runs")
    if not Path(marker).exists():
        Path(marker).touch()
        runs.touch()
        threading.Timer(1.0, runs.unlink).start()
    return succeed(jobs, *arguments)


def block_runs(store, jobs, *arguments):
    Path(store.out, "runs").touch()
    return succeed(jobs, *arguments)


def assert_every_job_once(store, study):
    files = sorted(Path(store.out, "runs").glob("*.parquet"))
    found = [
        (row["job_id"], row["layer"])
        for file in files
        for row in pq.read_table(file, columns=["job_id", "layer"]).to_pylist()
    ]
    assert sorted(found) == sorted((job.job_id, layer) for job in study.jobs() for layer in ("W1", "a"))


def test_all_jobs_run_once_and_the_lease_ends(store):
    outcome = run(study(), store)
    assert (outcome.total, outcome.finished, outcome.failed, outcome.trained) == (40, 40, 0, 40)
    assert_every_job_once(store, study())
    record = store.read_driver()
    assert (record["state"], record["total"], record["done_at_start"]) == ("finished", 40, 0)
    assert store.exists()
    assert store.read_data()["x"].shape == (2, 1)


def test_storage_that_is_gone_after_the_training_is_not_bad_input(store):
    """Exit 1 rather than 2, also if nothing was left to train."""

    def fit():
        raise InputError("out: cannot be reached")

    for _ in range(2):
        with pytest.raises(PhasediagError, match="cannot be reached") as caught:
            run(study(), store, finish=fit)
        assert not isinstance(caught.value, InputError)
        assert store.read_driver()["state"] == "failed"
    assert_every_job_once(store, study())


def test_the_log_has_a_line_per_batch(store, tmp_path):
    file = tmp_path / "log"
    with closing(Log(file)) as log:
        run(study(), store, raise_for_seed_3, log=log)
    with closing(Log(file)) as log:
        run(study(), store, retry_failed=True, log=log)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [event["event"] for event in events].count("start") == 2
    batches = [event for event in events if event["event"] == "batch"]
    assert sum(event["jobs"] for event in batches) == 40
    assert all(event["statuses"] == {"converged": event["jobs"]} for event in batches)
    assert {"time", "seconds", "predicted_seconds", "evaluations", "worker", "job_id"} <= set(batches[0])
    trouble = [event for event in events if event["event"] == "trouble"]
    assert {event["kind"] for event in trouble} == {"raised"}
    assert all("no such luck" in event["error"] for event in trouble)
    assert events[-1]["event"] == "end" and (events[-1]["finished"], events[-1]["failed"]) == (40, 0)


def test_a_job_alone_goes_to_the_node_with_most_memory_of_those_it_fits_on(monkeypatch):
    nodes = {"a" * 56: (4, 10.0), "b" * 56: (1, 99.0), "c" * 56: (4, 20.0)}
    found = [
        {"NodeID": name, "Alive": True, "Resources": {"CPU": cpus, "memory": memory}}
        for name, (cpus, memory) in nodes.items()
    ]
    monkeypatch.setattr(driver, "_nodes", lambda: found)
    resources = study(resources="cpus_per_task = 2").spec.resources
    assert driver._Cluster(resources, borrowed=True).roomiest().node_id == "c" * 56
    found.clear()
    assert driver._Cluster(resources, borrowed=True).roomiest() == "DEFAULT"


def test_running_again_trains_nothing_and_still_calls_finish(store):
    run(study(), store)
    called = []
    outcome = run(study(), store, raise_for_seed_3, finish=lambda: called.append(True))
    assert (outcome.finished, outcome.trained, called) == (40, 0, [True])


def test_training_itself_and_samples(store):
    here = study(seeds=1)
    samples = here.spec.samples.model_copy(update={"points": ((0.5, 0.0),)})
    here = PhaseDiagramStudy(here.spec.model_copy(update={"samples": samples}), here.data, here.source)
    outcome = driver.run(here, store, Progress())
    assert (outcome.finished, outcome.failed_samples) == (2, 0)
    assert set(store.runs()["status"]) == {"converged"}
    assert store.sample_ids() == {here.sample_jobs()[0].job_id}


def test_tasks_get_the_gpus_they_ask_for(store):
    run(study(resources='device = "cpu", gpus_per_task = 1'), store, report_gpu)
    assert set(store.runs()["device"]) == {"0"}


@pytest.mark.parametrize(
    ("resources", "parts"),
    [
        ("cpus_per_task = 64", ["driver.toml", "cpus_per_task", "64", "up to 2"]),
        ("gpus_per_task = 2", ["driver.toml", "gpus_per_task", "up to 1"]),
        ('device = "cuda"', ["driver.toml", "gpus_per_task", "cuda"]),
    ],
)
def test_impossible_requests_are_refused_and_nothing_is_written(store, resources, parts):
    with pytest.raises(InputError) as caught:
        run(study(resources=resources), store)
    assert all(part in str(caught.value) for part in parts)
    assert not Path(store.out).exists()


def test_a_job_that_raises_fails_alone_and_is_tried_again_on_request(store):
    outcome = run(study(), store, raise_for_seed_3)
    assert (outcome.finished, outcome.failed) == (38, 2)
    failed = store.runs().query("status == 'failed'")
    assert set(failed["seed"]) == {3}
    assert all("ArithmeticError: no such luck" in error for error in failed["error"])
    assert failed["relative_change"].isna().all()
    assert run(study(), store).failed == 2
    assert run(study(), store, retry_failed=True).failed == 0
    assert_every_job_once(store, study())


def test_a_worker_tries_again_to_store_what_it_has_trained(store, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "STORE_PATIENCE", (0.5,) * 6)
    outcome = run(study(), store, functools.partial(lose_storage_once, store, tmp_path / "lost"))
    assert (outcome.finished, outcome.failed) == (40, 0)
    assert_every_job_once(store, study())


def test_rows_that_cannot_be_stored_end_the_sweep(store, monkeypatch):
    monkeypatch.setattr(driver, "STORE_PATIENCE", (0.01, 0.01))
    with pytest.raises(PhasediagError, match="runs"):
        run(study(), store, functools.partial(block_runs, store))
    assert store.read_driver()["state"] == "failed"


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


def test_a_storage_that_is_gone_in_the_middle_is_no_bad_input(store, monkeypatch):
    monkeypatch.setattr(driver, "STORE_PATIENCE", (0.01, 0.01))
    monkeypatch.setattr(Store, "has_runs", lambda *_: (_ for _ in ()).throw(InputError("cannot be reached")))
    with pytest.raises(PhasediagError) as caught:
        run(study(), store, functools.partial(block_runs, store))
    assert not isinstance(caught.value, InputError)


def test_a_driver_that_lost_the_lease_never_writes_it_again(store):
    with lease.hold(store) as held:
        store.write_driver({"token": "another", "state": "running", "host": "elsewhere"})
        with pytest.raises(PhasediagError, match="another driver"):
            held.describe(10, 0)
    assert store.read_driver()["token"] == "another"
    assert not lease.holds(store, held.token)


def test_a_storage_that_errs_says_nothing_of_the_driver_elsewhere(store, monkeypatch):
    monkeypatch.setattr(lease, "SILENCE_SECONDS", 3.0)
    record = {"token": "x", "state": "running", "host": "elsewhere", "heartbeat": time.time()}
    store.write_driver(record)
    read, reads = store.read_driver, []

    def err_at_first():
        reads.append(1)
        if 1 < len(reads) < 4:
            raise InputError("no such luck")
        return read()

    store.read_driver = err_at_first
    assert lease.check_free(store)["token"] == "x"
    assert len(reads) > 4


def test_a_worker_whose_gpu_context_is_lost_ends():
    script = (
        "from phasediag.worker import _leave_if_broken as leave; leave(RuntimeError({!r})); print('goes on')"
    )
    for text, output in (("CUDA error: device-side assert", ""), ("CUDA out of memory", "goes on\n")):
        ended = subprocess.run(
            [sys.executable, "-c", script.format(text)], capture_output=True, text=True, check=False
        )
        assert (ended.stdout, ended.returncode) == (output, 0 if output else 1)
        assert output or text in ended.stderr


def test_a_process_that_has_the_number_of_an_older_one_is_not_taken_for_it():
    record = {"state": "running", "host": socket.gethostname(), "pid": os.getpid(), "heartbeat": time.time()}
    assert lease.is_alive(record)
    if Path("/proc/self/stat").exists():
        assert not lease.is_alive({**record, "process_started": "1"})


SCRIPT = """
import sys
import test_driver
from phasediag.store import Store

test_driver.run(test_driver.study(), open_store(sys.argv[1]), getattr(test_driver, sys.argv[2]))
"""


def report_cluster(jobs, *arguments):
    address = ray.get_runtime_context().gcs_address
    return [{**row, "device": address} for row in succeed(jobs, *arguments)]


def start_driver(out, work, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out), work],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def head():
    """The address of another cluster."""
    port = 6399
    # The paths of Ray's sockets must be short.
    with tempfile.TemporaryDirectory(prefix="pd-", ignore_cleanup_errors=True) as folder:
        yield from run_head(folder, port)


def run_head(folder, port):
    command = (
        f"{Path(sys.executable).parent}/ray start --head --block --node-ip-address=127.0.0.1 --port={port} "
        "--min-worker-port=20000 --max-worker-port=20999 --include-dashboard=false --num-cpus=1 "
        f"--temp-dir={folder} --disable-usage-stats"
    )
    with subprocess.Popen(command.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def test_the_cluster_of_ray_address_is_joined(store, head):
    def joined():
        with start_driver(store.out, "report_cluster", RAY_ADDRESS=head) as process:
            return process.wait(timeout=60) == 0

    wait_for(joined)  # the cluster takes a few seconds to come up
    [address] = set(store.runs()["device"])
    assert address.endswith(head[-5:])
