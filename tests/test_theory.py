"""Facts of the theory: the theorem's regimes, leading-order slopes against measured ones, exponents and scales."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
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


def test_layers_and_depths_that_are_not_there():
    with pytest.raises(ValueError, match="no layer 'W2' at depth 2; allowed: W1, a"):
        theory.critical_gamma("W2", 2, 0.0)
    with pytest.raises(ValueError, match="no layer 'a' at depth 9; allowed: depths from 2 to 8"):
        theory.predicted_slope("a", 9, 0.5, 0.0)


def test_two_layers_have_no_gamma_1():
    for function, exponents in ((theory.critical_gamma, (0.0,)), (theory.predicted_slope, (1.0, 0.0))):
        with pytest.raises(ValueError, match=r"gamma_1 = 0.4: two layers have no matrix .* allowed: 0"):
            function("W1", 2, *exponents, gamma_1=0.4)


@given(exponents, exponents)
def test_slopes_of_two_layers(gamma, gamma_prime):
    """Below and beside the critical line, and where both layers grow, the formulas that were known before the rule."""
    excess, slope = gamma - 1, theory.predicted_slope("W1", 2, gamma, gamma_prime)
    if excess <= 0:
        assert slope == pytest.approx(max(excess, -0.5) - 2 * max(gamma_prime, 0))
    elif gamma_prime > excess:
        assert slope == pytest.approx(2 * (excess - gamma_prime))
    elif gamma_prime >= -excess:
        assert slope == pytest.approx((excess - gamma_prime) / 2)
    else:
        assert slope == pytest.approx(excess)  # a is driven


@given(exponents, exponents)
def test_slopes_of_three_layers(gamma, gamma_prime):
    excess = gamma - 1.5
    first, second = (theory.predicted_slope(layer, 3, gamma, gamma_prime) for layer in ("W1", "W2"))
    if excess <= 0:
        assert first == pytest.approx(max(excess, -0.5) - 2 * max(gamma_prime, 0))
        assert second == pytest.approx(max(gamma - 2, -1) - 2 * max(-gamma_prime, 0))
    elif gamma_prime > excess / 2:
        assert (first, second) == pytest.approx((excess - 2 * gamma_prime, (gamma - 2.5) / 2))
    elif gamma_prime >= -excess:
        assert (first, second) == pytest.approx(
            ((excess - 2 * gamma_prime) / 3, (gamma + gamma_prime - 3) / 3)
        )
    else:
        assert (first, second) == pytest.approx((excess, 2 * (excess + gamma_prime) - 0.5))


@pytest.mark.parametrize(
    ("layer", "gamma", "gamma_prime", "measured"),
    [
        ("W1", 0.5, 0.0, -0.51),
        ("W1", 0.8, 0.0, -0.16),
        ("W1", 1.0, 0.0, 0.01),
        ("W1", 1.2, 0.0, 0.11),
        ("W1", 1.5, 0.0, 0.27),
        ("W1", 2.0, 0.0, 0.505),
        ("W1", 1.5, 0.25, 0.15),
        ("W1", 1.5, 0.5, -0.003),
        ("W1", 1.5, -0.3, 0.41),
    ],
)
def test_slopes_of_two_layers_agree_with_measured_ones(layer, gamma, gamma_prime, measured):
    """Widths 100 to 10,000, small explicit steps."""
    assert theory.predicted_slope(layer, 2, gamma, gamma_prime) == pytest.approx(measured, abs=0.05)


@pytest.mark.parametrize(
    ("depth", "point", "measured"),
    [
        (3, (2.0, 0.0, 0.0), {"W1": 0.171, "W2": -0.329}),
        (3, (1.5, -0.3, 0.0), {"W1": 0.006}),
        (3, (2.5, 0.8, 0.0), {"W1": -0.599}),
        (3, (3.0, 0.0, 0.0), {"W1": 0.500, "W2": 0.000}),
        (4, (2.6, 0.2, 0.0), {"W1": 0.000, "W2": -0.299, "W3": -0.298, "a": 0.201}),
        (3, (2.0, -0.2, -0.4), {"W1": 0.165, "W2": -0.138}),
        (3, (2.2, 0.0, 0.2), {"W1": 0.306, "W2": -0.389}),
    ],
)
def test_slopes_agree_with_those_of_very_wide_networks(depth, point, measured):
    """From widths of 10^8 to 10^10, of prototypes in which 200 neurons stand for all."""
    for layer, slope in measured.items():
        assert theory.predicted_slope(layer, depth, *point) == pytest.approx(slope, abs=0.02)


planes = st.tuples(st.integers(2, 8), st.floats(-1, 6), st.floats(-2, 2), st.floats(-1, 1)).map(
    lambda plane: plane if plane[0] > 2 else (*plane[:3], 0.0)
)
"""Depth, gamma, gamma_prime, and gamma_1 where there are matrices that it is of."""


@given(planes, st.booleans())
def test_the_sign_of_a_slope_is_the_side_of_the_critical_line(plane, operator_norm):
    depth, gamma, gamma_prime, gamma_1 = plane
    for layer in theory.LAYERS[depth]:
        line = theory.critical_gamma(layer, depth, gamma_prime, gamma_1, operator_norm)
        slope = theory.predicted_slope(layer, depth, gamma, gamma_prime, gamma_1, operator_norm)
        assert slope == pytest.approx(0, abs=1e-9) or np.sign(slope) == np.sign(gamma - line)
        if not operator_norm and abs(gamma - line) > 1e-6:
            regime = theory.predicted_regime(layer, depth, gamma, gamma_prime, gamma_1)
            assert regime == ("condensed" if slope > 0 else "linear")


@given(planes)
def test_critical_lines_are_those_of_all_layers_in_both_norms(plane):
    depth, _, gamma_prime, gamma_1 = plane
    at, lines = np.array([gamma_prime, -0.3, 0.7]), theory.critical_lines(depth, gamma_1)
    for layer in theory.LAYERS[depth]:
        for norm in (False, True):
            expected = theory.critical_gamma(layer, depth, at, gamma_1, norm)
            assert any((line.gamma(at) == expected).all() and layer in line.layers for line in lines)
    assert len(lines) == (2 if depth == 2 else 3 if gamma_1 == 0 else 4)
    assert len({line.name for line in lines}) == len({line.kind for line in lines}) == len(lines)


@given(planes)
def test_layers_that_grow_multiply_to_what_the_data_ask_for(plane):
    """Where some layer grows in operator norm, the product of all that have grown makes up for the small prefactor: m^t."""
    depth, gamma, gamma_prime, gamma_1 = plane
    slopes = [
        theory.predicted_slope(layer, depth, gamma, gamma_prime, gamma_1, operator_norm=True)
        for layer in theory.LAYERS[depth]
    ]
    excess = gamma - depth / 2
    grown = sum(slope for slope in slopes if slope > 0)
    assert grown == pytest.approx(max(excess, 0.0), abs=1e-9)


@given(planes)
def test_the_frobenius_norm_differs_by_a_half_between_hidden_layers(plane):
    depth, gamma, gamma_prime, gamma_1 = plane
    for layer in theory.LAYERS[depth]:
        frobenius, operator = (
            theory.predicted_slope(layer, depth, gamma, gamma_prime, gamma_1, norm) for norm in (False, True)
        )
        assert operator - frobenius == (0.0 if layer in ("W1", "a") else pytest.approx(0.5))


@given(planes)
def test_layers_change_continuously(plane):
    """No step of the exponents changes a slope by more than a few times itself."""
    depth, gamma, gamma_prime, gamma_1 = plane
    step = 1e-6
    for layer in theory.LAYERS[depth]:
        here = theory.predicted_slope(layer, depth, gamma, gamma_prime, gamma_1)
        for moved in ((gamma + step, gamma_prime, gamma_1), (gamma, gamma_prime + step, gamma_1)):
            assert abs(theory.predicted_slope(layer, depth, *moved) - here) <= 4 * step


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
    named = theory.named_initialisations(2)[name]
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
    named = theory.named_initialisations(3)[name]
    found = theory.exponents_from_scales(1e90, *scales(1e90))
    assert found == pytest.approx((*named, 0.0), abs=5e-3)


def test_exponents_of_he_and_xavier_approach_their_limits():
    width, inputs = 10.0**200, 3
    he = (1.0, math.sqrt(2 / width), math.sqrt(2 / inputs))
    xavier = (1.0, math.sqrt(2 / (width + 1)), math.sqrt(2 / (width + inputs)))
    assert theory.exponents_from_scales(width, *he)[:2] == pytest.approx(
        theory.named_initialisations(2)["He"], abs=2e-3
    )
    assert theory.exponents_from_scales(width, *xavier)[:2] == pytest.approx(
        theory.named_initialisations(2)["Xavier"], abs=2e-3
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


@given(st.integers(2, 8), st.floats(-2, 2))
def test_critical_lines_on_the_plane_of_all_maps(depth, gamma_prime):
    """gamma_1 = 0; L = depth - 1 hidden layers."""
    first, *between, last = theory.LAYERS[depth]
    assert theory.critical_gamma(first, depth, gamma_prime) == pytest.approx(
        depth / 2 + (depth - 1) * max(gamma_prime, 0)
    )
    output = depth / 2 + max(-gamma_prime, 0)
    assert theory.critical_gamma(last, depth, gamma_prime) == pytest.approx(output)
    for layer in between:
        line = depth - gamma_prime if gamma_prime <= 0.5 else depth - 0.5
        assert theory.critical_gamma(layer, depth, gamma_prime) == pytest.approx(line)
        operator = theory.critical_gamma(layer, depth, gamma_prime, operator_norm=True)
        assert operator == pytest.approx(output)


def test_example_points_of_another_plane_and_another_layer():
    row = [(round(0.5 + 0.1 * i, 10), 0.0) for i in range(40)]
    assert theory.example_points(row, 3, "a") == {
        "linear": (1.0, 0.0),
        "critical": (1.5, 0.0),
        "condensed": (2.0, 0.0),
    }
    line = theory.critical_gamma("W1", 3, 0.0, gamma_1=-0.4)
    assert theory.example_points(row, 3, "W1", gamma_1=-0.4)["critical"] == (pytest.approx(line), 0.0)
