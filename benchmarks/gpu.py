"""Whether a GPU computes what the CPU computes, and how fast: python -m benchmarks.gpu [checks|sweeps|timings|card ...] [--quick]

    checks    networks of two to four layers, whole and represented, on a few and on many points, against the CPU
    sweeps    rows of batches, of every method and of condensation, and a sweep on Ray with two tasks on the card
    timings   batches against all cores of this machine, and against gradient descent in plain PyTorch on the card
    card      what a trial takes beside what the card could do: bandwidth, float32 rate, time between kernels, memory

Needs torch, numba, numba-cuda and numpy; `sweeps` needs the package's other requirements, and Ray. Ends after 20 minutes, with --quick
after 3, whatever is left; ends in exit status 1 if something differs. --device cpu tries the benchmark where there is no GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import torch

from phasediag.engine.flow import Network, Settings, integrate
from phasediag.engine.networks import Initialisation, Outcome
from phasediag.engine.relu_cpu import ReluNetworkCPU
from phasediag.engine.relu_gpu import ReluNetworkGPU
from phasediag.phase_diagram.jobs import Job

from .plain import GradientDescent, Networks
from .tables import table

PARTS = ("checks", "sweeps", "timings", "card")
X = np.array([[-1.0], [-0.35], [0.3], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2])
LOSS = 1e-4
LOOSE = 3.0
"""Errors of the two devices are independent, and each is several times smaller than `accuracy` in most jobs, but not in all."""
WIDE = 10**8
LAUNCHES = 220
"""Operations that a trial starts for every hidden layer: counted with torch's dispatcher."""

Result = TypeVar("Result")
Data = tuple[np.ndarray, np.ndarray]


class OutOfTime(Exception):
    """There is no time for what is left."""


@dataclass
class Run:
    """What was asked for, and until when."""

    device: str
    quick: bool
    until: float
    wrong: int = 0

    def sizes(self, neurons: int, count: int) -> tuple[int, int]:
        """So many neurons and jobs; few where loops stand for the card."""
        return (max(neurons // 50, 20), 2) if self.device == "cpu" else (neurons, max(count, 2))

    def check_time(self) -> None:
        """Raises `OutOfTime` when it is up."""
        if time.monotonic() > self.until:
            raise OutOfTime


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)}; all without")
    parser.add_argument("--quick", action="store_true", help="a few small jobs, in 3 minutes")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: loops stand for the card"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; allowed: {', '.join(PARTS)}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no GPU here")
    torch.set_num_threads(1)
    run = Run(arguments.device, arguments.quick, time.monotonic() + (180 if arguments.quick else 1200))
    print(f"{_card(run)}; torch {torch.__version__}, numpy {np.__version__}; {_cores()} cores")
    work = {"checks": _checks, "sweeps": _sweeps, "timings": _timings, "card": _limits}
    for part in arguments.parts or PARTS:
        try:
            work[part](run)
        except OutOfTime:
            print(f"\n{part}: the time is up; what is missing above was left out")
    sys.exit(1 if run.wrong else 0)


def _card(run: Run) -> str:
    return "no card" if run.device == "cpu" else f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


def _cores() -> int:
    return len(os.sched_getaffinity(0))


# Networks.


def _jobs(depth: int, width: int, count: int, points: int = 4) -> list[Initialisation]:
    """Networks all over the map, with three seeds."""
    generator = np.random.default_rng(0)
    gammas = depth / 2 - 0.5 + generator.uniform(-0.4, 0.9 if points < 100 else 0.4, count)
    primes = generator.uniform(-0.4, 0.8, count)
    return [
        Initialisation(width, round(float(gamma), 3), round(float(prime), 3), 0.0, index % 3)
        for index, (gamma, prime) in enumerate(zip(gammas, primes, strict=True))
    ]


def _data(dimension: int, points: int) -> Data:
    if dimension == 1 and points == len(X):
        return X, Y
    generator = np.random.default_rng(dimension)
    x = generator.standard_normal((points, dimension))
    return x / np.linalg.norm(x, axis=1, keepdims=True), np.where(generator.random(points) < 0.5, -1.0, 1.0)


def _network(device: str, data: Data, depth: int, neurons: int, jobs: Sequence[Initialisation]) -> Network:
    precision = "float64" if jobs[0].width != neurons else "float32"
    if device == "host":
        return ReluNetworkCPU.initialised(*data, depth, neurons, jobs, precision)
    return ReluNetworkGPU.initialised(*data, depth, neurons, jobs, precision, device)


def _changes(network: Network, outcome: Outcome) -> np.ndarray:
    """Norms of the changes (jobs, layers), however they were measured."""
    found = []
    for job, measured in enumerate(outcome.measured):
        root = float(np.sqrt(network.mass[job]))
        found.append(
            [
                measured[layer].change if measured else _norm(outcome, job, layer, root)
                for layer in network.layers
            ]
        )
    return np.array(found)


def _norm(outcome: Outcome, job: int, layer: str, root: float) -> float:
    change = np.asarray(outcome.changes[job][layer], dtype=np.float64)
    if layer in ("W1", "a"):
        return root * float(np.linalg.norm(change))
    return root * float(np.hypot(root * np.linalg.norm(change[:, :-1]), np.linalg.norm(change[:, -1])))


def _trained(
    device: str, data: Data, depth: int, neurons: int, jobs: Sequence[Initialisation], settings: Settings
) -> tuple[np.ndarray, Outcome, float]:
    """Norms of changes, the outcome, and seconds."""
    started = time.perf_counter()
    network = _network(device, data, depth, neurons, jobs)
    outcome = integrate(network, settings, keep=False)
    return _changes(network, outcome), outcome, time.perf_counter() - started


def _on_all_cores(
    data: Data, depth: int, neurons: int, jobs: Sequence[Initialisation], settings: Settings
) -> tuple[float, list[int]]:
    """Seconds, and evaluations of every job, of the CPU: small chunks, one on every core."""
    size = max(1, min(len(jobs) // _cores(), 2**19 // (neurons * len(data[0]) * (depth - 1))))
    chunks = [jobs[at : at + size] for at in range(0, len(jobs), size)]
    started = time.perf_counter()
    with ThreadPoolExecutor(_cores()) as pool:
        done = list(
            pool.map(lambda chunk: _trained("host", data, depth, neurons, chunk, settings)[1], chunks)
        )
    return time.perf_counter() - started, [count for outcome in done for count in outcome.evaluations]


# Checks.


def _cases(quick: bool) -> Iterator[tuple[str, Data, int, int, list[Initialisation]]]:
    count, neurons = (4, 40) if quick else (24, 200)
    for depth in (2, 3, 4):
        for represented in (False, True):
            for dimension, points in ((1, 4), (64, 4), (5, 20)):
                jobs = _jobs(depth, WIDE if represented else neurons, count)
                kind = "represented" if represented else "whole"
                name = f"{depth} layers, {kind}, d = {dimension}, n = {points}"
                yield name, _data(dimension, points), depth, neurons, jobs
    if not quick:
        yield "2 layers, whole, d = 64, n = 300", _data(64, 300), 2, 400, _jobs(2, 400, 4, 300)


def _checks(run: Run) -> None:
    settings = Settings(loss_tolerance=LOSS)
    rows = []
    try:
        for name, data, depth, neurons, jobs in _cases(run.quick):
            run.check_time()
            (mine, card, seconds), (expected, host, _) = (
                _trained(device, data, depth, neurons, jobs, settings) for device in (run.device, "host")
            )
            apart = sum(a != b for a, b in zip(card.status, host.status, strict=True))
            alike = np.array([a == b for a, b in zip(card.status, host.status, strict=True)])
            errors = np.abs(mine / expected - 1)[alike]
            allowed = LOOSE * settings.accuracy
            # single neurons decide what becomes of a few condensed networks, on either device
            passed = bool(np.quantile(errors, 0.9) <= allowed) and apart <= len(jobs) / 8
            run.wrong += not passed
            cost = np.mean(card.evaluations) / np.mean(host.evaluations)
            rows.append(
                (
                    name,
                    str(len(jobs)),
                    _percent(float(np.median(errors))),
                    _percent(float(np.quantile(errors, 0.9))),
                    _percent(allowed),
                    str(apart),
                    f"{cost:.2f}",
                    f"{seconds:.1f}",
                    "ok" if passed else "WRONG",
                )
            )
    finally:
        columns = ("check", "jobs", "median", "90 %", "allowed", "other status", "evaluations", "s", "")
        note = "evaluations: the card's, in units of the CPU's; seconds with what is compiled"
        table("Changes of all layers, the card's against the CPU's", columns, rows, note)


# What needs the whole package.


def _sweeps(run: Run) -> None:
    try:
        from . import gpu_sweeps
    except ImportError as error:
        print(f"\nsweeps: left out ({error})")
        return
    rows = []
    try:
        for name, check in gpu_sweeps.CHECKS.items():
            run.check_time()
            started = time.perf_counter()
            found = check(run.device, run.quick)
            run.wrong += bool(found)
            rows.append((name, f"{time.perf_counter() - started:.1f}", found or "ok"))
    finally:
        table("Batches and sweeps", ("check", "s", ""), rows)


# Timings.


def _timings(run: Run) -> None:
    # depth, neurons, whether they stand for 10^8, jobs, points, dimension
    cases = [
        (2, 1_000, False, 4096, 4, 1),
        (2, 300, True, 8192, 4, 1),
        (2, 100_000, False, 64, 4, 1),
        (2, 1_000_000, False, 8, 4, 1),
        (3, 300, True, 4096, 4, 1),
        (3, 1_000, False, 512, 4, 1),
        (3, 4_000, False, 64, 4, 1),
        (3, 10_000, False, 8, 4, 1),
        (4, 300, True, 2048, 4, 1),
        (2, 1_000, False, 16, 1000, 784),
    ]
    rows = []
    try:
        for case in cases[1::3] if run.quick else cases:
            run.check_time()
            rows.append(_timing(run, *case))
    finally:
        columns = ("network", "jobs", "n", "card s", "CPU s", "times", "plain s", "evals", "CPU", "plain")
        note = (
            "times: how many times as fast as all cores the card is, where these take a part of the jobs in proportion; "
            "evals: mean per job; plain: gradient descent in PyTorch on the card, its own count"
        )
        table(f"Seconds of a batch, loss down to {LOSS:g}", columns, rows, note)


def _timing(
    run: Run, depth: int, neurons: int, represented: bool, count: int, points: int, dimension: int
) -> Sequence[str]:
    neurons, count = run.sizes(neurons, count // (8 if run.quick else 1))
    data, settings = _data(dimension, points), Settings(loss_tolerance=LOSS, max_evaluations=2000)
    jobs = _jobs(depth, WIDE if represented else neurons, count, points)
    _trained(run.device, data, depth, neurons, jobs[:2], settings)  # compiles
    _trained("host", data, depth, neurons, jobs[:2], settings)
    _, card, seconds = _trained(run.device, data, depth, neurons, jobs, settings)
    some = jobs[: max(2, count // 16)] if count >= 64 else jobs
    host_seconds, host = _on_all_cores(data, depth, neurons, some, settings)
    host_seconds *= count / len(some)
    plain, plain_seconds = "", ""
    if not represented and depth < 4:
        as_jobs = [
            Job(str(index), depth, neurons, neurons, job.gamma, job.gamma_prime, 0.0, job.seed)
            for index, job in enumerate(jobs[: max(2, 2**28 // neurons**2)])
        ]
        with torch.inference_mode():
            outcomes = GradientDescent(1.0, motion=0.1, every=4, cap=500 if run.quick else 2000).run(
                Networks(as_jobs, *data, torch.float32, run.device), LOSS
            )
        plain = f"{np.mean(outcomes.evaluations):.0f}"
        plain_seconds = f"{outcomes.seconds * count / len(as_jobs):.1f}"
    kind = " of 10^8" if represented else ""
    return (
        f"{depth} layers, {neurons:,}{kind}",
        str(count),
        str(points),
        f"{seconds:.1f}",
        f"{host_seconds:.1f}",
        f"{host_seconds / seconds:.1f}",
        plain_seconds,
        f"{np.mean(card.evaluations):.0f}",
        f"{np.mean(host):.0f}",
        plain,
    )


# What the card could do.


def _limits(run: Run) -> None:
    bandwidth, rate = _bandwidth(run), _rate(run)
    print(
        f"\nA copy moves {bandwidth / 1e9:,.0f} GB/s; a product of matrices in float32 takes {rate / 1e12:.1f} TFlop/s."
    )
    rows = []
    try:
        for depth, neurons, count, points in (
            (2, 1_000, 4096, 4),
            (3, 1_000, 512, 4),
            (3, 4_000, 64, 4),
            (2, 1_000, 16, 1000),
        ):
            run.check_time()
            rows.append(_limit(run, bandwidth, depth, *run.sizes(neurons, count), points))
    finally:
        columns = (
            "network",
            "jobs",
            "n",
            "ms a trial",
            "started alone",
            "read alone",
            "busy",
            "GB",
            "counted",
        )
        note = (
            f"started alone: ms that {LAUNCHES} empty operations for every hidden layer take to start; read alone: ms for every weight "
            "three times and every neuron and point 200 times, at the bandwidth above; busy: part of the time in which kernels run; "
            "GB: most memory of tensors, and what batches are sized by"
        )
        table("A trial of a batch", columns, rows, note)


def _limit(run: Run, bandwidth: float, depth: int, neurons: int, count: int, points: int) -> Sequence[str]:
    data, jobs = _data(1 if points == 4 else 64, points), _jobs(depth, neurons, count, points)
    settings = Settings(loss_tolerance=1e-12, max_evaluations=60)

    def train() -> tuple[float, int]:
        _, outcome, seconds = _trained(run.device, data, depth, neurons, jobs, settings)
        return seconds, max(outcome.evaluations)

    train()
    if run.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds, trials = train()
    taken = torch.cuda.max_memory_allocated() / 1e9 if run.device == "cuda" else float("nan")
    hidden = depth - 1
    reads = 4.0 * count * (3 * (hidden - 1) * neurons**2 + 200 * hidden * neurons * points)
    return (
        f"{depth} layers, {neurons:,}",
        str(count),
        str(points),
        f"{1e3 * seconds / trials:.2f}",
        f"{1e3 * LAUNCHES * hidden * _launch(run):.2f}",
        f"{1e3 * reads / bandwidth:.2f}",
        _percent(_busy(train)) if run.device == "cuda" else "",
        f"{taken:.2f}",
        _counted(depth, neurons, points, count),
    )


def _counted(depth: int, neurons: int, points: int, count: int) -> str:
    try:
        from phasediag.phase_diagram.costs import card_bytes
    except ImportError:
        return ""
    return f"{count * card_bytes(Job('', depth, neurons, neurons, 1.0, 0.0, 0.0, 0), points, 4) / 1e9:.2f}"


def _seconds(run: Run, work: Callable[[], object], times: int = 10) -> float:
    """Of one of several repetitions."""
    work()
    _wait(run)
    started = time.perf_counter()
    for _ in range(times):
        work()
    _wait(run)
    return (time.perf_counter() - started) / times


def _wait(run: Run) -> None:
    if run.device == "cuda":
        torch.cuda.synchronize()


def _bandwidth(run: Run) -> float:
    source = torch.zeros(2**28 if run.device == "cuda" else 2**24, device=run.device)
    into = torch.empty_like(source)
    return 2 * 4 * len(source) / _seconds(run, lambda: into.copy_(source))


def _rate(run: Run) -> float:
    size = 8192 if run.device == "cuda" else 1024
    matrix = torch.ones((size, size), device=run.device)
    return 2.0 * size**3 / _seconds(run, lambda: matrix @ matrix, 3)


def _launch(run: Run) -> float:
    tensor = torch.zeros(1, device=run.device)
    return _seconds(run, lambda: tensor.add_(1), 2000)


def _busy(work: Callable[[], Any]) -> float:
    """The part of the time in which kernels run."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        started = time.perf_counter()
        work()
        seconds = time.perf_counter() - started
    return float(sum(event.self_device_time_total for event in profile.key_averages())) / 1e6 / seconds


def _percent(number: float) -> str:
    return f"{100 * number:.2g} %"


if __name__ == "__main__":
    main()
