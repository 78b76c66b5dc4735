"""Phase diagrams of neural network initialisations: in which regime does this initialisation train?

    study = phasediag.read_study("sweeps/quickstart.toml")
    runs = phasediag.train(study)                 # in this process, without Ray
    slopes = phasediag.fit(runs)
    ax = phasediag.plot_map(slopes, layer="W1")

Of a condensation study, the counts of lines in the place of slopes: ``phasediag.count(runs)``, ``phasediag.summarise(runs)``.

Each name is imported when it is first used: reading, fitting and plotting need neither torch nor ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import InputError, PhasediagError
from .version import VERSION as __version__

if TYPE_CHECKING:
    from .comparison import compare
    from .condensation.counts import count, summarise
    from .fitting import critical_line, fit
    from .maps import plot_map
    from .studies import read_study
    from .study import Study
    from .trainers import train

_HOMES = {
    "Study": "study",
    "compare": "comparison",
    "count": "condensation.counts",
    "critical_line": "fitting",
    "fit": "fitting",
    "plot_map": "maps",
    "read_study": "studies",
    "summarise": "condensation.counts",
    "train": "trainers",
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
    "plot_map",
    "read_study",
    "summarise",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
