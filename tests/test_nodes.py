"""Nodes that die under a sweep: a cluster of three, each of which is killed while tasks run on it, and replaced."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray
import test_driver
from ray.cluster_utils import Cluster
from waiting import wait_for

from phasediag.store import Store

KILLS = 3


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    settings = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    found = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "_system_config": settings, "include_dashboard": False},
    )
    try:
        ray.init(address=found.address, log_to_driver=False)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def test_nodes_that_are_killed_and_replaced_cost_no_row(cluster: Cluster, tmp_path: Any) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    store, study = Store(tmp_path / "out"), test_driver.study(seeds=40)
    with ThreadPoolExecutor(1) as pool:  # Ray starts nodes in the main thread only
        sweep = pool.submit(test_driver.run, study, store, test_driver.very_slowly)
        for _ in range(KILLS):
            before = len(store.statuses())
            wait_for(lambda before=before: sweep.done() or len(store.statuses()) > before)
            assert not sweep.done()
            cluster.remove_node(nodes.pop(0), allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1))
        outcome = sweep.result()
    assert (outcome.finished, outcome.failed) == (80, 0)
    test_driver.assert_every_job_once(store, study)
    undisturbed = test_driver.succeed(study.jobs(), "cpu", 1)
    columns = ["job_id", "layer", "relative_change", "status"]
    found = sorted(store.runs()[columns].itertuples(index=False, name=None))
    assert found == sorted(tuple(row[name] for name in columns) for row in undisturbed)
