"""The functions of single neurons (:mod:`.threads`) as kernels of a GPU. Needs numba-cuda, which compiles them where a GPU is."""

# Types are numba's business here.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import cuda

from . import threads
from .neurons import BLOCK


@cuda.jit
def first(flags, room, push, seen, before, after, own):
    """Moves all neurons in one piece, one thread for one neuron at a time."""
    mine, jobs, width = _mine(room), before[0].shape[0], before[0].shape[2]
    for index in range(cuda.grid(1), jobs * width, cuda.gridsize(1)):
        threads.first(index // width, index % width, flags, mine, push, seen, before, after, own)


@cuda.jit
def again(flags, room, push, seen, before, after, own):
    """Moves again, in pieces, the neurons that want to be."""
    mine, jobs, width = _mine(room), before[0].shape[0], before[0].shape[2]
    for index in range(cuda.grid(1), jobs * width, cuda.gridsize(1)):
        threads.again(index // width, index % width, flags, mine, push, seen, before, after, own)


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


_KERNELS = {"first": first, "again": again}


def launch(name: str, blocks: int, flags: tuple[Any, ...], groups: Sequence[Sequence[Any]]) -> None:
    """Starts a kernel on the stream of torch, and does not wait for it.

    Args:
        name: "first" or "again".
        blocks: of `BLOCK` threads.
        flags, groups: the arguments of the functions of :mod:`.threads` of that name, as tensors of torch.
    """
    import torch

    stream = cuda.external_stream(torch.cuda.current_stream().cuda_stream)
    arrays = (tuple(cuda.as_cuda_array(tensor) for tensor in group) for group in groups)
    _KERNELS[name][blocks, BLOCK, stream](flags, *arrays)
