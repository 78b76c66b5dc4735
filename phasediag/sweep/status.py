"""The progress of a sweep, read from its folder alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..kinds import named, stored_study
from ..storage.rows import Rows
from ..storage.schema import FAILED, STR
from ..storage.store import Store
from ..studies import AnyStudy
from .events import Event, kept
from .lease import BROKEN_OFF, INTERRUPTED, RUNNING, SILENCE_SECONDS, is_alive, process_is_there

POLL_SECONDS = 1.0
# Watching takes at most this fraction of the time, however long it takes to list a folder.
_BUSY_FRACTION = 0.2


_COLUMNS = ("job_id", "status")
_NO_IDS = pa.array([], STR)

_ENDS = {
    RUNNING: "its driver gives no sign of life any more",
    INTERRUPTED: "its driver was interrupted",
    BROKEN_OFF: "its driver ended with an error",
}


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a sweep.

    Attributes:
        name: name of the study.
        state: "complete" (every job has rows), "running" (a driver is alive), or "stopped" (jobs are missing
            and no driver is alive).
        total: number of jobs; the sum of the next three.
        finished: jobs that have rows, without the failed ones.
        failed: jobs that could not be run.
        missing: jobs without rows.
        rate: jobs per second since the driver started, or None if that is not known.
        seconds_left: as the driver predicts, from the cost of what is left; None if it does not know, does not run, or
            nothing is missing.
        driver: the last sign of life of the driver, or None.
        events: the last events of its sweep, and of the drivers before, the oldest first (`phasediag.sweep.events`).
    """

    name: str
    state: str
    total: int
    finished: int
    failed: int
    missing: int
    rate: float | None
    seconds_left: float | None
    driver: dict[str, Any] | None
    events: list[Event]

    @property
    def end(self) -> str:
        """How the last driver ended, if it did not end well: a sentence without its end; else empty."""
        return _ENDS.get((self.driver or {}).get("state", ""), "") if self.state != "running" else ""

    def to_dict(self) -> dict[str, Any]:
        """The status as JSON can hold it."""
        return asdict(self)


def read_status(store: Store) -> Status:
    """The state of the sweep in a folder. Raises `InputError` if the folder holds none."""
    return status_of(stored_study(store), store)


def status_of(study: AnyStudy, store: Store) -> Status:
    """The state of the sweep of a study in its folder."""
    record = store.read_driver()
    ids = _job_ids(study.refined(store.runs))
    rows = Rows(store, _COLUMNS)
    rows.look()
    return _status(study.spec.name, ids, rows, record, record is not None and is_alive(store, record))


def wait(store: Store, report: Callable[[Status | None], None]) -> Status:
    """Waits for the end of a sweep, also for one that has not begun, and returns its last state.

    That is "complete", or "stopped": a driver is gone when its process is, when it said so, or when its sign
    of life has not changed for a minute.

    Args:
        store: the folder.
        report: called with every state that was read, None as long as there is no study.
    """
    watch = Watch(store)
    while True:
        started = time.monotonic()
        status = watch.look()
        report(status)
        if status is not None and status.state != "running":
            return status
        time.sleep(max(POLL_SECONDS, (time.monotonic() - started) / _BUSY_FRACTION))


class Watch:
    """What repeated looks at one folder remember: none of them waits for a sign of life, or reads rows again.

    Attributes:
        study: the study, as of the last look; None while there is none.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._text: str | None = None
        self.study: AnyStudy | None = None
        self._rows = Rows(store, _COLUMNS)
        self._ids = _NO_IDS
        self._beat: object = None
        self._beat_time = time.monotonic()

    def look(self) -> Status | None:
        """The present state; None while there is no study."""
        record = self._store.read_driver()  # before the rows: whoever is gone now adds none
        text = self._store.read_study()
        if text is None:
            return None
        if self.study is None or text != self._text:
            self.study, self._text = stored_study(self._store), text
            self._store = self._store.with_tables(named(self.study.kind).tables)
            self._rows = Rows(self._store, _COLUMNS)
            self._ids = _job_ids(self.study)
        if self._rows.look().num_rows and self.study.grows:
            self._ids = _job_ids(self.study.refined(self._store.runs))
        return _status(self.study.spec.name, self._ids, self._rows, record, self._alive(record))

    def _alive(self, record: dict[str, Any] | None) -> bool:
        if record is None or record.get("state") != RUNNING:
            return False
        beat = (record.get("token"), record.get("heartbeat"))
        if beat != self._beat:
            self._beat, self._beat_time = beat, time.monotonic()
        there = process_is_there(record)
        return time.monotonic() - self._beat_time < SILENCE_SECONDS if there is None else there


def _job_ids(study: AnyStudy) -> pa.Array:
    """The ids of the jobs of a study: as Arrow holds them, a million are no burden."""
    return pa.array((study.job_of(cell).job_id for cell in study.cells()), STR)


def _status(name: str, ids: pa.Array, rows: Rows, record: dict[str, Any] | None, alive: bool) -> Status:
    has_failed = pc.equal(rows.table["status"], FAILED)
    finished = _of(ids, rows.table["job_id"].filter(pc.invert(has_failed)))
    failed = _of(ids, rows.table["job_id"].filter(has_failed))
    failed = failed.filter(pc.invert(pc.is_in(failed, finished)))  # a job of both has finished
    missing = len(ids) - len(finished) - len(failed)
    return Status(
        name=name,
        state="running" if alive else "stopped" if missing else "complete",
        total=len(ids),
        finished=len(finished),
        failed=len(failed),
        missing=missing,
        rate=_rate(record, len(finished) + len(failed)),
        seconds_left=record.get("seconds_left") if alive and record and missing else None,
        driver=record and {key: value for key, value in record.items() if key != "events"},
        events=kept(record),
    )


def _of(ids: pa.Array, jobs: pa.ChunkedArray) -> pa.Array:
    """The jobs that are of the study, each once."""
    found = pc.unique(jobs)
    return found.filter(pc.is_in(found, ids))


def _rate(record: dict[str, Any] | None, done: int) -> float | None:
    """Jobs per second between the start of the driver and its last sign of life."""
    match record:
        case {"done_at_start": int() as before, "started": start, "heartbeat": last} if last > start:
            return max(done - before, 0) / float(last - start)
    return None
