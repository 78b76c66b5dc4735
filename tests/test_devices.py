"""Devices: which there are, and what is said of one that is lost."""

import threading
from types import SimpleNamespace

import pytest
import torch

from phasediag import devices
from phasediag.errors import InputError


def machine(monkeypatch, driver=True, numba_cuda="0.30.4", found=3):
    """A machine with so many GPUs, and what it takes to use them."""

    def version(name):
        if numba_cuda is None:
            raise devices.importlib.metadata.PackageNotFoundError(name)
        return numba_cuda

    monkeypatch.setattr(devices, "_driver", lambda: driver)
    monkeypatch.setattr(devices.importlib.metadata, "version", version)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)


def test_a_gpu_that_is_lost_is_told_from_one_that_is_full():
    with pytest.raises(devices.DeviceLost, match="device-side assert"):
        devices.raise_if_lost(RuntimeError("CUDA error: device-side assert triggered"))
    devices.raise_if_lost(RuntimeError("CUDA error: out of memory"))
    devices.raise_if_lost(ArithmeticError("no such luck"))


def test_a_task_without_gpus_never_looks_for_one(monkeypatch):
    monkeypatch.setattr(devices, "gpus", lambda: pytest.fail("looked for a GPU"))
    assert devices.device_of_task("auto", 0.0) == "cpu"
    assert devices.resolve_device("cpu") == "cpu"


def test_auto_takes_what_there_is_and_cuda_insists(monkeypatch):
    machine(monkeypatch, found=0)
    assert devices.resolve_device("auto") == devices.device_of_task("auto", 1.0) == "cpu"
    with pytest.raises(InputError, match=r"^key: 'cuda', but torch finds no GPU .*allowed: auto, cpu"):
        devices.resolve_device("cuda", "key")
    assert devices.device_of_row("cuda: NVIDIA H100") == "cpu"
    machine(monkeypatch, found=2)
    assert devices.resolve_device("auto") == devices.resolve_device("cuda") == "cuda"
    assert devices.device_of_row("cuda: NVIDIA H100") == "cuda"
    assert devices.device_of_row("cpu") == "cpu"


@pytest.mark.parametrize(
    ("has", "lacks"),
    [
        ({"driver": False}, "there is no driver of GPUs on this machine"),
        ({"numba_cuda": None}, "the package numba-cuda is missing"),
        ({"numba_cuda": "0.9.1"}, r"numba-cuda 0.9.1 is too old \(0.30 or later\)"),
        ({"found": 0}, "torch finds no GPU on this machine"),
    ],
)
def test_what_is_missing_for_a_gpu_is_named(has, lacks, monkeypatch):
    machine(monkeypatch)
    assert devices.gpus() == 3
    machine(monkeypatch, **has)
    assert devices.gpus() == 0
    with pytest.raises(InputError, match=f"^key: 'cuda', but {lacks}; allowed: auto, cpu"):
        devices.resolve_device("cuda", "key")


def test_where_there_is_no_driver_torch_is_not_asked(monkeypatch):
    machine(monkeypatch, driver=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: pytest.fail("asked torch"))
    assert devices.gpus() == 0


def test_a_driver_is_a_library_that_can_be_loaded(monkeypatch):
    libraries = []
    monkeypatch.setattr(devices.ctypes, "CDLL", libraries.append)
    assert devices._driver() and len(libraries) == 1


def test_one_thread_per_operation_within_and_as_many_as_before_afterwards():
    before = torch.get_num_threads()
    with devices.single_threaded(with_torch=True):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.fixture(params=[1.0, 0.25])
def card(request, monkeypatch):
    """Bytes that a task may take of a GPU of 80 GiB, of which it has a share, and 60 GiB are free."""
    free, total = 60 * 2**30, 80 * 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, total))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda: request.param, raising=False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=total))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    return min(free, request.param * total)


def test_as_many_jobs_fit_as_their_memory_allows(card):
    job, shared = card / 100, card / 10
    assert 60 <= devices.fitting(job, shared) <= 80
    assert devices.fitting(0.8 * card, 0) == 1
    with pytest.raises(
        InputError, match=r"^resources.device: .* takes \d+ GiB .* a task has \d+ GiB on NVIDIA H100; allowed"
    ):
        devices.fitting(0.75 * card, shared)


def test_chunks_run_on_as_many_threads_as_there_are_workers_each_with_a_card(monkeypatch):
    """In the order given, whoever is done first."""
    machine(monkeypatch, found=2)
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert devices.workers("cuda", threads=5) == 2
    assert devices.workers("cpu", threads=5) == 5
    meet = threading.Barrier(2, timeout=30)

    def work(chunk):
        meet.wait()
        return chunk, torch.get_num_threads()

    assert devices.side_by_side(work, range(4), 2, "cuda", with_torch=True) == [(k, 1) for k in range(4)]
    assert sorted(taken) == [0, 1]
    assert devices.side_by_side(str, [7], 2, "cuda", with_torch=False) == ["7"]
    assert len(taken) == 2
