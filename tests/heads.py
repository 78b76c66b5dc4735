"""Clusters of one node on this machine, as operators start them, and what joins them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from free_ports import free_port
from waiting import PATIENCE, wait_for

TOKEN = "a" * 64
ONE_WORKER = {"LOKY_MAX_CPU_COUNT": "1"}
"""For the environment of a process: a Ray that it starts has one worker, which takes seconds less to start than two."""


def environment(**more: str) -> dict[str, str]:
    """That of the tests, with their own Python first, no cluster, and a token for the one to come."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    others = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**others, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, **more}


def command(line: str) -> list[str]:
    program, *arguments = line.split()
    return [str(Path(sys.executable).parent / program), *arguments]


def answers(dashboard: str) -> bool:
    """Whether it is up."""
    try:
        urllib.request.urlopen(f"{dashboard}/api/version", timeout=10).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 401  # up, and asking for the token that `ray job submit` has
    except OSError:
        return False
    return True


@contextmanager
def head(*options: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A cluster of one node on this machine. It need not be alive any more at the end."""
    # The paths of Ray's sockets must be short.
    with tempfile.TemporaryDirectory(prefix="pd-", ignore_cleanup_errors=True) as folder:
        start = command(
            f"ray start --head --block --node-ip-address=127.0.0.1 --port={port} --ray-client-server-port={free_port()} "
            f"--num-cpus=2 --temp-dir={folder} --disable-usage-stats {' '.join(options)}"
        )
        process = subprocess.Popen(
            start,
            env=environment(RAY_metrics_report_interval_ms="1000"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


METRICS: dict[str, int] = {}
"""The port at which the node of a dashboard exports its metrics."""


@pytest.fixture(scope="session")
def dashboard() -> Iterator[str]:
    """The address of the dashboard of a cluster."""
    port, metrics = free_port(), free_port()
    with head(
        f"--dashboard-host=127.0.0.1 --dashboard-port={port}",
        f"--dashboard-agent-listen-port={free_port()} --metrics-export-port={metrics}",
        port=free_port(),
    ):
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(address))
        METRICS[address] = metrics
        yield address
