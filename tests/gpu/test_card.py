"""The quick checks of `benchmarks.gpu` on the card of this machine: pytest tests/gpu --confcutdir tests/gpu

Like the benchmark, the first test needs torch, numba, numba-cuda and numpy alone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("part", ["checks", "sweeps"])
@needs_card
def test_the_card_computes_what_the_cpu_computes(part: str) -> None:
    done = quick(part)
    assert done.returncode == 0 and "WRONG" not in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_the_checks_find_no_difference_where_loops_stand_for_the_card() -> None:
    done = quick("checks", "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" ok\n") == 18


def quick(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The benchmark, which stops itself after three minutes."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--quick", *arguments]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=600)
