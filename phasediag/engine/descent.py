"""Methods with a fixed step, gradient descent and Adam, for batches of networks of any depth.

In normalised weights, with ``kappa = m**-gamma``, the networks are

    two layers:    f(x) = kappa * a . relu(W1 (x, 1))
    three layers:  f(x) = kappa * a . relu(W2 (relu(W1 (x, 1)), 1))        and so on

and the loss is ``R = 1/(2n) sum_i e_i^2`` with the residual ``e_i = f(x_i) - y_i``. One evaluation is one forward and backward
pass over all points; it is followed by one step:

``gd``    ``theta_l <- theta_l - learning_rate * c_l * dR/dtheta_l``: explicit Euler of the normalised gradient flow, of step
          ``learning_rate`` in the flow's unit of time, with its rates ``c_l`` (two layers: 1/kappa' for a, kappa' for W1; three
          layers: 1 for a, kappa_1^2 for W2, kappa_2^2 for W1; deeper: kappa_1^2 for W3, ... too). For weights
          ``beta_l * theta_l`` of the usual networks it is plain
          gradient descent with the step ``learning_rate * beta_1 * beta_2`` (two layers), ``learning_rate * beta_1^2`` (three).
``adam``  Adam (Kingma and Ba, ICLR 2015; 0.9, 0.999, 1e-8) on the normalised weights, with the gradient of R and one
          learning rate for all layers. Where the prefactor makes gradients smaller than 1e-8, that constant decides the step.

All jobs of a batch step together, but each ends on its own: the weights of a job that has ended stay as they are, until the batch,
which is looked at every few steps, is rid of it. What becomes of a job depends neither on that nor on its neighbours.

Tensors carry jobs first and neurons last, as in :mod:`.networks`; matrices are (B, inputs, neurons).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .functions import products
from .linearised import Ways, courses
from .modes import eigh
from .networks import Array, Course, Layers, Moment, Outcome, initial_weights
from .visits import Visits

ALIGNMENT = 32
"""Widths are padded to a multiple of this with neurons whose weights are and stay zero. Vector instructions then never straddle
jobs, nor leave a remainder to other code, and a job's arithmetic is the same whichever other jobs are in the batch."""
CHECK_EVERY = 32
"""Steps between two looks at which jobs have ended: a GPU waits at each of them."""
TRACE_GROWTH = 1.1
"""Ratio of the evaluations of neighbouring entries of a trace."""
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8

STATUS = ("", "converged", "evaluation_limit", "stalled", "diverged")
_RUNNING, _CONVERGED, _LIMIT, _STALLED, _DIVERGED = range(len(STATUS))

Parts = dict[str, Tensor]
"""The weights of a batch by part of the network: "W1" (B, d+1, m) with the bias last; between hidden layers "W2" (B, m, m) and its bias
"b2" (B, 1, m), and so on; "a" (B, 1, m)."""
Factors = dict[str, tuple[Tensor, Tensor]]
"""The factors of a gradient by part of the network, left (B, n, inputs) and right (B, n, m): the gradient is the sum over points of
their outer products."""


@dataclass(frozen=True)
class Settings:
    """Which method, and how long.

    ``learning_rate``: the fixed step, see above. ``loss_tolerance``: converged when the loss is at most this fraction of the loss
    of f = 0. ``max_evaluations``: full-batch forward and backward passes after which no further step is taken.
    """

    method: Literal["gd", "adam"]
    learning_rate: float
    loss_tolerance: float = 1e-6
    max_evaluations: int = 20_000


@dataclass
class Networks:
    """A batch of networks of one shape on one data set, at their initial weights.

    ``inputs`` (n, d+1) in the dtype of the computation, the constant 1 last; ``y`` (n,), ``kappa`` (B,) and, by part, ``rates``
    (B,) in float64. ``start`` is padded to a multiple of ``ALIGNMENT`` neurons, of which ``width`` count.
    """

    width: int
    inputs: Tensor
    y: Tensor
    kappa: Tensor
    rates: Parts
    start: Parts

    @classmethod
    def from_exponents(
        cls,
        depth: int,
        width: int,
        x: np.ndarray,
        y: np.ndarray,
        jobs: Sequence[tuple[float, float, float, int]],
        dtype: torch.dtype,
        device: str,
    ) -> Networks:
        """The networks of ``jobs`` = (gamma, gamma_prime, gamma_1, seed)."""
        extended = np.hstack([x, np.ones((len(x), 1))])
        exponents = torch.tensor([job[:3] for job in jobs], dtype=torch.float64, device=device)
        kappa, kappa_prime, kappa_1 = (float(width) ** -exponents).unbind(dim=1)
        drawn = {seed: _parts(depth, width, x.shape[1], seed) for seed in {seed for *_, seed in jobs}}

        def on_device(array: np.ndarray, kind: torch.dtype) -> Tensor:
            return torch.from_numpy(array).to(device=device, dtype=kind)

        start = {
            part: torch.stack([on_device(drawn[seed][part], dtype) for *_, seed in jobs])
            for part in drawn[jobs[0][-1]]
        }
        return cls(
            width,
            on_device(extended, dtype),
            on_device(y, torch.float64),
            kappa,
            _rates(depth, kappa_prime, kappa_1),
            start,
        )

    def select(self, jobs: Tensor) -> Networks:
        """The networks with these indices."""
        return Networks(
            self.width,
            self.inputs,
            self.y,
            self.kappa.index_select(0, jobs),
            _select(self.rates, jobs),
            _select(self.start, jobs),
        )

    def initial(self, job: int) -> Layers:
        """The initial weights of one job by layer, in the shapes of ``Outcome.changes``."""
        return layers_of(**_layers(self.start, job, self.width))

    def evaluate(self, weights: Parts) -> tuple[Tensor, Tensor, Factors]:
        """Residual (B, n), float64, and the gradient of R, as a scale (B,), float64, and factors of order one.

        The scale is apart because products of a small prefactor and a small residual are beyond float32.
        """
        jobs, points = len(self.kappa), len(self.y)
        inputs = self.inputs.expand(jobs, -1, -1)  # one matrix per job: no fusing of jobs into one product
        hidden = [torch.bmm(inputs, weights["W1"]).clamp_min_(0)]
        for layer in _between(weights):
            hidden.append(torch.baddbmm(weights[f"b{layer}"], hidden[-1], weights[f"W{layer}"]).clamp_min_(0))
        output = (hidden[-1].double() * weights["a"].double()).sum(dim=2)
        residual = self.kappa[:, None] * output - self.y

        size = residual.abs().amax(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
        unit = (residual / size[:, None]).to(self.inputs.dtype)[:, :, None]
        factors = {"a": (unit, hidden[-1])}
        signal = (hidden[-1] > 0) * (unit * weights["a"])
        for layer in reversed(_between(weights)):
            below = hidden[layer - 2]
            factors[f"W{layer}"] = below, signal
            factors[f"b{layer}"] = torch.ones_like(unit), signal
            signal = (below > 0) * torch.bmm(signal, weights[f"W{layer}"].transpose(1, 2))
        factors["W1"] = inputs, signal
        return residual, self.kappa * size / points, factors


@dataclass
class _Front:
    """The jobs of the batch that are not dropped yet. ``status`` indexes STATUS; the next two hold from a job's end on."""

    jobs: Tensor  # (B,) index into the batch
    networks: Networks
    change: Parts
    moments: tuple[Parts, Parts]  # of Adam; empty for gradient descent
    weights: Parts  # workspace for the present weights: allocating large tensors anew is slow
    status: Tensor  # (B,)
    evaluations: Tensor  # (B,)
    loss: Tensor  # (B,) float64
    half: Tensor  # (B,) half of the loss at the start, and the steps after which the loss first was that: NaN before
    halved: Tensor

    @classmethod
    def at_start(cls, networks: Networks, settings: Settings) -> _Front:
        count = torch.zeros_like(networks.kappa, dtype=torch.int64)
        moving = networks.start if settings.method == "adam" else {}
        unknown = torch.full_like(networks.kappa, torch.nan)
        return cls(
            torch.arange(len(count), device=count.device),
            networks,
            _zeros_like(networks.start),
            (_zeros_like(moving), _zeros_like(moving)),
            _zeros_like(networks.start),
            count,
            count.clone(),
            *(unknown.clone() for _ in range(3)),
        )

    def select(self, keep: Tensor) -> _Front:
        first, second = self.moments
        return _Front(
            self.jobs.index_select(0, keep),
            self.networks.select(keep),
            _select(self.change, keep),
            (_select(first, keep), _select(second, keep)),
            {part: tensor.new_empty(len(keep), *tensor.shape[1:]) for part, tensor in self.weights.items()},
            self.status.index_select(0, keep),
            self.evaluations.index_select(0, keep),
            *(tensor.index_select(0, keep) for tensor in (self.loss, self.half, self.halved)),
        )

    @property
    def running(self) -> Tensor:
        """(B,) bool."""
        return self.status == _RUNNING

    def present(self) -> Parts:
        """The weights as they are now."""
        for part, start in self.networks.start.items():
            torch.add(start, self.change[part], out=self.weights[part])
        return self.weights

    def end(self, ended: Tensor, status: int) -> None:
        """Gives the jobs of the mask ``ended`` (B,) that are still running this status."""
        self.status = torch.where(ended & self.running, status, self.status)


def descend(
    networks: Networks, settings: Settings, trace: bool = False, visits: Visits[Any] | None = None
) -> Outcome:
    """Trains every job with a fixed step until it converges, or to an honest end.

    Returns an :class:`.networks.Outcome`, with a trace (if asked for) at the start, at evaluations that grow geometrically,
    and at the end; its ``status`` is "converged", "evaluation_limit", "stalled" (a step that changes no output weight
    and no bias: the gradient is zero, as in a network all of whose neurons are dead, or lost in rounding) or "diverged" (the loss is
    not finite; nor need the weights be). ``visits``: when to look at the only job of a batch that descends.
    """
    outcome = Outcome.of(len(networks.kappa))
    outcome.courses = [_NOWHERE] * len(networks.kappa)
    target = settings.loss_tolerance * half_mean_square(networks.y[None, :]).item()
    front = _Front.at_start(networks, settings)
    evaluations, due = 0, 1
    step = settings.learning_rate if settings.method == "gd" else float("nan")
    losses: list[Tensor] = []
    while len(front.jobs):
        evaluations += 1
        residual, scale, factors = front.networks.evaluate(front.present())
        _end(front, residual, evaluations, target, settings.max_evaluations)
        if evaluations == 1:
            outcome.loss_initial, front.half = front.loss.tolist(), front.loss / 2
        losses.append(front.loss)
        if trace and evaluations == due:
            _record(outcome, front, step)
            due = max(due + 1, int(due * TRACE_GROWTH))
        if visits and front.running[0]:
            time = _time(front, 0, evaluations, step)
            visits.at(time, float(front.loss[0]), partial(_changes, front, 0))
        _step(front, scale, factors, evaluations, settings)
        if evaluations % CHECK_EVERY == 0 or evaluations == settings.max_evaluations:
            _note_half(front, torch.stack(losses), evaluations)
            front = _drop_ended(outcome, front, trace, step)
            losses = [front.loss]
    return outcome


def _end(front: _Front, residual: Tensor, evaluations: int, target: float, limit: int) -> None:
    """Brings the counts and losses of running jobs up to date and ends those that are at their end."""
    loss = half_mean_square(residual)
    front.evaluations = torch.where(front.running, evaluations, front.evaluations)
    front.loss = torch.where(front.running, loss, front.loss)
    front.end(~torch.isfinite(loss), _DIVERGED)
    front.end(loss <= target, _CONVERGED)
    if evaluations >= limit:
        front.end(torch.ones_like(front.running), _LIMIT)


def _note_half(front: _Front, losses: Tensor, evaluations: int) -> None:
    """Notes which jobs have come to half of their loss in the last of so many evaluations, with these losses (E, B): between two of them,
    ln of the loss is taken to be a straight line."""
    reached = losses <= front.half
    at = reached.int().argmax(dim=0)
    before, after = (losses.gather(0, index.clamp(min=0)[None])[0] for index in (at - 1, at))
    share = (before / front.half).log() / (before / after).log()
    new = reached.any(dim=0) & front.halved.isnan()
    front.halved = torch.where(new, evaluations - len(losses) + at - 1 + share, front.halved)


def _step(front: _Front, scale: Tensor, factors: Factors, count: int, settings: Settings) -> None:
    """One step of every running job; those that it does not move have stalled."""
    watched = [part for part in factors if part == "W1" or not part.startswith("W")]
    before = [front.change[part][:, -1:].clone() for part in watched]
    factors = _of_running(front.running[:, None, None], factors)
    if settings.method == "gd":
        _descend(front, settings.learning_rate * scale, factors)
    else:
        _adapt(front, scale, factors, count, settings.learning_rate)
    # The last row of each part: biases and output weights. They stand for all: whole matrices would be dear to compare.
    after = [front.change[part][:, -1:] for part in watched]
    moved = [(new != old).any(dim=2).any(dim=1) for new, old in zip(after, before, strict=True)]
    front.end(~torch.stack(moved).any(dim=0), _STALLED)


def _of_running(running: Tensor, factors: Factors) -> Factors:
    """The factors, zero for jobs that have ended (whose own need not be finite)."""
    return {
        part: (torch.where(running, left, 0.0), torch.where(running, right, 0.0))
        for part, (left, right) in factors.items()
    }


def _descend(front: _Front, scale: Tensor, factors: Factors) -> None:
    for part, (left, right) in factors.items():
        step = (scale * front.networks.rates[part]).to(right.dtype)[:, None, None]
        front.change[part].baddbmm_(left.transpose(1, 2), right * step, alpha=-1)


def _adapt(front: _Front, scale: Tensor, factors: Factors, count: int, learning_rate: float) -> None:
    """The ``count``-th step of Adam."""
    rate = front.running.double() * (learning_rate / (1 - BETA_1**count))
    for part, (left, right) in factors.items():
        gradient_scale, step = (per_job.to(right.dtype)[:, None, None] for per_job in (scale, rate))
        work = front.weights[part]  # not needed until the next evaluation
        gradient = torch.bmm(left.transpose(1, 2), right * gradient_scale, out=work)
        first, second = (moments[part] for moments in front.moments)
        first.lerp_(gradient, 1 - BETA_1)
        second.mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
        spread = torch.sqrt(second, out=work).div_((1 - BETA_2**count) ** 0.5).add_(EPSILON)
        front.change[part] -= torch.div(first, spread, out=work).mul_(step)


def _drop_ended(outcome: Outcome, front: _Front, trace: bool, step: float) -> _Front:
    """Notes the end of the jobs that have ended, and returns the others."""
    status = front.status.tolist()
    ended = [index for index, code in enumerate(status) if code != _RUNNING]
    if not ended:
        return front
    if trace:
        _record_ends(outcome, front, step)
    jobs, evaluations, losses = front.jobs.tolist(), front.evaluations.tolist(), front.loss.tolist()
    for index in ended:
        job = jobs[index]
        outcome.status[job] = STATUS[status[index]]
        outcome.evaluations[job], outcome.loss_final[job] = evaluations[index], losses[index]
        outcome.changes[job] = _changes(front, index)
        outcome.courses[job] = _course(front, index, step)
    return front.select(torch.nonzero(front.running).flatten())


_NOWHERE = Course(float("nan"), float("nan"), float("nan"), float("nan"), np.empty(0))


def _course(front: _Front, index: int, step: float) -> Course:
    """The course of a job that is at its end, in the unit of time in which the rate of a is 1."""
    networks, points = front.networks, len(front.networks.y)
    kappa, x = float(networks.kappa[index]), networks.inputs[:, :-1].double()
    start, change = (
        {name: part.double() for name, part in _layers(parts, index, networks.width).items()}
        for parts in (networks.start, front.change)
    )
    unit = float(networks.rates["a"][index])
    rates = torch.stack([networks.rates[name][index] / unit for name in start])
    ends: list[Array] = []
    for weights in (list(start.values()), [start[name] + change[name] for name in start]):
        outputs, layers = zip(*products(weights, x, x, 1.0), strict=True)
        by_layer = torch.stack([torch.cat(parts) for parts in zip(*layers, strict=True)])
        residual = kappa * torch.cat(outputs) - networks.y
        kernel = kappa**2 / points * torch.einsum("l,lij->ij", rates, by_layer)
        ends += [residual.cpu().numpy()[None], kernel.cpu().numpy()[None]]
    values, vectors = eigh(ends[1])
    steps = np.array([[float(front.evaluations[index]) - 1.0], [float(front.halved[index])]])
    time, time_half = steps * step * unit
    ways = Ways(ends[0], values.clip(0), vectors, ends[2], ends[3], time, time_half, np.array([step * unit]))
    return next(courses(ways))


def _record(outcome: Outcome, front: _Front, step: float) -> None:
    """Adds an entry to the trace of every running job. The others have their last entry already, or to come."""
    _append(outcome, front, torch.nonzero(front.running).flatten().tolist(), step)


def _record_ends(outcome: Outcome, front: _Front, step: float) -> None:
    """Adds the last entry of every job that has ended, unless it is there already."""
    evaluations = front.evaluations.tolist()
    ended = torch.nonzero(~front.running).flatten().tolist()
    traces = {index: outcome.trace[int(front.jobs[index])] for index in ended}
    _append(
        outcome,
        front,
        [i for i in ended if not (traces[i] and traces[i][-1].evaluations == evaluations[i])],
        step,
    )


def _append(outcome: Outcome, front: _Front, indices: list[int], step: float) -> None:
    """Adds entries of the jobs with these indices; ``step`` is that of the flow in one evaluation, NaN where none is followed."""
    jobs, evaluations, losses = front.jobs.tolist(), front.evaluations.tolist(), front.loss.tolist()
    for index in indices:
        layers = _layers(front.change, index, front.networks.width)
        moved = {layer: float(change.double().norm()) for layer, change in layers.items()}
        time = _time(front, index, evaluations[index], step)
        outcome.trace[jobs[index]].append(Moment(evaluations[index], time, losses[index], moved))


def _time(front: _Front, index: int, evaluations: int, step: float) -> float:
    """The time of the flow after so many evaluations of a job."""
    return (evaluations - 1) * step * float(front.networks.rates["a"][index])


def _changes(front: _Front, index: int) -> Layers:
    """The displacement of the weights of a job."""
    return layers_of(**_layers(front.change, index, front.networks.width))


def _parts(depth: int, width: int, inputs: int, seed: int) -> dict[str, np.ndarray]:
    """The initial weights of a seed by part, each (inputs, neurons), padded with neurons whose weights are and stay zero."""
    w1, *between, a = initial_weights(depth, width, inputs, seed)
    parts, padding = {"W1": w1.T, "a": a[None, :]}, -width % ALIGNMENT
    padded = {part: np.pad(matrix, ((0, 0), (0, padding))) for part, matrix in parts.items()}
    for layer, w in enumerate(between, start=2):
        padded[f"W{layer}"] = np.pad(w[:, :-1].T, ((0, padding), (0, padding)))
        padded[f"b{layer}"] = np.pad(w[:, -1:].T, ((0, 0), (0, padding)))
    return padded


def _between(parts: Parts) -> list[int]:
    """The layers between hidden layers, from the input to the output."""
    return sorted(int(part[1:]) for part in parts if part.startswith("W") and part != "W1")


def _layers(parts: Parts, job: int, m: int) -> dict[str, Tensor]:
    """A job's weights, or their change, by layer and without the padding: W1 (m, d+1), W2, ... (m, m+1), a (m,)."""
    layers = {"W1": parts["W1"][job, :, :m].T.contiguous()}
    for layer in _between(parts):
        matrix = torch.cat([parts[f"W{layer}"][job, :m, :m], parts[f"b{layer}"][job, :, :m]])
        layers[f"W{layer}"] = matrix.T.contiguous()
    return {**layers, "a": parts["a"][job, 0, :m].clone()}


def _rates(depth: int, kappa_prime: Tensor, kappa_1: Tensor) -> Parts:
    """The rates c_l (B,) of the normalised flow, by part."""
    rates = flow_rates(depth, kappa_prime, kappa_1)
    return {**rates, **{f"b{layer}": rates[f"W{layer}"] for layer in range(2, depth)}}


def _select(parts: Parts, jobs: Tensor) -> Parts:
    return {part: tensor.index_select(0, jobs) for part, tensor in parts.items()}


def _zeros_like(parts: Parts) -> Parts:
    return {part: torch.zeros_like(tensor) for part, tensor in parts.items()}


def flow_rates(depth: int, kappa_prime: Tensor, kappa_1: Tensor) -> dict[str, Tensor]:
    """The rates c_l (B,) of the normalised flow, by layer."""
    if depth == 2:
        return {"W1": kappa_prime, "a": 1.0 / kappa_prime}
    between = {f"W{layer}": kappa_1**2 for layer in range(2, depth)}
    return {"W1": kappa_prime**2, **between, "a": torch.ones_like(kappa_1)}


def half_mean_square(residual: Tensor) -> Tensor:
    """The loss R = sum_i e_i^2 / 2n (B,) of residuals (B, n)."""
    return (residual**2).mean(dim=1) / 2


def layers_of(**layers: Tensor) -> Layers:
    """Weights of one job, copied off the device."""
    return {layer: weights.cpu().numpy().copy(order="K") for layer, weights in layers.items()}
