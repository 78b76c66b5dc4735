"""How often an evaluation passes over the neurons: two layers, one input, on a CPU.

The engine does not count: it would cost time. A copy of the package does, in a folder that is gone afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .common import table

ROOT = Path(__file__).parent.parent
EDITS = {  # three further numbers behind the rows of a block: lanes swept, neurons moved again, and their pieces
    "_FIXED = 16": "_FIXED = 17",
    "    if turning:\n        _clear(s, lanes)": "    s[16 * BLOCK] += lanes\n    if turning:\n        _clear(s, lanes)",
    "            _gather(s, p, turning, moving, these": "            s[16 * BLOCK + 1] += count\n"
    "            s[16 * BLOCK + 2] += count << level\n"
    "            _gather(s, p, turning, moving, these",
}
COUNT = """
import json, sys
import numpy as np
from phasediag.engine.flow import Settings, integrate
from phasediag.engine.networks import Initialisation
from phasediag.engine.neurons import BLOCK
from phasediag.engine.relu_cpu import PADDING, ReluNetworkCPU

class Counted(ReluNetworkCPU):
    counts = []

    def trial(self, *step):
        here = self._room.block[0][16 * BLOCK : 16 * BLOCK + 3]
        here[:] = 0
        trial = super().trial(*step)
        self.counts.append(here.astype(float))
        return trial

task = json.load(sys.stdin)
x, y = np.array(task["x"]), np.array(task["y"])
for width in task["widths"]:
    rows = []
    for gamma in task["gamma"]:
        for prime in task["gamma_prime"]:
            Counted.counts.clear()
            job = Initialisation(width, gamma, prime, 0.0, 0)
            network = Counted.initialised(x, y, 2, width, [job], "float32")
            outcome = integrate(network, Settings())
            swept, again, pieces = np.array(Counted.counts).T
            assert len(swept) == outcome.evaluations[0]
            padding = width + 1 + -(width + 1) % PADDING  # neurons of the move that all take part in
            moves = 1 + (swept - padding) / width
            rows.append([len(swept), moves.sum(), again.sum() / width, pieces.sum() / width])
    print(json.dumps([width, rows]), flush=True)
"""


def counted(task: dict[str, object]) -> dict[int, NDArray[np.float64]]:
    """By width, a row for each job: evaluations; moves of all neurons; those that were moved again, and their pieces, over all neurons."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(ROOT / "phasediag", Path(place) / "phasediag")
        module = Path(place) / "phasediag/engine/neurons.py"
        source = module.read_text()
        for old, new in EDITS.items():
            if source.count(old) != 1:
                raise RuntimeError(f"phasediag/engine/neurons.py has changed: {old!r} is not there once")
            source = source.replace(old, new)
        module.write_text(source)
        done = subprocess.run(
            [sys.executable, "-c", COUNT],
            input=json.dumps(task),
            env={**os.environ, "PYTHONPATH": place, "NUMBA_CACHE_DIR": f"{place}/cache"},
            cwd=place,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    lines = (json.loads(line) for line in done.stdout.splitlines())
    return {width: np.array(rows) for width, rows in lines}


def main(quick: bool = False) -> None:
    study = tomllib.loads((ROOT / "sweeps/two_layer_synthetic.toml").read_text())
    grid = {
        name: np.linspace(axis["start"], axis["stop"], 4 if quick else axis["num"]).tolist()
        for name, axis in study["grid"].items()
        if name in ("gamma", "gamma_prime")
    }
    widths = study["grid"]["width"][: 1 if quick else None]
    found = counted({"x": study["data"]["x"], "y": study["data"]["y"], "widths": widths, **grid})
    rows = []
    for name, jobs in (*found.items(), ("all", np.concatenate([*found.values()]))):
        evaluations, moves, again, pieces = jobs.T
        passes = moves + evaluations
        rows.append(
            [
                f"m = {name}" if name != "all" else "all",
                f"{np.median(evaluations):.0f}, {evaluations.max():.0f}",
                f"{moves.sum() / evaluations.sum():.1f}",
                f"{np.median(passes):.0f}, {passes.max():.0f}",
                f"{again.sum() / evaluations.sum():.2f}",
                f"{pieces.sum() / again.sum():.1f}",
            ]
        )
    table(
        f"2 layers, d = 1, four points: sweeps/two_layer_synthetic.toml, seed 0, {len(jobs)} jobs one by one",
        ["", "evaluations", "moves in one", "passes of a job", "moved again", "in pieces"],
        rows,
        "evaluations, passes of a job: median, most. Moves in one evaluation, in units of all neurons: the mean.\n"
        "  A pass: a move of all neurons, or the residual and the kernels, once in an evaluation. Moved again: share of the neurons.",
    )
