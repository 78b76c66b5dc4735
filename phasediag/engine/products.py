"""Products with few rows on one side, compiled: with a handful of points, a general matrix product reaches a third of the rate.

They go over the matrix once for every four points and keep what they need of the points in the first cache. No threads, no order of sums
but one.
"""

# Types are numba's business here: annotations would only repeat that all of these are arrays.

from __future__ import annotations

import numpy as np

from .compiled import compiled
from .teams import first, mine, together

_sums = compiled("contract", "nsz", "reassoc")
_rows = compiled("contract", "nsz")

FIRST = np.int64(0)
"""The first column. For a literal 0, numba would compile the callee once more."""


@_sums
def dots(out, rows, points):
    """``out[i, r] = rows[r] . points[i]``, of arrays (n, R), (R, p) and (n, p); two rows by four points at a time."""
    n, count, p = len(points), len(rows), rows.shape[1]
    zero = rows.dtype.type(0)
    for r in range(0, count - 1, 2):
        a, b = rows[r], rows[r + 1]
        whole = n - n % 4
        for i in range(0, whole, 4):
            u, v, w, x = points[i], points[i + 1], points[i + 2], points[i + 3]
            au = av = aw = ax = bu = bv = bw = bx = zero
            for k in range(p):
                au += a[k] * u[k]
                av += a[k] * v[k]
                aw += a[k] * w[k]
                ax += a[k] * x[k]
                bu += b[k] * u[k]
                bv += b[k] * v[k]
                bw += b[k] * w[k]
                bx += b[k] * x[k]
            out[i, r], out[i + 1, r], out[i + 2, r], out[i + 3, r] = au, av, aw, ax
            out[i, r + 1], out[i + 1, r + 1], out[i + 2, r + 1], out[i + 3, r + 1] = bu, bv, bw, bx
        for i in range(whole, n):
            u = points[i]
            au = bu = zero
            for k in range(p):
                au += a[k] * u[k]
                bu += b[k] * u[k]
            out[i, r], out[i, r + 1] = au, bu
    if count % 2:
        a = rows[count - 1]
        for i in range(n):
            u = points[i]
            au = zero
            for k in range(p):
                au += a[k] * u[k]
            out[i, count - 1] = au


@_rows
def add_sums(out, at, rows, start, coefficients, lanes):
    """``out[i, at:] += sum_r coefficients[i, r] rows[r, start:]`` over ``lanes`` columns, of arrays (n, .), (R, .) and (n, R or more);
    two rows of the result by four others at a time."""
    n, count = len(coefficients), len(rows)
    for r in range(0, count - 3, 4):
        a, b, c, d = rows[r, start:], rows[r + 1, start:], rows[r + 2, start:], rows[r + 3, start:]
        for i in range(0, n - 1, 2):
            one, two = coefficients[i, r:], coefficients[i + 1, r:]
            _add_four_to_two(out[i, at:], out[i + 1, at:], a, b, c, d, one, two, lanes)
        if n % 2:
            last = coefficients[n - 1, r:]
            into = out[n - 1, at:]
            _add_one(into, a, last[0], lanes)
            _add_one(into, b, last[1], lanes)
            _add_one(into, c, last[2], lanes)
            _add_one(into, d, last[3], lanes)
    for r in range(count - count % 4, count):
        for i in range(n):
            _add_one(out[i, at:], rows[r, start:], coefficients[i, r], lanes)


@_rows
def _add_four_to_two(one, two, a, b, c, d, ones, twos, lanes):
    one_a, one_b, one_c, one_d = ones[0], ones[1], ones[2], ones[3]
    two_a, two_b, two_c, two_d = twos[0], twos[1], twos[2], twos[3]
    for k in range(lanes):
        first = one[k] + (one_a * a[k] + one_b * b[k] + one_c * c[k] + one_d * d[k])
        second = two[k] + (two_a * a[k] + two_b * b[k] + two_c * c[k] + two_d * d[k])
        one[k] = first
        two[k] = second


@_rows
def _add_one(into, row, factor, lanes):
    for k in range(lanes):
        into[k] += factor * row[k]


@_sums
def add_gram(out, rows, at, lanes):
    """Adds the products of ``lanes`` columns of all rows, in float64, to the lower triangle of ``out`` (n, n); two by two rows."""
    count = len(rows)
    for i in range(0, count - 1, 2):
        one, two = rows[i, at:], rows[i + 1, at:]
        aa = ab = bb = 0.0
        for k in range(lanes):
            a, b = np.float64(one[k]), np.float64(two[k])
            aa += a * a
            ab += a * b
            bb += b * b
        out[i, i] += aa
        out[i + 1, i] += ab
        out[i + 1, i + 1] += bb
        for j in range(0, i, 2):
            three, four = rows[j, at:], rows[j + 1, at:]
            ac = ad = bc = bd = 0.0
            for k in range(lanes):
                a, b, c, d = np.float64(one[k]), np.float64(two[k]), np.float64(three[k]), np.float64(four[k])
                ac += a * c
                ad += a * d
                bc += b * c
                bd += b * d
            out[i, j] += ac
            out[i, j + 1] += ad
            out[i + 1, j] += bc
            out[i + 1, j + 1] += bd
    if count % 2:
        one = rows[count - 1, at:]
        for j in range(count):
            three = rows[j, at:]
            total = 0.0
            for k in range(lanes):
                total += np.float64(one[k]) * np.float64(three[k])
            out[count - 1, j] += total


@_rows
def grow(changes, lefts, rights, squares, taken):
    """Adds ``left^T right`` to the changes (B, p, k) of the jobs that have ``taken`` (B,) a step, of factors (B, n, p) and (B, n, k); sums
    of squares of the rows of these go to ``squares`` (B, p), float64."""
    for job in range(len(taken)):
        for row in range(changes.shape[1]):
            grow_row(changes, lefts, rights, squares, taken, job, row)


@_rows
def grow_row(changes, lefts, rights, squares, taken, job, row):
    """One row of one job, by a team of lanes: see :func:`grow`."""
    if not taken[job]:
        return
    change, left, right, square = changes[job, row], lefts[job], rights[job], 0.0
    for k in mine(len(change)):
        moved = change[k]
        for i in range(len(left)):
            moved += left[i, row] * right[i, k]
        change[k] = moved
        square += np.float64(moved) ** 2
    square = together(square)
    if first():
        squares[job, row] = square
