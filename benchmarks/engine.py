"""Cost and accuracy of the engine: python -m benchmarks.engine [alternatives|convergence|growth|passes|rates|represented ...] [--quick]

Absolute times depend on the machine: compare the numbers of one run.
"""

from __future__ import annotations

import argparse
import importlib

import torch

from .common import compile_seconds, machine

PARTS = ("alternatives", "convergence", "growth", "passes", "rates", "represented")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)}; all without")
    parser.add_argument("--quick", action="store_true", help="a few small jobs: does it run?")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; allowed: {', '.join(PARTS)}")
    torch.set_num_threads(1)
    print(machine())
    print(f"compiled, or loaded from disk, in {compile_seconds():.1f} s")
    for part in arguments.parts or PARTS:
        importlib.import_module(f".{part}", __package__).main(arguments.quick)


if __name__ == "__main__":
    main()
