"""Batches of networks and gradient descent on them as one would write them in plain PyTorch: nothing of the engine is used but
the initial weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasediag.engine.networks import initial_weights
from phasediag.phase_diagram.jobs import Job

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """What a method made of some jobs: relative changes (jobs, layers), NaN where unfinished, evaluations (jobs,), seconds in all."""

    changes: Array
    evaluations: Array
    seconds: float

    def errors(self, expected: Array) -> Array:
        """The largest relative error of a layer's relative change, of each job; NaN where unfinished."""
        errors: Array = np.abs(self.changes / expected - 1).max(axis=1)
        return errors

    @property
    def unfinished(self) -> int:
        return int(np.isnan(self.changes).any(axis=1).sum())


class Evaluation(NamedTuple):
    """Residual e (B, n); by layer the inputs h (B, n, in) and the backward signals df/(kappa dz) (B, n, out)."""

    residual: Tensor
    inputs: list[Tensor]
    signals: list[Tensor]


class Networks:
    """Normalised networks of one depth and width, jobs first: W1 (B, d+1, m), for three layers W2 (B, m+1, m), a (B, m, 1)."""

    def __init__(
        self,
        jobs: Sequence[Job],
        x: np.ndarray,
        y: np.ndarray,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
    ) -> None:
        depth, width, n = jobs[0].depth, jobs[0].width, len(x)
        drawn = [initial_weights(depth, width, x.shape[1], job.seed) for job in jobs]
        layers = [np.stack([np.atleast_2d(part).T for part in parts]) for parts in zip(*drawn, strict=True)]
        self.start = [torch.from_numpy(layer).to(device, dtype).contiguous() for layer in layers]
        self.x = torch.from_numpy(np.hstack([x, np.ones((n, 1))])).to(device, dtype)
        self.y = torch.from_numpy(y).to(device, dtype)
        self.kappa = torch.tensor([width**-job.gamma for job in jobs], dtype=torch.float64, device=device)
        rates = torch.tensor([layer_rates(job) for job in jobs], dtype=torch.float64, device=device)
        self.rates = rates.T  # (layers, B)

    def select(self, keep: Tensor) -> Networks:
        part = object.__new__(Networks)
        part.x, part.y = self.x, self.y
        part.start = [layer[keep] for layer in self.start]
        part.kappa, part.rates = self.kappa[keep], self.rates[:, keep]
        return part

    def evaluate(self, weights: Sequence[Tensor]) -> Evaluation:
        """A forward and a backward pass over all points."""
        h = self.x.expand(len(weights[0]), -1, -1)
        inputs, gates = [h], []
        for layer, weight in enumerate(weights[:-1]):
            z = torch.matmul(self.x, weight) if layer == 0 else torch.bmm(h, weight)
            h, width = torch.relu(z), z.shape[2]
            gates.append(z > 0)
            if layer < len(weights) - 2:
                h = torch.cat([h, torch.ones_like(h[:, :, :1])], dim=2)
            inputs.append(h)
        residual = self.kappa.to(h.dtype)[:, None] * torch.bmm(h, weights[-1])[:, :, 0] - self.y
        back = weights[-1].mT
        signals = [torch.ones_like(residual)[:, :, None]]
        for layer in range(len(gates) - 1, -1, -1):
            signals.insert(0, gates[layer] * back)
            if layer:
                back = torch.bmm(signals[0], weights[layer][:, :width].mT)
        return Evaluation(residual, inputs, signals)

    def kernels(self, at: Evaluation) -> Tensor:
        """By layer kappa^2 c_l J_l J_l^T / n (layers, B, n, n), float64."""
        grams = [
            (torch.matmul(h, h.mT) * torch.bmm(s, s.mT)).double()
            for h, s in zip(at.inputs, at.signals, strict=True)
        ]
        scale = self.kappa**2 * self.rates / len(self.y)
        return torch.stack(grams) * scale[:, :, None, None]

    def speeds(self, at: Evaluation, kernels: Tensor) -> Tensor:
        """Frobenius norms of the layers' velocities (layers, B)."""
        e = at.residual.double()
        energy = torch.einsum("bi,lbij,bj->lb", e, kernels, e).clamp_min(0)
        return (self.rates / len(self.y) * energy).sqrt()

    def norms(self, weights: Sequence[Tensor]) -> Tensor:
        """Frobenius norms of the layers (layers, B)."""
        return torch.stack([norm(layer) for layer in weights])

    def push(self, weights: Sequence[Tensor], at: Evaluation, impulse: Tensor) -> None:
        """Moves the weights, in place, by -(kappa c_l / n) J_l^T impulse; ``impulse`` (B, n) float64."""
        for weight, rate, h, s in zip(weights, self.rates, at.inputs, at.signals, strict=True):
            scaled = (-(self.kappa * rate / len(self.y))[:, None] * impulse).to(s.dtype)
            weight.baddbmm_(h.mT, s * scaled[:, :, None])

    def velocity(self, at: Evaluation, scale: Tensor) -> list[Tensor]:
        """The flow, times a scale (B,)."""
        zero = [torch.zeros_like(part) for part in self.start]
        self.push(zero, at, scale[:, None] * at.residual)
        return zero

    def changes(self, weights: Sequence[Tensor]) -> Tensor:
        """Relative changes (B, layers)."""
        return torch.stack(
            [norm(now.double() - then) / norm(then) for now, then in zip(weights, self.start, strict=True)],
            dim=1,
        )


def layer_rates(job: Job) -> tuple[float, ...]:
    """c_l of W1, (W2,) a."""
    prime, one = job.width**-job.gamma_prime, job.width**-job.gamma_1
    return (prime, 1 / prime) if job.depth == 2 else (prime**2, one**2, 1.0)


def norm(layer: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(layer.double(), dim=(1, 2))
    return length


def loss(at: Evaluation, networks: Networks) -> Tensor:
    """Relative to the loss of f = 0, (B,)."""
    return (at.residual**2).mean(dim=1) / (networks.y**2).mean()


@dataclass(frozen=True)
class GradientDescent:
    """Explicit steps of ``fraction`` / (largest eigenvalue of the kernel), shorter where a layer would move by more than ``motion``
    times its norm; re-tuned every ``every`` steps; at most ``cap`` steps."""

    fraction: float
    motion: float
    every: int
    cap: int = 20_000

    def step(self, networks: Networks, weights: Sequence[Tensor], at: Evaluation) -> Tensor:
        kernels = networks.kernels(at)
        top = torch.linalg.eigvalsh(kernels.sum(dim=0))[:, -1]
        relative = networks.speeds(at, kernels) / networks.norms(weights)
        return torch.minimum(self.fraction / top, self.motion / relative.amax(dim=0))

    def run(self, networks: Networks, tolerance: float) -> Outcomes:
        """All jobs at once, each with steps of its own; finished ones leave the batch."""
        started = time.perf_counter()
        batch, device = len(networks.kappa), networks.y.device
        changes = torch.full((batch, len(networks.start)), torch.nan, dtype=torch.float64, device=device)
        evaluations = torch.full((batch,), float(self.cap), device=device)
        step = torch.zeros(batch, dtype=torch.float64, device=device)
        weights = [layer.clone() for layer in networks.start]
        jobs = torch.arange(batch, device=device)
        for count in range(1, self.cap + 1):
            at = networks.evaluate(weights)
            done = loss(at, networks) <= tolerance
            if done.any():
                changes[jobs[done]] = networks.select(done).changes([layer[done] for layer in weights])
                evaluations[jobs[done]] = count
                jobs, weights, networks = (
                    jobs[~done],
                    [layer[~done] for layer in weights],
                    networks.select(~done),
                )
                if not len(jobs):
                    break
                at, step = networks.evaluate(weights), step[~done]
            if count % self.every == 1 or self.every == 1:
                step = self.step(networks, weights, at)
            networks.push(weights, at, step[:, None] * at.residual)
        seconds = time.perf_counter() - started
        return Outcomes(changes.cpu().numpy(), evaluations.double().cpu().numpy(), seconds)
