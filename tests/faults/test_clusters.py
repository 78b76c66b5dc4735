"""Clusters as operators have them: submitted sweeps, one that is stopped, a head that dies."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest
from free_ports import free_port
from heads import METRICS, command, environment, head
from studies import trainer_of
from waiting import PATIENCE, no_longer, wait_for

from faults import sweeps
from phasediag.kinds import open_store, read_study
from phasediag.storage.store import Store

SPEC = """
name = "submitted"
kind = "phase-diagram"
network = { depth = 2 }
data = { kind = "points", x = [[-1.0], [-0.35], [0.3], [1.0]], y = [0.6, -0.4, 0.5, -0.2] }
grid = { width = [20, 80], gamma = [0.5, 1.0, 1.75], gamma_prime = [0.0], seeds = 2 }
samples = { points = [] }
"""


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=PATIENCE)


def submit(
    dashboard: str, folder: Path, text: str, out: Path, *options: str, program: str = "phasediag"
) -> subprocess.CompletedProcess[str]:
    """`ray job submit` as in the README; tried again as long as the cluster has not quite come up."""
    folder.mkdir(exist_ok=True)
    (folder / "spec.toml").write_text(text)
    line = command(
        f"ray job submit --address {dashboard} --working-dir {folder} {' '.join(options)} -- "
        f"python -m {program} run spec.toml --out {out}"
    )
    job, end = run(line), time.monotonic() + PATIENCE
    while "No available agent" in job.stderr and time.monotonic() < end:
        job = run(line)  # the dashboard is up a little earlier than what starts jobs
    return job


def wait_for_end(out: Path) -> None:
    """`phasediag status --wait`, from another process than the cluster's."""
    line = [sys.executable, "-m", "phasediag", "status", str(out), "--wait"]
    waited = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    assert waited.returncode == 0, waited.stdout + waited.stderr


def test_a_submitted_sweep_joins_the_cluster_and_finishes(dashboard: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = submit(dashboard, tmp_path / "work", SPEC, out)
    assert "12 of 12 jobs finished, 0 failed" in job.stdout, job.stdout + job.stderr
    assert "ray.init" not in job.stdout
    wait_for_end(out)
    runs = pd.read_parquet(out / "runs")
    assert len(runs) == 24
    assert not runs.duplicated(["job_id", "layer"]).any()
    assert (out / "figures" / "slope_map_W1.png").stat().st_size > 0


def exported(dashboard: str, study: str) -> dict[str, float]:
    """What the node exports of the sweeps of a study to Prometheus, by name (the sum over other labels)."""
    found: dict[str, float] = {}
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{METRICS[dashboard]}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return found
    for line in lines:
        if line.startswith("ray_phasediag_") and f'study="{study}"' in line:
            name, _, value = line.partition("{")[0], *line.rpartition(" ")[1:]
            found[name] = found.get(name, 0.0) + float(value)
    return found


METRICS_OF_A_SWEEP = {
    "ray_phasediag_jobs_done_total",
    "ray_phasediag_jobs_in_flight",
    "ray_phasediag_evaluations_total",
    "ray_phasediag_evaluations_per_second",
    "ray_phasediag_batch_seconds_sum",
}


@pytest.mark.slow
def test_a_sweep_shows_its_metrics_is_stopped_and_resumes(dashboard: str, tmp_path: Path) -> None:
    out, work, seen = tmp_path / "out", tmp_path / "work", set[str]()
    store, text = open_store(out), sweeps.SPEC.format(seeds=10)
    options = ("--no-wait", "--submission-id=to-be-stopped")
    job = submit(dashboard, work, text, out, *options, program=f"faults.held {tmp_path / 'never'}")
    assert job.returncode == 0, job.stderr

    def all_seen() -> bool:
        """Not at once: a rate is that of the last ten seconds."""
        seen.update(name for name, value in exported(dashboard, "faults").items() if value > 0)
        return seen >= METRICS_OF_A_SWEEP

    wait_for(all_seen)
    stop = run(command(f"ray job stop --address {dashboard} to-be-stopped"))
    assert stop.returncode == 0, stop.stderr
    before = len(store.statuses())
    job = submit(dashboard, work, text, out)
    assert "60 of 60 jobs finished, 0 failed" in job.stdout, job.stdout + job.stderr
    assert 0 < before < 60
    wait_for_end(out)
    study = read_study(work / "spec.toml")
    sweeps.check("ray job stop, submitted again", 1, study, store, trainer=trainer_of(study))


@pytest.mark.slow
def test_a_head_that_dies_is_followed_by_a_new_cluster(store: Store, tmp_path: Path) -> None:
    port, study, never = free_port(), sweeps.study_of(), sweeps.Hold(1.0, str(tmp_path / "never"))
    options = ("--include-dashboard=false", f"--dashboard-agent-listen-port={free_port()}")
    patience = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5", **environment(RAY_ADDRESS=f"127.0.0.1:{port}")}
    with (
        head(*options, port=port) as first,
        start_when_ready(store, never, patience) as driver,
    ):
        processes = [first_process := psutil.Process(first.pid), *first_process.children(recursive=True)]
        wait_for(lambda: len(store.statuses()) > 0)
        for process in processes:
            process.kill()
        first.wait()
        assert driver.wait(timeout=PATIENCE) != 0
    before = len(store.statuses())
    assert 0 < before < 60
    with (
        head(*options, port=port),
        start_when_ready(store, sweeps.Pause(0.0), patience) as driver,
    ):
        assert driver.wait(timeout=PATIENCE) == 0
    assert len(store.statuses()) == 60
    sweeps.check("the head dies; a new cluster", 1, study, store)


@contextmanager
def start_when_ready(
    store: Store, disturb: sweeps.Disturbance, patience: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """A driver, started again as long as there is no cluster to join yet."""
    end = time.monotonic() + PATIENCE
    while True:
        driver = sweeps.start_driver(store.out, disturb, **patience)
        wait_for(lambda driver=driver: driver.poll() is not None or begun(store, driver))  # type: ignore[misc]
        if driver.poll() in (None, 0) or time.monotonic() > end:
            break
        driver.communicate()
    with no_longer(driver):
        yield driver


def begun(store: Store, driver: subprocess.Popen[str]) -> bool:
    record = store.read_driver()
    return record is not None and record["pid"] == driver.pid
