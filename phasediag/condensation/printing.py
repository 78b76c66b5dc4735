"""What commands print for condensation studies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..display.terminal import new_table, print_table, say


def print_counts(summary: Mapping[str, Any]) -> None:
    """Prints the summary of `fit`: when each layer condenses, and on how many lines."""
    rows = summary["layers"]
    varying = [key for key in ("dimension", "std") if len({row[key] for row in rows}) > 1]
    several = len({row["layer"] for row in rows}) > 1
    networks = len({row["activations"] for row in rows}) > 1
    table = new_table(
        "layer" if several else "activation",
        *varying,
        "p",
        "condensed",
        "at",
        "lines",
        "<= p",
        "aligned",
        "flow",
        "sign",
    )
    for row in rows:
        name = f"{row['layer']} {row['activation']}" if several else row["activation"]
        if networks and row["activations"] != row["activation"]:
            name = f"{row['activations']}: {name}"
        table.add_row(name, *(f"{row[key]:g}" for key in varying), *_count_cells(row))
    print_table(table)
    say(
        "condensed  epochs at which half of the seeds have 85 % of their neurons on lines,\n"
        "           with at least two neurons to a line\n"
        "at         the epoch with the largest share of neurons on lines (aligned)\n"
        "lines      the most frequent number of lines then (share of the seeds)\n"
        "<= p       share of seeds with at most p lines, among seeds with lines\n"
        "flow       neurons within 10 degrees of a direction of gradient flow, at best\n"
        "sign       the same for steps along the sign of the gradient, like Adam's"
    )
    if summary["left_out"]:
        say(
            f"{summary['left_out']} of {summary['rows']} rows have no count: their runs failed or ended earlier"
        )


def _count_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    multiplicity = str(row["multiplicity"] or "-")
    if not math.isfinite(row["epoch"]):
        return multiplicity, "never", *["-"] * 6
    condensed = f"{row['first']:.0f}-{row['last']:.0f}" if math.isfinite(row["first"]) else "never"
    shares = ("within_bound", "aligned_fraction", "predicted_fraction", "sign_fraction")
    return (
        multiplicity,
        condensed,
        f"{row['epoch']:.0f}",
        f"{row['lines']:.0f} ({row['share']:.0%})",
        *(_percent(row[name]) for name in shares),
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "-"
