"""Torch modules of a reader's own as a kind of study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..phase_diagram.plane_kind import PlaneKind
from .columns import TABLES
from .jobs import Job

if TYPE_CHECKING:  # each method imports what it needs
    from .spec import Spec
    from .study import ModuleStudy
    from .training import Trainer


class Modules(PlaneKind["Spec", "ModuleStudy", Job]):
    """Networks that a function makes, over width and two exponents: how far their weights move as the width grows."""

    name = "module"
    tables = TABLES

    def spec(self) -> type[Spec]:
        from .spec import Spec

        return Spec

    def study(self, spec: Spec, folder: Path, source: str) -> ModuleStudy:
        from ..spec.data import load_data
        from .probe import probed

        return probed(spec, load_data(spec.data, folder, source), folder, source)

    def restored(self, spec: Spec, arrays: Mapping[str, NDArray[np.generic]], source: str) -> ModuleStudy:
        from ..spec.data import Dataset, require_points
        from .study import ModuleStudy

        data = Dataset.from_arrays(arrays, f"{source}: data")
        require_points(spec.data, data, source)
        beside = (
            () if "://" in source else (str(Path(source).resolve().parent.parent),)
        )  # where `init` has results go
        return ModuleStudy(spec, data, source, folders=beside)

    def trainer(self, study: ModuleStudy) -> Trainer:
        from .factory import Factory
        from .training import Trainer

        network = study.spec.network
        factory = Factory(network.factory, study.folders, network.code, network.arguments)
        return Trainer(study.data, study.spec.train, factory, network.layers)


KIND = Modules()
