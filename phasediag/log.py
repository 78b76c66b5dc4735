"""What happened in a sweep, for machines: one line of JSON per event, in a file on this host."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

from .errors import InputError


class Log:
    """Writes events as they happen.

    Each line holds ``time`` (seconds since 1970), ``event`` and what belongs to it. An existing file is continued. A line that cannot be
    written, on a full disk say, is left out: a sweep does not end for want of its log.

    Args:
        file: where to write; nothing is written without it.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, file: Path | None = None) -> None:
        try:
            # One write per line: lines of several processes do not mix.
            self._stream = None if file is None else file.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise InputError(
                f"--log: {file}: cannot be written ({error.strerror}); allowed: a file in a folder that is there"
            ) from None

    def write(self, event: str, **fields: object) -> None:
        """Appends a line."""
        if self._stream is None:
            return
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields})
        with suppress(OSError):
            self._stream.write(f"{line}\n")

    def close(self) -> None:
        """Closes the file."""
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()
