"""A plate of maps: the slope of W1 in the limit of infinite width, for two to five layers.

    python examples/depths.py results depths.png

Reads the folders ``{two,three,four,five}_layer_asymptotic`` of published sweeps, or of yours.
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import phasediag


def main(results: Path, out: Path) -> None:
    figure = Figure(figsize=(7.0, 6.2), layout="constrained")
    for ax, depth in zip(figure.subplots(2, 2).flat, ("two", "three", "four", "five"), strict=True):
        slopes = pd.read_parquet(results / f"{depth}_layer_asymptotic/slopes.parquet")
        phasediag.plot_map(slopes, layer="W1", ax=ax, column="slope_infinite")
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}
        ax.text(0.03, 0.96, f"{depth} layers", transform=ax.transAxes, va="top", fontsize=9, bbox=box)
    figure.savefig(out, dpi=200)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
