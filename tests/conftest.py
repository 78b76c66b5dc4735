"""Common to all tests: a token for the clusters they start, lest Ray writes one to the home directory; workers find the tests."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

os.environ.setdefault("RAY_AUTH_TOKEN", "b" * 64)
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
)


def pytest_sessionstart(session):
    """With `pytest -n`, compiles the engine once for all processes that are about to need it, each precision on a core of its own."""
    if session.config.getoption("numprocesses", None) and not hasattr(session.config, "workerinput"):
        command = [sys.executable, str(Path(__file__).parent / "warm.py")]
        for compiling in [subprocess.Popen([*command, precision]) for precision in ("float32", "float64")]:
            assert compiling.wait() == 0


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


ALONE = ("faults/test_nodes.py", "faults/test_launcher.py", "faults/test_slurm.py")
"""Files whose tests share nothing."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `pytest -n`, a process takes a file at a time, or a test where a file has tests that share nothing: faults that start
    a cluster of their own, and pages of the documentation that build on no other.

    Clusters of several processes do not disturb each other: their ports are free ones (`free_ports.py`), each has a folder of its own, and
    none is stopped but by its own process.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            alone = file.endswith(ALONE) or test.startswith("test_a_page_by_itself[")
            return nodeid if alone else file

    return ByFile(config, log)
