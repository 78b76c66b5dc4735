"""Cost and accuracy of the engine: python -m benchmarks.engine [alternatives|convergence|growth|passes|rates|represented ...] [--quick]

Absolute times depend on the machine: compare the numbers of one run.
"""

from __future__ import annotations

import importlib

import torch

from .common import chosen_parts, compile_seconds, machine

PARTS = ("alternatives", "convergence", "growth", "passes", "rates", "represented")


def main() -> None:
    parts, quick = chosen_parts(str(__doc__), PARTS)
    torch.set_num_threads(1)
    print(machine())
    print(f"compiled, or loaded from disk, in {compile_seconds():.1f} s")
    for part in parts:
        importlib.import_module(f".{part}", __package__).main(quick)


if __name__ == "__main__":
    main()
