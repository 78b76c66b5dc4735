"""An independent reference for the gradient flow of two-layer networks: explicit Euler, float64, small steps, NumPy.

It shares nothing with the engine but the definition of the network and the initial weights, and takes the two-layer equations in
the form in which Luo et al. (JMLR 2021) write them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """Relative change of W1 and a, the loss over that of f = 0, and the number of steps."""

    w: float
    a: float
    loss: float
    steps: int


def small_step_flow(
    x: Array,
    y: Array,
    gamma: float,
    gamma_prime: float,
    w: Array,
    a: Array,
    step: float = 0.05,
    loss_tolerance: float = 1e-6,
    max_steps: int = 1_000_000,
) -> Reference:
    """Follows dw/dt, da/dt from w (m, d+1), a (m,) until the loss is ``loss_tolerance`` times that of f = 0.

    ``step`` is in units of the stability limit of the moment, 1 / (largest eigenvalue of the kernel), and at most half that
    fraction of the time in which a neuron grows by e.
    """
    inputs = np.hstack([x, np.ones((len(x), 1))])
    gram, n, width = inputs @ inputs.T, len(x), len(a)
    kappa, kappa_prime = width**-gamma, width**-gamma_prime
    w_start, a_start, zero_loss = w, a, np.mean(y**2)
    for count in range(max_steps):
        z = w @ inputs.T
        gate = z > 0
        features = np.where(gate, z, 0.0)
        residual = kappa * (a @ features) - y
        if np.mean(residual**2) <= loss_tolerance * zero_loss:
            break
        if count % 4 == 0:
            back = a[:, None] * gate
            kernel = (
                kappa**2 / n * (features.T @ features / kappa_prime + kappa_prime * (back.T @ back) * gram)
            )
            growth = kappa * np.linalg.norm((gate * residual) @ inputs / n, axis=1).max()
            time = step / max(np.linalg.eigvalsh(kernel)[-1], 2 * growth)
        pull = gate * residual
        w, a = (
            w - time * kappa * kappa_prime / n * a[:, None] * (pull @ inputs),
            a - time * kappa / kappa_prime / n * (features @ residual),
        )
    return Reference(
        float(np.linalg.norm(w - w_start) / np.linalg.norm(w_start)),
        float(np.linalg.norm(a - a_start) / np.linalg.norm(a_start)),
        float(np.mean(residual**2) / zero_loss),
        count,
    )
