"""Training of torch modules: gradient descent, minibatches and Adam, many networks of one architecture at a time.

All networks of a batch take their steps together, as one tensor operation each (torch.func.vmap). Some modules are trained alone, by the
same steps: where this cannot be done, as with random numbers or branches on the data, or where it would matter to a row what else is in
the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from ..data import MSE, Points
from ..networks import seeded, told
from .course import Course, Settings, Tensors, Trained
from .gradients import Alone, Gradients, Together
from .lanes import Lanes, chosen, lengths, spread
from .together import LEAST_TOGETHER, own, padding, stacked, work_together

_SHARE_OF_STABLE, _FIRST_ITERATIONS = 0.5, 20
"""The step of gd "auto" in units of one over the curvature: at 2, the loss would stop falling in the steepest direction. And power
iterations before the first step."""
_KEPT = 1e-3
"""The share of the first direction that every power iteration keeps."""
_MOST_MOVED = 0.1
"""The share of itself by which a step moves a layer, at most."""
_MOST_UNSEEN, _UNSEEN_STEPS = 0.02, 8
"""How far a layer moves, as a share of itself, and how many steps are taken, until the curvature is looked at again."""
_MOST_RISE, _CUT = 2.0, 0.5
"""A step that multiplies the loss by more is refused, and cut: at the kinks of ReLU the loss rises a little now and then."""
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


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
        InputError: the networks do not fit the data, or one of them fails.
    """
    with told("the network cannot be trained"):
        return _together_or_alone(networks, seeds, data, settings)


def _together_or_alone(
    networks: Sequence[torch.nn.Module], seeds: Sequence[int], data: Points, settings: Settings
) -> Trained:
    model = networks[0]
    weights = stacked([dict(network.named_parameters()) for network in networks])
    buffers = stacked([dict(network.named_buffers()) for network in networks])
    if work_together(model, weights, buffers, data, settings):
        count, more = len(networks), padding(model, data, settings)
        padded = [*range(count), *[count - 1] * max(more, LEAST_TOGETHER - count)]
        all_weights, all_buffers = (
            {name: part[padded] for name, part in parts.items()} for parts in (weights, buffers)
        )
        lanes = Lanes(all_weights, all_buffers, [seeds[at] for at in padded])
        lanes.status[count:] = ["padding"] * (len(padded) - count)
        together = Together(own(model), settings.loss)
        done = _Run(together, lanes, data, settings, more).train()[:count]
        return _trained(done, settings, True)
    done = []
    for index, (network, seed) in enumerate(zip(networks, seeds, strict=True)):
        one, one_buffers = (
            {name: part[index : index + 1].clone() for name, part in parts.items()}
            for parts in (weights, buffers)
        )
        with seeded(seed):
            alone = Alone(own(network), settings.loss)
            done += _Run(alone, Lanes(one, one_buffers, [seed]), data, settings, 0).train()
    return _trained(done, settings, False)


def require_trains(network: torch.nn.Module, data: Points, settings: Settings) -> None:
    """Raises `InputError` if a network cannot be trained on the data."""
    weights, buffers = stacked([dict(network.named_parameters())]), stacked([dict(network.named_buffers())])
    work_together(network, weights, buffers, data, settings)


def _trained(done: Sequence[Lanes], settings: Settings, together: bool) -> Trained:
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
    return Trained(courses, weights, buffers, together, [lane.steps[0] for lane in done])


class _Run:
    """The training of networks, which end one after the other and then stay as they are."""

    def __init__(
        self, gradients: Gradients, lanes: Lanes, data: Points, settings: Settings, behind: int
    ) -> None:
        self._gradients, self._data, self._settings, self._behind = gradients, data, settings, behind
        self._lanes = lanes
        self._at = list(range(len(lanes.status)))
        self._ended: dict[int, Lanes] = {}
        initial = self._whole_losses()
        nothing = torch.zeros_like(initial)
        lanes.numbers |= {"initial": initial, "loss": initial, "time": nothing, "half": nothing + math.nan}
        self._judge(0)

    def train(self) -> list[Lanes]:
        """Trains until every network has ended; returns a lane for each."""
        if self._settings.method == "gd":
            self._descend(self._settings.learning_rate)
        else:
            self._by_batches(_adam if self._settings.method == "adam" else _plain)
        for lane, at in enumerate(self._at):
            self._ended.setdefault(at, self._lanes.only([lane]))
        return [self._ended[at] for at in sorted(self._ended)]

    def _drop(self) -> bool:
        """Drops networks that have ended, once they are half of all, but for those that stand behind the others; whether any goes on."""
        going = [lane for lane, status in enumerate(self._lanes.status) if not status]
        if not going:
            return False
        keep = max(len(going) + self._behind, LEAST_TOGETHER if self._behind else 1)
        if 2 * keep <= len(self._at):
            others = [lane for lane in range(len(self._at)) if lane not in set(going)]
            behind = others[: keep - len(going)]
            for lane in others[keep - len(going) :]:
                self._ended[self._at[lane]] = self._lanes.only([lane])
            lanes = going + behind
            self._lanes, self._at = self._lanes.only(lanes), [self._at[lane] for lane in lanes]
        return True

    def _of(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, Tensors]:
        """Losses and gradients; buffers, as running means, change for those that are still trained."""
        parts = self._lanes.parts
        trial = {name: part.clone() for name, part in parts["buffers"].items()}
        losses, gradients = self._gradients.of(parts["weights"], trial, x, y)
        parts["buffers"] = chosen(self._lanes.going(), trial, parts["buffers"])
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
            weights[name] = weights[name] + torch.where(spread(going, move), move, 0.0)
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

        That is the largest eigenvalue of the tangent kernel. Power iterations follow it: one whenever the weights have moved on a little.
        """
        losses, gradients = self._of(*self._all())
        self._lanes.parts["gradients"] = gradients
        if rate is None:
            parts, x = self._lanes.parts, self._all()[0]
            drawn = self._gradients.directions(parts["weights"], parts["buffers"], x)
            parts |= {"drawn": {"v": drawn}, "direction": {"v": drawn}}
            nothing = torch.zeros_like(losses)
            self._lanes.numbers |= {"stable": nothing, "moved": nothing, "unseen": nothing}
            for _ in range(_FIRST_ITERATIONS):
                self._look_at_kernel(torch.full_like(losses, True, dtype=torch.bool))
            self._lanes.numbers["steps"] = self._longest_steps()
        else:
            self._lanes.numbers["steps"] = torch.full_like(losses, rate)
        for epoch in range(1, self._settings.epochs + 1):
            if not self._drop():
                return
            numbers, parts, going = self._lanes.numbers, self._lanes.parts, self._lanes.going()
            start, buffers = parts["weights"], parts["buffers"]
            before, steps = numbers["loss"], numbers["steps"]
            self._move(
                {name: -spread(steps.to(part), part) * part for name, part in parts["gradients"].items()}
            )
            found, new = self._of(*self._all())
            accepted = going if rate is not None else going & (found <= _MOST_RISE * before)
            parts["weights"] = chosen(accepted, parts["weights"], start)
            parts["buffers"] = chosen(accepted, parts["buffers"], buffers)
            parts["gradients"] = chosen(accepted, new, parts["gradients"])
            numbers["loss"] = torch.where(accepted, found, before)
            spent = torch.where(accepted, steps, 0.0)
            for taken, step in zip(self._lanes.steps, spent.tolist(), strict=True):
                taken += [step] * (step > 0)
            self._note(before, spent)
            self._judge(epoch)
            length = lengths(parts["gradients"]).cpu()
            self._lanes.end(~length.isfinite(), "diverged")
            self._lanes.end(length == 0, "stalled")
            if rate is None:
                numbers["moved"] = numbers["moved"] + torch.where(accepted, steps * numbers["pace"], 0.0)
                numbers["unseen"] = numbers["unseen"] + 1
                old = (numbers["moved"] > _MOST_UNSEEN) | (numbers["unseen"] >= _UNSEEN_STEPS)
                self._look_at_kernel(going & (old | ~accepted))
                longest = self._longest_steps()
                shrunk = torch.minimum(longest, _CUT * steps)
                numbers["steps"] = torch.where(going & ~accepted, shrunk, longest)

    def _look_at_kernel(self, which: torch.Tensor) -> None:
        """One more power iteration for these networks (J,), and how long their steps may be by it."""
        if not which.any():
            return
        parts, numbers = self._lanes.parts, self._lanes.numbers
        moved = self._gradients.through_kernel(
            parts["weights"], parts["buffers"], self._all()[0], parts["direction"]["v"]
        )
        length = lengths({"v": moved}).cpu()
        # The direction has the length 1. The loss is a sum over so many, and the curvature of the cross-entropy at most 1/2.
        square = self._settings.loss == MSE
        largest = length / (len(self._data) if square else self._data.y.numel())
        share = _SHARE_OF_STABLE * (1.0 if square else 2.0)
        stable = torch.where(largest > 0, share / largest, math.inf)
        numbers["stable"] = torch.where(which, stable, numbers["stable"])
        for name in ("moved", "unseen"):
            numbers[name] = torch.where(which, 0.0, numbers[name])
        # Some of the first direction stays: what has vanished from a direction to the last bit would not come back.
        direction = moved / spread(length.to(moved), moved) + _KEPT * parts["drawn"]["v"]
        direction = direction / spread(lengths({"v": direction}).to(moved), moved)
        parts["direction"] = chosen(which & (length > 0), {"v": direction}, parts["direction"])

    def _longest_steps(self) -> torch.Tensor:
        """The steps (J,) by the curvature, if they move no layer by more than `_MOST_MOVED` of itself.

        The curvature grows out of small weights with these: steps that looked at it alone would leap far beyond the gradient flow.
        """
        numbers = self._lanes.numbers
        numbers["pace"] = self._pace()
        return torch.minimum(numbers["stable"], _MOST_MOVED / numbers["pace"]).nan_to_num(0.0, 0.0, 0.0)

    def _pace(self) -> torch.Tensor:
        """The share of itself (J,) by which the fastest layer moves in a step of length 1."""
        fastest = torch.zeros(len(self._at), dtype=torch.float64)
        for name, gradient in self._lanes.parts["gradients"].items():
            if gradient.ndim < 3:  # biases may begin at 0
                continue
            length, move = (
                lengths({name: part}).cpu() for part in (self._lanes.parts["weights"][name], gradient)
            )
            fastest = torch.maximum(fastest, torch.where(length > 0, move / length, 0.0))
        return fastest


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
