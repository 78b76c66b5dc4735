"""What a team of several lanes decides is what one lane decides, whatever the order in which lanes run between two meetings.

Functions run in Python here, lane by lane: each runs on until it meets the others.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from test_relu_cpu import NEURONS, X, Y

from phasediag.engine import flow, modes, pieces, products, steps, teams
from phasediag.engine.callees import Function
from phasediag.engine.networks import Initialisation
from phasediag.engine.relu_cpu import ReluNetworkCPU

LANES = 3


class Team:
    """Lanes that run one at a time, each until it meets the others: always in the same order."""

    def __init__(self, order: Sequence[int]) -> None:
        self._order, self._here = order, threading.local()
        self._go = [threading.Semaphore(0) for _ in order]
        self._met = threading.Semaphore(0)
        self._values: dict[int, float] = {}
        self._reduced = 0.0
        self._failed: list[BaseException] = []

    def lane(self) -> int:
        number: int = self._here.lane
        return number

    def lanes(self) -> int:
        return len(self._order)

    def meet(self, reduce: Callable[[list[float]], float], value: float) -> float:
        self._reduce, self._values[self.lane()] = reduce, value
        self._met.release()
        self._go[self.lane()].acquire()
        return self._reduced

    def run(self, function: Callable[[], None]) -> None:
        def work(lane: int) -> None:
            self._here.lane = lane
            self._go[lane].acquire()
            try:
                function()
            except BaseException as error:
                self._failed.append(error)
            self._met.release()

        threads = [threading.Thread(target=work, args=(lane,), daemon=True) for lane in self._order]
        for thread in threads:
            thread.start()
        waiting = True
        while waiting:
            self._values = {}
            for lane in self._order:
                self._go[lane].release()
                self._met.acquire()
            assert not self._failed, self._failed
            waiting = bool(self._values)
            assert not waiting or len(self._values) == len(self._order), "some lanes meet, others have ended"
            if waiting:
                self._reduced = self._reduce([self._values[lane] for lane in range(len(self._order))])


@pytest.fixture
def in_python(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Team], None]]:
    """Makes the functions run in Python, by a team."""
    for module in (teams, modes, pieces, products, steps):
        for name, value in list(vars(module).items()):
            if isinstance(value, Function):
                monkeypatch.setattr(module, name, value.py_func)

    def by(team: Team) -> None:
        met = {"together": partial(team.meet, sum), "most": partial(team.meet, max)}
        for module in (teams, pieces, products, steps):
            for name, function in {"lane": team.lane, "lanes": team.lanes, **met}.items():
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, function)

    return by


def copied(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        return argument.copy()
    if isinstance(argument, tuple):
        parts = map(copied, argument)
        return type(argument)(*parts) if hasattr(argument, "_fields") else tuple(parts)
    return argument


def arrays(arguments: Sequence[Any]) -> Iterator[tuple[str, np.ndarray]]:
    for at, argument in enumerate(arguments):
        if isinstance(argument, tuple):
            yield from zip(
                getattr(argument, "_fields", map(str, range(len(argument)))), argument, strict=True
            )
        elif isinstance(argument, np.ndarray):
            yield str(at), argument


class Recorder:
    """Runs functions, and keeps calls, with what went in and what came out: every fourth, those about rejected
    steps, those that end a job."""

    every = 1

    def __init__(self, inner: Any) -> None:
        self._inner, self._count = inner, Counter[str]()
        self.calls: dict[str, list[tuple[Any, Any]]] = {}

    def __call__(self, function: Any, *arguments: Any) -> None:
        name, before = function.__name__, copied(arguments)
        self._inner(function, *arguments)
        front = arguments[0]
        tried = front.rejected + before[0].rejected
        telling = tried.any() if name == "judge" else (front.end != before[0].end).any()
        if telling or self._count[name] % 4 == 0:
            self.calls.setdefault(name, []).append((before, copied(arguments)))
        self._count[name] += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture(scope="module", params=[len(X), 11], ids="{} points".format)
def calls(request: pytest.FixtureRequest) -> dict[str, list[tuple[Any, Any]]]:
    """Every decision of the first steps of two networks: by the compiled functions, which are one lane's."""
    points, generator = request.param, np.random.default_rng(1)
    x = X if points == len(X) else generator.standard_normal((points, 2))
    y = Y if points == len(X) else generator.uniform(-1, 1, points)
    if points > len(X):
        x[1] = x[0]  # two labels of one point: at their mean, the network rests
    jobs = [Initialisation(NEURONS[3], 1.0, 0.0, 0.0, 0), Initialisation(10**6, 1.6, 0.3, 0.0, 1)]
    network = ReluNetworkCPU.initialised(x, y, 3, NEURONS[3], jobs, "float64")
    network.runner = recorder = Recorder(network.runner)
    flow.integrate(network, flow.Settings(loss_tolerance=1e-3, max_evaluations=400))
    return recorder.calls


ORDERS = ([0, 1, 2], [2, 1, 0])


@pytest.mark.parametrize("order", ORDERS, ids=["forwards", "backwards"])
def test_lanes_decide_together_what_one_decides(
    calls: dict[str, list[tuple[Any, Any]]], order: list[int], in_python: Callable[[Team], None]
) -> None:
    ones = {name: getattr(steps, f"{name}_one") for name in ("begin", "ends", "propose", "judge")}

    def one(name: str, arguments: Sequence[Any], index: int) -> None:
        front, jobs, *rest = arguments
        if name == "begin":
            ones[name](front, jobs[index], *(part[index] for part in rest[:-1]), rest[-1])
        elif name == "judge":
            ones[name](front, jobs[index], rest[0], index, *rest[1:])
        else:
            ones[name](front, jobs[index], rest[0][index], *rest[1:])

    assert set(calls) == set(ones)
    fronts = [after[0] for _, after in calls["judge"]]
    assert any(front.rejected.any() for front in fronts) and any(front.fresh.any() for front in fronts)
    assert any((front.passes > 0).any() for front in fronts)
    assert any((after[0].end != steps.RUNNING).any() for _, after in calls["ends"])
    for name, those in calls.items():
        for before, after in those:
            arguments = copied(before)
            for index in range(len(arguments[1])):
                team = Team(order)
                in_python(team)
                team.run(partial(one, name, arguments, index))
            for (field, found), (_, expected) in zip(arrays(arguments), arrays(after), strict=True):
                size = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
                np.testing.assert_allclose(
                    found, expected, rtol=1e-9, atol=1e-12 * size, err_msg=f"{name}: {field}"
                )


@pytest.mark.parametrize("order", ORDERS, ids=["forwards", "backwards"])
def test_lanes_resolve_a_step_together(order: list[int], in_python: Callable[[Team], None]) -> None:
    generator = np.random.default_rng(0)
    impulses, lags = generator.standard_normal((2, 1, pieces.PIECES, 5))

    def results() -> list[np.ndarray]:
        return [
            np.full((1, *shape), np.nan)
            for shape in ((2, pieces.TREE, 5), *[(pieces.TREE, 5)] * 2, (pieces.TREE, 2), ())
        ]

    expected, found = results(), results()
    for team, into in ((Team([0]), expected), (Team(order), found)):
        in_python(team)
        team.run(lambda into=into: pieces.resolve_one(impulses, lags, np.array([0.3]), *into, 0))
    for a, b in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("order", ORDERS, ids=["forwards", "backwards"])
def test_lanes_add_to_a_row_together(order: list[int], in_python: Callable[[Team], None]) -> None:
    """Of the job that has taken its step alone; a matrix is the product of its factors."""
    generator = np.random.default_rng(0)
    changes, lefts, rights = (generator.standard_normal((2, *shape)) for shape in ((4, 7), (3, 4), (3, 7)))
    before, squares, taken = changes.copy(), np.full((2, 4), -1.0), np.array([False, True])
    for job in range(2):
        for row in range(4):
            team = Team(order)
            in_python(team)
            team.run(partial(products.grow_row, changes, lefts, rights, squares, taken, job, row))
    np.testing.assert_array_equal(changes[0], before[0])
    assert (squares[0] == -1).all()
    np.testing.assert_allclose(changes[1], before[1] + lefts[1].T @ rights[1])
    np.testing.assert_allclose(squares[1], np.sum(changes[1] ** 2, axis=1))


def test_lanes_that_part_are_found(in_python: Callable[[Team], None]) -> None:
    """The tests above would see a lane that does not meet the others, and a write that another lane reads without a meeting."""
    team = Team([0, 1])
    in_python(team)
    with pytest.raises(AssertionError, match="others have ended"):
        team.run(lambda: teams.meet() if team.lane() else None)
    seen = []
    for order in ([0, 1], [1, 0]):
        shared, team = [0.0, 0.0], Team(order)
        in_python(team)

        def careless(shared: list[float] = shared, team: Team = team) -> None:
            shared[team.lane()] = 1.0 + shared[1 - team.lane()]

        team.run(careless)
        seen.append(shared)
    assert seen[0] != seen[1]
