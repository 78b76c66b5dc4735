"""The functions of single neurons (:mod:`.single`), of jobs (:mod:`.steps`) and of rows as kernels of a GPU.

Needs numba-cuda, which compiles them where a GPU is.
"""

# Types are numba's business here.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba.extending
import numpy as np
import torch
from numba import cuda, types
from numba.cuda import extending

from . import pieces, products, single, steps, teams
from .neurons import BLOCK
from .runners import Launcher, each

GRID = 4096
"""Blocks of a kernel of teams: those that find no job end at once, and those beyond wait for their turn."""
MOST_LANES = 128
"""Largest team: a block of threads."""


# One thread for one neuron.


@cuda.jit
def move(flags, room, push, seen, before, after, own):
    """Moves all neurons of a layer of all jobs: a thread moves one neuron at a time."""
    mine, jobs, width = _mine(room), before[0].shape[0], before[0].shape[2]
    for index in range(cuda.grid(1), jobs * width, cuda.gridsize(1)):
        single.move(index // width, index % width, flags, mine, push, seen, before, after, own)


@cuda.jit(device=True)
def _mine(room):
    """The room of a thread: its own lane of the room of its block."""
    block, lane = cuda.blockIdx.x, cuda.threadIdx.x
    return (
        room[0][block, lane:],
        room[1][block, :, lane:],
        room[2][block, :, :, lane],
        room[3][block, :, lane:],
    )


# One team, a block of threads, for one job or row.

# numba-cuda has its own; numba's older target, which tests can do with, has none
overload = getattr(extending, "overload", numba.extending.overload)

overload(teams.lane, target="cuda")(lambda: lambda: cuda.threadIdx.x)
overload(teams.lanes, target="cuda")(lambda: lambda: cuda.blockDim.x)


@cuda.jit(device=True)
def _sum(value):
    room = cuda.shared.array(0, types.float64)
    cuda.syncthreads()  # all have read what was here before
    room[cuda.threadIdx.x] = value
    cuda.syncthreads()
    total = 0.0
    for lane in range(cuda.blockDim.x):
        total += room[lane]
    return total


@cuda.jit(device=True)
def _largest(value):
    room = cuda.shared.array(0, types.float64)
    cuda.syncthreads()
    room[cuda.threadIdx.x] = value
    cuda.syncthreads()
    most = room[0]
    for lane in range(1, cuda.blockDim.x):
        most = max(most, room[lane])
    return most


overload(teams.together, target="cuda")(lambda value: lambda value: _sum(value))
overload(teams.most, target="cuda")(lambda value: lambda value: _largest(value))


@cuda.jit
def begin(front, jobs, residual, kernels, rates, target):
    """See :func:`.steps.begin`."""
    for index in range(cuda.blockIdx.x, len(jobs), cuda.gridDim.x):
        steps.begin_one(front, jobs[index], residual[index], kernels[index], rates[index], target)


@cuda.jit
def ends(front, jobs, unseen, target, accuracy, max_evaluations):
    """See :func:`.steps.ends`."""
    for index in range(cuda.blockIdx.x, len(jobs), cuda.gridDim.x):
        steps.ends_one(front, jobs[index], unseen[index], target, accuracy, max_evaluations)


@cuda.jit
def propose(front, jobs, force, target, max_evaluations):
    """See :func:`.steps.propose`."""
    for index in range(cuda.blockIdx.x, len(jobs), cuda.gridDim.x):
        steps.propose_one(front, jobs[index], force[index], target, max_evaluations)


@cuda.jit
def judge(front, jobs, trial, accuracy, target, max_passes):
    """See :func:`.steps.judge`."""
    for index in range(cuda.blockIdx.x, len(jobs), cuda.gridDim.x):
        steps.judge_one(front, jobs[index], trial, index, accuracy, target, max_passes)


@cuda.jit
def resolve_all(impulses, lags, factors, trees, pulls, lates, shares, sizes):
    """See :func:`.pieces.resolve_all`."""
    for job in range(cuda.blockIdx.x, len(sizes), cuda.gridDim.x):
        pieces.resolve_one(impulses, lags, factors, trees, pulls, lates, shares, sizes, job)


@cuda.jit
def grow(changes, lefts, rights, squares, taken):
    """See :func:`.products.grow`."""
    rows = changes.shape[1]
    for index in range(cuda.blockIdx.x, len(taken) * rows, cuda.gridDim.x):
        products.grow_row(changes, lefts, rights, squares, taken, index // rows, index % rows)


OF_TEAMS = {kernel.py_func.__name__: kernel for kernel in (begin, ends, propose, judge, resolve_all, grow)}
"""The kernels of functions that run others job by job, or row by row, on a CPU: by their names."""


def _launch_neurons(blocks: int, flags: tuple[Any, ...], groups: Sequence[Sequence[Any]]) -> None:
    move[blocks, BLOCK, _stream()](flags, *map(_on_card, groups))


def _launch_teams(function: Callable[..., None], lanes: int, arguments: Sequence[Any]) -> None:
    lanes = min(lanes, MOST_LANES)
    room = lanes * np.dtype(np.float64).itemsize  # shared by the lanes of a team: what they bring together
    OF_TEAMS[function.__name__][GRID, lanes, _stream(), room](*arguments)


def _on_card(argument: Any) -> Any:
    return each(
        lambda part: cuda.as_cuda_array(part, sync=False) if isinstance(part, torch.Tensor) else part,
        argument,
    )


def _stream() -> Any:
    """Torch's: what is started follows what torch has started, and nothing waits."""
    return cuda.external_stream(torch.cuda.current_stream().cuda_stream)


KERNELS = Launcher(_launch_neurons, _launch_teams, _on_card, most_blocks=2048)
"""Neurons beyond these blocks wait for their turn, and need no room of their own."""
