"""What one evaluation costs beside the machine's limits, measured in the same run on the same thread."""

from __future__ import annotations

from collections.abc import Callable

import torch

from phasediag.phase_diagram.spec import TrainSpec

from .common import X, Y, jobs_at, map_sample, table, timed
from .growth import POINTS, cost, random_data

NEURON_TARGET = 12.0
"""ns per neuron and evaluation: two layers, one input, four points."""
SHARE_TARGET = 0.5
"""Of the copy bandwidth (three layers), of the rate of matrix products (real data)."""
COPY_FLOATS = 2**26
W2_PASSES = 3
"""Forward, backward, update."""
REAL_SHAPES = [(64, 200), (64, 1000), (784, 200), (784, 1000)]
"""Inputs d and points n."""
REAL_WIDTH, REAL_EVALUATIONS = 1000, 60


def fastest(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of some calls, after a warm-up."""
    work()
    return min(timed(work)[1] for _ in range(repeats))


def verdict(met: bool) -> str:
    return "met" if met else "missed"


def two_layers(widths: tuple[int, ...], count: int) -> None:
    rows = []
    for width in widths:
        _, seconds, evaluations = cost(jobs_at(map_sample(2, count), width), X, Y)
        measured = 1e9 * seconds / evaluations / width
        rows.append(
            [f"m = {width}", f"{measured:.1f}", f"{NEURON_TARGET:g}", verdict(measured <= NEURON_TARGET)]
        )
    title = f"2 layers, d = 1, four points, batches of {count} jobs: training time / evaluations / width"
    table(title, ["", "ns per neuron", "at most", "target"], rows)


def copy_bandwidth() -> float:
    """Bytes read and written per second by copying a float32 array far larger than the caches."""
    source, target = torch.ones(COPY_FLOATS), torch.empty(COPY_FLOATS)
    return 2 * 4 * COPY_FLOATS / fastest(lambda: target.copy_(source), 5)


def three_layers(widths: tuple[int, ...]) -> None:
    limit, rows = copy_bandwidth(), []
    for width in widths:
        _, seconds, evaluations = cost(jobs_at(POINTS, width, depth=3), X, Y)
        achieved = W2_PASSES * 4 * width**2 * evaluations / seconds
        rows.append(
            [
                f"m = {width}",
                f"{achieved / 1e9:.2f}",
                f"{limit / 1e9:.2f}",
                f"{achieved / limit:.2f}",
                f"{SHARE_TARGET:g}",
                verdict(achieved >= SHARE_TARGET * limit),
            ]
        )
    title = f"3 layers, d = 1, four points, {len(POINTS)} jobs: {W2_PASSES} passes over W2 in an evaluation"
    columns = ["", "GB/s", "copy GB/s", "share", "at least", "target"]
    table(title, columns, rows, "copy: bytes read and written by torch.Tensor.copy_.")


def product_rate(points: int, inputs: int, width: int) -> float:
    """Flops per second of the float32 product (n, d+1) (d+1, m)."""
    left, right = torch.randn(points, inputs + 1), torch.randn(inputs + 1, width)
    out = torch.empty(points, width)
    return 2 * points * (inputs + 1) * width / fastest(lambda: torch.mm(left, right, out=out), 20)


def evaluation_flops(points: int, inputs: int, width: int) -> int:
    """Of its matrix products: forward and backward through W1, and the Gram matrices of features and of backward signals."""
    return 2 * 2 * points * (inputs + 1) * width + 2 * 2 * points**2 * width


def real_data(shapes: list[tuple[int, int]], width: int) -> None:
    rows = []
    for inputs, points in shapes:
        data = random_data(points, inputs)
        _, seconds, evaluations = cost(
            jobs_at(POINTS, width), *data, TrainSpec(max_evaluations=REAL_EVALUATIONS)
        )
        achieved = evaluation_flops(points, inputs, width) * evaluations / seconds
        limit = product_rate(points, inputs, width)
        rows.append(
            [
                f"d = {inputs}, n = {points}",
                f"{1e3 * seconds / evaluations:.2f}",
                f"{achieved / 1e9:.1f}",
                f"{limit / 1e9:.1f}",
                f"{achieved / limit:.2f}",
                f"{SHARE_TARGET:g}",
                verdict(achieved >= SHARE_TARGET * limit),
            ]
        )
    title = f"2 layers, real-data shapes, width {width}, {len(POINTS)} jobs, about {REAL_EVALUATIONS} evaluations at most"
    columns = ["", "ms per evaluation", "Gflop/s", "product Gflop/s", "share", "at least", "target"]
    note = (
        "flops of an evaluation: 2 n (d+1) m forward, the same backward, 2 n² m for each of the two Gram matrices.\n"
        "  product: (n, d+1) by (d+1, m), float32, one thread."
    )
    table(title, columns, rows, note)


def main(quick: bool = False) -> None:
    two_layers((1000,) if quick else (1000, 3000, 10_000), 4 if quick else 64)
    three_layers((1000,) if quick else (1000, 2000, 3000))
    real_data(REAL_SHAPES[:1] if quick else REAL_SHAPES, 100 if quick else REAL_WIDTH)
