"""A driver of the soak, and what its tasks do: python -m soak.driver OUT FOLDER"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from faults import sweeps

from phasediag.kinds import open_store
from phasediag.phase_diagram.jobs import Job
from phasediag.sweep import lease
from phasediag.sweep import sweep as driver

SEEDS = 20


@dataclass(frozen=True)
class Misbehave:
    """Leaves the number of its process in a folder; takes a second; now and then raises or crashes."""

    folder: Path

    def __call__(self, jobs: Sequence[Job]) -> None:
        sign = self.folder / str(os.getpid())
        sign.touch()
        try:
            time.sleep(random.uniform(0.5, 1.5))
            fate = random.random()
            if fate < 0.03:
                raise ArithmeticError("no such luck")
            if fate < 0.06:
                os.kill(os.getpid(), signal.SIGSEGV)
        finally:
            sign.unlink(missing_ok=True)


def main(out: str, folder: str) -> None:
    """Runs the sweep, and what failed again and again."""
    from soak.driver import Misbehave  # by its name, for the workers

    driver.STORE_PATIENCE = (0.5,) * 10
    lease.HEARTBEAT_SECONDS = 2.0
    while sweeps.sweep(
        sweeps.study_of(SEEDS), open_store(out), Misbehave(Path(folder)), retry_failed=True
    ).failed:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
