"""A sweep, whatever runs its tasks: its policy of failures on tasks that are played, and the same sweeps on Ray and in this process.

What the tasks do is replaced by something quick wherever the training itself is not the point.
"""

import functools
import json
import threading
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from studies import OPENINGS, sweep

from phasediag.display.progress import Progress
from phasediag.errors import InputError, PhasediagError
from phasediag.kinds import open_store, parse_spec
from phasediag.phase_diagram.study import PhaseDiagramStudy
from phasediag.phase_diagram.training import failed_rows
from phasediag.spec.data import make_dataset
from phasediag.storage.store import Store
from phasediag.sweep import sweep as sweeping
from phasediag.sweep.executor import Ended, Executor, Place, Trouble
from phasediag.sweep.log import Log
from phasediag.sweep.retries import MAX_FAILURES, MAX_LOSSES, MAX_UNSTORED, Misfortune
from phasediag.sweep.worker import work

SPEC = """
name = "sweep"
kind = "phase-diagram"
network = {{ depth = 2 }}
data = {{ kind = "points", x = [[-1.0], [0.5]], y = [0.5, -0.5] }}
grid = {{ width = [10], gamma = [0.5, 1.0], gamma_prime = [0.0], seeds = {seeds} }}
samples = {{ points = [] }}
resources = {{ {resources} }}
"""


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "out")


@pytest.fixture(params=["local", "ray"])
def opening(request):
    """Both executors."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    return OPENINGS[request.param]


def study(seeds=20, resources=""):
    text = SPEC.format(seeds=seeds, resources=resources)
    data = make_dataset(np.array([[-1.0], [0.5]]), np.array([0.5, -0.5]), "data")
    return PhaseDiagramStudy(parse_spec(text, "sweep.toml"), data, "sweep.toml")


class Quick:
    """Trains nothing: what it makes of a batch is up to the test."""

    def __init__(self, batch):
        self.batch = batch

    def failed(self, job, error):
        return failed_rows(job, error)


def run(study, store, work=None, opening=OPENINGS["local"], **options):
    return sweep(study, store, opening=opening, trainer=Quick(work or succeed), **options)


def succeed(jobs, device, threads):
    return [
        {**row, "status": "converged", "error": "", "relative_change": 1.0}
        for job in jobs
        for row in failed_rows(job, "", device)
    ]


def raise_for_seed_3(jobs, *arguments):
    if any(job.seed == 3 for job in jobs):
        raise ArithmeticError("no such luck")
    return succeed(jobs, *arguments)


def fill_the_card_beyond_three(jobs, *arguments):
    """What torch raises when a GPU is full."""
    import torch

    if len(jobs) > 3:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    return succeed(jobs, *arguments)


def lose_storage_once(store, marker, jobs, *arguments):
    """Puts a file where the folder of rows should be, for a moment."""
    runs = Path(store.out, "runs")
    if not Path(marker).exists():
        Path(marker).touch()
        runs.touch()
        threading.Timer(1.0, runs.unlink).start()
    return succeed(jobs, *arguments)


def block_runs(store, jobs, *arguments):
    Path(store.out, "runs").touch()
    return succeed(jobs, *arguments)


def assert_every_job_once(store, study):
    files = sorted(Path(store.out, "runs").glob("*.parquet"))
    found = [
        (row["job_id"], row["layer"])
        for file in files
        for row in pq.read_table(file, columns=["job_id", "layer"]).to_pylist()
    ]
    assert sorted(found) == sorted((job.job_id, layer) for job in study.jobs() for layer in ("W1", "a"))


# On both executors.


def test_all_jobs_run_once_and_the_lease_ends(store, opening):
    outcome = run(study(), store, opening=opening)
    assert (outcome.total, outcome.finished, outcome.failed, outcome.trained) == (40, 40, 0, 40)
    assert_every_job_once(store, study())
    record = store.read_driver()
    assert (record["state"], record["total"], record["done_at_start"]) == ("finished", 40, 0)
    assert store.exists()
    assert store.read_data()["x"].shape == (2, 1)


def test_a_batch_that_a_gpu_has_no_room_for_is_halved(store, opening):
    outcome = run(study(), store, fill_the_card_beyond_three, opening=opening)
    assert (outcome.finished, outcome.failed) == (40, 0)
    assert_every_job_once(store, study())


def test_it_is_told_while_the_engine_is_compiled_for_each_precision(store, monkeypatch):
    """Networks that stand for wider ones compute in float64, the others in float32: each is compiled when its first batch comes."""
    compiled, lines = set(), []
    monkeypatch.setattr("phasediag.sweep.plan.is_compiled", compiled.__contains__)
    progress = Progress()

    def work(jobs, *arguments):
        precision = "float64" if jobs[0].mass > 1 else "float32"
        lines.append(
            (precision in compiled, f"compiling the {precision} engine (once on this" in progress.line())
        )
        compiled.add(precision)
        return succeed(jobs, *arguments)

    wide = study()
    spec = wide.spec.model_copy(
        update={
            "grid": wide.spec.grid.model_copy(update={"width": (10, 100)}),
            "network": wide.spec.network.model_copy(update={"neurons": 10}),
        }
    )
    run(replace(wide, spec=spec), store, work, progress=progress)
    assert len(lines) > 4 and [line[0] for line in lines].count(False) == 2
    assert all(told != there for there, told in lines)


def test_the_log_has_a_line_per_batch(store, opening, tmp_path):
    file = tmp_path / "log"
    with closing(Log(file)) as log:
        run(study(), store, raise_for_seed_3, opening, log=log)
    with closing(Log(file)) as log:
        run(study(), store, opening=opening, retry_failed=True, log=log)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [event["event"] for event in events].count("start") == 2
    batches = [event for event in events if event["event"] == "batch"]
    assert sum(event["jobs"] for event in batches) == 40
    assert all(event["statuses"] == {"converged": event["jobs"]} for event in batches)
    assert {"time", "seconds", "predicted_seconds", "evaluations", "worker", "job_id"} <= set(batches[0])
    trouble = [event for event in events if event["event"] == "trouble"]
    assert {event["kind"] for event in trouble} == {"raised"}
    assert all("no such luck" in event["error"] for event in trouble)
    assert events[-1]["event"] == "end" and (events[-1]["finished"], events[-1]["failed"]) == (40, 0)


def test_training_itself_and_samples(store, opening):
    here = study(seeds=1)
    samples = here.spec.samples.model_copy(update={"points": ((0.5, 0.0),)})
    here = PhaseDiagramStudy(here.spec.model_copy(update={"samples": samples}), here.data, here.source)
    outcome = sweep(here, store, opening=opening)
    assert (outcome.finished, outcome.failed_samples) == (2, 0)
    assert set(store.runs()["status"]) == {"converged"}
    assert store.sample_ids() == {here.sample_jobs()[0].job_id}


def test_a_job_that_raises_fails_alone_and_is_tried_again_on_request(store, opening):
    outcome = run(study(), store, raise_for_seed_3, opening)
    assert (outcome.finished, outcome.failed) == (38, 2)
    failed = store.runs().query("status == 'failed'")
    assert set(failed["seed"]) == {3}
    assert all("ArithmeticError: no such luck" in error for error in failed["error"])
    assert failed["relative_change"].isna().all()
    assert run(study(), store, opening=opening).failed == 2
    assert run(study(), store, opening=opening, retry_failed=True).failed == 0
    assert_every_job_once(store, study())


def test_a_worker_tries_again_to_store_what_it_has_trained(store, opening, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping, "STORE_PATIENCE", (0.5,) * 1200)
    lose = functools.partial(lose_storage_once, store, tmp_path / "lost")
    outcome = run(study(), store, lose, opening)
    assert (outcome.finished, outcome.failed) == (40, 0)
    assert_every_job_once(store, study())


def test_rows_that_cannot_be_stored_end_the_sweep(store, opening, monkeypatch):
    monkeypatch.setattr(sweeping, "STORE_PATIENCE", (0.01, 0.01))
    with pytest.raises(PhasediagError, match="runs"):
        run(study(), store, functools.partial(block_runs, store), opening)
    assert store.read_driver()["state"] == "failed"


def test_a_sweep_goes_on_from_one_executor_to_the_other_and_back(store, cluster):
    """The rows are those of an undisturbed sweep, each once."""
    order = ["local", "ray", "local"]
    for seeds, name in zip((4, 10, 20), order, strict=True):
        outcome = sweep(study(seeds), store, opening=OPENINGS[name])
        assert (outcome.finished, outcome.total) == (2 * seeds, 2 * seeds)
    assert_every_job_once(store, study())
    undisturbed = open_store(f"{store.out}-undisturbed")
    sweep(study(), undisturbed, opening=OPENINGS["local"])
    columns = [name for name in store.runs().columns if name != "wall_seconds"]
    assert store.runs()[columns].equals(undisturbed.runs()[columns])


# What does not depend on the executor.


def test_storage_that_is_gone_after_the_training_is_not_bad_input(store):
    """Exit 1 rather than 2, also if nothing was left to train."""

    def fit():
        raise InputError("out: cannot be reached")

    for _ in range(2):
        with pytest.raises(PhasediagError, match="cannot be reached") as caught:
            run(study(), store, finish=fit)
        assert not isinstance(caught.value, InputError)
        assert store.read_driver()["state"] == "failed"
    assert_every_job_once(store, study())


def test_running_again_trains_nothing_and_still_calls_finish(store):
    run(study(), store)
    called = []
    outcome = run(study(), store, raise_for_seed_3, finish=lambda: called.append(True))
    assert (outcome.finished, outcome.trained, called) == (40, 0, [True])


def test_a_storage_that_is_gone_in_the_middle_is_no_bad_input(store, monkeypatch):
    monkeypatch.setattr(sweeping, "STORE_PATIENCE", (0.01, 0.01))
    monkeypatch.setattr(Store, "has_runs", lambda *_: (_ for _ in ()).throw(InputError("cannot be reached")))
    with pytest.raises(PhasediagError) as caught:
        run(study(), store, functools.partial(block_runs, store))
    assert not isinstance(caught.value, InputError)


def test_a_damaged_file_is_set_aside_and_its_jobs_are_trained_again(store):
    run(study(), store)
    file = sorted(Path(store.out, "runs").iterdir())[0]
    content = file.read_bytes()
    ids = set(pq.read_table(file)["job_id"].to_pylist())
    file.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    notes = []
    outcome = sweep(study(), store, Noting(notes), opening=OPENINGS["local"], trainer=Quick(succeed))
    assert (outcome.finished, outcome.trained) == (40, len(ids))
    assert_every_job_once(store, study())
    assert [path.name for path in Path(store.out, "damaged").iterdir()] == [file.name]
    assert len(notes) == 1 and file.name in notes[0] and "damaged/" in notes[0]


class Noting(sweeping.Progress):
    """Keeps the notes of a sweep."""

    def __init__(self, notes):
        super().__init__()
        self.note = notes.append


# The policy of failures, on tasks that are played.


class Played(Executor):
    """Runs tasks in this process, but for those that `befall` meets with a misfortune instead."""

    def __init__(self, befall, slots=2):
        self.befall, self._slots, self._numbers = befall, slots, count()
        self.waiting, self.handed_out, self.flying_beside = [], [], []
        self.stopped = False

    def slots(self):
        return self._slots

    def share(self, shared):
        self.shared = shared

    def submit(self, batch, place=Place.ANYWHERE):
        number = next(self._numbers)
        if place is Place.ALONE:
            self.flying_beside.append(len(self.waiting))
        self.waiting.append((number, batch))
        self.handed_out.append((batch, place))
        return number

    def wait(self, seconds):
        number, batch = self.waiting.pop()  # in no order that the sweep could count on
        trouble = self.befall(batch)
        return [Ended(number, trouble or work(batch, self.shared))]

    def stop(self):
        self.stopped = True


def played(store, befall, **options):
    """A sweep on an executor of which `befall` makes the misfortunes, and the executor."""
    executor = Played(befall)

    @contextmanager
    def opening(study, progress):
        yield executor

    return sweep(study(), store, opening=opening, trainer=Quick(succeed), **options), executor


def poisonous(batch):
    return any(job.seed == 3 for job in batch.jobs)


@pytest.mark.parametrize(
    ("misfortune", "tries", "alone"),
    [(Misfortune.DIED, MAX_FAILURES + 1, True), (Misfortune.STUCK, 2, False)],
)
def test_jobs_that_take_their_worker_with_them_fail_alone(store, misfortune, tries, alone):
    """Whatever else was in their batch is run without them; where memory may be short, each has a last try with nothing beside it."""
    outcome, executor = played(
        store, lambda batch: Trouble(misfortune, "the end") if poisonous(batch) else None
    )
    assert (outcome.finished, outcome.failed) == (38, 2)
    failed = store.runs().query("status == 'failed'")
    assert set(failed["seed"]) == {3} and set(failed["error"]) == {"the end"}
    single = Counter(batch.jobs[0].job_id for batch, _ in executor.handed_out if len(batch.jobs) == 1)
    poisoned = [job.job_id for job in study().jobs() if job.seed == 3]
    assert all(2 <= single[job_id] <= tries for job_id in poisoned)
    assert executor.flying_beside == ([0, 0] if alone else [])
    assert_every_job_once(store, study())


def test_a_cluster_that_loses_tasks_costs_no_job_its_row(store):
    lost = Counter()

    def befall(batch):
        lost[batch] += 1
        return Trouble(Misfortune.LOST, "the node is gone") if lost[batch] < MAX_LOSSES else None

    outcome, _ = played(store, befall)
    assert (outcome.finished, outcome.failed) == (40, 0)
    assert set(lost.values()) == {MAX_LOSSES}


def test_what_is_always_lost_is_given_up(store):
    outcome, executor = played(
        store, lambda batch: Trouble(Misfortune.LOST, "the node is gone") if poisonous(batch) else None
    )
    assert outcome.failed > 0 and outcome.finished == 40 - outcome.failed
    assert max(Counter(batch for batch, _ in executor.handed_out).values()) == MAX_LOSSES
    assert_every_job_once(store, study())


def test_rows_that_one_node_cannot_store_are_stored_elsewhere(store):
    unstored = Counter()

    def befall(batch):
        unstored[batch] += poisonous(batch)
        return Trouble(Misfortune.UNSTORED, "no such folder") if unstored[batch] == 1 else None

    outcome, executor = played(store, befall)
    assert (outcome.finished, outcome.failed) == (40, 0)
    elsewhere = [batch for batch, place in executor.handed_out if place is Place.ELSEWHERE]
    assert elsewhere and all(map(poisonous, elsewhere))


def test_a_sweep_that_can_store_nothing_ends_and_stops_its_tasks(store):
    executors = []

    def befall(batch):
        executors.append(batch)
        return Trouble(Misfortune.UNSTORED, "no such folder")

    with pytest.raises(PhasediagError, match="no such folder"):
        played(store, befall)
    assert max(Counter(executors).values()) == MAX_UNSTORED


def test_rows_that_a_dying_worker_has_published_are_taken(store):
    """A worker may publish and die before its receipt arrives."""
    published = []

    def befall(batch):
        if batch.jobs[0].job_id not in published and not published:
            published.append(batch.jobs[0].job_id)
            store.publish_runs(succeed(batch.jobs, "cpu", 1))
            return Trouble(Misfortune.DIED, "the worker died")
        return None

    outcome, executor = played(store, befall)
    assert (outcome.finished, outcome.failed) == (40, 0)
    assert sum(batch.jobs[0].job_id == published[0] for batch, _ in executor.handed_out) == 1
    assert_every_job_once(store, study())


def test_an_interrupted_sweep_stops_its_tasks_and_says_so(store):
    executor = Played(lambda batch: None)

    @contextmanager
    def opening(study, progress):
        yield executor

    class Interrupting(sweeping.Progress):
        def advance(self, jobs, failed, cost):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(study(), store, Interrupting(), opening=opening, trainer=Quick(succeed))
    assert executor.stopped
    assert store.read_driver()["state"] == "interrupted"
