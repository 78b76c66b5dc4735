"""Sweeps under a random mixture of faults, for minutes: python tests/soak [--seed N] [--minutes M]

A cluster of three nodes, and drivers in processes of their own, one after the other, into a folder or a bucket. Every few seconds something
happens, drawn by the seed: a worker, a node, the driver or the whole cluster is killed, a node drains, the driver is stopped for a
while, the bucket errs, and any batch may raise or crash its worker. What a sweep leaves is looked at row by row.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))
import conftest  # noqa: E402, F401  (the token, and the path of the workers)
from faults import sweeps  # noqa: E402
from faults.buckets import Server, make_bucket  # noqa: E402
from faults.test_nodes import DEATH, drain  # noqa: E402
from faults.test_workers import kill_one  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from phasediag.kinds import open_store  # noqa: E402
from soak.driver import SEEDS  # noqa: E402

NODES = 3
MAX_EXITS = 30
"""Drivers that may end by themselves, as they have to when their cluster or their bucket is gone for too long."""


class Soak:
    """The cluster, the driver, and what befalls them."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.choice, self.folder = random.Random(seed), folder
        self.signs = folder / "at-work"
        self.signs.mkdir()
        self.events: Counter[str] = Counter()
        self.exits: Counter[str] = Counter()
        self.server = Server()
        os.environ.update(self.server.environment())
        make_bucket()
        self.start_cluster()

    def start_cluster(self) -> None:
        head = {"num_cpus": 0, "_system_config": DEATH, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(NODES)]

    def start_driver(self, out: str) -> None:
        self.driver = subprocess.Popen(
            [sys.executable, "-m", "soak.driver", out, str(self.signs)],
            env={
                **os.environ,
                "RAY_ADDRESS": self.cluster.address,
                "RAY_gcs_rpc_server_reconnect_timeout_s": "3",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    # What may happen.

    def worker_is_killed(self) -> bool:
        return kill_one(self.signs, self.choice)

    def node_is_killed(self) -> bool:
        self.cluster.remove_node(self.nodes.pop(self.choice.randrange(NODES)), allow_graceful=False)
        self.nodes.append(self.cluster.add_node(num_cpus=1))
        return True

    def node_drains(self) -> bool:
        leaving = self.nodes.pop(self.choice.randrange(NODES))
        drain(self.cluster.address, leaving.node_id)
        self.nodes.append(self.cluster.add_node(num_cpus=1))
        time.sleep(3.0)
        self.cluster.remove_node(leaving, allow_graceful=False)
        return True

    def driver_is_killed(self) -> bool:
        self.driver.kill()
        self.driver.wait()
        self.exits["driver ended with -9"] -= 1  # as it will be counted, though it was us
        return True

    def driver_sleeps(self) -> bool:
        with suppress(ProcessLookupError):
            self.driver.send_signal(signal.SIGSTOP)
            time.sleep(self.choice.uniform(1.0, 8.0))
            self.driver.send_signal(signal.SIGCONT)
        return True

    def cluster_is_killed(self) -> bool:
        self.cluster.shutdown()
        self.driver.wait(timeout=120)
        self.start_cluster()
        return True

    def bucket_fails(self) -> bool:
        self.server.fault = self.choice.choice(["error", "drop"])
        time.sleep(2.0)
        self.server.fault = ""
        return True

    def bucket_restarts(self) -> bool:
        self.server.stop()
        time.sleep(2.0)
        self.server.start()
        return True

    def happen(self, bucket: bool) -> None:
        """One thing, drawn by the seed."""
        weights = {
            self.worker_is_killed: 6,
            self.node_is_killed: 4,
            self.node_drains: 2,
            self.driver_is_killed: 3,
            self.driver_sleeps: 2,
            self.cluster_is_killed: 1,
        }
        if bucket:
            weights |= {self.bucket_fails: 4, self.bucket_restarts: 2}
        event = self.choice.choices(list(weights), list(weights.values()))[0]
        if event():
            self.events[event.__name__.replace("_", " ")] += 1

    def sweep(self, number: int) -> sweeps.Report:
        """One sweep from beginning to end, in spite of all."""
        bucket = bool(number % 2)
        out = f"s3://bucket/{number}" if bucket else str(self.folder / str(number))
        before = sum(self.events.values())
        self.start_driver(out)
        while True:
            time.sleep(self.choice.uniform(1.0, 5.0))
            if self.driver.poll() == 0:
                break
            if (code := self.driver.poll()) is not None:
                self.exits[f"driver ended with {code}"] += 1
                if sum(self.exits.values()) > MAX_EXITS:
                    raise SystemExit(f"drivers end again and again: {dict(self.exits)}")
                self.start_driver(out)
                continue
            self.happen(bucket)
        study, store = sweeps.study_of(SEEDS), open_store(out)
        injected = sum(self.events.values()) - before
        return sweeps.report("bucket" if bucket else "folder", injected, study, store)

    def close(self) -> None:
        self.cluster.shutdown()
        self.server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--minutes", type=float, default=5.0, help="no sweep begins after that")
    arguments = parser.parse_args()
    end, harm, number = time.monotonic() + 60 * arguments.minutes, 0, 0
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
        soak = Soak(arguments.seed, Path(folder))
        print(
            "| sweep | into | faults | jobs | rows lost | duplicated | changed | stray |\n" + "|---" * 8 + "|"
        )
        while time.monotonic() < end:
            found = soak.sweep(number)
            number += 1
            losses = (found.lost, found.duplicated, found.changed, found.stray)
            harm += sum(losses)
            print(
                "|",
                " | ".join(map(str, (number, found.fault, found.injected, found.jobs, *losses))),
                "|",
                flush=True,
            )
        soak.close()
    events = ", ".join(f"{name} {times}" for name, times in sorted(soak.events.items()))
    exits = ", ".join(f"{name}: {times}" for name, times in sorted(soak.exits.items()) if times)
    print(f"\nby themselves, and started again: {exits or 'none'}")
    print(
        f"\nseed {arguments.seed}: {number} sweeps, {sum(soak.events.values())} faults ({events}); harm: {harm}"
    )
    return 1 if harm else 0


if __name__ == "__main__":
    sys.exit(main())
