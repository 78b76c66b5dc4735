"""The study of a file, or of stored results, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .condensation.spec import CondensationSpec
from .condensation.study import CondensationStudy, Datasets, load_datasets
from .data import load_data, make_dataset
from .errors import InputError
from .spec import parse_spec
from .study import PhaseDiagramStudy, Study
from .tables import PointsData


def read_study(path: str | Path) -> Study:
    """Reads the TOML file of a study, and its data.

    Raises:
        InputError: the file or its data cannot be read, or hold something that is not allowed.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"{path}: cannot be read ({reason}); allowed: a TOML file") from None
    source, spec = str(path), parse_spec(text, str(path))
    if isinstance(spec, CondensationSpec):
        return CondensationStudy(spec, load_datasets(spec, path.parent, source), source)
    return PhaseDiagramStudy(spec, load_data(spec.data, path.parent, source), source)


def study_from_store(text: str, arrays: Mapping[str, Any], source: str) -> Study:
    """The study of stored results: the text of their `study.toml` and the arrays of `data.npz`.

    The file the data came from is not needed any more.

    Raises:
        InputError: the text or the arrays are not valid, or contradict each other.
    """
    spec, where = parse_spec(text, source), f"{source}: data"
    study: Study
    if isinstance(spec, CondensationSpec):
        datasets = Datasets.from_arrays(arrays, where)
        study, found = CondensationStudy(spec, datasets, source), datasets.shared
    else:
        found = make_dataset(arrays["x"], arrays["y"], where)
        study = PhaseDiagramStudy(spec, found, source)
    if isinstance(spec.data, PointsData) and found != load_data(spec.data, Path(), source):
        raise InputError(f"{source}: data: the points are not those stored as arrays beside it")
    return study
