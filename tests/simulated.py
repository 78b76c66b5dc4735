"""The kernels of a GPU and their launches under numba's simulator, against the CPU: NUMBA_ENABLE_CUDASIM=1 python tests/simulated.py

The simulator runs a Python thread for every thread of a block. Networks and their launches are those of a GPU but for the memory, which
is torch's on the CPU.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import cards
import numpy as np
import torch
from numba import cuda, types

from phasediag.engine import kernels, modes, neurons, pieces, products, single, steps, teams
from phasediag.engine.callees import Function
from phasediag.engine.flow import Settings, integrate
from phasediag.engine.networks import Initialisation, Outcome, Trial
from phasediag.engine.relu_cpu import ReluNetworkCPU
from phasediag.engine.relu_gpu import ReluNetworkGPU
from phasediag.engine.runners import Launcher, each

MODULES: tuple[ModuleType, ...] = (teams, modes, pieces, products, neurons, single, steps)
SHAPES = [
    (depth, represented, inputs)
    for depth, inputs in ((2, 1), (2, 64), (3, 1), (3, 64), (4, 1))
    for represented in (False, True)
]
NEURONS, POINTS = 5, 3


def prepare() -> None:
    """What kernels call runs in Python, as everything does here, with the lanes of the simulator."""
    assert kernels.cuda is cuda and "simulator" in cuda.jit.__module__
    for module in MODULES:
        for name, value in list(vars(module).items()):
            if isinstance(value, Function):
                setattr(module, name, value.py_func)
    lanes = {
        "lane": lambda: kernels.cuda.threadIdx.x,
        "lanes": lambda: kernels.cuda.blockDim.x,
        "together": kernels._sum,
        "most": kernels._largest,
    }
    for module in MODULES:
        for name in lanes.keys() & vars(module).keys():
            setattr(module, name, lanes[name])
    kernels.GRID, kernels.BLOCK = 2, 4
    kernels._stream = lambda: 0
    cuda.as_cuda_array = lambda tensor, sync: tensor.numpy()


def cases() -> Iterator[tuple[str, np.ndarray, np.ndarray, int, list[Initialisation]]]:
    """Two networks of every shape."""
    generator = np.random.default_rng(0)
    for depth, represented, inputs in SHAPES:
        x = generator.standard_normal((POINTS, inputs)) / np.sqrt(inputs)
        y = generator.uniform(-1, 1, POINTS)
        width = 10**4 if represented else NEURONS
        jobs = [
            Initialisation(width, depth / 2 - 0.5 + gamma, 0.1, 0.0, seed)
            for gamma, seed in ((0.0, 0), (0.5, 1))
        ]
        yield f"{depth} layers, {'represented' if represented else 'whole'}, d = {inputs}", x, y, depth, jobs


def step(network: Any, repeats: int) -> Trial:
    """A step that crosses kinks."""
    jobs, put, get = len(network.rates), network.runner.put, network.runner.get
    parts = np.full((jobs, network.pieces, POINTS), 0.05) * np.linspace(-1, 1, POINTS)
    tried = np.full(jobs, repeats)
    given = tried, tried < 0, np.full(jobs, 1.0), parts, np.zeros_like(parts)
    return Trial(*map(get, network.trial(*map(put, given), 1e-4)))


def watched() -> Launcher:
    """Launches, with arguments of the types that `test_kernels.py` compiles kernels for."""
    launch, of_teams, of_neurons = kernels.KERNELS, cards.of_teams(types.float64), cards.groups(types.float64)

    def of(argument: Any) -> types.Type:
        return cards.type_of(
            each(lambda part: part.numpy() if isinstance(part, torch.Tensor) else part, argument)
        )

    def neurons(blocks: int, flags: Any, groups: Any) -> None:
        assert tuple(map(of, (flags, *groups))) == of_neurons
        launch.neurons(blocks, flags, groups)

    def teams(function: Any, lanes: int, arguments: Any) -> None:
        assert tuple(map(of, arguments)) == of_teams[function.__name__], function.__name__
        launch.teams(function, lanes, arguments)

    return launch._replace(neurons=neurons, teams=teams, most_blocks=2)


def on_gpu(*arguments: Any) -> ReluNetworkGPU:
    """A network whose functions are launched as kernels."""
    network = ReluNetworkGPU.initialised(*arguments, "float64", "cpu")
    network._card.launch = network._mover.launch = watched()
    return network


def main() -> None:
    """Compares steps of all shapes, and a training; exits with 1 where they differ."""
    torch.set_num_threads(1)
    # compiled functions are the CPU's: it goes first
    expected: list[list[Trial]] = []
    trained: list[Outcome] = []
    settings = Settings(loss_tolerance=0.05, max_evaluations=15)
    for _, x, y, depth, jobs in cases():
        network = ReluNetworkCPU.initialised(x, y, depth, NEURONS, jobs, "float64")
        network.begin()
        expected.append([step(network, 0)])
        network.accept(np.array([True, False]))
        expected[-1].append(step(network, 0))
    chosen = [case for case in cases() if case[3] == 2 and len(case[1][0]) == 1]
    for _, x, y, depth, jobs in chosen:
        trained.append(integrate(ReluNetworkCPU.initialised(x, y, depth, NEURONS, jobs, "float64"), settings))
    prepare()
    for (name, x, y, depth, jobs), (first, second) in zip(cases(), expected, strict=True):
        gpu = on_gpu(x, y, depth, NEURONS, jobs)
        gpu.begin()
        for trial, then in ((first, True), (second, False)):
            found = step(gpu, 0)
            for field in ("residual", "kernels", "held", "rotation", "travelled"):
                wanted = getattr(trial, field)
                np.testing.assert_allclose(
                    getattr(found, field),
                    wanted,
                    rtol=1e-6,
                    atol=1e-8 * np.abs(wanted).max(),
                    err_msg=f"{name}: {field}",
                )
            if then:
                gpu.accept(gpu.runner.put(np.array([True, False])))
        print(f"{name}: equal", flush=True)
    for (name, x, y, depth, jobs), wanted in zip(chosen, trained, strict=True):
        outcome = integrate(on_gpu(x, y, depth, NEURONS, jobs), settings)
        assert outcome.status == wanted.status, (name, outcome.status, wanted.status)
        for mine, other in zip(outcome.changes, wanted.changes, strict=True):
            for layer, change in other.items():
                np.testing.assert_allclose(
                    np.linalg.norm(mine[layer]), np.linalg.norm(np.asarray(change)), rtol=0.05
                )
        print(
            f"{name}: trained, {outcome.evaluations} evaluations, {wanted.evaluations} on the CPU", flush=True
        )


if __name__ == "__main__":
    sys.exit(main())
