"""A study: a spec together with its data, and the jobs that follow from them.

A job is one network to train. Its id is a hash of its content, so that the same network has the same id in every
study, whatever the study's name, the order of its grid or the resources it runs on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .data import Array, Dataset, load_data, make_dataset
from .errors import InputError
from .spec import MAX_JOBS, GridSpec, PointsData, Spec, format_spec, parse_spec
from .theory import round_exponent

_ID_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Job:
    """One network to train: its identity, its architecture and its initialisation.

    Attributes:
        job_id: the first 20 hexadecimal digits of the hash of the job's content.
        depth: number of layers of weights.
        width: number m of neurons of each hidden layer.
        gamma: exponent of the prefactor kappa = m^-gamma, rounded to 10 decimals like the other two.
        gamma_prime: exponent of the ratio of the outer scales.
        gamma_1: exponent of the ratio of the output to the middle scale; 0.0 for two layers.
        seed: selects the initial normalised weights.
    """

    job_id: str
    depth: int
    width: int
    gamma: float
    gamma_prime: float
    gamma_1: float
    seed: int


@dataclass(frozen=True)
class Study:
    """What to train (`spec`) on which data; `source` names where it was read, for error messages."""

    spec: Spec
    data: Dataset
    source: str

    @property
    def data_digest(self) -> str:
        """sha256 of the data, as in the content of every job."""
        return self.data.digest

    def jobs(self) -> list[Job]:
        """Every job of the union of the study's grids, once, by width, exponents and seed."""
        return [self.job(*cell) for cell in sorted(_cells(self.spec))]

    def sample_jobs(self) -> list[Job]:
        """The jobs whose networks are kept whole, by exponents. They need not be among `jobs`."""
        samples = self.spec.samples
        return [self.job(samples.width, gamma, prime, samples.seed) for gamma, prime in samples.points]

    def job(self, width: int, gamma: float, gamma_prime: float, seed: int) -> Job:
        """The job of one cell of the plane; the exponents are rounded to 10 decimals."""
        cell: dict[str, Any] = {
            "depth": self.spec.network.depth,
            "width": int(width),
            "gamma": round_exponent(gamma),
            "gamma_prime": round_exponent(gamma_prime),
            "gamma_1": self.spec.grid.gamma_1,
            "seed": int(seed),
        }
        return Job(job_id=_hash({**self._content, **cell}), **cell)

    def to_toml(self) -> str:
        """The spec as stored beside the results: every default explicit. Parses to an equal spec."""
        return format_spec(self.spec)

    def merged_with(self, stored: Study) -> Study:
        """The union of this study and the one that is stored already.

        Samples, resources and the path of the data are this study's. The stored grids stay if they hold every job; if
        this study's do, those replace them; otherwise this study's are appended as further grids.

        Raises:
            InputError: the studies differ in their name, network, training or data; the message names the key. Or
                the union is too large.
        """
        self._require_same(stored)
        here, there = set(_cells(self.spec)), set(_cells(stored.spec))
        if len(here | there) > MAX_JOBS:
            raise InputError(
                f"{self.source}: grid: {len(here | there)} jobs together with those of {stored.source}"
            )
        grids = _union(self.spec.grids, stored.spec.grids, here, there)
        spec = self.spec.model_copy(update={"grid": grids[0], "more_grids": grids[1:]})
        return Study(spec, self.data, self.source)

    @cached_property
    def _content(self) -> dict[str, Any]:
        """What all jobs of the study have in common."""
        return {
            "kind": self.spec.kind,
            "activation": self.spec.network.activation,
            "data": self.data_digest,
            "train": self.spec.train.model_dump(mode="json", exclude_none=True),
        }

    def _require_same(self, stored: Study) -> None:
        mine, theirs = dict(_fixed_keys(self.spec)), dict(_fixed_keys(stored.spec))
        for key in mine | theirs:
            if mine.get(key) != theirs.get(key):
                raise InputError(
                    f"{self.source}: {key}: {mine.get(key)!r} differs from what {stored.source} holds; "
                    f"allowed: {theirs.get(key)!r}, or another output folder"
                )
        if self.data != stored.data:
            raise InputError(
                f"{self.source}: data: the points differ from those that {stored.source} was trained on; "
                "allowed: the same points, or another output folder"
            )


def read_study(path: str | Path) -> Study:
    """Reads the TOML file of a study, and its data.

    Raises:
        InputError: the file or its data cannot be read, or hold something that is not allowed.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"{path}: cannot be read ({reason}); allowed: a TOML file") from None
    spec = parse_spec(text, str(path))
    return Study(spec, load_data(spec.data, path.parent, str(path)), str(path))


def study_from_store(text: str, x: Array, y: Array, source: str) -> Study:
    """The study of stored results: the text of their `study.toml` and the arrays x (n, d), y (n,) of `data.npz`.

    The file the data came from is not needed any more.

    Raises:
        InputError: the text or the arrays are not valid, or contradict each other.
    """
    spec = parse_spec(text, source)
    data = make_dataset(x, y, f"{source}: data")
    if isinstance(spec.data, PointsData) and data != load_data(spec.data, Path(), source):
        raise InputError(f"{source}: data: the points are not those stored as arrays beside it")
    return Study(spec, data, source)


def _hash(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_ID_DIGITS]


def _cells(spec: Spec) -> set[tuple[int, float, float, int]]:
    return {cell for grid in spec.grids for cell in grid.cells()}


def _fixed_keys(spec: Spec) -> Iterator[tuple[str, Any]]:
    """The keys, with their values, that make two specs parts of different studies when they differ."""
    yield "name", spec.name
    yield "kind", spec.kind
    yield "grid.gamma_1", spec.grid.gamma_1
    for table in ("network", "train"):
        for key, value in getattr(spec, table).model_dump(mode="json").items():
            yield f"{table}.{key}", value


def _union(
    here: tuple[GridSpec, ...], there: tuple[GridSpec, ...], jobs_here: set[Any], jobs_there: set[Any]
) -> tuple[GridSpec, ...]:
    if jobs_here <= jobs_there:
        return there
    if jobs_there <= jobs_here:
        return here
    return there + here
