"""Compiled products with few rows on one side, beside NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from phasediag.engine.products import add_gram, add_sums, dots

RNG = np.random.default_rng(2)


@pytest.mark.parametrize("points", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 11])
def test_products_are_those_of_matrices(points: int, rows: int) -> None:
    matrix, vectors = RNG.standard_normal((rows, 96)), RNG.standard_normal((points, 96))
    out = np.full((points, rows + 2), 7.0)
    dots(out, matrix, vectors)
    np.testing.assert_allclose(out[:, :rows], vectors @ matrix.T, atol=1e-12)
    assert (out[:, rows:] == 7).all()

    coefficients, sums = RNG.standard_normal((points, rows + 1)), np.ones((points, 128))
    add_sums(sums, 32, matrix, 16, coefficients, 64)
    expected = np.ones((points, 128))
    expected[:, 32:96] += coefficients[:, :rows] @ matrix[:, 16:80]
    np.testing.assert_allclose(sums, expected, atol=1e-12)

    gram = np.zeros((points, points))
    add_gram(gram, vectors.astype(np.float32), 16, 64)
    part = vectors[:, 16:80].astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(np.tril(gram), np.tril(part @ part.T), atol=1e-12)
