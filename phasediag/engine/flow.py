"""The gradient flow of a batch of networks, each with its own step, time and end.

Along the flow the residual obeys ``de/dt = -K(t) e``. In terms of the impulse ``E = integral of e dt`` the whole training is an
n-dimensional problem ``dE/dt = e(E)`` whose Jacobian ``-K`` is known exactly, whatever the width. Each step

1. solves it with the kernel frozen, mode by mode (exponential Rosenbrock-Euler; Hochbruck and Ostermann, Acta Numerica 2010):
   no stability limit, so stiff modes cost nothing;
2. moves every neuron under that impulse exactly (:class:`Network`), so that the exponential growth out of
   a small initialisation costs nothing either;
3. evaluates the new residual and kernel and compares: the mismatch with the frozen-kernel prediction, and its derivative, give the
   correction that the impulse should have had. Its leading part is not thrown away but carried into the next step (the *debt*),
   and the difference between its third- and fourth-order forms is the error estimate that decides on the step.

Steps 1 and 3 are decided job by job (:mod:`.steps`), where the networks are (:mod:`.runners`): the host looks from time to time which jobs
have ended. Errors are measured in the quantity that users read: the change of each layer's weights relative to its change since the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from . import steps
from .linearised import Ways, courses
from .measures import Measured
from .networks import Array, Changes, Course, Evaluated, Indices, Layers, Moment, Outcome, Trial
from .runners import Runner
from .steps import CONVERGED, DIVERGED, LIMIT, RESTING, RUNNING, SETTLE_TOLERANCE, STUCK, Front

TRIES, CLOSER = 3, 2 / 3
"""A represented network that stalls is followed again from its start, so many times in all, each with so much of the accuracy of the one
before. Its few neurons wait at saddles where errors far below the accuracy decide which of them go on to see a point. Of the many that they
stand for, some would: nearly all that have stalled converge when they are followed again."""
ENDED = 1 / 8
"""Share of jobs that has ended before those that go on are put together anew, where that has a price."""
BLOCK = 2**22
"""Numbers of the largest array of jobs that are looked back at together."""
_STATUS = {
    CONVERGED: "converged",
    DIVERGED: "diverged",
    LIMIT: "evaluation_limit",
    RESTING: "stalled",
    STUCK: "stalled",
}


@dataclass(frozen=True)
class Settings:
    """How well, and how long.

    ``accuracy``: what the errors of all steps together should stay below, relative to every layer's change. They are controlled
    step by step: in most jobs the result is several times better; where single neurons decide much (few neurons, many points, the
    condensed regime) it can be several times worse. ``loss_tolerance``: converged when the loss is at most this fraction of the
    loss of f = 0. ``max_evaluations``: full-batch forward and backward passes of one try after which no further step is taken.
    """

    accuracy: float = 0.01
    loss_tolerance: float = 1e-6
    max_evaluations: int = 20_000


class Network(Protocol):
    """A batch of networks of one shape on one data set, as the integrator sees it: it holds their weights, and moves them."""

    layers: tuple[str, ...]
    """Names of the layers, from the input to the output."""
    pieces: int
    """Pieces of a step in which it wants to know the impulse."""
    passes: int
    """Moves of one step, each with the gates and signals that the one before met: what has not settled by then wants a shorter step."""
    y: Array
    runner: Runner
    """Where it is. Arrays that come from the network or go to it are of this kind, but for ``rates``, ``mass``, and those of `select`,
    `initial` and `change`, which are NumPy's."""

    @property
    def rates(self) -> Array:
        """The rates c_l (B, L); that of the output weights is 1."""

    @property
    def mass(self) -> Array:
        """How many neurons of the network that is represented each simulated one stands for (B,); 1 where it is whole."""

    def begin(self) -> Evaluated:
        """Goes to the initial weights."""

    def trial(
        self, repeats: Any, forgiven: Any, ahead: Any, impulses: Any, lags: Any, tolerance: float
    ) -> Trial:
        """Moves all weights under the impulses of the ``pieces`` of a step (B, P, n), one after the other.

        ``repeats`` (B,): how often this step has been tried before, each time with the gates and signals that it met; ``forgiven`` (B,):
        whether to drop what the last step left to this one; ``ahead`` (B,):
        length of the step in units of the last one; ``lags`` (B, P, n): first moments of the impulses about the middles of their pieces,
        negative, relative to them, where the residual fades; ``tolerance``: of ``Trial.unsettled``.
        """

    def accept(self, accepted: Any) -> None:
        """Takes the step that was tried, in the jobs where ``accepted`` (B,)."""

    def select(self, jobs: Indices) -> Network:
        """The networks with these indices, where they are."""

    def force(self, residual: Any, wanted: Any) -> Any:
        """Largest force (B,) of ``residual`` (B, n) on a neuron of the last hidden layer that is free to follow it, relative to what it
        would be if all points pulled the same way: 0 where no neuron, however small, would move or grow. At least where ``wanted`` (B,)."""

    def unseen(self, wanted: Any) -> Any:
        """Which points (B, n) no neuron of some hidden layer sees any longer, in networks that stand for wider ones: of the wider one's,
        some always would. At least where ``wanted`` (B,)."""

    def measured(self, jobs: Indices) -> list[Mapping[str, Measured]]:
        """What is measured on the networks with these indices, by layer; nothing where that is left to who has their changes."""

    def outputs(self, jobs: Indices, points: Array) -> list[Array]:
        """The sums over neurons (k,) of the networks with these indices, at points (k, d): see :mod:`.functions`. Empty where that is left
        to who has their changes."""

    def initial(self, job: int) -> Layers:
        """Initial weights of one job."""

    def change(self, job: int) -> Changes:
        """Displacement since the start of the weights of one job."""


class Visitor(Protocol):
    """Who looks at the only job of a batch: see :mod:`.visits`."""

    def begin(self) -> None:
        """A try begins."""

    def within(self, network: Network, front: Front, accuracy: float) -> None:
        """A step was tried and judged: the network is still where it begins."""


def integrate(
    network: Network,
    settings: Settings,
    trace: bool = False,
    keep: bool = True,
    points: Array | None = None,
    visitor: Visitor | None = None,
) -> Outcome:
    """Follows the gradient flow of every job to convergence, or to an honest end.

    Returns a :class:`.networks.Outcome`; its ``status`` is "converged", "evaluation_limit", "stalled" (stationary above the
    tolerance, or not what it stands for: see :meth:`Network.unseen`; a represented network in all of ``TRIES``) or "diverged".
    ``trace`` keeps a :class:`.networks.Moment` after every step that counts; without ``keep``, changes that were measured are not kept;
    ``points`` (k, d): where else to look at the functions that were learned; ``visitor``: who looks at the only job of a batch on its way.
    """
    outcome = _follow(network, settings, trace, keep, points, visitor)
    for attempt in range(1, TRIES):
        stalled = np.flatnonzero((np.array(outcome.status) == "stalled") & (network.mass > 1))
        if not len(stalled):
            break
        closer = replace(settings, accuracy=CLOSER**attempt * settings.accuracy)
        outcome.update(stalled, _follow(network.select(stalled), closer, trace, keep, points, visitor))
    return outcome


def _follow(
    network: Network,
    settings: Settings,
    trace: bool,
    keep: bool,
    points: Array | None = None,
    visitor: Visitor | None = None,
) -> Outcome:
    """One try of :func:`integrate`."""
    target = settings.loss_tolerance * float(np.mean(network.y**2)) / 2
    run, size = network.runner, (len(network.rates), len(network.layers), len(network.y), network.pieces)
    front = Front.of(run.zeros, *size)
    outcome = Outcome.of(size[0])
    # those still in training: rows of the front, in the order of the network's
    rows = np.arange(size[0])
    jobs = run.put(rows)
    run(steps.begin, front, jobs, *network.begin(), run.put(network.rates), target)
    outcome.loss_initial = run.get(front.lowest).tolist()
    every, step = 1 if trace else run.every, 0
    if visitor:
        visitor.begin()
    while True:
        run.decompose(front, jobs)
        if trace:
            _record(outcome, front, rows[run.get(front.counted[jobs])], network)
        unseen = network.unseen(front.fitted[jobs])
        run(steps.ends, front, jobs, unseen, target, settings.accuracy, settings.max_evaluations)
        if step == 0:
            start = deepcopy((front.residual, front.values, front.vectors))
        force = network.force(front.remaining[jobs], front.end[jobs] == RESTING)
        run(steps.propose, front, jobs, force, target, settings.max_evaluations)
        if step % every == 0:
            ends = run.get(front.end[jobs])
            running = ends == RUNNING
            if np.mean(~running) > (0 if every == 1 else ENDED) or not running.any():
                _finish(outcome, front, rows, ends, network, keep, points)
                if not running.any():
                    outcome.courses = list(_courses(front, start, run))
                    return outcome
                rows, network = rows[running], network.select(np.flatnonzero(running))
                jobs = run.put(rows)
        trial = network.trial(
            front.passes[jobs],
            front.forgiven[jobs],
            front.ahead[jobs],
            front.pieces[jobs],
            front.lags[jobs],
            SETTLE_TOLERANCE * settings.accuracy,
        )
        run(steps.judge, front, jobs, trial, settings.accuracy, target, network.passes)
        if visitor:
            visitor.within(network, front, settings.accuracy)
        network.accept(front.fresh[jobs])
        step += 1


def _finish(
    outcome: Outcome,
    front: Front,
    rows: Indices,
    ends: Indices,
    network: Network,
    keep: bool,
    points: Array | None,
) -> None:
    """Notes what became of the jobs that are at their end."""
    get = network.runner.get
    evaluations, loss = get(front.evaluations), get(front.loss)
    ended = np.flatnonzero(ends != RUNNING)
    if points is not None and len(ended):
        for job, output in zip(rows[ended], network.outputs(ended, points), strict=True):
            outcome.outputs[job] = output
    for index, measured in zip(ended, network.measured(ended), strict=True):
        job = int(rows[index])
        outcome.status[job] = _STATUS[int(ends[index])]
        outcome.evaluations[job] = int(evaluations[job])
        outcome.loss_final[job] = float(loss[job])
        outcome.measured[job] = measured
        if keep or not measured:
            outcome.changes[job] = network.change(int(index))


def _courses(front: Front, start: Any, run: Runner) -> Iterator[Course]:
    """The courses of all jobs, which are at their end; ``start``: residuals, and modes of the kernels, at their start."""
    jobs, n = front.residual.shape
    size = max(1, BLOCK // (front.kernels.shape[1] * n**2))
    for at in range(0, jobs, size):
        those = slice(at, at + size)
        residual, values, vectors, residual_end, kernels, held, time, halved = (
            run.get(array[those])
            for array in (*start, front.residual, front.kernels, front.held, front.time, front.halved)
        )
        kernel_end, flowing = kernels.sum(axis=1) + held, np.zeros(len(time))
        yield from courses(Ways(residual, values, vectors, residual_end, kernel_end, time, halved, flowing))


def _record(outcome: Outcome, front: Front, jobs: Indices, network: Network) -> None:
    """Notes where these jobs are."""
    get = network.runner.get
    evaluations, loss, travelled = get(front.evaluations), get(front.loss), get(front.travelled)
    times = get(front.time)
    for job in jobs:
        moved = dict(zip(network.layers, travelled[job].tolist(), strict=True))
        outcome.trace[job].append(Moment(int(evaluations[job]), float(times[job]), float(loss[job]), moved))
