"""Devices: which there are, and what is said of one that is lost."""

import pytest

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
    with pytest.raises(InputError, match="allowed: auto, cpu"):
        devices.resolve_device("cuda")
    assert devices.device_of_row("cuda: NVIDIA H100") == "cpu"
    monkeypatch.setattr(devices, "gpus", lambda: 2)
    assert devices.resolve_device("auto") == devices.resolve_device("cuda") == "cuda"
    assert devices.device_of_row("cuda: NVIDIA H100") == "cuda"
    assert devices.device_of_row("cpu") == "cpu"


def test_room_on_a_cpu_is_what_stays_in_its_cache():
    assert devices.room("cpu", cached=1000, arrays=40, threads=2) == 1000
