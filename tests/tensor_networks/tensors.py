"""What networks whose weights are tensors share: how a batch of them is tried and moved, and how one neuron moves.

Tensors carry jobs first and neurons last, ``(B, n, m)``: sums over points and inputs then vectorise over neurons, and the result of
a job does not depend on the jobs beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasediag.engine.measures import Measured
from phasediag.engine.networks import MAX_ROTATION, Array, Evaluated, Indices, Layers, Mask, Trial
from phasediag.engine.runners import HostRunner, Runner

Named = TypeVar("Named", bound=tuple[Tensor, ...])


class Data(NamedTuple):
    """A data set as the networks of a batch meet it: ``y`` (n,) and the ``gram`` matrix (1, n, n) of the inputs with their constant in
    float64; the ``inputs`` (B, n, d+1) themselves, and their ``square`` lengths (n,), in the dtype of the computation."""

    y: Tensor
    gram: Tensor
    inputs: Tensor
    square: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, batch: int, dtype: torch.dtype) -> Data:
        """The data set x (n, d), y (n,) for a batch of so many jobs, computed in ``dtype``."""
        extended = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        gram = extended @ extended.T
        # one matrix per job: no fusing of jobs into one product
        inputs = extended.to(dtype).expand(batch, -1, -1)
        return cls(y, gram[None], inputs, torch.diagonal(gram).to(dtype))

    def for_batch(self, batch: int) -> Data:
        """This data set for a batch of fewer jobs."""
        return self._replace(inputs=self.inputs[:batch])


class Move(NamedTuple):
    """A trial move of tensors, and what it risked. All per job (B,) where nothing else is said."""

    weights: Any  # where it leads to
    path: Any  # the gates and signals that it met on its way: what it should have been computed with
    rotation: Tensor  # largest hyperbolic angle of a neuron
    unsettled: Tensor  # what `path` would change, relative to a layer's displacement since the start
    travelled: dict[str, Tensor]  # displacement of every layer since the start, Frobenius norm, float64


class TensorNetwork(ABC):
    """A batch of networks whose weights are tensors: a ``Network`` made of functions of the weights."""

    layers: tuple[str, ...]
    points: int
    pieces, passes = 1, 4
    runner: Runner = HostRunner()
    y: Array
    rates: Array
    _at: Any = None  # weights; those of the last trial; the gates and signals that it met
    _tried: Any = None
    _path: Any = None

    @abstractmethod
    def start(self) -> Any:
        """The initial weights."""

    @abstractmethod
    def path(self, weights: Any, ratio: Tensor) -> Any:
        """The first guess for the gates and signals that a step will meet, ``ratio`` (B,) being its length in units of the last one."""

    @abstractmethod
    def move(self, weights: Any, path: Any, impulse: Tensor, lag: Tensor) -> Move:
        """Moves all weights under ``impulse`` (B, n), float64, given the averages of gates and signals along the way."""

    @abstractmethod
    def evaluate(self, weights: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Residual (B, n) and, per layer, the kernel (B, n, n), float64: see ``Evaluated``."""

    @abstractmethod
    def commit(self, accepted: Tensor, new: Any, old: Any) -> Any:
        """The new weights of the jobs that accepted their step (B,), the old ones of the others."""

    @abstractmethod
    def pulled(self, weights: Any, residual: Tensor) -> Tensor:
        """``Network.force``."""

    @abstractmethod
    def picked(self, jobs: Tensor) -> Self:
        """The networks with these indices, without their weights."""

    @abstractmethod
    def changes(self, weights: Any, job: int) -> Layers:
        """``Network.change``."""

    @abstractmethod
    def initial(self, job: int) -> Layers:
        """``Network.initial``."""

    @property
    def mass(self) -> Array:
        return np.ones(len(self.rates))  # all are whole

    def begin(self) -> Evaluated:
        self._at = self.start()
        evaluated = self._evaluated(self._at)
        self._path = self.path(self._at, self._tensor(np.zeros(len(evaluated.residual))))
        return evaluated

    def trial(
        self, repeats: Indices, forgiven: Mask, ahead: Array, impulses: Array, lags: Array, tolerance: float
    ) -> Trial:
        path = choose(self._tensor(repeats > 0), self._path, self.path(self._at, self._tensor(ahead)))
        move = self.move(self._at, path, self._tensor(impulses[:, 0]), self._tensor(lags[:, 0]))
        self._tried, self._path = move.weights, move.path
        residual, kernels = self._evaluated(move.weights)
        return Trial(
            residual,
            kernels,
            held=np.zeros_like(kernels[:, 0]),
            rotation=_array(move.rotation),
            unsettled=_array(move.unsettled),
            travelled=stacked(move.travelled),
        )

    def accept(self, accepted: Mask) -> None:
        self._at = self.commit(self._tensor(accepted), self._tried, self._at)

    def select(self, jobs: Indices) -> Self:
        kept = self._tensor(jobs)
        picked = self.picked(kept)
        picked._at, picked._path = pick(self._at, kept), pick(self._path, kept)
        return picked

    def force(self, residual: Array, wanted: Mask) -> Array:
        return _array(self.pulled(self._at, self._tensor(residual)))

    def unseen(self, wanted: Mask) -> Mask:
        return np.zeros((len(wanted), len(self.y)), dtype=np.bool_)  # all are whole

    def measured(self, jobs: Indices) -> list[Mapping[str, Measured]]:
        return [{} for _ in jobs]

    def outputs(self, jobs: Indices, points: Array) -> list[Array]:
        return [np.empty(0) for _ in jobs]

    def change(self, job: int) -> Layers:
        return self.changes(self._at, job)

    def _evaluated(self, weights: Any) -> Evaluated:
        residual, kernels = self.evaluate(weights)
        return Evaluated(_array(residual), stacked(kernels))

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._at[0].device)


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.cpu().numpy()
    return array


def stacked(layers: dict[str, Tensor]) -> Array:
    """Tensors of all layers (B, ...) as one array (B, L, ...)."""
    return _array(torch.stack(list(layers.values()), dim=1))


def choose(mask: Tensor, these: Named, those: Named) -> Named:
    """Tensors (B, ...) from the first of two tuples where ``mask`` (B,) holds, else from the second. Overwrites the first: copying the
    rows that differ costs a fraction of ``torch.where`` on all."""
    rows = torch.nonzero(~mask).flatten()
    for mine, other in zip(these, those, strict=True):
        mine.index_copy_(0, rows, other.index_select(0, rows))
    return these


def pick(tensors: Named, jobs: Tensor) -> Named:
    """A tuple of tensors (B, ...) for the jobs with these indices."""
    kind: Any = getattr(type(tensors), "_make", tuple)
    picked: Named = kind(tensor.index_select(0, jobs) for tensor in tensors)
    return picked


def stack_padded(arrays: list[np.ndarray], shape: tuple[int, int], dtype: torch.dtype, device: str) -> Tensor:
    """The arrays, padded with zeros to ``shape``, as one tensor (B, *shape)."""
    stacked = np.stack(
        [
            np.pad(array, [(0, size - have) for size, have in zip(shape, array.shape, strict=True)])
            for array in arrays
        ]
    )
    return torch.from_numpy(stacked).to(device=device, dtype=dtype)


def hyperbolic(p: Tensor, a: Tensor, angle: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Exact move of a neuron's input weights w and output weight a for unit time of

        dw/ds = -a angle u / ratio,        da/ds = -ratio angle (w . u),        |u| = 1

    where p = w . u: the change of p, and that of a. All of one shape; the rest of w stays.
    """
    bounded = angle.clamp_max(MAX_ROTATION)
    sinh, cosh_less_one = torch.sinh(bounded), 2 * torch.sinh(bounded / 2) ** 2
    return p * cosh_less_one - a / ratio * sinh, a * cosh_less_one - ratio * p * sinh


def path_gates(z: Tensor, shift_on: Tensor, shift_off: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gates along a step: their averages, their first moments about its middle, and which neurons end it sliding on a kink.

    ``z`` is the preactivation before the step, ``shift_on`` and ``shift_off`` its change over the whole step were the gate 1 or 0
    throughout. A preactivation that reaches zero passes through if it is pushed the same way on the other side; if it is pushed
    back from there too it stays at zero, with the average gate that holds it (Filippov's convention for discontinuous flows).
    """
    tiny = torch.finfo(z.dtype).tiny
    above = z > 0
    leaves_above = above & (z + shift_on < 0)
    leaves_below = ~above & (z + shift_off > 0)
    held = (shift_off > 0) & (shift_on < 0)
    leaves, before = leaves_above | leaves_below, above.to(z.dtype)
    span = (shift_off - shift_on).clamp_min(tiny)
    after = torch.where(held, (shift_off / span).clamp(0, 1), 1 - before)
    # the part of the step before the kink; where none is met there is no division by what may be zero
    reached = torch.where(leaves, -z / torch.where(above, shift_on, shift_off), 1.0).clamp(0, 1)
    change = (1 - reached) * (after - before)
    return before + change, change * reached / 2, leaves & held


def cosines(gram: Tensor) -> Tensor:
    """``[..., j, i]``: the length of input j along input i, from their Gram matrix (..., n, n)."""
    return (
        gram
        / torch.diagonal(gram, dim1=-2, dim2=-1).clamp_min(torch.finfo(gram.dtype).tiny).sqrt()[..., None, :]
    )


def input_kernel(backward: Tensor, sliding: Tensor, gram: Tensor) -> Tensor:
    """Kernel of a layer of input weights, without its prefactor (B, n, n), float64.

    ``backward`` (B, n, m) is df/dz, ``gram`` (B or 1, n, n) that of the layer's inputs. A neuron that slides along the kink of point
    i cannot move along input i: that part is projected out, otherwise the kernel promises a motion that the kink forbids.
    """
    back = backward.double()
    kernel = back @ back.transpose(1, 2) * gram
    if not sliding.any():
        return kernel
    order = (
        torch.arange(backward.shape[1], 0, -1, device=backward.device, dtype=torch.int16)[:, None] * sliding
    )
    first = (sliding & (order == order.amax(dim=1, keepdim=True))).to(backward.dtype)
    along = (cosines(gram).to(backward.dtype).expand(len(backward), -1, -1) @ first).double() * back
    return kernel - along @ along.transpose(1, 2)


def unit_and_size(vector: Tensor) -> tuple[Tensor, Tensor]:
    """A vector (B, n) over its largest entry, and that entry (B, 1): squares of tiny impulses would underflow float32."""
    size = vector.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(vector.dtype).tiny)
    return vector / size, size


def norm(tensor: Tensor) -> Tensor:
    """Frobenius norm per job (B,), in float64: squares of very small or large float32 numbers are beyond float32."""
    double = tensor.double()
    return (double * double).sum(dim=(1, 2)).sqrt()


def relative(change: Tensor, whole: Tensor) -> Tensor:
    """``change / whole`` (B,), also where there is nothing to divide by."""
    return change / whole.clamp_min(torch.finfo(torch.float64).tiny)
