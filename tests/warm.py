"""Compiles the engine, so that processes that need it find it compiled: python tests/warm.py [float32|float64 ...]"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec
from phasediag.phase_diagram.training import train_batch

PRECISIONS = ("float32", "float64")


def compile_engine(precisions: Sequence[str] = PRECISIONS) -> None:
    """Trains the smallest networks of every engine."""
    y = np.array([0.5, -0.5])
    for dtype in precisions:
        for depth, inputs in ((2, 1), (2, 2), (3, 1)):
            jobs = [Job(str(gamma), depth, 10, gamma, 0.0, 0.0, 0) for gamma in (0.5, 1.75)]
            x = np.array([[-1.0, 0.3], [0.5, 1.0]])[:, :inputs]
            train_batch(jobs, x, y, TrainSpec(dtype=dtype))


if __name__ == "__main__":
    compile_engine(sys.argv[1:] or PRECISIONS)
