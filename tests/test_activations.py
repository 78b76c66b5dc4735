"""Activations and their multiplicity, which is computed, not written down."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints

import pytest
import torch
from torch import Tensor

from phasediag.condensation import activations
from phasediag.condensation.activations import (
    ACTIVATIONS,
    activation,
    fault_of,
    known,
    multiplicity,
    one_sided_slopes,
)
from phasediag.errors import InputError


def gelu(z: Tensor) -> Tensor:
    return 0.5 * z * (1 + (z / math.sqrt(2)).erf())


def raises(z: Tensor) -> Tensor:
    raise RuntimeError("no\nsuch luck")


def without_derivatives(z: Tensor) -> Tensor:
    return torch.from_numpy(z.numpy().round())


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that brings an activation, and one that brings what cannot be imported."""
    points = EntryPoints(
        [
            EntryPoint("gelu", "test_activations:gelu", activations.GROUP),
            EntryPoint("broken", "no_such_module:thing", activations.GROUP),
            EntryPoint("raises", "test_activations:raises", activations.GROUP),
            EntryPoint("total", "torch:sum", activations.GROUP),
            EntryPoint("number", "math:pi", activations.GROUP),
            EntryPoint("poles", "torch:reciprocal", activations.GROUP),
            EntryPoint("gone", "math:no_such_thing", activations.GROUP),
            EntryPoint("steps", "test_activations:without_derivatives", activations.GROUP),
            EntryPoint("a/b", "torch:sin", activations.GROUP),
            EntryPoint("default", "torch:sin", activations.GROUP),
        ]
    )
    monkeypatch.setattr(activations, "entry_points", lambda group: points.select(group=group))
    fault_of.cache_clear()
    yield
    fault_of.cache_clear()
    multiplicity.cache_clear()


@pytest.mark.parametrize(
    ("name", "p"), [("tanh", 1), ("sigmoid", 1), ("softplus", 1), ("x_tanh", 2), ("x2_tanh", 3), ("relu", 0)]
)
def test_multiplicities_are_those_of_the_paper(name: str, p: int) -> None:
    assert multiplicity(name) == p


@pytest.mark.parametrize(
    ("function", "p"),
    [
        (torch.sin, 1),
        (torch.cos, 2),
        (lambda z: z**3, 3),
        (lambda z: z**5 * z.cos(), 5),
        (lambda z: z * z.sigmoid(), 1),
        (lambda z: 1e-3 * z * z.tanh(), 2),
        (lambda z: z.abs(), 0),
        (lambda z: torch.where(z > 0, z, 0.01 * z), 0),
        (lambda z: z.relu() ** 2, 0),
        (lambda z: 0 * z, 0),
        (lambda z: z / (1 + z.abs()), 1),
    ],
)
def test_multiplicity_of_other_functions(monkeypatch: pytest.MonkeyPatch, function, p) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(ACTIVATIONS, "other", function)
    multiplicity.cache_clear()
    assert multiplicity("other") == p
    multiplicity.cache_clear()


def test_values_are_those_of_torch() -> None:
    z = torch.linspace(-30, 30, 1001, dtype=torch.float64)
    expected = {
        "relu": torch.relu(z),
        "tanh": torch.tanh(z),
        "sigmoid": torch.sigmoid(z),
        "softplus": torch.nn.functional.softplus(z, threshold=1e9),
        "x_tanh": z * torch.tanh(z),
        "x2_tanh": z**2 * torch.tanh(z),
    }
    for name, values in expected.items():
        torch.testing.assert_close(activation(name)(z), values)


def test_slopes_on_both_sides_of_a_kink() -> None:
    assert one_sided_slopes("relu") == (1.0, 0.0)
    right, left = one_sided_slopes("tanh")
    assert right == pytest.approx(1) and left == pytest.approx(1)


def test_an_unknown_activation_lists_the_known() -> None:
    with pytest.raises(
        InputError,
        match=r"'gelu' is not known here; did you mean 'relu'\? allowed: relu, tanh, sigmoid, softplus",
    ):
        activation("gelu")


@pytest.mark.usefixtures("plugin")
def test_a_package_can_bring_an_activation() -> None:
    assert {"broken", "gelu"} <= set(known())
    z = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(activation("gelu")(z), gelu(z))
    assert multiplicity("gelu") == 1
    with pytest.raises(InputError, match=r"'broken': no_such_module:thing cannot be imported"):
        activation("broken")


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("gelu", ""),
        ("tanh", ""),
        ("broken", "no_such_module:thing cannot be imported"),
        ("gone", "math:no_such_thing cannot be imported"),
        ("raises", "cannot be used (RuntimeError: no such luck); allowed: a function of a tensor"),
        ("total", "does not map a tensor to one of the same shape and type; allowed: a function"),
        ("number", "cannot be used (TypeError: 'float' object is not callable); allowed: a function"),
        ("poles", "is not finite between -1 and 1; allowed: a function"),
        ("steps", "cannot be used (RuntimeError"),
        ("a/b", "is no name for an activation; allowed: letters, digits, _ and -"),
        ("default", "is no name for an activation"),
    ],
)
def test_activations_that_cannot_be_used_are_told_apart(name: str, fault: str) -> None:
    found = fault_of(name)
    assert found.startswith(fault) and bool(found) == bool(fault) and "\n" not in found
