"""A private Ray takes nothing from what surrounds it, and whatever keeps a Ray from starting is one message."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from free_ports import free_port
from waiting import PATIENCE

from phasediag import devices
from phasediag.display.progress import Progress
from phasediag.errors import InputError
from phasediag.sweep import ray_cluster

FOREIGN = {
    "RAY_REDIS_ADDRESS": "10.0.0.1:6379",
    "RAY_RUNTIME_ENV_HOOK": "somewhere.hook",
    "RAY_JOB_ID": "01000000",
    "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}",
    "RAY_NAMESPACE": "another",
    "RAY_CLIENT_MODE": "1",
    "PYTHONWARNINGS": "error",
}
OWN = {
    "RAY_memory_usage_threshold": "0.9",
    "RAY_TMPDIR": "/tmp/x",
    "RAY_AUTH_MODE": "token",
    "RAY_USE_TLS": "0",
}


def test_a_private_ray_knows_nothing_of_other_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (FOREIGN | OWN).items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with ray_cluster._environment(local=True):
        assert not FOREIGN.keys() & os.environ.keys()
        assert {name: os.environ[name] for name in OWN} == OWN
    assert dict(os.environ) == before
    with ray_cluster._environment(local=False):
        assert {name: os.environ[name] for name in FOREIGN} == FOREIGN
    assert dict(os.environ) == before


def test_its_sockets_have_short_names_whatever_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    long = tmp_path / "net/site/people/someuser/slurm_jobdir/1355700/tmp.t0016"
    long.mkdir(parents=True)
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.setenv(name, str(long))
        found = ray_cluster._folder_of_its_own()
        assert len(f"{found}/session_2026-11-28_10-00-00_123456_1234567/sockets/plasma_store") <= 107
        assert found.startswith(("/tmp/", "/var/tmp/"))


def test_a_folder_of_somebody_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "ray" and access(path, mode))
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name == "ray" or exists(path))
    assert ray_cluster._folder_of_its_own() == f"/tmp/ray-{os.getuid()}"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"RAY_TMPDIR, TMPDIR: .*; allowed: a writable folder"):
        ray_cluster._folder_of_its_own()


def start(address: str = "local") -> None:
    ray_cluster._start_ray(address, Progress())


def raising(error: BaseException) -> Callable[..., Any]:
    def init(**options: Any) -> None:
        raise error

    return init


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(12, "Cannot allocate memory"), "Cannot allocate memory; it needs some GB of memory"),
        (Exception("The current node timed out during startup"), "timed out during startup; --local trains"),
        (RuntimeError("can't start new thread"), "can't start new thread; --local trains"),
        (MemoryError(), "MemoryError; it needs some GB"),
        (AssertionError(), "AssertionError; --local"),
    ],
)
def test_whatever_it_raises_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    monkeypatch.setattr(ray, "init", raising(error))
    with pytest.raises(InputError) as caught:
        start()
    assert str(caught.value).startswith("a local Ray could not be started: ") and words in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"RAY_ADDRESS: host:1 cannot be joined: .*; allowed: HOST:PORT"):
        start("host:1")


def test_being_ended_while_it_starts_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", raising(SystemExit(1)))
    with pytest.raises(KeyboardInterrupt):
        start()


def test_one_that_takes_too_long_is_told_of_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        while True:  # as Ray does
            try:
                time.sleep(60.0)
            except Exception:
                continue

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray_cluster, "START_SECONDS", 1.0)
    monkeypatch.setattr(ray_cluster, "_SLOW_SECONDS", 0.2)
    progress, threads = Progress(), threading.active_count()
    with pytest.raises(
        InputError, match=r"^a local Ray could not be started: not there after 1 s; try again, or "
    ):
        ray_cluster._start_ray("local", progress)
    assert (
        progress.line().startswith("starting Ray, which is slow here (")
        and "session_latest/logs" in progress.line()
    )
    assert threading.active_count() == threads


STUCK = """
import ctypes, sys
import ray
from phasediag.display.progress import Progress
from phasediag.sweep import ray_cluster

def init(**options):
    mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex)
    lock(mutex)  # for ever: signals reach Python only after it

ray.init = init
ray_cluster.START_SECONDS, ray_cluster._GRACE_SECONDS = 0.3, 0.5
ray_cluster._start_ray("local", Progress())
"""


def test_one_that_hangs_beyond_the_reach_of_signals_is_given_up_too() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    message = "error: a local Ray could not be started: not there after 0 s; try again, or train without it: --local\n"
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.parametrize(("address", "by_uv"), [("local", False), ("10.0.0.1:6379", True)])
def test_its_workers_have_the_interpreter_of_the_driver(
    monkeypatch: pytest.MonkeyPatch, address: str, by_uv: bool
) -> None:
    """Under `uv run`. A cluster that is joined does as its users know it."""
    constants, seen = ray._private.ray_constants, []
    monkeypatch.setattr(constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", True)
    monkeypatch.setattr(ray, "init", lambda **options: seen.append(constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV))
    start(address)
    assert seen == [by_uv] and constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV


@pytest.mark.parametrize("noted", ["127.0.0.1:{port}", "127.0.0.1:{port}\n"])
def test_a_cluster_that_is_gone_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: str
) -> None:
    """RAY_ADDRESS=auto, and what a `ray start` before the last reboot has left."""
    (tmp_path / "ray").mkdir()
    port = free_port()
    (tmp_path / "ray" / "ray_current_cluster").write_text(noted.format(port=port))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(
        InputError, match=rf"nothing answers at 127\.0\.0\.1:{port}, where 'ray start' was last run"
    ):
        ray_cluster._check_reachable("auto")


def test_too_few_threads_are_refused_before_ray_aborts_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for source in ("_threads_left_to_user", "_threads_left_in_container"):
        ray_cluster._check_threads()
        with monkeypatch.context() as scarce:
            scarce.setattr(ray_cluster, source, lambda: 30.0)
            with pytest.raises(
                InputError, match=r"processes and threads, and 30 more are allowed here \(.*; --local trains"
            ):
                ray_cluster._check_threads()


@pytest.mark.skipif(
    os.geteuid() != 0, reason="needs the rights of root, who is not limited, to become somebody who is"
)
def test_the_threads_of_a_user_are_counted() -> None:
    script = (
        "import os, resource; os.setresuid(54321, 54321, 54321); resource.setrlimit(resource.RLIMIT_NPROC, (100, 100)); "
        "from phasediag.sweep import ray_cluster; print(ray_cluster._threads_left_to_user())"
    )
    script = "from phasediag.sweep import ray_cluster; " + script
    left = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert 0 < float(left) < 100


@pytest.mark.parametrize("cores", ["two", "1.5", ""])
def test_a_number_of_cores_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, cores: str) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", cores)
    with pytest.raises(InputError, match=r"LOKY_MAX_CPU_COUNT: .*; allowed: a whole number from 1 on"):
        devices.cores()
