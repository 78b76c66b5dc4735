"""From the rows in a folder to its slopes, or counts, and its figures. Needs neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from . import figures
from .comparison import Differences
from .condensation import figures as condensation_figures
from .condensation.counts import count, summarise
from .difference_map import Names, draw_differences
from .errors import InputError
from .fitting import LINE_SLOPES, count_predicted_rows, critical_line, fit, line_distance, regime_counts
from .refinement import Placement, refinement_of
from .refinement_map import refinement_map
from .schemas import LINE_DIFFERENCES, SLOPE_DIFFERENCES
from .store import Store
from .theory import LAYERS, has_critical_line

_FIT = {"phase-diagram": fit, "condensation": count}


def fit_folder(store: Store) -> pd.DataFrame:
    """Fits the slopes of a folder's runs, or counts their lines, writes and returns them.

    Raises:
        InputError: the folder holds no runs.
    """
    fitted = _FIT[store.kind](stored_runs(store))
    store.write_fitted(fitted)
    return fitted


def is_fitted(store: Store) -> bool:
    """Whether what is fitted in a folder is there and counts the runs that are."""
    return _counts_all(store.fitted(), store.runs(), store.kind)


def _counts_all(fitted: pd.DataFrame, runs: pd.DataFrame, kind: str) -> bool:
    if fitted.empty:
        return False
    if kind == "condensation":
        return int(fitted["count"].sum()) == int(runs["lines"].notna().sum())
    return int(fitted[["runs", "left_out"]].to_numpy().sum()) == len(runs)


def current_fit(store: Store, runs: pd.DataFrame) -> pd.DataFrame:
    """What is fitted in a folder if it counts these runs, all of the folder's; else fitted here and now, and not written."""
    fitted = store.fitted()
    if runs.empty or _counts_all(fitted, runs, store.kind):
        return fitted
    return _FIT[store.kind](runs)


def summary(store: Store) -> dict[str, Any]:
    """What `phasediag fit` tells of a folder, as JSON can hold it."""
    if store.kind == "condensation":
        runs = stored_runs(store)
        rows = summarise(runs).to_dict("records")
        return {"layers": rows, "rows": len(runs), "left_out": int(runs["lines"].isna().sum())}
    slopes = store.fitted()
    counted = slopes[["runs", "left_out"]].sum()
    placement = refined(store, store.runs())
    refinement = {} if placement is None else {"refinement": placement.summary()}
    return {
        "regimes": regime_counts(slopes),
        "critical_line_distance": line_distances(slopes),
        "runs": int(counted["runs"]),
        "left_out": int(counted["left_out"]),
        **refinement,
    }


def plot_folder(store: Store) -> Iterator[str]:
    """Draws every figure that the files of a folder allow into `figures/`; yields the name of each file.

    Raises:
        InputError: the folder holds no study, or nothing was fitted yet.
    """
    _document(store)
    if store.fitted().empty:
        raise InputError(f"{store.name(store.fitted_name)}: missing; run 'phasediag fit {store.out}' first")
    draw = {"phase-diagram": _draw_phase_diagram, "condensation": _draw_condensation}[store.kind]
    for key, figure in draw(store).items():
        for ending, content in figures.render(figure).items():
            store.write_figure(f"{key}.{ending}", content)
            yield f"figures/{key}.{ending}"


def write_comparison(store: Store, found: Differences, names: Names) -> Iterator[str]:
    """Writes the tables and figures of a comparison to a folder; yields the name of each file."""
    for name, frame, schema in (
        ("differences.parquet", found.slopes, SLOPE_DIFFERENCES),
        ("lines.parquet", found.lines, LINE_DIFFERENCES),
    ):
        store.write_table(name, frame, schema)
        yield name
    for key, figure in draw_differences(found, names).items():
        for ending, content in figures.render(figure).items():
            store.write_figure(f"{key}.{ending}", content, folder="")
            yield f"{key}.{ending}"


def _draw_phase_diagram(store: Store) -> dict[str, Figure]:
    depth, name = depth_and_name(store)
    runs, slopes = store.runs(), store.fitted()
    # The change of W2 has low rank: what it does to its inputs is in the operator norm.
    second = runs.loc[runs["layer"] == "W2"]
    operator = fit(second.assign(relative_change=second["relative_change_spectral"])) if len(second) else None
    data = store.read_data()
    data_xy = None if data is None else (data["x"], data["y"])
    drawn = figures.draw_all(runs, slopes, store.samples(), data_xy, depth, name, operator)
    placement = refined(store, runs)
    if placement is not None and placement.rounds:
        drawn["refinement"] = refinement_map(slopes, placement)
        drawn["refinement"].set_label(f"{name}: refinement")
    return drawn


def _draw_condensation(store: Store) -> dict[str, Figure]:
    return condensation_figures.draw_all(
        store.runs(), store.samples(), store.read_data(), str(_document(store).get("name", ""))
    )


def refined(store: Store, runs: pd.DataFrame) -> Placement | None:
    """What the refinement of a folder's study has placed, given its runs, and how well its critical lines are known; None if it has
    no refinement."""
    refinement = refinement_of(_document(store))
    return None if refinement is None else refinement.advance(runs)


def stored_runs(store: Store) -> pd.DataFrame:
    """The runs of a folder. Raises `InputError` if it holds none."""
    runs = store.runs()
    if runs.empty:
        raise InputError(
            f"{store.name('runs')}: holds no rows; allowed: a folder that 'phasediag run' has written"
        )
    return runs


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


def _document(store: Store) -> dict[str, Any]:
    document = store.read_document()
    if document is None:
        raise InputError(f"{store.out}: holds no study; allowed: a folder that 'phasediag run' has written")
    return document


def depth_and_name(store: Store) -> tuple[int, str]:
    """Depth and name of the study, without the checks of the spec that it has passed long ago."""
    document, source = _document(store), store.name("study.toml")
    try:
        depth, name = int(document["network"]["depth"]), str(document["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: not a study ({type(error).__name__}: {error})") from None
    if depth not in LAYERS:
        raise InputError(
            f"{source}: network.depth: {depth} is not supported; allowed: {', '.join(map(str, LAYERS))}"
        )
    return depth, name
