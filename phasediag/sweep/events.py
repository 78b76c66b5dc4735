"""The last events of a sweep, as `driver.json` keeps them: cut to size, read back, and in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..display.terminal import format_duration

Event = dict[str, Any]
"""What a line of the log holds: ``time`` (seconds since 1970), ``event``, and what belongs to it."""

KEPT, BATCHES = 20, 10
"""Events in `driver.json`, and how many of them tell of a batch that has ended well."""
LENGTH = 300
"""Characters of a text in one of them."""
_LATEST = 253402300799.0  # the end of the year 9999, the last that has a date

_WORDS = {
    "takeover": "the driver before (process {pid} on {host}) is gone; another one takes over",
    "start": "the driver starts with {done} of {total} jobs done; batches to train: {batches}, slots: {slots}",
    "batch": "batch of {jobs} trained in {seconds} ({statuses}); {done} of {total} jobs done",
    "sample": "the network of job {job_id} is kept, trained in {seconds}",
    "trouble": "batch of {jobs} from job {job_id} {fate}: {error}",
    "refine": "refinement, round {round}: {total} jobs in all, {jobs} of them new",
    "stop": "the driver stops with {done} jobs done: {error}",
    "interruption": "the driver is interrupted with {done} jobs done",
    "end": "the sweep ends: {finished} finished, {failed} failed; {trained} trained by this driver in {seconds}",
    "unshown": "not shown on the terminal: {line}",
}


def brief(event: Mapping[str, Any]) -> Event:
    """The event with long texts cut."""
    return {_cut(str(name)): _brief_value(value) for name, value in event.items()}


def kept(record: Mapping[str, Any] | None) -> list[Event]:
    """The events in the content of a `driver.json`, the oldest first. What is no event there is left out."""
    found = (record or {}).get("events")
    return latest([brief(event) for event in found if _is_event(event)]) if isinstance(found, list) else []


def latest(events: Sequence[Event]) -> list[Event]:
    """The last of these events. Batches, which may be thousands, do not push out who started, and what went wrong."""
    batches = [event for event in events if event["event"] == "batch"]
    older = set(map(id, batches[:-BATCHES]))
    return [event for event in events if id(event) not in older][-KEPT:]


def words(event: Event) -> str:
    """What has happened, in a line of plain text."""
    statuses = event.get("statuses")
    try:
        fields = dict(event)
        if "seconds" in event:
            fields["seconds"] = format_duration(event["seconds"])
        if isinstance(statuses, dict):
            fields["statuses"] = ", ".join(f"{count} {status}" for status, count in statuses.items())
        text = _WORDS[_name(event)].format_map(fields)
    except (LookupError, TypeError, ValueError, OverflowError):  # of another version
        others = (f"{key} {value}" for key, value in event.items() if key not in ("time", "event"))
        text = f"{event['event']}: {', '.join(others)}"
    return _cut(" ".join(text.split()))


def _name(event: Event) -> str:
    match event:
        case {"event": "batch", "sample": True}:
            return "sample"
        case {"event": "stop", "error": str(error)} if error.startswith("KeyboardInterrupt"):
            return "interruption"
    return str(event["event"])


def _is_event(event: object) -> bool:
    match event:
        case {"time": int() | float() as time, "event": str()}:
            return 0 <= time <= _LATEST
    return False


def _brief_value(value: Any) -> Any:
    if isinstance(value, str):
        return _cut(value)
    text = json.dumps(value)
    return value if len(text) <= LENGTH else _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"
