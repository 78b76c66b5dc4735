"""The kernels of a GPU are compiled for three generations of cards, where numba-cuda is installed: this needs no card."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba import types

from phasediag.engine.networks import Trial
from phasediag.engine.steps import Front

pytest.importorskip("numba_cuda", reason="no numba-cuda: pip install phasediag[gpu]")

CARDS = {"T4": (7, 5), "A100": (8, 0), "H100": (9, 0)}
FLOAT, COUNT, FLAG = types.float64, types.int64, types.boolean


def array(of: types.Type, dimensions: int) -> types.Array:
    return types.Array(of, dimensions, "C")


def together(*parts: types.Type) -> types.Type:
    return types.Tuple(parts) if len(set(parts)) > 1 else types.UniTuple(parts[0], len(parts))


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
    arrays: list[np.ndarray] = list(Front.of(np.zeros, 1, 2, 2, 2))
    kinds = {"float64": FLOAT, "int64": COUNT, "bool": FLAG}
    parts = [array(kinds[part.dtype.name], part.ndim) for part in arrays]
    front, jobs = types.NamedTuple(parts, Front), array(COUNT, 1)
    trial = types.NamedTuple([array(FLOAT, rank) for rank in (2, 4, 1, 1, 2)], Trial)
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


def compiled_for(card: str, kernel: Any, arguments: tuple[types.Type, ...], patch: pytest.MonkeyPatch) -> str:
    """The kernel in the language of a card."""
    from numba.cuda import compile_ptx, dispatcher

    capability = CARDS[card]
    patch.setattr(dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=capability))
    ptx, _ = compile_ptx(kernel.py_func, arguments, cc=capability, device=False)
    assert re.search(rf"\.target sm_{capability[0]}{capability[1]}", ptx)
    assert ".entry" in ptx and "vprintf" not in ptx
    found: str = ptx
    return found


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("real", [types.float32, types.float64], ids=str)
def test_what_moves_neurons_is_compiled(
    card: str, real: types.Float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phasediag.engine import kernels

    assert "bar.sync" not in compiled_for(card, kernels.move, groups(real), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", of_teams(types.float32))
def test_what_teams_decide_is_compiled(card: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes of a team meet: a single lane would not."""
    from phasediag.engine import kernels

    assert set(kernels.OF_TEAMS) == set(of_teams(types.float32))
    ptx = compiled_for(card, kernels.OF_TEAMS[name], of_teams(types.float32)[name], monkeypatch)
    assert "bar.sync" in ptx
    assert "%tid.x" in ptx and "%ntid.x" in ptx
