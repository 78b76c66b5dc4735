"""The networks of a GPU, on the CPU: the functions of single neurons in a loop in place of threads, against the networks of the CPU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, product
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from peak import Peak
from test_relu_cpu import DEPTHS, NEURONS, X, Y, impulses, jobs_of
from torch.utils._python_dispatch import TorchDispatchMode

from phasediag.engine import card_measures, kernels
from phasediag.engine.cards import LOOPS, CardRunner
from phasediag.engine.flow import Settings, integrate
from phasediag.engine.networks import Evaluated, Initialisation, Trial
from phasediag.engine.relu_cpu import ReluNetworkCPU
from phasediag.engine.relu_gpu import ReluNetworkGPU
from phasediag.phase_diagram.costs import card_bytes
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.predictions import HeldOut, Predictions, initialisation
from phasediag.phase_diagram.training import InitialNorms, Trained, _measure

pytestmark = pytest.mark.usefixtures("one_thread")

POINTS = np.linspace(-1.5, 1.5, 5 * X.shape[1]).reshape(5, -1)
"""Where no network is trained."""


@pytest.fixture(params=DEPTHS)
def depth(request: pytest.FixtureRequest) -> int:
    chosen: int = request.param
    return chosen


def both(depth: int, jobs: list[Initialisation] | None = None) -> tuple[ReluNetworkCPU, ReluNetworkGPU]:
    arguments = X, Y, depth, NEURONS[depth], jobs or jobs_of(depth), "float64"
    return ReluNetworkCPU.initialised(*arguments), ReluNetworkGPU.initialised(*arguments, "cpu")


def step(network: ReluNetworkCPU | ReluNetworkGPU, depth: int, size: float, repeats: int = 0) -> Trial:
    """A step along what pushes all layers, within which no gate has to settle."""
    pushed = impulses(depth, size)
    jobs, pieces, put, get = len(pushed), network.pieces, network.runner.put, network.runner.get
    parts = np.repeat(pushed[:, None] / pieces, pieces, axis=1)
    tried = np.full(jobs, repeats)
    given = tried, tried < 0, np.full(jobs, 1.0), parts, np.zeros_like(parts)
    return Trial(*map(get, network.trial(*map(put, given), 1e9)))


def test_a_step_leads_where_it_does_on_the_cpu(depth: int) -> None:
    """Twice, with what the first step owes, and repeated once."""
    cpu, gpu = both(depth)
    first = [Evaluated(*map(network.runner.get, network.begin())) for network in (cpu, gpu)]
    np.testing.assert_allclose(first[1].residual, first[0].residual, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(first[1].kernels, first[0].kernels, rtol=1e-9, atol=1e-12)
    for _ in range(2):
        for repeats in (0, 1) if depth > 2 else (0,):
            one, two = (step(network, depth, 1e-3, repeats) for network in (cpu, gpu))
            for name in ("residual", "kernels", "held", "rotation", "travelled"):
                found, expected = getattr(two, name), getattr(one, name)
                np.testing.assert_allclose(
                    found, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max(), err_msg=name
                )
        for network in (cpu, gpu):
            network.accept(network.runner.put(np.array([True, True, False, True, True])))
    e, wanted = np.linspace(-1.0, 1.0, 5 * len(X)).reshape(5, -1), np.full(5, True)
    put = gpu.runner.put
    np.testing.assert_allclose(gpu.force(put(e), put(wanted)), cpu.force(e, wanted), rtol=1e-6)
    assert np.array_equal(gpu.unseen(put(wanted)), cpu.unseen(wanted))
    for job in range(5):
        for layer, expected in cpu.change(job).items():
            found, size = np.asarray(gpu.change(job)[layer]), np.abs(np.asarray(expected)).max()
            np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-6, atol=1e-9 * size)
            np.testing.assert_array_equal(gpu.initial(job)[layer], cpu.initial(job)[layer])


def test_training_ends_where_it_does_on_the_cpu(depth: int) -> None:
    """Whole networks and represented ones: the same ends, as many evaluations, changes within the accuracy."""
    ntk, neurons, accuracy = depth / 2 - 0.5, NEURONS[depth], 0.01
    jobs = [
        Initialisation(width, ntk + g, prime, 0.0, seed)
        for width, g, prime, seed in [
            (neurons, 0.0, 0.0, 0),
            (neurons, 0.6, 0.2, 1),
            (10**6, 0.0, 0.2, 0),
            (10**6, 0.5, 0.0, 1),
        ]
    ]
    settings, networks = Settings(accuracy=accuracy), both(depth, jobs)
    cpu, gpu = (integrate(network, settings, points=POINTS) for network in networks)
    assert gpu.status == cpu.status
    assert sum(gpu.evaluations) == pytest.approx(sum(cpu.evaluations), rel=0.2)
    for mine, other in zip(gpu.changes, cpu.changes, strict=True):
        for layer, expected in other.items():
            sizes = [np.linalg.norm(np.asarray(array, dtype=float)) for array in (mine[layer], expected)]
            assert sizes[0] == pytest.approx(sizes[1], rel=10 * accuracy), layer
    for mine, other in zip(gpu.courses, cpu.courses, strict=True):
        assert mine.time_half == pytest.approx(other.time_half, rel=2 * accuracy)
        # which of few neurons are at a kink in the end decides how fast the last mode fades
        assert 0.5 < mine.time / other.time < 2 and 0.5 < mine.kernel_change / other.kernel_change < 2
    lazy = [np.array(outcome.courses[2][:4]) for outcome in (gpu, cpu)]
    np.testing.assert_allclose(*lazy, rtol=0.05)


def test_functions_at_other_points_are_those_of_the_weights(depth: int) -> None:
    """Of networks whose weights stay on the card."""
    jobs = [
        Job(str(width), depth, width, NEURONS[depth], depth / 2 - 0.2, 0.1, 0.0, 1)
        for width in (NEURONS[depth], 10**6)
    ]
    network = both(depth, [initialisation(job) for job in jobs])[1]
    outcome = integrate(network, Settings(max_evaluations=40), points=POINTS)
    for index, job in enumerate(jobs):
        course, start = outcome.courses[index], network.initial(index)
        looks = [
            Predictions(X, HeldOut(POINTS, POINTS[:, 0]), "cpu").look(
                job, start, outcome.changes[index], outputs, course
            )
            for outputs in (outcome.outputs[index], np.empty(0))
        ]
        for name, expected in looks[1].items():
            assert looks[0][name] == pytest.approx(expected, rel=1e-9), name


def test_a_row_does_not_depend_on_its_batch() -> None:
    jobs = jobs_of(3)
    arguments = X, Y, 3, NEURONS[3]
    settings = Settings(accuracy=0.05)
    together = integrate(ReluNetworkGPU.initialised(*arguments, jobs, "float64", "cpu"), settings)
    alone = integrate(ReluNetworkGPU.initialised(*arguments, jobs[1:2], "float64", "cpu"), settings)
    assert together.evaluations[1] == alone.evaluations[0]
    for layer, change in alone.changes[0].items():
        np.testing.assert_allclose(
            np.asarray(together.changes[1][layer]), np.asarray(change), rtol=1e-6, atol=1e-12
        )


def test_every_thread_of_the_kernel_moves_its_own_neurons() -> None:
    """The kernel itself, thread by thread: no thread waits for another one, so that any order does. Few threads: each moves several
    neurons, of several jobs."""
    threads = list(product((0, 1), (1, 77)))  # blocks and lanes

    def launch(blocks: int, flags: tuple[Any, ...], groups: Sequence[Sequence[torch.Tensor]]) -> None:
        arrays = [tuple(tensor.numpy() for tensor in group) for group in groups]
        for at, (block, lane) in enumerate(threads):
            card = SimpleNamespace(
                blockIdx=SimpleNamespace(x=block),
                threadIdx=SimpleNamespace(x=lane),
                grid=lambda _, at=at: at,
                gridsize=lambda _: len(threads),
            )
            with patch.multiple(kernels, cuda=card, _mine=mine):
                kernel(flags, *arrays)

    kernel, mine = kernels.move.py_func, kernels._mine.py_func
    arguments = X, Y, 3, NEURONS[3], jobs_of(3), "float64", "cpu"
    in_turn, by_threads = (ReluNetworkGPU.initialised(*arguments) for _ in range(2))
    by_threads._mover.launch = LOOPS._replace(neurons=launch, most_blocks=2)
    for network in (in_turn, by_threads):
        network.begin()
    expected, found = (step(network, 3, 0.3) for network in (in_turn, by_threads))
    for name in expected._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("represented", [False, True])
def test_what_is_measured_on_the_card_is_measured_on_what_it_sends(depth: int, represented: bool) -> None:
    """Norms, and orientations of the same neurons; of a trained network, and of one that has not moved."""
    neurons = NEURONS[depth]
    width = 10**6 if represented else neurons
    jobs = [Job(str(seed), depth, width, neurons, depth / 2 - 0.4, 0.1, 0.0, seed) for seed in (3, 1)]
    starts = [Initialisation(width, job.gamma, 0.1, 0.0, job.seed) for job in jobs]
    for evaluations in (1, 60):
        network = ReluNetworkGPU.initialised(X, Y, depth, neurons, starts, "float64", "cpu")
        outcome = integrate(network, Settings(max_evaluations=evaluations))
        for index, job in enumerate(jobs):
            of_job = outcome.changes[index], [], {}, outcome.courses[index], outcome.outputs[index]
            trained = Trained(job, "", 0, 0.0, 0.0, network.initial(index), *of_job, 0.0)
            for layer, found in outcome.measured[index].items():
                expected = _measure(trained, layer, InitialNorms().of(trained, layer)[2])
                np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-30)
    silent = integrate(
        ReluNetworkGPU.initialised(X, Y, depth, neurons, starts, "float64", "cpu"),
        Settings(max_evaluations=1),
        keep=False,
    )
    assert silent.changes == [{}, {}] and all(len(of_job) == depth for of_job in silent.measured)


@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize(
    ("neurons", "points", "dtype"), [(300, 4, "float32"), (60, 4, "float64"), (40, 30, "float32")]
)
def test_memory_is_what_batches_are_sized_by(
    depth: int, neurons: int, points: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of twice as many jobs takes as much more as is counted for these, nearly; while it trains, and when jobs end."""
    # orientations take the same whatever the batch: one job at a time
    monkeypatch.setattr(card_measures, "orientations", lambda weights, seeds: [math.nan] * len(seeds))
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((points, 2)), generator.uniform(-1, 1, points)
    peaks = []
    for count in (6, 12):
        jobs = [Initialisation(neurons, depth / 2 - 0.5 + 0.05 * (k % 6), 0.1, 0.0, 0) for k in range(count)]
        with Peak() as peak:
            network = ReluNetworkGPU.initialised(x, y, depth, neurons, jobs, dtype, "cpu")
            integrate(network, Settings(max_evaluations=20, loss_tolerance=0.02))
        peaks.append(peak.bytes)
    counted = card_bytes(Job("", depth, neurons, neurons, 1.0, 0.0, 0.0, 0), points, np.dtype(dtype).itemsize)
    taken = (peaks[1] - peaks[0]) / 6
    assert 0.5 * counted < taken <= counted


def test_kernels_get_arguments_of_one_kind(depth: int) -> None:
    """Whatever happens: for arguments of other types, or arrays of another layout, they would be compiled anew, for a minute."""
    seen: dict[str, set[Any]] = {}

    def kind(argument: Any) -> Any:
        if isinstance(argument, torch.Tensor):
            argument = argument.numpy()
        if isinstance(argument, np.ndarray):
            assert argument.flags.c_contiguous
            return argument.dtype.str, argument.ndim
        return tuple(map(kind, argument)) if isinstance(argument, tuple) else type(argument)

    def neurons(blocks: int, flags: tuple[Any, ...], groups: Sequence[Sequence[torch.Tensor]]) -> None:
        seen.setdefault("move", set()).add((kind(flags), kind(tuple(map(tuple, groups)))))
        LOOPS.neurons(blocks, flags, groups)

    def teams(function: Any, lanes: int, arguments: Sequence[Any]) -> None:
        seen.setdefault(function.__name__, set()).add(kind(tuple(arguments)))
        LOOPS.teams(function, lanes, arguments)

    jobs = jobs_of(depth)
    network = ReluNetworkGPU.initialised(X, Y, depth, NEURONS[depth], jobs, "float32", "cpu")
    network._card.launch = network._mover.launch = LOOPS._replace(neurons=neurons, teams=teams)
    integrate(network, Settings(max_evaluations=40))
    assert {name: len(kinds) for name, kinds in seen.items()} == dict.fromkeys(seen, 1)
    expected = {"move", *kernels.OF_TEAMS}
    assert set(seen) == (expected if depth > 2 else expected - {"grow"})


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a card, and what it sends there."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        masked = name in ("index", "index_put_") and any(
            part is not None and part.dtype == torch.bool for part in args[1]
        )
        if masked or name in ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "lift_fresh"):
            self.found[name] += 1
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("represented", [False, True])
@pytest.mark.parametrize("depth", [2, 4])
def test_trials_wait_for_nothing(depth: int, represented: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks, the host neither reads from the card nor writes to it, whatever becomes of the jobs."""
    neurons = NEURONS[depth]
    jobs = [
        Initialisation(10**6 if represented else neurons, depth / 2 - 0.5 + gamma, 0.1, 0.0, seed)
        for gamma, seed in ((0.0, 0), (0.6, 1))
    ]
    network = ReluNetworkGPU.initialised(X, Y, depth, neurons, jobs, "float64", "cpu")
    seen: list[tuple[str, int]] = []  # what happens, and how many waits there were before it
    waits = Waits()

    def noted(name: str) -> None:
        original = getattr(CardRunner, name)

        def noting(self: CardRunner, array: Any) -> Any:
            seen.append((name, sum(waits.found.values())))
            return original(self, array)

        monkeypatch.setattr(CardRunner, name, noting)

    def trial(self: ReluNetworkGPU, *arguments: Any) -> Trial:
        seen.append(("trial", sum(waits.found.values())))
        return tried(self, *arguments)

    tried = ReluNetworkGPU.trial
    monkeypatch.setattr(ReluNetworkGPU, "trial", trial)
    noted("get")
    noted("put")
    with waits:
        integrate(network, Settings())
    names = [name for name, _ in seen]
    trials = [at for at, name in enumerate(names) if name == "trial"][1:]  # the first one is the start
    quiet = [names[a + 1 : b] == [] and seen[a][1] == seen[b][1] for a, b in pairwise(trials)]
    assert len(quiet) > 2 * CardRunner.every
    runs = "".join("q" if one else "." for one in quiet)
    assert set(map(len, runs.split(".")[:-1])) == {CardRunner.every - 1}, runs
