"""Counts over seeds, and from when to when a layer has condensed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phasediag.condensation.columns import TABLES
from phasediag.condensation.counts import LAYER_KEYS, SUMMARY_COLUMNS, condensed_share, count, summarise
from phasediag.errors import InputError

KEY = {
    "layer": "H1",
    "activation": "x_tanh",
    "activations": "x_tanh",
    "multiplicity": 2,
    "hidden": 50,
    "dimension": 5,
    "std": 0.005,
    "method": "adam",
}


def rows(
    lines: dict[int, list[float]], aligned: dict[int, float] | None = None, **changes: Any
) -> pd.DataFrame:
    """One row for each epoch and seed with so many lines; NaN is no count."""
    return pd.DataFrame(
        [
            {
                **KEY,
                "seed": seed,
                "epoch": epoch,
                "lines": number,
                "aligned_fraction": (aligned or {}).get(epoch, 0.9) if np.isfinite(number) else math.nan,
                "predicted_fraction": 0.1 * epoch,
                "sign_fraction": math.nan,
                "active_neurons": 40.0,
                **changes,
            }
            for epoch, numbers in lines.items()
            for seed, number in enumerate(numbers)
        ]
    )


def test_counts_are_the_distribution_over_seeds() -> None:
    counts = count(rows({0: [0, 0, 0, 0], 10: [2, 3, 2, math.nan]}))
    assert list(counts.columns) == TABLES.fitted.names
    found = counts[["epoch", "lines", "count", "seeds", "share", "modal", "left_out"]].values.tolist()
    assert found == [
        [0, 0, 4, 4, 1.0, True, 0],
        [10, 2, 2, 3, pytest.approx(2 / 3), True, 1],
        [10, 3, 1, 3, pytest.approx(1 / 3), False, 1],
    ]


def test_of_two_numbers_that_are_as_frequent_the_smaller_is_modal() -> None:
    counts = count(rows({5: [3, 2, 3, 2, 7]}))
    assert counts.loc[counts["modal"], "lines"].tolist() == [2]


def test_layers_activations_scales_and_methods_are_counted_apart() -> None:
    runs = pd.concat(
        [
            rows({1: [2, 2]}),
            rows({1: [3, 3]}, layer="H2"),
            rows({1: [4, 4]}, std=0.1),
            rows({1: [5, 5]}, method="gd"),
            rows({1: [6, 6]}, dimension=2),
            rows({1: [7, 7]}, activation="tanh", activations="tanh"),
        ]
    )
    counts = count(runs)
    assert sorted(counts["lines"]) == [2, 3, 4, 5, 6, 7]
    assert set(counts["share"]) == {1.0}


def test_seeds_without_any_count_leave_no_row() -> None:
    assert count(rows({1: [math.nan, math.nan]})).empty


def test_missing_columns_are_named() -> None:
    with pytest.raises(InputError, match="missing columns lines"):
        count(rows({1: [1]}).drop(columns="lines"))
    with pytest.raises(InputError, match="missing columns aligned_fraction"):
        summarise(rows({1: [1]}).drop(columns="aligned_fraction"))


def test_condensed_are_seeds_with_neurons_on_lines() -> None:
    runs = rows({0: [0, 0], 10: [2, math.nan], 20: [2, 2]}, {0: 0.0, 10: 0.9, 20: 0.84})
    assert condensed_share(runs).to_dict() == {0: 0.0, 10: 0.5, 20: 0.0}


def test_the_range_is_the_longest_run_of_snapshots() -> None:
    aligned = {0: 0.9, 1: 0.1, 2: 0.9, 4: 0.95, 8: 0.9, 16: 0.2, 32: 0.9}
    [found] = summarise(rows({epoch: [2, 2, 3] for epoch in aligned}, aligned)).to_dict("records")
    assert (found["first"], found["last"]) == (2, 8)
    assert found["epoch"] == 4
    assert (found["lines"], found["share"], found["within_bound"]) == (
        2,
        pytest.approx(2 / 3),
        pytest.approx(2 / 3),
    )
    assert found["predicted_fraction"] == pytest.approx(3.2)
    assert found["aligned_fraction"] == 0.95 and found["seeds"] == 3


def test_a_snapshot_that_few_seeds_have_reached_is_not_the_best() -> None:
    missing = math.nan
    [found] = summarise(
        rows({1: [2, 2, 2, 2], 2: [2, 2, 2, 2], 9: [1, missing, missing, missing]}, {1: 0.2, 2: 0.6, 9: 1.0})
    ).to_dict("records")
    assert (found["epoch"], found["lines"], found["share"]) == (2, 2, 1.0)


def test_what_never_condenses_or_has_no_bound_says_so() -> None:
    runs = pd.concat(
        [
            rows({0: [0, 0], 5: [1, 1]}, {0: 0.0, 5: 0.3}),
            rows({0: [4, 4]}, activation="relu", activations="relu", multiplicity=0),
            rows({0: [math.nan]}, activation="tanh", activations="tanh", multiplicity=1),
        ]
    )
    found = summarise(runs).set_index("activation")
    assert list(summarise(runs).columns) == SUMMARY_COLUMNS
    assert math.isnan(found.loc["x_tanh", "first"]) and found.loc["x_tanh", "epoch"] == 5
    assert math.isnan(found.loc["relu", "within_bound"]) and found.loc["relu", "lines"] == 4
    assert math.isnan(found.loc["tanh", "epoch"]) and math.isnan(found.loc["tanh", "lines"])


def test_a_summary_has_a_row_for_every_layer_of_every_network() -> None:
    runs = pd.concat([rows({1: [2]}), rows({1: [2]}, layer="H2"), rows({1: [2]}, std=0.5)])
    assert len(summarise(runs)) == 3
    assert not summarise(runs).duplicated(LAYER_KEYS).any()


def test_few_neurons_on_as_many_lines_have_not_condensed() -> None:
    table = rows({0: [4, 4], 1: [4, 4], 2: [2, 2]})
    table["active_neurons"] = 4.0
    [found] = summarise(table).to_dict("records")
    assert (found["first"], found["last"]) == (2, 2)


def test_the_start_is_no_place_to_condense_at() -> None:
    [found] = summarise(rows({0: [1, 1], 1: [2, 2]}, {0: 0.9, 1: 0.5})).to_dict("records")
    assert found["epoch"] == 1 and found["lines"] == 2
    [found] = summarise(rows({0: [1, 1], 1: [np.nan, np.nan]})).to_dict("records")
    assert found["epoch"] == 0


def test_no_line_is_not_within_the_bound() -> None:
    [found] = summarise(rows({1: [0, 0, 1, 2, 9]})).to_dict("records")
    assert found["within_bound"] == pytest.approx(2 / 3)
    [found] = summarise(rows({1: [0, 0]})).to_dict("records")
    assert np.isnan(found["within_bound"])
