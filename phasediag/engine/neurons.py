"""Neurons of one layer that move under an impulse, compiled.

The input weights w of a neuron change by sums over the inputs h_i of the n points alone: ``w = start + sum_i coefficient_i h_i``. So it is
followed by its n coefficients and its n preactivations ``z_i = w . h_i``, which change by the Gram matrix of the inputs times the
coefficients; how many inputs there are does not matter. Of a preactivation it is the displacement since the start that is kept: in a wide
network it can be far smaller than rounding of the preactivation itself. Neurons of a layer are of one of two kinds:

- *turning*, where the neuron's own output weight ``a`` is the signal: under the force ``G = sum_i E_i gate_i x_i / n`` of the impulse E,
  while its gates stay as they are, the pair (a, w) performs a hyperbolic rotation in the plane of a and G;
- *straight*, where the backward signal ``b_i`` of every point comes from the layers above: w is pushed along it.

Inputs that are neurons themselves move while a step is under way: straight, from where they are at its beginning to where they are at its
end. Their mean is what pulls; ``z`` follows them.

A block of neurons goes through a step while it is in the first caches, one neuron per lane, and those that meet kinks are followed in
pieces (:mod:`.pieces`).
"""

# Types are numba's business here: annotations would only repeat that all of these are arrays.

from __future__ import annotations

from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from .compiled import compiled
from .networks import MAX_ROTATION
from .pieces import (
    DAMPED,
    MAX_SWEEPS,
    SETTLED,
    TREE,
    copy,
    group,
    largest,
    sort_out,
    total,
)
from .products import FIRST, add_gram, add_sums

BLOCK = 128
"""Lanes of a block."""
SUBSTEPS = 64
"""Substeps of a neuron that passes the origin within a step."""
CROWDED = 4
"""So many points per dimension are."""
SERIES = 0.5
"""Largest angle of the power series of sinh and cosh; larger ones are doubled up from there."""

# The fixed rows of a block, in one array ``s``: places of their first lanes. (Numbers of numpy's: for every literal one that a function is
# called with, numba would compile the function again.)
(
    _START_A,  # output weight, initially, and its displacements before and after a piece
    _MOVED_A,
    _NEXT_A,
    _SIGNAL,  # what the neuron's gates let through, at one point
    _KINKS,  # on how many kinks the neuron ends, and the square of what the gates met would change
    _LOOSE,
    _GG,  # products of the force G, its first moment L and the input weights w
    _GL,
    _LL,
    _WG,
    _WL,
    _ANGLE,  # hyperbolic angle of the rotation, and its functions
    _SINH,
    _COSH,
    _ALPHA,  # coefficients of G and L in the change of w
    _BETA,
) = np.arange(0, 16 * BLOCK, BLOCK)
_FIXED = 16
# The rows of every point, in one array ``p`` (n, ROWS * BLOCK).
(
    _START,  # initial preactivations, and displacements that the coefficients count from and after a piece
    _FROM,
    _DISPLACED,
    _Z,  # preactivations before and after a piece, and with the mean of the inputs
    _END,
    _MEAN,
    _PATH,  # change of z with the inputs over the step
    _BEFORE,  # coefficients before and after a piece
    _AFTER,
    _FIRST,  # straight: signal at the beginning of the step, and its change
    _SECOND,
    _GATE,  # average gates of a piece and their first moments, as assumed and as met
    _MOMENT,
    _MET,
    _MET_MOMENT,
    _HELD,
    _V,  # pulls of the points, and their first moments; with the Gram matrix. After the move: what the gates met would change of the pulls
    _U,
    _HV,
    _HU,
    _SHIFT,  # what the coefficients add to the preactivations
) = np.arange(0, 21 * BLOCK, BLOCK)
ROWS = 21
# What a neuron that moves in substeps needs, by point: preactivations, force, its effect, and coefficients; float64.
SLOW = 4

# Infinities and NaNs must stay what they are: diverged networks have them.
_lanes = compiled("contract", "nsz")
_part = compiled("contract", "nsz", inline=True)
_sums = compiled("contract", "nsz", "reassoc")


class Push(NamedTuple):
    """What moves a layer: pieces of a step in a tree first (see :mod:`.pieces`).

    ``scale`` of the hyperbolic angles (turning) or of the coefficients (straight); ``rate``: root of the ratio of the rates of w and a,
    1 where the layer goes straight. ``pulls`` (TREE, n) of the points and their first moments; ``own``: what a neuron's own open gate
    adds to its shift, per unit of its signal; ``reach``: no force is larger; ``shares`` (TREE, 2): the parts of the step at whose
    beginning and end a piece is.
    """

    scale: Any
    rate: Any
    pulls: Any
    lates: Any
    own: Any
    reach: float
    shares: Any


class Inputs(NamedTuple):
    """What a layer sees of the points: products (n, n) of the means of its inputs over the step, and of the inputs before and after with
    those means; by way of ``factors`` (see :func:`factors`) where there are any. ``rank`` of the products; ``move``: whether they move."""

    gram: Any
    before: Any
    after: Any
    factors: Any
    rank: int
    move: bool


class Before(NamedTuple):
    """A layer before a step. Preactivations (n, m): initial, displacement, and change with the inputs over the step; coefficients; the two
    ends of the backward signal where the layer goes straight; gates; output weights (m,) and their displacement."""

    z_start: Any
    displaced: Any
    path: Any
    coefficients: Any
    first: Any
    last: Any
    gate: Any
    a_start: Any
    moved_a: Any


class After(NamedTuple):
    """Room for what a step makes of a layer."""

    displaced: Any
    coefficients: Any
    gate: Any
    moved_a: Any


def room(points: int, width: int, dtype: Any) -> Any:
    """Room for a block of neurons, and for what tells which neurons of a layer to move again."""
    return (
        np.zeros(_FIXED * BLOCK, dtype),
        np.zeros((points, ROWS * BLOCK), dtype),
        np.zeros(width, dtype),
        np.zeros(width, dtype),
        np.zeros(width, np.int8),
        np.zeros(width, np.int64),
        np.zeros((points, points), dtype),
        np.zeros(width),
        np.zeros(BLOCK),
        np.zeros((SLOW, points)),
    )


def factors(inputs: Any, dtype: Any) -> Any:
    """The inputs (n, r), their transpose, and room for what comes between in a product with their Gram matrix, where that is
    less work than the matrix itself; nothing otherwise."""
    points, rank = inputs.shape
    used = inputs if 2 * rank < points else inputs[:, :0]
    return used.astype(dtype), used.T.astype(dtype, order="C"), np.zeros((used.shape[1], BLOCK), dtype)


@_lanes
def fill(matrix, value, begin):
    """Fills columns from ``begin`` on. (A loop, like the others: numba compiles assignments to slices for seconds.)"""
    for i in range(len(matrix)):
        for k in range(begin, matrix.shape[1]):
            matrix[i, k] = value


@_lanes
def _prepare(s, p, lanes, turning, moving):
    """From what has been loaded to what a step needs."""
    num = s.dtype.type
    half, zero = num(0.5), num(0)
    for i in range(len(p)):
        for k in range(lanes):
            z = p[i, _START + k] + p[i, _FROM + k]
            p[i, _Z + k] = z
            p[i, _MEAN + k] = z + half * p[i, _PATH + k]
            p[i, _MOMENT + k] = zero
        if not turning:
            for k in range(lanes):
                p[i, _SECOND + k] -= p[i, _FIRST + k]
        if not moving:
            for k in range(lanes):
                p[i, _FROM + k] = zero


@_lanes
def _push(p, lanes, i, scale, middle):
    """Coefficients of one point, the signal being that at the middle of the piece."""
    num, zero = p.dtype.type, p.dtype.type(0)
    middle = num(middle)
    for k in range(lanes):
        signal = p[i, _FIRST + k] + middle * p[i, _SECOND + k]
        p[i, _AFTER + k] = p[i, _BEFORE + k] - scale * signal * p[i, _GATE + k]
        p[i, _SHIFT + k] = zero


@_lanes
def _signal(s, p, lanes, i, middle):
    middle = p.dtype.type(middle)
    for k in range(lanes):
        s[_SIGNAL + k] = p[i, _FIRST + k] + middle * p[i, _SECOND + k]


@_lanes
def _displacements(p, lanes, shift, out):
    """Squares of the displacements of all neurons, in float64: those of tiny float32 numbers would underflow. ``shift``: the place of the
    coefficients times the Gram matrix."""
    for k in range(lanes):
        out[k] = 0.0
    for i in range(len(p)):
        for k in range(lanes):
            out[k] += np.float64(p[i, _AFTER + k]) * np.float64(p[i, shift + k])


@_lanes
def _pull(p, lanes, i, pull, late):
    zero = p.dtype.type(0)
    for k in range(lanes):
        p[i, _V + k] = pull * p[i, _GATE + k]
        p[i, _U + k] = pull * p[i, _MOMENT + k] + late * p[i, _GATE + k]
        p[i, _HV + k] = p[i, _HU + k] = zero


@_lanes
def _clear(s, lanes):
    zero = s.dtype.type(0)
    for k in range(lanes):
        s[_GG + k] = s[_GL + k] = s[_LL + k] = s[_WG + k] = s[_WL + k] = zero


@_lanes
def _multiply(s, p, lanes, i):
    for k in range(lanes):
        v, u, z = p[i, _V + k], p[i, _U + k], p[i, _MEAN + k]
        s[_GG + k] += v * p[i, _HV + k]
        s[_GL + k] += u * p[i, _HV + k]
        s[_LL + k] += u * p[i, _HU + k]
        s[_WG + k] += v * z
        s[_WL + k] += u * z


@_lanes
def _angles(s, lanes, scale, doublings):
    """Angles and their sinh and cosh - 1: power series of the angle halved ``doublings`` times."""
    num = s.dtype.type
    zero, one, two, half, most = num(0), num(1), num(2), num(0.5), num(MAX_ROTATION)
    s3, s5, s7, s9, s11 = num(1 / 6), num(1 / 120), num(1 / 5040), num(1 / 362880), num(1 / 39916800)
    c4, c6, c8, c10, c12 = num(1 / 24), num(1 / 720), num(1 / 40320), num(1 / 3628800), num(1 / 479001600)
    shorten = num(0.5**doublings)
    for k in range(lanes):
        square = s[_GG + k]
        angle = scale * sqrt(square if square > zero else zero)
        s[_ANGLE + k] = angle
        x = shorten * (most if angle > most else angle)
        y = x * x
        s[_SINH + k] = x * (one + y * (s3 + y * (s5 + y * (s7 + y * (s9 + y * s11)))))
        s[_COSH + k] = y * (half + y * (c4 + y * (c6 + y * (c8 + y * (c10 + y * c12)))))
    for _ in range(doublings):
        for k in range(lanes):
            sinh_ = s[_SINH + k]
            s[_SINH + k] = two * sinh_ * (one + s[_COSH + k])
            s[_COSH + k] = two * sinh_ * sinh_


@_lanes
def _rotate(s, lanes, scale, rate):
    """The rotation of (a, w) under the mean force G, between two halves of the turn that its first moment L brings.

    G and L do not commute as boosts: their commutator (the second term of Magnus' series) turns w in their plane, by
    ``scale^2 (L G^T - G L^T)``, here as Cayley's orthogonal map.
    """
    num = s.dtype.type
    zero, one, half, quarter, tiny = num(0), num(1), num(0.5), num(0.25), num(1e-36)
    ratio, turn = one / rate, quarter * scale * scale
    for k in range(lanes):
        gg, gl, ll, wg, wl = s[_GG + k], s[_GL + k], s[_LL + k], s[_WG + k], s[_WL + k]
        a = s[_START_A + k] + s[_MOVED_A + k]
        slant, size = turn * gl, turn * gg
        area = turn * ll
        inverse = one / (one + size * area - slant * slant)
        x = ((one + slant) * wg - size * wl) * inverse
        y = ((one - slant) * wl + area * wg) * inverse
        g = wg + num(2) * (slant * x - size * y)
        low = wl + num(2) * (area * x - slant * y)
        length = sqrt(gg if gg > zero else zero)
        safe = one / length if gg > tiny else zero
        along = g * safe
        factor = (along * s[_COSH + k] - a * rate * s[_SINH + k]) * safe
        a_change = a * s[_COSH + k] - ratio * along * s[_SINH + k]
        g += factor * gg
        low += factor * gl
        x_late = ((one + slant) * g - size * low) * inverse
        y_late = ((one - slant) * low + area * g) * inverse
        s[_ALPHA + k] = factor - num(2) * turn * (y + y_late)
        s[_BETA + k] = num(2) * turn * (x + x_late)
        s[_NEXT_A + k] = s[_MOVED_A + k] + a_change
        s[_SIGNAL + k] = a + half * a_change


@_lanes
def _combine(s, p, lanes, i):
    zero = p.dtype.type(0)
    for k in range(lanes):
        change = s[_ALPHA + k] * p[i, _V + k] + s[_BETA + k] * p[i, _U + k]
        p[i, _AFTER + k] = p[i, _BEFORE + k] + change
        p[i, _SHIFT + k] = zero


@_lanes
def _arrive(p, lanes, i, share):
    share = p.dtype.type(share)
    for k in range(lanes):
        p[i, _DISPLACED + k] = p[i, _FROM + k] + (share * p[i, _PATH + k] + p[i, _SHIFT + k])
        p[i, _END + k] = p[i, _START + k] + p[i, _DISPLACED + k]


@_lanes
def _meet(s, p, lanes, i, own_factor, pull):
    """:func:`.networks.path_gates` of one point, but for neurons that end on its kink: of those it only says which."""
    num = s.dtype.type
    one, zero, half = num(1), num(0), num(0.5)
    for k in range(lanes):
        z, g, signal = p[i, _Z + k], p[i, _GATE + k], s[_SIGNAL + k]
        shift = p[i, _END + k] - z
        own = own_factor * signal
        on, off = shift + (one - g) * own, shift - g * own
        above = z > zero
        push = on if above else off
        end = z + push
        leaves = (above & (end < zero)) | ((not above) & (end > zero))
        stays = (off > zero) & (on < zero)
        before = one if above else zero
        safe = push if leaves else one
        reached = -z / safe if leaves else one
        change = (one - reached) * (one - before - before)
        p[i, _MET + k] = before + change
        p[i, _MET_MOMENT + k] = change * reached * half
        ends = one if (leaves & stays) else zero
        p[i, _HELD + k] = ends
        s[_KINKS + k] += ends
        p[i, _V + k] = pull * signal * (before + change - g)


@_lanes
def _hold(s, p, lanes, i, own_factor, pull):
    """Average gates of the neurons that end on the kink of a point: from when it is reached, those that hold them there."""
    num = s.dtype.type
    one, zero, half, least, most = num(1), num(0), num(0.5), num(1e-6), num(1 - 1e-6)
    for k in range(lanes):
        z, g, signal = p[i, _Z + k], p[i, _GATE + k], s[_SIGNAL + k]
        shift = p[i, _END + k] - z
        own = own_factor * signal
        on, off = shift + (one - g) * own, shift - g * own
        stays = p[i, _HELD + k] > zero
        above = z > zero
        before = one if above else zero
        push = on if above else off
        span = off - on
        reached = -z / (push if stays else one)
        change = (one - reached) * (off / (span if stays else one) - before)
        # strictly between 0 and 1: that is how a held neuron is told from the others
        average = before + change
        average = least if average < least else average
        average = most if average > most else average
        p[i, _V + k] = pull * signal * (average - g) if stays else p[i, _V + k]
        p[i, _MET + k] = average if stays else p[i, _MET + k]
        p[i, _MET_MOMENT + k] = half * change * reached if stays else p[i, _MET_MOMENT + k]


@_lanes
def _go_on(s, p, lanes, turning):
    """Moves neurons on to the next piece: where the last one ended, it begins."""
    for i in range(len(p)):
        for k in range(lanes):
            p[i, _Z + k], p[i, _BEFORE + k], p[i, _GATE + k] = (
                p[i, _END + k],
                p[i, _AFTER + k],
                p[i, _MET + k],
            )
            p[i, _MOMENT + k] = p.dtype.type(0)
        if turning:
            for k in range(lanes):
                p[i, _MEAN + k] += s[_ALPHA + k] * p[i, _HV + k] + s[_BETA + k] * p[i, _HU + k]
    if turning:
        for k in range(lanes):
            s[_MOVED_A + k] = s[_NEXT_A + k]


@_lanes
def _approach(p, lanes, share):
    share = p.dtype.type(share)
    for i in range(len(p)):
        for k in range(lanes):
            p[i, _GATE + k] += share * (p[i, _MET + k] - p[i, _GATE + k])
            p[i, _MOMENT + k] += share * (p[i, _MET_MOMENT + k] - p[i, _MOMENT + k])


@_lanes
def _present(p, lanes, i):
    """Turns the gates met into those at the end."""
    num = p.dtype.type
    one, zero = num(1), num(0)
    for k in range(lanes):
        open_ = one if p[i, _END + k] > zero else zero
        p[i, _MET + k] = p[i, _MET + k] if p[i, _HELD + k] > zero else open_


@_lanes
def _multiply_gram(p, into, rows, gram, factors, lanes):
    """Adds ``gram`` (n, n) times rows to others; by way of its factors (n, r) and (r, n) where there are any."""
    inputs, turned, between = factors
    if len(turned) == 0:
        add_sums(p, into, p, rows, gram, lanes)
        return
    fill(between, 0.0, 0)
    add_sums(between, FIRST, p, rows, turned, lanes)
    add_sums(p, into, between, FIRST, inputs, lanes)


@_part
def _sweep(s, p, lanes, turning, push, piece, across, inputs, doublings):
    """Moves a block over one piece, the gates along the way being those of ``_GATE``, and finds the gates that it meets. Returns how many
    neurons end on a kink."""
    n, end = len(p), push.shares[piece, 1]
    middle = (push.shares[piece, 0] + end) / 2
    if turning:
        _clear(s, lanes)
        for i in range(n):
            _pull(p, lanes, i, push.pulls[piece, i], push.lates[piece, i])
        _multiply_gram(p, _HV, _V, inputs.gram, inputs.factors, lanes)
        _multiply_gram(p, _HU, _U, inputs.gram, inputs.factors, lanes)
        for i in range(n):
            _multiply(s, p, lanes, i)
        _angles(s, lanes, push.scale, doublings)
        _rotate(s, lanes, push.scale, push.rate)
        for i in range(n):
            _combine(s, p, lanes, i)
    else:
        for i in range(n):
            _push(p, lanes, i, push.scale * push.pulls[piece, i], middle)
    _multiply_gram(p, _SHIFT, _AFTER, across, inputs.factors, lanes)
    for i in range(n):
        _arrive(p, lanes, i, end)
    for k in range(lanes):
        s[_KINKS + k] = s.dtype.type(0)
    for i in range(n):
        if not turning:
            _signal(s, p, lanes, i, middle)
        _meet(s, p, lanes, i, push.own[piece, i], push.pulls[piece, i])
    kinks = total(s[_KINKS:], lanes)
    if kinks > 0:
        for i in range(n):
            if total(p[i, _HELD:], lanes) > 0:
                if not turning:
                    _signal(s, p, lanes, i, middle)
                _hold(s, p, lanes, i, push.own[piece, i], push.pulls[piece, i])
    _loosen(s, p, lanes, inputs)
    return kinks


@_part
def _loosen(s, p, lanes, inputs):
    """Squares of what the gates met would change of the force on a neuron.

    Where points are CROWDED, a neuron passes many of them one after the other, and what is wrong with their gates adds up. Elsewhere it is
    taken to be independent: that takes half the evaluations, and in 64 dimensions errors are a third of those on a line nonetheless.
    """
    num, between = s.dtype.type, inputs.factors[2]
    for k in range(lanes):
        s[_LOOSE + k] = num(0)
    if 0 < CROWDED * len(between) <= len(p):
        fill(between, 0.0, 0)
        add_sums(between, FIRST, p, _V, inputs.factors[1], lanes)
        for row in range(len(between)):
            for k in range(lanes):
                s[_LOOSE + k] += between[row, k] * between[row, k]
        return
    for i in range(len(p)):
        square = num(inputs.gram[i, i])
        for k in range(lanes):
            s[_LOOSE + k] += square * p[i, _V + k] * p[i, _V + k]


@_lanes
def _multiply_gram_once(out, vector, gram, factors):
    """Writes ``gram`` (n, n) times a vector (n,) to ``out``; by way of its factors (n, r) and (r, n) where there are any."""
    inputs, turned, _ = factors
    n, rank = len(gram), len(turned)
    for i in range(n):
        out[i] = 0.0
    if rank == 0:
        for i in range(n):
            for j in range(n):
                out[i] += gram[i, j] * vector[j]
    for r in range(rank):
        between = 0.0
        for j in range(n):
            between += turned[r, j] * vector[j]
        for i in range(n):
            out[i] += inputs[i, r] * between


@_lanes
def _unpin(s, p, slow, lanes, turning, push, piece, across, inputs):
    """Moves again, in small substeps, the neurons that seem to be held on as many kinks as their weights have components.

    Such a neuron passes close to the origin, where all its gates change at once, and holding each of them is a solution too, though one
    that the flow leaves at once.
    """
    n, scale, rate, end = len(p), np.float64(push.scale), np.float64(push.rate), push.shares[piece, 1]
    middle = (push.shares[piece, 0] + end) / 2
    for k in range(lanes):
        if s[_KINKS + k] < inputs.rank:
            continue
        z, force, along, moved = slow[0], slow[1], slow[2], slow[3]
        for i in range(n):
            z[i] = p[i, _MEAN + k] if turning else p[i, _Z + k]
            moved[i] = 0.0
        a = np.float64(s[_START_A + k] + s[_MOVED_A + k])
        for _ in range(SUBSTEPS):
            square = product = 0.0
            for i in range(n):
                signal = 1.0 if turning else np.float64(p[i, _FIRST + k] + middle * p[i, _SECOND + k])
                force[i] = push.pulls[piece, i] * signal / SUBSTEPS if z[i] > 0 else 0.0
            _multiply_gram_once(along, force, inputs.gram, inputs.factors)
            for i in range(n):
                square += force[i] * along[i]
                product += force[i] * z[i]
            factor = -scale
            if turning:
                length = sqrt(max(square, 0.0))
                angle, part = scale * length, product / length if length > 0 else 0.0
                # series of sinh and cosh - 1: a substep's angle is below MAX_ROTATION / SUBSTEPS
                two = angle * angle
                up = angle * (1 + two / 6 * (1 + two / 20 * (1 + two / 42)))
                more = two / 2 * (1 + two / 12 * (1 + two / 30 * (1 + two / 56)))
                factor = (part * more - a * rate * up) / length if length > 0 else 0.0
                a += a * more - part * up / rate
            for i in range(n):
                moved[i] += factor * force[i]
                z[i] += factor * along[i]
        s[_NEXT_A + k] = a - s[_START_A + k]
        s[_KINKS + k] = s[_ALPHA + k] = s[_BETA + k] = 0
        for i in range(n):
            p[i, _AFTER + k], p[i, _HELD + k] = p[i, _BEFORE + k] + moved[i], 0
            if turning:
                p[i, _MEAN + k] = z[i]
        for i in range(n):
            force[i] = p[i, _AFTER + k]
        _multiply_gram_once(along, force, across, inputs.factors)
        for i in range(n):
            p[i, _DISPLACED + k] = p[i, _FROM + k] + end * p[i, _PATH + k] + along[i]
            p[i, _SHIFT + k], p[i, _END + k] = along[i], p[i, _START + k] + p[i, _DISPLACED + k]


@_part
def _load(s, p, turning, moving, lo, lanes, before):
    """Loads neurons that lie side by side."""
    zero = p.dtype.type(0)
    for i in range(len(p)):
        copy(p[i, _START:], before.z_start[i, lo:], lanes)
        copy(p[i, _FROM:], before.displaced[i, lo:], lanes)
        copy(p[i, _GATE:], before.gate[i, lo:], lanes)
        copy(p[i, _BEFORE:], before.coefficients[i, lo:], lanes)
        if moving:
            copy(p[i, _PATH:], before.path[i, lo:], lanes)
        else:
            for k in range(lanes):
                p[i, _PATH + k] = zero
        if not turning:
            copy(p[i, _FIRST:], before.first[i, lo:], lanes)
            copy(p[i, _SECOND:], before.last[i, lo:], lanes)
    if turning:
        copy(s[_START_A:], before.a_start[lo:], lanes)
        copy(s[_MOVED_A:], before.moved_a[lo:], lanes)


@_part
def _store(s, p, turning, lo, lanes, after):
    for i in range(len(p)):
        copy(after.displaced[i, lo:], p[i, _DISPLACED:], lanes)
        copy(after.coefficients[i, lo:], p[i, _AFTER:], lanes)
        copy(after.gate[i, lo:], p[i, _MET:], lanes)
    if turning:
        copy(after.moved_a[lo:], s[_NEXT_A:], lanes)


@_part
def _gather(s, p, turning, moving, chosen, lanes, before):
    """Loads the chosen neurons; the last of the lanes may be empty."""
    count, zero = len(chosen), p.dtype.type(0)
    for i in range(len(p)):
        for k in range(lanes):
            p[i, _START + k] = p[i, _FROM + k] = p[i, _PATH + k] = p[i, _BEFORE + k] = zero
            p[i, _FIRST + k] = p[i, _SECOND + k] = p[i, _GATE + k] = zero
        for k in range(count):
            p[i, _START + k] = before.z_start[i, chosen[k]]
            p[i, _FROM + k] = before.displaced[i, chosen[k]]
            p[i, _BEFORE + k] = before.coefficients[i, chosen[k]]
            p[i, _GATE + k] = before.gate[i, chosen[k]]
        if moving:
            for k in range(count):
                p[i, _PATH + k] = before.path[i, chosen[k]]
        if not turning:
            for k in range(count):
                p[i, _FIRST + k] = before.first[i, chosen[k]]
                p[i, _SECOND + k] = before.last[i, chosen[k]]
    if turning:
        for k in range(lanes):
            s[_START_A + k] = s[_MOVED_A + k] = zero
        for k in range(count):
            s[_START_A + k], s[_MOVED_A + k] = before.a_start[chosen[k]], before.moved_a[chosen[k]]


@_part
def _scatter(s, p, turning, chosen, after):
    for k in range(len(chosen)):
        for i in range(len(p)):
            after.displaced[i, chosen[k]] = p[i, _DISPLACED + k]
            after.coefficients[i, chosen[k]] = p[i, _AFTER + k]
            after.gate[i, chosen[k]] = p[i, _MET + k]
        if turning:
            after.moved_a[chosen[k]] = s[_NEXT_A + k]


@_part
def _move_piece(s, p, slow, lanes, turning, push, piece, on, inputs, across, sweeps, doublings, settled):
    """Moves a block over a piece, with gates that have settled to ``settled``, or that had so many sweeps to do so; returns what has not.
    ``on``: the piece begins where another one ended; ``across``: products of the inputs at its end with their means."""
    if on:
        _go_on(s, p, lanes, turning)
    for sweep in range(sweeps):
        kinks = _sweep(s, p, lanes, turning, push, piece, across, inputs, doublings)
        loose = sqrt(max(total(s[_LOOSE:], lanes), 0.0))
        if sweep == sweeps - 1 or not loose > settled:
            break
        _approach(p, lanes, 1.0 if sweep < DAMPED else 0.5)
    if sweeps > 1 and kinks >= inputs.rank:
        _unpin(s, p, slow, lanes, turning, push, piece, across, inputs)
    for i in range(len(p)):
        _present(p, lanes, i)
    return loose


@_part
def _move_in_pieces(s, p, slow, lanes, turning, push, inputs, across, level, sweeps, doublings, settled):
    """Moves a block piece by piece; returns what has not settled to ``settled`` in all of them."""
    n, pieces, missing = len(p), 1 << level, 0.0
    for piece in range(pieces - 1, 2 * pieces - 1):
        end, on, goal = push.shares[piece, 1], piece >= pieces, settled / pieces
        for i in range(n):
            for j in range(n):
                across[i, j] = inputs.before[i, j] + end * (inputs.after[i, j] - inputs.before[i, j])
        missing += _move_piece(
            s, p, slow, lanes, turning, push, piece, on, inputs, across, sweeps, doublings, goal
        )
    return missing


@_part
def _displaced(p, lanes, inputs, out):
    """Squares of the displacements of a block: since the start, or, where the inputs move, over the step."""
    if inputs.move:
        zero = p.dtype.type(0)
        for i in range(len(p)):
            for k in range(lanes):
                p[i, _HV + k] = zero
        _multiply_gram(p, _HV, _AFTER, inputs.gram, inputs.factors, lanes)
        _displacements(p, lanes, _HV, out)
    else:
        _displacements(p, lanes, _SHIFT, out)


@_lanes
def move_layer(room, turning, push, inputs, tolerance, far, before, after):
    """Moves all neurons of a layer of one network: the largest angle, the displacement of the layer, and what is unsettled relative to it.

    Most neurons meet no kink on their way, or rest on one, and are where they belong after a single move. The others, by how much that
    matters, are moved again in pieces. ``room`` of :func:`room`; ``far``: the displacement before the step, where the inputs move: it is
    then at most as long as all steps together.
    """
    s, p, loose, kinks, levels, chosen, across, squares, part, slow = room
    moving, width = inputs.move, before.z_start.shape[1]
    doublings = doublings_of(push.reach, push.scale) if turning else 0
    rotation = moved = settled = missing = step = 0.0
    many, at, lo = width, 0, 0
    while at < many:
        # first all neurons side by side and in one piece, then those that want more
        first = lo < width
        if first:
            count = lanes = min(BLOCK, width - lo)
            level, sweeps, goal = 0, 1, 0.0
            _load(s, p, turning, moving, lo, lanes, before)
        else:
            end = group(levels, chosen, at, many, BLOCK)
            these, count, level, sweeps = chosen[at:end], end - at, levels[chosen[at]], MAX_SWEEPS
            lanes, goal = count + -count % 16, settled * sqrt(count)
            _gather(s, p, turning, moving, these, lanes, before)
        _prepare(s, p, lanes, turning, moving)
        left = _move_in_pieces(
            s, p, slow, lanes, turning, push, inputs, across, level, sweeps, doublings, goal
        )
        _displaced(p, lanes, inputs, part)
        if not first:
            missing += left**2
            _scatter(s, p, turning, these, after)
            for k in range(count):
                squares[these[k]] = part[k]
            at = end
            continue
        _store(s, p, turning, lo, lanes, after)
        for k in range(lanes):
            loose[lo + k], kinks[lo + k], squares[lo + k] = s[_LOOSE + k], s[_KINKS + k], part[k]
        if turning:
            rotation = max(rotation, largest(s[_ANGLE:], lanes))
        moved += total(part, lanes)
        lo += lanes
        if lo == width:
            if not rotation < MAX_ROTATION:
                return rotation, 0.0, 0.0
            moved = sqrt(max(moved, 0.0)) + (far if moving else 0.0)
            step = np.float64(push.scale) * np.float64(push.rate)
            settled = SETTLED * tolerance * moved / sqrt(width) / max(step, 1e-300)
            for k in range(width):
                loose[k] = sqrt(max(loose[k], 0.0))
            many, missing = sort_out(levels, chosen, loose, kinks, settled)
    unsettled = sqrt(missing) * step / max(moved, 1e-300)
    return rotation, sqrt(max(total(squares, width), 0.0)) + (far if moving else 0.0), unsettled


@_lanes
def move_alone(s, p, slow, k, turning, push, inputs, ends, level, sweeps, settled, doublings, before, after):
    """Moves one neuron of a layer in 2^level pieces, see :func:`_move_piece`; returns what has not settled, and the square of its
    displacement. ``ends`` (TREE, n, n): products of the inputs at the end of every piece with their means; (1, n, n) where they stay."""
    pieces, missing = 1 << level, 0.0
    _load(s, p, turning, inputs.move, k, 1, before)
    _prepare(s, p, 1, turning, inputs.move)
    for piece in range(pieces - 1, 2 * pieces - 1):
        across, goal, on = ends[min(piece, len(ends) - 1)], settled / pieces, piece >= pieces
        missing += _move_piece(
            s, p, slow, 1, turning, push, piece, on, inputs, across, sweeps, doublings, goal
        )
    _displaced(p, 1, inputs, slow[0])
    _store(s, p, turning, k, 1, after)
    return missing, slow[0, 0]


@_lanes
def state_of(s):
    """How loose a neuron is, on how many kinks it ends, and its angle, after a move by itself."""
    return sqrt(max(s[_LOOSE], s.dtype.type(0))), s[_KINKS], s[_ANGLE]


@_lanes
def doublings_of(reach, scale):
    """How often angles are doubled up."""
    doublings, largest = 0, min(reach * scale, MAX_ROTATION)
    while largest > SERIES:
        doublings, largest = doublings + 1, largest / 2
    return doublings


@_lanes
def _backward(p, lanes, i, signal):
    """df/dz, and which neurons are held."""
    num = p.dtype.type
    one, zero = num(1), num(0)
    for k in range(lanes):
        gate = p[i, _GATE + k]
        p[i, _V + k] = gate * signal[k]
        p[i, _HELD + k] = one if (gate > zero) & (gate < one) else zero
        p[i, _U + k] = zero


@_lanes
def _project(s, p, lanes, cosines):
    """The part of df/dz that held neurons lose, for they cannot move along the point on whose kink they are: see
    networks.input_kernel. Zero for the others."""
    n, num = len(p), p.dtype.type
    half, zero = num(0.5), num(0)
    for k in range(lanes):
        s[_KINKS + k] = zero
    for point in range(n):
        if total(p[point, _HELD:], lanes) > 0:
            for i in range(n):
                cosine = num(cosines[i, point])
                for k in range(lanes):
                    first = (p[point, _HELD + k] > half) & (s[_KINKS + k] < half)
                    p[i, _U + k] += cosine * p[i, _V + k] if first else zero
            for k in range(lanes):
                s[_KINKS + k] += p[point, _HELD + k]


@_lanes
def add_input_kernel(room, gates, signals, cosines, backward, held_back):
    """Adds the products of df/dz of all points to ``backward`` (n, n; lower triangle), and those that held neurons lose to ``held_back``.

    ``gates`` (n, m); ``signals`` (n, m), or (1, m) where they are the same for all points; ``cosines`` (n, n): of inputs j along inputs i.
    """
    s, p = room[0], room[1]
    n, width = gates.shape
    for lo in range(0, width, BLOCK):
        lanes, kinks = min(BLOCK, width - lo), 0.0
        for i in range(n):
            copy(p[i, _GATE:], gates[i, lo:], lanes)
            _backward(p, lanes, i, signals[i if len(signals) > 1 else 0, lo:])
            kinks += total(p[i, _HELD:], lanes)
        add_gram(backward, p, _V, lanes)
        if kinks > 0:
            _project(s, p, lanes, cosines)
            add_gram(held_back, p, _U, lanes)


@_lanes
def weigh(pulls, gram, scale, own):
    """What a neuron's own open gate adds to its shift, per unit of its signal: ``own`` (TREE, n). Returns a bound on the force of all
    points together, whatever the gates."""
    num, reach = own.dtype.type, 0.0
    for piece in range(TREE):
        together = 0.0
        for i in range(len(gram)):
            own[piece, i] = num(-scale * pulls[piece, i] * gram[i, i])
            together += abs(pulls[piece, i]) * sqrt(gram[i, i])
        reach = max(reach, together)
    return reach


@_lanes
def scaled(out, kernel, factor, gram, held_back):
    """The kernel of a layer of input weights, from the lower triangles that :func:`add_input_kernel` made."""
    for i in range(len(out)):
        for j in range(i + 1):
            out[i, j] = out[j, i] = factor * (kernel[i, j] * gram[i, j] - held_back[i, j])
