"""A sweep submitted to a running cluster with `ray job submit`, as an operator would."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from waiting import wait_for

PORT, DASHBOARD, AGENT, TOKEN = 6401, 8299, 8297, "a" * 64
SPEC = """
name = "submitted"
kind = "phase-diagram"
network = { depth = 2 }
data = { kind = "points", x = [[-1.0], [-0.35], [0.3], [1.0]], y = [0.6, -0.4, 0.5, -0.2] }
grid = { width = [20, 80], gamma = [0.5, 1.0, 1.75], gamma_prime = [0.0], seeds = 2 }
"""


def environment() -> dict[str, str]:
    """That of the tests, with their own Python first, no cluster, and a token for the one to come."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    others = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**others, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


def command(line: str) -> list[str]:
    program, *arguments = line.split()
    return [str(Path(sys.executable).parent / program), *arguments]


def answers() -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{DASHBOARD}/api/version", timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 401  # up, and asking for the token that `ray job submit` has
    except OSError:
        return False
    return True


@pytest.fixture
def dashboard() -> Iterator[str]:
    """The address of the dashboard of a cluster of one node on this machine."""
    with tempfile.TemporaryDirectory(prefix="pd-", ignore_cleanup_errors=True) as folder:
        start = command(
            f"ray start --head --block --node-ip-address=127.0.0.1 --port={PORT} --min-worker-port=21000 "
            f"--max-worker-port=21999 --dashboard-host=127.0.0.1 --dashboard-port={DASHBOARD} "
            f"--num-cpus=2 --dashboard-agent-listen-port={AGENT} "
            f"--temp-dir={folder} --disable-usage-stats"
        )
        head = subprocess.Popen(
            start, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(answers, 90)
            yield f"http://127.0.0.1:{DASHBOARD}"
        finally:
            head.terminate()
            head.wait(timeout=60)


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=240)


def test_a_submitted_sweep_joins_the_cluster_and_finishes(dashboard: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "work", tmp_path / "out"
    folder.mkdir()
    (folder / "spec.toml").write_text(SPEC)
    submit = command(
        f"ray job submit --address {dashboard} --working-dir {folder} -- "
        f"python -m phasediag run spec.toml --out {out}"
    )
    job, end = run(submit), time.monotonic() + 60
    while "No available agent" in job.stderr and time.monotonic() < end:
        job = run(submit)  # the dashboard is up a little earlier than what starts jobs
    assert "12 of 12 jobs finished, 0 failed" in job.stdout, job.stdout + job.stderr
    assert "ray.init" not in job.stdout
    waited = subprocess.run(
        [sys.executable, "-m", "phasediag", "status", str(out), "--wait"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (waited.returncode, waited.stderr) == (0, "")
    runs = pd.read_parquet(out / "runs")
    assert len(runs) == 24
    assert not runs.duplicated(["job_id", "layer"]).any()
    assert (out / "figures" / "slope_map_W1.png").stat().st_size > 0
