"""The slope at infinite width, on curves whose limit is known and which do not come from the fitted model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from phasediag import extrapolation, fitting

TWO_DECADES = np.array([100.0, 300, 1000, 3000, 10000])
THREE_DECADES = np.array([100.0, 300, 1000, 3000, 10000, 30000, 100000])


def fit(log_changes, widths):
    """(median, low, high) of curves log RD (p, k, seeds)."""
    means = log_changes.mean(axis=2)
    squares = np.square(log_changes - means[..., None]).sum(axis=2)
    runs = np.full(len(widths), float(log_changes.shape[2]))
    return extrapolation.infinite_width_slopes(widths, runs, means, squares, 0.95)


def curves(generator, widths, number, first, second, size, noise, seeds=3):
    """Slopes (p,) and log RD (p, k, seeds): a power law, two power-law corrections and seeds that scatter as 1/sqrt(m)."""
    ratio = widths / 100.0
    slope = generator.uniform(-1, 1, number)
    log_change = slope[:, None] * np.log(widths)
    for exponents in (first, second):
        omega = generator.uniform(*exponents, number)[:, None]
        log_change = log_change + generator.normal(0, size, number)[:, None] * ratio**-omega
    scatter = generator.uniform(*noise, number)[:, None, None] / np.sqrt(ratio)[:, None]
    return slope, log_change[..., None] + scatter * generator.normal(size=(number, len(widths), seeds))


@pytest.mark.parametrize("widths", [TWO_DECADES, THREE_DECADES], ids=["two decades", "three decades"])
@pytest.mark.parametrize(
    ("first", "second", "size"),
    [((0.3, 1.0), (0.5, 1.5), 0.1), ((0.3, 1.0), (0.5, 1.5), 0.3), ((0.25, 0.6), (0.4, 2.0), 0.3)],
    ids=["small", "usual", "slow"],
)
def test_the_interval_covers_the_limit_of_curves_with_two_corrections(widths, first, second, size):
    number = 1000
    slope, log_changes = curves(np.random.default_rng(7), widths, number, first, second, size, (0.03, 0.12))
    middle, low, high = fit(log_changes, widths)
    covered = ((low <= slope) & (slope <= high)).mean()
    assert 0.90 <= covered <= 0.99 + 3 * np.sqrt(0.99 * 0.01 / number)
    assert np.median(high - low) <= 0.1
    assert np.median(np.abs(middle - slope)) < np.median(high - low) / 4


def test_a_slow_approach_to_the_critical_line_is_recognised():
    """The relative change at (1, -0.4), on the critical line: the plain slope is near 0.1, the limit 0."""
    widths = np.array([100.0, 1000, 10000, 100000])
    generator = np.random.default_rng(3)
    noise = 0.03 / np.sqrt(widths / 100)[:, None] * generator.normal(size=(50, 4, 3))
    middle, low, high = fit(np.log([3.57, 5.20, 6.15, 6.70])[:, None] + noise, widths)
    assert (np.abs(middle) < 0.05).all()
    assert ((low < 0) & (high > 0)).all()


def test_a_power_law_keeps_its_slope():
    log_changes = np.repeat(0.3 * np.log(TWO_DECADES)[None, :, None], 3, axis=2)
    middle, low, high = fit(log_changes, TWO_DECADES)
    assert middle == pytest.approx(0.3, abs=1e-3)
    assert low < 0.3 < high < low + 0.02


def test_more_scatter_widens_the_interval_and_more_seeds_narrow_it():
    generator = np.random.default_rng(0)
    curve = 0.2 * np.log(TWO_DECADES)[None, :, None]
    few, many = ((1, 5, count) for count in (3, 30))

    def width(noise, shape):
        _, low, high = fit(curve + noise * generator.normal(size=shape), TWO_DECADES)
        return float(high[0] - low[0])

    assert width(0.01, few) < width(0.1, few)
    assert width(0.1, many) < width(0.1, few)


def test_the_slope_does_not_depend_on_units_or_on_other_points():
    generator = np.random.default_rng(5)
    _, log_changes = curves(generator, TWO_DECADES, 20, (0.3, 1), (0.5, 1.5), 0.3, (0.05, 0.1))
    together = np.stack(fit(log_changes, TWO_DECADES))
    shifted = np.stack(fit(log_changes[3:4] + 5.0, TWO_DECADES))
    np.testing.assert_allclose(shifted[:, 0], together[:, 3], atol=1e-9)
    tilted = np.stack(fit(log_changes - 0.7 * np.log(TWO_DECADES)[:, None], TWO_DECADES))
    np.testing.assert_allclose(tilted, together - 0.7, atol=1e-9)


def make_runs(widths, seeds, gamma=1.0):
    rows = [
        (2, "W1", gamma, 0.0, 0.0, width, seed, width**-0.2, "converged")
        for width in widths
        for seed in range(seeds)
    ]
    keys = [*fitting.POINT_KEYS, "width", "seed", "relative_change", "status"]
    return pd.DataFrame(rows, columns=keys)


def test_fewer_than_four_widths_have_no_limit():
    row = fitting.fit(make_runs((100, 1000, 10000), 3)).iloc[0]
    assert row["slope"] == pytest.approx(-0.2)
    assert np.isnan([row["slope_infinite"], row["slope_infinite_low"], row["slope_infinite_high"]]).all()


def test_points_with_different_runs_are_fitted_alike():
    whole, thin = make_runs((100, 300, 1000, 3000), 3, 1.0), make_runs((100, 300, 1000, 3000), 3, 1.5)
    thin = thin.drop(index=[0, 4, 5])
    lost = make_runs((100, 300, 1000, 3000), 3, 2.0).assign(status="diverged")
    slopes = fitting.fit(pd.concat([whole, thin, lost])).set_index("gamma")
    assert slopes.loc[[1.0, 1.5], "slope_infinite"].to_numpy() == pytest.approx(-0.2, abs=2e-3)
    alone = fitting.fit(thin).iloc[0]
    assert alone["slope_infinite_low"] == pytest.approx(slopes.loc[1.5, "slope_infinite_low"], abs=1e-12)
    assert np.isnan(slopes.loc[2.0, "slope_infinite"])
    assert slopes.loc[2.0, "regime"] == "undetermined"


def test_one_seed_is_enough_for_an_interval():
    row = fitting.fit(make_runs((100, 300, 1000, 3000), 1)).iloc[0]
    assert row["slope_infinite_low"] < -0.2 < row["slope_infinite_high"]
