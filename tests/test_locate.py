"""Where an initialisation lies: one answer by its name, by formulas, by scales at several widths, and as a torch module."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

import phasediag
from phasediag.cli import app
from phasediag.phase_diagram.figures.location import location_map
from phasediag.phase_diagram.locate.location import Exponents, Location
from phasediag.phase_diagram.locate.networks import load_factory
from phasediag.phase_diagram.theory import LAYERS, named_initialisations

INPUTS = 10
WIDTHS = (64, 128, 256, 512, 1024)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["locate", *map(str, arguments)])


class Network(nn.Module):
    """f = factor(m) a . relu(W ... relu(W1 x)), with scales by layer."""

    def __init__(
        self, width: int, scales: list[Callable[[int], float]], factor: Callable[[int], float]
    ) -> None:
        super().__init__()
        sizes = [INPUTS, *[width] * (len(scales) - 1), 1]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        for layer, scale in zip(self.layers, scales, strict=True):
            nn.init.normal_(layer.weight, std=scale(width))
        self.factor = factor(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *others = self.layers
        x = first(x)
        for layer in others:
            x = layer(x.relu())
        return x * self.factor


def one(_: int) -> float:
    return 1.0


def lecun(m: int) -> float:
    return m**-0.5


FACTORIES = {
    "NTK": lambda depth: ([one] * depth, lambda m: m ** (-(depth - 1) / 2)),
    "LeCun": lambda depth: ([lambda m: INPUTS**-0.5, *[lecun] * (depth - 1)], one),
    "He": lambda depth: ([lambda m: (2 / INPUTS) ** 0.5, *[lambda m: (2 / m) ** 0.5] * (depth - 1)], one),
    "Xavier": lambda depth: (
        [lambda m: (2 / (m + INPUTS)) ** 0.5, *[lecun] * (depth - 2), lambda m: (2 / (m + 1)) ** 0.5],
        one,
    ),
    "mean-field": lambda depth: ([one] * depth, lambda m: m ** -(depth - 1.0)),
}


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("name", FACTORIES)
def test_a_module_lies_where_its_name_does(name: str, depth: int) -> None:
    scales, factor = FACTORIES[name](depth)
    found = phasediag.locate(lambda width: Network(width, scales, factor), widths=WIDTHS)
    named = phasediag.locate(name, depth=depth)
    assert found.depth == depth
    off = np.subtract(found.exponents, named.exponents)
    assert (np.abs(off) <= np.array(found.uncertainty) + 1e-9).all(), off
    assert max(found.uncertainty) < 0.2
    assert found.regimes() == named.regimes()
    assert found.regimes(operator_norm=True) == named.regimes(operator_norm=True)


def test_one_answer_by_name_by_formula_by_three_widths_and_as_a_module() -> None:
    by_name = json.loads(invoke("--name", "Xavier", "--json").stdout)
    formulas = ["--alpha", 1, "--beta-1", "sqrt(2/(m+1))", "--beta-2", "sqrt(2/(m+d))"]
    by_formula = json.loads(invoke(*formulas, "--json").stdout)
    widths = (1000, 10_000, 100_000)
    scales = ",".join(f"{math.sqrt(2 / (width + INPUTS)):.4g}" for width in widths)
    numbers = ["--width", ",".join(map(str, widths)), "--alpha", 1, "--beta-1", scales, "--beta-2", scales]
    by_widths = json.loads(invoke(*numbers, "--json").stdout)
    module = phasediag.locate(lambda width: Network(width, *FACTORIES["Xavier"](2)), widths=WIDTHS).to_dict()
    answers = [by_name, by_formula, by_widths, module]
    assert {json.dumps(answer["predicted_regime"]) for answer in answers} == {
        '{"W1": "critical", "a": "critical"}'
    }
    for answer in (by_widths, module):
        for exponent, off in answer["uncertainty"].items():
            assert abs(answer[exponent] - by_name[exponent]) <= off + 1e-6


def test_two_widths_are_a_tenth_off_in_every_scale() -> None:
    found = invoke("--width", "100,1000", "--alpha", 1, "--beta-1", "0.1,0.0316", "--beta-2", 1).stdout
    assert found.startswith("gamma = 0.50 ± 0.09\ngamma' = 0.50 ± 0.05\nW1: linear, slope -1.50\n")
    assert "two widths: ± is a tenth in a scale" in found


def test_more_widths_see_that_a_scale_is_no_power_yet() -> None:
    """sqrt(1/(m + 1000)) has the exponent 1/2 beyond widths of a thousand, and less below."""
    widths = 10 ** np.arange(2.0, 5.1, 0.5)
    scales = ",".join(f"{1 / math.sqrt(width + 1000):.6g}" for width in widths)
    numbers = ["--width", ",".join(f"{width:.6g}" for width in widths), "--beta-1", 1, "--beta-2", scales]
    found = json.loads(invoke("--alpha", 1, *numbers, "--json").stdout)
    straight = np.polyfit(np.log(widths), -np.log([float(scale) for scale in scales.split(",")]), 1)[0]
    assert straight < 0.4
    assert abs(found["gamma"] - 0.5) <= found["uncertainty"]["gamma"] < 0.15


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--width", "9,8", "--alpha", 1, "--beta-1", 1, "--beta-2", 1], "--width: '9,8' is not supported; allowed: ascending"),
        (["--width", "9,9", "--alpha", 1, "--beta-1", 1, "--beta-2", 1], "ascending"),
        (["--width", "many", "--alpha", 1, "--beta-1", 1, "--beta-2", 1], "ascending"),
        (["--width", "8,9", "--alpha", "1,2,3", "--beta-1", 1, "--beta-2", 1], "--alpha: 3 values; allowed: 1, or as many as widths (2)"),
        (["--alpha", "1,2", "--beta-1", "m", "--beta-2", 1], "--alpha: 2 values; needed: --width with as many"),
        (["nowhere:make"], "nowhere:make: ModuleNotFoundError"),
        (["nowhere"], "allowed: PACKAGE:FUNCTION"),
        ([], "needed: --width, --alpha, --beta-1, --beta-2 (no width with formulas of m), or --name, or PACKAGE:FUNCTION"),
        (["--alpha", 1, "--beta-1", "m^-0.5", "--beta-2", 1], "--beta-1: 'm^-0.5' is not supported (write 'm**-0.5')"),
        (["math:pi"], "math:pi: is of type float"),
        (["math:sqrt", "--name", "NTK"], "--name cannot be given together with math:sqrt"),
        (["math:sqrt"], "the module of width 64: is of type float; allowed: a torch.nn.Module"),
        (["--name", "NTK", "--figure", "where.jpg"], "where.jpg: is not supported; allowed: a name that ends in one of .png, .svg, .pdf"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments: list[object], words: str) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def sequence(width: int, *between: nn.Module, hidden: int | None = None) -> nn.Module:
    size = hidden or width
    return nn.Sequential(nn.Linear(INPUTS, size), *between, nn.Linear(size, 1))


class Twice(nn.Module):
    """One layer in two places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.layer, self.last = (
            nn.Linear(INPUTS, width),
            nn.Linear(width, width),
            nn.Linear(width, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.layer(self.layer(self.first(x).relu()).relu()).relu())


def zero_readout(width: int) -> nn.Module:
    network = sequence(width, nn.ReLU())
    nn.init.zeros_(network[-1].weight)
    return network


def uneven(width: int) -> nn.Module:
    return Network(width, [one, one, lecun, one], one)


def tied(width: int) -> nn.Module:
    network = Network(width, [one] * 4, one)
    network.layers[2].weight = network.layers[1].weight
    return network


def ending(width: int) -> nn.Module:
    raise SystemExit(3)


def failing(width: int) -> nn.Module:
    raise OSError("no\nsuch disk")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda width: sequence(width, nn.Tanh()), "its output differs from its weights with ReLU between them"),
        (lambda width: sequence(width, nn.Tanh()), "; it also has Tanh; allowed: "),
        (lambda width: sequence(width, nn.Identity(), nn.ReLU(), nn.Dropout()), "has Dropout (with p = 0 it does nothing); allowed"),
        (lambda width: sequence(width, nn.Sequential(nn.GELU(), nn.Dropout(0.3))), "; it also has Dropout, GELU (with p"),
        (lambda width: sequence(width, nn.Identity()), "with ReLU between them; allowed: "),
        (lambda width: sequence(width), "its output differs from its weights with ReLU between them"),
        (lambda width: sequence(width, nn.LayerNorm(width), nn.ReLU()), "1.weight belongs to no Linear layer"),
        (lambda width: sequence(width, nn.ReLU(), hidden=50), "layer 1 has 50 outputs at width 32 and 50 at 64"),
        (lambda width: nn.Linear(INPUTS, 1), "has 1 Linear layers, 2 to 8 are supported"),
        (Twice, "its Linear layers are not used once each"),
        (zero_readout, "the weights of layer 2 are all equal"),
        (uneven, "weights between hidden layers scale like m^"),
        (failing, "the module of width 32: OSError: no such disk"),
        (lambda width: [Network(width, [one] * (2 + width // 64), one)][0], "2 layers at width 32, 3 at 64"),
        (3, "what is of type int; allowed: a name, or a function"),
        (nn.Linear(INPUTS, 1), "a network is not supported; allowed: a function"),
        (lambda width: sequence(width, nn.ReLU(), nn.Dropout(0.5)), "its output differs from its weights"),
        (lambda width: sequence(width, nn.BatchNorm1d(width, affine=False), nn.ReLU()), "its output differs from its weights"),
        (tied, "layers share their weights"),
        (lambda width: nn.Sequential(nn.LazyLinear(width), nn.ReLU(), nn.Linear(width, 1)), "the module of width 32: "),
        (lambda width: sequence(width, nn.ReLU()).to("meta"), "the module of width 32: "),
        (ending, "the module of width 32: SystemExit: 3"),
    ],
)  # fmt: skip
def test_what_is_no_such_network_is_refused(make: Callable[[int], nn.Module], words: str) -> None:
    with pytest.raises(phasediag.InputError, match=r"^locate: ") as refused:
        phasediag.locate(make, widths=(32, 64))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_module_and_the_random_state_stay_as_they_are() -> None:
    kept = Network(64, [one, one], one)
    before = [weights.clone() for weights in kept.parameters()]
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    phasediag.locate(lambda width: kept, widths=(64, 65))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(old, new) for old, new in zip(before, kept.parameters(), strict=True))


class Backwards(nn.Module):
    """Declares its last layer first, and has lost the last dimension of its output; its sign is of no matter to training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.last, self.middle, self.first = (
            nn.Linear(width, 1),
            nn.Linear(width, width),
            nn.Linear(INPUTS, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -self.last(self.middle(self.first(x).relu()).relu())[:, 0]


def test_the_order_of_use_counts() -> None:
    found = phasediag.locate(Backwards, widths=WIDTHS)
    assert found.regimes() == phasediag.locate("LeCun", depth=3).regimes()
    assert abs(found.exponents.gamma_prime - 0.5) <= found.uncertainty.gamma_prime


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_will_do(dtype: torch.dtype) -> None:
    found = phasediag.locate(lambda width: sequence(width, nn.ReLU()).to(dtype), widths=WIDTHS)
    assert found.regimes() == phasediag.locate("LeCun").regimes()


def test_functions_that_seed_themselves_have_the_scatter_of_their_widths() -> None:
    """Four equal draws know nothing of it: over the seeds, the truth has to be within the uncertainty in most cases."""

    def seeded(width: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return sequence(width, nn.ReLU())

    held = 0
    for seed in range(20):
        found = phasediag.locate(partial(seeded, seed=seed), widths=WIDTHS)
        off = np.abs(np.subtract(found.exponents, (0.5, 0.5, 0.0)))
        held += bool((off <= np.array(found.uncertainty) + 1e-9).all())
    assert held >= 17


@pytest.mark.parametrize("widths", [(64,), 64, "64,128", (128, 64), (64.0, 128.0), (1, 2), ()])
def test_widths_of_modules_are_two_and_more_ascending_numbers(widths: object) -> None:
    with pytest.raises(phasediag.InputError, match=r"^locate: widths: .*allowed: two and more ascending"):
        phasediag.locate(Backwards, widths=widths)  # type: ignore[arg-type]


@pytest.mark.parametrize("depth", [0, 1, 9, 2.5])
def test_names_have_two_to_eight_layers(depth: object) -> None:
    with pytest.raises(phasediag.InputError, match="allowed: 2 to 8"):
        phasediag.locate("He", depth=depth)  # type: ignore[arg-type]


@pytest.mark.parametrize("formula", ["m**1e10", "m**1e308*m**1e308", "m**-21"])
def test_powers_beyond_twenty_are_refused(formula: str) -> None:
    result = invoke("--alpha", 1, "--beta-1", formula, "--beta-2", 1)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "beyond m**20" in result.stderr


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_networks", None)


def test_a_function_of_a_file_in_the_working_directory_is_found(here: Path) -> None:
    (here / "my_networks.py").write_text(
        "from torch.nn import Linear, ReLU, Sequential\n"
        "def make(width):\n"
        "    return Sequential(Linear(10, width), ReLU(), Linear(width, 1))\n"
    )
    path = list(sys.path)
    found = invoke("my_networks:make", "--figure", "where.png")
    assert found.exit_code == 0
    assert "W1: linear, slope -1." in found.stdout
    assert (here / "where.png").read_bytes().startswith(b"\x89PNG")
    assert callable(load_factory("my_networks:make"))
    assert sys.path == path
    assert found.stdout.splitlines()[-1].startswith("the exponents assume one learning rate for all layers")
    at_two = json.loads(invoke("my_networks:make", "--width", "100,1000", "--json").stdout)
    assert "see --name muP" in at_two["notes"][-1]
    assert at_two["gamma"] == pytest.approx(0.5, abs=at_two["uncertainty"]["gamma"])


@pytest.mark.parametrize("depth", [2, 3, 8])
def test_the_picture_holds_the_point_and_its_bars(depth: int) -> None:
    """One panel for each layer whose map is its own; the point may be far off."""
    location = Location(depth, Exponents(7.0, -3.0, 0.0), Exponents(0.5, 0.25, 0.0))
    figure = location_map(location)
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert len(panels) == (2 if depth == 2 else 4)
    for ax in panels:
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        assert left < 6.5
        assert right > 7.5
        assert bottom < -3.25
        assert top > -2.75


@pytest.mark.parametrize("depth", [2, 3, 4, 8])
def test_names_far_from_the_point_do_not_cover_each_other(depth: int) -> None:
    """Drawn, not estimated: the boxes of the texts that name initialisations."""
    figure = location_map(Location(depth, Exponents(7.0, -3.0, 0.0), Exponents(0.5, 0.25, 0.0)))
    figure.draw_without_rendering()
    for ax in figure.axes:
        boxes = [text.get_window_extent() for text in ax.texts]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_picture_does_not_go_among_the_files_of_a_study(here: Path) -> None:
    (here / "out/runs").mkdir(parents=True)
    (here / "out/study.toml").touch()
    result = invoke("nowhere:make", "--figure", "out/where.png")
    assert result.exit_code == 2 and "holds a study; allowed: a place outside of it" in result.stderr


def test_critical_is_what_has_its_line_within_the_uncertainty() -> None:
    at = Exponents(1.02, 0.0)
    assert Location(2, at).regimes() == {"W1": "condensed", "a": "condensed"}
    near = Location(2, at, Exponents(0.03, 0.0))
    assert near.regimes() == {"W1": "critical", "a": "critical"}
    assert near.near_lines() == list(LAYERS[2])
    assert "W1: critical within ±, slope 0.01\n" in str(near)
    assert Location(2, at, Exponents(0.01, 0.0)).regimes() == {"W1": "condensed", "a": "condensed"}


def test_names_have_the_exponents_of_the_theory() -> None:
    for depth in (2, 3, 8):
        for name, exponents in named_initialisations(depth).items():
            assert phasediag.locate(name, depth=depth).exponents == (*exponents, 0.0)


def test_what_a_function_prints_is_not_in_the_answer(here: Path) -> None:
    (here / "my_networks.py").write_text(
        "from torch.nn import Linear, ReLU, Sequential\n"
        "print('hello')\n"
        "def make(width):\n"
        "    print('making', width)\n"
        "    return Sequential(Linear(10, width), ReLU(), Linear(width, 1))\n"
    )
    result = invoke("my_networks:make", "--width", "64,128", "--json")
    assert json.loads(result.stdout)["depth"] == 2
    assert "making 64" in result.stderr
