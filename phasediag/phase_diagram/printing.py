"""What commands print for phase diagrams: regimes, critical lines, their refinement, and differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..display.terminal import TextTable, new_table, print_table, say
from .fitting import REGIMES

_SLOPE_NAMES = {"slope": "slope over the widths", "slope_infinite": "slope at infinite width"}


def print_slopes(summary: Mapping[str, Any]) -> None:
    """Prints the summary of `fit`: regimes, the distance of the critical lines, the state of refinement."""
    table = new_table("grid points", *REGIMES)
    for layer, counts in summary["regimes"].items():
        table.add_row(layer, *(str(counts[regime]) for regime in REGIMES))
    print_table(table)
    lines = new_table("critical line, off the predicted one in gamma", "mean", "largest", "rows")
    for layer, by_slope in summary["critical_line_distance"].items():
        for column, distance in by_slope.items():
            lines.add_row(f"{layer}, {_SLOPE_NAMES[column]}", *_distance_cells(distance))
    if lines.row_count:
        print_table(lines)
    if "refinement" in summary:
        _print_refinement(summary["refinement"])
    if summary["left_out"]:
        rows = summary["runs"] + summary["left_out"]
        say(f"{summary['left_out']} of {rows} rows are left out of the fits: their runs did not converge")


def measure_tables(summary: Mapping[str, Any]) -> list[TextTable]:
    """The summary of `fit --measure` as tables: regimes, where the sign of S means any, and the distance from the lines of the rule."""
    words = summary["words"]
    counts = [
        (layer, *(str(by_regime[regime]) for regime in REGIMES))
        for layer, by_regime in summary["regimes"].items()
    ]
    titles = {
        "linear": f"{words}: end of the linear regime",
        "condensed": f"{words}: begin of the condensed regime",
    }
    lines = [
        TextTable(
            (titles[side], "off the line of", "mean", "largest", "rows"),
            [
                (f"{layer}, {_SLOPE_NAMES[column]}", name, *_distance_cells(distance))
                for layer, by_line in distances.items()
                for name, by_slope in by_line.items()
                for column, distance in by_slope.items()
                if distance["rows"]
            ],
        )
        for side, distances in summary["rule_distance"].items()
    ]
    tables = [TextTable((f"{words}: points", *REGIMES), counts), *lines]
    return [table for table in tables if table.rows]


_LINE_STATES = {
    "reached": "within target",
    "floor": "at the floor",
    "limit": "at a limit",
    "outside": "no line",
    "open": "in progress",
}


def _print_refinement(found: Mapping[str, Any]) -> None:
    states = [s for s in _LINE_STATES if any(s in line["rows"] for line in found["lines"].values())]
    table = new_table(
        "half-width of the critical line's 95 % band",
        "mean",
        "largest",
        *(_LINE_STATES[state] for state in states),
    )
    for layer, line in found["lines"].items():
        widths = (line["half_width_mean"], line["half_width_max"])
        cells = [f"{width:.3f}" if math.isfinite(width) else "-" for width in widths]
        table.add_row(layer, *cells, *(str(line["rows"].get(state, 0)) for state in states))
    print_table(table)
    short = (
        ": max_jobs of [refine] allows no more, more were asked for"
        if found["short"] and found["ended"]
        else ""
    )
    say(f"{found['jobs']} jobs placed by refinement, in {found['rounds']} rounds{short}")
    for state in states:
        if state in _WHY_NOT_WITHIN:
            say(_WHY_NOT_WITHIN[state])


_WHY_NOT_WITHIN = {
    "floor": "rows at the floor: these widths give no narrower band; larger ones would",
    "limit": "rows at a limit: max_jobs or rounds of [refine] are used up",
    "outside": "rows without a line: it is not between the gammas of the grid there",
}


def _distance_cells(distance: Mapping[str, float]) -> tuple[str, str, str]:
    rows = f"{distance['rows']:.0f} of {distance['crossed']:.0f}"
    if not distance["rows"]:
        return "-", "-", rows
    return f"{distance['mean']:.3f}", f"{distance['max']:.3f}", rows


def difference_tables(summary: Mapping[str, Any]) -> list[TextTable]:
    """The summary of `compare` for two studies A and B as tables: of slopes, and of critical lines."""
    return [
        TextTable(
            (title, "points" if what == "slopes" else "rows", "mean", "mean size", "largest", "differ"),
            [
                (f"{layer}, {_SLOPE_NAMES[slope]}", *_difference_cells(numbers))
                for layer, by_slope in summary[what].items()
                for slope, numbers in by_slope.items()
            ],
        )
        for what, title in (("slopes", "B - A, slopes"), ("critical_lines", "B - A, critical lines in gamma"))
    ]


def difference_remarks(summary: Mapping[str, Any]) -> list[str]:
    """What the tables of differences mean, and leave out."""
    remarks = ["differ: the 95 % interval excludes 0"]
    if left_out := summary["left_out"]:
        remarks.append(
            f"{left_out} of {summary['runs'] + left_out} pairs of rows are left out: a run did not converge"
        )
    return remarks


def _difference_cells(numbers: Mapping[str, float]) -> tuple[str, ...]:
    if not numbers["number"]:
        return f"0 of {numbers['of']}", *["-"] * 4
    sizes = (f"{numbers[key]:.4f}" for key in ("mean", "mean_size", "max_size"))
    share = f"{numbers['differ']} ({numbers['differ'] / numbers['number']:.0%})"
    return f"{numbers['number']} of {numbers['of']}", *sizes, share
