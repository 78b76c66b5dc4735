"""What `benchmarks.gpu` checks that needs the whole package: rows of batches, of every method and of condensation, and a sweep on Ray."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from phasediag.kinds import open_store
from phasediag.phase_diagram import training
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec

from .common import X, Y, jobs_at

SWEEP = """
name = "card"
kind = "phase-diagram"
network = { depth = 3 }
data = { kind = "points", x = [[-1.0], [-0.35], [0.3], [1.0]], y = [0.6, -0.4, 0.5, -0.2] }
grid = { width = [50, 100], gamma = [1.0, 1.5], gamma_prime = [0.0, 0.5], seeds = 2 }
train = { loss_tolerance = 1e-3 }
samples = { points = [] }
"""
CONDENSATION = """
name = "condensed"
kind = "condensation"
network = { hidden = [30] }
data = { kind = "function", target = "sum_sin", dimension = 3, low = -4.0, high = 2.0, samples = 20 }
grid = { activation = ["tanh"], std = [0.01], seeds = 2 }
train = { method = "adam", learning_rate = 0.001, epochs = 50, snapshots = [0, 50] }
"""


def _jobs(depth: int) -> list[Job]:
    gammas = depth / 2 - 0.5 + np.repeat([0.0, 0.3, 0.6], 2)
    return jobs_at([(gamma, 0.1) for gamma in gammas], 60, depth)


def _differ(settings: TrainSpec, depth: int, device: str, allowed: float) -> str:
    """What is different in the rows of the two devices."""
    card, host = (training.train_batch(_jobs(depth), X, Y, settings, where) for where in (device, "cpu"))
    for column in ("relative_change", "relative_change_spectral", "norm_final", "orientations"):
        a, b = (np.array([row[column] for row in rows], dtype=float) for rows in (card, host))
        worst = np.nanmax(np.abs(a / b - 1))
        if not worst <= (allowed if column != "orientations" else 0.2):
            return f"{column} differs by {100 * worst:.2g} %"
    if [row["status"] for row in card] != [row["status"] for row in host]:
        return "statuses differ"
    return ""


def _flow(device: str, quick: bool) -> str:
    for depth in (2, 3) if quick else (2, 3, 4):
        if found := _differ(TrainSpec(loss_tolerance=1e-4), depth, device, 0.03):
            return f"{depth} layers: {found}"
    return ""


def _several_chunks(device: str, quick: bool) -> str:
    """Parts of a batch are trained one after the other."""
    with patch.object(training, "fitting", lambda job_bytes, shared_bytes: 2):
        return _differ(TrainSpec(loss_tolerance=1e-3), 3, device, 0.03)


def _descent(method: str) -> Callable[[str, bool], str]:
    def check(device: str, quick: bool) -> str:
        values: dict[str, Any] = {
            "method": method,
            "learning_rate": 0.01 if method == "gd" else 1e-3,
            "max_evaluations": 200 if quick else 1000,
            "dtype": "float64",
        }
        settings = TrainSpec.model_validate(values)
        return _differ(settings, 3, device, 1e-3)

    return check


def _sample(device: str, quick: bool) -> str:
    """A network that is kept whole."""
    job = _jobs(3)[2]
    a, b = (
        training.train_sample(job, X, Y, TrainSpec(loss_tolerance=1e-4), where) for where in (device, "cpu")
    )
    worst = np.max(np.abs(np.array(a[0]["f_final"]) - np.array(b[0]["f_final"])))
    return "" if worst < 0.05 else f"functions differ by {worst:.2g}"


def _condensation(device: str, quick: bool) -> str:
    return _swept(CONDENSATION, device, "--local")


def _on_ray(device: str, quick: bool) -> str:
    """Two tasks share the card."""
    share = "gpus_per_task = 0.5\n" if device == "cuda" else ""
    return _swept(f"{SWEEP}\n[resources]\n{share}", device)


def _swept(spec: str, device: str, *options: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, "spec.toml"), Path(folder, "out")
        path.write_text(spec)
        command = [sys.executable, "-m", "phasediag", "run", str(path), "--out", str(out), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip().splitlines()[-1]
        runs = open_store(out).runs()
        kinds = {name.partition(":")[0] for name in runs["device"]}
        if kinds != {device} or (runs["status"] == "failed").any():
            return f"trained on {kinds}, {runs['status'].value_counts().to_dict()}"
    return ""


CHECKS: dict[str, Callable[[str, bool], str]] = {
    "rows of the flow": _flow,
    "several chunks": _several_chunks,
    "gradient descent": _descent("gd"),
    "Adam": _descent("adam"),
    "a network kept whole": _sample,
    "condensation": _condensation,
    "two tasks on Ray": _on_ray,
}
"""Each tells what is different, "" for nothing."""
