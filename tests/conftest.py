"""Common to all tests: a token for the clusters they start, lest Ray writes one to the home directory; workers find the tests."""

import os
from pathlib import Path

import pytest

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `pytest -n`, a process takes a file at a time. Faults stay in one process: they start clusters at ports of their own. Pages of
    the documentation that build on no other are taken one by one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            if "faults/" in file:
                return "clusters"
            return nodeid if test.startswith("test_a_page_by_itself[") else file

    return ByFile(config, log)
