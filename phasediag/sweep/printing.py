"""What commands print about a sweep: its plan, its state, its failures, and a job that was trained again."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from ..display.terminal import format_duration, new_table, print_json, print_table, printable, say
from .listing import Listed
from .plan import Plan
from .reproduce import Reproduction
from .status import Status

_STATUS_LINE_SECONDS = 15.0
_NAME_WIDTH = 60  # of a folder in a list; longer ones take several lines
_FAILED_SHOWN, _REASONS_SHOWN, _REASON_LENGTH = 5, 3, 300


def print_plan(planned: Plan) -> None:
    """Prints what a sweep has to do, by group of jobs, and what that is predicted to take."""
    time_of = "CPU time" if planned.device == "cpu" else "GPU time"
    table = new_table(planned.grouped_by, "jobs", "finished", "failed", "missing", "batches", time_of)
    for row in planned.groups:
        counts = (row.group, row.total, row.finished, row.failed, row.missing, row.batches)
        table.add_row(*map(str, counts), format_duration(row.cpu_seconds))
    print_table(table)
    say(
        f"{planned.total} jobs: {planned.finished} finished, {planned.failed} failed, "
        f"{planned.missing} missing; {planned.samples} networks to be kept whole"
    )
    here = "here" if planned.device == "cpu" else "on a GPU (from data sheets, not measured)"
    mixed = sum(row.batches for row in planned.groups) > planned.batches
    shared = f" (those with jobs of several {planned.grouped_by}s count in each)" if mixed else ""
    say(
        f"{planned.batches} batches{shared}; predicted: {format_duration(planned.cpu_seconds)} of {time_of}, "
        f"{format_duration(planned.wall_seconds)} of training {here} with {planned.slots} at a time"
    )
    beside = {
        "to start and stop Ray (none with --local)": planned.starting_seconds,
        f"to compile the {' and '.join(planned.compiles)} engine (once on this machine)": planned.compiling_seconds,
        "for fits and figures": planned.finishing_seconds,
    }
    if parts := [f"{seconds:.0f} s {what}" for what, seconds in beside.items() if seconds]:
        total = planned.wall_seconds + sum(beside.values())
        say(f"in addition, about: {', '.join(parts)}; in all about {format_duration(total)}")
    if planned.more_jobs:
        say(
            f"refinement may add up to {planned.more_jobs} jobs; "
            f"predicted: up to {format_duration(planned.more_cpu_seconds)} of {time_of} more"
        )


def print_status(status: Status, as_json: bool) -> None:
    """Prints how far a sweep is, in words with what to do next, or as JSON."""
    if as_json:
        print_json(status.to_dict())
    else:
        say(_status_line(status))
        for line in _next_steps(status):
            say(line)


def print_listed(studies: Sequence[Listed], as_json: bool) -> None:
    """Prints studies in a table, and why some cannot be read."""
    if as_json:
        print_json([study.to_dict() for study in studies])
        return
    from rich.text import Text  # as it stands: a name may look like markup

    table = new_table("study", "networks", "data", "jobs", "changed", "result")
    for column in table.columns:
        column.justify, column.no_wrap = "left", column.header in ("networks", "jobs", "result")
    names = table.columns[0]
    names.overflow, names.min_width = "fold", min(max(len(study.folder) for study in studies), _NAME_WIDTH)
    names.max_width = names.min_width
    for study in studies:
        if study.status and study.outline:
            networks, data, _ = study.outline
            row = [networks, data, _jobs(study.status), _ago(study.changed), study.finding]
        else:
            row = ["", "", study.state]
        table.add_row(*map(Text, (printable(study.folder or "."), *row)))
    print_table(table)
    for study in studies:
        if study.error:
            say(printable(study.error), error=True)


def _jobs(status: Status) -> str:
    """How many jobs are done; in what state their sweep is, and how long it takes yet, unless it is complete."""
    done = status.finished + status.failed
    parts = [f"{done:,}" if status.state == "complete" else f"{done:,} of {status.total:,} {status.state}"]
    if status.failed:
        parts.append(f"{status.failed:,} failed")
    if status.seconds_left is not None:
        parts.append(f"{format_duration(status.seconds_left)} left")
    return ", ".join(parts)


def _ago(moment: float | None) -> str:
    """How long ago, in one unit: who looks over a list wants no more."""
    if moment is None:
        return ""
    number, unit, *_ = format_duration(max(time.time() - moment, 0.0)).split()
    return f"{float(number):.0f} {unit} ago"


def _next_steps(status: Status) -> list[str]:
    """What to know, and to do, about a sweep that has ended but is not all there."""
    lines = []
    if status.state == "stopped":
        lines.append(f"  {status.end or 'no driver runs'}; the same 'phasediag run' goes on from here")
    elif status.state == "complete" and status.end:
        lines.append(f"  {status.end}; the same 'phasediag run' fits and draws what may be missing")
    if status.failed and status.state != "running":
        lines.append(
            f"  {status.failed} failed: column 'error' of runs/ says why; 'phasediag run' tries them again with --retry-failed"
        )
    return lines


def _status_line(status: Status) -> str:
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
    say(f"{len(failed_ids)} {jobs} failed: {shown}{more}", error=True)
    reasons = Counter(" ".join(errors.get(job_id, "unknown").split()) for job_id in failed_ids)
    for reason, count in reasons.most_common(_REASONS_SHOWN):
        say(f"  {count} of them: {reason[:_REASON_LENGTH]}", error=True)
    if len(reasons) > _REASONS_SHOWN:
        say("  others: column 'error' of runs/", error=True)
    say("'phasediag run' tries them again with --retry-failed", error=True)


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
                say(f"{self._out}: holds no study yet; waiting for 'phasediag run' to begin", error=True)
            self._waits = True
            return
        line = _status_line(status)
        due = time.monotonic() - self._time >= _STATUS_LINE_SECONDS
        if self._quiet or not due or line == self._shown or status.state != "running":
            return
        self._shown, self._time = line, time.monotonic()
        say(line)


def print_reproduction(found: Reproduction) -> None:
    """Stored and recomputed numbers side by side, and the verdict."""
    say(f"job {found.job.job_id}: {found.what}")
    table = new_table(found.measure, "stored", "recomputed", "difference")
    for name, stored in found.stored.items():
        recomputed = found.recomputed.get(name, math.nan)
        table.add_row(name, f"{stored:.8g}", f"{recomputed:.8g}", f"{found.difference(name):.1e}")
    print_table(table)
    verdict = "agree" if found.agrees else "do not agree"
    devices = f"stored: {found.device_stored or 'unknown'}, here: {found.device}"
    say(f"they {verdict} to {found.tolerance:g} relative ({devices})")
