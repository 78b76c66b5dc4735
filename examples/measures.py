"""Which critical line does each measure follow? Mean distances in gamma from every line of the rule, at infinite width (docs/measures.md).

To run it: python examples/measures.py results/two_layer_measures results/three_layer_measures
"""

import sys
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

import phasediag
from phasediag.phase_diagram import theory


def main(folders: list[str]) -> None:
    for folder in folders:
        runs = phasediag.load(folder).runs
        rule = rule_of(int(runs["depth"].iloc[0]))
        table = pd.DataFrame(
            {
                what: {name: distance(line, gamma) for name, gamma in rule.items()}
                for what, line in lines_of(runs)
            }
        )
        print(f"{folder}: mean distance in gamma from the line of")
        print(table.T.to_string(float_format="{:.3f}".format))


def lines_of(runs: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """What changes on the plane, and where: gamma by gamma_prime."""
    first, *between, last = theory.LAYERS[int(runs["depth"].iloc[0])]
    change = phasediag.fit(runs)
    for layer in (first, *between, last):
        yield f"relative change of {layer}", zero(change, layer)
    operator = phasediag.fit(runs, measure="relative_change_spectral")
    for layer in between:
        yield f"relative change of {layer}, operator norm", zero(operator, layer)
    kernel = phasediag.fit(runs, measure="kernel_change")
    yield "kernel change: linear ends", zero(kernel, "network")
    yield "kernel change: condensed begins", zero(kernel, "network", "condensed")
    yield (
        "linear gap, test points: linear ends",
        zero(phasediag.fit(runs, measure="linear_gap_test"), "network"),
    )
    turned = phasediag.values(runs, measure="orientations")
    for layer in (first, *between):
        of_layer = turned[turned["layer"] == layer]
        middle = np.log(of_layer.groupby("gamma_prime")["orientations"].agg(["min", "max"])).mean(axis=1)
        yield f"orientations of {layer}: middle", falls(of_layer, "orientations", np.exp(middle))
    error = phasediag.values(runs, measure="test_error")
    yield "test error: below 0.15", falls(error, "test_error", pd.Series(0.15, error["gamma_prime"].unique()))


def zero(slopes: pd.DataFrame, layer: str, side: str = "linear") -> pd.Series:
    """Where the slope at infinite width is 0."""
    return phasediag.critical_line(slopes, layer, "slope_infinite", side).set_index("gamma_prime")["gamma"]


def falls(values: pd.DataFrame, measure: str, levels: pd.Series) -> pd.Series:
    """Where a value first falls below the level of its row, along gamma."""
    found = {}
    for gamma_prime, row in values.dropna().sort_values("gamma").groupby("gamma_prime"):
        gamma, excess = row["gamma"].to_numpy(), np.log(row[measure].to_numpy() / levels[gamma_prime])
        before = np.flatnonzero((excess[:-1] > 0) & (excess[1:] <= 0))
        if len(before):
            i = before[0]
            found[gamma_prime] = gamma[i] + np.diff(gamma)[i] * excess[i] / (excess[i] - excess[i + 1])
    return pd.Series(found, dtype=float)


def rule_of(depth: int) -> dict[str, Callable]:
    """The lines of the rule, and those on which the first matrix W and the second layer grow in operator norm."""

    def grow(gamma_prime: np.ndarray) -> np.ndarray:
        return np.array(
            [
                theory.critical_gamma(layer, depth, gamma_prime, operator_norm=True)
                for layer in theory.LAYERS[depth]
            ]
        )

    return {
        **{line.name: line.gamma for line in theory.critical_lines(depth)},
        "first W": lambda gamma_prime: grow(gamma_prime)[:-1].min(axis=0),
        "second layer": lambda gamma_prime: np.sort(grow(gamma_prime), axis=0)[1],
    }


def distance(line: pd.Series, gamma: Callable) -> float:
    return (line - gamma(line.index.to_numpy(float))).abs().mean()


if __name__ == "__main__":
    main(sys.argv[1:])
