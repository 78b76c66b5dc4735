"""The kernels of a GPU run under numba's simulator, and lead where the CPU does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_kernels_lead_where_the_cpu_does() -> None:
    """Steps of two to four layers, whole and represented, on one and (up to three layers) 64 inputs, and trainings: see `simulated.py`."""
    script = Path(__file__).parent / "simulated.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert sum(line.endswith("equal") for line in lines) == 10
    assert sum("trained" in line for line in lines) == 2
