"""Data of torch modules: inputs of any shape, and targets that are numbers or classes, as tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..errors import InputError

MSE, CROSS_ENTROPY = "mse", "cross-entropy"
LOSSES = (MSE, CROSS_ENTROPY)


class Points(NamedTuple):
    """Points to train or test on.

    Attributes:
        x: (n, ...), of floating numbers of one precision, or of whole ones.
        y: (n, ...) of numbers, or (n,) of classes.
    """

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: str) -> Points:
        """The points on a device."""
        return Points(self.x.to(device), self.y.to(device))

    def like(self, module: torch.nn.Module) -> Points:
        """The points with floating numbers in the precision of a module's weights."""
        floating = (part.dtype for part in module.parameters() if part.is_floating_point())
        precision = next(floating, torch.float32)
        x, y = (part.to(precision) if part.is_floating_point() else part for part in self)
        return Points(x, y)


def points(x: ArrayLike | torch.Tensor, y: ArrayLike | torch.Tensor, where: str) -> Points:
    """Points of arrays or tensors: floating numbers become float32, and whole ones stay: tokens in x, classes in y.

    Raises:
        InputError: they are no numbers, not finite, empty, or of different lengths.
    """
    inputs, targets = _tensor(x, f"{where}: x"), _tensor(y, f"{where}: y")
    if not inputs.ndim or not targets.ndim or len(inputs) != len(targets) or not inputs.numel():
        raise InputError(
            f"{where}: x {tuple(inputs.shape)} and y {tuple(targets.shape)} do not agree; allowed: (n, ...) each, with n from 1"
        )
    if not targets.is_floating_point():
        if targets.ndim > 1 and targets.numel() == len(targets):
            targets = targets.reshape(-1)
        if int(targets.min()) < 0:
            raise InputError(
                f"{where}: y: holds the class {int(targets.min())}; allowed: classes from 0, or floating numbers"
            )
    return Points(inputs, targets)


def _tensor(values: ArrayLike | torch.Tensor, where: str) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        tensor = values.detach().cpu().to_dense()
    else:
        try:
            array = np.asarray(values)
        except ValueError:
            raise InputError(
                f"{where}: has rows of different lengths; allowed: an array of numbers"
            ) from None
        if array.dtype.kind not in "iufb":
            raise InputError(f"{where}: is {array.dtype}; allowed: numbers")
        tensor = torch.from_numpy(np.ascontiguousarray(array).copy())
    if tensor.is_complex():
        raise InputError(f"{where}: is {tensor.dtype}; allowed: real numbers")
    if not tensor.is_floating_point():
        return tensor.long()
    if not tensor.isfinite().all():
        raise InputError(f"{where}: some numbers are not finite; allowed: finite numbers")
    return tensor.float()


def same_rows(a: torch.Tensor, b: torch.Tensor) -> int:
    """How many rows of a are rows of b."""
    known = {row.tobytes() for row in b.reshape(len(b), -1).numpy()}
    return sum(row.tobytes() in known for row in a.reshape(len(a), -1).numpy())


def loss_of(output: torch.Tensor, target: torch.Tensor, loss: str) -> torch.Tensor:
    """The loss of a network's output.

    "mse": ``sum (f - y)^2 / 2n``, as everywhere in phasediag. "cross-entropy": the mean over the points, in nats; outputs (n, K) or
    (n, K, ...).

    Raises:
        InputError: the shapes do not agree.
    """
    if loss == MSE:
        if output.numel() != target.numel():
            raise InputError(
                f"the network returns {tuple(output.shape)} for targets {tuple(target.shape)}; allowed: as many numbers"
            )
        return (output.reshape(target.shape) - target).square().sum() / (2 * len(target))
    if output.ndim != target.ndim + 1 or len(output) != len(target):
        raise InputError(
            f"the network returns {tuple(output.shape)} for {len(target)} classes; allowed: (n, K), a number for each of K classes"
        )
    found: torch.Tensor = torch.nn.functional.cross_entropy(output, target)
    return found


def loss_of_nothing(target: torch.Tensor, classes: int, loss: str) -> float:
    """The loss of f = 0, which tolerances are relative to: log K of K classes."""
    if loss == MSE:
        return float(target.double().square().sum()) / (2 * len(target))
    return float(np.log(max(classes, 2)))


def error_of(output: torch.Tensor, target: torch.Tensor, loss: str) -> float:
    """The error on points: the share of wrong classes; of numbers, the root mean square of f - y over the root mean square of y."""
    if loss == CROSS_ENTROPY:
        return float((output.argmax(dim=1) != target).double().mean())
    off = (output.reshape(target.shape) - target).double().square().sum()
    size = target.double().square().sum()
    return float((off / size).sqrt()) if size > 0 else float("nan")
