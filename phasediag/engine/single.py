"""One neuron of a layer of one of many networks, compiled: the functions that a thread of a GPU calls, or a loop.

Arguments come in groups: flags (turning, whether the inputs move, their rank, whether it moves again); the room of a thread; what pushes
every job; its inputs; the layer before and after; and where the rest of a result goes.
"""

# Types are numba's business here: annotations would only repeat that all of these are arrays.

from __future__ import annotations

from math import sqrt

from . import neurons
from .compiled import compiled
from .neurons import doublings_of, move_alone, state_of
from .pieces import MAX_SWEEPS, beyond, level_of


@compiled()
def _of_job(job, flags, room, push, seen, before, after):
    """What moves the neurons of a job, the inputs, and the layer before and after: see :mod:`.neurons`."""
    scale, rate, pulls, lates, own, shares, reach = push
    gram, old, new, left, right = seen
    at = job if len(gram) > 1 else 0
    z_start, displaced, path, coefficients, begin, end, gate, a_start, moved_a = before
    return (
        neurons.Push(scale[job], rate[job], pulls[job], lates[job], own[job], reach[job], shares[job]),
        neurons.Inputs(gram[at], old[at], new[at], (left, right, room[3]), flags[2], flags[1]),
        neurons.Before(
            z_start[job],
            displaced[job],
            path[job],
            coefficients[job],
            begin[job],
            end[job],
            gate[job],
            a_start[job],
            moved_a[job],
        ),
        neurons.After(after[0][job], after[1][job], after[2][job], after[3][job]),
    )


@compiled()
def move(job, k, flags, room, push, seen, before, after, own):
    """Moves neuron k of a job: in one piece, or again, if it wants to be moved in pieces."""
    pushes, inputs, layer, moved = _of_job(job, flags, room, push, seen, before, after)
    s, p, slow, _ = room
    loose, kinks, angles, squares, missing, settled, ends = own
    level, sweeps, goal = 0, 1, 0.0
    if flags[3]:
        level, sweeps, goal = level_of(loose[job, k], kinks[job, k], settled[job]), MAX_SWEEPS, settled[job]
        missing[job, k] = beyond(loose[job, k], level, goal)
        if level < 0:
            return
    across = ends[job if len(ends) > 1 else 0]
    doublings = doublings_of(pushes.reach, pushes.scale) if flags[0] else 0
    left, squares[job, k] = move_alone(
        s, p, slow, k, flags[0], pushes, inputs, across, level, sweeps, goal, doublings, layer, moved
    )
    if flags[3]:
        missing[job, k] = sqrt(missing[job, k] ** 2 + left**2)
    else:
        loose[job, k], kinks[job, k], angle = state_of(s)
        if flags[0]:
            angles[job, k] = angle


@compiled()
def in_turn(flags, room, push, seen, before, after, own):
    """Moves all neurons of all jobs, one after the other."""
    mine = room[0][0, 0:], room[1][0, :, 0:], room[2][0, :, :, 0], room[3][0, :, 0:]
    for job in range(before[0].shape[0]):
        for k in range(before[0].shape[2]):
            move(job, k, flags, mine, push, seen, before, after, own)
