"""What is measured of many matrices at a time, where they are, is what is measured of each on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phasediag.engine import card_measures, measures

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=[(50, 2), (3, 70), (280, 281), (600, 30)], ids=str)
def matrices(request: pytest.FixtureRequest) -> np.ndarray:
    """A random matrix, a tiny one, one of rank one, a random one beside that, one that is zero, one that is not finite."""
    generator = np.random.default_rng(0)
    found: np.ndarray = generator.standard_normal((6, *request.param))
    found[1] *= 1e-30
    coherent = np.outer(*(generator.standard_normal(size) for size in request.param))
    found[2] = coherent
    found[3] += coherent
    found[4] = 0.0
    found[5, 0, 0] = np.nan
    return found


@pytest.mark.parametrize(("dtype", "accuracy"), [(np.float32, 1e-6), (np.float64, 1e-11)])
def test_norms(matrices: np.ndarray, dtype: type, accuracy: float) -> None:
    these = matrices.astype(dtype)
    on_card = torch.from_numpy(these)
    for many, one in (
        (card_measures.spectral, measures.spectral),
        (card_measures.frobenius, measures.frobenius),
    ):
        expected = [one(matrix) for matrix in these]
        np.testing.assert_allclose(many(on_card).numpy(), expected, rtol=accuracy, atol=0)


def test_norms_from_close_by(matrices: np.ndarray) -> None:
    """Each from what it stretched most before: here, all are new."""
    near = np.random.default_rng(1).standard_normal((len(matrices), min(matrices.shape[1:])))
    found = card_measures.spectral(torch.from_numpy(matrices), torch.from_numpy(near))
    expected = [measures.spectral(matrix) for matrix in matrices]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3)


def test_orientations(matrices: np.ndarray) -> None:
    """Of more than 512 neurons, the same are drawn."""
    seeds = list(range(len(matrices)))
    expected = [measures.orientations(matrix, seed) for matrix, seed in zip(matrices, seeds, strict=True)]
    found = card_measures.orientations(torch.from_numpy(matrices), seeds)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isnan(expected[4:]).all() and expected[2] < 2.1
