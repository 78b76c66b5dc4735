"""Jobs in, rows out: trains a batch of networks and measures them. No files, no Ray, no global state.

A row depends on its job, the data and the settings alone: not on the other jobs of the batch, nor on the number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..devices import device_name, fitting, side_by_side, workers
from ..engine import measures
from ..engine.measures import Measured
from ..storage.schema import FAILED, VERSION
from .columns import RUNS
from .costs import CARD_BYTES, card_bytes
from .film import NO_FILM, Film, See, Sight
from .predictions import NOTHING, HeldOut, Predictions, acting, function, initialisation
from .theory import LAYERS

if TYPE_CHECKING:  # torch takes seconds to import, and only GPUs and methods other than the flow need it
    from ..engine.descent import Networks
    from ..engine.flow import Network, Settings
    from ..engine.networks import Changes, Course, Layers, Moment, Outcome
    from ..engine.visits import Visits
    from .jobs import Job
    from .spec import TrainSpec

Array = NDArray[np.float64]
Row = dict[str, Any]
Seen = TypeVar("Seen")

CHUNK_ELEMENTS = 2**19
"""Elements of the largest array of a chunk of jobs on a CPU: the handful of such arrays in use should stay in its cache."""
GPU_ARRAYS = 8
"""Arrays of that size that gradient descent and Adam keep at a time."""
CURVE_POINTS = 401
CURVE_MARGIN = 0.25


@dataclass(frozen=True)
class Trained:
    """A job after training, in normalised coordinates: initial weights and their change by layer, W1 (N, d+1), between hidden layers
    W2, W3, ... (N, N+1), a (N,), of the N neurons of each hidden layer that were simulated."""

    job: Job
    status: str
    evaluations: int
    loss_initial: float
    loss_final: float
    initial: Layers
    change: Changes
    trace: list[Moment]
    measured: Mapping[str, Measured]
    course: Course
    outputs: Array
    seconds: float

    def final(self, layer: str) -> Array:
        """The weights of a layer after training, in float64."""
        final = np.asarray(self.change[layer]).astype(np.float64)
        final += self.initial[layer]
        return final


@dataclass(frozen=True)
class Trainer:
    """The training of a phase diagram on x (n, d), y (n,): what a sweep calls, with jobs of one depth and width. Where there are test
    points, the networks are looked at there too."""

    x: Array
    y: Array
    settings: TrainSpec
    held_out: HeldOut | None = None

    def batch(self, jobs: Sequence[Job], device: str, threads: int) -> list[Row]:
        """Rows of ``runs``; ``threads`` chunks of jobs are trained at a time."""
        return train_batch(jobs, self.x, self.y, self.settings, device, threads, self.held_out)

    def sample(self, job: Job, device: str, threads: int) -> list[Row]:
        """Rows of ``samples`` of a network that is kept whole."""
        return train_sample(job, self.x, self.y, self.settings, device, threads)

    def weights(self, job: Job, device: str) -> tuple[list[Row], dict[str, Array]]:
        """Rows of ``runs`` of one job, its data x and y, and its weights before and after (see `train_weights`)."""
        rows, weights = train_weights(job, self.x, self.y, self.settings, device, self.held_out)
        return rows, {"x": self.x, "y": self.y, **weights}

    def failed(self, job: Job, error: str) -> list[Row]:
        """Rows of ``runs`` of a job that could not be run."""
        return failed_rows(job, error)


def train_batch(
    jobs: Sequence[Job],
    x: Array,
    y: Array,
    settings: TrainSpec,
    device: str = "cpu",
    threads: int = 1,
    held_out: HeldOut | None = None,
) -> list[Row]:
    """Trains jobs of one depth and width on x (n, d), y (n,): one row per job and layer, with every column of ``runs``.

    Numerical failure is a status in the row, never an exception. ``threads`` chunks of jobs are trained at a time. Measures of functions
    are those on the points of ``held_out``, if there are any.
    """
    known = Known.of(x, held_out, device)

    def look(trained: Trained) -> list[Row]:
        return run_rows(trained, device_name(device), known)  # of the GPU of this thread

    points = None if held_out is None else _plain(held_out.x)[0]
    done = _train_all(jobs, x, y, settings, device, threads, False, False, look, points)
    return list(chain.from_iterable(done))


def train_sample(
    job: Job, x: Array, y: Array, settings: TrainSpec, device: str = "cpu", threads: int = 1
) -> list[Row]:
    """Trains one job and keeps its network: the rows of ``samples``, one per layer with input weights."""

    def look(trained: Trained) -> list[Row]:
        return sample_rows(trained, x, _film(trained, x, y, settings, device))

    [rows] = _train_all([job], x, y, settings, device, threads, True, True, look)
    return rows


def train_weights(
    job: Job, x: Array, y: Array, settings: TrainSpec, device: str = "cpu", held_out: HeldOut | None = None
) -> tuple[list[Row], dict[str, Array]]:
    """Trains one job: its rows, and the weights ``W1_initial``, ``W1_final`` (N, d+1; bias last), ``a_initial``, ``a_final`` (N,); of
    more than two layers also ``W2_initial``, ``W2_final`` (N, N+1; bias last) and so on. ``mass``: how many neurons each of the N stands
    for, 1 where the network is whole."""
    [trained] = _train_all([job], x, y, settings, device, 1, False, True, lambda trained: trained)
    weights: dict[str, Array] = {"mass": np.array(job.mass)}
    for layer in LAYERS[job.depth]:
        weights[f"{layer}_initial"] = trained.initial[layer].astype(np.float64)
        weights[f"{layer}_final"] = trained.final(layer)
    return run_rows(trained, device_name(device), Known.of(x, held_out, device)), weights


class Known(NamedTuple):
    """What many jobs have in common: norms of initial weights, and initial functions on test points."""

    norms: InitialNorms
    predictions: Predictions | None

    @classmethod
    def of(cls, x: Array, held_out: HeldOut | None, device: str) -> Known:
        """Nothing is known yet."""
        return cls(InitialNorms(), None if held_out is None else Predictions(x, held_out, device))


class InitialNorms:
    """Norms of initial weights, which many jobs have in common: measured once."""

    def __init__(self) -> None:
        self._frobenius: dict[tuple[object, ...], float] = {}
        self._stretched: dict[tuple[object, ...], tuple[float, NDArray[np.floating]]] = {}

    def of(self, trained: Trained, layer: str) -> tuple[float, float, NDArray[np.floating]]:
        """The Frobenius norm of the initial weights of one layer; the operator norm of the simulated ones, NaN for a vector, and what they
        stretch most (see `measures.stretched`)."""
        job, weights = trained.job, trained.initial[layer]
        # the draws, and their precision, are the same at every width that they stand for
        drawn = job.depth, job.neurons, job.seed, layer, job.mass == 1
        if drawn not in self._stretched:
            self._stretched[drawn] = (
                measures.stretched(weights) if weights.ndim == 2 else (math.nan, np.empty(0))
            )
        whole = (*drawn, job.width)
        if whole not in self._frobenius:
            self._frobenius[whole] = _frobenius(acting(weights, job, layer), job)
        return self._frobenius[whole], *self._stretched[drawn]


def _frobenius(layer: NDArray[np.floating], job: Job) -> float:
    """The Frobenius norm, of the network that is represented, of a layer as it acts: a weight counts as often as its neuron."""
    return math.sqrt(job.mass) * measures.frobenius(layer)


def run_rows(trained: Trained, device: str, known: Known) -> list[Row]:
    """The rows of ``runs`` of one trained job."""
    job, course = trained.job, trained.course
    predicted: Mapping[str, float] = NOTHING
    if known.predictions is not None:
        predicted = known.predictions.look(job, trained.initial, trained.change, trained.outputs, course)
    return [
        {
            **_identity(job, layer),
            **_measured(trained, layer, known.norms),
            "kernel_change": course.kernel_change,
            "time": course.time,
            "time_half": course.time_half,
            "linear_gap": course.linear_gap,
            **predicted,
            "loss_initial": trained.loss_initial,
            "loss_final": trained.loss_final,
            "evaluations": trained.evaluations,
            "status": trained.status,
            "error": "",
            "wall_seconds": trained.seconds,
            "device": device,
            "version": VERSION,
        }
        for layer in LAYERS[job.depth]
    ]


def failed_rows(job: Job, error: str, device: str = "") -> list[Row]:
    """The rows of a job that could not be run: NaN measures, status "failed" and the reason."""
    outcome = {"status": FAILED, "error": error, "device": device, "version": VERSION}
    layers = LAYERS[job.depth]
    return [{**RUNS.blank(), **_identity(job, layer), **outcome, "wall_seconds": 0.0} for layer in layers]


def sample_rows(trained: Trained, x: Array, film: Film | None = None) -> list[Row]:
    """The rows of ``samples`` of one trained job, one per layer with input weights."""
    job, layers = trained.job, LAYERS[trained.job.depth]
    initial = {layer: trained.initial[layer].astype(np.float64) for layer in layers}
    final = {layer: trained.final(layer) for layer in layers}
    grid = _curve_grid(x)
    of_network = {
        "status": trained.status,
        "output_initial": initial["a"].astype(np.float32).tolist(),
        "output_final": final["a"].astype(np.float32).tolist(),
        "x": grid.ravel().tolist(),
        "f_initial": function(job, initial, {layer: 0.0 * initial[layer] for layer in layers}, grid).tolist(),
        "f_final": function(job, initial, trained.change, grid).tolist(),
        "evaluations": [moment.evaluations for moment in trained.trace],
        "time": [moment.time for moment in trained.trace],
        "loss": [moment.loss for moment in trained.trace],
        "version": VERSION,
    }
    rows = []
    for layer in layers[:-1]:
        whole = _frobenius(acting(initial[layer], job, layer), job)
        rows.append(
            {
                **_identity(job, layer),
                **of_network,
                "input_initial": list(initial[layer].astype(np.float32)),
                "input_final": list(final[layer].astype(np.float32)),
                "relative_change": [moment.moved[layer] / whole for moment in trained.trace],
                **(film.columns(layer) if film else NO_FILM),
            }
        )
    return rows


def _film(trained: Trained, x: Array, y: Array, settings: TrainSpec, device: str) -> Film | None:
    """What is seen along the training of a kept network, for which it is trained again; nothing of one that has diverged, or that follows
    no flow."""
    job, end = trained.job, {layer: trained.final(layer) for layer in LAYERS[trained.job.depth]}
    if settings.method == "adam" or not all(np.isfinite(weights).all() for weights in end.values()):
        return None
    from ..engine import flow
    from ..engine.onset import onset
    from ..engine.visits import Visits

    x, y = _plain(x, y)

    def follow(times: Sequence[float], see: See) -> list[Sight]:
        visits = Visits(times, see)
        if settings.method == "gradient-flow":
            network = _network([job], x, y, precision, device)
            flow.integrate(network, _limits(settings), trace=True, visitor=visits)
        else:
            _descend([job], x, y, settings, device, visits=visits)
        return visits.seen

    precision = settings.precision(job.mass != 1)
    begin = onset(_network([job], x, y, precision, device), settings.accuracy)
    steps = settings.method != "gradient-flow" and len(trained.trace) > 1
    tick = trained.trace[1].time if steps else 0.0
    return Film.of(trained.initial, trained.change, job.seed, trained.trace, begin, follow, tick)


def _identity(job: Job, layer: str) -> Row:
    return {
        "job_id": job.job_id,
        "depth": job.depth,
        "layer": layer,
        "width": job.width,
        "neurons": job.neurons,
        "gamma": job.gamma,
        "gamma_prime": job.gamma_prime,
        "gamma_1": job.gamma_1,
        "seed": job.seed,
    }


def _measured(trained: Trained, layer: str, norms: InitialNorms) -> Row:
    whole, whole_spectral, stretched = norms.of(trained, layer)
    found = trained.measured[layer] if trained.measured else _measure(trained, layer, stretched)
    root = math.sqrt(trained.job.mass)
    return {
        "relative_change": measures.ratio(found.change, whole),
        "relative_change_spectral": measures.ratio(found.spectral, whole_spectral),
        "norm_initial": whole,
        "norm_final": found.final,
        "orientations": found.orientations,
        "effective_rank": measures.stable_rank(found.final, root * found.final_spectral),
        "effective_rank_change": measures.stable_rank(found.change, root * found.spectral),
    }


def _measure(trained: Trained, layer: str, stretched: NDArray[np.floating]) -> Measured:
    """What is measured on a layer whose change is here. Of a large matrix, there is no room for more than one such array at a time."""
    job, operator, operator_final, many = trained.job, math.nan, math.nan, math.nan
    change = acting(np.asarray(trained.change[layer]), job, layer)
    norm, matrix = _frobenius(change, job), change.ndim == 2
    if matrix:
        operator = measures.spectral(change)
    final = change.astype(np.float64)
    del change
    final += trained.initial[layer]
    if matrix:
        operator_final = measures.spectral_near(final, stretched)
        if job.mass != 1:  # what it acts as is not what it is
            final = trained.final(layer)
        many = measures.orientations(final, job.seed)
    return Measured(norm, operator, _frobenius(acting(final, job, layer), job), operator_final, many)


def _curve_grid(x: Array) -> Array:
    """Where a one-dimensional function is drawn (k, 1): evenly over the data and a margin; nothing in higher dimensions."""
    if x.shape[1] != 1:
        return np.empty((0, x.shape[1]))
    low, high = float(x.min()), float(x.max())
    margin = CURVE_MARGIN * (high - low)
    return np.linspace(low - margin, high + margin, CURVE_POINTS)[:, None]


def _train_all(
    jobs: Sequence[Job],
    x: Array,
    y: Array,
    settings: TrainSpec,
    device: str,
    threads: int,
    trace: bool,
    keep: bool,
    look: Callable[[Trained], Seen],
    points: Array | None = None,
) -> list[Seen]:
    """What ``look`` makes of each trained job. Jobs are trained in chunks, ``threads`` at a time, each chunk on a single thread, and looked
    at before the next chunk: there may be no room for the weights of several. Without ``keep``, what was measured on a GPU stays there,
    and so are the functions at ``points``."""
    x, y = _plain(x, y)
    at_a_time = workers(device, threads)
    chunks = _chunks(jobs, x.shape, settings, device, at_a_time)

    def work(chunk: Sequence[Job]) -> list[tuple[Job, Seen]]:
        return [
            (trained.job, look(trained))
            for trained in _train_chunk(chunk, x, y, settings, device, trace, keep, points)
        ]

    with_torch = device != "cpu" or settings.method != "gradient-flow"
    done = side_by_side(work, chunks, at_a_time, device, with_torch)
    seen: dict[Job, Seen] = dict(chain.from_iterable(done))
    return [seen[job] for job in jobs]


def _plain(*arrays: Array) -> tuple[Array, ...]:
    """Copies: for arrays of another layout, or that cannot be written to, like those of Ray, all would be compiled anew."""
    return tuple(np.array(part, dtype=np.float64, order="C") for part in arrays)


def _chunks(
    jobs: Sequence[Job], shape: tuple[int, ...], settings: TrainSpec, device: str, workers: int
) -> list[Sequence[Job]]:
    """The jobs in groups that are trained together, so many groups at a time, on data x of this shape (n, d), in an order of their own."""
    (n, d), (depth, neurons), matrices = shape, (jobs[0].depth, jobs[0].neurons), jobs[0].depth - 2
    per_job, shared = neurons * ((depth - 1) * n + d + 1), False
    if device == "cpu" and settings.method == "gradient-flow":
        from ..engine.relu_cpu import is_large

        shared = matrices > 0 and is_large(neurons, n)
    if not shared:
        per_job += matrices * neurons**2
    by_seed = attrgetter("seed")
    if device != "cpu":
        job_bytes, beside = GPU_ARRAYS * per_job * np.dtype(settings.dtype).itemsize, 0
        if settings.method == "gradient-flow":
            itemsize = np.dtype(settings.precision(any(job.mass != 1 for job in jobs))).itemsize
            beside = len({job.seed for job in jobs}) * matrices * neurons**2 * itemsize + CARD_BYTES
            job_bytes = card_bytes(jobs[0], n, itemsize)
        size = min(fitting(job_bytes, beside), -(-len(jobs) // workers))
        jobs = sorted(jobs, key=by_seed)  # neighbours of one seed are multiplied by its matrices together
        return [jobs[start : start + size] for start in range(0, len(jobs), size)]
    size = max(1, CHUNK_ELEMENTS // per_job)
    # jobs of several seeds would each bring large matrices of their own
    groups = [list(group) for _, group in groupby(sorted(jobs, key=by_seed), by_seed)] if shared else [jobs]
    return [group[start : start + size] for group in groups for start in range(0, len(group), size)]


def _train_chunk(
    jobs: Sequence[Job],
    x: Array,
    y: Array,
    settings: TrainSpec,
    device: str,
    trace: bool,
    keep: bool,
    points: Array | None,
) -> list[Trained]:
    started = time.perf_counter()
    networks: Network | Networks
    if settings.method == "gradient-flow":
        networks, outcome = _integrate(jobs, x, y, settings, device, trace, keep, points)
    else:
        networks, outcome = _descend(jobs, x, y, settings, device, trace)
    share = (time.perf_counter() - started) / max(sum(outcome.evaluations), 1)
    return [
        Trained(
            job,
            outcome.status[index],
            outcome.evaluations[index],
            outcome.loss_initial[index],
            outcome.loss_final[index],
            networks.initial(index),
            outcome.changes[index],
            outcome.trace[index],
            outcome.measured[index],
            outcome.courses[index],
            outcome.outputs[index],
            share * outcome.evaluations[index],
        )
        for index, job in enumerate(jobs)
    ]


def _integrate(
    jobs: Sequence[Job],
    x: Array,
    y: Array,
    settings: TrainSpec,
    device: str,
    trace: bool,
    keep: bool,
    points: Array | None,
) -> tuple[Network, Outcome]:
    """The gradient flow of networks of any depth."""
    from ..engine import kept
    from ..engine.flow import integrate

    precision = settings.precision(any(job.mass != 1 for job in jobs))
    network = _network(jobs, x, y, precision, device)
    outcome = integrate(network, _limits(settings), trace, keep, points)
    if device == "cpu":
        kept.note_compiled(precision)
    return network, outcome


def _limits(settings: TrainSpec) -> Settings:
    from ..engine.flow import Settings

    return Settings(settings.accuracy, settings.loss_tolerance, settings.max_evaluations)


def _network(jobs: Sequence[Job], x: Array, y: Array, precision: str, device: str) -> Network:
    """The networks of these jobs; on a CPU, they need no torch."""
    starts = [initialisation(job) for job in jobs]
    shape = jobs[0].depth, jobs[0].neurons
    if device == "cpu":
        from ..engine.relu_cpu import ReluNetworkCPU

        return ReluNetworkCPU.initialised(x, y, *shape, starts, precision)
    from ..engine.relu_gpu import ReluNetworkGPU

    return ReluNetworkGPU.initialised(x, y, *shape, starts, precision, device)


def _descend(
    jobs: Sequence[Job],
    x: Array,
    y: Array,
    settings: TrainSpec,
    device: str,
    trace: bool = False,
    visits: Visits[Any] | None = None,
) -> tuple[Networks, Outcome]:
    """Gradient descent or Adam, for networks of any depth."""
    import torch

    from ..engine.descent import Networks, Settings, descend

    assert settings.method != "gradient-flow" and settings.learning_rate is not None  # a valid spec
    dtype, first = getattr(torch, settings.dtype), jobs[0]
    cells = [(job.gamma, job.gamma_prime, job.gamma_1, job.seed) for job in jobs]
    limits = Settings(
        settings.method, settings.learning_rate, settings.loss_tolerance, settings.max_evaluations
    )
    with torch.inference_mode():
        networks = Networks.from_exponents(first.depth, first.width, x, y, cells, dtype, device)
        return networks, descend(networks, limits, trace, visits)
