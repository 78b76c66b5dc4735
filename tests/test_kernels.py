"""The kernel of a GPU is compiled for three generations of cards, where numba-cuda is installed: it needs no card."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from numba import types

pytest.importorskip("numba_cuda", reason="no numba-cuda: pip install phasediag[gpu]")

CARDS = {"T4": (7, 5), "A100": (8, 0), "H100": (9, 0)}


def groups(real: types.Float) -> tuple[types.Type, ...]:
    """The types of the arguments of the kernel, for a computation in float32 or float64."""
    float64, int64, boolean = types.float64, types.int64, types.boolean

    def array(of: types.Type, dimensions: int) -> types.Array:
        return types.Array(of, dimensions, "C")

    def together(*parts: types.Type) -> types.Type:
        return types.Tuple(parts) if len(set(parts)) > 1 else types.UniTuple(parts[0], len(parts))

    return (
        together(boolean, boolean, int64, boolean),
        together(array(real, 2), array(real, 3), array(float64, 4), array(real, 3)),
        together(*[array(real, 1)] * 2, *[array(real, 3)] * 3, array(float64, 3), array(int64, 1)),
        together(*[array(real, 3)] * 3, *[array(real, 2)] * 2),
        together(*[array(real, 3)] * 7, *[array(real, 2)] * 2),
        together(*[array(real, 3)] * 3, array(real, 2)),
        together(*[array(real, 2)] * 3, *[array(float64, 2)] * 2, array(float64, 1), array(real, 4)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("real", [types.float32, types.float64], ids=str)
def test_it_is_compiled_for_cards(card: str, real: types.Float, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.cuda import compile_ptx, dispatcher

    from phasediag.engine import kernels, single

    capability = CARDS[card]
    monkeypatch.setattr(
        dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=capability)
    )
    for function in (single.move, single._of_job):  # what was compiled for another card is not for this one
        function.__dict__.pop("__dispatcher", None)
    ptx, _ = compile_ptx(kernels.move.py_func, groups(real), cc=capability, device=False)
    assert re.search(rf"\.target sm_{capability[0]}{capability[1]}", ptx)
    assert ".entry" in ptx and "vprintf" not in ptx
