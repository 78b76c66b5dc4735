"""Nodes that die or are drained under a sweep, and one that runs out of memory."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from free_ports import free_port
from ray.cluster_utils import Cluster
from waiting import wait_for

from faults import sweeps
from phasediag.errors import InputError
from phasediag.kinds import open_store
from phasediag.phase_diagram.jobs import Job
from phasediag.storage.store import Store
from phasediag.sweep import ray_cluster

GIB = 2**30
DEATH = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}


@pytest.fixture
def start() -> Iterator[Callable[..., Cluster]]:
    """Starts a cluster whose head runs no tasks, with these settings of Ray's."""
    found: list[Cluster] = []

    def start(**settings: Any) -> Cluster:
        head = {"num_cpus": 0, "_system_config": settings, "include_dashboard": False}
        found.append(Cluster(initialize_head=True, head_node_args=head))
        ray.init(address=found[0].address, log_to_driver=False)
        return found[0]

    yield start
    ray.shutdown()
    for cluster in found:
        cluster.shutdown()


@dataclass(frozen=True)
class NoteNode:
    """Writes down when a batch began, and on which node; one batch lasts until a file is there."""

    folder: Path
    hold: sweeps.Hold

    def __call__(self, jobs: Sequence[Job]) -> None:
        node = ray.get_runtime_context().get_node_id()
        held = "held" if any(map(sweeps.is_poison, jobs)) else "free"
        (self.folder / f"{time.time():.3f}-{held}-{node}").touch()
        self.hold(jobs)


def nodes_of(folder: Path, held: bool = False) -> list[str]:
    """The nodes on which batches began, in their order; with `held`, those of the batch that lasts."""
    begun = sorted(path.name.split("-") for path in folder.iterdir())
    return [node for _, which, node in begun if which == "held" or not held]


def test_nodes_that_are_killed_and_replaced_cost_no_row(
    start: Callable[..., Cluster], store: Store, tmp_path: Path
) -> None:
    """Always the one on which a certain batch runs."""
    cluster, study, kills = start(**DEATH), sweeps.study_of(), 3
    begun, killed = tmp_path / "begun", tmp_path / "killed"
    begun.mkdir()
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    with ThreadPoolExecutor(1) as pool:  # Ray starts nodes in the main thread only
        sweep = pool.submit(sweeps.sweep, study, store, NoteNode(begun, sweeps.Hold(0.5, str(killed))))
        for number in range(1, kills + 1):
            wait_for(lambda number=number: sweep.done() or len(nodes_of(begun, held=True)) == number)  # type: ignore[misc]
            assert not sweep.done()
            [doomed] = [node for node in nodes if node.node_id == nodes_of(begun, held=True)[-1]]
            nodes.remove(doomed)
            cluster.remove_node(doomed, allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1))
        killed.touch()
        outcome = sweep.result()
    assert (outcome.finished, outcome.failed) == (60, 0)
    sweeps.check("a node is killed and replaced", kills, study, store)


@pytest.mark.slow
def test_a_node_that_drains_gets_no_new_tasks_and_loses_none(
    start: Callable[..., Cluster], store: Store, tmp_path: Path
) -> None:
    cluster, study, folder = start(**DEATH), sweeps.study_of(), tmp_path / "begun"
    folder.mkdir()
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    with ThreadPoolExecutor(1) as pool:
        disturb = NoteNode(folder, sweeps.Hold(0.8, str(tmp_path / "drained")))
        sweep = pool.submit(sweeps.sweep, study, store, disturb)
        draining = nodes[0].node_id
        wait_for(lambda: len(nodes_of(folder)) >= 4 and draining in nodes_of(folder))
        drain(cluster.address, draining)
        before = nodes_of(folder)
        (tmp_path / "drained").touch()
        outcome = sweep.result()
    after = nodes_of(folder)[len(before) :]
    assert after.count(draining) <= 1  # a task was on its way there
    assert len(after) >= 6  # and others would have been
    assert (outcome.finished, outcome.failed) == (60, 0)
    sweeps.check("a node drains", 1, study, store)


def drain(address: str, node_id: str) -> None:
    """What an autoscaler asks for before it takes a node away (`ray drain-node` does it so)."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = int(1000 * (time.time() + 600))
    accepted, why = GcsClient(address=address).drain_node(node_id, reason, "preempted", deadline)
    assert accepted, why


@dataclass(frozen=True)
class Devours:
    """The poison job takes memory until it is stopped; its neighbours are innocent."""

    most: int

    def __call__(self, jobs: Sequence[Job]) -> None:
        if not any(map(sweeps.is_poison, jobs)):
            time.sleep(0.3)
            return
        taken = []
        for _ in range(self.most // (GIB // 8)):
            taken.append(b"x" * (GIB // 8))
            time.sleep(0.1)
        raise AssertionError("nobody has stopped it")


@contextmanager
def blind_node(address: str, folder: Path) -> Iterator[None]:
    """A node of one CPU that sees an empty disk where the others see the folder, for the duration of a `with` block."""
    folder.mkdir()
    join = f"-m ray.scripts.scripts start --address={address} --dashboard-agent-listen-port={free_port()} --num-cpus=1 --block"
    mounts = f"mount -t tmpfs tmpfs '{folder}' && exec '{sys.executable}' {join}"
    command = ["unshare", "--mount", "sh", "-c"]
    try:
        allowed = subprocess.run(
            [*command, f"mount -t tmpfs tmpfs '{folder}'"], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("needs `unshare`")
    if allowed.returncode:
        pytest.skip("needs the right to mount a disk")
    with subprocess.Popen([*command, mounts], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as node:
        try:
            yield
        finally:
            node.terminate()


@pytest.mark.slow
def test_a_node_that_does_not_see_the_folder_costs_no_row(
    start: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster, study = start(**DEATH), sweeps.study_of()
    cluster.add_node(num_cpus=1)
    store, begun = open_store(tmp_path / "shared" / "out"), tmp_path / "begun"
    begun.mkdir()
    with blind_node(cluster.address, tmp_path / "shared"):
        wait_for(lambda: len(ray_cluster._nodes()) == 3)
        outcome = sweeps.sweep(study, store, NoteNode(begun, sweeps.Hold(0.8, str(begun))))
        blind = set(nodes_of(begun)) - {node.node_id for node in cluster.list_all_nodes()}
    assert (outcome.finished, outcome.failed) == (60, 0)
    assert len(blind) == 1
    in_vain = nodes_of(begun).count(*blind)
    sweeps.check("a node does not see the folder", in_vain, study, store)


@contextmanager
def growth_of_others() -> Iterator[Callable[[], int]]:
    """Tells how much more memory processes that are not ours had, at most, than at the beginning of a `with` block."""
    ended, grown, me = threading.Event(), [0], psutil.Process()

    def others() -> int:
        taken = psutil.virtual_memory().total - psutil.virtual_memory().available
        for process in [me, *me.children(recursive=True)]:
            with suppress(psutil.Error):
                taken -= process.memory_info().rss - process.memory_info().shared
        return taken

    def watch(before: int) -> None:
        while not ended.wait(0.2):
            grown[0] = max(grown[0], others() - before)

    thread = threading.Thread(target=watch, args=(others(),))
    thread.start()
    try:
        yield lambda: grown[0]
    finally:
        ended.set()
        thread.join()


@pytest.mark.slow
def test_a_job_that_takes_all_memory_fails_alone(start: Callable[..., Cluster], store: Store) -> None:
    memory = psutil.virtual_memory()
    if memory.available < 6 * GIB:
        pytest.skip("needs 6 GiB of free memory")
    threshold = (memory.total - memory.available + 2 * GIB) / memory.total
    cluster, study = start(memory_usage_threshold=threshold, memory_monitor_refresh_ms=200), sweeps.study_of()
    cluster.add_node(num_cpus=2)
    with growth_of_others() as growth:
        outcome = sweeps.sweep(study, store, Devours(5 * GIB))
    poison = sweeps.poisoned(study)
    if set(outcome.failed_ids) != poison and growth() > GIB:
        pytest.skip("others took memory meanwhile, which Ray counts as well")
    assert (outcome.finished, set(outcome.failed_ids)) == (59, poison)
    [error] = set(store.runs().query("status == 'failed'")["error"])
    assert "ran out of memory" in error
    sweeps.check("a job takes all memory (Ray's monitor)", 1, study, store, failed=poison)


def test_a_cluster_without_nodes_is_asked_for_one_and_waited_for_but_not_without_end(
    start: Callable[..., Cluster], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, study = start(), sweeps.study_of(1)
    with monkeypatch.context() as patch:
        patch.setattr(ray_cluster, "NODE_SECONDS", 1.0)
        with pytest.raises(InputError, match="cpus_per_task: 1 is more than any node has"):
            sweeps.sweep(study, store, sweeps.nothing)
    assert not Path(store.out).exists()
    asked: list[list[dict[str, float]]] = []
    monkeypatch.setattr(ray_cluster, "request_resources", lambda bundles: asked.append(bundles))
    with ThreadPoolExecutor(1) as pool:
        sweep = pool.submit(sweeps.sweep, study, store, sweeps.nothing)
        wait_for(lambda: asked)
        assert not sweep.done() and not Path(store.out).exists()
        cluster.add_node(num_cpus=1)
        assert sweep.result().finished == 6
    assert asked == [[{"CPU": 1.0}], []]
    sweeps.check("a cluster without nodes", 1, study, store)
