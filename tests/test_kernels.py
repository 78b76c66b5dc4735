"""The kernels of a GPU are compiled for three generations of cards, where numba-cuda is installed."""

from __future__ import annotations

import re

import pytest
from cards import CARDS, compiled_for, groups, of_teams, resources
from numba import types

pytest.importorskip("numba_cuda", reason="no numba-cuda: pip install phasediag[gpu]")


def checked(ptx: str, card: str) -> str:
    """The kernel, which is one of this card, and prints nothing."""
    assert re.search(r"\.target sm_{}{}".format(*CARDS[card]), ptx)
    assert ".entry" in ptx and "vprintf" not in ptx
    return ptx


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("real", [types.float32, types.float64], ids=str)
def test_what_moves_neurons_is_compiled(card: str, real: types.Float) -> None:
    """A thread waits for no other one, and has its numbers in registers."""
    from phasediag.engine import kernels

    ptx = checked(compiled_for(card, kernels.move, groups(real)), card)
    assert "bar.sync" not in ptx
    assert " 0 bytes lmem" in resources(card, ptx)


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", of_teams(types.float32))
def test_what_teams_decide_is_compiled(card: str, name: str) -> None:
    """Lanes of a team meet: a single lane would not."""
    from phasediag.engine import kernels

    assert set(kernels.OF_TEAMS) == set(of_teams(types.float32))
    ptx = checked(compiled_for(card, kernels.OF_TEAMS[name], of_teams(types.float32)[name]), card)
    assert "bar.sync" in ptx and "%tid.x" in ptx and "%ntid.x" in ptx
    assert " 0 stack" in resources(card, ptx) and " 0 bytes lmem" in resources(card, ptx)
