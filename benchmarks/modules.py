"""Slopes of a two-layer ReLU network: as a torch module trained by gradient descent, and by the engine that follows the gradient flow.

    python -m benchmarks.modules

Both studies have the same widths, points and data; their random weights differ. A point agrees if the 95 % intervals overlap.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd

import phasediag
from phasediag.errors import InputError
from phasediag.kinds import named, parse_spec

from .tables import table

SOURCE = "benchmarks.modules"
COMMON = """
name = "nine_points"
kind = "{kind}"
[network]
{network}
[data]
kind = "points"
x = [[-1.0], [-0.35], [0.3], [1.0]]
y = [0.6, -0.4, 0.5, -0.2]
[grid]
width = [64, 256, 1024]
gamma = [0.5, 1.0, 1.5]
gamma_prime = [-0.5, 0.0, 0.5]
seeds = 4
[train]
loss_tolerance = 1e-4
{train}
"""
MODULE = {
    "kind": "module",
    "network": 'factory = "phasediag.modules.examples.mlp:make"\narguments = { inputs = 1, activation = "relu" }',
    "train": "epochs = 50000",
}
FLOW = {"kind": "phase-diagram", "network": "depth = 2", "train": ""}
LAYERS = {"hidden": "W1", "output": "a"}
"""Names of the layers of the module, and of the engine."""


def slopes_of(parts: dict[str, str]) -> tuple[pd.DataFrame, float]:
    """The slopes of one of the studies, and the seconds that its training took."""
    spec: Any = parse_spec(COMMON.format(**parts), SOURCE)
    study = named(parts["kind"]).study(spec, Path(), SOURCE)
    started = time.perf_counter()
    runs = phasediag.train(study)
    return phasediag.fit(runs), time.perf_counter() - started


def main() -> None:
    """Prints the slopes of both at nine points."""
    (modules, seconds), (flow, seconds_flow) = slopes_of(MODULE), slopes_of(FLOW)
    modules = modules.assign(layer=modules["layer"].map(LAYERS))
    both = modules.merge(flow, on=["layer", "gamma", "gamma_prime"], suffixes=("", "_flow"))
    rows, agree = [], 0
    for _, row in both.iterrows():
        overlap = row["slope_low"] <= row["slope_high_flow"] and row["slope_low_flow"] <= row["slope_high"]
        agree += overlap
        rows.append(
            [
                f"{row['layer']} at ({row['gamma']:g}, {row['gamma_prime']:g})",
                *(
                    f"{row[f'slope{side}']:.3f} ({row[f'slope_low{side}']:.3f} to {row[f'slope_high{side}']:.3f})"
                    for side in ("", "_flow")
                ),
                "yes" if overlap else "no",
                str(int(row["left_out"])),
            ]
        )
    columns = ["slope", "torch module, gd", "gradient flow", "intervals overlap", "left out"]
    note = f"{agree} of {len(rows)} agree; {seconds:.0f} s as modules, {seconds_flow:.0f} s by the engine"
    table(
        "Slopes of two layers with ReLU over the widths 64 to 1024, with 95 % intervals", columns, rows, note
    )


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
