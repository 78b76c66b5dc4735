"""From runs to counts: on how many lines the neurons of a layer lie, over the seeds, and in which epochs they have condensed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from ..storage.schema import require_columns
from .columns import TABLES

LAYER_KEYS = [
    "activations",
    "layer",
    "activation",
    "multiplicity",
    "hidden",
    "dimension",
    "std",
    "method",
]
"""The columns that identify a layer of a study's networks, whatever the seed."""
CONDENSED = 0.85
"""A layer has condensed if at least this share of its active neurons is within 10 degrees of the centre of their line, ..."""
NEURONS_PER_LINE = 2
"""... and if there are at least so many active neurons to a line: each of a few neurons is on a line of its own."""
SUMMARY_COLUMNS = [
    *LAYER_KEYS,
    "seeds",
    "first",
    "last",
    "epoch",
    "lines",
    "share",
    "within_bound",
    "aligned_fraction",
    "active_neurons",
    "predicted_fraction",
    "sign_fraction",
]
_NEEDED = [*LAYER_KEYS, "epoch", "seed", "lines", "active_neurons", "aligned_fraction"]


def count(runs: pd.DataFrame) -> pd.DataFrame:
    """Count the seeds with each number of lines.

    Args:
        runs: rows of ``runs/`` of a condensation study, or of several.

    Returns:
        One row for each layer, epoch and number of lines: ``lines``; ``count``, the seeds with this number, out of ``seeds``;
        ``share = count / seeds``; ``modal``, true for the most frequent number (among equals, the smallest); ``left_out``, seeds without
        a count (diverged, failed, or not trained up to this epoch).

    Raises:
        InputError: a column is missing.
    """
    require_columns(runs, _NEEDED)
    keys = [*LAYER_KEYS, "epoch"]
    found = runs.loc[runs["lines"].notna()]
    counts = found.groupby([*keys, "lines"]).size().rename("count").reset_index()
    counts["seeds"] = counts.groupby(keys)["count"].transform("sum")
    counts["share"] = counts["count"] / counts["seeds"]
    most = counts.sort_values(["count", "lines"], ascending=[False, True]).drop_duplicates(keys).index
    counts["modal"] = counts.index.isin(most)
    there = runs.groupby(keys).size().rename("all").reset_index()
    counts = counts.merge(there, on=keys)
    counts["left_out"] = counts["all"] - counts["seeds"]
    counts = counts.astype(dict.fromkeys(("lines", "count", "seeds", "left_out"), "int64"))
    order = [*TABLES.order, "lines"]
    counts = counts.sort_values([name for name in order if name in counts], ignore_index=True)
    return counts.reindex(columns=TABLES.fitted.names)


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """When each layer has condensed, and on how many lines.

    Args:
        runs: as for `count`.

    Returns:
        One row for each layer of each network (columns `SUMMARY_COLUMNS`): ``seeds``; ``first`` and ``last`` epoch of the longest range of
        snapshots in which at least half of the seeds have condensed (NaN if there is none); ``epoch``, the snapshot after the start with
        the largest mean ``aligned_fraction``, among snapshots that at least half of the seeds have reached. At this snapshot: ``lines``,
        the most frequent number; its ``share`` of the seeds; ``within_bound``, the share of the seeds with any line that have at most as
        many as the multiplicity (NaN without one); the medians of ``aligned_fraction`` and ``active_neurons``. ``predicted_fraction``
        and ``sign_fraction``: the largest median at any snapshot.

    Raises:
        InputError: a column is missing.
    """
    require_columns(runs, _NEEDED)
    rows = [_summary(dict(zip(LAYER_KEYS, key, strict=True)), layer) for key, layer in _layers(runs)]
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def condensed_share(layer: pd.DataFrame) -> pd.Series[float]:
    """The share of the seeds that have condensed, by epoch, of the rows of one layer; those without a count have not."""
    gathered = layer["active_neurons"] >= NEURONS_PER_LINE * layer["lines"]
    condensed = (layer["aligned_fraction"] >= CONDENSED) & (layer["lines"] > 0) & gathered
    return condensed.astype(float).groupby(layer["epoch"]).mean()


def _layers(runs: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    for key, layer in runs.groupby(LAYER_KEYS, sort=True):
        yield key if isinstance(key, tuple) else (key,), layer


def _summary(key: dict[str, Any], layer: pd.DataFrame) -> dict[str, Any]:
    share = condensed_share(layer)
    first, last = _longest(share.index.to_numpy(), share.to_numpy() >= 0.5)
    counted = layer.loc[layer["lines"].notna()]
    empty = dict.fromkeys(SUMMARY_COLUMNS, np.nan) | key | {"seeds": layer["seed"].nunique()}
    if counted.empty:
        return empty
    aligned = counted.groupby("epoch")["aligned_fraction"]
    # Where few seeds have got to, these are not like the others.
    means = aligned.mean().fillna(0.0).where(aligned.size() >= aligned.size().max() / 2, -1.0)
    trained = means.loc[(means.index > 0) & (means >= 0)]
    means = trained if len(trained) else means
    epoch = int(means.index.to_numpy()[means.to_numpy().argmax()])
    there = counted.loc[counted["epoch"] == epoch]
    numbers, times = np.unique(there["lines"].to_numpy(), return_counts=True)
    bound, any_line = key["multiplicity"], there.loc[there["lines"] > 0, "lines"]
    return empty | {
        "first": first,
        "last": last,
        "epoch": epoch,
        "lines": int(numbers[times.argmax()]),
        "share": float(times.max() / len(there)),
        "within_bound": float((any_line <= bound).mean()) if bound else np.nan,
        **{name: float(there[name].median()) for name in ("aligned_fraction", "active_neurons")},
        **{
            name: float(counted.groupby("epoch")[name].median().max())
            for name in ("predicted_fraction", "sign_fraction")
        },
    }


def _longest(epochs: np.ndarray, condensed: np.ndarray) -> tuple[float, float]:
    """First and last epoch of the longest run of neighbouring snapshots that have condensed; the earlier one of two."""
    best, start = (0, np.nan, np.nan), None
    for index, yes in enumerate([*condensed, False]):
        if yes and start is None:
            start = index
        if not yes and start is not None:
            if index - start > best[0]:
                best = index - start, float(epochs[start]), float(epochs[index - 1])
            start = None
    return best[1], best[2]
