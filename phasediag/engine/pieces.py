"""Steps in pieces, compiled: neurons that meet kinks on their way are followed more closely than the others.

The pieces of a step form a binary tree: piece 0 is the whole step, pieces 2p + 1 and 2p + 2 are the halves of piece p, and the last PIECES
are those in which the integrator gives the impulse.
"""

# Types are numba's business here: annotations would only repeat that all of these are arrays.

from __future__ import annotations

import numpy as np

from .compiled import compiled
from .teams import first, meet, mine, most

LEVELS = 5
"""A step is moved in 1, 2, 4 ... 2^(LEVELS - 1) pieces: within a piece, neurons meet kinks as if they moved evenly."""
PIECES = 2 ** (LEVELS - 1)
TREE = 2 * PIECES - 1
FINENESS = 0.6
"""Pieces of a block: this times the root of what the kinks on its way change, in units of what a step may leave unsettled."""
SETTLED = 0.7
"""A block has settled when another sweep would change it by this fraction of what a step may leave unsettled."""
MAX_SWEEPS = 6
"""Times that the gates of a block are settled: what has not settled by then wants a shorter step."""
DAMPED = 2
"""From this sweep on, gates go half the way only: those of neurons that just reach a kink, or just do not, would go back and forth."""

_lanes = compiled("contract", "nsz")
_sums = compiled("contract", "nsz", "reassoc")
_part = compiled("contract", "nsz", inline=True)
_maximum = compiled("nnan", "nsz")


@_lanes
def resolve(impulses, lags, factor, tree, pulls, lates, shares):
    """What pulls in every piece of the tree, by a team of lanes.

    Impulses (PIECES, n) and their first moments, times ``factor``: ``pulls`` and ``lates`` (TREE, n), in units of the largest entry of the
    impulses, which it returns; ``shares`` (TREE, 2): see :func:`share_out`. ``tree`` (2, TREE, n): room, float64.
    """
    n, num, size = impulses.shape[1], pulls.dtype.type, 1e-300
    impulse, lag = tree[0], tree[1]
    for i in mine(n):
        for piece in range(TREE - 1, -1, -1):
            if piece >= PIECES - 1:
                leaf = piece - (PIECES - 1)
                impulse[piece, i], lag[piece, i] = impulses[leaf, i] * factor, lags[leaf, i] * factor
            else:
                left, right = 2 * piece + 1, 2 * piece + 2
                impulse[piece, i] = impulse[left, i] + impulse[right, i]
                apart = impulse[right, i] - impulse[left, i]
                lag[piece, i] = (lag[left, i] + lag[right, i]) / 2 + apart / 4
            size = max(size, abs(impulse[piece, i]))
    size = most(size)
    for i in mine(n):
        for piece in range(TREE):
            pulls[piece, i], lates[piece, i] = num(impulse[piece, i] / size), num(lag[piece, i] / size)
    meet()
    share_out(pulls, tree[0, :, 0], shares)
    return size


@_lanes
def resolve_all(impulses, lags, factors, trees, pulls, lates, shares, sizes):
    """What pulls in every piece of the steps of all jobs, jobs first: see :func:`resolve`. ``sizes`` (B,): their units."""
    for job in range(len(sizes)):
        resolve_one(impulses, lags, factors, trees, pulls, lates, shares, sizes, job)


@_lanes
def resolve_one(impulses, lags, factors, trees, pulls, lates, shares, sizes, job):
    """Resolves the step of one job: see :func:`resolve_all`."""
    size = resolve(impulses[job], lags[job], factors[job], trees[job], pulls[job], lates[job], shares[job])
    if first():
        sizes[job] = size


@_lanes
def share_out(pulls, weights, shares):
    """Where the pieces of a step begin and end, by a team: shares (TREE, 2) of the whole impulse, for what moves is moved by it.
    ``weights`` (TREE,): room."""
    for leaf in mine(PIECES):
        piece = leaf + PIECES - 1
        weights[piece] = 0.0
        for i in range(pulls.shape[1]):
            weights[piece] += abs(np.float64(pulls[piece, i]))
    meet()
    if first():
        for piece in range(PIECES - 2, -1, -1):
            weights[piece] = weights[2 * piece + 1] + weights[2 * piece + 2]
        shares[0, 0], shares[0, 1] = 0.0, 1.0
        for piece in range(PIECES - 1):
            left, right = 2 * piece + 1, 2 * piece + 2
            begin, end = shares[piece, 0], shares[piece, 1]
            part = weights[left] / weights[piece] if weights[piece] > 0 else 0.5
            middle = begin + (end - begin) * part
            shares[left, 0], shares[left, 1], shares[right, 0], shares[right, 1] = begin, middle, middle, end


@_lanes
def copy(into, row, lanes):
    """Rows are cut out before the loop: for an index with an offset, numba checks the sign lane by lane."""
    for k in range(lanes):
        into[k] = row[k]


@_sums
def total(row, lanes):
    """The sum of a row, in float64."""
    result = 0.0
    for k in range(lanes):
        result += np.float64(row[k])
    return result


@_maximum
def _maximum_of(row, lanes):
    most = row[0]
    for k in range(lanes):
        most = row[k] if row[k] > most else most
    return most


@_lanes
def largest(row, lanes):
    """The largest number of a row; infinite where one of them is not finite."""
    return _maximum_of(row, lanes) if np.isfinite(total(row, lanes)) else np.inf


@_lanes
def finest(settled):
    """How loose a neuron may be to be moved in one piece, none finer; four times as loose in twice as many."""
    return settled / SETTLED / (FINENESS * FINENESS)


@_lanes
def level_of(loose, kinks, settled):
    """Into how many pieces the step of a neuron has to be cut, as a power of two; -1 if it is done. ``settled``: how loose it may be."""
    if not (loose > settled or kinks > 1):
        return -1
    level, most = 0, finest(settled)
    while loose > most and level < LEVELS - 1:
        level, most = level + 1, 4 * most
    return level


@_lanes
def beyond(loose, level, settled):
    """How loose a neuron is that is done, or that would have to be cut finer than is possible."""
    if level < 0:
        return loose
    most = finest(settled) * 4.0**level
    return loose / most * settled if loose > most else 0.0


@_part
def sort_out(levels, chosen, loose, kinks, settled):
    """Chooses the neurons whose step has to be cut into pieces, those into most pieces first: how many there are.

    ``levels`` (m,): into how many pieces, as a power of two, -1 where a neuron is done; ``settled``: how loose a neuron may be. Returns
    also the sum of squares of what those that are done, and those that would have to be cut finer than is possible, are loose.
    """
    counts = np.zeros(LEVELS, np.int64)
    finest = settled / SETTLED / (FINENESS * FINENESS)
    missing = 0.0
    for k in range(len(loose)):
        level = -1
        if loose[k] > settled or kinks[k] > 1:
            level, most = 0, finest
            while loose[k] > most and level < LEVELS - 1:
                level, most = level + 1, 4 * most
            counts[level] += 1
            if loose[k] > most:
                missing += (loose[k] / most * settled) ** 2
        else:
            missing += np.float64(loose[k]) ** 2
        levels[k] = level
    many = 0
    for level in range(LEVELS - 1, -1, -1):
        many, counts[level] = many + counts[level], many
    for k in range(len(loose)):
        if levels[k] >= 0:
            chosen[counts[levels[k]]] = k
            counts[levels[k]] += 1
    return many, missing


@_part
def group(levels, chosen, at, many, block):
    """The end of the run of chosen neurons from ``at`` on that are moved together: of one level, and of the next ones in lanes that would
    else be empty."""
    level, end = levels[chosen[at]], at + 1
    while end < min(many, at + block) and ((end - at) % 16 > 0 or levels[chosen[end]] == level):
        end += 1
    return end
