"""The passes of :class:`.line.LineTwoLayer` over its neurons, compiled by numba.

The equations are those of :mod:`.two_layer`. There, every operation passes over all neurons; here, a block of neurons goes
through all of them while it is in the first caches. And since neurons are independent of each other under a given impulse, those
that meet kinks on their way, a minority, are followed more closely than the others, in pieces of the step.

A block is a handful of rows with one *lane* per neuron. Loops over lanes are simple enough for the compiler to vectorise; little else takes
time. Fixed rows lie in one array ``s``, at places that the compiler knows, so that it need not ask whether they overlap. Others have a
row per point: of the tuple ``points``, those named in :func:`rows`.
"""

# Types are numba's business here: annotations would only repeat that all of these are arrays.

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from .compiled import compiled
from .networks import MAX_ROTATION
from .pieces import DAMPED, MAX_SWEEPS, SETTLED, TREE, copy, group, largest, resolve, sort_out, total
from .products import add_gram

BLOCK = 256
"""Lanes of a block."""
PADDING = 64
"""Widths are padded to a multiple of this with neurons whose weights are and stay zero: no loop has a remainder."""
SUBSTEPS = 64
"""Substeps of a neuron that passes the origin within a step."""
SERIES = 0.5
"""Largest angle of the power series of sinh and cosh; larger ones are doubled up from there."""

# The fixed rows of a block: places of their first lanes.
(
    _START_W,  # initial weights: of the input, of the constant, and the output weight
    _START_B,
    _START_A,
    _MOVED_W,  # displacements since the start, before the step and after it
    _MOVED_B,
    _MOVED_A,
    _NEXT_W,
    _NEXT_B,
    _NEXT_A,
    _W,  # weights before the step and after it
    _B,
    _END_W,
    _END_B,
    _END_A,
    _MEAN_A,
    _FORCE_W,  # force on (w, b) and its first moment about the middle of the step, in units of the impulse's size
    _FORCE_B,
    _LATE_W,
    _LATE_B,
    _ANGLE,  # hyperbolic angle of the rotation, its functions, and 1 / (length of the force)
    _SINH,
    _COSH,
    _INVERSE,
    _LOOSE_W,  # what the gates met would change of the force
    _LOOSE_B,
    _KINKS,  # on how many kinks the neuron ends
) = range(0, 26 * BLOCK, BLOCK)
_ROWS = 26

# Infinities and NaNs must stay what they are: diverged networks have them.
_lanes = compiled("contract", "nsz")
_part = compiled("contract", "nsz", inline=True)
_sums = compiled("contract", "nsz", "reassoc")


def rows(x: Any, dtype: Any) -> tuple[Any, tuple[Any, ...]]:
    """Room for a block: its fixed rows, and those of points with the inputs x (n,)."""
    names = ("gate", "moment", "met", "met_moment", "held", "features", "backward")
    return np.zeros(_ROWS * BLOCK, dtype), (
        x.astype(dtype),
        *(np.zeros((len(x), BLOCK), dtype) for _ in names),
    )


@_lanes
def _load(s, lanes, start, moved, lo, place):
    for r in range(3):
        copy(s[_START_W + r * BLOCK :], start[r, lo:], lanes)
        copy(s[place + r * BLOCK :], moved[r, lo:], lanes)


@_lanes
def _add_up(s, lanes):
    for k in range(lanes):
        s[_W + k] = s[_START_W + k] + s[_MOVED_W + k]
        s[_B + k] = s[_START_B + k] + s[_MOVED_B + k]


@_lanes
def _approach(rows, goals, share, lanes):
    for i in range(len(rows)):
        for k in range(lanes):
            rows[i, k] += share * (goals[i, k] - rows[i, k])


@_lanes
def _clear(s, lanes):
    zero = s.dtype.type(0)
    for k in range(lanes):
        s[_FORCE_W + k] = s[_FORCE_B + k] = s[_LATE_W + k] = s[_LATE_B + k] = zero
        s[_LOOSE_W + k] = s[_LOOSE_B + k] = s[_KINKS + k] = zero


@_lanes
def _push(s, lanes, i, x, pull, late, gate, moment):
    """Adds the force of one point."""
    for k in range(lanes):
        force = pull * gate[i, k]
        later = pull * moment[i, k] + late * gate[i, k]
        s[_FORCE_W + k] += x * force
        s[_FORCE_B + k] += force
        s[_LATE_W + k] += x * later
        s[_LATE_B + k] += later


@_lanes
def _angles(s, lanes, scale, doublings):
    """Angles and their sinh and cosh - 1: power series of the angle halved ``doublings`` times."""
    num = s.dtype.type
    zero, one, two, half, tiny, most = num(0), num(1), num(2), num(0.5), num(1e-36), num(MAX_ROTATION)
    s3, s5, s7, s9, s11 = num(1 / 6), num(1 / 120), num(1 / 5040), num(1 / 362880), num(1 / 39916800)
    c4, c6, c8, c10, c12 = num(1 / 24), num(1 / 720), num(1 / 40320), num(1 / 3628800), num(1 / 479001600)
    shorten = num(0.5**doublings)
    for k in range(lanes):
        square = s[_FORCE_W + k] * s[_FORCE_W + k] + s[_FORCE_B + k] * s[_FORCE_B + k]
        length = np.sqrt(square)
        s[_INVERSE + k] = one / length if square > tiny else zero
        angle = scale * length
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
    """The exact rotation under the average force, and the turn that follows from its first moment (two_layer.TwoLayer._rotate)."""
    num = s.dtype.type
    one, two, half, tiny, least = num(1), num(2), num(0.5), num(1e-36), num(-0.99)
    ratio = one / rate
    for k in range(lanes):
        w, b, a = s[_W + k], s[_B + k], s[_START_A + k] + s[_MOVED_A + k]
        gw, gb, lw, lb, inverse = (
            s[_FORCE_W + k],
            s[_FORCE_B + k],
            s[_LATE_W + k],
            s[_LATE_B + k],
            s[_INVERSE + k],
        )
        along = (w * gw + b * gb) * inverse
        factor = (along * s[_COSH + k] - a * rate * s[_SINH + k]) * inverse
        a_change = a * s[_COSH + k] - ratio * along * s[_SINH + k]
        dw, db = factor * gw, factor * gb
        force_middle = scale * (gw * (w + half * dw) + gb * (b + half * db))
        late_middle = scale * (lw * (w + half * dw) + lb * (b + half * db))
        tw = scale * lw * force_middle - scale * gw * late_middle
        tb = scale * lb * force_middle - scale * gb * late_middle
        ew, eb = w + dw, b + db
        square = ew * ew + eb * eb
        growth = ((two * ew + tw) * tw + (two * eb + tb) * tb) / (square if square > tiny else tiny)
        growth = growth if growth > least else least
        root = np.sqrt(one + growth)
        shorter = -growth / (root * (one + root))  # 1 / root - 1
        s[_NEXT_W + k] = s[_MOVED_W + k] + (dw + tw + shorter * (ew + tw))
        s[_NEXT_B + k] = s[_MOVED_B + k] + (db + tb + shorter * (eb + tb))
        s[_NEXT_A + k] = s[_MOVED_A + k] + a_change
        s[_MEAN_A + k] = a + half * a_change


@_lanes
def _arrive(s, lanes):
    for k in range(lanes):
        s[_END_W + k] = s[_START_W + k] + s[_NEXT_W + k]
        s[_END_B + k] = s[_START_B + k] + s[_NEXT_B + k]
        s[_END_A + k] = s[_START_A + k] + s[_NEXT_A + k]


@_lanes
def _meet(s, lanes, i, x, pull, own_factor, gate, met, moment, held):
    """:func:`.networks.path_gates` of one point, but for neurons that end on its kink: of those it only says which."""
    num = s.dtype.type
    one, zero, half = num(1), num(0), num(0.5)
    for k in range(lanes):
        z = x * s[_W + k] + s[_B + k]
        shift = (x * s[_END_W + k] + s[_END_B + k]) - z
        own, g = own_factor * s[_MEAN_A + k], gate[i, k]
        on = shift + (one - g) * own
        off = shift - g * own
        above = z > zero
        push = on if above else off
        end = z + push
        leaves = (above & (end < zero)) | ((not above) & (end > zero))
        stays = (off > zero) & (on < zero)
        before = one if above else zero
        safe = push if leaves else one
        reached = -z / safe if leaves else one
        change = (one - reached) * (one - before - before)
        met[i, k] = before + change
        moment[i, k] = change * reached * half
        ends = one if (leaves & stays) else zero
        held[i, k] = ends
        s[_KINKS + k] += ends
        loose = pull * (before + change - g)
        s[_LOOSE_W + k] += x * loose
        s[_LOOSE_B + k] += loose


@_lanes
def _hold(s, lanes, i, x, pull, own_factor, gate, met, moment, held):
    """Average gates of the neurons that end on the kink of a point: from when it is reached, those that hold them there."""
    num = s.dtype.type
    one, zero, half, least, most = num(1), num(0), num(0.5), num(1e-6), num(1 - 1e-6)
    for k in range(lanes):
        z = x * s[_W + k] + s[_B + k]
        shift = (x * s[_END_W + k] + s[_END_B + k]) - z
        own, g = own_factor * s[_MEAN_A + k], gate[i, k]
        on, off = shift + (one - g) * own, shift - g * own
        stays = held[i, k] > zero
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
        loose = pull * (average - met[i, k]) if stays else zero
        s[_LOOSE_W + k] += x * loose
        s[_LOOSE_B + k] += loose
        met[i, k] = average if stays else met[i, k]
        moment[i, k] = half * change * reached if stays else moment[i, k]


@_lanes
def _go_on(s, lanes):
    """Moves neurons on to the next piece: where the last one ended, it begins."""
    for k in range(lanes):
        s[_MOVED_W + k], s[_MOVED_B + k], s[_MOVED_A + k] = s[_NEXT_W + k], s[_NEXT_B + k], s[_NEXT_A + k]
        s[_W + k], s[_B + k] = s[_END_W + k], s[_END_B + k]


@_lanes
def _present(s, lanes, i, x, held, met):
    """Turns the gates met into those at the end."""
    num = s.dtype.type
    one, zero = num(1), num(0)
    for k in range(lanes):
        open_ = one if x * s[_END_W + k] + s[_END_B + k] > zero else zero
        met[i, k] = met[i, k] if held[i, k] > zero else open_


@_lanes
def _signals(s, lanes, i, x, gate, features, backward, held):
    """relu(z) and df/dz after a step, and which neurons are held."""
    num = s.dtype.type
    one, zero = num(1), num(0)
    for k in range(lanes):
        z = x * s[_END_W + k] + s[_END_B + k]
        features[i, k] = zero if z <= zero else z  # NaN stays NaN
        backward[i, k] = gate[i, k] * s[_END_A + k]
        held[i, k] = one if (gate[i, k] > zero) & (gate[i, k] < one) else zero


@_sums
def _energies(s, lanes):
    """Sums of squares, in float64 (those of tiny float32 numbers would underflow): of what is loose, and of the displacements."""
    loose = first = last = 0.0
    for k in range(lanes):
        a = np.float64(s[_MEAN_A + k])
        w, b = a * np.float64(s[_LOOSE_W + k]), a * np.float64(s[_LOOSE_B + k])
        loose += w * w + b * b
    for k in range(lanes):
        w, b, a = np.float64(s[_NEXT_W + k]), np.float64(s[_NEXT_B + k]), np.float64(s[_NEXT_A + k])
        first += w * w + b * b
        last += a * a
    return loose, first, last


@_sums
def _add_outputs(out, s, lanes, features):
    """Adds ``features[i] . a`` to ``out[i]``."""
    for i in range(len(features)):
        total = 0.0
        for k in range(lanes):
            total += np.float64(features[i, k]) * np.float64(s[_END_A + k])
        out[i] += total


@_lanes
def _sweep(s, lanes, points, force, scale, rate, doublings):
    """Moves a block, the gates along the way being those of ``points``, and finds the gates that it meets. Returns how many neurons end
    on a kink."""
    x, gate, moment, met, met_moment, held, _, _ = points
    pull, late, own = force
    _clear(s, lanes)
    for i in range(len(x)):
        _push(s, lanes, i, x[i], pull[i], late[i], gate, moment)
    _angles(s, lanes, scale, doublings)
    _rotate(s, lanes, scale, rate)
    _arrive(s, lanes)
    for i in range(len(x)):
        _meet(s, lanes, i, x[i], pull[i], own[i], gate, met, met_moment, held)
    kinks = total(s[_KINKS:], lanes)
    if kinks > 0:
        for i in range(len(x)):
            if total(held[i], lanes) > 0:
                _hold(s, lanes, i, x[i], pull[i], own[i], gate, met, met_moment, held)
    return kinks


@_lanes
def _unpin(s, lanes, points, force, scale, rate):
    """Moves again, in small substeps, the neurons that seem to be held on two kinks; whether there are any.

    Such a neuron passes close to the origin, where all its gates change at once, and holding each of them is a solution too, though one
    that the flow leaves at once.
    """
    x, held, n = points[0], points[5], len(points[0])
    pull, found = force[0], False
    for k in range(lanes):
        if s[_KINKS + k] < 2:
            continue
        found = True
        w, b, a = np.float64(s[_W + k]), np.float64(s[_B + k]), np.float64(s[_START_A + k] + s[_MOVED_A + k])
        for _ in range(SUBSTEPS):
            gw = gb = 0.0
            for i in range(n):
                if x[i] * w + b > 0:
                    gw += pull[i] * x[i]
                    gb += pull[i]
            length = sqrt(gw * gw + gb * gb)
            if length > 0:
                angle, along = scale * length / SUBSTEPS, (w * gw + b * gb) / length
                # series of sinh and cosh - 1: a substep's angle is below MAX_ROTATION / SUBSTEPS
                square = angle * angle
                up = angle * (1 + square / 6 * (1 + square / 20 * (1 + square / 42)))
                more = square / 2 * (1 + square / 12 * (1 + square / 30 * (1 + square / 56)))
                factor = (along * more - a * rate * up) / length
                w, b, a = w + factor * gw, b + factor * gb, a + a * more - along * up / rate
        s[_NEXT_W + k], s[_NEXT_B + k], s[_NEXT_A + k] = (
            w - s[_START_W + k],
            b - s[_START_B + k],
            a - s[_START_A + k],
        )
        s[_KINKS + k] = 0
        for i in range(n):
            held[i, k] = 0
    return found


@_lanes
def _project(s, lanes, cosines, held, backward, along):
    """The part of df/dz that held neurons lose, for they cannot move along the point on whose kink they are: see
    networks.input_kernel. Zero for the others."""
    n = len(held)
    for i in range(n):
        along[i, :lanes] = 0
    s[_KINKS : _KINKS + lanes] = 0
    for point in range(n):
        if total(held[point], lanes) > 0:
            for i in range(n):
                _lose(s, lanes, i, point, along.dtype.type(cosines[i, point]), held, backward, along)
            for k in range(lanes):
                s[_KINKS + k] += held[point, k]


@_lanes
def _lose(s, lanes, i, point, cosine, held, backward, along):
    num = s.dtype.type
    half, zero = num(0.5), num(0)
    for k in range(lanes):
        first = (held[point, k] > half) & (s[_KINKS + k] < half)
        along[i, k] += cosine * backward[i, k] if first else zero


@_lanes
def _looseness(s, lanes, out):
    """What the gates that a neuron met would change of its move, in units of the impulse's size and the rate."""
    for k in range(lanes):
        w, b = s[_LOOSE_W + k], s[_LOOSE_B + k]
        out[k] = np.sqrt(w * w + b * b) * np.abs(s[_MEAN_A + k])


@_part
def _move_at_once(s, points, force, scale, rate, doublings, start, here, there, loose, kinks):
    """Moves all neurons of a job in one piece, with the gates that they have: the largest angle, and the square of how far they then are
    from the start. ``loose`` (m,) and ``kinks`` (m,) tell of which neurons that is not the end."""
    x, gate, moment, met, _, held, _, _ = points
    (old, old_gates), (new, new_gates) = here, there
    n, rotation, far = len(x), 0.0, 0.0
    for lo in range(0, start.shape[1], BLOCK):
        lanes = min(BLOCK, start.shape[1] - lo)
        _load(s, lanes, start, old, lo, _MOVED_W)
        _add_up(s, lanes)
        for i in range(n):
            copy(gate[i], old_gates[i, lo:], lanes)
        moment[:, :lanes] = 0
        _sweep(s, lanes, points, force, scale, rate, doublings)
        rotation = max(rotation, largest(s[_ANGLE:], lanes))
        if not rotation < MAX_ROTATION:
            break
        far += _energies(s, lanes)[1]
        _looseness(s, lanes, loose[lo:])
        copy(kinks[lo:], s[_KINKS:], lanes)
        for r in range(3):
            copy(new[r, lo:], s[_NEXT_W + r * BLOCK :], lanes)
        for i in range(n):
            _present(s, lanes, i, x[i], held, met)
            copy(new_gates[i, lo:], met[i], lanes)
    return rotation, far


@_part
def _gather(s, gate, chosen, start, here):
    """Loads the chosen neurons; returns the number of lanes, of which the last may be empty."""
    old, old_gates = here
    count = len(chosen)
    lanes = count + -count % 16
    for r in range(3):
        for k in range(count):
            s[_START_W + r * BLOCK + k] = start[r, chosen[k]]
            s[_MOVED_W + r * BLOCK + k] = old[r, chosen[k]]
        s[_START_W + r * BLOCK + count : _START_W + r * BLOCK + lanes] = 0
        s[_MOVED_W + r * BLOCK + count : _MOVED_W + r * BLOCK + lanes] = 0
    _add_up(s, lanes)
    for i in range(len(gate)):
        for k in range(count):
            gate[i, k] = old_gates[i, chosen[k]]
        gate[i, count:lanes] = 0
    return lanes


@_part
def _move_in_pieces(s, lanes, points, forces, level, scale, rate, doublings, settled):
    """Moves a block piece by piece, each with gates that have settled to ``settled`` in all of them; returns what has not."""
    x, gate, moment, met, met_moment, held, _, _ = points
    pulls, lates, own = forces
    n, num, pieces, missing = len(x), x.dtype.type, 1 << level, 0.0
    for piece in range(pieces - 1, 2 * pieces - 1):
        force = pulls[piece], lates[piece], own[piece]
        if piece >= pieces:
            _go_on(s, lanes)
            for i in range(n):
                copy(gate[i], met[i], lanes)
        moment[:, :lanes] = 0
        for sweep in range(MAX_SWEEPS):
            kinks = _sweep(s, lanes, points, force, scale, rate, doublings)
            loose = sqrt(_energies(s, lanes)[0])
            if sweep == MAX_SWEEPS - 1 or not loose > settled / pieces:
                break
            share = num(1.0 if sweep < DAMPED else 0.5)
            _approach(gate, met, share, lanes)
            _approach(moment, met_moment, share, lanes)
        if kinks > 0 and _unpin(s, lanes, points, force, scale, rate):
            _arrive(s, lanes)
        for i in range(n):
            _present(s, lanes, i, x[i], held, met)
        missing += loose
    return missing


@_part
def _evaluate(s, points, cosines, start, there, sums):
    """Adds what all neurons of a job contribute to the outputs (n,), to the Gram matrices of both layers (n, n; lower triangles), and to
    what held neurons take from the first. Returns the squares of how far both layers are from the start."""
    x, gate, _, met, _, held, features, backward = points
    new, new_gates = there
    outputs, first, held_back, last = sums
    n, far, far_a = len(x), 0.0, 0.0
    for lo in range(0, start.shape[1], BLOCK):
        lanes = min(BLOCK, start.shape[1] - lo)
        _load(s, lanes, start, new, lo, _NEXT_W)
        _arrive(s, lanes)
        _, moved, moved_a = _energies(s, lanes)
        far += moved
        far_a += moved_a
        kinks = 0.0
        for i in range(n):
            copy(gate[i], new_gates[i, lo:], lanes)
            _signals(s, lanes, i, x[i], gate, features, backward, held)
            kinks += total(held[i], lanes)
        _add_outputs(outputs, s, lanes, features)
        add_gram(last, features, 0, lanes)
        add_gram(first, backward, 0, lanes)
        if kinks > 0:
            _project(s, lanes, cosines, held, backward, met)
            add_gram(held_back, met, 0, lanes)
    return far, far_a


@_part
def _move_job(s, points, forces, scale, rate, doublings, tolerance, start, here, there, room):
    """Moves all neurons of a job from ``here`` to ``there`` (displacements and gates): the largest angle, and what is unsettled.

    Most neurons meet no kink on their way, or rest on one, and are where they belong after a single move. The others, by how much that
    matters, are moved again in pieces.
    """
    pulls, lates, own = forces
    loose, kinks, levels, chosen = room
    new, new_gates = there
    force = pulls[0], lates[0], own[0]
    rotation, far = _move_at_once(s, points, force, scale, rate, doublings, start, here, there, loose, kinks)
    if not rotation < MAX_ROTATION:
        return rotation, 0.0
    unit = np.float64(scale) * np.float64(rate)
    settled = SETTLED * tolerance * sqrt(far / start.shape[1]) / max(unit, 1e-300)
    many, missing = sort_out(levels, chosen, loose, kinks, settled)
    gate, met = points[1], points[3]
    at = 0
    while at < many:
        level, end = levels[chosen[at]], group(levels, chosen, at, many, BLOCK)
        these, count = chosen[at:end], end - at
        lanes = _gather(s, gate, these, start, here)
        goal = settled * sqrt(count)
        missing += _move_in_pieces(s, lanes, points, forces, level, scale, rate, doublings, goal) ** 2
        for k in range(count):
            for r in range(3):
                new[r, these[k]] = s[_NEXT_W + r * BLOCK + k]
            for i in range(len(met)):
                new_gates[i, these[k]] = met[i, k]
        at = end
    return rotation, sqrt(missing) * unit / max(sqrt(far), 1e-300)


@_lanes
def try_step(s, points, data, jobs, weights, kappas, impulses, lags, tolerance, trial):
    """One step of the jobs with these indices, from the place that is current to the other."""
    _, gram, cosines, y = data
    start, slot, moved, gates, current = weights
    x = points[0]
    n, num = len(x), x.dtype.type
    pulls, lates, own = (
        np.empty((TREE, n), x.dtype),
        np.empty((TREE, n), x.dtype),
        np.empty((TREE, n), x.dtype),
    )
    m = start.shape[2]
    room = np.empty(m, x.dtype), np.empty(m, x.dtype), np.empty(m, np.int8), np.empty(m, np.int64)
    sums = np.empty(n), np.empty((n, n)), np.empty((n, n)), np.empty((n, n))
    outputs, first, held_back, last = sums
    for index in range(len(jobs)):
        job = jobs[index]
        kappa, rate = kappas[job, 0], kappas[job, 1]
        size = resolve(impulses[index], lags[index], kappa / n, pulls, lates)
        reach = 0.0
        for piece in range(TREE):
            farthest = 0.0
            for i in range(n):
                own[piece, i] = num(-rate * pulls[piece, i] * gram[i, i]) * num(size)
                farthest += abs(pulls[piece, i]) * sqrt(gram[i, i])
            reach = max(reach, farthest)
        doublings, angle = 0, min(size * reach, MAX_ROTATION)
        while angle > SERIES:
            doublings, angle = doublings + 1, angle / 2
        outputs[:], first[:], held_back[:], last[:] = 0.0, 0.0, 0.0, 0.0
        now = current[job]
        here, there = (moved[now, job], gates[now, job]), (moved[1 - now, job], gates[1 - now, job])
        rotation, unsettled = _move_job(
            s,
            points,
            (pulls, lates, own),
            num(size),
            num(rate),
            doublings,
            tolerance,
            start[slot[job]],
            here,
            there,
            room,
        )
        trial.rotation[index], trial.unsettled[index] = rotation, unsettled
        if not rotation < MAX_ROTATION:
            continue
        far, far_a = _evaluate(s, points, cosines, start[slot[job]], there, sums)
        scale = kappa * kappa / n
        for i in range(n):
            trial.residual[index, i] = kappa * outputs[i] - y[i]
            for j in range(i + 1):
                of_first = scale * rate * (first[i, j] * gram[i, j] - held_back[i, j])
                of_last = scale / rate * last[i, j]
                trial.kernels[index, 0, i, j] = trial.kernels[index, 0, j, i] = of_first
                trial.kernels[index, 1, i, j] = trial.kernels[index, 1, j, i] = of_last
        trial.travelled[index, 0], trial.travelled[index, 1] = sqrt(far), sqrt(far_a)
