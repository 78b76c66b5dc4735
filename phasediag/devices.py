"""The devices that networks are trained on: their kinds, names, threads and memory.

A kind of device is "cpu" or "cuda". The size and the time of a batch depend on it, here and nowhere else.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

from .errors import InputError, PhasediagError

Chunk = TypeVar("Chunk")
Done = TypeVar("Done")

BATCH_BYTES = {"cpu": 2**30, "cuda": 2**33}
"""Memory that the batch of a task may take. A trainer parts a batch that a GPU has no room for (`fitting`)."""
SPEED = {"cpu": 1.0, "cuda": 10.0}
"""How many times as fast as a core of a CPU a device is, roughly. That of a GPU is assumed, not measured: it shapes batches and predicts
durations, and no result depends on it."""
NUMBA_CUDA = 0, 30
"""The oldest version of numba-cuda that compiles the engine."""
_COUNTED_SHARE = 0.8
"""Share that jobs may take whose memory is counted: kernels, libraries and torch's reserve take some."""


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
    """GPUs that this process can use."""
    return 0 if _lacking() else _found()


def _found() -> int:
    """GPUs that torch finds."""
    import torch

    return int(torch.cuda.device_count())


def _lacking() -> str:
    """What this machine lacks to use a GPU, "" for nothing. Without a driver, torch, which takes seconds to import, is not asked;
    numba-cuda compiles the engine."""
    if not _driver():
        return "there is no driver of GPUs on this machine"
    try:
        version = importlib.metadata.version("numba-cuda")
    except importlib.metadata.PackageNotFoundError:
        return "the package numba-cuda is missing"
    if tuple(map(int, version.split(".")[:2])) < NUMBA_CUDA:
        return f"numba-cuda {version} is too old ({'.'.join(map(str, NUMBA_CUDA))} or later)"
    return "" if _found() else "torch finds no GPU on this machine"


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
        missing = _lacking()
        cure = ", or cuda after pip install 'phasediag[gpu]'" if "numba-cuda" in missing else ""
        raise InputError(f"{key}: 'cuda', but {missing}; allowed: auto, cpu{cure}")
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


def workers(device: str, threads: int) -> int:
    """How many chunks of jobs a task trains at a time: on a CPU one on each of its threads, on GPUs one on each that it was given."""
    if device == "cpu":
        return threads
    import torch

    return max(1, int(torch.cuda.device_count()))


def side_by_side(
    work: Callable[[Chunk], Done], chunks: Sequence[Chunk], workers: int, device: str, with_torch: bool
) -> list[Done]:
    """What ``work`` makes of every chunk, so many at a time, in their order.

    Operations run on one thread each: it keeps every sum in one order, and beats splitting operations this small. Each thread has a GPU
    of its own.
    """
    with single_threaded(with_torch) as pin:
        if min(workers, len(chunks)) <= 1:
            return [work(chunk) for chunk in chunks]
        numbers = count()

        def begin() -> None:
            pin()
            if device == "cuda":
                import torch

                torch.cuda.set_device(next(numbers))

        with ThreadPoolExecutor(workers, initializer=begin) as pool:
            return list(pool.map(work, chunks))


def fitting(job_bytes: int, shared_bytes: int) -> int:
    """How many jobs of a size the GPU of this thread has room for, beside what they share.

    Raises:
        InputError: not even for one.
    """
    import torch

    share = _COUNTED_SHARE * _card_bytes()
    fits = int((share - shared_bytes) // job_bytes)
    if fits < 1:
        need, name = (job_bytes + shared_bytes) / _COUNTED_SHARE, torch.cuda.get_device_name()
        raise InputError(
            f"resources.device: a network of this study takes {need / 2**30:.2g} GiB of GPU memory, and a task has "
            f"{share / _COUNTED_SHARE / 2**30:.2g} GiB on {name}; allowed: 'cpu', a GPU with more memory, or a larger share of it "
            "(gpus_per_task)"
        )
    return fits


def _card_bytes() -> float:
    """Memory of its GPU that this process may take now."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    fraction = getattr(torch.cuda, "get_per_process_memory_fraction", lambda: 1.0)()  # from torch 2.7 on
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return float(min(free, fraction * total))


def raise_if_lost(error: BaseException) -> None:
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
