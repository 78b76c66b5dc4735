"""The program, which trains one batch and then rests until a file is there: python -m faults.held FILE run SPEC --out OUT"""

from __future__ import annotations

import sys

from faults import sweeps
from phasediag import cli
from phasediag.phase_diagram.kind import PhaseDiagram


def main(instead: sweeps.Formula | None = None) -> None:
    """As `phasediag`, with one argument more; trains with something else if that is given."""
    file, trainer = sys.argv.pop(1), PhaseDiagram.trainer
    PhaseDiagram.trainer = lambda kind, study: sweeps.Disturbed(  # type: ignore[assignment, method-assign, return-value]
        instead or trainer(kind, study), sweeps.Rest(file)
    )
    cli.main()


if __name__ == "__main__":
    main()
