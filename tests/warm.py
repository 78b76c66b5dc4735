"""Compiles the engine, so that processes that need it find it compiled: python tests/warm.py [float32|float64 ...]

Whoever comes while another process compiles waits for it.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec
from phasediag.phase_diagram.training import train_batch

PRECISIONS = ("float32", "float64")


def compile_engine(precisions: Sequence[str] = PRECISIONS) -> None:
    """Trains the smallest networks of every engine."""
    for dtype in precisions:
        with Path(tempfile.gettempdir(), f"phasediag-warm-{dtype}-{os.getuid()}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _compile(dtype)


def _compile(dtype: str) -> None:
    y = np.array([0.5, -0.5])
    for depth, inputs in ((2, 2), (3, 1)):
        jobs = [Job(str(gamma), depth, 10, 10, gamma, 0.0, 0.0, 0) for gamma in (0.5, 1.75)]
        x = np.array([[-1.0, 0.3], [0.5, 1.0]])[:, :inputs]
        train_batch(jobs, x, y, TrainSpec(dtype=dtype))


if __name__ == "__main__":
    compile_engine(sys.argv[1:] or PRECISIONS)
