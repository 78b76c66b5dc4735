"""One network of a condensation study."""

from __future__ import annotations

from dataclasses import dataclass

Names = tuple[str, ...]
"""The activations of a network, one for each hidden layer."""


@dataclass(frozen=True, slots=True)
class Job:
    """One network to train.

    Attributes:
        job_id: the first 20 hexadecimal digits of the hash of the job's content.
        activations: one for each hidden layer.
        dimension: number d of inputs.
        std: standard deviation of all initial weights.
        seed: selects the initial weights, and the data where these are drawn for each seed.
        learning_rate: of this network.
    """

    job_id: str
    activations: Names
    dimension: int
    std: float
    seed: int
    learning_rate: float
