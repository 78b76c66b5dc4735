"""How a process that runs a sweep ends early: in good order on Ctrl-C or SIGTERM, and at once on the second one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible() -> Iterator[None]:
    """Makes SIGTERM and the first Ctrl-C raise KeyboardInterrupt, and the second end the process at once.

    To be entered again when Ray has started: it replaces handlers that were installed before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received > 1:
            os._exit(130)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
