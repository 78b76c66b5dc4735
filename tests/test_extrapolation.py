"""The slope at infinite width, on curves whose limit is known and which do not come from the fitted model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from phasediag.phase_diagram import extrapolation, fitting

TWO_DECADES = np.array([100.0, 300, 1000, 3000, 10000])
THREE_DECADES = np.array([100.0, 300, 1000, 3000, 10000, 30000, 100000])


def fit(log_changes, widths):
    """(median, low, high) of curves log RD (p, k, seeds)."""
    means = log_changes.mean(axis=2)
    squares = np.square(log_changes - means[..., None]).sum(axis=2)
    runs = np.full((1, len(widths)), float(log_changes.shape[2]))
    return extrapolation.infinite_width_slopes(widths, runs, means[:, None], squares, 0.95)


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
    [((0.3, 1.0), (0.5, 1.5), 0.1), ((0.3, 1.0), (0.5, 1.5), 0.2), ((0.25, 0.6), (0.4, 2.0), 0.2)],
    ids=["small", "usual", "slow"],
)
def test_the_interval_covers_the_limit_of_curves_with_two_corrections(widths, first, second, size):
    number = 500
    slope, log_changes = curves(np.random.default_rng(7), widths, number, first, second, size, (0.03, 0.12))
    middle, low, high = fit(log_changes, widths)
    covered = ((low <= slope) & (slope <= high)).mean()
    assert 0.90 <= covered <= 0.99 + 3 * np.sqrt(0.99 * 0.01 / number)
    assert np.median(high - low) <= 0.1
    assert np.median(np.abs(middle - slope)) < np.median(high - low) / 4


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_few_seeds_and_widths_widen_the_interval_instead_of_missing_the_limit(seeds):
    widths, number = TWO_DECADES[:4], 300
    slope, log_changes = curves(
        np.random.default_rng(7), widths, number, (0.3, 1.0), (0.5, 1.5), 0.2, (0.03, 0.12), seeds
    )
    _, low, high = fit(log_changes, widths)
    assert ((low <= slope) & (slope <= high)).mean() >= 0.93
    assert 0.1 < np.median(high - low) < 0.4


@pytest.mark.parametrize("top", [100.0, 1e9], ids=["two decades", "nine decades"])
def test_the_fits_are_those_of_the_covariance_of_the_means(top):
    """By the textbook: the covariance of the means, intercepts and S by generalised least squares, the restricted likelihood.

    Two groups, as of whole networks and of represented ones, and one more seed of these that lacks a width.
    """
    ratio = np.array([1.0, 3.0, 10.0, 30.0, top])
    runs = np.array([[3.0, 2.0, 4.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0, 0.0]])
    generator = np.random.default_rng(2)
    means = generator.normal(0, 0.2, (2, 3, 5))
    squares = generator.uniform(0.001, 0.02, (2, 5)) * np.maximum(runs - 1, 0).sum(axis=0)
    likelihood, estimate, variance = extrapolation._fits(ratio, runs, means, squares)
    hypotheses = np.stack(
        [
            axis.ravel()
            for axis in np.meshgrid(
                extrapolation._AMPLITUDES, extrapolation._SCATTERS, extrapolation._DECAYS, indexing="ij"
            )
        ]
    ).T
    group, width = np.nonzero(runs)
    design = np.column_stack([np.log(ratio[width]), *(group == index for index in range(3))])
    expected = []
    chosen = generator.choice(len(hypotheses), 60, replace=False)
    for index in chosen:
        amplitude, scatter, decay = hypotheses[index]
        noise = scatter**2 * ratio ** (-2 * decay)
        omegas = extrapolation.exponents(ratio)
        sizes = [max(amplitude, 1.0) if omega < 0.2 else amplitude for omega in omegas]
        terms = [
            np.outer(size * ratio**-omega, size * ratio**-omega)
            for size, omega in zip(sizes, omegas, strict=True)
        ]
        shared = sum(terms) / len(omegas)
        of_mean = (noise + runs.sum(axis=0) * extrapolation.TRAINING_ERROR**2) / np.maximum(runs, 1)
        covariance = shared[np.ix_(width, width)] + np.diag(of_mean[group, width])
        inverse = np.linalg.inv(covariance)
        normal = np.linalg.inv(design.T @ inverse @ design)
        y = means[:, group, width]
        fitted = y @ (normal @ design.T @ inverse).T
        rest = y - fitted @ design.T
        misfit = np.einsum("pk,kl,pl->p", rest, inverse, rest)
        determinants = np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(normal)[1]
        of_seeds = (squares / noise + np.maximum(runs - 1, 0).sum(axis=0) * np.log(noise)).sum(axis=1)
        expected.append((*(-0.5 * (misfit + determinants + of_seeds)), *fitted[:, 0], normal[0, 0]))
    found = np.column_stack([likelihood[:, chosen].T, estimate[:, chosen].T, variance[chosen]])
    difference = found - np.array(expected)
    difference[:, :2] -= difference[0, :2]  # the likelihood is known but for a constant
    np.testing.assert_allclose(difference, 0.0, atol=1e-3)


def test_over_many_decades_there_are_slower_corrections():
    assert extrapolation.exponents(THREE_DECADES / 100) is extrapolation.EXPONENTS
    many = extrapolation.exponents(np.geomspace(1, 1e16, 6))
    np.testing.assert_array_equal(many[-8:], extrapolation.EXPONENTS)
    assert 1e16 ** -many[0] == pytest.approx(10**-0.15)
    assert (np.diff(many) > 0).all() and (many[1:-7] / many[:-8] < 2.1).all()


def test_the_interval_covers_the_limit_of_curves_with_powers_of_the_logarithm():
    """Six widths to 10^18, three seeds that are the same draws at all of them."""
    generator, widths, number = np.random.default_rng(3), np.geomspace(1e3, 1e18, 6), 500
    slope, power = generator.uniform(-1, 1, number), generator.normal(0, 0.2, number)
    curve = slope[:, None] * np.log(widths) + power[:, None] * np.log(np.log(widths))
    curve = curve + generator.normal(0, 0.2, number)[:, None] * (widths / 1e3) ** -0.3
    seeds = generator.normal(0, 0.2, (number, 3, 1)) + 0.01 * generator.normal(size=(number, 3, 6))
    found = extrapolation.infinite_width_slopes(
        widths, np.ones((3, 6)), curve[:, None] + seeds, np.zeros((number, 6)), 0.95
    )
    covered = ((found[1] <= slope) & (slope <= found[2])).mean()
    assert 0.9 <= covered <= 0.99
    assert np.median(found[2] - found[1]) < 0.03


def test_quantiles_are_those_of_samples():
    generator = np.random.default_rng(0)
    weight, centre, spread = (
        np.array([[0.5, 0.3, 0.2]]),
        np.array([[0.0, 2.0, -5.0]]),
        np.array([1.0, 0.1, 3.0]),
    )
    drawn = generator.choice(3, 400_000, p=weight[0])
    samples = centre[0, drawn] + spread[drawn] * generator.normal(size=len(drawn))
    for share in (0.025, 0.5, 0.975):
        found = extrapolation._quantile(weight, centre, spread, share)
        assert found == pytest.approx(np.quantile(samples, share), abs=0.03)


def test_many_widths_and_wild_scatter_are_survived():
    generator = np.random.default_rng(0)
    widths = np.geomspace(10, 1e7, 300)
    middle, low, high = fit(
        0.3 * np.log(widths)[None, :, None] + 0.01 * generator.normal(size=(1, 300, 5)), widths
    )
    assert low < 0.3 < high < low + 0.05
    assert middle == pytest.approx(0.3, abs=0.01)
    wild = 0.3 * np.log(TWO_DECADES)[None, :, None] + 20 * generator.normal(size=(20, 5, 3))
    _, low, high = fit(wild, TWO_DECADES)
    assert ((low < 0.3) & (high > 0.3)).mean() > 0.8


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
    np.testing.assert_allclose(shifted[:, 0], together[:, 3], atol=1e-5)
    tilted = np.stack(fit(log_changes - 0.7 * np.log(TWO_DECADES)[:, None], TWO_DECADES))
    np.testing.assert_allclose(tilted, together - 0.7, atol=1e-5)


def make_runs(widths, seeds, gamma=1.0):
    rows = [
        (2, "W1", gamma, 0.0, 0.0, width, seed, width**-0.2, "converged")
        for width in widths
        for seed in range(seeds)
    ]
    keys = [*fitting.POINT_KEYS, "width", "seed", "relative_change", "status"]
    return pd.DataFrame(rows, columns=keys)


def paired_runs(represented=True):
    """Three seeds far apart, whose slopes are -0.2 within 0.003: whole networks, or the same draws at all widths."""
    generator = np.random.default_rng(1)
    runs = make_runs((10**3, 10**6, 10**9, 10**12, 10**15), 3)
    scatter = 0.3 * runs["seed"] + 0.02 * generator.normal(size=len(runs))
    change = runs["width"] ** -0.2 * np.exp(scatter)
    return runs.assign(relative_change=change, neurons=100 if represented else runs["width"])


def test_seeds_that_are_the_same_draws_at_every_width_have_an_intercept_each():
    paired, whole = (fitting.fit(paired_runs(represented)).iloc[0] for represented in (True, False))
    for slope in ("slope", "slope_infinite"):
        width = {
            name: row[f"{slope}_high"] - row[f"{slope}_low"] for name, row in (("p", paired), ("w", whole))
        }
        assert 2.5 * width["p"] < width["w"]
        assert paired[f"{slope}_low"] < -0.2 < paired[f"{slope}_high"]


def test_a_lost_run_of_paired_seeds_does_not_tilt_the_slope():
    """By a straight fit to all of them, the loss of the highest seed at the largest width is 0.2 / 12 ln 10."""
    runs = paired_runs()
    lost = runs[(runs["seed"] < 2) | (runs["width"] < 10**15)]
    assert fitting.fit(lost).iloc[0]["slope"] == pytest.approx(fitting.fit(runs).iloc[0]["slope"], abs=1e-3)
    row = fitting.fit(lost.assign(neurons=lost["width"])).iloc[0]
    assert abs(row["slope"] + 0.2) > 3e-3


def test_the_slope_of_paired_seeds_is_that_of_regression_with_a_column_for_each():
    runs = pd.concat([paired_runs().iloc[2:], paired_runs(False).iloc[:4].assign(width=[100, 100, 300, 300])])
    runs["neurons"] = np.minimum(runs["width"], 100 + 10**9 * (runs["width"] < 1000))
    row = fitting.fit(runs).iloc[0]
    group = np.where(runs["neurons"] < runs["width"], 1 + runs["seed"], 0)
    design = np.column_stack([np.log(runs["width"].to_numpy(float)), *(group == g for g in range(4))])
    y = np.log(runs["relative_change"].to_numpy(float))
    found, residual, rank, _ = np.linalg.lstsq(design, y)
    freedom = len(runs) - rank
    error = np.sqrt(residual[0] / freedom * np.linalg.inv(design.T @ design)[0, 0])
    assert row["slope"] == pytest.approx(found[0], rel=1e-9)
    assert row["slope_high"] - row["slope"] == pytest.approx(stats.t.ppf(0.975, freedom) * error, rel=1e-9)


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
