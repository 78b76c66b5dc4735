"""Ray for the sweeps that are disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from phasediag.kinds import open_store
from phasediag.storage.store import Store


@pytest.fixture(scope="module")
def two_cores() -> Iterator[str]:
    """A local Ray; its address."""
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "out")
