"""Whether a driver still runs, as its machine can tell: its process holds a lock, and the system drops the lock when the process ends.

The lock is on a file in the temporary folder of the machine, which holds the driver's token. Host names and process numbers do not identify
a driver: containers can share a host name and reuse process numbers, and a cloned machine has both. A file that is not on this machine, or
that is left from before it restarted, says nothing.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: there, signs of life decide
    fcntl = None  # type: ignore[assignment]


class Lifeline:
    """The lock of this process.

    Attributes:
        record: what others need to ask for it; None where there can be none.
    """

    def __init__(self, token: str) -> None:
        self.record: dict[str, str] | None = None
        self._token = token
        boot = _boot()
        if fcntl is None or boot is None:
            return
        path = _path(token)
        try:
            self._file = path.open("x", encoding="ascii")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.write(token)
            self._file.flush()
        except OSError:  # a temporary folder that takes no files, or no locks
            remove(token)
            return
        self.record = {"file": str(path), "boot": boot}

    def cut(self) -> None:
        """Ends it."""
        if self.record is not None:
            self._file.close()
            remove(self._token)


def is_held(record: Mapping[str, Any], token: object) -> bool | None:
    """Whether the process that made a lifeline exists; None if this machine cannot know it.

    Args:
        record: what `Lifeline.record` was.
        token: of its driver.
    """
    if fcntl is None or record.get("boot") != _boot():
        return None
    try:
        descriptor = os.open(str(record.get("file")), os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, encoding="ascii") as file:
            if file.read(64) != token:
                return None
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ValueError):  # in the temporary folder of another container, or cleared
        return None
    return False


def remove(token: object) -> None:
    """Removes the file of a lifeline that is not held any more, if it is in the temporary folder of this process."""
    with suppress(OSError, ValueError):  # a token that no driver makes
        _path(token).unlink(missing_ok=True)


def _path(token: object) -> Path:
    return Path(tempfile.gettempdir(), f"phasediag-{token}.lock")


@cache
def _boot() -> str | None:
    """What the system calls its present start: the same in all containers of a machine, another one after every start of any machine."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or None
    with suppress(OSError, subprocess.SubprocessError):
        asked = ["sysctl", "-n", "kern.bootsessionuuid"]  # macOS
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=True)
        return answer.stdout.strip() or None
    return None
