"""What the page of every kind of study says of its folder: spec, progress, origin, runs and failures, and what is missing."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..display.page.numbers import codes
from ..display.page.report import Content, Progress
from ..display.terminal import format_duration
from ..kinds import require_study
from ..storage.schema import FAILED, STATUSES, VERSION
from ..storage.store import Store
from .events import kept, words

FAILURES_LISTED = 100
"""Runs that did not converge, listed one by one; all are counted."""
_REASONS_LISTED, _ERRORS_HELD, _ERROR_LENGTH = 10, 500, 500


class Jobs(NamedTuple):
    """The jobs that have rows, as far as a page tells of all of them.

    Attributes:
        counts: how many there are (``runs``) of each status, version and device, and the sum of their ``wall_seconds``.
        others: the rows of those that did not converge.
    """

    counts: pd.DataFrame
    others: pd.DataFrame

    @classmethod
    def of(cls, jobs: pd.DataFrame, by: Sequence[str] = ()) -> Jobs:
        """The jobs of a table with a row for each; ``counts`` separates what differs in the columns `by`, too."""
        groups = jobs.groupby([*by, "status", "version", "device"], as_index=False)
        counts = groups.agg(runs=("wall_seconds", "size"), wall_seconds=("wall_seconds", "sum"))
        return cls(counts, jobs.loc[jobs["status"] != "converged"])

    @property
    def runs(self) -> int:
        """How many there are."""
        return int(self.counts["runs"].sum())

    @property
    def statuses(self) -> list[str]:
        """All statuses of runs, those of newer versions last."""
        return statuses(self.counts)


def frame(store: Store, jobs: Jobs, progress: Progress | None) -> Content:
    """The parts of a page around the kind's own.

    Args:
        store: the folder.
        jobs: of its runs.
        progress: how far its sweep is; None where that is not known.

    Raises:
        InputError: the folder holds no study.
    """
    text, driver = require_study(store), store.read_driver()
    name = str((store.read_document() or {}).get("name", store.out))
    return {
        "study": {"name": name, "text": text, "folder": store.out},
        "runs": jobs.runs,
        "code": _code(store.out),
        "origin": _origin(jobs, driver),
        "progress": None if progress is None else _progress(progress),
        "statuses": jobs.statuses,
        "failures": _failures(jobs),
        "events": [[_date(event["time"], "%H:%M:%S"), words(event)] for event in kept(driver)],
    }


def missing(runs: int, has_data: bool, progress: Progress | None) -> list[str]:
    """What the page of any kind may lack and why, a sentence each."""
    found = []
    if not has_data:
        found.append(
            "There is no data.npz: functions are shown without the data, and jobs cannot be reproduced."
        )
    if progress is None:
        found.append("It is not known whether jobs are missing.")
    if not runs:
        found.append("No job has rows yet: there is nothing to show but the spec.")
    return found


# Runs.


def jobs_of(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each job: its first one that did not converge, if there is such a one, else its first."""
    runs = runs.reset_index(drop=True)
    first = (runs["status"] != "converged").groupby(runs["job_id"], sort=False).idxmax()
    return runs.loc[first].reset_index(drop=True)


def statuses(jobs: pd.DataFrame) -> list[str]:
    """All statuses of runs, those of newer versions last."""
    return [*STATUSES, *sorted(set(jobs["status"].unique()) - set(STATUSES))]


def job_columns(jobs: pd.DataFrame, statuses: Sequence[str]) -> Content:
    """What every run has, column by column; ``status`` counts in `statuses`. Errors are by number, as text."""
    jobs = jobs.reset_index(drop=True)
    failed = jobs.loc[jobs["error"] != "", "error"].str.slice(0, _ERROR_LENGTH).iloc[:_ERRORS_HELD]
    return {
        "id": jobs["job_id"].tolist(),
        **({"seed": jobs["seed"].tolist()} if "seed" in jobs else {}),
        "evaluations": jobs["evaluations"].tolist(),
        "status": codes(jobs["status"], statuses),
        "error": {str(index): text for index, text in failed.items()},
    }


def listed_failures(jobs: Jobs) -> pd.DataFrame:
    """The first of the runs that did not converge, failed ones first."""
    first = np.argsort((jobs.others["status"] != FAILED).to_numpy(), kind="stable")
    return jobs.others.iloc[first[:FAILURES_LISTED]]


def _failures(jobs: Jobs) -> Content:
    """Runs that did not converge: how many of each status, the most frequent errors, and the first of them."""
    others = jobs.others
    reasons = Counter(" ".join(text.split())[:_ERROR_LENGTH] for text in others["error"] if text)
    return {
        "total": len(others),
        "counts": dict(Counter(others["status"].tolist()).most_common()),
        "reasons": [[count, text] for text, count in reasons.most_common(_REASONS_LISTED)],
        "more_reasons": max(len(reasons) - _REASONS_LISTED, 0),
        "listed": job_columns(listed_failures(jobs), jobs.statuses),
    }


# Where it comes from.


def _code(folder: str) -> Content:
    """How to get at the rows and at a job; the page completes both."""
    place = folder.rstrip("/")
    return {"runs": repr(f"{place}/runs"), "reproduce": f"phasediag reproduce {shlex.quote(folder)}"}


def _origin(jobs: Jobs, driver: Mapping[str, Any] | None) -> Content:
    counts = jobs.counts
    times = {key: _date((driver or {}).get(key)) for key in ("started", "heartbeat")}
    return {
        "report_version": VERSION,
        "report_date": _date(time.time()),
        "versions": sorted(counts["version"].unique()),
        "devices": counts.groupby("device")["runs"]
        .sum()
        .sort_values(ascending=False, kind="stable")
        .to_dict(),
        "training": format_duration(float(counts["wall_seconds"].sum())),
        "driver": str(driver.get("state", "")) if driver else "",
        **times,
    }


def _progress(status: Progress) -> Content:
    keys = ("state", "total", "finished", "failed", "missing")
    return {key: getattr(status, key) for key in keys}


def _date(seconds: Any, clock: str = "%H:%M") -> str | None:
    """A time of the clock in words, in UTC; None for what is none."""
    try:
        return time.strftime(f"%Y-%m-%d {clock} UTC", time.gmtime(float(seconds)))
    except (TypeError, ValueError, OverflowError, OSError):
        return None
