"""Jobs in, rows out: trains a batch of networks and measures how far they have condensed at every snapshot.

A row depends on its job, the data and the settings alone: not on the other jobs of the batch, nor on the number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..devices import device_name, fitting, side_by_side, workers
from ..storage.schema import VERSION
from . import measures
from .activations import multiplicity
from .columns import MEASURES
from .costs import card_bytes
from .measures import Curve, Predicted, Seen
from .spec import name_of

if TYPE_CHECKING:  # torch takes seconds to import, and describing a failed job needs none of it
    from .descent import Losses, Schedule, Snapshot
    from .jobs import Job
    from .networks import Networks
    from .spec import TrainSpec
    from .study import Datasets

Array = NDArray[np.float64]
Row = dict[str, Any]

CHUNK_ELEMENTS = 2**17
"""Points times neurons of the jobs that are trained together on a CPU: a handful of such arrays should stay in its cache."""
CURVE_POINTS = 401
MAX_TRACE = 2000
"""Losses along the training that are kept."""
_SEEN = ("predicted", "predicted_sign", "field_at", "field", "x", "f", "residual")
"""What is kept of a layer beside its weights."""


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
        return trained.kept_rows()

    def weights(self, job: Job, device: str) -> tuple[list[Row], dict[str, Array]]:
        """Rows of ``runs`` of one job, and its data and weights: x, y, ``W1_initial``, ``W1_final`` (m, d+1; bias last), and so on
        for each hidden layer, ``a_initial``, ``a_final`` (m,)."""
        [trained] = self._train([job], device, 1, keep=True)
        data = self.data.of(job.dimension, job.seed)
        names = [*(f"W{layer + 1}" for layer in range(len(self.hidden))), "a"]
        arrays = {"x": data.x, "y": data.y}
        ends = list(trained.seen.values())
        for end, weights in (("initial", ends[0].weights), ("final", ends[-1].weights)):
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
        at_a_time = workers(device, threads)
        size = max(1, CHUNK_ELEMENTS // (self.data.points * sum(self.hidden)))
        if device != "cpu":
            largest, itemsize = max(job.dimension for job in jobs), np.dtype(self.settings.dtype).itemsize
            size = fitting(card_bytes(largest, self.hidden, self.data.points, itemsize), 0)
            size = min(size, -(-len(jobs) // at_a_time))
        chunks = [order[start : start + size] for start in range(0, len(order), size)]

        def work(chunk: Sequence[int]) -> list[_Trained]:
            return _train_chunk([jobs[index] for index in chunk], self, device, keep)

        done = side_by_side(work, chunks, at_a_time, device, with_torch=True)
        by_index = dict(zip(chain.from_iterable(chunks), chain.from_iterable(done), strict=True))
        return [by_index[index] for index in range(len(jobs))]


@dataclass
class _Trained:
    """A job while it is trained, and after; what was seen and predicted at all snapshots only if its network is kept."""

    job: Job
    trainer: Trainer
    keep: bool = False
    measured: dict[int, list[Row]] = field(default_factory=dict)  # by epoch: of each layer
    at_start: list[Predicted] = field(default_factory=list)  # for each layer
    initial_loss: float = math.nan
    seen: dict[int, Seen] = field(default_factory=dict)
    predicted: dict[int, list[Predicted]] = field(default_factory=dict)
    trace: tuple[list[float], list[float]] = ([], [])
    evaluations: int = 0
    seconds: float = 0.0

    def observe(self, epoch: int, seen: Seen) -> None:
        """Measures every layer at a snapshot."""
        layers = range(len(self.trainer.hidden))
        if self.keep:
            self.seen[epoch] = seen
        self.initial_loss = seen.loss if epoch == 0 else self.initial_loss
        if seen.has_diverged(self.initial_loss):
            self.measured[epoch] = [{"status": "diverged"} for _ in layers]
            return
        by_sign = self.trainer.settings.method == "adam"
        predicted = [measures.predict(seen, layer, by_sign) for layer in layers]
        self.at_start = self.at_start or predicted
        if self.keep:
            self.predicted[epoch] = predicted
        self.measured[epoch] = [
            {
                **measures.measure(seen, layer, predicted[layer], self.at_start[layer], self.job.seed),
                "status": "converged",
            }
            for layer in layers
        ]

    def rows(self, device: str) -> list[Row]:
        """The rows of ``runs``. Snapshots that were not reached have no measures."""
        layers = range(len(self.trainer.hidden))
        not_reached: list[Row] = [{"status": "evaluation_limit"}] * len(layers)
        return [
            {
                **self._identity(layer),
                "epoch": epoch,
                **MEASURES.blank(),
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

    def kept_rows(self) -> list[Row]:
        """The rows of ``samples``: one for every snapshot and layer, as long as the training did not diverge; the initial weights alone
        of a network whose output is not finite from the start."""
        layers = range(len(self.trainer.hidden))
        predicted: dict[int, Sequence[Predicted | None]] = {**self.predicted} or {0: [None for _ in layers]}
        last = max(predicted)
        return [
            {
                **self._identity(layer),
                "epoch": epoch,
                **_kept(self.seen[epoch], layer, of_layers[layer]),
                **self._trace(there=bool(self.predicted) and epoch == last and layer == 0),
                "version": VERSION,
            }
            for epoch, of_layers in predicted.items()
            for layer in layers
        ]

    def _identity(self, layer: int) -> Row:
        job, trainer = self.job, self.trainer
        return {
            "job_id": job.job_id,
            "layer": f"H{layer + 1}",
            "activation": job.activations[layer],
            "activations": name_of(job.activations),
            "multiplicity": multiplicity(job.activations[layer]),
            "hidden": trainer.hidden[layer],
            "dimension": job.dimension,
            "std": job.std,
            "method": trainer.settings.method,
            "seed": job.seed,
        }

    def _trace(self, there: bool) -> Row:
        """The loss along the training, thinned out towards its end."""
        epochs, losses = (np.asarray(values) for values in self.trace)
        places = np.unique(np.geomspace(1, len(epochs), MAX_TRACE).round().astype(int)) - 1
        return {
            "epochs": epochs[places].tolist() if there else [],
            "losses": losses[places].tolist() if there else [],
        }


def _kept(seen: Seen, layer: int, predicted: Predicted | None) -> Row:
    """What is kept of a layer at a snapshot; the weights alone without anything predicted."""
    weights = _as_float32(_weights_of(seen, layer))
    if predicted is None:
        return {"loss": math.nan, **{name: [] for name in _SEEN}, **weights}
    places, arrows = measures.direction_field(seen)
    matrices = {
        "predicted": predicted.flow,
        "predicted_sign": predicted.sign,
        "field_at": places,
        "field": arrows,
    }
    return {
        "loss": seen.loss,
        **weights,
        **_as_float32(matrices),
        "x": seen.curve[0].tolist(),
        "f": seen.curve[1].tolist(),
        "residual": seen.residual.tolist(),
    }


def _weights_of(seen: Seen, layer: int) -> dict[str, Array]:
    """The input weights of a layer, and what its neurons send on."""
    above = seen.weights[layer + 1]
    return {"input": seen.weights[layer], "output": above[:, None] if above.ndim == 1 else above[:, :-1].T}


def _as_float32(matrices: dict[str, Array]) -> dict[str, list[NDArray[np.float32]]]:
    return {name: list(matrix.astype(np.float32)) for name, matrix in matrices.items()}


def _train_chunk(jobs: Sequence[Job], trainer: Trainer, device: str, keep: bool) -> list[_Trained]:
    import torch

    from .descent import Schedule

    started, settings = time.perf_counter(), trainer.settings
    # A single job has a twin: products of single matrices go a way of their own.
    together = list(jobs) if len(jobs) > 1 else [*jobs, *jobs]
    networks = _networks(together, trainer, device)
    trained = [_Trained(job, trainer, keep) for job in jobs]
    losses: Losses | None = [([], []) for _ in together] if keep else None

    def observe(snapshot: Snapshot) -> None:
        features = snapshot.networks.features(snapshot.parameters)
        for index, there in snapshot.jobs:
            if index < len(trained):
                trained[index].observe(snapshot.epoch, _seen(trained[index], snapshot, there, features))

    schedule = Schedule(settings.epochs, settings.snapshots or (), [job.learning_rate for job in together])
    with torch.no_grad():
        evaluations = _train(networks, settings, schedule, observe, losses)
    seconds = time.perf_counter() - started
    for index, one in enumerate(trained):
        one.evaluations, one.seconds = evaluations[index], seconds / len(jobs)
        one.trace = losses[index] if losses is not None else one.trace
    return trained


def _networks(jobs: Sequence[Job], trainer: Trainer, device: str) -> Networks:
    import torch

    from .networks import Networks

    data = [trainer.data.of(job.dimension, job.seed) for job in jobs]
    return Networks.drawn(
        [(one.x, one.y) for one in data],
        trainer.hidden,
        [job.activations for job in jobs],
        trainer.residual,
        [job.std for job in jobs],
        [job.seed for job in jobs],
        getattr(torch, trainer.settings.dtype),
        device,
    )


def _train(
    networks: Networks, settings: TrainSpec, schedule: Schedule, observe: Any, losses: Losses | None
) -> list[int]:
    """Trains all networks; returns the evaluations of each."""
    from .descent import descend
    from .flow import integrate

    if settings.method == "gradient-flow":
        return integrate(networks, schedule, settings.accuracy, settings.max_evaluations, observe, losses)
    descend(networks, settings.method, schedule, observe, losses)
    return [settings.epochs + 1] * len(networks)


def _seen(trained: _Trained, snapshot: Snapshot, there: int, features: Sequence[Any]) -> Seen:
    """One job of a snapshot, in float64 and without the padding."""
    weights = [part.astype(np.float64) for part in snapshot.networks.weights(snapshot.parameters, there)]
    received = [
        part[there, :, : layer.shape[1]].double().cpu().numpy()
        for part, layer in zip(features[:-1], weights[:-1], strict=True)
    ]
    residual = snapshot.residual[there].double().cpu().numpy()
    curve = _curve(trained, snapshot, there)
    return Seen(trained.job.activations, trained.trainer.residual, weights, received, residual, curve)


def _curve(trained: _Trained, snapshot: Snapshot, there: int) -> Curve:
    job = trained.job
    if job.dimension != 1:
        return np.empty(0), np.empty(0)
    x = trained.trainer.data.of(job.dimension, job.seed).x
    grid = np.linspace(x.min(), x.max(), CURVE_POINTS)
    pair = [there, (there + 1) % len(snapshot.networks)]
    f = (
        snapshot.networks.select(pair)
        .at(grid[:, None])
        .residuals([part[pair] for part in snapshot.parameters])
    )
    return grid, f[0].double().cpu().numpy()
