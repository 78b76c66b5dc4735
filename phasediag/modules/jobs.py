"""The networks of a study of torch modules."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """One network: what its function is called with.

    Attributes:
        job_id: the first 20 hexadecimal digits of the hash of the job's content.
        width: whatever the function widens.
        gamma: exponent of the initialisation, rounded to 10 decimals like the other one.
        gamma_prime: the other exponent.
        seed: of the initial weights, and of the minibatches.
    """

    job_id: str
    width: int
    gamma: float
    gamma_prime: float
    seed: int

    def arguments(self) -> dict[str, float]:
        """What the function is called with."""
        return {
            "width": self.width,
            "gamma": self.gamma,
            "gamma_prime": self.gamma_prime,
            "seed": self.seed,
        }
