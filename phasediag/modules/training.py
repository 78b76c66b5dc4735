"""Jobs in, rows out: makes torch modules, trains them and measures their layers. No files, no Ray."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..devices import device_name, raise_if_lost, side_by_side, workers
from ..errors import InputError, some_of
from ..spec.data import Dataset
from ..spec.imported import in_words
from ..storage.schema import FAILED, VERSION
from . import measures
from .alike import chunks_of
from .columns import ALONE, RUNS, TOGETHER
from .data import MSE, Points, error_of, loss_of, loss_of_nothing
from .descent.course import Course, Settings, Trained
from .descent.train import train
from .factory import Factory
from .jobs import Job
from .linearised import gaps
from .networks import Make, layers_of, network, quietly
from .spec import TrainSpec

Row = dict[str, Any]


@dataclass(frozen=True)
class Trainer:
    """The training of a study of modules: what a sweep calls, with jobs of one width."""

    data: Dataset
    settings: TrainSpec
    factory: Factory
    layers: tuple[str, ...]

    @quietly()
    def batch(self, jobs: Sequence[Job], device: str, threads: int) -> list[Row]:
        """Rows of ``runs``; ``threads`` groups of networks are trained at a time. A network that cannot be made or trained is a failed row.

        Raises:
            InputError: this machine has no such function.
        """
        make, rows = self.factory.function(), dict[str, list[Row]]()
        networks: dict[Job, torch.nn.Module] = {}
        for job in jobs:
            try:
                networks[job] = self._made(make, job)
            except InputError as error:
                rows[job.job_id] = self.failed(job, str(error))
        chunks = chunks_of(networks)

        def work(chunk: Sequence[Job]) -> list[list[Row]]:
            # here: each thread has a GPU of its own
            data, tests = points_of(self.data, device)
            return self._rows(
                chunk, [networks[job].to(device) for job in chunk], data, tests, device_name(device)
            )

        done = side_by_side(work, chunks, workers(device, threads), device, with_torch=True)
        for chunk, of_chunk in zip(chunks, done, strict=True):
            rows |= {job.job_id: found for job, found in zip(chunk, of_chunk, strict=True)}
        return [row for job in jobs for row in rows[job.job_id]]

    def sample(self, job: Job, device: str, threads: int) -> list[Row]:
        """Nothing: no network of a module is kept whole."""
        return []

    @quietly()
    def weights(self, job: Job, device: str) -> tuple[list[Row], Mapping[str, NDArray[Any]]]:
        """Rows of ``runs`` of one job, its data, and its layers before and after: ``NAME_initial`` and ``NAME_final``."""
        data, tests = points_of(self.data, device)
        made = self._made(self.factory.function(), job).to(device)
        data, tests = data.like(made), tests.like(made)
        started = time.perf_counter()
        found = self._train([made], [job], data)
        seconds = time.perf_counter() - started
        start = dict(made.named_parameters())
        arrays: dict[str, NDArray[Any]] = dict(self.data.arrays())
        for layer in self.layers:
            for name, weights in (("initial", start[layer]), ("final", found.weights[layer][0])):
                known = weights.float() if weights.dtype in (torch.bfloat16, torch.float16) else weights
                arrays[f"{layer}_{name}"] = known.detach().cpu().numpy()
        [rows] = self._measured([job], [made], found, seconds, data, tests, device_name(device))
        return rows, arrays

    def failed(self, job: Job, error: str) -> list[Row]:
        """Rows of ``runs`` of a job that could not be run."""
        outcome = {"status": FAILED, "error": error, "version": VERSION, "wall_seconds": 0.0}
        return [{**RUNS.blank(), **_identity(job, layer), **outcome} for layer in self.layers]

    def _made(self, make: Make, job: Job) -> torch.nn.Module:
        """The network of a job. Raises `InputError` if it cannot be made, or has other layers than those of the study."""
        made = network(make, job.arguments(), self.factory.name)
        if tuple(layers_of(made)) != self.layers:
            raise InputError(
                f"{self.factory.name}: its layers are {some_of(list(layers_of(made)))} here, and {some_of(self.layers)} in the study; "
                "allowed: the same names for every width, exponent and seed"
            )
        return made

    def _train(self, networks: Sequence[torch.nn.Module], jobs: Sequence[Job], data: Points) -> Trained:
        settings = settings_of(self.settings, jobs[0].width, data, self.data.classes)
        return train(networks, [job.seed for job in jobs], data, settings)

    def _rows(
        self,
        jobs: Sequence[Job],
        networks: Sequence[torch.nn.Module],
        data: Points,
        tests: Points,
        device: str,
    ) -> list[list[Row]]:
        """The rows of each of some jobs, whose networks differ in their weights alone and are trained here."""
        data, tests, started = data.like(networks[0]), tests.like(networks[0]), time.perf_counter()
        try:
            trained = self._train(networks, jobs, data)
        except InputError as error:
            if len(jobs) > 1:  # one of them fails, alone
                each = zip(jobs, networks, strict=True)
                return [self._rows([job], [made], data, tests, device)[0] for job, made in each]
            return [self.failed(job, str(error)) for job in jobs]
        return self._measured(jobs, networks, trained, time.perf_counter() - started, data, tests, device)

    def _measured(
        self,
        jobs: Sequence[Job],
        networks: Sequence[torch.nn.Module],
        trained: Trained,
        seconds: float,
        data: Points,
        tests: Points,
        device: str,
    ) -> list[list[Row]]:
        """The rows of each of some jobs, whose networks took so many seconds to train in all."""
        share, rows = seconds / max(sum(course.epochs for course in trained.courses), 1), []
        for index, (job, made) in enumerate(zip(jobs, networks, strict=True)):
            try:
                looked = look(made, trained, index, data, tests, self.settings.loss, job.seed)
            except InputError as error:
                rows.append(self.failed(job, str(error)))
                continue
            course = trained.courses[index]
            shared = {
                **of_course(course),
                "batching": TOGETHER if trained.together else ALONE,
                "error": "",
                "wall_seconds": share * course.epochs,
                "device": device,
                "version": VERSION,
            }
            rows.append(
                [
                    {**RUNS.blank(), **_identity(job, layer), **looked[layer], **shared}
                    for layer in self.layers
                ]
            )
        return rows


def points_of(data: Dataset, device: str) -> tuple[Points, Points]:
    """The training and the test points of a data set as tensors."""
    kind = torch.int64 if data.classes else torch.float32
    pairs = ((data.x, data.y), (data.x_test, data.y_test))
    train_points, tests = (
        Points(torch.from_numpy(np.array(x, np.float32)), torch.from_numpy(np.array(y)).to(kind)).to(device)
        for x, y in pairs
    )
    return train_points, tests


def settings_of(spec: TrainSpec, width: int, data: Points, classes: int) -> Settings:
    """How networks of a width are trained."""
    target = spec.loss_tolerance * loss_of_nothing(data.y, classes, spec.loss)
    return Settings(
        method=spec.method,
        learning_rate=spec.rate(width),
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        loss=spec.loss,
        target=target,
    )


def look(
    made: torch.nn.Module, trained: Trained, index: int, data: Points, tests: Points, loss: str, seed: int
) -> dict[str, Row]:
    """What is measured on one of the trained networks, by layer.

    Raises:
        InputError: the network fails.
    """
    try:
        return _looked(made, trained, index, data, tests, loss, seed)
    except (Exception, SystemExit) as error:  # whatever somebody's module does
        raise_if_lost(error)
        raise InputError(f"the network cannot be evaluated after training: {in_words(error)}") from None


def _looked(
    made: torch.nn.Module, trained: Trained, index: int, data: Points, tests: Points, loss: str, seed: int
) -> dict[str, Row]:
    start, start_buffers = dict(made.named_parameters()), dict(made.named_buffers())
    # copies: where numbers lie in memory may change how they are rounded
    end, end_buffers = (
        {name: part[index].clone() for name, part in parts.items()}
        for parts in (trained.weights, trained.buffers)
    )
    before, after = (
        measures.kernel(made, weights, buffers, data.x)
        for weights, buffers in ((start, start_buffers), (end, end_buffers))
    )
    steps = trained.steps[index] if loss == MSE else []
    of_network = {
        "kernel_change": measures.kernel_change(before, after),
        **gaps(made, (start, start_buffers), (end, end_buffers), data, tests, steps),
        **of_tests(made, end, end_buffers, tests, loss),
    }
    layers = measures.measured(made, start, end, seed)
    return {name: {**layer._asdict(), **of_network} for name, layer in layers.items()}


def of_tests(
    made: torch.nn.Module, weights: measures.Weights, buffers: measures.Weights, tests: Points, loss: str
) -> Row:
    """Loss and error on the test points; NaN where there are none."""
    if not len(tests):
        return {"test_loss": float("nan"), "test_error": float("nan")}
    output = measures.outputs(made, weights, buffers, tests.x)
    return {"test_loss": float(loss_of(output, tests.y, loss)), "test_error": error_of(output, tests.y, loss)}


def of_course(course: Course) -> Row:
    """The columns that say how a training went."""
    return {
        "loss_initial": course.loss_initial,
        "loss_final": course.loss_final,
        "evaluations": course.epochs,
        "status": course.status,
        "time": course.time,
        "time_half": course.time_half,
    }


def identity(layer: str, width: int, seed: int, gamma: float = 0.0, gamma_prime: float = 0.0) -> Row:
    """The columns that say which layer of which network a row is about."""
    return {
        "layer": layer,
        "depth": 0,
        "width": width,
        "neurons": width,
        "gamma": gamma,
        "gamma_prime": gamma_prime,
        "gamma_1": 0.0,
        "seed": seed,
    }


def _identity(job: Job, layer: str) -> Row:
    return {"job_id": job.job_id, **identity(layer, job.width, job.seed, job.gamma, job.gamma_prime)}
