"""A plate of maps: the slope of W1 in the limit of infinite width, one panel for each study.

To run it: python examples/depths.py depths.png results/two_layer_asymptotic results/three_layer_asymptotic
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import phasediag


def main(out: Path, folders: list[Path]) -> None:
    rows = (len(folders) + 1) // 2
    figure = Figure(figsize=(7.0, 3.1 * rows), layout="constrained")
    for ax, folder in zip(figure.subplots(rows, 2).flat, folders, strict=False):
        slopes = pd.read_parquet(folder / "slopes.parquet")
        phasediag.plot_map(slopes, layer="W1", ax=ax, column="slope_infinite")
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}
        depth = f"{slopes['depth'].iloc[0]} layers"
        ax.text(0.03, 0.96, depth, transform=ax.transAxes, va="top", fontsize=9, bbox=box)
    figure.savefig(out, dpi=200)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])
