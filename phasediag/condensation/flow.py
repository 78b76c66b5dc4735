"""Gradient flow d theta/dt = -grad R of networks of any depth, with error control.

Every job has its own steps, by Dormand and Prince's pair of orders 5 and 4 (J. Comp. Appl. Math. 6, 1980). The error of a step is the
error of each neuron's input weights, and of the output weights, relative to their size: neurons grow at different times, and small ones
matter as much as large ones. Early in training, where weights grow out of a small initialisation, the flow is not stiff.

An epoch is the time ``learning_rate``. Gradient descent with this learning rate is at the same place as the flow at the same epoch, up to
the error of descent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .descent import Losses, Observe, Schedule, Snapshot, losses_of
from .networks import Networks, Parameters

_STAGES: tuple[tuple[float, ...], ...] = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""Row s: weights of the slopes before stage s + 2; the last one is the step itself, and its slope the first one of the next step."""
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""The step minus the step of order 4."""
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0
_ROOM = 1.0 + 1e-9
_COMPACT_EVERY = 16


@dataclass
class _Front:
    """The jobs that are not at their end yet; tensors (B,) are float64 or bool."""

    jobs: list[int]  # index into the batch
    networks: Networks
    parameters: Parameters
    slope: Parameters
    residual: Tensor
    rates: list[float]
    floors: list[Tensor]  # sizes below which weights count as large as this, by part
    time: Tensor
    step: Tensor
    next: list[int] = field(default_factory=list)  # which snapshot a job is heading for

    def select(self, keep: Sequence[int]) -> _Front:
        index = torch.tensor(keep, device=self.time.device)
        return _Front(
            [self.jobs[job] for job in keep],
            self.networks.select(keep),
            [part[index] for part in self.parameters],
            [part[index] for part in self.slope],
            self.residual[index],
            [self.rates[job] for job in keep],
            [part[index] for part in self.floors],
            self.time[index],
            self.step[index],
            [self.next[job] for job in keep],
        )


def integrate(
    networks: Networks,
    schedule: Schedule,
    accuracy: float,
    max_evaluations: int,
    observe: Observe,
    losses: Losses | None = None,
) -> list[int]:
    """Follows every job to the end of the schedule, or for so many evaluations of its gradient.

    Args:
        networks: at least two.
        schedule: the times of snapshots are their epochs times the job's rate.
        accuracy: error allowed in a step, relative to the size of the weights.
        max_evaluations: after these a job ends where it is.
        observe: called with every snapshot that is reached.
        losses: where to note the loss along the way.

    Returns:
        The evaluations of every job.
    """
    front = _begin(networks, schedule, accuracy)
    evaluations = [1] * len(networks)
    _look(front, schedule, observe, [True] * len(networks), losses)
    rounds = 0
    while True:
        rounds += 1
        ended = [
            front.next[job] == len(schedule.snapshots) or evaluations[front.jobs[job]] >= max_evaluations
            for job in range(len(front.jobs))
        ]
        if all(ended):
            return evaluations
        if rounds % _COMPACT_EVERY == 0 and sum(ended) > len(ended) / 4:
            front = front.select(_still_needed(ended))
            continue
        accepted = _try_step(front, schedule, accuracy, ended)
        for job, over in zip(front.jobs, ended, strict=True):
            evaluations[job] += 0 if over else len(_STAGES)
        _look(front, schedule, observe, accepted, losses)


def _begin(networks: Networks, schedule: Schedule, accuracy: float) -> _Front:
    parameters = [part.clone() for part in networks.start]
    residual, gradient = networks.gradient(parameters)
    slope = [-part for part in gradient]
    floors = [part.double().abs().amax(dim=(1, 2)) for part in parameters]
    # A first step in which no weight is expected to move by more than a small part of the largest of its layer.
    pace = torch.stack(
        [part.double().abs().amax(dim=(1, 2)) / floor for part, floor in zip(slope, floors, strict=True)]
    ).amax(dim=0)
    step = accuracy**0.2 / 10 / pace.clamp_min(torch.finfo(torch.float64).tiny)
    time = torch.zeros_like(step)
    jobs = list(range(len(networks)))
    rates = list(schedule.rates)
    return _Front(jobs, networks, parameters, slope, residual, rates, floors, time, step, [0] * len(jobs))


def _still_needed(ended: Sequence[bool]) -> list[int]:
    """The jobs that have not ended, with one that has where a single one is left: products of one matrix differ in their last bit."""
    running = [job for job, over in enumerate(ended) if not over]
    return running if len(running) > 1 else [*running, ended.index(True)]


def _try_step(front: _Front, schedule: Schedule, accuracy: float, ended: Sequence[bool]) -> list[bool]:
    """One step of every job that has not ended; returns which were accepted. Rejected ones will be shorter."""
    device = front.time.device
    moving = ~torch.tensor(ended, device=device)
    aims = [
        rate * schedule.snapshots[min(to, len(schedule.snapshots) - 1)]
        for rate, to in zip(front.rates, front.next, strict=True)
    ]
    aim = torch.tensor(aims, dtype=torch.float64, device=device)
    left = aim - front.time
    lands = front.step * _ROOM >= left
    step = torch.where(moving, torch.where(lands, left, front.step), 0.0)
    slopes = [front.slope]
    for weights in _STAGES:
        place = _moved(front.parameters, slopes, weights, step)
        residual, gradient = front.networks.gradient(place)
        slopes.append([-part for part in gradient])
    error = _relative_error(front, place, _combined(slopes, _ERROR), step)
    finite = torch.isfinite(error)
    accept = moving & finite & (error <= accuracy)
    _take(front, accept, place, slopes[-1], residual, torch.where(lands, aim, front.time + step))
    factor = (_SAFETY * (accuracy / error.clamp_min(1e-300)) ** 0.2).clamp(_SHRINK, _GROW)
    factor = torch.where(finite, factor, _SHRINK)
    # A step that was cut to land on a snapshot is no reason against a longer one.
    proposed = torch.where(accept & lands, torch.maximum(front.step, step * factor), step * factor)
    front.step = torch.where(moving, proposed, front.step)
    return accept.tolist()


def _take(
    front: _Front, accept: Tensor, place: Parameters, slope: Parameters, residual: Tensor, time: Tensor
) -> None:
    mask = accept[:, None, None]
    front.parameters = [torch.where(mask, new, old) for new, old in zip(place, front.parameters, strict=True)]
    front.slope = [torch.where(mask, new, old) for new, old in zip(slope, front.slope, strict=True)]
    front.residual = torch.where(accept[:, None], residual, front.residual)
    front.time = torch.where(accept, time, front.time)


def _combined(slopes: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
    """The weighted sum of slopes, added up in one order."""
    parts = []
    for stages in zip(*slopes[: len(weights)], strict=True):
        total = torch.zeros_like(stages[0])
        for stage, weight in zip(stages, weights, strict=True):
            if weight:
                total = total + weight * stage
        parts.append(total)
    return parts


def _moved(
    parameters: Parameters, slopes: Sequence[Parameters], weights: Sequence[float], step: Tensor
) -> Parameters:
    scale = step.to(parameters[0].dtype)[:, None, None]
    return [
        part + scale * change for part, change in zip(parameters, _combined(slopes, weights), strict=True)
    ]


def _relative_error(front: _Front, place: Parameters, error: Parameters, step: Tensor) -> Tensor:
    """The largest error of a step (B,), relative to the size of the weights of a neuron, or of the output weights together."""
    largest = torch.zeros_like(step)
    for index, (old, new, off) in enumerate(zip(front.parameters, place, error, strict=True)):
        dims = (1, 2) if index == len(place) - 1 else (1,)
        size = torch.maximum(old.double().abs().amax(dim=dims), new.double().abs().amax(dim=dims))
        floor = front.floors[index].reshape(-1, *[1] * (size.ndim - 1))
        relative = off.double().abs().amax(dim=dims) / torch.maximum(size, floor)
        relative = relative if relative.ndim == 1 else relative.amax(dim=1)
        largest = torch.where(relative > largest, relative, largest) + 0 * relative  # NaN stays NaN
    return step * largest


def _look(
    front: _Front, schedule: Schedule, observe: Observe, accepted: Sequence[bool], losses: Losses | None
) -> None:
    """Observes the jobs that have reached a snapshot, and notes the losses of the jobs that have moved."""
    times = front.time.tolist()
    values = losses_of(front.residual) if losses is not None else []
    by_epoch: dict[int, list[tuple[int, int]]] = {}
    for local, (job, time, moved) in enumerate(zip(front.jobs, times, accepted, strict=True)):
        if not moved:
            continue
        if losses is not None:
            losses[job][0].append(time / front.rates[local])
            losses[job][1].append(values[local])
        to = front.next[local]
        if to < len(schedule.snapshots) and time == front.rates[local] * schedule.snapshots[to]:
            by_epoch.setdefault(schedule.snapshots[to], []).append((job, local))
            front.next[local] += 1
    for epoch, jobs in by_epoch.items():
        observe(Snapshot(epoch, jobs, front.networks, front.parameters, front.residual))
