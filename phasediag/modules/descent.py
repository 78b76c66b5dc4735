"""Training of torch modules: gradient descent, minibatches and Adam, many networks of one architecture at a time.

All networks of a batch take their steps together, as one tensor operation each (torch.func.vmap). Some modules are trained alone, by the
same steps: where this cannot be done, as with random numbers or branches on the data, or where it would matter to a row what else is in
the batch.
"""

from __future__ import annotations

import copy
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch.func import functional_call, grad_and_value, jvp, vjp, vmap

from ..errors import InputError
from ..spec.imported import in_words
from .data import MSE, Points, loss_of
from .networks import seeded

Tensors = dict[str, torch.Tensor]
"""Weights by name, with a first axis of networks."""
Method = Literal["gd", "sgd", "adam"]

LEAST_TOGETHER, _LANES_TRIED = 4, (4, 5, 7, 11)
"""Products of fewer matrices are summed in another order: a row would depend on how many networks are trained with it."""
TOGETHER_NUMBERS, MOST_TOGETHER = 2**22, 64
"""Weights of the networks that are trained together, at most: the handful of arrays of that size should stay in the cache. And networks."""
_SHARE_OF_STABLE, _FIRST_ITERATIONS = 0.5, 20
"""The step of gd "auto" in units of one over the curvature: at 2, the loss would stop falling in the steepest direction. And power
iterations before the first step."""
_MOST_MOVED = 0.1
"""And the share of itself by which a step moves a layer, at most."""
_MOST_RISE, _CUT = 2.0, 0.5
"""A step that multiplies the loss by more is refused, and cut: at the kinks of ReLU the loss rises a little now and then."""
_DIFFERENCE = 1e-3
"""By how much of their length weights are moved to see how outputs follow them."""
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Settings:
    """How networks are trained.

    Attributes:
        method: gd takes steps on all points, sgd and adam (Kingma & Ba 2015) on minibatches.
        learning_rate: of one width; None chooses every step of gd.
        epochs: passes over the data, at most.
        batch_size: points of a minibatch.
        loss: "mse" or "cross-entropy".
        target: the loss at which training ends.
    """

    method: Method
    learning_rate: float | None
    epochs: int
    batch_size: int
    loss: str
    target: float


class Course(NamedTuple):
    """How the training of one network went.

    Attributes:
        status: "converged", "evaluation_limit", "stalled" or "diverged".
        epochs: passes over the data.
        loss_initial: on all points, before.
        loss_final: after.
        time: the sum of the steps; NaN of adam.
        time_half: when the loss had halved; NaN if it never did.
    """

    status: str
    epochs: int
    loss_initial: float
    loss_final: float
    time: float
    time_half: float


class Trained(NamedTuple):
    """Networks after training.

    Attributes:
        courses: of each.
        weights: all parameters after training, by name, with a first axis of networks.
        buffers: the same of buffers.
        together: whether they were trained together.
    """

    courses: list[Course]
    weights: Tensors
    buffers: Tensors
    together: bool


def train(
    networks: Sequence[torch.nn.Module], seeds: Sequence[int], data: Points, settings: Settings
) -> Trained:
    """Trains networks of one architecture, which stay as they are.

    Args:
        networks: with their initial weights, on the device of the data.
        seeds: of the minibatches of each.
        data: n points.
        settings: of all networks.

    Raises:
        InputError: the networks do not fit the data.
    """
    model = networks[0]
    weights = _stacked([dict(network.named_parameters()) for network in networks])
    buffers = _stacked([dict(network.named_buffers()) for network in networks])
    if _work_together(model, weights, buffers, data, settings):
        count = len(networks)
        padded = [*range(count), *[count - 1] * (LEAST_TOGETHER - count)]
        more, more_buffers = (
            {name: part[padded] for name, part in parts.items()} for parts in (weights, buffers)
        )
        lanes = _Lanes(more, more_buffers, [seeds[at] for at in padded])
        together = _Together(model, settings.loss)
        done = _Run(together, lanes, data, settings, LEAST_TOGETHER).train()[:count]
        return _trained(done, settings, True)
    done = []
    for index, seed in enumerate(seeds):
        own, own_buffers = (
            {name: part[index : index + 1].clone() for name, part in parts.items()}
            for parts in (weights, buffers)
        )
        with seeded(seed):
            alone = _Alone(model, settings.loss)
            done += _Run(alone, _Lanes(own, own_buffers, [seed]), data, settings, 1).train()
    return _trained(done, settings, False)


def require_trains(network: torch.nn.Module, data: Points, settings: Settings) -> None:
    """Raises `InputError` if a network cannot be trained on the data."""
    weights, buffers = _stacked([dict(network.named_parameters())]), _stacked([dict(network.named_buffers())])
    _work_together(network, weights, buffers, data, settings)


def _work_together(
    model: torch.nn.Module, weights: Tensors, buffers: Tensors, data: Points, settings: Settings
) -> bool:
    """Whether networks can be trained by one operation for all; raises `InputError` if not even alone.

    They can if each is computed as it would be among any others, to the last bit: where sizes are no multiples of what a processor
    computes at a time, functions such as tanh are rounded in another way at the end of an array; batch norm sums in an order that depends
    on all. That is found out with weights that depend on the architecture alone, lest the same network be trained in both ways.
    """
    together, size = _Together(model, settings.loss), sum(part[0].numel() for part in weights.values())
    if LEAST_TOGETHER * size <= TOGETHER_NUMBERS:
        with suppress(InputError):
            _require(together, weights, buffers, data, settings)
            if _same_among_others(together, weights, buffers, data, settings):
                return True
    _require(_Alone(model, settings.loss), weights, buffers, data, settings)
    return False


def _require(
    gradients: _Gradients, weights: Tensors, buffers: Tensors, data: Points, settings: Settings
) -> None:
    """Raises `InputError` if the first network cannot be trained in this way, on all points and on the smallest minibatch."""
    for count in _counts(len(data), settings):
        points = data.x[None, :count], data.y[None, :count]
        try:
            with seeded(0), warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # how a network is trained does not depend on what is made of warnings
                own, own_buffers = (
                    {name: part[:1] for name, part in parts.items()} for parts in (weights, buffers)
                )
                _tried(gradients, own, own_buffers, *points, settings)
        except InputError:
            raise
        except Exception as error:  # whatever somebody's module does
            shapes = f"x {tuple(points[0].shape[1:])}, y {tuple(points[1].shape[1:])}"
            raise InputError(f"the network cannot be trained on {shapes}: {in_words(error)}") from None


def _counts(n: int, settings: Settings) -> list[int]:
    """How many points there are in a step, from the fewest, and in all."""
    batches = [] if settings.method == "gd" else [n % settings.batch_size, min(settings.batch_size, n)]
    return sorted({n, *batches} - {0})


def _tried(
    gradients: _Gradients,
    weights: Tensors,
    buffers: Tensors,
    x: torch.Tensor,
    y: torch.Tensor,
    settings: Settings,
) -> list[torch.Tensor]:
    """All that training computes of some networks."""
    trial = {name: part.clone() for name, part in buffers.items()}
    found = [
        *gradients.of(weights, trial, x, y)[1].values(),
        gradients.losses(weights, trial, x, y),
        *trial.values(),
    ]
    if settings.method == "gd" and settings.learning_rate is None:
        direction = gradients.directions(weights, trial, x, y)["v"]
        found.append(gradients.through_kernel(weights, trial, x, y, direction))
    return found


def _same_among_others(
    gradients: _Together, weights: Tensors, buffers: Tensors, data: Points, settings: Settings
) -> bool:
    """Whether a network is computed in the same way at any place among any number of networks."""
    draw = torch.Generator().manual_seed(0)
    one, own = (
        {name: _any_like(part[0], draw) for name, part in parts.items()} for parts in (weights, buffers)
    )
    for count in _counts(len(data), settings):
        first: list[torch.Tensor] = []
        for lanes in _LANES_TRIED:
            points = [part[:count].expand(lanes, *part[:count].shape) for part in data]
            if count < len(data):
                points = [part.contiguous() for part in points]
            copies, copied = (
                {name: part.expand(lanes, *part.shape).contiguous() for name, part in parts.items()}
                for parts in (one, own)
            )
            found = _tried(gradients, copies, copied, points[0], points[1], settings)
            first = first or [part[0] for part in found]
            if not all(_equal(part, same.expand_as(part)) for part, same in zip(found, first, strict=True)):
                return False
    return True


def _any_like(part: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Numbers that depend on the shape of a tensor alone: of matrices like random weights, of others between 1/2 and 3/2."""
    if not part.is_floating_point():
        return part
    if part.ndim > 1:
        return (torch.randn(part.shape, generator=draw) / math.sqrt(part[0].numel() or 1)).to(part)
    return (0.5 + torch.rand(part.shape, generator=draw)).to(part)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


def _trained(done: Sequence[_Lanes], settings: Settings, together: bool) -> Trained:
    """What is told of networks that have ended, a lane for each."""
    timed = settings.method != "adam"
    courses = [
        Course(
            lane.status[0] or "evaluation_limit",
            lane.epochs[0],
            float(lane.numbers["initial"]),
            float(lane.numbers["loss"]),
            float(lane.numbers["time"]) if timed else math.nan,
            float(lane.numbers["half"]) if timed else math.nan,
        )
        for lane in done
    ]
    weights, buffers = (
        {name: torch.cat([lane.parts[key][name] for lane in done]) for name in done[0].parts[key]}
        for key in ("weights", "buffers")
    )
    return Trained(courses, weights, buffers, together)


def _stacked(parts: Sequence[Mapping[str, torch.Tensor]]) -> Tensors:
    return {name: torch.stack([part[name].detach() for part in parts]) for name in parts[0]}


class _Gradients(ABC):
    """Losses (J,) and gradients of J networks of one architecture, each on points of its own, x (J, b, ...) and y (J, b, ...)."""

    def __init__(self, model: torch.nn.Module, loss: str) -> None:
        self._model, self._loss = model, loss
        self._trainable = {name for name, part in model.named_parameters() if part.requires_grad}

    def split(self, weights: Tensors) -> tuple[Tensors, Tensors]:
        """The trainable weights, and those that are frozen."""
        moving = {name: part for name, part in weights.items() if name in self._trainable}
        return moving, {name: part for name, part in weights.items() if name not in moving}

    @abstractmethod
    def of(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, Tensors]:
        """The losses, and the gradients of all that trains."""

    @abstractmethod
    def losses(self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The losses alone."""

    @abstractmethod
    def through_kernel(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor, direction: torch.Tensor
    ) -> torch.Tensor:
        """Products of the tangent kernels with directions in the space of outputs (J, n, ...)."""

    def directions(self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor) -> Tensors:
        """Directions of length 1 in the space of outputs, (J, n, ...), the same for all networks."""
        trial = {name: part[0].clone() for name, part in buffers.items()}
        with torch.no_grad():
            output = functional_call(
                self._model, ({name: part[0] for name, part in weights.items()}, trial), (x[0],)
            )
        draw = torch.Generator().manual_seed(0)
        some = torch.randn(output.shape, generator=draw).to(output)
        return {"v": (some / some.norm()).expand(len(x), *output.shape)}

    def _value(
        self, moving: Tensors, frozen: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        output = functional_call(self._model, ({**moving, **frozen}, buffers), (x,))
        return loss_of(output, y, self._loss)


class _Together(_Gradients):
    """All networks by one operation."""

    def of(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, Tensors]:
        moving, frozen = self.split(weights)
        of_each = vmap(grad_and_value(self._value), in_dims=(0, 0, 0, 0, 0), randomness="error")
        gradients, losses = of_each(moving, frozen, buffers, x, y)
        return losses, gradients

    def through_kernel(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor, direction: torch.Tensor
    ) -> torch.Tensor:
        moving, frozen = self.split(weights)
        trial = {name: part.clone() for name, part in buffers.items()}
        found: torch.Tensor = vmap(self._product, randomness="error")(moving, frozen, trial, x, direction)
        return found

    def _product(
        self,
        moving: Tensors,
        frozen: Tensors,
        buffers: Tensors,
        x: torch.Tensor,
        direction: torch.Tensor,
    ) -> torch.Tensor:
        def outputs(parts: Tensors) -> torch.Tensor:
            own = {
                name: part.clone() for name, part in buffers.items()
            }  # which the module may change in place
            found: torch.Tensor = functional_call(self._model, ({**parts, **frozen}, own), (x,))
            return found

        _, back = vjp(outputs, moving)
        (gradient,) = back(direction)
        product: torch.Tensor = jvp(outputs, (moving,), (gradient,))[1]
        return product

    def losses(self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        moving, frozen = self.split(weights)
        with torch.no_grad():
            found: torch.Tensor = vmap(self._value)(moving, frozen, buffers, x, y)
        return found


class _Alone(_Gradients):
    """One network."""

    def of(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, Tensors]:
        leaves, frozen = self._parts(weights)
        loss = self._value(leaves, frozen, _first(buffers), x[0], y[0])
        found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        return loss.detach()[None], {name: part[None] for name, part in zip(leaves, found, strict=True)}

    def through_kernel(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor, direction: torch.Tensor
    ) -> torch.Tensor:
        """By differences: recurrent layers and attention have no forward derivative. Every output is one of the same random numbers."""
        leaves, frozen = self._parts(weights)

        def outputs(parts: Tensors) -> torch.Tensor:
            own = {
                name: part[0].clone() for name, part in buffers.items()
            }  # which the module may change in place
            with torch.random.fork_rng():
                found: torch.Tensor = functional_call(self._model, ({**parts, **frozen}, own), (x[0],))
            return found

        found = torch.autograd.grad(
            outputs(leaves), list(leaves.values()), direction[0], materialize_grads=True
        )
        gradient = dict(zip(leaves, found, strict=True))
        length, size = (
            math.sqrt(sum(float(part.detach().double().square().sum()) for part in parts.values()))
            for parts in (gradient, leaves)
        )
        if not 0 < length < math.inf:
            return torch.zeros_like(direction)
        step = _DIFFERENCE * (size or 1.0) / length
        with torch.no_grad():
            ahead, behind = (
                outputs({name: part + sign * step * gradient[name] for name, part in leaves.items()})
                for sign in (1, -1)
            )
        return ((ahead - behind) / (2 * step))[None]

    def losses(self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self._value(*self._parts(weights), _first(buffers), x[0], y[0])[None]

    def _parts(self, weights: Tensors) -> tuple[Tensors, Tensors]:
        """The trainable weights of the network, as leaves, and those that are frozen."""
        moving, frozen = self.split(weights)
        return {name: part.detach().requires_grad_() for name, part in _first(moving).items()}, _first(frozen)


class _Lanes:
    """What is known of networks that are trained together, J of them: a lane for each, which is dropped some time after it has ended.

    Attributes:
        numbers: tensors (J,) in float64 on the CPU, by name: losses, times, steps.
        parts: by name, tensors with a first axis of networks: weights, buffers, gradients, means of gradients.
        draws: what draws the minibatches of each.
        status: how each has ended; "" of those that go on.
        epochs: passes over the data of each.
    """

    def __init__(self, weights: Tensors, buffers: Tensors, seeds: Sequence[int]) -> None:
        self.numbers: Tensors = {}
        self.parts: dict[str, Tensors] = {"weights": weights, "buffers": buffers}
        self.draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.status, self.epochs = [""] * len(seeds), [0] * len(seeds)

    def going(self) -> torch.Tensor:
        """Which networks (J,) are still trained."""
        return torch.tensor([not status for status in self.status])

    def end(self, which: torch.Tensor, status: str) -> None:
        """Ends those of these networks (J,) that go on."""
        for lane in which.nonzero().flatten().tolist():
            self.status[lane] = self.status[lane] or status

    def only(self, lanes: Sequence[int]) -> _Lanes:
        """Some of the networks."""
        index = torch.tensor(lanes, dtype=torch.int64)
        kept = copy.copy(self)
        kept.numbers = {name: part[index] for name, part in self.numbers.items()}
        kept.parts = {
            key: {name: part[index.to(part.device)] for name, part in parts.items()}
            for key, parts in self.parts.items()
        }
        kept.draws = [self.draws[lane] for lane in lanes]
        kept.status = [self.status[lane] for lane in lanes]
        kept.epochs = [self.epochs[lane] for lane in lanes]
        return kept


class _Run:
    """The training of networks, which end one after the other and then stay as they are."""

    def __init__(
        self, gradients: _Gradients, lanes: _Lanes, data: Points, settings: Settings, least: int
    ) -> None:
        self._gradients, self._data, self._settings, self._least = gradients, data, settings, least
        self._lanes = lanes
        self._at = list(range(len(lanes.status)))
        self._ended: dict[int, _Lanes] = {}
        initial = self._whole_losses()
        nothing = torch.zeros_like(initial)
        lanes.numbers |= {"initial": initial, "loss": initial, "time": nothing, "half": nothing + math.nan}
        self._judge(0)

    def train(self) -> list[_Lanes]:
        """Trains until every network has ended; returns a lane for each."""
        if self._settings.method == "gd":
            self._descend(self._settings.learning_rate)
        else:
            self._by_batches(_adam if self._settings.method == "adam" else _plain)
        for lane, at in enumerate(self._at):
            self._ended.setdefault(at, self._lanes.only([lane]))
        return [self._ended[at] for at in sorted(self._ended)]

    def _drop(self) -> bool:
        """Drops networks that have ended, once they are half of all and as many as are trained together are left; whether any goes on."""
        going = [lane for lane, status in enumerate(self._lanes.status) if not status]
        if not going:
            return False
        keep = max(len(going), self._least)
        if 2 * keep <= len(self._at):
            others = [lane for lane in range(len(self._at)) if lane not in set(going)]
            fill = others[: keep - len(going)]
            for lane in others[keep - len(going) :]:
                self._ended[self._at[lane]] = self._lanes.only([lane])
            lanes = sorted(going + fill)
            self._lanes, self._at = self._lanes.only(lanes), [self._at[lane] for lane in lanes]
        return True

    def _of(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, Tensors]:
        """Losses and gradients; buffers, as running means, change for those that are still trained."""
        parts = self._lanes.parts
        trial = {name: part.clone() for name, part in parts["buffers"].items()}
        losses, gradients = self._gradients.of(parts["weights"], trial, x, y)
        parts["buffers"] = _chosen(self._lanes.going(), trial, parts["buffers"])
        return losses.double().cpu(), gradients

    def _whole_losses(self) -> torch.Tensor:
        """Losses on all points. Buffers, as running means, do not change."""
        trial = {name: part.clone() for name, part in self._lanes.parts["buffers"].items()}
        return self._gradients.losses(self._lanes.parts["weights"], trial, *self._all()).double().cpu()

    def _all(self) -> tuple[torch.Tensor, torch.Tensor]:
        (x, y), count = self._data, len(self._at)
        return x.expand(count, *x.shape), y.expand(count, *y.shape)

    def _batches(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The minibatches of one pass, in an order of each network's own."""
        n, size = len(self._data), self._settings.batch_size
        if size >= n:
            return [self._all()]
        order = torch.stack([torch.randperm(n, generator=draw) for draw in self._lanes.draws])
        return [
            (self._data.x[part], self._data.y[part])
            for part in torch.split(order.to(self._data.x.device), size, dim=1)
        ]

    def _move(self, moves: Tensors) -> None:
        """Adds moves to the weights of those that are still trained."""
        going, weights = self._lanes.going().to(self._data.x.device), dict(self._lanes.parts["weights"])
        for name, move in moves.items():
            weights[name] = weights[name] + torch.where(_spread(going, move), move, 0.0)
        self._lanes.parts["weights"] = weights

    def _by_batches(self, step: Step) -> None:
        rate, steps = (
            float(self._settings.learning_rate or 0.0),
            -(-len(self._data) // self._settings.batch_size),
        )
        taken = 0
        for epoch in range(1, self._settings.epochs + 1):
            if not self._drop():
                return
            for x, y in self._batches():
                taken += 1
                _, gradients = self._of(x, y)
                self._move(step(gradients, self._lanes.parts, taken, rate))
            going, before = self._lanes.going(), self._lanes.numbers["loss"]
            self._lanes.numbers["loss"] = torch.where(going, self._whole_losses(), before)
            self._note(before, torch.full_like(before, rate * steps))
            self._judge(epoch)

    def _note(self, before: torch.Tensor, spent: torch.Tensor) -> None:
        """Counts the time, and when the loss halved: between two looks the logarithm of the loss is taken to be straight."""
        numbers, going = self._lanes.numbers, self._lanes.going()
        loss, half = numbers["loss"], numbers["initial"] / 2
        passed = going & numbers["half"].isnan() & (loss <= half) & (before > half)
        share = ((before / half).log() / (before / loss).log()).nan_to_num(1.0, 1.0, 1.0).clamp(0.0, 1.0)
        numbers["half"] = torch.where(passed, numbers["time"] + share * spent, numbers["half"])
        numbers["time"] = torch.where(going, numbers["time"] + spent, numbers["time"])

    def _judge(self, epoch: int) -> None:
        """Ends networks whose loss is small enough, or no number any more."""
        lanes = self._lanes
        lanes.epochs = [
            known if status else epoch for known, status in zip(lanes.epochs, lanes.status, strict=True)
        ]
        lanes.end(~lanes.numbers["loss"].isfinite(), "diverged")
        lanes.end(lanes.numbers["loss"] <= self._settings.target, "converged")

    def _descend(self, rate: float | None) -> None:
        """Gradient descent, for each network alone: with one learning rate, or with steps of `_SHARE_OF_STABLE` over the curvature.

        That is the largest eigenvalue of the tangent kernel, which is followed by one power iteration a step.
        """
        losses, gradients = self._of(*self._all())
        self._lanes.parts["gradients"] = gradients
        if rate is None:
            self._lanes.parts["direction"] = self._gradients.directions(
                self._lanes.parts["weights"], self._lanes.parts["buffers"], *self._all()
            )
            for _ in range(_FIRST_ITERATIONS):
                self._look_at_kernel()
        else:
            self._lanes.numbers["steps"] = torch.full_like(losses, rate)
        for epoch in range(1, self._settings.epochs + 1):
            if not self._drop():
                return
            numbers, parts, going = self._lanes.numbers, self._lanes.parts, self._lanes.going()
            start, buffers = parts["weights"], parts["buffers"]
            before, steps = numbers["loss"], numbers["steps"]
            self._move(
                {name: -_spread(steps.to(part), part) * part for name, part in parts["gradients"].items()}
            )
            found, new = self._of(*self._all())
            accepted = going if rate is not None else going & (found <= _MOST_RISE * before)
            parts["weights"] = _chosen(accepted, parts["weights"], start)
            parts["buffers"] = _chosen(accepted, parts["buffers"], buffers)
            parts["gradients"] = _chosen(accepted, new, parts["gradients"])
            numbers["loss"] = torch.where(accepted, found, before)
            self._note(before, torch.where(accepted, steps, 0.0))
            self._judge(epoch)
            self._lanes.end(_squares(parts["gradients"]) == 0, "stalled")
            if rate is None:
                self._look_at_kernel()
                shrunk = torch.minimum(numbers["steps"], _CUT * steps)
                numbers["steps"] = torch.where(going & ~accepted, shrunk, numbers["steps"])

    def _look_at_kernel(self) -> None:
        """One more power iteration, and the step that follows from it."""
        parts, numbers = self._lanes.parts, self._lanes.numbers
        moved = self._gradients.through_kernel(
            parts["weights"], parts["buffers"], *self._all(), parts["direction"]["v"]
        )
        length = moved.flatten(1).double().norm(dim=1).cpu()
        largest = length / len(self._data)  # the direction has the length 1
        share = _SHARE_OF_STABLE * (
            1.0 if self._settings.loss == MSE else 2.0
        )  # the curvature of the cross-entropy is at most 1/2
        stable = torch.where(largest > 0, share / largest, math.inf)
        numbers["steps"] = torch.minimum(stable, self._shortest_growth()).nan_to_num(0.0, 0.0, 0.0)
        parts["direction"] = {"v": moved / _spread(length.clamp_min(1e-300).to(moved), moved)}

    def _shortest_growth(self) -> torch.Tensor:
        """The steps (J,) that move the fastest layer by `_MOST_MOVED` of itself.

        The curvature grows out of small weights with these: steps that looked at it alone would leap far beyond the gradient flow.
        """
        shortest = torch.full((len(self._at),), math.inf, dtype=torch.float64)
        for name, gradient in self._lanes.parts["gradients"].items():
            if gradient.ndim < 3:  # biases may begin at 0
                continue
            length, move = (
                part.flatten(1).double().norm(dim=1).cpu()
                for part in (self._lanes.parts["weights"][name], gradient)
            )
            growth = torch.where((length > 0) & (move > 0), _MOST_MOVED * length / move, math.inf)
            shortest = torch.minimum(shortest, growth)
        return shortest


def _first(parts: Tensors) -> Tensors:
    """The tensors of the first network."""
    return {name: part[0] for name, part in parts.items()}


def _spread(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Values (J,) with as many axes as a tensor (J, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _chosen(first: torch.Tensor, some: Tensors, others: Tensors) -> Tensors:
    """The weights of some networks where ``first`` (J,) says so, and of the others elsewhere."""
    return {
        name: torch.where(_spread(first.to(part.device), part), part, others[name])
        for name, part in some.items()
    }


def _squares(gradients: Tensors) -> torch.Tensor:
    """Squared lengths (J,) of the gradients."""
    parts = [part.flatten(1).double().square().sum(dim=1) for part in gradients.values()]
    return torch.stack(parts).sum(dim=0).cpu()


Step = Callable[[Tensors, dict[str, Tensors], int, float], Tensors]
"""From gradients, what is known of the networks, the number of the step and the learning rate to moves."""


def _plain(gradients: Tensors, parts: dict[str, Tensors], taken: int, rate: float) -> Tensors:
    return {name: -rate * gradient for name, gradient in gradients.items()}


def _adam(gradients: Tensors, parts: dict[str, Tensors], taken: int, rate: float) -> Tensors:
    """Moves of Adam (Kingma & Ba 2015, algorithm 1)."""
    for key in ("means", "mean_squares"):
        parts.setdefault(key, {name: torch.zeros_like(part) for name, part in gradients.items()})
    means, squares = parts["means"], parts["mean_squares"]
    moves = {}
    for name, gradient in gradients.items():
        means[name] = _BETA_1 * means[name] + (1 - _BETA_1) * gradient
        squares[name] = _BETA_2 * squares[name] + (1 - _BETA_2) * gradient.square()
        mean, square = means[name] / (1 - _BETA_1**taken), squares[name] / (1 - _BETA_2**taken)
        moves[name] = -rate * mean / (square.sqrt() + _EPSILON)
    return moves
