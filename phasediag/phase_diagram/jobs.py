"""The networks of a phase diagram, and the networks of a grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

Cell = tuple[int, float, float, int]
"""(width, gamma, gamma_prime, seed): what identifies a job of a phase diagram."""


class PlaneJob(Protocol):
    """A network of a grid."""

    @property
    def job_id(self) -> str:
        """The first 20 hexadecimal digits of the hash of the job's content."""
        ...

    @property
    def width(self) -> int:
        """Number m of neurons of a hidden layer, or whatever else is widened."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One network of a phase diagram: its identity, its architecture and its initialisation.

    Attributes:
        job_id: the first 20 hexadecimal digits of the hash of the job's content.
        depth: number of layers of weights.
        width: number m of neurons of each hidden layer.
        neurons: number N of simulated neurons, each of which represents m / N; m itself where the network is whole.
        gamma: exponent of the prefactor kappa = m^-gamma, rounded to 10 decimals like the other two.
        gamma_prime: exponent of the ratio of the outer scales.
        gamma_1: exponent of the ratio of the output scale to those between hidden layers; 0.0 for two layers.
        seed: selects the initial normalised weights.
    """

    job_id: str
    depth: int
    width: int
    neurons: int
    gamma: float
    gamma_prime: float
    gamma_1: float
    seed: int

    @property
    def mass(self) -> float:
        """How many neurons of the network each simulated one stands for, m / N."""
        return self.width / self.neurons


def grid_cells(grid: Mapping[str, Any]) -> Iterator[Cell]:
    """The jobs of a grid, each once: every width and seed at every point, of the product of gamma and gamma_prime and of `points`."""
    for (gamma, gamma_prime), width, seed in product(grid_points(grid), grid["width"], grid["seeds"]):
        yield width, gamma, gamma_prime, seed


def grid_points(grid: Mapping[str, Any]) -> set[tuple[float, float]]:
    """The points of a grid: the product of gamma and gamma_prime, and `points`."""
    return {*product(grid["gamma"], grid["gamma_prime"]), *map(tuple, grid["points"])}
