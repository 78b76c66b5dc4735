"""What a sweep costs beside the training: python -m benchmarks.driver [--jobs N ...]

Jobs that train nothing, on a local Ray with two workers, into a temporary folder.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

from phasediag.display.progress import Progress
from phasediag.kinds import open_store, restored_study
from phasediag.phase_diagram.fitting import fit
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.training import failed_rows
from phasediag.studies import AnyStudy
from phasediag.sweep.ray_cluster import ray_cluster
from phasediag.sweep.status import read_status
from phasediag.sweep.sweep import Outcome, run

from .common import machine, table

# Workers cannot import this module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]

SPEC = """
name = "fake"
kind = "phase-diagram"
network = {{ depth = 2 }}
data = {{ kind = "points", x = [[-1.0], [0.5]], y = [0.5, -0.5] }}
grid = {{ width = [100, 1000], gamma = {{ start = 0.5, stop = 2.0, num = 50 }}, gamma_prime = {{ start = -0.5, stop = 1.0, num = 50 }}, \
seeds = {seeds} }}
samples = {{ points = [] }}
"""
PER_SEED = 2 * 50 * 50


class Fake:
    """Rows without training."""

    def batch(self, jobs: Sequence[Job], device: str, threads: int) -> list[dict[str, Any]]:
        done = {"status": "converged", "error": ""}
        return [
            {**row, **done, "relative_change": float(job.width) ** (job.gamma - 1.0)}
            for job in jobs
            for row in failed_rows(job, "", device)
        ]

    def failed(self, job: Job, error: str) -> list[dict[str, Any]]:
        return failed_rows(job, error)


def study_of(jobs: int) -> AnyStudy:
    text = SPEC.format(seeds=max(1, round(jobs / PER_SEED)))
    return restored_study(text, {"x": np.array([[-1.0], [0.5]]), "y": np.array([0.5, -0.5])}, "fake.toml")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def measure(jobs: int) -> list[str]:
    """A row of the table: everything in seconds, but for the overhead, the files and the memory."""
    study = study_of(jobs)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder, "out"))

        def once() -> Outcome:
            return run(study, store, ray_cluster, Progress(), trainer=Fake())  # type: ignore[arg-type]

        outcome, first = timed(once)
        assert outcome.trained == outcome.total == len(study.jobs())
        again, resumed = timed(once)
        assert again.trained == 0
        # A third of the files are lost: what does it take to find out which jobs to run again?
        lost = sorted(Path(store.out, "runs").iterdir())[::3]
        for path in lost:
            path.unlink()
        mended, third = timed(once)
        assert mended.finished == mended.total and mended.trained > 0
        _, status = timed(lambda: read_status(store))
        runs, reading = timed(store.runs)
        _, fitting = timed(lambda: fit(runs))
        files = list(Path(store.out, "runs").iterdir())
        size = sum(path.stat().st_size for path in files)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return [
        f"{outcome.total:,}",
        f"{first:.1f}",
        f"{1e3 * first / outcome.total:.2f}",
        f"{resumed:.1f}",
        f"{third:.1f}",
        f"{status:.1f}",
        f"{reading:.1f}",
        f"{fitting:.1f}",
        f"{len(files)}",
        f"{size / 2**20:.0f}",
        f"{memory:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "--jobs", type=int, nargs="+", default=[10_000, 100_000], help="numbers of jobs, ascending"
    )
    numbers = parser.parse_args().jobs
    print(machine())
    # Ray would write one to the home directory.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )
    rows = [measure(jobs) for jobs in sorted(numbers)]
    ray.shutdown()
    columns = [
        "jobs",
        "sweep",
        "ms per job",
        "nothing to do",
        "a third lost",
        "status",
        "read",
        "fit",
        "files",
        "MiB",
        "memory",
    ]
    table(
        "Jobs that train nothing, two workers; seconds",
        columns,
        rows,
        "memory: the most that the driver's process has held so far, in MiB, with all rows read and fitted",
    )


if __name__ == "__main__":
    main()
