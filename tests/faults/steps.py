"""Killing a process in the middle of a commit: before any line of the code that writes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from linecache import getline
from types import FrameType
from typing import Any

from phasediag.storage import files, store

WRITING = {"_replace", "_sync_folder", "_rewrite_without", "clean_staging"}
MODULES = {files.__file__, store.__file__}
EFFECTS = (
    ".mkdir(",
    ".open(",
    ".write(",
    "fsync(",
    ".replace(",
    "unlink(",
    "_sync_folder(",
    ".publish(",
    ".delete(",
)
"""What the lines that change something on disk hold: before each of them, what is there is something else."""


seen: set[str] = set()
"""Functions in which there was such a line."""


def kill_at(step: int) -> Callable[[], int]:
    """From now on, in this thread and those to come, counts the lines of the store that change something, and kills this process
    before that one.

    Returns what tells how many there were so far.
    """
    count = 0

    def line(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        if event == "line" and any(
            effect in getline(frame.f_code.co_filename, frame.f_lineno) for effect in EFFECTS
        ):
            count += 1
            seen.add(frame.f_code.co_name)
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        return line if code.co_filename in MODULES and code.co_name in WRITING else None

    threading.settrace(call)
    sys.settrace(call)
    return lambda: count


def stop() -> None:
    """Ends it in this thread."""
    sys.settrace(None)
