"""The functions of single neurons (:mod:`.single`) as kernels of a GPU. Needs numba-cuda, which compiles them where a GPU is."""

# Types are numba's business here.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import cuda

from . import single
from .neurons import BLOCK


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


def launch(blocks: int, flags: tuple[Any, ...], groups: Sequence[Sequence[Any]]) -> None:
    """Starts the kernel on the stream of torch, and does not wait for it.

    Args:
        blocks: of `BLOCK` threads.
        flags, groups: the arguments of :func:`.single.move`, as tensors of torch.
    """
    import torch

    stream = cuda.external_stream(torch.cuda.current_stream().cuda_stream)
    arrays = (tuple(cuda.as_cuda_array(tensor) for tensor in group) for group in groups)
    move[blocks, BLOCK, stream](flags, *arrays)
