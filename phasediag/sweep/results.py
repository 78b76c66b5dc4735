"""From the rows in a folder to what is fitted and drawn, whatever the kind of its study. Needs neither torch nor Ray."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import pandas as pd

from ..errors import InputError, choices
from ..kinds import kind_in, require_study
from ..storage.schema import VERSION, digest
from ..storage.store import Store


def stored_runs(store: Store) -> pd.DataFrame:
    """The runs of a folder. Raises `InputError` if it holds none."""
    runs = store.runs()
    if runs.empty:
        raise InputError(
            f"{store.name('runs')}: holds no rows; allowed: a folder that 'phasediag run' has written"
        )
    return runs


def fit_folder(store: Store) -> pd.DataFrame:
    """Fits the slopes of a folder's runs, or counts their lines, writes and returns them.

    Raises:
        InputError: the folder holds no runs.
    """
    runs = stored_runs(store)
    fitted = kind_in(store).fit(runs)
    store.write_fitted(fitted, runs)
    return fitted


def is_fitted(store: Store) -> bool:
    """Whether what is fitted in a folder was fitted to the runs that it holds, content for content."""
    return store.fitted_to(store.runs()) is not None


def current_fit(store: Store, runs: pd.DataFrame) -> pd.DataFrame:
    """What is fitted in a folder if it was fitted to these runs, all of the folder's; else fitted here and now, and not written."""
    if runs.empty:
        return store.tables.fitted.empty_frame()
    fitted = store.fitted_to(runs)
    return kind_in(store).fit(runs) if fitted is None else fitted


def plot_folder(store: Store, only: Sequence[str] = (), formats: Sequence[str] = ()) -> Iterator[str]:
    """Draws every figure that the files of a folder allow into `figures/`; yields the name of each file.

    Args:
        store: the folder.
        only: names of figures, or what names begin with ("scaling"): no others are drawn.
        formats: png, svg and pdf; PNG and SVG unless given.

    Raises:
        InputError: the folder holds no study, nothing was fitted yet, or there is no such figure or format.
    """
    # matplotlib takes half a second, for which only drawing waits
    from ..display.figures import FORMATS, render

    if unknown := set(formats) - FORMATS.keys():
        raise InputError(f"--format: {min(unknown)!r} is not supported; {choices(min(unknown), FORMATS)}")

    require_study(store)
    if store.fitted().empty:
        raise InputError(f"{store.name(store.fitted_name)}: missing; run 'phasediag fit {store.out}' first")
    source = _source_of_figures(store, store.runs())
    figures = kind_in(store).figures(store)
    for part in only:
        if not any(_is_part(key, part) for key in figures):
            raise InputError(f"--only: {part!r} is no figure of {store.out}; {choices(part, figures)}")
    whole = not only and not formats
    if whole:
        store.forget_drawn()
    drawn = []
    for key, figure in figures.items():
        if only and not any(_is_part(key, part) for part in only):
            continue
        for ending, content in render(figure, formats or ("png", "svg")).items():
            drawn.append(f"{key}.{ending}")
            store.write_figure(drawn[-1], content)
            yield f"figures/{drawn[-1]}"
    if whole:
        store.write_drawn(source, drawn)


def _is_part(key: str, part: str) -> bool:
    """Whether a figure is meant by a name, or by what names begin with."""
    return key == part or key.startswith(f"{part}_")


def is_drawn(store: Store) -> bool:
    """Whether the fit of a folder is current and its figures are there, drawn by this version from all that it holds."""
    drawn = store.drawn_from()
    if drawn is None:
        return False
    runs = store.runs()
    return drawn == _source_of_figures(store, runs) and store.fitted_to(runs) is not None


def _source_of_figures(store: Store, runs: pd.DataFrame) -> str:
    """A hash of all that figures depend on: rows, kept networks, the study, its data, and what draws."""
    content = [VERSION, version("matplotlib"), digest(runs), store.digest()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
