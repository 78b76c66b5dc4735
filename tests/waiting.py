"""Waiting for what other processes do."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 600.0
"""Seconds after which what a test waits for has failed. On a busy machine a sweep takes ten times as long as elsewhere; only a test that
fails takes so long."""


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Returns when the condition holds; fails the test if it does not do so in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@contextmanager
def no_longer(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, which is killed if the `with` block fails; a plain `with` would wait for it without end."""
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
