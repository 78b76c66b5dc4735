"""Devices: which there are, and what is said of one that is lost."""

from types import SimpleNamespace

import pytest
import torch

from phasediag import devices
from phasediag.errors import InputError


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
    monkeypatch.setattr(devices, "gpus", lambda: 0)
    assert devices.resolve_device("auto") == devices.device_of_task("auto", 1.0) == "cpu"
    with pytest.raises(InputError, match=r"^key: 'cuda', but torch finds no GPU .*allowed: auto, cpu"):
        devices.resolve_device("cuda", "key")
    assert devices.device_of_row("cuda: NVIDIA H100") == "cpu"
    monkeypatch.setattr(devices, "gpus", lambda: 2)
    assert devices.resolve_device("auto") == devices.resolve_device("cuda") == "cuda"
    assert devices.device_of_row("cuda: NVIDIA H100") == "cuda"
    assert devices.device_of_row("cpu") == "cpu"


def test_where_there_is_no_driver_torch_is_not_asked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(devices, "_driver", lambda: True)
    monkeypatch.setattr(devices, "_numba_cuda", lambda: True)
    assert devices.gpus() == 3
    monkeypatch.setattr(devices, "_numba_cuda", lambda: False)
    assert devices.gpus() == 0
    with pytest.raises(InputError, match=r"^key: 'cuda', but the package numba-cuda is missing"):
        devices.resolve_device("cuda", "key")
    monkeypatch.setattr(devices, "_driver", lambda: False)
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


def test_room_on_a_cpu_is_what_stays_in_its_cache():
    assert devices.room("cpu", cached=1000, arrays=40, threads=2) == 1000


@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_room_on_a_gpu_is_shared_by_arrays_and_threads_and_keeps_to_the_share_of_the_task(
    monkeypatch, fraction
):
    free, total = 60 * 2**30, 80 * 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, total))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda: fraction, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=total))
    allowed = min(free, fraction * total)
    assert 0.4 * allowed < devices.room("cuda", 1, arrays=40, threads=2) * 40 * 2 <= 0.5 * allowed
