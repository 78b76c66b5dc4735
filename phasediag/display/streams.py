"""Standard output and standard error of a command: writing to them never raises.

A disk may be full, a reader gone, the stream closed, its terminal paused, or its encoding without the letter: the work goes on. A command
whose purpose is its output checks at its end that the output was written (`check_written`); a sweep does not (`unheeded`).
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from ..errors import PhasediagError

# A pipe that is ready for anything takes so much without making its writer wait.
_CHUNK = 512
_PATIENCE_SECONDS = 1.0


@contextmanager
def unfailing() -> Iterator[None]:
    """Makes sys.stdout and sys.stderr raise nothing for the duration of a `with` block."""
    _fill_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _unfailing(sys.stdout), _unfailing(sys.stderr)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def check_written() -> None:
    """Raises `PhasediagError` if standard output has not taken all that was printed, though its reader is there."""
    sys.stdout.flush()
    for raw in _raws(sys.stdout):
        if raw.failure is not None and not isinstance(raw.failure, BrokenPipeError):
            raise PhasediagError(f"standard output: cannot be written ({raw.failure.strerror})")


@contextmanager
def unheeded(missed: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """For the duration of a `with` block, what is printed decides over nothing: it is waited for a second at most, and may be lost.

    Args:
        missed: gets lines that could not be written, but not what only moves on a terminal.
    """
    raws = [raw for stream in (sys.stdout, sys.stderr) for raw in _raws(stream)]
    for raw in raws:
        raw.missed = missed
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for raw in raws:
            raw.missed = raw.failure = None


class _Output(io.RawIOBase):
    """A file descriptor to write to, which remembers a failure in place of raising it.

    Attributes:
        failure: of the last write that failed.
        missed: if there is one, gets lines that were lost, and nothing is waited for longer than a second.
    """

    def __init__(self, descriptor: int) -> None:
        self.failure: OSError | None = None
        self.missed: Callable[[str], None] | None = None
        self._descriptor = descriptor
        self._stuck = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        content = bytes(data)
        rest = content
        try:
            while rest:
                self._await_ready()
                with suppress(BlockingIOError):  # whoever shares it may have made it return at once
                    rest = rest[os.write(self._descriptor, rest[:_CHUNK] if self.missed else rest) :]
        except OSError as error:
            self.failure = error
            self._tell(rest)
        return len(content)

    def _await_ready(self) -> None:
        """Waits until something can be written."""
        if os.name == "nt":  # where only sockets can be waited for
            return
        seconds = None if self.missed is None else 0.0 if self._stuck else _PATIENCE_SECONDS
        ready = select.select([], [self._descriptor], [], seconds)[1]
        self._stuck = not ready
        if not ready:
            raise TimeoutError("nobody reads it")

    def _tell(self, lost: bytes) -> None:
        text = lost.decode("utf-8", "backslashreplace").strip()
        missed, self.missed = self.missed, None  # which may print as well
        if missed is not None and text and "\x1b" not in text:
            missed(text)
        self.missed = missed


def _unfailing(stream: TextIO | None) -> TextIO:
    """A stream to the same place that raises nothing."""
    if stream is None:  # it was closed when the program began
        return Path(os.devnull).open("w", encoding="utf-8")
    try:
        descriptor = stream.fileno()
        stream.flush()
    except (OSError, ValueError):  # none of the system's: a notebook's, a test's
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(descriptor)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


def _raws(stream: TextIO) -> Iterator[_Output]:
    """What is below a stream, if it is of ours."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    if isinstance(raw, _Output):
        yield raw


def _fill_closed() -> None:
    """Opens what is closed of the three standard descriptors, lest the next file that is opened be taken for one of them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
