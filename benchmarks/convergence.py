"""Error of the relative change against evaluations: the engine, gradient descent, adaptive Runge-Kutta, exponential Euler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from phasediag.display.figures import DOUBLE_COLUMN, SINGLE_COLUMN, STYLE, render
from phasediag.phase_diagram.jobs import Job

from . import alternatives
from .common import LOSS, X, Y, engine, jobs_at, percent, references, table
from .plain import Array, Evaluation, GradientDescent, Networks, Outcomes, loss

WIDTHS = {2: 500, 3: 150}
POINTS = {
    2: [(0.5, 0.0), (0.8, 0.3), (0.8, -0.3), (1.0, 0.0), (1.0, -0.3), (1.3, 0.3), (1.5, 0.0), (1.75, -0.3)],
    3: [(1.0, 0.0), (1.2, 0.3), (1.5, 0.0), (1.5, -0.3), (2.0, 0.25), (2.5, 0.0)],
}
"""Linear, critical and condensed points (gamma, gamma')."""
REFERENCE_STEP = {2: 0.01, 3: 0.02}
MAX_STEPS = 100_000


class Curve(NamedTuple):
    """A method at all of its settings."""

    name: str
    knob: str
    settings: tuple[float, ...]
    run: Callable[[Sequence[Job], float], Outcomes]
    style: dict[str, Any]


class Cost(NamedTuple):
    """A method at one setting, by job: evaluations, and errors, NaN where unfinished."""

    setting: float
    evaluations: Array
    errors: Array


def exponential_euler(jobs: Sequence[Job], motion: float) -> Outcomes:
    """Kernel frozen for a step, weights moved along a line, by at most ``motion`` times the norm of a layer; job by job."""
    ends = [_exponential_euler(Networks([job], X, Y), motion) for job in jobs]
    changes, counts = zip(*ends, strict=True)
    return Outcomes(np.array(changes), np.array(counts, float), np.nan)


def _exponential_euler(network: Networks, motion: float) -> tuple[list[float], int]:
    weights = [layer.clone() for layer in network.start]
    for count in range(1, MAX_STEPS + 1):
        at = network.evaluate(weights)
        if loss(at, network) <= LOSS:
            return network.changes(weights)[0].tolist(), count
        network.push(weights, at, _longest_step(network, at, motion * network.norms(weights)))
    return [np.nan] * len(weights), MAX_STEPS


def _longest_step(network: Networks, at: Evaluation, limit: Tensor) -> Tensor:
    """Integral of the residual (1, n) over the longest step that moves no layer by more than its limit, by bisection."""
    kernels = network.kernels(at)
    values, vectors = torch.linalg.eigh(kernels.sum(dim=0)[0])
    rates, modes = values.clamp_min(1e-14 * values[-1]), vectors.T @ at.residual[0]

    def impulse(log_time: float) -> Tensor:
        decayed: Tensor = -torch.expm1(-rates * np.exp(log_time)) / rates
        return torch.mv(vectors, modes * decayed)[None]

    low, high = (-np.log(values[-1].item()) + shift for shift in (-25.0, 25.0))
    for _ in range(40):
        middle = (low + high) / 2
        moved = network.speeds(at._replace(residual=impulse(middle)), kernels)
        low, high = (middle, high) if (moved <= limit).all() else (low, middle)
    return impulse(low)


def runge_kutta(jobs: Sequence[Job], rtol: float) -> Outcomes:
    """dopri5 on its own for every job: steps are not shared."""
    ends = [alternatives.runge_kutta([job], rtol, rtol / 100) for job in jobs]
    return Outcomes(
        np.concatenate([end.changes for end in ends]),
        np.concatenate([end.evaluations for end in ends]),
        np.nan,
    )


def descent(jobs: Sequence[Job], fraction: float) -> Outcomes:
    return GradientDescent(fraction, motion=0.03 * fraction, every=10, cap=MAX_STEPS).run(
        Networks(jobs, X, Y), LOSS
    )


CURVES = (
    Curve(
        "phasediag",
        "accuracy",
        (0.3, 0.1, 0.03, 0.01, 0.003, 0.001),
        engine,
        {"color": "#0072b2", "marker": "o"},
    ),
    Curve(
        "exponential Euler",
        "motion",
        (0.3, 0.1, 0.03, 0.01),
        exponential_euler,
        {"color": "#009e73", "marker": "^"},
    ),
    Curve(
        "gradient descent",
        "fraction",
        (1.5, 1.0, 0.5, 0.2, 0.1),
        descent,
        {"color": "#d55e00", "marker": "s"},
    ),
    Curve(
        "Runge–Kutta (dopri5)",
        "rtol",
        (1e-3, 3e-4, 1e-4),
        runge_kutta,
        {"color": "#cc79a7", "marker": "D"},
    ),
)
QUICK = {"phasediag": 3, "exponential Euler": 2, "gradient descent": 2, "Runge–Kutta (dopri5)": 0}
"""Settings of a quick run."""

Costs = dict[str, list[Cost]]


def measure(depth: int, quick: bool) -> tuple[Costs, float]:
    """Every method at every setting, and the reference's own error."""
    jobs = jobs_at(POINTS[depth][:: 3 if quick else 1], 100 if quick else WIDTHS[depth], depth)
    expected = references(jobs, REFERENCE_STEP[depth]).changes
    own = float(np.median(references(jobs, 2 * REFERENCE_STEP[depth]).errors(expected)))
    costs: Costs = {}
    for curve in CURVES:
        settings = curve.settings[: QUICK[curve.name]] if quick else curve.settings
        ends = [(setting, curve.run(jobs, setting)) for setting in settings]
        costs[curve.name] = [Cost(setting, end.evaluations, end.errors(expected)) for setting, end in ends]
    return costs, own


def report(depth: int, costs: Costs, own: float, width: int) -> None:
    rows = [
        [
            f"{curve.name}, {curve.knob} {cost.setting:g}",
            f"{np.median(cost.evaluations):.0f}",
            f"{cost.evaluations.max():.0f}",
            percent(quantile(cost.errors, 0.5)),
            percent(quantile(cost.errors, 1.0)),
            f"{np.isnan(cost.errors).sum()}",
        ]
        for curve in CURVES
        for cost in costs[curve.name]
    ]
    count = len(costs["phasediag"][0].errors)
    title = f"{depth} layers: error against evaluations, {count} jobs of width {width}, four points, loss to {LOSS:g}"
    note = (
        "error: the larger one of the layers, of the finished jobs. Reference: explicit Euler in float64 with steps of "
        f"{REFERENCE_STEP[depth]:g} / (largest eigenvalue);\n  with steps twice as long its median differs by {percent(own)}."
    )
    table(title, ["", "evaluations", "worst", "error of RD", "worst", "unfinished"], rows, note)


def quantile(errors: Array, q: float) -> float:
    finished = errors[np.isfinite(errors)]
    return float(np.quantile(finished, q)) if len(finished) else float("nan")


@rc_context(STYLE)
def draw(measured: dict[int, tuple[Costs, float]]) -> Figure:
    """Error against evaluations, one panel per depth: medians over the jobs, bands from the best to the worst job.

    An open marker: some jobs hit the cap on evaluations.
    """
    size = (SINGLE_COLUMN if len(measured) == 1 else DOUBLE_COLUMN, 3.0)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(measured), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (depth, (costs, own)) in zip(axes, measured.items(), strict=True):
        _draw_panel(ax, costs, own)
        ax.set(xscale="log", yscale="log", xlabel="evaluations (median over networks)")
        ax.set_title(f"{depth} layers, width {WIDTHS[depth]}")
    axes[0].set_ylabel("relative error of RD")
    axes[0].set_ylim(bottom=min(own for _, own in measured.values()) / 3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2 * len(measured))
    figure.set_label("Error of the relative change against evaluations")
    return figure


def _draw_panel(ax: Axes, costs: Costs, own: float) -> None:
    for curve in CURVES:
        kept = [cost for cost in costs[curve.name] if np.isfinite(cost.errors).mean() > 0.5]
        evaluations = [float(np.median(cost.evaluations)) for cost in kept]
        low, middle, high = ([quantile(cost.errors, q) for cost in kept] for q in (0.0, 0.5, 1.0))
        ax.fill_between(evaluations, low, high, color=curve.style["color"], alpha=0.15, linewidth=0)
        ax.plot(evaluations, middle, label=curve.name, markersize=4, **curve.style)
        capped = [i for i, cost in enumerate(kept) if np.isnan(cost.errors).any()]
        for i in capped:
            ax.plot(evaluations[i], middle[i], markersize=4, markerfacecolor="white", zorder=3, **curve.style)
    ax.axhline(own, color="0.45", linewidth=0.8, linestyle=":")
    ax.annotate(
        "reference's own", xy=(0.02, own), xycoords=("axes fraction", "data"), va="bottom", color="0.35"
    )


def main(quick: bool = False) -> None:
    """Two layers, and three where the engine has them; draws convergence.png and .svg unless quick."""
    measured: dict[int, tuple[Costs, float]] = {}
    with torch.no_grad():
        for depth in (2, 3):
            measured[depth] = measure(depth, quick)
            report(depth, *measured[depth], width=100 if quick else WIDTHS[depth])
    for kind, content in render(draw(measured)).items():
        if not quick:
            Path(__file__).with_name(f"convergence.{kind}").write_bytes(content)
