"""Who runs a sweep: one driver at a time, which shows through `driver.json` that it is alive.

A driver that finds another one alive refuses to start. If the other one is gone, it takes over at once. Before workers publish rows, they
check that their own driver still holds the lease, so that workers of a killed driver cannot add rows that its successor computes as well.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ..errors import InputError, PhasediagError
from ..storage.files import patiently
from ..storage.schema import VERSION
from ..storage.store import Store
from . import lifeline
from .events import Event, kept, latest
from .log import Log

HEARTBEAT_SECONDS = 5.0
SILENCE_SECONDS = 60.0
"""A driver that has been silent for so long is gone, if nothing else shows it."""
LOOK_SECONDS = 15.0
"""How long one that seems to have been silent for long enough is watched all the same: its clock may be another."""
_DAY_SECONDS = 86400.0
# Workers that checked the lease just before it changed hands have published by then.
_HANDOVER_SECONDS = 1.0

_WATCH_SECONDS = 0.5
_RELEASE_PATIENCE = (1.0, 1.0, 1.0, 1.0)

RUNNING, FINISHED, BROKEN_OFF, INTERRUPTED = "running", "finished", "failed", "interrupted"
"""States of a driver, as `driver.json` has them."""


class Lease:
    """The right to publish to a folder, renewed by a thread of its own until it is released.

    Args:
        store: the folder.
        log: its last events are kept in the folder, after those of the drivers before.

    Attributes:
        token: identifies this driver.
        lost: another driver has taken over.
    """

    def __init__(self, store: Store, log: Log) -> None:
        self.token = uuid.uuid4().hex
        self.lost = False
        self._store, self._log = store, log
        self._before: list[Event] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="heartbeat", daemon=True)
        self._record: dict[str, Any] = {
            "token": self.token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "lifeline": None,
            "started": time.time(),
            "state": RUNNING,
            "total": None,
            "done_at_start": None,
            "seconds_left": None,
            "version": VERSION,
        }

    def acquire(self, known: Mapping[str, Any] | None = None) -> None:
        """Takes the lease.

        Args:
            known: what `check_free` has found a moment ago.

        Raises:
            InputError: another driver holds it.
        """
        previous = check_free(self._store, known)
        self._before = kept(previous)
        self._lifeline = lifeline.Lifeline(self.token)
        self._record["lifeline"] = self._lifeline.record
        self._write()
        if previous is not None and previous.get("state") == RUNNING:
            time.sleep(_HANDOVER_SECONDS)
        record = self._store.read_driver()
        if record is not None and record.get("token") != self.token:  # it started in the same instant
            self._lifeline.cut()
            raise _refusal(self._store, record)
        if previous is not None and previous.get("state") == RUNNING:
            self._log.write("takeover", host=previous.get("host"), pid=previous.get("pid"))
        self._thread.start()

    def describe(self, total: int, done: int) -> None:
        """Notes the size of the sweep and how much was done at the start; raises `PhasediagError` if another driver has taken over."""
        self._record |= {"total": total, "done_at_start": done, "started": time.time()}
        self._renew()
        self.check()

    def note(self, **fields: float | None) -> None:
        """Keeps the content of the next sign of life: ``seconds_left`` as predicted, a ``total`` that has grown."""
        self._record |= fields

    def check(self) -> None:
        """Raises `PhasediagError` if another driver has taken over."""
        if self.lost:
            raise PhasediagError(f"{self._store.out}: another driver has taken over; this one stops")

    def release(self, state: str) -> None:
        """Ends the lease, leaving behind how the sweep ended; without that, if the storage does not answer: it is stale soon."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._record["state"] = state
        with suppress(OSError, InputError):
            patiently(self._renew, _RELEASE_PATIENCE)
        self._lifeline.cut()

    def _keep_alive(self) -> None:
        while not self.lost and not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                self._renew()
            except (OSError, InputError):
                continue  # a storage that does not answer now may do so at the next beat

    def _renew(self) -> None:
        with self._lock:  # two threads renew
            record = self._store.read_driver()
            self.lost = self.lost or (record is not None and record.get("token") != self.token)
            if not self.lost:
                self._write()

    def _write(self) -> None:
        events = latest([*self._before, *self._log.recent])
        self._store.write_driver({**self._record, "heartbeat": time.time(), "events": events})


@contextmanager
def hold(store: Store, known: Mapping[str, Any] | None = None, log: Log | None = None) -> Iterator[Lease]:
    """The lease of a folder for the duration of a `with` block; how the block ends is noted in the folder.

    Args:
        store: the folder.
        known: what `check_free` has found a moment ago.
        log: its last events are kept in the folder.

    Raises:
        InputError: another driver holds it.
    """
    lease = Lease(store, log or Log())
    lease.acquire(known)
    state = BROKEN_OFF
    try:
        yield lease
        state = FINISHED
    except KeyboardInterrupt:
        state = INTERRUPTED
        raise
    finally:
        lease.release(state)


def check_free(store: Store, known: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """What the last driver left, or None if there was none.

    Where the machine of that driver can be asked, it is alive if its process is. Elsewhere it is watched: it is alive if its sign of life
    changes, whatever the clocks. That takes a minute at most, and a quarter of one if it seems to have been silent for a minute.

    Args:
        store: the folder.
        known: what this function has found a moment ago, which is not watched again.

    Raises:
        InputError: it is still running.
    """
    record = store.read_driver()
    if record is None or record.get("state") != RUNNING or (known and _beat(record) == _beat(known)):
        return record
    alive = process_is_there(record)
    if alive is None:
        alive = _beats(store, record)
    if alive:
        raise _refusal(store, record)
    lifeline.remove(record.get("token"))
    return record


def _refusal(store: Store, record: Mapping[str, Any]) -> InputError:
    where = f"process {record.get('pid')} on {record.get('host')}"
    return InputError(f"{store.out}: another driver is running it ({where}); allowed: one at a time")


def _beats(store: Store, record: Mapping[str, Any]) -> bool:
    """Whether the sign of life of a driver changes."""
    end = time.monotonic() + (SILENCE_SECONDS if 0.0 <= _age(record) < SILENCE_SECONDS else LOOK_SECONDS)
    while time.monotonic() < end:
        time.sleep(_WATCH_SECONDS)
        try:
            now = store.read_driver()
        except (OSError, InputError):
            continue  # that says nothing of the driver
        if now is not None and _beat(now) != _beat(record):
            return now.get("state") == RUNNING
    return False


def _age(record: Mapping[str, Any]) -> float:
    """Seconds since the last sign of life, by the clocks of both machines."""
    return time.time() - float(record.get("heartbeat", 0.0))


def _beat(record: Mapping[str, Any]) -> tuple[object, object]:
    return record.get("token"), record.get("heartbeat")


def holds(store: Store, token: str) -> bool:
    """Whether the driver with this token is running and holds the lease of the folder."""
    record = store.read_driver()
    return record is not None and record.get("token") == token and record.get("state") == RUNNING


def is_alive(store: Store, record: Mapping[str, Any]) -> bool:
    """Whether the driver of a record is still running.

    Its process decides, where its machine can be asked; elsewhere, its last sign of life does. One that is out of date is watched for a
    change, for a quarter of a minute, since its clock may be another; not if it is out of date by a day.
    """
    if record.get("state") != RUNNING:
        return False
    there = process_is_there(record)
    if there is not None:
        return there
    age = _age(record)
    return 0.0 <= age < SILENCE_SECONDS or (abs(age) < _DAY_SECONDS and _beats(store, record))


def process_is_there(record: Mapping[str, Any]) -> bool | None:
    """Whether the process of a driver exists; None if this machine cannot know it."""
    held = record.get("lifeline")
    return lifeline.is_held(held, record.get("token")) if isinstance(held, Mapping) else None
