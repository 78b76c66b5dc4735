"""Common to all tests: a token for the clusters they start, lest Ray writes one to the home directory; workers find the tests."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
from heads import dashboard as dashboard

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# At the usual thresholds, the garbage collector takes a tenth of the time.
gc.set_threshold(100_000, 50, 100)

# Threads of linear algebra that wait for each other, in processes that share the cores, take a tenth of the time.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_TOKEN", "b" * 64)
os.environ.setdefault("RAY_AUTH_MODE", "token")
# Ray's workers are nice (15) to whatever else runs; beside a busy process on each core, that makes minutes of seconds.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
)


def pytest_sessionstart(session):
    """With `pytest -n`, compiles the engine once for all processes that are about to need it, each precision on a core of its own."""
    if session.config.getoption("numprocesses", None) and not hasattr(session.config, "workerinput"):
        command = [sys.executable, str(Path(__file__).parent / "warm.py")]
        for compiling in [subprocess.Popen([*command, precision]) for precision in ("float32", "float64")]:
            assert compiling.wait() == 0


def pytest_collection_finish(session):
    """What was imported stays: the garbage collector need not go over it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def one_thread():
    """As in training: operations of small networks only wait for further threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cluster():
    """A local Ray with two cores and one GPU that does not exist."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
    )
    yield
    ray.shutdown()


FIRST = ("test_docs.py", "faults/", "test_cli.py", "test_ray_cluster.py", "test_security.py", "test_kinds.py")
"""Files that take longest: the others fill what time is left at the end."""
ALONE = ("faults/test_nodes.py", "faults/test_launcher.py", "faults/test_slurm.py")
"""Files whose tests share nothing."""


def pytest_collection_modifyitems(items):
    """Files in the order in which they begin."""

    def rank(item):
        name = item.nodeid.removeprefix("tests/")
        return next((rank for rank, first in enumerate(FIRST) if name.startswith(first)), len(FIRST))

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `pytest -n`, a process takes a file at a time; or a test where a file has tests that share nothing: faults that start
    a cluster of their own, and pages of the documentation that build on no other; or all tests that share a dashboard.

    Clusters of several processes do not disturb each other: their ports are free ones (`free_ports.py`), each has a folder of its own, and
    none is stopped but by its own process.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            if test.startswith("test_the_readme_and_what_builds_on_it[") or file.endswith(
                "faults/test_clusters.py"
            ):
                return "dashboard"
            alone = file.endswith(ALONE) or test.startswith("test_a_page_by_itself[")
            return nodeid if alone else file

    config.option.loadscopereorder = False  # which would begin with the files of most tests
    return ByFile(config, log)
