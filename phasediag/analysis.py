"""From the rows in a folder to its slopes and its figures. Needs neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from . import figures
from .errors import InputError
from .fitting import count_predicted_rows, critical_line, fit, line_distance
from .store import Store
from .theory import LAYERS, has_critical_line

LINE_SLOPES = ("slope", "slope_infinite")
"""The slopes whose zero is a critical line: the plain one, and that of infinite width."""


def fit_folder(store: Store) -> pd.DataFrame:
    """Fits the slopes of a folder's runs, writes `slopes.parquet` and returns them.

    Raises:
        InputError: the folder holds no runs.
    """
    runs = store.runs()
    if runs.empty:
        raise InputError(
            f"{store.name('runs')}: holds no rows; allowed: a folder that 'phasediag run' has written"
        )
    slopes = fit(runs)
    store.write_fitted(slopes)
    return slopes


def is_fitted(store: Store) -> bool:
    """Whether the slopes of a folder are there and count the runs that are."""
    slopes = store.fitted()
    return not slopes.empty and int(slopes[["runs", "left_out"]].to_numpy().sum()) == len(store.runs())


def plot_folder(store: Store) -> Iterator[str]:
    """Draws every figure that the files of a folder allow into `figures/`; yields the name of each file.

    Raises:
        InputError: the folder holds no study, or nothing was fitted yet.
    """
    depth, name = _depth_and_name(store)
    runs, slopes = store.runs(), store.fitted()
    if slopes.empty:
        raise InputError(f"{store.name(store.fitted_name)}: missing; run 'phasediag fit {store.out}' first")
    # The change of W2 has low rank: what it does to its inputs is in the operator norm.
    second = runs.loc[runs["layer"] == "W2"]
    operator = fit(second.assign(relative_change=second["relative_change_spectral"])) if len(second) else None
    data = store.read_data()
    data_xy = None if data is None else (data["x"], data["y"])
    drawn = figures.draw_all(runs, slopes, store.samples(), data_xy, depth, name, operator)
    for key, figure in drawn.items():
        for ending, content in figures.render(figure).items():
            store.write_figure(f"{key}.{ending}", content)
            yield f"figures/{key}.{ending}"


def line_distances(slopes: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """How far the measured critical line of each layer lies from the predicted one, in gamma.

    Returns:
        layer -> column ("slope", and "slope_infinite" where there is any) -> {"mean": mean |distance|, "max": largest, "rows":
        number of values of gamma_prime compared, "crossed": number of those where the predicted line lies inside the
        map}, for the layers that have a predicted line; NaN where nothing can be compared.
    """
    distances: dict[str, dict[str, dict[str, float]]] = {}
    on_plane = slopes.loc[slopes["gamma_1"] == 0.0]
    for depth, layer in on_plane[["depth", "layer"]].drop_duplicates().itertuples(index=False):
        if not has_critical_line(layer, depth):
            continue
        distances[str(layer)] = {}
        crossed = count_predicted_rows(slopes, layer)
        for column in LINE_SLOPES:
            if slopes.loc[slopes["layer"] == layer, column].notna().any() or column == "slope":
                mean, largest, rows = line_distance(critical_line(slopes, layer, column))
                found = {"mean": mean, "max": largest, "rows": rows, "crossed": crossed}
                distances[str(layer)][column] = found
    return distances


def _depth_and_name(store: Store) -> tuple[int, str]:
    """Depth and name of the study, without the checks of the spec that it has passed long ago."""
    document = store.read_document()
    if document is None:
        raise InputError(f"{store.out}: holds no study; allowed: a folder that 'phasediag run' has written")
    source = store.name("study.toml")
    try:
        depth, name = int(document["network"]["depth"]), str(document["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: not a study ({type(error).__name__}: {error})") from None
    if depth not in LAYERS:
        raise InputError(
            f"{source}: network.depth: {depth} is not supported; allowed: {', '.join(map(str, LAYERS))}"
        )
    return depth, name
