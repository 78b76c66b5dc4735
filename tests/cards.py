"""The kernels of a GPU, compiled for cards of several generations, where numba-cuda is installed: this needs no card."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from phasediag.engine.networks import Trial
from phasediag.engine.steps import Front

CARDS = {"T4": (7, 5), "A100": (8, 0), "H100": (9, 0)}
FLOAT, COUNT, FLAG = types.float64, types.int64, types.boolean


def array(of: types.Type, dimensions: int) -> types.Array:
    return types.Array(of, dimensions, "C")


def together(*parts: types.Type) -> types.Type:
    return types.Tuple(parts) if len(set(parts)) > 1 else types.UniTuple(parts[0], len(parts))


def type_of(argument: Any) -> types.Type:
    """What numba-cuda compiles a kernel for, where it is called with this."""
    if isinstance(argument, tuple):
        parts = [type_of(part) for part in argument]
        return types.NamedTuple(parts, type(argument)) if hasattr(argument, "_fields") else together(*parts)
    if isinstance(argument, np.ndarray):
        return array(from_dtype(argument.dtype), argument.ndim)
    return {bool: FLAG, int: COUNT, float: FLOAT}[type(argument)]


def groups(real: types.Float) -> tuple[types.Type, ...]:
    """The types of the arguments of the kernel that moves neurons, for a computation in float32 or float64."""
    return (
        together(FLAG, FLAG, COUNT, FLAG),
        together(array(real, 2), array(real, 3), array(FLOAT, 4), array(real, 3)),
        together(*[array(real, 1)] * 2, *[array(real, 3)] * 3, array(FLOAT, 3), array(FLOAT, 1)),
        together(*[array(real, 3)] * 3, *[array(real, 2)] * 2),
        together(*[array(real, 3)] * 7, *[array(real, 2)] * 2),
        together(*[array(real, 3)] * 3, array(real, 2)),
        together(*[array(real, 2)] * 3, *[array(FLOAT, 2)] * 2, array(FLOAT, 1), array(real, 4)),
    )


def of_teams(real: types.Float) -> dict[str, tuple[types.Type, ...]]:
    """And of those that run a team for a job, or for a row of a matrix."""
    front, trial, jobs = (
        type_of(Front.of(np.zeros, 1, 2, 2, 2)),
        type_of(Trial.empty(1, 2, 2)),
        array(COUNT, 1),
    )
    return {
        "begin": (front, jobs, array(FLOAT, 2), array(FLOAT, 4), array(FLOAT, 2), FLOAT),
        "ends": (front, jobs, array(FLAG, 2), FLOAT, FLOAT, COUNT),
        "propose": (front, jobs, array(FLOAT, 1), FLOAT, COUNT),
        "judge": (front, jobs, trial, FLOAT, FLOAT, COUNT),
        "resolve_all": (
            *[array(FLOAT, 3)] * 2,
            array(FLOAT, 1),
            array(FLOAT, 4),
            *[array(real, 3)] * 2,
            array(FLOAT, 3),
            array(FLOAT, 1),
        ),
        "grow": (*[array(real, 3)] * 3, array(FLOAT, 2), array(FLAG, 1)),
    }


def compiled_for(card: str, kernel: Any, arguments: tuple[types.Type, ...]) -> str:
    """The kernel in the language of a card."""
    from numba.cuda import compile_ptx, dispatcher

    capability = CARDS[card]
    device = SimpleNamespace(compute_capability=capability)
    with patch.object(dispatcher, "get_current_device", lambda: device):
        ptx: str = compile_ptx(kernel.py_func, arguments, cc=capability, device=False)[0]
    return ptx


def resources(card: str, ptx: str) -> str:
    """The registers of a thread, and the bytes that it spills, as the card's assembler tells them."""
    nvjitlink: Any = import_module("cuda.bindings.nvjitlink")  # not where there is no numba-cuda

    major, minor = CARDS[card]
    handle = nvjitlink.create(2, [f"-arch=sm_{major}{minor}", "-verbose"])
    nvjitlink.add_data(handle, nvjitlink.InputType.PTX, ptx.encode(), len(ptx), "kernel")
    nvjitlink.complete(handle)
    log = bytearray(nvjitlink.get_info_log_size(handle))
    nvjitlink.get_info_log(handle, log)
    nvjitlink.destroy(handle)
    [line] = [
        line for line in log.decode(errors="replace").splitlines() if "registers" in line and "stack" in line
    ]
    return line
