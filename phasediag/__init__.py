"""Phase diagrams of neural network initialisations: in which regime does this initialisation train?

    study = phasediag.read_study("sweeps/quickstart.toml")     # or from arrays: phasediag.study(x, y, width=..., ...)
    runs = phasediag.train(study)                 # in this process, without Ray
    slopes = phasediag.fit(runs)
    ax = phasediag.plot_map(slopes, layer="W1")

A condensation study has counts of lines in place of slopes: ``phasediag.count(runs)``, ``phasediag.summarise(runs)``.

Each name is imported on first use, so reading, fitting and plotting need neither torch nor ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import InputError, PhasediagError

if TYPE_CHECKING:
    from .condensation.counts import count, summarise
    from .kinds import read_study
    from .modules.where.measuring import measure
    from .phase_diagram.arrays import study
    from .phase_diagram.comparison import compare
    from .phase_diagram.figures.examples import plot_features, plot_functions, plot_scaling
    from .phase_diagram.figures.film import plot_film
    from .phase_diagram.figures.maps import plot_map, plot_regimes
    from .phase_diagram.fitting import critical_line, fit
    from .phase_diagram.info import values
    from .phase_diagram.locate.networks import locate
    from .storage.schema import VERSION as __version__
    from .studies import Study
    from .sweep.load import load
    from .sweep.local import train

_HOMES = {
    "Study": "studies",
    "compare": "phase_diagram.comparison",
    "count": "condensation.counts",
    "critical_line": "phase_diagram.fitting",
    "fit": "phase_diagram.fitting",
    "load": "sweep.load",
    "locate": "phase_diagram.locate.networks",
    "measure": "modules.where.measuring",
    "plot_features": "phase_diagram.figures.examples",
    "plot_film": "phase_diagram.figures.film",
    "plot_functions": "phase_diagram.figures.examples",
    "plot_map": "phase_diagram.figures.maps",
    "plot_regimes": "phase_diagram.figures.maps",
    "plot_scaling": "phase_diagram.figures.examples",
    "read_study": "kinds",
    "study": "phase_diagram.arrays",
    "summarise": "condensation.counts",
    "train": "sweep.local",
    "values": "phase_diagram.info",
}

__all__ = [
    "InputError",
    "PhasediagError",
    "Study",
    "__version__",
    "compare",
    "count",
    "critical_line",
    "fit",
    "load",
    "locate",
    "measure",
    "plot_features",
    "plot_film",
    "plot_functions",
    "plot_map",
    "plot_regimes",
    "plot_scaling",
    "read_study",
    "study",
    "summarise",
    "train",
    "values",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module(".storage.schema", __name__).VERSION
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
