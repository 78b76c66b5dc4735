"""The devices that networks are trained on: their kinds, names, threads and memory.

A kind of device is "cpu" or "cuda". The size and the time of a batch depend on it, here and nowhere else.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from .errors import InputError, PhasediagError

BATCH_BYTES = {"cpu": 2**30, "cuda": 2**33}
"""Memory that the batch of a task may take. A trainer parts a batch that a GPU has no room for (`room`)."""
SPEED = {"cpu": 1.0, "cuda": 10.0}
"""How many times as fast as a core of a CPU a device is, roughly. That of a GPU is assumed, not measured: it shapes batches and predicts
durations, and no result depends on it."""
_GPU_SHARE = 0.5
"""Share of a GPU's free memory that one thread's arrays may take."""


class DeviceLost(PhasediagError):
    """A GPU does not answer this process any more: whatever it tries from now on would fail too."""


def cores() -> int:
    """Cores that this process may use, also within the limits of a container. Raises `InputError` if the user has set them to nonsense."""
    from joblib import cpu_count

    try:
        return int(cpu_count())
    except ValueError:
        limit = os.environ.get("LOKY_MAX_CPU_COUNT")
        raise InputError(f"LOKY_MAX_CPU_COUNT: {limit!r}; allowed: a whole number from 1 on") from None


def gpus() -> int:
    """GPUs that this process can use: none without a driver, for which torch, which takes seconds to import, is not asked, and none without
    numba-cuda, which compiles what moves a neuron."""
    if not (_driver() and _numba_cuda()):
        return 0
    import torch

    return int(torch.cuda.device_count())


def _numba_cuda() -> bool:
    """Whether the package numba-cuda is installed."""
    return find_spec("numba_cuda") is not None


def _driver() -> bool:
    """Whether there is a driver of NVIDIA's GPUs, or of AMD's on Linux."""
    library = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        return Path("/dev/kfd").exists()
    return True


def resolve_device(device: str, key: str = "resources.device") -> str:
    """ "cpu" or "cuda"; "auto" takes a GPU where there is one. Messages begin with the key.

    Raises:
        InputError: "cuda" was asked for and torch finds no GPU.
    """
    if device == "cpu":
        return "cpu"
    if gpus():
        return "cuda"
    if device == "cuda":
        missing = _driver() and not _numba_cuda()
        lacks = "the package numba-cuda is missing" if missing else "torch finds no GPU on this machine"
        raise InputError(
            f"{key}: 'cuda', but {lacks}; allowed: auto, cpu, or a GPU with 'pip install phasediag[gpu]'"
        )
    return "cpu"


def device_of_task(device: str, gpus_per_task: float) -> str:
    """The device of a task that was given so many GPUs, of those that this process sees; it keeps to its share of the memory.

    Raises:
        InputError: "cuda" was asked for and there is none.
    """
    if not gpus_per_task:
        return "cpu"
    found = resolve_device(device)
    if found == "cuda" and gpus_per_task < 1:
        import torch

        # A fraction is a promise only, unless the process keeps to it.
        torch.cuda.set_per_process_memory_fraction(gpus_per_task)
    return found


def device_of_row(stored: str) -> str:
    """The kind of device of a stored row (its column ``device``) if there is one here, else the CPU."""
    return "cuda" if kind_of_row(stored) == "cuda" and gpus() else "cpu"


def kind_of_row(stored: str) -> str:
    """The kind of device that the column ``device`` of a row names."""
    return "cuda" if stored.startswith("cuda") else "cpu"


def device_name(device: str) -> str:
    """How rows name a device: "cpu", or "cuda: " and the GPU's name."""
    if device == "cpu":
        return "cpu"
    import torch

    return f"cuda: {torch.cuda.get_device_name()}"


def room(device: str, cached: int, arrays: int, threads: int = 1) -> int:
    """Bytes that the largest array of what is trained together may take.

    Args:
        device: "cpu" or "cuda".
        cached: what to return for a CPU, where a handful of such arrays should stay in the cache of a core.
        arrays: how many arrays of that size training keeps at a time.
        threads: how many threads of this process share the device.
    """
    if device == "cpu":
        return cached
    import torch

    free, _ = torch.cuda.mem_get_info()
    fraction = getattr(torch.cuda, "get_per_process_memory_fraction", lambda: 1.0)()  # from torch 2.7 on
    allowed = fraction * torch.cuda.get_device_properties(0).total_memory
    return int(_GPU_SHARE * min(free, allowed) / (arrays * threads))


def raise_if_lost(error: Exception) -> None:
    """Raises `DeviceLost` if an error says that the context of a GPU is gone: everything that follows in this process would fail too."""
    text = str(error)
    if "CUDA error" in text and "out of memory" not in text:
        raise DeviceLost(text) from error


@contextmanager
def single_threaded(with_torch: bool) -> Iterator[Callable[[], None]]:
    """One thread per operation within, of NumPy's BLAS and, if it is used, of torch; yields what a new thread has to call for the same."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        if not with_torch:
            yield lambda: None
            return
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield lambda: torch.set_num_threads(1)
        finally:
            torch.set_num_threads(before)
