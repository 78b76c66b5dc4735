"""Phase diagrams as a kind of study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .columns import TABLES
from .jobs import Job
from .plane_kind import PlaneKind

if TYPE_CHECKING:  # each method imports what it needs
    from .spec import Spec
    from .study import PhaseDiagramStudy
    from .training import Trainer


class PhaseDiagram(PlaneKind["Spec", "PhaseDiagramStudy", Job]):
    """Networks over width and two exponents of the initialisation: how far their weights move as the width grows."""

    name = "phase-diagram"
    tables = TABLES

    def spec(self) -> type[Spec]:
        from .spec import Spec

        return Spec

    def study(self, spec: Spec, folder: Path, source: str) -> PhaseDiagramStudy:
        from ..spec.data import load_data, require_numbers
        from .study import PhaseDiagramStudy

        require_numbers(spec.data, self.name, source)
        return PhaseDiagramStudy(spec, load_data(spec.data, folder, source), source)

    def restored(
        self, spec: Spec, arrays: Mapping[str, NDArray[np.generic]], source: str
    ) -> PhaseDiagramStudy:
        from ..spec.data import Dataset, require_points
        from .study import PhaseDiagramStudy

        data = Dataset.from_arrays(arrays, f"{source}: data")
        require_points(spec.data, data, source)
        return PhaseDiagramStudy(spec, data, source)

    def trainer(self, study: PhaseDiagramStudy) -> Trainer:
        from .predictions import HeldOut
        from .training import Trainer

        data = study.data
        held_out = HeldOut(data.x_test, data.y_test) if len(data.y_test) else None
        return Trainer(data.x, data.y, study.spec.train, held_out)


KIND = PhaseDiagram()
