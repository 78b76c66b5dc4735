"""Jobs: one network to train each, identified by a hash of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

_ID_DIGITS = 20


class AnyJob(Protocol):
    """One network to train, whatever the kind of its study."""

    @property
    def job_id(self) -> str:
        """The first 20 hexadecimal digits of the hash of the job's content."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One network of a phase diagram: its identity, its architecture and its initialisation.

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


def hash_of(content: Mapping[str, Any]) -> str:
    """The id of a job of this content: the first 20 hexadecimal digits of the sha256 of its canonical JSON."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_ID_DIGITS]
