"""Whether a GPU computes what the CPU computes, and how fast it is: python -m benchmarks.gpu [checks|timings ...] [--quick]

Checks come first, and one that fails ends in exit status 1. Timings compare the card with all cores of the machine's CPU, and with
gradient descent as one would write it in plain PyTorch on the same card; the last column tells what part of the time kernels run on it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from phasediag.devices import cores
from phasediag.phase_diagram import training
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec

from .common import X, Y, chosen_parts, jobs_at, machine, map_sample, percent, table, timed
from .plain import GradientDescent, Networks

Rows = list[dict[str, Any]]

PARTS = ("checks", "timings")
LOOSE = 3.0
"""Errors of the two devices are independent, and each is several times smaller than `accuracy` in most jobs, but not in all."""


def main() -> None:
    parts, quick = chosen_parts(str(__doc__), PARTS)
    if not torch.cuda.is_available():
        sys.exit("torch finds no GPU here")
    torch.set_num_threads(1)
    print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}; {cores()} cores, {machine()}")
    wrong = 0
    for part in parts:
        wrong += _checks(quick) if part == "checks" else _timings(quick)
    sys.exit(1 if wrong else 0)


def digits(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits of scikit-learn (n, 64), centred, in [-1, 1] and as vectors of length one, labelled -1 and 1."""
    images, labels = load_digits(return_X_y=True)
    x = images[:points] - images[:points].mean(axis=0)
    return x / np.linalg.norm(x, axis=1, keepdims=True), np.where(labels[:points] < 5, -1.0, 1.0)


def _points(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    if dimension == 1:
        return X, Y
    return digits(20)


def _checks(quick: bool) -> int:
    """Rows of the GPU beside those of the CPU: how many checks fail."""
    rows, wrong = [], 0
    for name, jobs, data, settings in _cases(quick):
        on_gpu, on_cpu = (training.train_batch(jobs, *data, settings, device) for device in ("cuda", "cpu"))
        errors = _differences(on_gpu, on_cpu)
        allowed = LOOSE * settings.accuracy if settings.method == "gradient-flow" else 1e-3
        apart = sum(a["status"] != b["status"] for a, b in zip(on_gpu, on_cpu, strict=True))
        passed = not apart and bool(np.max(errors) <= allowed)
        wrong += not passed
        used = {row["device"].partition(":")[0] for row in on_gpu}
        spread = percent(float(np.median(errors))), percent(float(np.max(errors)))
        rows.append(
            (
                name,
                str(len(jobs)),
                "/".join(used),
                *spread,
                percent(allowed),
                str(apart),
                "ok" if passed else "WRONG",
            )
        )
    columns = ("check", "jobs", "device", "median", "largest", "allowed", "other status", "")
    table("Relative changes of the GPU's rows against the CPU's", columns, rows)
    return wrong


def _cases(quick: bool) -> list[tuple[str, list[Job], tuple[np.ndarray, np.ndarray], TrainSpec]]:
    count, width = (4, 50) if quick else (12, 200)
    cases = []
    for dimension in (1, 64):
        for depth in (2, 3, 4):
            points = map_sample(min(depth, 3), count)
            jobs, data = jobs_at(points, width, depth), _points(dimension)
            name = f"{depth} layers, d = {dimension}"
            flow = TrainSpec(loss_tolerance=1e-4 if quick else 1e-6)
            cases.append((f"{name}, flow", jobs, data, flow))
            wide = jobs_at(points, 10**8, depth, neurons=width)
            cases.append((f"{name}, flow, represented", wide, data, flow))
            for method, step in (("gd", 0.01), ("adam", 1e-3)):
                limit = 200 if quick else 1000
                values = {
                    "method": method,
                    "learning_rate": step,
                    "max_evaluations": limit,
                    "dtype": "float64",
                }
                cases.append((f"{name}, {method}", jobs, data, TrainSpec.model_validate(values)))
    return cases


def _differences(rows: Rows, others: Rows) -> np.ndarray:
    """Relative differences of the relative changes, where both are finite."""
    these, those = (np.array([row["relative_change"] for row in part]) for part in (rows, others))
    both = np.isfinite(these) & np.isfinite(those)
    differences: np.ndarray = np.abs(these / those - 1)[both]
    return differences


def _timings(quick: bool) -> int:
    cases = [
        (2, 1_000, 1024, _points(1)),
        (2, 10_000, 256, _points(1)),
        (2, 100_000, 32, _points(1)),
        (2, 1_000, 16, digits(1000)),
        (3, 500, 256, _points(1)),
        (3, 1_000, 128, _points(1)),
        (3, 4_000, 16, _points(1)),
    ]
    rows = [_timing(*case, quick=quick) for case in (cases[::3] if quick else cases)]
    columns = (
        "network",
        "jobs",
        "n",
        "card s",
        "CPU s",
        "times",
        "plain s",
        "evals",
        "CPU evals",
        "plain",
        "busy",
    )
    note = "times: how many times as fast the card is; evals: median per job; plain: gradient descent, its own count"
    table("Seconds of a batch, loss down to 1e-4", columns, rows, note)
    return 0


def _timing(
    depth: int, width: int, count: int, data: tuple[np.ndarray, np.ndarray], quick: bool
) -> Sequence[str]:
    count = max(count // 16, 2) if quick else count
    jobs = jobs_at(map_sample(depth, count), width, depth)
    settings = TrainSpec(loss_tolerance=1e-4, max_evaluations=2000)
    training.train_batch(jobs[:2], *data, settings, "cuda")  # warm
    training.train_batch(jobs[:2], *data, settings, "cpu")
    card, seconds = timed(lambda: training.train_batch(jobs, *data, settings, "cuda"))
    busy = (
        _busy(lambda: training.train_batch(jobs, *data, settings, "cuda"))
        if len(data[0]) < 100
        else float("nan")
    )
    cpu, cpu_seconds = timed(lambda: training.train_batch(jobs, *data, settings, "cpu", threads=cores()))
    plain = GradientDescent(1.0, motion=0.1, every=4, cap=2000)
    with torch.inference_mode():
        outcome = plain.run(Networks(jobs, *data, torch.float32, "cuda"), 1e-4)
    print(
        f"  {depth} layers, m = {width:,}: {seconds:.1f} s, {cpu_seconds:.1f} s on the CPU", file=sys.stderr
    )
    return (
        f"{depth} layers, m = {width:,}",
        str(count),
        str(len(data[0])),
        f"{seconds:.1f}",
        f"{cpu_seconds:.1f}",
        f"{cpu_seconds / seconds:.2f}",
        f"{outcome.seconds:.1f}",
        f"{np.median([row['evaluations'] for row in card]):.0f}",
        f"{np.median([row['evaluations'] for row in cpu]):.0f}",
        f"{np.median(outcome.evaluations):.0f}",
        percent(busy),
    )


def _busy(work: Callable[[], Any]) -> float:
    """The part of the time in which kernels run."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        _, seconds = timed(work)
    return float(sum(event.self_device_time_total for event in profile.key_averages())) / 1e6 / seconds


if __name__ == "__main__":
    main()
