"""From the results in a folder to the files of its figures, for every kind of study. Needs neither torch nor Ray."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import accumulate
from typing import TYPE_CHECKING

from ..devices import cores
from ..errors import InputError, choices, hint
from ..kinds import kind_in
from ..storage.schema import VERSION, digest
from .load import Results

if TYPE_CHECKING:
    from ..display.figures import Drawing


def plot_folder(
    results: Results,
    only: Sequence[str] = (),
    formats: Sequence[str] = (),
    points: Sequence[str] = (),
    measure: str | None = None,
) -> Iterator[str]:
    """Draws every figure that a folder allows into its `figures/`; yields the name of each file.

    What is fitted is written first, if it is not there or is out of date.

    Args:
        results: the folder.
        only: names of figures, or what names begin with ("scaling"): no others are drawn.
        formats: png, svg and pdf; PNG and SVG unless given.
        points: draw only the scaling figures, at these points of the plane ("0.5,0"), into files of their own.
        measure: draw only the maps of this measure, into files of their own.

    Raises:
        InputError: the folder holds no runs, or there is no such figure, format, point or measure.
    """
    # matplotlib takes half a second, for which only drawing waits
    from ..display.drawing import render_all
    from ..display.figures import FORMATS

    store = results.store
    if unknown := set(formats) - FORMATS.keys():
        raise InputError(f"--format: {min(unknown)!r} is not supported; {choices(min(unknown), FORMATS)}")
    kind = kind_in(store)
    if measure is not None:
        drawn_here = kind.measure(results, measure).figures()
    else:
        drawn_here = kind.scaling(results, points) if points else kind.figures(results)
    drawings = _chosen(store.out, drawn_here, only)
    if results.keep_fit():
        yield store.fitted_name
    whole = not (only or formats or points or measure)
    if whole:
        store.forget_drawn()
    study, drawn = str((store.read_document() or {}).get("name", "")), []
    for key, files in render_all(drawings, study, formats or ("png", "svg"), cores()):
        for ending, content in files.items():
            drawn.append(f"{key}.{ending}")
            store.write_figure(drawn[-1], content)
            yield f"figures/{drawn[-1]}"
    if whole:
        store.write_drawn(_source_of_figures(results), drawn)


def _chosen(out: str, drawings: Mapping[str, Drawing], only: Sequence[str]) -> dict[str, Drawing]:
    """The drawings that are meant by names, or by what names begin with; all if there is none."""
    for part in only:
        if not any(_is_part(key, part) for key in drawings):
            starts = [start for key in drawings for start in accumulate(key.split("_"), "{}_{}".format)]
            close = hint(part, starts)
            raise InputError(f"--only: {part!r} is no figure of {out}; {close}allowed: {', '.join(drawings)}")
    return {
        key: drawing
        for key, drawing in drawings.items()
        if not only or any(_is_part(key, part) for part in only)
    }


def _is_part(key: str, part: str) -> bool:
    return key == part or key.startswith(f"{part}_")


def is_drawn(results: Results) -> bool:
    """Whether the fit of a folder is current and its figures are there, drawn by this version from all that it holds."""
    drawn = results.store.drawn_from()
    return drawn is not None and drawn == _source_of_figures(results) and results.is_fitted


def _source_of_figures(results: Results) -> str:
    """A hash of all that figures depend on: rows, kept networks, the study, its data, and what draws."""
    content = [VERSION, version("matplotlib"), digest(results.runs), results.store.digest()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
