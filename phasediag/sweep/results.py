"""From the rows in a folder to the fitted table, for every kind of study. Needs neither torch nor Ray."""

from __future__ import annotations

import pandas as pd

from ..errors import InputError
from ..kinds import kind_in
from ..storage.store import Store


def stored_runs(store: Store) -> pd.DataFrame:
    """The runs of a folder. Raises `InputError` if it holds none."""
    return require_runs(store.runs(), store)


def require_runs(runs: pd.DataFrame, store: Store) -> pd.DataFrame:
    """The runs of a folder. Raises `InputError` if there are none."""
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
