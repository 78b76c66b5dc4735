"""What commands print: plans, states, fits and comparisons, as tables on a terminal or as JSON."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from .json_ready import json_ready

if TYPE_CHECKING:
    from rich.table import Table

    from .comparison import Differences
    from .plan import Plan
    from .reproduce import Comparison
    from .status import Status
    from .store import Store

_STATUS_LINE_SECONDS = 15.0
_LOG_WIDTH = 120
_FAILED_SHOWN, _REASONS_SHOWN, _REASON_LENGTH = 5, 3, 300


def _console() -> Console:
    """Standard output: as wide as the terminal, or as a table needs in a log."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _LOG_WIDTH)


def print_json(content: Any) -> None:
    typer.echo(json.dumps(json_ready(content), indent=2, allow_nan=False))


def _table(*columns: str) -> Table:
    """An empty table: the first column left-aligned, the others, of numbers, to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def print_plan(planned: Plan) -> None:
    from .progress import format_duration

    table = _table(planned.grouped_by, "jobs", "finished", "failed", "missing", "batches", "CPU time")
    for row in planned.groups:
        counts = (row.group, row.total, row.finished, row.failed, row.missing, row.batches)
        table.add_row(*map(str, counts), format_duration(row.cpu_seconds))
    _console().print(table)
    typer.echo(
        f"{planned.total} jobs: {planned.finished} finished, {planned.failed} failed, "
        f"{planned.missing} missing; {planned.samples} networks to be kept whole"
    )
    typer.echo(
        f"{planned.batches} batches; predicted: {format_duration(planned.cpu_seconds)} of CPU time, "
        f"{format_duration(planned.wall_seconds)} of training here with {planned.slots} at a time"
    )
    if planned.more_jobs:
        typer.echo(
            f"refinement may add up to {planned.more_jobs} jobs; "
            f"predicted: up to {format_duration(planned.more_cpu_seconds)} of CPU time more"
        )


def print_status(status: Status, as_json: bool) -> None:
    if as_json:
        print_json(status.to_dict())
    else:
        typer.echo(_status_line(status))
        for line in _next_steps(status):
            typer.echo(line)


def _next_steps(status: Status) -> list[str]:
    """What to know, and to do, about a sweep that has ended but is not all there."""
    from .lease import FAILED, INTERRUPTED, RUNNING

    ends = {
        RUNNING: "its driver gives no sign of life any more",
        INTERRUPTED: "its driver was interrupted",
        FAILED: "its driver ended with an error",
    }
    end = ends.get((status.driver or {}).get("state", ""))
    lines = []
    if status.state == "stopped":
        lines.append(f"  {end or 'no driver runs'}; the same 'phasediag run' goes on from here")
    elif status.state == "complete" and end:
        lines.append(f"  {end}; the same 'phasediag run' fits and draws what may be missing")
    if status.failed and status.state != "running":
        lines.append(
            f"  {status.failed} failed: column 'error' of runs/ says why; 'phasediag run' tries them again with --retry-failed"
        )
    return lines


def _status_line(status: Status) -> str:
    from .progress import format_duration

    counts = f"{status.finished} done, {status.failed} failed, {status.missing} missing"
    parts = [f"{status.name}: {status.state}, {counts}"]
    if status.rate and status.state == "running":
        parts.append(f"{status.rate:.1f} jobs/s")
    if status.seconds_left is not None and status.missing:
        parts.append(f"{format_duration(status.seconds_left)} left")
    return ", ".join(parts)


def print_failed(failed_ids: Sequence[str], errors: Mapping[str, str]) -> None:
    """Which jobs failed and why, on standard error, without going on for pages.

    Args:
        failed_ids: ids of the jobs.
        errors: why they failed, by id.
    """
    shown = ", ".join(failed_ids[:_FAILED_SHOWN])
    more = f" and {len(failed_ids) - _FAILED_SHOWN} more" if len(failed_ids) > _FAILED_SHOWN else ""
    jobs = "job" if len(failed_ids) == 1 else "jobs"
    typer.echo(f"{len(failed_ids)} {jobs} failed: {shown}{more}", err=True)
    reasons = Counter(" ".join(errors.get(job_id, "unknown").split()) for job_id in failed_ids)
    for reason, count in reasons.most_common(_REASONS_SHOWN):
        typer.echo(f"  {count} of them: {reason[:_REASON_LENGTH]}", err=True)
    if len(reasons) > _REASONS_SHOWN:
        typer.echo("  others: column 'error' of runs/", err=True)
    typer.echo("'phasediag run' tries them again with --retry-failed", err=True)


class StatusLog:
    """Prints a status now and then, if it has changed, and once that there is none yet.

    Args:
        out: the folder.
        quiet: whether to leave standard output to others.
    """

    def __init__(self, out: str, quiet: bool) -> None:
        self._out, self._quiet = out, quiet
        self._shown = ""
        self._time = -math.inf
        self._waits = False

    def __call__(self, status: Status | None) -> None:
        if status is None:
            if not self._waits:
                typer.echo(f"{self._out}: holds no study yet; waiting for 'phasediag run' to begin", err=True)
            self._waits = True
            return
        line = _status_line(status)
        due = time.monotonic() - self._time >= _STATUS_LINE_SECONDS
        if self._quiet or not due or line == self._shown or status.state != "running":
            return
        self._shown, self._time = line, time.monotonic()
        typer.echo(line)
        sys.stdout.flush()


def print_fit(store: Store) -> None:
    """What `fit` tells of a folder, whatever its kind."""
    from .analysis import summary

    {"phase-diagram": _print_slopes, "condensation": _print_counts}[store.kind](summary(store))


def _print_slopes(summary: Mapping[str, Any]) -> None:
    from .fitting import REGIMES

    table = _table("grid points", *REGIMES)
    for layer, counts in summary["regimes"].items():
        table.add_row(layer, *(str(counts[regime]) for regime in REGIMES))
    _console().print(table)
    lines = _table("critical line, off the predicted one in gamma", "mean", "largest", "rows")
    for layer, by_slope in summary["critical_line_distance"].items():
        for column, distance in by_slope.items():
            lines.add_row(f"{layer}, {_SLOPE_NAMES[column]}", *_distance_cells(distance))
    if lines.row_count:
        _console().print(lines)
    if "refinement" in summary:
        _print_refinement(summary["refinement"])
    if summary["left_out"]:
        rows = summary["runs"] + summary["left_out"]
        typer.echo(
            f"{summary['left_out']} of {rows} rows are left out of the fits: their runs did not converge"
        )


_LINE_STATES = {
    "reached": "within target",
    "floor": "at the floor",
    "limit": "at a limit",
    "outside": "no line",
    "open": "in progress",
}


def _print_refinement(found: Mapping[str, Any]) -> None:
    states = [s for s in _LINE_STATES if any(s in line["rows"] for line in found["lines"].values())]
    table = _table(
        "half-width of the critical line's 95 % band",
        "mean",
        "largest",
        *(_LINE_STATES[state] for state in states),
    )
    for layer, line in found["lines"].items():
        widths = (line["half_width_mean"], line["half_width_max"])
        cells = [f"{width:.3f}" if math.isfinite(width) else "-" for width in widths]
        table.add_row(layer, *cells, *(str(line["rows"].get(state, 0)) for state in states))
    _console().print(table)
    short = (
        ": max_jobs of [refine] allows no more, more were asked for"
        if found["short"] and found["ended"]
        else ""
    )
    typer.echo(f"{found['jobs']} jobs placed by refinement, in {found['rounds']} rounds{short}")
    for state in states:
        if state in _WHY_NOT_WITHIN:
            typer.echo(_WHY_NOT_WITHIN[state])


_WHY_NOT_WITHIN = {
    "floor": "rows at the floor: these widths give no narrower band; larger ones would",
    "limit": "rows at a limit: max_jobs or rounds of [refine] are used up",
    "outside": "rows without a line: it is not between the gammas of the grid there",
}


def _print_counts(summary: Mapping[str, Any]) -> None:
    rows = summary["layers"]
    varying = [key for key in ("dimension", "std") if len({row[key] for row in rows}) > 1]
    several = len({row["layer"] for row in rows}) > 1
    networks = len({row["activations"] for row in rows}) > 1
    table = _table(
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
    _console().print(table)
    typer.echo(
        "condensed  epochs at which half of the seeds have 85 % of their neurons on lines,\n"
        "           with two neurons or more to a line\n"
        "at         the epoch with most neurons on lines (aligned); there, the most frequent\n"
        "           number of lines (share of the seeds), and of the seeds with lines\n"
        "           those with at most p\n"
        "flow       neurons within 10 degrees of where gradient flow leads, at best\n"
        "sign       the same for steps along the sign of the gradient, like Adam's"
    )
    if summary["left_out"]:
        typer.echo(
            f"{summary['left_out']} of {summary['rows']} rows have no count: their runs failed or did not get there"
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


_SLOPE_NAMES = {"slope": "slope over the widths", "slope_infinite": "slope at infinite width"}


def _distance_cells(distance: Mapping[str, float]) -> tuple[str, str, str]:
    rows = f"{distance['rows']:.0f} of {distance['crossed']:.0f}"
    if not distance["rows"]:
        return "-", "-", rows
    return f"{distance['mean']:.3f}", f"{distance['max']:.3f}", rows


def print_differences(found: Differences, studies: Mapping[str, tuple[str, str]], as_json: bool) -> None:
    """What `compare` tells; `studies` has name and folder of A and B."""
    from .comparison import summarise

    summary = summarise(found)
    runs, left_out = (int(found.slopes[column].sum()) for column in ("runs", "left_out"))
    if as_json:
        named = {side.lower(): {"name": name, "out": out} for side, (name, out) in studies.items()}
        print_json({**named, **summary, "runs": runs, "left_out": left_out})
        return
    for side, (name, out) in studies.items():
        typer.echo(f"{side}: {name} ({out})")
    for what, title in (("slopes", "B - A, slopes"), ("critical_lines", "B - A, critical lines in gamma")):
        table = _table(
            title, "points" if what == "slopes" else "rows", "mean", "mean size", "largest", "differ"
        )
        for layer, by_slope in summary[what].items():
            for slope, numbers in by_slope.items():
                table.add_row(f"{layer}, {_SLOPE_NAMES[slope]}", *_difference_cells(numbers))
        _console().print(table)
    typer.echo("differ: those whose 95 % interval excludes 0")
    if left_out:
        typer.echo(f"{left_out} of {runs + left_out} pairs of rows are left out: a run did not converge")


def _difference_cells(numbers: Mapping[str, float]) -> tuple[str, ...]:
    if not numbers["number"]:
        return f"0 of {numbers['of']}", *["-"] * 4
    sizes = (f"{numbers[key]:.4f}" for key in ("mean", "mean_size", "max_size"))
    share = f"{numbers['differ']} ({numbers['differ'] / numbers['number']:.0%})"
    return f"{numbers['number']} of {numbers['of']}", *sizes, share


def print_comparison(comparison: Comparison) -> None:
    """Stored and recomputed numbers side by side, and the verdict."""
    typer.echo(f"job {comparison.job.job_id}: {comparison.what}")
    table = _table(comparison.measure, "stored", "recomputed", "difference")
    for name, stored in comparison.stored.items():
        recomputed = comparison.recomputed.get(name, math.nan)
        table.add_row(name, f"{stored:.8g}", f"{recomputed:.8g}", f"{comparison.difference(name):.1e}")
    _console().print(table)
    verdict = "agree" if comparison.agrees else "do not agree"
    devices = f"stored: {comparison.device_stored or 'unknown'}, here: {comparison.device}"
    typer.echo(f"they {verdict} to {comparison.tolerance:g} relative ({devices})")
