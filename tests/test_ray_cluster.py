"""Facts about Ray that a sweep counts on, one test each, on real, local Ray."""

import functools
import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import ray
from free_ports import free_port
from heads import ONE_WORKER, environment, head
from studies import sweep
from test_sweep import Quick, assert_every_job_once, study, succeed
from waiting import PATIENCE, wait_for

from phasediag.errors import InputError
from phasediag.kinds import open_store
from phasediag.sweep import ray_cluster
from phasediag.sweep.executor import Place
from phasediag.sweep.plan import make_batches

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "out")


def run(study, store, work=None, **options):
    return sweep(study, store, trainer=Quick(work or succeed), **options)


def report_gpu(jobs, *arguments):
    gpus = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    return [{**row, "device": ",".join(gpus)} for row in succeed(jobs, *arguments)]


def report_cluster(jobs, *arguments):
    address = ray.get_runtime_context().gcs_address
    return [{**row, "device": address} for row in succeed(jobs, *arguments)]


def die_for_seed_3(jobs, *arguments):
    if any(job.seed == 3 for job in jobs):
        os.kill(os.getpid(), signal.SIGKILL)
    return succeed(jobs, *arguments)


def lose_the_gpu(marker, jobs, *arguments):
    if not Path(marker).exists():
        Path(marker).write_text(str(os.getpid()))
        raise RuntimeError("CUDA error: device-side assert triggered")
    return [{**row, "device": f"{os.getpid()}"} for row in succeed(jobs, *arguments)]


def test_a_job_alone_goes_to_the_node_with_most_memory_of_those_it_fits_on(monkeypatch):
    nodes = {"a" * 56: (4, 10.0), "b" * 56: (1, 99.0), "c" * 56: (4, 20.0)}
    found = [
        {"NodeID": name, "Alive": True, "Resources": {"CPU": cpus, "memory": memory}}
        for name, (cpus, memory) in nodes.items()
    ]
    monkeypatch.setattr(ray_cluster, "_nodes", lambda: found)
    cluster = ray_cluster.RayCluster(study(resources="cpus_per_task = 2"), borrowed=True)
    assert cluster._roomiest().node_id == "c" * 56
    found.clear()
    assert cluster._roomiest() == "DEFAULT"


@pytest.mark.parametrize(("share", "at_a_time"), [(1, 1), (0.5, 2)])
def test_tasks_get_the_gpus_they_ask_for(store, share, at_a_time):
    """Two tasks of a half each run on one GPU at a time, and no third one, as there are two cores."""
    here = study(resources=f'device = "cpu", gpus_per_task = {share}')
    run(here, store, report_gpu)
    assert set(store.runs()["device"]) == {"0"}
    assert ray_cluster.RayCluster(here, borrowed=True).slots() == at_a_time


@pytest.mark.parametrize(
    ("resources", "parts"),
    [
        ("cpus_per_task = 64", ["sweep.toml", "cpus_per_task", "64", "up to 2"]),
        ("gpus_per_task = 2", ["sweep.toml", "gpus_per_task", "up to 1"]),
        ('device = "cuda"', ["sweep.toml", "gpus_per_task", "cuda"]),
    ],
)
def test_impossible_requests_are_refused_and_nothing_is_written(store, resources, parts):
    with pytest.raises(InputError) as caught:
        run(study(resources=resources), store)
    assert all(part in str(caught.value) for part in parts)
    assert not Path(store.out).exists()


@pytest.mark.parametrize("share", [0, 1])
def test_a_cluster_without_gpus_is_told_first(monkeypatch, share):
    monkeypatch.setattr(ray_cluster, "_resources", lambda: [{"CPU": 2.0}])
    here = study(resources=f'device = "cuda", gpus_per_task = {share}')
    told = "^sweep.toml: resources.device: 'cuda', but no node of the cluster has a GPU; allowed: auto, cpu$"
    with pytest.raises(InputError, match=told):
        ray_cluster._checked(ray_cluster.RayCluster(here, borrowed=True), "sweep.toml")


def test_a_job_that_kills_its_worker_fails_alone(store):
    outcome = run(study(5), store, die_for_seed_3)
    assert (outcome.finished, outcome.failed) == (8, 2)
    failed = store.runs().query("status == 'failed'")
    assert set(failed["seed"]) == {3} and all("worker died" in error for error in failed["error"])
    assert_every_job_once(store, study(5))


def test_a_worker_whose_gpu_is_lost_ends_and_another_one_goes_on(store, tmp_path):
    marker = tmp_path / "lost"
    outcome = run(study(), store, functools.partial(lose_the_gpu, marker))
    assert (outcome.finished, outcome.failed) == (40, 0)
    assert marker.read_text() not in set(store.runs()["device"])


def test_tasks_have_numbers_of_their_own_and_all_come_back(store):
    from phasediag.kinds import named
    from phasediag.sweep.lease import hold
    from phasediag.sweep.worker import Shared

    here = study(4)
    cluster = ray_cluster.RayCluster(here, borrowed=True)
    batches = make_batches(here.jobs(), here.cost, 2)
    with hold(store) as lease:
        trainer = named(here.kind).trainer(here)
        cluster.share(Shared(trainer, here.spec.resources, store, lease.token, (0.1,)))
        places = [Place.ANYWHERE, Place.ELSEWHERE, Place.ALONE]
        numbers = {
            cluster.submit(batch, places[index % 3]) for index, batch in zip(count(), batches, strict=False)
        }
        ended = []
        wait_for(lambda: ended.extend(cluster.wait(1.0)) or len(ended) == len(numbers))
    assert {one.task for one in ended} == numbers
    assert sum(one.result.statuses["converged"] for one in ended) == len(here.jobs())


# A Ray of its own.

SCRIPT = """
import json, os, sys
import joblib  # which sets a variable as it is imported
before = dict(os.environ)
import ray, test_ray_cluster, test_sweep
from phasediag.kinds import open_store

patched = ray._private.worker.print_to_stdstream, ray._private.services.resolve_ip_for_localhost
for folder in sys.argv[2:]:
    test_ray_cluster.run(test_sweep.study(), open_store(folder), getattr(test_ray_cluster, sys.argv[1]))
assert patched == (ray._private.worker.print_to_stdstream, ray._private.services.resolve_ip_for_localhost)
print(json.dumps({name: os.environ.get(name) for name in before.keys() | os.environ.keys()
                  if before.get(name) != os.environ.get(name)}))
"""


def start_driver(out, work, *more, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, work, str(out), *map(str, more)],
        env={**os.environ, **ONE_WORKER, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_process_is_after_a_sweep_what_it_was_before(store, tmp_path):
    """Its environment, and what is patched in Ray; and a second sweep starts a Ray again."""
    process = start_driver(
        store.out, "report_cluster", tmp_path / "second", RAY_AUTH_TOKEN="", RAY_ADDRESS=""
    )
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert output.strip().splitlines()[-1] == "{}"
    first, second = (set(open_store(out).runs()["device"]) for out in (store.out, tmp_path / "second"))
    assert len(first) == len(second) == 1 and first != second


@pytest.fixture
def address():
    """The address of another cluster."""
    port = free_port()
    with head("--include-dashboard=false", f"--dashboard-agent-listen-port={free_port()}", port=port):
        yield f"127.0.0.1:{port}"


def test_the_cluster_of_ray_address_is_joined(store, address):
    def joined():
        with start_driver(store.out, "report_cluster", **environment(RAY_ADDRESS=address)) as process:
            return process.wait(timeout=PATIENCE) == 0

    wait_for(joined)  # the cluster takes a few seconds to come up
    [found] = set(store.runs()["device"])
    assert found.rpartition(":")[2] == address.rpartition(":")[2]
