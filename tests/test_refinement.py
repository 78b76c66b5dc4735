"""Refinement on maps that are known: where points are placed, when to stop, and that neither chance nor order matters."""

import math
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasediag.display.figures import render
from phasediag.kinds import parse_spec
from phasediag.phase_diagram.figures.refinement import refinement_map
from phasediag.phase_diagram.fitting import critical_line, fit
from phasediag.phase_diagram.info import deciding_slope
from phasediag.phase_diagram.jobs import grid_cells
from phasediag.phase_diagram.refinement import Refinement, Rules, refinement_of
from phasediag.phase_diagram.study import PhaseDiagramStudy
from phasediag.spec.data import make_dataset
from phasediag.spec.parse import format_spec
from phasediag.sweep.local import train

WIDTHS, SEEDS = (100, 300, 1000, 3000, 10000), (0, 1, 2)
GAMMAS, PRIMES = (0.5, 1.0, 1.5, 2.0), (-0.5, 0.0, 0.5, 1.0)


def corner(gamma, gamma_prime):
    """The slope of two layers, roughly: zero on gamma = 1 for gamma' < 0, then on gamma = 1 + gamma'."""
    return 0.5 * (gamma - 1.0 - max(gamma_prime, 0.0)) + 0.017


def grid(gammas=GAMMAS, primes=PRIMES, widths=WIDTHS, seeds=SEEDS):
    axes = {"gamma": gammas, "gamma_prime": primes, "width": widths, "seeds": seeds, "points": ()}
    return set(grid_cells(axes))


def rules(**changes):
    defaults = {
        "layers": ("W1",),
        "widths": WIDTHS,
        "seeds": SEEDS,
        "target": 0.03,
        "max_jobs": 5000,
        "rounds": 10,
    }
    return Rules(**(defaults | changes))


def scatter(cell):
    """The same for a job whenever it is run."""
    width, gamma, gamma_prime, seed = cell
    key = [width, round(1e6 * (gamma + 30)), round(1e6 * (gamma_prime + 30)), seed]
    return np.random.default_rng(key).normal() * (width / 100) ** -0.5


def runs_of(cells, slope=corner, noise=0.0, bend=0.0, layers=("W1",)):
    """Runs of RD = 2 m^S exp(noise scatter + bend (m / 100)^-0.5)."""
    slopes = slope if isinstance(slope, dict) else dict.fromkeys(layers, slope)
    rows = [
        {
            "depth": 2,
            "layer": layer,
            "width": cell[0],
            "gamma": cell[1],
            "gamma_prime": cell[2],
            "gamma_1": 0.0,
            "seed": cell[3],
            "status": "converged",
            "relative_change": 2.0
            * cell[0] ** of_layer(cell[1], cell[2])
            * math.exp(noise * scatter(cell) + bend * (cell[0] / 100) ** -0.5),
        }
        for cell in sorted(cells)
        for layer, of_layer in slopes.items()
    ]
    return pd.DataFrame(rows)


def refine(refinement, cells, **world):
    """Runs everything that is asked for, round by round; the last placement and all jobs."""
    cells = set(cells)
    while True:
        placement = refinement.advance(runs_of(cells, **world))
        if set(placement.rounds) <= cells:
            return placement, cells
        cells |= set(placement.rounds)


def points(cells):
    return {cell[1:3] for cell in cells}


def test_the_line_is_found_within_the_target_at_a_fraction_of_a_uniform_map():
    placement, cells = refine(Refinement(grid(), rules()), grid(), noise=0.01)
    assert placement.ended
    line = critical_line(fit(runs_of(cells, noise=0.01)), "W1", "slope_infinite")
    truth = [1.0 + max(p, 0.0) - 0.034 for p in line["gamma_prime"]]
    assert (line["gamma"] - truth).abs().max() < 0.03
    assert ((line["gamma_high"] - line["gamma_low"]) / 2).max() <= 0.03
    assert {one.state for one in placement.lines} <= {"reached"}
    uniform = grid(np.linspace(0.5, 2.0, 16), np.linspace(-0.5, 1.0, 16))
    assert len(cells) < len(uniform) / 4


def test_points_are_placed_beside_the_line_and_nowhere_else():
    placement, _ = refine(Refinement(grid(), rules()), grid(), noise=0.01)
    assert placement.rounds
    assert max(abs(corner(*point)) for point in points(placement.rounds)) < 0.1


def test_rows_are_begun_where_the_line_bends_and_only_there():
    placement, _ = refine(Refinement(grid(), rules()), grid(), noise=0.01)
    new = sorted({prime for _, prime in points(placement.rounds)} - set(PRIMES))
    assert new
    # The corner is on a row of the grid: seen from either side of it, the line is straight.
    assert all(abs(corner(1.0 + max(p, 0.0) - 0.034, p)) < 1e-9 for p in new)
    hidden, _ = refine(Refinement(grid(), rules()), grid(), slope=lambda g, p: corner(g, p - 0.2), noise=0.01)
    near = [prime for _, prime in points(hidden.rounds) if prime not in PRIMES]
    assert min(abs(prime - 0.2) for prime in near) < 0.1


def test_a_straight_line_needs_no_further_rows():
    placement, _ = refine(Refinement(grid(), rules()), grid(), slope=lambda g, p: 0.5 * (g - 1.2 - 0.3 * p))
    assert {prime for _, prime in points(placement.rounds)} <= set(PRIMES)


def test_a_search_begins_with_few_widths_and_ends_with_all_beside_the_line():
    placement, cells = refine(
        Refinement(grid(), rules(target=0.01)), grid(), slope=lambda g, p: 0.5 * (g - 1.23), noise=0.02
    )
    first = [cell for cell, number in placement.rounds.items() if number == 1]
    assert {cell[0] for cell in first} == set(WIDTHS[:4])
    row = [cell for cell in cells if cell[2] == 0.0]
    beside = sorted({cell[1] for cell in row}, key=lambda gamma: abs(gamma - 1.23))[:2]
    assert all({cell[0] for cell in row if cell[1] == gamma} == set(WIDTHS) for gamma in beside)


def test_seeds_are_added_where_noise_dominates_and_not_where_finite_size_does():
    noisy, _ = refine(Refinement(grid(), rules(target=0.02)), grid(), noise=0.3)
    assert max(cell[3] for cell in noisy.rounds) > 2
    bent, _ = refine(Refinement(grid(), rules(target=0.005)), grid(), bend=1.5)
    assert max(cell[3] for cell in bent.rounds) == 2
    assert {one.state for one in bent.lines} == {"floor"}
    assert bent.ended


def test_seeds_that_are_added_continue_those_of_the_grid():
    given_seeds = (3, 7)
    cells = grid(seeds=given_seeds)
    placement, _ = refine(
        Refinement(cells, rules(seeds=given_seeds, target=0.01, rounds=6)), cells, noise=0.3
    )
    assert {cell[3] for cell in placement.rounds} >= {3, 7, 8, 9}
    assert {cell[3] for cell in placement.rounds} & {0, 1, 2, 4, 5, 6} == set()


@pytest.mark.parametrize("offset", [-3.0, 3.0])
def test_a_line_outside_the_map_is_said_to_be_and_nothing_is_placed(offset):
    placement, _ = refine(Refinement(grid(), rules()), grid(), slope=lambda g, p: 0.2 * (g - 1.0 - offset))
    assert placement.rounds == {}
    assert placement.ended
    assert {one.state for one in placement.lines} == {"outside"}


def test_nothing_is_placed_where_the_target_is_met():
    placement, _ = refine(Refinement(grid(), rules(target=0.9)), grid(), noise=0.01)
    assert placement.rounds == {}
    assert {one.state for one in placement.lines} == {"reached"}


def test_the_line_of_every_layer_counts():
    slopes = {"W1": corner, "W2": lambda g, p: 0.4 * (g - 1.77)}
    placement, _ = refine(
        Refinement(grid(), rules(layers=("W1", "W2"))), grid(), slope=slopes, noise=0.03, layers=("W1", "W2")
    )
    assert {one.layer for one in placement.lines if one.state == "reached"} == {"W1", "W2"}
    assert any(abs(gamma - 1.77) < 0.1 for gamma, _ in points(placement.rounds))


def test_three_widths_are_refined_by_the_plain_slope():
    widths = WIDTHS[:3]
    cells = grid(widths=widths)
    placement, found = refine(Refinement(cells, rules(widths=widths)), cells, noise=0.02)
    line = critical_line(fit(runs_of(found, noise=0.02)), "W1", "slope")
    assert ((line["gamma_high"] - line["gamma_low"]) / 2).max() <= 0.03
    assert {one.state for one in placement.lines} == {"reached"}


def test_runs_that_cannot_be_used_do_not_keep_it_from_ending():
    cells = grid()
    refinement = Refinement(cells, rules())
    for _ in range(12):
        runs = runs_of(cells, noise=0.01).assign(status="diverged", relative_change=np.nan)
        placement = refinement.advance(runs)
        cells |= set(placement.rounds)
    assert placement.ended
    assert {one.state for one in placement.lines} == {"outside"}


def test_max_jobs_and_rounds_are_kept_to_and_said():
    few, _ = refine(Refinement(grid(), rules(max_jobs=40)), grid(), noise=0.05)
    assert 0 < len(few.rounds) <= 40
    assert few.ended and few.short
    once, _ = refine(Refinement(grid(), rules(rounds=1)), grid(), noise=0.05)
    assert set(once.rounds.values()) == {1}
    assert "limit" in {one.state for one in once.lines}


@settings(max_examples=4, deadline=None)
@given(
    order=st.randoms(use_true_random=False),
    max_jobs=st.one_of(st.integers(20, 400), st.just(5000)),
    restarts=st.booleans(),
)
def test_the_points_do_not_depend_on_the_order_of_results_nor_on_restarts(order, max_jobs, restarts):
    """Results come in one small batch after the other, in any order; a driver that is killed forgets everything but these."""
    world = {"noise": 0.05, "slope": lambda g, p: corner(g, p - 0.2)}
    settings_ = rules(max_jobs=max_jobs, rounds=8)
    expected, everything = refine(Refinement(grid(), settings_), grid(), **world)
    refinement, done, waiting = Refinement(grid(), settings_), set(), sorted(grid())
    while waiting:
        order.shuffle(waiting)
        ended, waiting = waiting[:149], waiting[149:]
        done |= set(ended)
        if restarts and order.random() < 0.3:
            refinement = Refinement(grid(), settings_)
        placement = refinement.advance(runs_of(done, **world))
        waiting = sorted({*waiting, *grid(), *placement.rounds} - done)
    assert placement.rounds == expected.rounds
    assert done == everything
    assert len(placement.rounds) <= max_jobs


def test_rows_do_not_wait_for_each_other():
    """As long as one job of a row is under way, the others go through all of their rounds."""
    cells, stuck = grid(), (10000, 0.5, -0.5, 0)
    refinement, done = Refinement(grid(), rules()), grid() - {stuck}
    while True:
        placement = refinement.advance(runs_of(done, noise=0.05))
        if set(placement.rounds) <= done:
            break
        done |= set(placement.rounds)
    assert not placement.ended
    assert max(placement.rounds.values()) > 1
    rest, everything = refine(Refinement(grid(), rules()), cells, noise=0.05)
    assert done < everything
    assert all(rest.rounds[cell] == number for cell, number in placement.rounds.items())


def test_scarce_jobs_go_to_the_widest_bands():
    def slope(gamma, gamma_prime):  # the steeper, the narrower the band
        return (0.1 if gamma_prime > 0.6 else 0.6) * (gamma - 1.25)

    placement, _ = refine(Refinement(grid(), rules(max_jobs=24)), grid(), slope=slope, noise=0.02)
    assert {prime for _, prime in points(placement.rounds)} == {1.0}


SPEC = """
name = "refined"
kind = "phase-diagram"
network = { depth = 2 }
data = { kind = "points", x = [[-1.0], [-0.35], [0.3], [1.0]], y = [0.6, -0.4, 0.5, -0.2] }
grid = { width = [30, 100, 300], gamma = [0.5, 2.0], gamma_prime = [0.0, 0.5], seeds = 2 }
refine = { target = 0.1, max_jobs = 100, rounds = 4 }
samples = { points = [] }
"""


def study(text=SPEC):
    data = make_dataset(np.array([[-1.0], [-0.35], [0.3], [1.0]]), np.array([0.6, -0.4, 0.5, -0.2]), "data")
    return PhaseDiagramStudy(parse_spec(text, "refined.toml"), data, "refined.toml")


def test_a_stored_study_tells_its_refinement():
    import tomllib

    refinement = refinement_of(tomllib.loads(format_spec(study().spec.document())))
    assert refinement is not None
    assert refinement.rules == Rules(("W1",), (30, 100, 300), (0, 1), 0.1, 100, 4)
    plain = SPEC.replace("refine = { target = 0.1, max_jobs = 100, rounds = 4 }", "")
    assert refinement_of(tomllib.loads(format_spec(study(plain).spec.document()))) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("gamma = [0.5, 2.0]", "gamma = [0.5]"), "refine: no value of gamma_prime has two points"),
        (("width = [30, 100, 300]", "width = [30]"), "refine: slopes have no intervals"),
        (("width = [30, 100, 300]", "width = [30, 100]"), None),
        (("max_jobs = 100", "max_jobs = 0"), "refine.max_jobs: 0 is not supported"),
        (("max_jobs = 100", "max_jobs = 10000000"), "jobs are too many"),
    ],
)
def test_specs_that_cannot_be_refined_are_refused(change, words):
    text = SPEC.replace(*change)
    if words is None:
        study(text)
        return
    with pytest.raises(Exception, match=words):
        study(text)


def test_training_in_this_process_refines():
    runs = train(study())
    placement = study().refinement.advance(runs)
    assert placement.ended and placement.rounds
    assert len(set(runs["job_id"])) == 24 + len(placement.rounds)
    assert not runs.duplicated(["job_id", "layer"]).any()


def test_the_figure_shows_the_grid_and_every_point_by_its_round():
    placement, cells = refine(Refinement(grid(), rules()), grid(), noise=0.01)
    slopes = fit(runs_of(cells, noise=0.01))
    figure = refinement_map(slopes, placement)
    ax = figure.axes[0]
    squares, circles = ax.collections[:2]
    assert len(squares.get_offsets()) == len(GAMMAS) * len(PRIMES)
    assert set(map(tuple, np.asarray(circles.get_offsets()).tolist())) == points(placement.rounds)
    assert deciding_slope(slopes) == "slope_infinite"
    assert render(figure)["png"]


def test_order_of_the_rows_of_a_frame_does_not_matter():
    cells = grid()
    runs = runs_of(cells, noise=0.05)
    shuffled = runs.sample(frac=1.0, random_state=random.Random(3).randrange(100))
    first, second = (Refinement(cells, rules()).advance(frame) for frame in (runs, shuffled))
    assert first.rounds == second.rounds
