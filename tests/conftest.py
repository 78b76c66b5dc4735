"""Common to all tests: a token for the clusters they start, lest Ray writes one to the home directory; workers find the tests."""

import os
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
    """With `pytest -n`, a process takes a file at a time, or a test of those that each start a cluster of their own.

    Clusters of several processes do not disturb each other: their ports are free ones (`free_ports.py`), each has a folder of its own, and
    none is stopped but by its own process.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return nodeid if file.endswith(ALONE) else file

    return ByFile(config, log)
