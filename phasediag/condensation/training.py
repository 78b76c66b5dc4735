"""Jobs in, rows out: trains a batch of networks and measures how far they have condensed at every snapshot.

A row depends on its job, the data and the settings alone: not on the other jobs of the batch, nor on the number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import measures
from ..training import device_name, single_threaded_torch
from ..version import VERSION
from . import activations
from .clusters import NARROW, WIDE, Directions, alignment
from .directions import Leading, flow_directions, sign_directions
from .spec import name_of

if TYPE_CHECKING:  # torch takes seconds to import, and describing a failed job needs none of it
    from .descent import Losses, Snapshot
    from .jobs import Job
    from .networks import Networks
    from .spec import TrainSpec
    from .study import Datasets

Array = NDArray[np.float64]
Row = dict[str, Any]

CHUNK_ELEMENTS = {"cpu": 2**17, "cuda": 2**24}
"""Points times neurons of the jobs that are trained together: on a CPU, a handful of such arrays should stay in its cache."""
CURVE_POINTS = 401
FIELD_POINTS, FIELD_MARGIN = 21, 1.3
"""Places along an axis at which the direction field is drawn, and how far beyond the largest weight."""
_MEASURES = (
    "loss",
    "active_neurons",
    "lines",
    "orientations",
    "aligned_fraction",
    "predicted_alignment",
    "predicted_fraction",
    "predicted_alignment_initial",
    "lines_narrow",
    "lines_wide",
    "effective_orientations",
    "predicted_lines",
    "predicted_fraction_initial",
    "sign_lines",
    "sign_fraction",
    "sign_fraction_initial",
    "largest_weight",
    "polynomial_misfit",
)


@dataclass(frozen=True)
class Trainer:
    """The training of a condensation study: what a sweep calls.

    Attributes:
        data: the data of the study.
        hidden: numbers of neurons of the hidden layers.
        residual: whether there are skip connections between them.
        settings: how to train.
    """

    data: Datasets
    hidden: tuple[int, ...]
    residual: bool
    settings: TrainSpec

    def batch(self, jobs: Sequence[Job], device: str, threads: int) -> list[Row]:
        """Rows of ``runs``: one per job, snapshot and hidden layer; ``threads`` chunks of jobs are trained at a time."""
        name = device_name(device)
        return [row for one in self._train(jobs, device, threads, keep=False) for row in one.rows(name)]

    def sample(self, job: Job, device: str, threads: int) -> list[Row]:
        """Rows of ``samples`` of a network that is kept whole at every snapshot."""
        [trained] = self._train([job], device, threads, keep=True)
        return trained.kept

    def weights(self, job: Job, device: str) -> tuple[list[Row], dict[str, Array]]:
        """Rows of ``runs`` of one job, and its data and weights: x, y, ``W1_initial``, ``W1_final`` (m, d+1; bias last), and so on
        for each hidden layer, ``a_initial``, ``a_final`` (m,)."""
        [trained] = self._train([job], device, 1, keep=False)
        data = self.data.of(job.dimension, job.seed)
        names = [*(f"W{layer + 1}" for layer in range(len(self.hidden))), "a"]
        arrays = {"x": data.x, "y": data.y}
        for end, weights in (("initial", trained.initial), ("final", trained.final)):
            arrays |= {f"{name}_{end}": part for name, part in zip(names, weights, strict=True)}
        return trained.rows(device_name(device)), arrays

    def failed(self, job: Job, error: str) -> list[Row]:
        """Rows of ``runs`` of a job that could not be run."""
        trained = _Trained(job, self)
        return [row | {"status": "failed", "error": error} for row in trained.rows("")]

    def _train(self, jobs: Sequence[Job], device: str, threads: int, keep: bool) -> list[_Trained]:
        """The jobs in chunks, ``threads`` at a time, each on a single thread of torch."""
        # Neighbours with the same activation are evaluated together.
        order = sorted(range(len(jobs)), key=lambda index: jobs[index].activations)
        size = max(1, CHUNK_ELEMENTS[device] // (self.data.points * sum(self.hidden)))
        chunks = [order[start : start + size] for start in range(0, len(order), size)]

        def work(chunk: Sequence[int]) -> list[_Trained]:
            return _train_chunk([jobs[index] for index in chunk], self, device, keep)

        with single_threaded_torch() as pin:
            if threads == 1 or len(chunks) == 1:
                done = [trained for chunk in chunks for trained in work(chunk)]
            else:
                with ThreadPoolExecutor(threads, initializer=pin) as pool:
                    done = [trained for chunk in pool.map(work, chunks) for trained in chunk]
        by_index = dict(zip((index for chunk in chunks for index in chunk), done, strict=True))
        return [by_index[index] for index in range(len(jobs))]


@dataclass
class _Trained:
    """A job while it is trained, and after."""

    job: Job
    trainer: Trainer
    measured: dict[int, list[Row]] = field(default_factory=dict)  # by epoch: what was measured on each layer
    kept: list[Row] = field(default_factory=list)
    initial: list[Array] = field(default_factory=list)
    final: list[Array] = field(default_factory=list)
    predicted_initial: list[_Predicted] = field(default_factory=list)
    evaluations: int = 0
    seconds: float = 0.0

    def rows(self, device: str) -> list[Row]:
        """The rows of ``runs``. Snapshots that were not reached have no measures."""
        layers = range(len(self.trainer.hidden))
        not_reached = [{"status": "evaluation_limit"}] * len(layers)
        return [
            {
                **self.identity(layer),
                "epoch": epoch,
                **dict.fromkeys(_MEASURES, math.nan),
                **self.measured.get(epoch, not_reached)[layer],
                "evaluations": self.evaluations,
                "error": "",
                "wall_seconds": self.seconds,
                "device": device,
                "version": VERSION,
            }
            for epoch in self.trainer.settings.snapshots or ()
            for layer in layers
        ]

    def identity(self, layer: int) -> Row:
        job, trainer = self.job, self.trainer
        return {
            "job_id": job.job_id,
            "layer": f"H{layer + 1}",
            "activation": job.activations[layer],
            "activations": name_of(job.activations),
            "multiplicity": activations.multiplicity(job.activations[layer]),
            "hidden": trainer.hidden[layer],
            "dimension": job.dimension,
            "std": job.std,
            "method": trainer.settings.method,
            "seed": job.seed,
        }


@dataclass(frozen=True)
class _Predicted:
    """Where leading order sends the neurons of a layer, under steps along the gradient and along its sign; none where nothing is
    predicted."""

    leading: Leading
    flow: Array
    sign: Array

    def agreement(self, directions: Directions, by_sign: bool) -> tuple[float, float]:
        """Mean cosine to the nearest direction and share of neurons near one."""
        there = self.sign if by_sign else self.flow
        return alignment(directions.units, there, lines=self.leading.even_or_odd)


def _train_chunk(jobs: Sequence[Job], trainer: Trainer, device: str, keep: bool) -> list[_Trained]:
    import torch

    from .descent import Schedule, descend
    from .flow import integrate
    from .networks import Networks

    started, settings = time.perf_counter(), trainer.settings
    together = (
        [*jobs, *jobs] if len(jobs) == 1 else list(jobs)
    )  # products of single matrices go a way of their own
    data = [trainer.data.of(job.dimension, job.seed) for job in together]
    networks = Networks.drawn(
        [(one.x, one.y) for one in data],
        trainer.hidden,
        [job.activations for job in together],
        trainer.residual,
        [job.std for job in together],
        [job.seed for job in together],
        getattr(torch, settings.dtype),
        device,
    )
    trained = [_Trained(job, trainer) for job in jobs]
    losses: Losses | None = [([], []) for _ in together] if keep else None

    def observe(snapshot: Snapshot) -> None:
        features = None
        for index, there in snapshot.jobs:
            if index < len(trained):
                features = features or snapshot.networks.features(snapshot.parameters)
                _observe(trained[index], snapshot, there, features, losses)

    schedule = Schedule(settings.epochs, settings.snapshots or (), [job.learning_rate for job in together])
    with torch.no_grad():
        if settings.method == "gradient-flow":
            limit = settings.max_evaluations
            evaluations = integrate(networks, schedule, settings.accuracy, limit, observe, losses)
        else:
            descend(networks, settings.method, schedule, observe, losses)
            evaluations = [settings.epochs + 1] * len(together)
    seconds = time.perf_counter() - started
    for one, count in zip(trained, evaluations, strict=False):
        one.evaluations, one.seconds = count, seconds / len(jobs)
    return trained


def _observe(
    trained: _Trained, snapshot: Snapshot, there: int, features: Sequence[Any], losses: Losses | None
) -> None:
    """Measures one job of a snapshot, and keeps its network if it is to be kept."""
    weights = [part.astype(np.float64) for part in snapshot.networks.weights(snapshot.parameters, there)]
    residual = snapshot.residual[there].double().cpu().numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        loss = float(np.mean(np.square(residual)))
    trained.initial, trained.final = trained.initial or weights, weights
    layers = range(len(weights) - 1)
    if not (math.isfinite(loss) and all(np.isfinite(part).all() for part in weights)):
        trained.measured[snapshot.epoch] = [{"status": "diverged"} for _ in layers]
        return
    received = [
        _received(part[there], len(weights[layer][0])) for layer, part in zip(layers, features, strict=False)
    ]
    predicted = [_predict(trained, layer, received[layer], residual) for layer in layers]
    trained.predicted_initial = trained.predicted_initial or predicted
    curve = _curve(snapshot.networks, snapshot.parameters, there, trained)
    trained.measured[snapshot.epoch] = [
        {
            **_measure(weights[layer], predicted[layer], trained.predicted_initial[layer], trained.job.seed),
            "loss": loss,
            "polynomial_misfit": _polynomial_misfit(*curve, trained),
            "status": "converged",
        }
        for layer in layers
    ]
    if losses is not None:
        trained.kept += _kept_rows(
            trained, snapshot.epoch, weights, residual, loss, predicted, curve, losses[0]
        )


def _received(features: Any, inputs: int) -> Array:
    """What a layer receives of one job, (n, k) with the constant last and without the padding."""
    return np.asarray(features[:, :inputs].double().cpu().numpy())


def _predict(trained: _Trained, layer: int, received: Array, residual: Array) -> _Predicted:
    """The directions that leading order predicts for a hidden layer.

    They need the residual to reach the layer as it is, up to a factor for each neuron: it does where all later layers are of
    multiplicity 1, and where skip connections pass them by.
    """
    names, hidden = trained.job.activations, len(trained.job.activations)
    later = [activations.multiplicity(name) for name in names[layer + 1 :]]
    leading = leading_term(names[layer])
    nothing = np.empty((0, received.shape[1]))
    if leading is None or not (trained.trainer.residual or layer == hidden - 1 or set(later) == {1}):
        return _Predicted(leading or Leading(1), nothing, nothing)
    adam = trained.trainer.settings.method == "adam"
    by_sign = sign_directions(received, residual, leading) if adam else nothing
    return _Predicted(leading, flow_directions(received, residual, leading), by_sign)


def leading_term(name: str) -> Leading | None:
    """The leading term of an activation at 0; None for one that is flat there."""
    power = activations.multiplicity(name)
    if power:
        return Leading(power)
    right, left = activations.one_sided_slopes(name)
    return Leading(0, right, left) if abs(right - left) > 1e-6 else None


def _measure(weights: Array, predicted: _Predicted, initial: _Predicted, seed: int) -> Row:
    """The measures of one layer with input weights (m, k)."""
    directions = Directions.of(weights)
    near, share = predicted.agreement(directions, by_sign=False)
    near_initial, share_initial = initial.agreement(directions, by_sign=False)
    _, sign_share = predicted.agreement(directions, by_sign=True)
    _, sign_share_initial = initial.agreement(directions, by_sign=True)
    return {
        "active_neurons": float(len(directions.units)),
        "lines": float(directions.count_lines()),
        "orientations": float(directions.count_orientations()),
        "aligned_fraction": directions.aligned_fraction(),
        "lines_narrow": float(directions.count_lines(NARROW)),
        "lines_wide": float(directions.count_lines(WIDE)),
        "effective_orientations": measures.orientations(weights, seed),
        "predicted_alignment": near,
        "predicted_fraction": share,
        "predicted_alignment_initial": near_initial,
        "predicted_fraction_initial": share_initial,
        "predicted_lines": float(len(predicted.flow) or math.nan),
        "sign_lines": float(len(predicted.sign) or math.nan),
        "sign_fraction": sign_share,
        "sign_fraction_initial": sign_share_initial,
        "largest_weight": float(np.linalg.norm(weights, axis=1).max()),
    }


def _curve(
    networks: Networks, parameters: Sequence[Any], there: int, trained: _Trained
) -> tuple[Array, Array]:
    """A fine grid over the data of one input, and f on it; empty for more inputs."""
    job = trained.job
    if job.dimension != 1:
        return np.empty(0), np.empty(0)
    x = trained.trainer.data.of(job.dimension, job.seed).x
    grid = np.linspace(x.min(), x.max(), CURVE_POINTS)
    other = (there + 1) % len(networks)
    pair = networks.select([there, other]).at(grid[:, None])
    f = pair.residuals([part[[there, other]] for part in parameters])[0]
    return grid, f.double().cpu().numpy()


def _polynomial_misfit(grid: Array, f: Array, trained: _Trained) -> float:
    """The largest deviation of f from its best polynomial of degree p, relative to the range of f.

    With one hidden layer of small weights, f is a sum of a_k (w_k x + b_k)^p. NaN for more layers or inputs, or without p.
    """
    [first, *further] = trained.job.activations
    degree = activations.multiplicity(first)
    spread = float(np.ptp(f)) if len(f) else 0.0
    if further or not degree or spread == 0.0:
        return math.nan
    polynomial = np.polynomial.Polynomial.fit(grid, f, degree)
    return float(np.abs(f - polynomial(grid)).max()) / spread


def _kept_rows(
    trained: _Trained,
    epoch: int,
    weights: Sequence[Array],
    residual: Array,
    loss: float,
    predicted: Sequence[_Predicted],
    curve: tuple[Array, Array],
    losses: tuple[list[float], list[float]],
) -> list[Row]:
    """The rows of ``samples`` of one snapshot."""
    last = epoch == trained.trainer.settings.epochs
    rows = []
    for layer in range(len(weights) - 1):
        above = weights[layer + 1]
        places, field_ = _direction_field(trained.job.activations[layer], weights[layer], trained, residual)
        rows.append(
            {
                **trained.identity(layer),
                "epoch": epoch,
                "loss": loss,
                "input": list(weights[layer].astype(np.float32)),
                "output": list((above[:, None] if above.ndim == 1 else above[:, :-1].T).astype(np.float32)),
                "predicted": list(predicted[layer].flow.astype(np.float32)),
                "predicted_sign": list(predicted[layer].sign.astype(np.float32)),
                "x": curve[0].tolist(),
                "f": curve[1].tolist(),
                "residual": residual.tolist(),
                "field_at": list(places.astype(np.float32)),
                "field": list(field_.astype(np.float32)),
                "epochs": list(losses[0]) if last and layer == 0 else [],
                "losses": list(losses[1]) if last and layer == 0 else [],
                "version": VERSION,
            }
        )
    return rows


def _direction_field(
    name: str, weights: Array, trained: _Trained, residual: Array
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Places (q, 2) in the plane of a weight and its bias, and -1/n sum_i e_i x_i s'(w . x_i) there; empty for more inputs, or layers."""
    job = trained.job
    if job.dimension != 1 or len(job.activations) > 1:
        return np.empty((0, 2)), np.empty((0, 2))
    import torch

    data = trained.trainer.data.of(job.dimension, job.seed)
    reach = FIELD_MARGIN * float(np.abs(weights).max())
    axis = np.linspace(-reach, reach, FIELD_POINTS)
    places = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    inputs = np.column_stack([data.x, np.ones(len(data.x))])
    with torch.enable_grad():
        z = torch.from_numpy(places @ inputs.T).requires_grad_()
        [slope] = torch.autograd.grad(activations.activation(name)(z).sum(), z)
    return places, -(slope.numpy() * residual) @ inputs / len(residual)
