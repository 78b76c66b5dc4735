"""The events of a sweep, for machines: one line of JSON each, in a file on this host or on standard output; the last ones in memory."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ..errors import InputError
from .events import Event, brief, latest


class Log:
    """Writes events as they happen.

    Each line holds ``time`` (seconds since 1970), ``event`` and what belongs to it. An existing file is continued. A line that cannot be
    written, on a full disk say, is left out: a sweep does not end for want of its log.

    Args:
        file: where to write; "-" is standard output. Nothing is written without it.

    Attributes:
        recent: the last events, in brief, whether or not they are written.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.recent: list[Event] = []  # replaced as a whole: another thread reads it
        try:
            self._stream = _open(file)
        except OSError as error:
            raise InputError(
                f"--log: {file}: cannot be written ({error.strerror}); allowed: a file in an existing folder"
            ) from None

    def write(self, event: str, **fields: object) -> None:
        """Appends a line."""
        content = {"time": round(time.time(), 3), "event": event, **fields}
        self.recent = latest([*self.recent, brief(content)])
        if self._stream is None:
            return
        line = json.dumps(content)
        with suppress(OSError):
            self._stream.write(f"{line}\n")
            self._stream.flush()  # a line at a time: those of several processes do not mix

    def close(self) -> None:
        """Closes the file."""
        if self._stream is not None and self._stream is not sys.stdout:
            with suppress(OSError):
                self._stream.close()


def _open(file: Path | None) -> TextIO | None:
    if file is None or str(file) == "-":
        return None if file is None else sys.stdout
    return file.open("a", encoding="utf-8")
