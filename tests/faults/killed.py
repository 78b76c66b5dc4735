"""Drivers that are killed, each before another step of its writing: python -m faults.killed FOLDER EXECUTOR FIRST STRIDE

Each has a folder of its own, FOLDER/STEP, with a mess to start from. The last comes to its end before it has reached its step. Prints steps
and exit codes, and what the last one reached, as JSON.

Of "local" ones, which have no workers that might go on, a driver that is not killed keeps first what it would leave at every step, in
FOLDER/left/STEP; those that are killed are compared with it. Then each folder is taken on by another driver.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
from studies import OPENINGS

from faults import steps, sweeps
from phasediag.kinds import open_store
from phasediag.phase_diagram.fitting import fit
from phasediag.phase_diagram.study import PhaseDiagramStudy
from phasediag.storage import files
from phasediag.storage.store import Store
from phasediag.sweep import lease, lifeline


def study() -> PhaseDiagramStudy:
    """One with a network that is kept whole."""
    found = sweeps.study_of(1)
    samples = found.spec.samples.model_copy(update={"points": ((0.5, 0.0),)})
    return PhaseDiagramStudy(found.spec.model_copy(update={"samples": samples}), found.data, found.source)


def disturbed(executor: str, store: Store) -> None:
    """All that may be written: by a sweep that finds files of an earlier version, and then by one that tries again what failed."""
    sweep = partial(sweeps.sweep, study(), store, sweeps.nothing, opening=OPENINGS[executor])
    for path in store.damaged():
        store.set_aside(path)
    store.settle()
    sweep(retry_failed=True, finish=partial(finish, store))


@cache
def slopes() -> pd.DataFrame:
    """What is fitted to the rows of the study: once, since what writes them matters here, and a fit takes as long as a sweep."""
    found: pd.DataFrame = fit(pd.DataFrame(sweeps.undisturbed(study()).values()))
    return found


def finish(store: Store) -> None:
    store.write_fitted(slopes(), store.runs())
    store.write_drawn("of what it was", ["map.png"])
    store.forget_drawn()
    store.write_figure("map.png", b"a map")
    store.write_drawn("of what it is", ["map.png"])
    store.write_report(b"a page")


def in_child(work: Callable[[], object]) -> int:
    """The exit code of a process that does this, and starts with all that this one has imported and compiled."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def kill(executor: str, store: Store, step: int) -> None:
    reached = steps.kill_at(step)
    disturbed(executor, store)
    steps.stop()
    found = {"steps": reached(), "lines": sorted(steps.reached), "doors": sorted(steps.doors)}
    print(json.dumps(found))


def record(executor: str, store: Store) -> None:
    """One that is not killed: what there is before each step, and what changes between two of them."""
    changes = steps.Changes(Path(store.out))

    def keep(step: int) -> None:
        changes.look()
        shutil.copytree(store.out, left(store, step))

    steps.watch(keep)
    disturbed(executor, store)
    steps.stop()
    changes.look()
    print(json.dumps({"changes": changes.number, "several": [sorted(paths) for paths in changes.several]}))


def left(store: Store, step: int) -> Path:
    """Where it is kept what a driver leaves that is killed at a step."""
    return Path(store.out).parent / "left" / str(step)


def entries(folder: Path) -> list[str]:
    """What a folder holds, by name; files in the making have none to speak of."""
    found = (path.relative_to(folder) for path in folder.rglob("*"))
    return sorted(".staging/..." if path.parent.name == ".staging" else str(path) for path in found)


def main(folder: str, executor: str, first: str, stride: str) -> None:
    lease.HEARTBEAT_SECONDS = 3600.0  # no steps but those of the driver itself
    mess = Path(folder, "mess")
    sweeps.make_a_mess(study(), open_store(mess))

    def copy(name: object) -> Store:
        return open_store(shutil.copytree(mess, Path(folder, str(name))))

    if executor == "local":
        lease._HANDOVER_SECONDS = 0.0  # there are no workers that might outlive their driver
        # Threads that write side by side change several things between two steps, in any order.
        files.READERS = 1
        # All that are left have the token of one driver, whose lock is to be found, and free, by each that follows.
        tempfile.tempdir = tempfile.mkdtemp(dir=folder)
        lifeline.remove = lambda token: None
        disturbed(executor, copy("warm"))  # whatever is imported and compiled is so in all that follow
        gc.freeze()  # which leaves the memory that they share as it is
        assert in_child(partial(record, executor, copy("recorded"))) == 0
    for step in count(int(first), int(stride)):
        store = copy(step)
        told: dict[str, Any] = {"step": step, "ended": in_child(partial(kill, executor, store, step))}
        if executor == "local" and told["ended"] != 0:
            told["same"] = entries(Path(store.out)) == entries(left(store, step))
        print(json.dumps(told), flush=True)
        if told["ended"] == 0:
            break
    if executor == "local":
        for found in [*Path(folder, "left").iterdir(), *Path(folder).glob("[0-9]*")]:
            store = open_store(found)
            sweeps.sweep_here(study(), store, sweeps.nothing, retry_failed=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
