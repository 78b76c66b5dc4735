"""`phasediag serve` in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def served(root: str, **environment: str) -> Iterator[str]:
    """The address of a server over a root, http://127.0.0.1:PORT."""
    with serving(root, **environment) as (address, _):
        yield address


@contextmanager
def serving(root: str, **environment: str) -> Iterator[tuple[str, int]]:
    """The address of a server over a root, and the id of its process."""
    command = [sys.executable, "-m", "phasediag", "serve", root, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as server:
        try:
            found = re.match(r"http://\S+:\d+", server.stdout.readline())  # type: ignore[union-attr]
            assert found, "the server did not start"
            yield found[0], server.pid
        finally:
            server.terminate()
