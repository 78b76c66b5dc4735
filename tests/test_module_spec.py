"""Specs of torch modules: what is read, and a message for every mistake, before anything is trained."""

from __future__ import annotations

import dataclasses
import inspect
import socket
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from phasediag import kinds
from phasediag.errors import InputError
from phasediag.modules.factory import Factory, code_of
from phasediag.modules.kind import KIND
from phasediag.modules.networks import _taken, check_widths, network, seeded
from phasediag.spec.imported import load_function

FACTORY = """
import torch
from torch import nn

def make(width, gamma, gamma_prime, seed):
    made = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1), nn.Flatten(0))
    with torch.no_grad():
        made[2].weight *= float(width) ** -gamma
    return made
"""
SPEC = """
name = "tiny"
kind = "module"
network = {{ factory = "{factory}" }}
{data}
[grid]
width = {width}
gamma = {gamma}
gamma_prime = [0.0]
seeds = {seeds}
[train]
epochs = 20
{train}
"""
NUMBERS = """[data]
kind = "points"
x = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [-1.0, 0.5]]
y = [0.5, -0.5, 0.2, 0.1]"""
CLASSES = NUMBERS.replace("[0.5, -0.5, 0.2, 0.1]", "[0, 1, 2, 1]") + '\ntargets = "class"'


def written(folder: Path, factory: str = FACTORY, text: str = "", **keys: object) -> Path:
    """A spec beside the file of its factory."""
    folder.mkdir(exist_ok=True)
    (folder / "nets.py").write_text(textwrap.dedent(factory))
    filled = {
        "factory": "nets:make",
        "data": NUMBERS,
        "width": [4, 8],
        "gamma": [0.5, 1.0],
        "seeds": 2,
        "train": "",
    }
    path = folder / "tiny.toml"
    path.write_text(text or SPEC.format(**{**filled, **keys}))
    return path


def read(folder: Path, factory: str = FACTORY, **keys: object) -> Any:
    return kinds.read_study(written(folder, factory, **keys))


def refused(folder: Path, *parts: str, factory: str = FACTORY, **keys: object) -> None:
    """The spec is refused by one line that names the file and has these parts."""
    path = written(folder, factory, **keys)
    with pytest.raises(InputError) as caught:
        kinds.read_study(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and "allowed" in message
    assert all(part in message for part in parts), message


def returning(lines: str) -> str:
    body = textwrap.indent(textwrap.dedent(lines).strip(), "    ")
    return f"import torch\nimport numpy as np\nfrom torch import nn\ndef make(width, gamma, gamma_prime, seed):\n{body}\n"


# What is read.


def test_a_spec_is_read_with_its_layers_and_stored_as_it_is(tmp_path: Path) -> None:
    study = read(tmp_path)
    assert study.spec.network.layers == ("0.weight", "2.weight")
    assert len(study.spec.network.code) == 20 and study.sizes == {4: 17, 8: 33}
    assert len(study.jobs()) == 8
    stored = kinds.restored_study(study.to_toml(), study.data.arrays(), "out/study.toml")
    assert stored.spec == study.spec and {job.job_id for job in stored.jobs()} == {
        job.job_id for job in study.jobs()
    }


@pytest.mark.parametrize(
    ("train", "width", "rate"),
    [
        ("", 4, None),
        ("learning_rate = 0.1", 4, 0.1),
        ("learning_rate = { factor = 0.5, exponent = -1.0 }", 8, 0.0625),
        ('method = "adam"\nlearning_rate = { factor = 2.0, exponent = 0.5 }', 4, 4.0),
    ],
)
def test_learning_rates_may_depend_on_the_width(
    tmp_path: Path, train: str, width: int, rate: float | None
) -> None:
    assert read(tmp_path, train=train).spec.train.rate(width) == rate


@given(st.floats(1e-6, 1e6), st.floats(-10, 10), st.integers(1, 10**5))
def test_a_rate_is_a_power_of_the_width(factor: float, exponent: float, width: int) -> None:
    from phasediag.modules.spec import RateSpec, TrainSpec

    rate = TrainSpec(method="sgd", learning_rate=RateSpec(factor=factor, exponent=exponent)).rate(width)
    assert rate == pytest.approx(factor * float(width) ** exponent)


def test_the_loss_follows_from_the_targets(tmp_path: Path) -> None:
    assert read(tmp_path / "a").spec.train.loss == "mse"
    assert (
        read(
            tmp_path / "b", FACTORY.replace("width, 1), nn.Flatten(0)", "width, 3)"), data=CLASSES
        ).spec.train.loss
        == "cross-entropy"
    )


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("epochs = 20", "epochs = 21"), False),
        (("gamma = [0.5, 1.0]", "gamma = [0.5, 1.0, 1.5]"), True),
        (('"nets:make"', '"nets:make", arguments = { depth = 2 }'), False),
    ],
)
def test_ids_of_jobs_follow_what_the_network_depends_on(
    tmp_path: Path, change: tuple[str, str], same: bool
) -> None:
    factory = FACTORY.replace("gamma_prime, seed)", "gamma_prime, seed, depth=1)")
    path = written(tmp_path, factory)
    study = kinds.read_study(path)
    path.write_text(path.read_text().replace(*change))
    assert (study.job(4, 0.5, 0.0, 0) == kinds.read_study(path).job(4, 0.5, 0.0, 0)) == same


# The factory.


@pytest.mark.parametrize(
    ("factory", "name", "parts"),
    [
        (
            FACTORY,
            "netz:make",
            [
                "network.factory: netz:make: ModuleNotFoundError: No module named 'netz'",
                "did you mean 'nets'?",
            ],
        ),
        (FACTORY, "nets:mak", ["network.factory: nets:mak: AttributeError", "did you mean 'make'?"]),
        (FACTORY, "nets.py:make", ["did you mean 'nets:make'?"]),
        (
            FACTORY,
            "nets",
            [
                "network.factory: nets: is not supported",
                "allowed: PACKAGE:FUNCTION, a function make(width, gamma",
            ],
        ),
        ("make = 3", "nets:make", ["nets:make: is of type int"]),
        ("import no_such_package", "nets:make", ["ModuleNotFoundError: No module named 'no_such_package'"]),
        ("raise SystemExit(3)", "nets:make", ["SystemExit: 3"]),
        ("def make(", "nets:make", ["SyntaxError"]),
    ],
)
def test_a_factory_that_cannot_be_imported_is_told(
    tmp_path: Path, factory: str, name: str, parts: list[str]
) -> None:
    path = written(tmp_path, factory)
    path.write_text(path.read_text().replace("nets:make", name))
    with pytest.raises(InputError) as caught:
        kinds.read_study(path)
    assert str(caught.value).startswith(f"{path}: network.factory: ")
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (
            "return 3",
            [
                "width = 4, gamma = 0.5, gamma_prime = 0, seed = 0: is of type int",
                "returns a torch.nn.Module",
            ],
        ),
        ("return nn.Linear", ["is of type type"]),
        ("return nn.ReLU()", ["has no trainable weights of two or more dimensions"]),
        ("raise ValueError('no such\\nwidth')", ["width = 4", "ValueError: no such width"]),
        ("1 / 0", ["ZeroDivisionError: division by zero"]),
        ("raise SystemExit", ["SystemExit"]),
        (
            "return nn.Sequential(nn.Linear(2, width), *[nn.Linear(width, width)] * (width > 4), nn.Linear(width, 1))",
            ["its parameters change with the width", "differ at 8 and 4"],
        ),
        (
            "return nn.Sequential(nn.Linear(2, width, bias=width < 8), nn.Linear(width, 1))",
            ["its parameters change with the width: 0.bias"],
        ),
        (
            "return nn.ModuleDict({f'l{width}': nn.Linear(2, width)})",
            ["its parameters change with the width: l4.bias, l4.weight"],
        ),
        ("return nn.Linear(2, 1)", ["ignores the width: all layers have the same shapes at 4 and 8"]),
        (
            "m = nn.Linear(2, width)\nnn.init.constant_(m.weight, np.random.default_rng().random())\nreturn m",
            ["weight differs between two networks of one seed: it is random beyond its seed"],
        ),
        (
            "m = nn.Linear(2, width)\nm.register_buffer('scale', torch.tensor(np.random.default_rng().random()))\nreturn m",
            ["scale differs between two networks of one seed"],
        ),
        (
            "return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 1))",
            ["cannot be evaluated on x (4, 2), y (4,) (RuntimeError", "allowed: a module that takes such x"],
        ),
        (
            "return nn.Sequential(nn.Linear(2, width), nn.Linear(width, 2))",
            ["the network returns (4, 2) for targets (4,)"],
        ),
        (
            "m = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1), nn.Flatten(0))\nm[0].weight.data[0, 0] = np.nan\nreturn m",
            ["the loss is nan before training"],
        ),
        (
            "class M(nn.Linear):\n    def forward(self, x):\n        return [x]\nreturn M(2, width)",
            ["returns list", "returns a tensor"],
        ),
        (
            "class M(nn.Linear):\n    def forward(self, x):\n"
            "        return torch.from_numpy(super().forward(x).detach().numpy().sum(axis=1))\nreturn M(2, width)",
            ["cannot be trained on x (4, 2), y (4,): RuntimeError", "allowed: a module with gradients"],
        ),
    ],
)
def test_a_factory_that_makes_no_such_networks_is_told(tmp_path: Path, lines: str, parts: list[str]) -> None:
    refused(tmp_path, "network.factory: nets:make: ", *parts, factory=returning(lines))


def test_three_widths_of_which_two_make_the_same_are_told(tmp_path: Path) -> None:
    factory = FACTORY.replace("nn.Linear(2, width)", "nn.Linear(2, min(width, 8))").replace(
        "nn.Linear(width, 1)", "nn.Linear(min(width, 8), 1)"
    )
    refused(
        tmp_path,
        "ignores the width: all layers have the same shapes at 8 and 16",
        factory=factory,
        width=[4, 8, 16],
    )


def test_minibatches_that_a_module_cannot_take_are_told_before_the_sweep(tmp_path: Path) -> None:
    """Batch norm needs two points, and the last minibatch has one."""
    factory = returning(
        "return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 1), nn.Flatten(0))"
    )
    rate = 'method = "sgd"\nlearning_rate = 0.1\nbatch_size = '
    refused(
        tmp_path,
        "cannot be trained on x (1, 2), y (1,): ValueError: Expected more than 1",
        factory=factory,
        train=f"{rate}3",
    )
    assert read(tmp_path / "even", factory, train=f"{rate}2").spec.train.batch_size == 2


def test_one_width_is_noted_and_allowed(tmp_path: Path) -> None:
    [note] = read(tmp_path, width=[4]).notes()
    assert note.startswith("grid.width: one width gives no slope")


# Keys.


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        (
            {"train": 'loss = "cross-entropy"'},
            ["train.loss: cross-entropy is not supported with targets that are numbers", "allowed: mse"],
        ),
        (
            {"train": 'loss = "mse"', "data": CLASSES},
            ["train.loss: mse is not supported with classes", "allowed: cross-entropy"],
        ),
        (
            {"train": 'method = "sgd"'},
            [
                'learning_rate: "auto" is not supported with the method sgd',
                "allowed: a finite number above 0",
            ],
        ),
        ({"train": 'method = "adam"\nlearning_rate = "auto"'}, ["not supported with the method adam"]),
        (
            {"train": "learning_rate = 0"},
            ["train.learning_rate", "0 is not supported", '"auto", a finite number above 0'],
        ),
        ({"train": "learning_rate = inf"}, ["train.learning_rate", "inf is not supported"]),
        ({"train": 'learning_rate = "fast"'}, ["train.learning_rate", "'fast' is not supported"]),
        ({"train": "learning_rate = true"}, ["train.learning_rate", "is not supported"]),
        (
            {"train": "learning_rate = { factor = 1.0 }"},
            ["train.learning_rate", "exponent", "required, but missing"],
        ),
        (
            {"train": "learning_rate = { factor = -1.0, exponent = 0.0 }"},
            ["train.learning_rate", "factor", "a finite number above 0"],
        ),
        (
            {"train": "learning_rate = { factor = 1.0, exponent = 0.0, power = 1 }"},
            ["train.learning_rate", "power: unknown key"],
        ),
        (
            {"train": 'method = "sdg"\nlearning_rate = 0.1'},
            ["train.method: 'sdg' is not supported; did you mean 'sgd'?"],
        ),
        ({"train": "epoch = 3"}, ["train.epoch: unknown key; did you mean 'epochs'?"]),
        ({"train": "batch_size = 0"}, ["train.batch_size: 0"]),
        ({"train": "loss_tolerance = 1.0"}, ["train.loss_tolerance: 1.0"]),
        ({"width": "[]"}, ["grid.width"]),
        ({"width": "[4, 1000000000]"}, ["grid.width: 1000000000 is not supported"]),
        (
            {"gamma": "[0.5]\ngamma_1 = 0.5"},
            ["grid.gamma_1: is not supported here, it belongs to kind phase-diagram"],
        ),
        ({"data": CLASSES.replace("2, 1]", "2, -1]")}, ["data", "-1"]),
        ({"data": NUMBERS + "\nx_test = [[1.0, 0.0]]\ny_test = [0.1]"}, ["test points", "training points"]),
    ],
)
def test_every_mistake_in_a_key_has_its_message(
    tmp_path: Path, keys: dict[str, object], parts: list[str]
) -> None:
    refused(tmp_path, *parts, **keys)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("{ depht = 3 }", ["TypeError", "unexpected keyword argument 'depht'"]),
        ("{ width = 3 }", ["network.arguments: width is not supported, [grid] has it"]),
        ("{ depth = 1979-05-27 }", ["network.arguments"]),
        ("3", ["network.arguments"]),
    ],
)
def test_arguments_that_the_function_does_not_take_are_told(
    tmp_path: Path, arguments: str, parts: list[str]
) -> None:
    path = written(tmp_path, FACTORY.replace("gamma_prime, seed)", "gamma_prime, seed, depth=1)"))
    path.write_text(path.read_text().replace('"nets:make"', f'"nets:make", arguments = {arguments}'))
    with pytest.raises(InputError) as caught:
        kinds.read_study(path)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


# Processes that train.


def test_a_node_without_the_function_says_which_node_it_is(tmp_path: Path) -> None:
    missing = Factory("nowhere_to_be_found:make", (str(tmp_path),))
    with pytest.raises(
        InputError,
        match=rf"^network.factory on {socket.gethostname()}: nowhere_to_be_found:make: ModuleNotFoundError",
    ):
        missing.function()


def test_a_node_with_other_code_is_refused(tmp_path: Path) -> None:
    study = read(tmp_path)
    factory = KIND.trainer(study).factory
    assert factory.function()(4, 0.5, 0.0, 0)[0].out_features == 4
    other = dataclasses.replace(factory, code="0" * 20)
    with pytest.raises(
        InputError,
        match=rf"on {socket.gethostname()}: nets:make: its code differs from the code that the sweep was started",
    ):
        other.function()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("    return made", "    return made  # the network"), True),
        (("    return made", "\n\n    return (\n        made\n    )"), True),
        (("** -gamma", "** -(2 * gamma)"), False),
    ],
)
def test_code_is_what_is_run_and_not_how_it_is_laid_out(
    tmp_path: Path, change: tuple[str, str], same: bool
) -> None:
    a, b = read(tmp_path / "a"), read(tmp_path / "b", FACTORY.replace(*change))
    assert (a.spec.network.code == b.spec.network.code) == same
    assert (a.job(4, 0.5, 0.0, 0).job_id == b.job(4, 0.5, 0.0, 0).job_id) == same


def test_modules_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    a, b = read(tmp_path / "a"), read(tmp_path / "b", FACTORY.replace("nn.ReLU()", "nn.Tanh()"))
    trainers = [KIND.trainer(study) for study in (a, b, a)]
    kinds_of = [type(trainer.factory.function()(4, 0.5, 0.0, 0)[1]) for trainer in trainers]
    assert kinds_of == [nn.ReLU, nn.Tanh, nn.ReLU]


def test_functions_without_readable_code_have_no_hash() -> None:
    assert code_of(np.linspace) != "" and code_of(partial(partial(written))) == code_of(written)
    assert code_of(eval("lambda width: None")) == code_of(eval("lambda width: None"))


# Cells.


def rows(study: Any) -> list[dict[str, Any]]:
    return KIND.trainer(study).batch([job for job in study.jobs() if job.width == 4], "cpu", 1)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("if gamma == 1.0 and seed == 1: raise ValueError('not here')", "ValueError: not here"),
        ("if gamma == 1.0 and seed == 1: return 3", "is of type int"),
        (
            "if gamma == 1.0 and seed == 1: return nn.Linear(2, width)",
            "its layers are weight here, and 0.weight, 2.weight in the study",
        ),
    ],
)
def test_a_cell_that_cannot_be_made_fails_alone_and_says_why(tmp_path: Path, lines: str, words: str) -> None:
    plain = rows(read(tmp_path / "plain"))
    found = rows(read(tmp_path / "failing", FACTORY.replace("    made =", f"    {lines}\n    made =")))
    failed = [row for row in found if row["status"] == "failed"]
    assert [(row["gamma"], row["seed"], row["layer"]) for row in failed] == [
        (1.0, 1, "0.weight"),
        (1.0, 1, "2.weight"),
    ]
    assert all(words in row["error"] for row in failed), failed[0]["error"]
    for row, other in zip(plain, found, strict=True):
        if other["status"] != "failed":
            assert row["relative_change"] == other["relative_change"] > 0


STRICT = """
class Strict(nn.Module):
    def forward(self, x):
        if (x == x[0]).all():
            raise ValueError("dead")
        return x

"""


def test_a_network_that_fails_in_training_fails_alone(tmp_path: Path) -> None:
    """Its first step kills its neurons. The rows of the others are what they are without it."""
    strict = FACTORY.replace("def make", STRICT + "def make").replace(
        "nn.Flatten(0))", "nn.Flatten(0), Strict())"
    )
    large = strict.replace("        made[2]", "        if seed == 1: made[2].weight *= 1e3\n        made[2]")
    train = "learning_rate = 0.5"
    plain, found = (
        rows(read(tmp_path / name, text, train=train)) for name, text in (("plain", strict), ("large", large))
    )
    failed = {(row["gamma"], row["seed"]) for row in found if row["status"] == "failed"}
    assert failed and {seed for _, seed in failed} == {1}
    assert all("ValueError: dead" in row["error"] for row in found if row["status"] == "failed")
    for row, other in zip(plain, found, strict=True):
        if row["seed"] != 1:
            assert row["relative_change"] == other["relative_change"] > 0


def test_rows_do_not_depend_on_threads_or_on_the_jobs_beside_them(tmp_path: Path) -> None:
    """Also of modules that are trained alone, with random numbers of their own."""
    factory = FACTORY.replace("nn.ReLU(),", "nn.ReLU(), nn.Dropout(0.2),").replace("made[2]", "made[3]")
    for folder, text, batching in (("plain", FACTORY, "together"), ("dropout", factory, "alone")):
        study = read(tmp_path / folder, text, seeds=3)
        trainer, jobs = KIND.trainer(study), [job for job in study.jobs() if job.width == 8]
        whole = trainer.batch(jobs, "cpu", 1)
        parts = [row for job in jobs for row in trainer.batch([job], "cpu", 1)]
        for other in (trainer.batch(jobs, "cpu", 3), parts):
            for row, same in zip(whole, other, strict=True):
                assert repr({**row, "wall_seconds": 0}) == repr({**same, "wall_seconds": 0})
        assert {row["batching"] for row in whole} == {batching}
        rows_of, arrays = trainer.weights(jobs[0], "cpu")
        assert repr({**rows_of[0], "wall_seconds": 0}) == repr({**whole[0], "wall_seconds": 0})
        start, end = arrays["0.weight_initial"], arrays["0.weight_final"]
        assert np.linalg.norm(end - start) / np.linalg.norm(start) == pytest.approx(
            whole[0]["relative_change"]
        )


def test_a_loss_that_is_no_number_at_one_cell_diverges(tmp_path: Path) -> None:
    found = rows(
        read(tmp_path, FACTORY.replace("** -gamma", "** -gamma * (float('nan') if gamma == 1.0 else 1.0)"))
    )
    assert {row["status"] for row in found if row["gamma"] == 1.0} == {"diverged"}
    assert all(row["relative_change"] > 0 for row in found if row["gamma"] == 0.5)


# What a function is called with.


ARGUMENTS = {"width": 4.0, "gamma": 0.5, "gamma_prime": 0.25, "seed": 7.0}


@pytest.mark.parametrize(
    ("make", "places", "names"),
    [
        (lambda width: None, [], ["width"]),
        (lambda m: None, [4.0], []),
        (lambda m, gamma, gamma_prime, seed: None, [4.0, 0.5, 0.25, 7.0], []),
        (lambda seed, width: None, [], ["width", "seed"]),
        (lambda width, *, gamma: None, [], ["width", "gamma"]),
        (lambda *several: None, [4.0, 0.5, 0.25, 7.0], []),
        (lambda **several: None, [], [*ARGUMENTS]),
        (partial(lambda width, gamma, depth: None, depth=3), [], ["width", "gamma"]),
        (nn.Identity().forward, [4.0], []),
    ],
)
def test_functions_take_arguments_by_name_or_place(
    make: Callable[..., Any], places: list[float], names: list[str]
) -> None:
    assert _taken(make, ARGUMENTS) == (
        places,
        {name: value for name, value in ARGUMENTS.items() if name in names},
    )


@given(st.permutations([*ARGUMENTS]), st.integers(1, 4), st.sampled_from(["", "*, ", "/"]))
def test_what_a_function_names_is_what_it_gets(order: list[str], count: int, kind: str) -> None:
    """A function that returns its arguments by name, whatever their order and kind."""
    taken = sorted(order[:count], key=lambda name: name != "width")
    if "width" not in taken:
        taken = ["width", *taken[1:]]
    signature = f"{', '.join(taken)}, /" if kind == "/" else f"{kind}{', '.join(taken)}"
    make = eval(f"lambda {signature}: dict({', '.join(f'{name}={name}' for name in taken)})")
    places, names = _taken(make, ARGUMENTS)
    inspect.signature(make).bind(*places, **names)
    if kind != "/":
        assert make(*places, **names) == {name: ARGUMENTS[name] for name in taken}


def test_random_numbers_of_every_kind_follow_the_seed_and_go_on_as_before() -> None:
    import random

    def make(width: int) -> nn.Module:
        made = nn.Linear(width, 2)
        made.bias.data[0], made.bias.data[1] = float(np.random.rand()), random.random()  # noqa: NPY002
        return made

    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    first, again, other = (network(make, {"width": 3, "seed": seed}, "x") for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state[0]) and np.random.get_state()[1].tolist() == state[1]  # noqa: NPY002
    assert random.getstate() == state[2]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    with pytest.raises(RuntimeError), seeded(1):
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), state[0])


def test_sizes_count_what_trains() -> None:
    def make(width: int) -> nn.Module:
        made = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))
        made[1].weight.requires_grad_(False)
        return made

    assert check_widths(make, [4, 8], {"seed": 0}, "x") == [13, 25]
    assert load_function("phasediag.modules.examples.mlp:make", "x", "y")(4, 0.5, 0.0).hidden.shape == (4, 2)
