"""The sweep that the faults disturb, how they get into its tasks, and what is looked at afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from waiting import PATIENCE, no_longer, wait_for

from phasediag.display.progress import Progress
from phasediag.kinds import parse_spec
from phasediag.phase_diagram.columns import SAMPLES, TABLES
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.study import PhaseDiagramStudy
from phasediag.phase_diagram.training import failed_rows
from phasediag.spec.data import make_dataset
from phasediag.storage import store as store_module
from phasediag.storage.store import Store
from phasediag.sweep import lease, worker
from phasediag.sweep import sweep as driver
from phasediag.sweep.local import this_process
from phasediag.sweep.ray_cluster import ray_cluster

SPEC = """
name = "faults"
kind = "phase-diagram"
network = {{ depth = 2 }}
data = {{ kind = "points", x = [[-1.0], [0.5]], y = [0.5, -0.5] }}
grid = {{ width = [10, 40], gamma = [0.5, 1.0, 1.75], gamma_prime = [0.0], seeds = {seeds} }}
samples = {{ points = [] }}
"""
POISON = 3
"""Seed of the jobs that faults of a job befall: one for each width and gamma."""

Disturbance = Callable[[Sequence[Job]], None]
Rows = list[dict[str, Any]]


def study_of(seeds: int = 10, more: str = "") -> PhaseDiagramStudy:
    """Six jobs per seed; `more` is appended to the spec."""
    data = make_dataset(np.array([[-1.0], [0.5]]), np.array([0.5, -0.5]), "data")
    return PhaseDiagramStudy(parse_spec(SPEC.format(seeds=seeds) + more, "faults.toml"), data, "faults.toml")


def poisoned(study: PhaseDiagramStudy) -> set[str]:
    """Ids of the jobs that faults of a job befall."""
    return {job.job_id for job in study.jobs() if is_poison(job)}


def is_poison(job: Job) -> bool:
    return job.seed == POISON and job.width == 10 and job.gamma == 0.5


@dataclass(frozen=True)
class Formula:
    """In the place of the training, which a worker needs two seconds to import: a number that belongs to each job and layer."""

    def batch(self, jobs: Sequence[Job], device: str, threads: int) -> Rows:
        rows = [row for job in jobs for row in failed_rows(job, "", device)]
        return [{**row, "status": "converged", "relative_change": _number_of(row)} for row in rows]

    def sample(self, job: Job, device: str, threads: int) -> Rows:
        [row] = self.batch([job], device, threads)[:1]
        kept = {
            field.name: [] if pa.types.is_list(field.type) else row.get(field.name, nan)
            for field in SAMPLES.schema
        }
        return [kept]

    def failed(self, job: Job, error: str) -> Rows:
        return failed_rows(job, error)


FORMULA = Formula()


def _number_of(row: Mapping[str, Any]) -> float:
    digest = sha256(f"{row['job_id']} {row['layer']}".encode()).digest()
    return float(row["width"] ** (row["gamma"] - 1.0)) * (1.0 + int.from_bytes(digest[:4], "big") / 2**33)


@dataclass(frozen=True)
class Disturbed:
    """A trainer, with something that happens in the worker before each batch."""

    trainer: Any
    disturb: Disturbance

    def batch(self, jobs: Sequence[Job], device: str, threads: int) -> Rows:
        self.disturb(jobs)
        return self.trainer.batch(jobs, device, threads)

    def sample(self, job: Job, device: str, threads: int) -> Rows:
        return self.trainer.sample(job, device, threads)

    def failed(self, job: Job, error: str) -> Rows:
        return self.trainer.failed(job, error)


def sweep(
    study: PhaseDiagramStudy,
    store: Store,
    disturb: Disturbance,
    opening: driver.Opening = ray_cluster,
    trainer: Any = FORMULA,
    **options: Any,
) -> driver.Outcome:
    """Runs a sweep: on the Ray that runs in this process, or on one of its own, unless told otherwise."""
    return driver.run(study, store, opening, Progress(), trainer=Disturbed(trainer, disturb), **options)


def sweep_here(
    study: PhaseDiagramStudy, store: Store, disturb: Disturbance, **options: Any
) -> driver.Outcome:
    """Runs a sweep in this process, without Ray."""
    return sweep(study, store, disturb, this_process, **options)


def make_a_mess(study: PhaseDiagramStudy, store: Store) -> None:
    """A folder of six jobs with one that failed, one that failed under an earlier version, some that several files hold, a damaged file,
    and the litter of a process that was killed."""
    trainer, jobs = FORMULA, study.jobs()
    store.publish_runs(trainer.failed(jobs[0], "no such luck"))
    for batch in (jobs[1:3], jobs[2:4], jobs[1:2], jobs[4:5]):
        name = store.publish_runs([row for job in batch for row in trainer.batch([job], "cpu", 1)])
    runs = Path(store.out, "runs")
    flip_bit(runs / name, 100)
    name = store.publish_runs(trainer.failed(jobs[5], "no such luck"))
    (runs / name).rename(runs / store_module._runs_name([jobs[5].job_id], failed=False))
    litter = Path(store.out, ".staging", "litter")
    litter.touch()
    os.utime(litter, (0, 0))


def flip_bit(file: Path, position: int) -> None:
    """Flips a bit of a file, as disks and memory do now and then."""
    content = bytearray(file.read_bytes())
    content[position // 8] ^= 1 << position % 8
    file.write_bytes(content)


def nothing(jobs: Sequence[Job]) -> None:
    """No fault at all."""


@dataclass(frozen=True)
class Pause:
    """Makes every batch last, so that there is something in flight to hit."""

    seconds: float

    def __call__(self, jobs: Sequence[Job]) -> None:
        time.sleep(self.seconds)


@dataclass(frozen=True)
class Hold(Pause):
    """Makes one batch last until a file is there, and so the sweep: it does not end before what is to disturb it has happened, however slow
    the machine is."""

    file: str

    def __call__(self, jobs: Sequence[Job]) -> None:
        super().__call__(jobs)
        while any(map(is_poison, jobs)) and not Path(self.file).exists():
            time.sleep(0.05)


@dataclass(frozen=True)
class Rest:
    """Trains one batch; all others last until a file is there."""

    file: str

    def __call__(self, jobs: Sequence[Job]) -> None:
        try:
            Path(f"{self.file}-begun").touch(exist_ok=False)
        except FileExistsError:
            while not Path(self.file).exists():
                time.sleep(0.05)


@dataclass(frozen=True)
class Careless:
    """Workers that do not notice that their driver was replaced, as if they had looked a moment earlier.

    They train one batch; then those that are in flight when the file "taken" is there; then, with a file "published", nothing more.
    """

    folder: str

    def __call__(self, jobs: Sequence[Job]) -> None:
        worker.holds = lambda store, token: True
        signs = Path(self.folder)
        if "CARELESS" in os.environ:  # of this worker: what it trained before is published
            (signs / "published").touch()
            time.sleep(3600.0)
        try:
            (signs / "first").touch(exist_ok=False)
        except FileExistsError:
            while not (signs / "taken").exists():
                time.sleep(0.05)
            os.environ["CARELESS"] = "yes"


# A driver in a process of its own, to be killed.

_SCRIPT = """
import sys
from faults import sweeps
from phasediag.kinds import open_store
from studies import OPENINGS
{before}
sweeps.sweep(sweeps.study_of({seeds}), open_store(sys.argv[1]), sweeps.{disturb!r}, OPENINGS["{executor}"])
"""


def start_driver(
    out: str,
    disturb: Disturbance,
    seeds: int = 10,
    before: str = "",
    executor: str = "ray",
    **environment: str,
) -> subprocess.Popen[str]:
    """Starts a driver; `before` is Python that it runs first. RAY_ADDRESS="" is a Ray of its own."""
    script = _SCRIPT.format(before=before, seeds=seeds, disturb=disturb, executor=executor)
    return subprocess.Popen(
        [sys.executable, "-c", script, out],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def start_impatient(
    folder: Path, store: Store, held: Path, **environment: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    """`phasediag run` of the study, which does not wait for the storage for long, and rests until the file `held` is there."""
    spec = folder / "spec.toml"
    spec.write_text(SPEC.format(seeds=10))
    script = (
        "from faults import held, sweeps; from phasediag.sweep import sweep; "
        "sweep.STORE_PATIENCE = (0.05, 0.05); held.main(sweeps.FORMULA)"
    )
    command = [sys.executable, "-c", script, str(held), "run", str(spec), "--out", store.out]
    process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)
    return no_longer(process)


_BEATS_LATE = """
from pathlib import Path
from phasediag.sweep import lease
renew = lease.Lease._renew
lease.HEARTBEAT_SECONDS = 0.5
lease.Lease._renew = lambda lease: renew(lease) if Path("{folder}", "published").exists() else None
"""


def race(store: Store, address: str, signs: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Two drivers in one folder, on one cluster, neither of which saw the other as it began, with batches of their own, and workers of
    the first that do not see that it was replaced. Returns how many files held jobs that others held too.

    Args:
        signs: a folder for what one waits for.
    """
    study, repeated = study_of(20), 0
    rewrite, describe = Store._rewrite_without, lease.Lease.describe
    signs.mkdir()

    def count(*arguments: Any) -> Any:
        nonlocal repeated
        repeated += 1
        return rewrite(*arguments)

    def take(*arguments: Any) -> None:
        describe(*arguments)
        (signs / "taken").touch()

    # The same jobs in the same batches would have the same files: those of the second are smaller.
    resources = study.spec.resources.model_copy(update={"cpus_per_task": 0.5})
    second = type(study)(study.spec.model_copy(update={"resources": resources}), study.data, study.source)
    late = _BEATS_LATE.format(folder=signs)
    with no_longer(start_driver(store.out, Careless(str(signs)), 20, late, RAY_ADDRESS=address)) as first:
        wait_for(lambda: len(store.statuses()) > 0)
        with monkeypatch.context() as patch:
            patch.setattr(lease, "check_free", lambda store, known=None: None)
            patch.setattr(driver, "check_free", lambda store: None)
            patch.setattr(Store, "_rewrite_without", count)
            patch.setattr(lease.Lease, "describe", take)
            outcome = sweep(second, store, nothing)
        assert (outcome.finished, outcome.failed) == (120, 0) and outcome.trained > 0
        assert first.wait(timeout=PATIENCE) != 0
        assert first.stderr is not None and "another driver has taken over" in first.stderr.read()
    return repeated


@contextmanager
def another_driver(store: Store, ahead: float = 0.0) -> Iterator[None]:
    """A driver elsewhere that gives signs of life for the duration of a `with` block; its clock may be ahead."""
    ended, record = threading.Event(), {"token": "x", "state": "running", "host": "elsewhere", "pid": 1}

    def live() -> None:
        while not ended.wait(0.2):
            store.write_driver({**record, "heartbeat": time.time() + ahead})

    thread = threading.Thread(target=live)
    thread.start()
    try:
        wait_for(store.read_driver)
        yield
    finally:
        ended.set()
        thread.join()


# What is looked at afterwards.


@dataclass(frozen=True)
class Report:
    """What a fault did to a sweep that came to its end in spite of it.

    Attributes:
        fault: what it was.
        injected: how often it struck.
        jobs: jobs of the sweep.
        lost: rows that are not there.
        duplicated: rows that are there more than once.
        changed: rows that differ from those of an undisturbed run, in anything but time, device and version.
        stray: entries of ``runs/`` that do not belong there.
    """

    fault: str
    injected: int
    jobs: int
    lost: int
    duplicated: int
    changed: int
    stray: int


def report(
    fault: str,
    injected: int,
    study: PhaseDiagramStudy,
    store: Store,
    failed: Collection[str] = (),
    trainer: Any = FORMULA,
) -> Report:
    """Looks at every file of a sweep, and at every value.

    Args:
        failed: ids of the jobs that have to have failed.
        trainer: what the sweep has trained with.
    """
    rows, stray = _rows(store)
    expected = undisturbed(study, frozenset(failed), trainer)
    found = Counter(_key(row) for row in rows)
    changed = sum(not _same(row, expected[_key(row)]) for row in rows if _key(row) in expected)
    return Report(
        fault,
        injected,
        len(study.jobs()),
        lost=len(expected.keys() - found.keys()),
        duplicated=sum(found.values()) - len(found) + len(found.keys() - expected.keys()),
        changed=changed,
        stray=stray,
    )


def check(*args: Any, **options: Any) -> None:
    """Fails the test unless the fault struck and did no harm; notes the `report` in the file that PHASEDIAG_FAULTS names."""
    found = report(*args, **options)
    if path := os.environ.get("PHASEDIAG_FAULTS"):
        with Path(path).open("a") as file:
            file.write(json.dumps(asdict(found)) + "\n")
    assert found.injected > 0, f"{found.fault}: never struck"
    assert (found.lost, found.duplicated, found.changed, found.stray) == (0, 0, 0, 0), found


_NOT_COMPARED = ("wall_seconds", "device", "version", "error")


def undisturbed(
    study: PhaseDiagramStudy, failed: frozenset[str] = frozenset(), trainer: Any = FORMULA
) -> Mapping[tuple[str, str], dict[str, Any]]:
    """The rows of the study by job and layer, each job trained alone; those of the failed jobs without measures."""
    rows: Rows = []
    for job in study.jobs():
        rows += trainer.failed(job, "") if job.job_id in failed else trainer.batch([job], "cpu", 1)
    return {_key(row): row for row in rows}


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["job_id"], row["layer"]


def _same(row: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    return all(_equal(row[name], expected[name]) for name in TABLES.runs.names if name not in _NOT_COMPARED)


def _equal(value: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        return bool(np.isclose(value, expected, rtol=1e-6, atol=0.0, equal_nan=True))
    return bool(value == expected)


def _rows(store: Store) -> tuple[Rows, int]:
    """All rows of all files of ``runs/``, and the number of entries that are no complete Parquet file."""
    filesystem, root = (
        fs.FileSystem.from_uri(store.out) if "://" in store.out else (fs.LocalFileSystem(), store.out)
    )
    rows: Rows = []
    stray = 0
    for info in filesystem.get_file_info(fs.FileSelector(f"{root}/runs")):
        try:
            with filesystem.open_input_file(info.path) as file:
                rows += pq.read_table(file, schema=TABLES.runs.schema).to_pylist()
        except (pa.ArrowException, OSError):
            stray += 1
    return rows, stray
