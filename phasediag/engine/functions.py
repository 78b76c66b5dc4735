"""Networks as functions of their input: outputs, and products of gradients, at any points. float64, NumPy's arrays or torch's tensors.

A network of H hidden layers, of whose m neurons N are simulated and each stands for ``M = m / N``, in the units of :mod:`.relu_cpu`: with
weights ``V = W(0) + sqrt(M) (W - W(0))`` between hidden layers, all others as they are, and features ``h_l = sqrt(M) relu(z_l)``, h_0 = x,

    z_(l+1) = V_(l+1) h_l + bias_(l+1),        F = sum_k a_k h_H,k,        f = kappa [ F(0) + sqrt(M) (F - F(0)) ]

and with ``d_l = dF/dz_l`` the tangent kernel, whose rates are c_l, is

    K(x, x') = kappa^2 [ sum_l c_l (d_l . d_l') (h_(l-1) . h_(l-1)' + 1) + c_a h_H . h_H' ].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

BLOCK = 2**22
"""Features of points that are held at a time."""


def outputs(weights: Sequence[Any], x: Any, root: float) -> Iterator[Any]:
    """F at points x (k, d), block by block, of ``weights`` from the input to the output, W1 (N, d+1), V (N, N+1), a (N,); ``root`` of M."""
    for block in _blocks(weights, x):
        yield _features(weights, block, root)[-1] @ weights[-1]


def products(weights: Sequence[Any], x: Any, others: Any, root: float) -> Iterator[tuple[Any, list[Any]]]:
    """F at points x (k, d), block by block, and for every layer the products (k, n) of its gradients there with those at ``others`` (n, d):
    K without prefactor and rates."""
    there = _features(weights, others, root)
    back_there = _signals(weights, there, root)
    for block in _blocks(weights, x):
        here = _features(weights, block, root)
        back = _signals(weights, here, root)
        found = [
            (d @ d_there.T) * (h @ h_there.T + 1)
            for d, d_there, h, h_there in zip(back, back_there, here, there, strict=False)
        ]
        yield here[-1] @ weights[-1], [*found, here[-1] @ there[-1].T]


def _blocks(weights: Sequence[Any], x: Any) -> Iterator[Any]:
    size = max(1, BLOCK // len(weights[-1]))
    for at in range(0, len(x), size):
        yield x[at : at + size]


def _features(weights: Sequence[Any], x: Any, root: float) -> list[Any]:
    """h_0 ... h_H (k, .)."""
    features = [x]
    for matrix in weights[:-1]:
        z = features[-1] @ matrix[:, :-1].T + matrix[:, -1]
        features.append(root * (z * (z > 0)))
    return features


def _signals(weights: Sequence[Any], features: Sequence[Any], root: float) -> list[Any]:
    """d_1 ... d_H (k, N)."""
    signals = [(features[-1] > 0) * (root * weights[-1])]
    for matrix, below in zip(weights[-2:0:-1], features[-2:0:-1], strict=True):
        signals.insert(0, (below > 0) * (root * (signals[0] @ matrix[:, :-1])))
    return signals
