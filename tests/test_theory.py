"""Facts of the theory: the theorem's regimes, leading-order slopes against measured ones, exponents and scales."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from phasediag.errors import InputError, PhasediagError
from phasediag.phase_diagram import theory

exponents = st.floats(-3, 3)


@given(exponents, exponents)
def test_regime_is_that_of_the_theorem(gamma, gamma_prime):
    condensed = gamma > 1 and gamma_prime < gamma - 1
    linear = gamma < 1 or gamma_prime > gamma - 1
    regime = theory.predicted_regime("W1", 2, gamma, gamma_prime)
    if regime != "critical":
        assert (regime == "condensed", regime == "linear") == (condensed, linear)
    else:
        assert abs(gamma - theory.critical_gamma("W1", 2, gamma_prime)) <= 1e-9


@pytest.mark.parametrize("gamma_prime", [-2.0, -0.5, 0.0, 0.2, 0.3, 1.0])
def test_critical_line_separates_linear_from_condensed(gamma_prime):
    line = theory.critical_gamma("W1", 2, gamma_prime)
    assert line == 1 + max(gamma_prime, 0)
    regimes = [theory.predicted_regime("W1", 2, line + shift, gamma_prime) for shift in (-1e-8, 5e-10, 1e-8)]
    assert regimes == ["linear", "critical", "condensed"]


def test_critical_line_of_an_array_has_its_shape():
    gamma_prime = np.array([[-1.0, 0.0], [0.25, 1.5]])
    np.testing.assert_array_equal(theory.critical_gamma("W1", 2, gamma_prime), [[1.0, 1.0], [1.25, 2.5]])


def test_nothing_is_predicted_for_the_output_layer_or_another_gamma_1():
    assert theory.predicted_regime("a", 2, 0.5, 0.0) == ""
    assert theory.predicted_regime("W1", 2, 0.5, 0.0, gamma_1=0.1) == ""
    assert math.isnan(theory.leading_order_slope("a", 2, 0.5, 0.0))
    with pytest.raises(ValueError, match=r"layer 'a' at depth 2; allowed: W1 \(depth 2\)"):
        theory.critical_gamma("a", 2, 0.0)


@pytest.mark.parametrize(
    ("gamma", "gamma_prime", "measured"),
    [
        (0.5, 0.0, -0.51),
        (0.8, 0.0, -0.16),
        (1.0, 0.0, 0.01),
        (1.2, 0.0, 0.11),
        (1.5, 0.0, 0.27),
        (2.0, 0.0, 0.505),
        (1.5, 0.25, 0.15),
        (1.5, 0.5, -0.003),
        (1.5, -0.3, 0.41),
    ],
)
def test_leading_order_slopes_agree_with_measured_ones(gamma, gamma_prime, measured):
    assert theory.leading_order_slope("W1", 2, gamma, gamma_prime) == pytest.approx(measured, abs=0.05)


@given(exponents, exponents)
def test_sign_of_the_leading_order_slope_is_the_regime(gamma, gamma_prime):
    slope = theory.leading_order_slope("W1", 2, gamma, gamma_prime)
    assume(abs(gamma - theory.critical_gamma("W1", 2, gamma_prime)) > 1e-6 and not math.isnan(slope))
    regime = theory.predicted_regime("W1", 2, gamma, gamma_prime)
    assert regime == ("condensed" if slope > 0 else "linear")


def test_slope_is_nan_only_where_bounds_alone_are_known():
    assert math.isnan(theory.leading_order_slope("W1", 2, 1.2, -0.3))
    # 1.2 - 1 is not 0.2 in binary: the border itself has a slope.
    assert theory.leading_order_slope("W1", 2, 1.2, -0.2) == pytest.approx(0.2)
    assert theory.leading_order_slope("W1", 2, 1.0, -3.0) == 0.0


@given(st.integers(2, 10**6), st.floats(-2, 2), st.floats(-2, 2), st.floats(1e-3, 1e3))
def test_scales_and_exponents_invert_each_other(width, gamma, gamma_prime, alpha):
    scales = theory.scales_from_exponents(width, gamma, gamma_prime, alpha)
    assert scales[0] == alpha
    assert theory.exponents_from_scales(width, *scales) == pytest.approx((gamma, gamma_prime, 0.0), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("NTK", lambda m: (math.sqrt(m), 1.0, 1.0)),
        ("mean-field", lambda m: (m, 1.0, 1.0)),
        ("LeCun", lambda m: (1.0, math.sqrt(1 / m), 1.0)),
    ],
)
def test_named_initialisations_follow_from_their_scales(name, scales):
    named = theory.NAMED_INITIALISATIONS[2][name]
    assert theory.exponents_from_scales(500, *scales(500)) == pytest.approx((*named, 0.0))


@given(
    st.floats(2, 1e7),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.floats(0.01, 100),
)
def test_three_layer_scales_and_exponents_are_inverse(width, exponents, alpha):
    gamma, gamma_prime, gamma_1 = exponents
    scales = theory.scales_from_exponents(width, gamma, gamma_prime, alpha, depth=3, gamma_1=gamma_1)
    assert scales[0] == alpha
    assert len(scales) == 4
    assert theory.exponents_from_scales(width, *scales) == pytest.approx(exponents, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("NTK", lambda m: (m, 1.0, 1.0, 1.0)),
        ("maximal-update", lambda m: (m**1.5, 1.0, 1.0, 1.0)),
        ("mean-field", lambda m: (m**2, 1.0, 1.0, 1.0)),
        ("LeCun", lambda m: (1.0, math.sqrt(1 / m), math.sqrt(1 / m), 1.0)),
        ("He", lambda m: (1.0, math.sqrt(2 / m), math.sqrt(2 / m), math.sqrt(2 / 3))),
        ("Xavier", lambda m: (1.0, math.sqrt(2 / (m + 1)), math.sqrt(1 / m), math.sqrt(2 / (m + 3)))),
    ],
)
def test_named_initialisations_of_three_layers_follow_from_their_scales(name, scales):
    named = theory.NAMED_INITIALISATIONS[3][name]
    found = theory.exponents_from_scales(1e90, *scales(1e90))
    assert found == pytest.approx((*named, 0.0), abs=5e-3)


def test_exponents_of_he_and_xavier_approach_their_limits():
    width, inputs = 10.0**200, 3
    he = (1.0, math.sqrt(2 / width), math.sqrt(2 / inputs))
    xavier = (1.0, math.sqrt(2 / (width + 1)), math.sqrt(2 / (width + inputs)))
    assert theory.exponents_from_scales(width, *he)[:2] == pytest.approx(
        theory.NAMED_INITIALISATIONS[2]["He"], abs=2e-3
    )
    assert theory.exponents_from_scales(width, *xavier)[:2] == pytest.approx(
        theory.NAMED_INITIALISATIONS[2]["Xavier"], abs=2e-3
    )


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ((1, 1, 1, 1), "width"),
        ((10, 0, 1, 1), "alpha"),
        ((10, 1, -1, 1), "beta_1"),
        ((10, 1, 1, math.nan), "beta_2"),
        ((10, 1, 1, 1, 0), "beta_3"),
    ],
)
def test_bad_scales_name_the_key(arguments, key):
    with pytest.raises(InputError, match=f"^{key}: .* allowed: "):
        theory.exponents_from_scales(*arguments)
    assert issubclass(InputError, PhasediagError)


def test_rounded_exponents_have_no_negative_zero():
    assert theory.round_exponent(0.1 + 0.2) == 0.3
    assert math.copysign(1, theory.round_exponent(-1e-12)) == 1


def test_example_points_of_a_usual_grid():
    grid = [(round(0.5 + 0.25 * i, 10), round(-0.5 + 0.5 * j, 10)) for i in range(7) for j in range(4)]
    assert theory.example_points(grid, 2) == {
        "linear": (0.5, 0.0),
        "critical": (1.0, 0.0),
        "condensed": (1.75, 0.0),
    }


def test_example_points_without_a_point_on_the_line():
    assert theory.example_points([(0.5, 0.0), (0.9, 0.0), (1.2, 0.0), (1.75, 0.0)], 2)["critical"] == (
        0.9,
        0.0,
    )
    assert set(theory.example_points([(0.5, 0.0), (1.75, 0.0), (1.8, 0.0)], 2)) == {"linear", "condensed"}
    assert theory.example_points([(0.5, 0.0)], 2) == {"linear": (0.5, 0.0)}
    assert theory.example_points([], 2) == {}


@pytest.mark.parametrize(
    ("layer", "gamma_prime", "gamma"),
    [
        ("W1", -0.5, 1.5),
        ("W1", 0.0, 1.5),
        ("W1", 0.5, 2.5),
        ("W2", -0.5, 3.5),
        ("W2", 0.0, 3.0),
        ("W2", 0.5, 2.5),
        ("W2", 1.0, 2.5),
    ],
)
def test_critical_lines_of_three_layers(layer: str, gamma_prime: float, gamma: float) -> None:
    """They meet at (5/2, 1/2)."""
    assert theory.critical_gamma(layer, 3, gamma_prime) == gamma
    assert theory.critical_gamma(layer, 3, np.array([gamma_prime])).tolist() == [gamma]
    assert theory.predicted_regime(layer, 3, gamma, gamma_prime) == "critical"
    assert theory.predicted_regime(layer, 3, gamma + 0.1, gamma_prime) == "condensed"
    assert theory.predicted_regime(layer, 3, gamma - 0.1, gamma_prime) == "linear"


@pytest.mark.parametrize(
    ("gamma", "gamma_prime", "first", "second"),
    [
        (1.5, 0.0, 0.0, -0.5),
        (2.0, 0.0, 1 / 6, -1 / 3),
        (2.5, 0.0, 1 / 3, -1 / 6),
        (3.0, 0.0, 0.5, 0.0),
        (2.0, 0.25, 0.0, -0.25),
        (2.5, 0.5, 0.0, 0.0),
        (2.5, 0.8, -0.6, 0.0),
        (2.0, -0.3, 1.1 / 3, -1.3 / 3),
    ],
)
def test_leading_order_slopes_of_three_layers(
    gamma: float, gamma_prime: float, first: float, second: float
) -> None:
    """Confirmed by our own measurements, widths 100 to 1000."""
    assert theory.leading_order_slope("W1", 3, gamma, gamma_prime) == pytest.approx(first, abs=1e-9)
    assert theory.leading_order_slope("W2", 3, gamma, gamma_prime) == pytest.approx(second, abs=1e-9)


@given(st.floats(0.5, 4), st.floats(-1, 1.5))
def test_the_operator_norm_of_the_second_layer_turns_where_its_slope_is_larger_by_a_half(gamma, gamma_prime):
    first = theory.critical_gamma("W1", 3, gamma_prime, operator_norm=True)
    assert first == theory.critical_gamma("W1", 3, gamma_prime)
    slope = theory.leading_order_slope("W2", 3, gamma, gamma_prime) + 0.5
    beyond = gamma - theory.critical_gamma("W2", 3, gamma_prime, operator_norm=True)
    assume(not math.isnan(slope) and abs(beyond) > 1e-6 and gamma > 1)
    assert np.sign(round(slope, 9)) == np.sign(beyond)
