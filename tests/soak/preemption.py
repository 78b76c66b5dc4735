"""A sweep of minutes on three nodes that are taken away one after the other, beside an undisturbed one: python tests/soak/preemption.py

Real training, by gradient descent in steps so small that it takes its time. Each node that is killed is replaced.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))
import conftest  # noqa: E402, F401  (the token, and the path of the workers)
import pandas as pd  # noqa: E402
import ray  # noqa: E402
from faults.test_nodes import DEATH  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from phasediag.display.progress import Progress  # noqa: E402
from phasediag.kinds import open_store, read_study  # noqa: E402
from phasediag.studies import Study  # noqa: E402
from phasediag.sweep import sweep as driver  # noqa: E402
from phasediag.sweep.log import Log  # noqa: E402
from phasediag.sweep.ray_cluster import ray_cluster  # noqa: E402

SPEC = """
name = "preemption"
kind = "phase-diagram"
network = {{ depth = 2 }}
data = {{ kind = "points", x = [[-1.0], [-0.35], [0.3], [1.0]], y = [0.6, -0.4, 0.5, -0.2] }}
grid = {{ width = [200, 400], gamma = [0.5, 1.0, 1.5], gamma_prime = [0.0, 0.5], seeds = {seeds} }}
train = {{ method = "gd", learning_rate = 1e-3, max_evaluations = 40000 }}
samples = {{ points = [] }}
"""
NOT_COMPARED = ["wall_seconds", "device", "version"]


@contextmanager
def three_nodes() -> Iterator[tuple[Cluster, list[object]]]:
    head = {"num_cpus": 0, "_system_config": DEATH, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield cluster, nodes
    finally:
        ray.shutdown()
        cluster.shutdown()


def run(study: Study, out: Path, kills: int, seconds: float) -> tuple[pd.DataFrame, float]:
    """A sweep during which so many nodes are killed, one every so many seconds; its rows, and how long it took."""
    store, log_file = open_store(out), out.with_suffix(".log")
    with three_nodes() as (cluster, nodes), ThreadPoolExecutor(1) as pool, closing(Log(log_file)) as log:
        started = time.monotonic()
        sweep: Future[driver.Outcome] = pool.submit(
            driver.run, study, store, ray_cluster, Progress(), log=log
        )
        for number in range(kills):
            time.sleep(seconds)
            done = len(store.statuses())
            if sweep.done():
                raise SystemExit(f"the sweep ended after {number} kills: make it longer with --seeds")
            cluster.remove_node(nodes.pop(0), allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1))
            at = time.monotonic() - started
            print(
                f"{at:6.0f} s: node killed and replaced, {done} of {len(study.jobs())} jobs done", flush=True
            )
        outcome = sweep.result()
        took = time.monotonic() - started
    lost = [json.loads(line) for line in log_file.read_text().splitlines() if '"trouble"' in line]
    print(
        f"{took:6.0f} s: {outcome.finished} of {outcome.total} jobs finished, {outcome.failed} failed; "
        f"{len(lost)} batches in flight were lost and run again"
    )
    return pd.read_parquet(out / "runs"), took


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="between kills")
    parser.add_argument("--seeds", type=int, default=50, help="twelve jobs each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pd-") as folder:
        spec = Path(folder, "spec.toml")
        spec.write_text(SPEC.format(seeds=arguments.seeds))
        study, key = read_study(spec), ["job_id", "layer"]
        print("disturbed:")
        disturbed, _ = run(study, Path(folder, "disturbed"), arguments.kills, arguments.seconds)
        print("undisturbed:")
        undisturbed, _ = run(study, Path(folder, "undisturbed"), 0, 0.0)
    print(f"rows: {len(disturbed)} and {len(undisturbed)}; repeated: {int(disturbed.duplicated(key).sum())}")
    first, second = (
        runs.drop(columns=NOT_COMPARED).sort_values(key, ignore_index=True)
        for runs in (disturbed, undisturbed)
    )
    equal = first.equals(second)
    print(f"equal in every column but {', '.join(NOT_COMPARED)}, to the last bit: {equal}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
