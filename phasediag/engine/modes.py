"""The modes of a kernel, and the functions by which an exponential integrator follows them."""

from __future__ import annotations

from math import exp, sqrt

import numpy as np

from .compiled import compiled
from .networks import Array

_TINY = 1e-300
_compiled = compiled()


@_compiled
def phis(x: float) -> tuple[float, float, float, float]:
    """``phi_1(-x) ... phi_4(-x)`` for x >= 0, from ``phi_0 = exp`` and ``phi_k(z) = 1/k! + z phi_{k+1}(z)``: upwards where x is large;
    where it is small, downwards from a series for the last one."""
    if x >= 1.0:
        one = (1 - exp(-x)) / x
        two = (1 - one) / x
        three = (1 / 2 - two) / x
        return one, two, three, (1 / 6 - three) / x
    value = 0.0
    for k in range(14, -1, -1):
        value = 1 - x * value / (k + 5)  # (k + 4)! times the sum from its k-th term on
    four = value / 24
    three = 1 / 6 - x * four
    two = 1 / 2 - x * three
    return 1 - x * two, two, three, four


@_compiled
def jacobi(matrix: Array, values: Array, vectors: Array) -> None:
    """Eigenvalues, ascending, and eigenvectors in columns of a small symmetric matrix, which is overwritten.

    Cyclic Jacobi rotations (Golub and Van Loan, section 8.5): they keep the digits of small eigenvalues of graded matrices.
    """
    n = len(matrix)
    for i in range(n):
        for j in range(n):
            vectors[i, j] = 1.0 if i == j else 0.0
    for _ in range(30):
        largest = 0.0
        for i in range(n):
            for j in range(i):
                off = abs(matrix[i, j])
                if off > 1e-17 * sqrt(abs(matrix[i, i])) * sqrt(abs(matrix[j, j])) and off > _TINY:
                    largest = max(largest, off)
                    _rotate_away(matrix, vectors, j, i)
        if largest == 0.0:
            break
    for i in range(n):
        values[i] = matrix[i, i]
    for i in range(1, n):  # insertion sort, vectors alongside
        j = i
        while j > 0 and values[j - 1] > values[j]:
            values[j - 1], values[j] = values[j], values[j - 1]
            for k in range(n):
                vectors[k, j - 1], vectors[k, j] = vectors[k, j], vectors[k, j - 1]
            j -= 1


@_compiled
def _rotate_away(matrix: Array, vectors: Array, p: int, q: int) -> None:
    """The rotation in the plane (p, q) that makes ``matrix[p, q]`` zero."""
    n = len(matrix)
    theta = (matrix[q, q] - matrix[p, p]) / (2 * matrix[p, q])
    t = (
        (1.0 if theta >= 0 else -1.0) / (abs(theta) + sqrt(theta * theta + 1))
        if abs(theta) < 1e150
        else 0.5 / theta
    )
    cosine = 1 / sqrt(t * t + 1)
    sine = t * cosine
    shift = t * matrix[p, q]
    matrix[p, p] -= shift
    matrix[q, q] += shift
    matrix[p, q] = matrix[q, p] = 0.0
    for k in range(n):
        if k != p and k != q:
            kp, kq = matrix[k, p], matrix[k, q]
            matrix[k, p] = matrix[p, k] = cosine * kp - sine * kq
            matrix[k, q] = matrix[q, k] = sine * kp + cosine * kq
    for k in range(n):
        kp, kq = vectors[k, p], vectors[k, q]
        vectors[k, p] = cosine * kp - sine * kq
        vectors[k, q] = sine * kp + cosine * kq


def eigh(kernels: Array) -> tuple[Array, Array]:
    """Batched symmetric eigendecomposition; where LAPACK gives up on one matrix, that job alone gets a nudged one."""
    try:
        values, vectors = np.linalg.eigh(kernels)
    except np.linalg.LinAlgError:
        parts = [_eigh_one(matrix) for matrix in kernels]
        values, vectors = (np.stack(part) for part in zip(*parts, strict=True))
    return values, vectors


def _eigh_one(matrix: Array) -> tuple[Array, Array]:
    nudge = np.finfo(np.float64).eps * np.abs(matrix).max()
    for power in range(6):
        try:
            values, vectors = np.linalg.eigh(matrix + nudge * power * np.diag(np.arange(len(matrix))))
            return values, vectors
        except np.linalg.LinAlgError:
            continue
    return np.full_like(matrix[0], np.nan), np.eye(len(matrix))
