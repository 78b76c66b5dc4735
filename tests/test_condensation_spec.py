"""Specs of condensation studies: what they may hold, and the messages for what they may not; jobs, data and their union."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import starter

from phasediag.condensation.spec import CondensationSpec, name_of
from phasediag.condensation.study import CondensationStudy, Datasets
from phasediag.errors import InputError
from phasediag.kinds import parse_spec, read_study, restored_study
from phasediag.spec.parse import format_spec

SWEEPS = Path(__file__).parent.parent / "sweeps"
MINIMAL = """
name = "minimal"
kind = "condensation"
[network]
hidden = [50]
[data]
kind = "function"
target = "sum_sin"
dimension = 5
low = -4.0
high = 2.0
[grid]
activation = ["tanh", "x_tanh"]
std = [0.005]
seeds = 20
[train]
method = "adam"
epochs = 100
learning_rate = 1e-3
"""


def edited(old: str, new: str) -> str:
    assert old in MINIMAL
    return MINIMAL.replace(old, new)


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_spec(text, "x.toml")
    return str(caught.value)


def spec_of(text: str) -> CondensationSpec:
    spec = parse_spec(text, "x.toml")
    assert isinstance(spec, CondensationSpec)
    return spec


def test_defaults_are_filled_in() -> None:
    spec = spec_of(MINIMAL)
    assert spec.network.residual is False
    assert spec.data.samples == 80 and spec.data.spacing == "uniform-random"  # type: ignore[union-attr]
    assert spec.train.dtype == "float64"
    assert spec.samples.seeds == (0,)
    snapshots = spec.train.snapshots or ()
    assert snapshots[0] == 0 and snapshots[-1] == 100 and 8 <= len(snapshots) <= 12


def test_the_example_of_the_documentation_parses() -> None:
    spec = spec_of(starter("condensation"))
    assert spec.train.snapshots == (0, 10, 20, 50, 100)
    uncommented = "\n".join(
        line[2:] if line.startswith("# ") and ("=" in line or line.startswith("# [")) else line
        for line in starter("condensation").splitlines()
    )
    assert spec_of(uncommented).train == spec.train


def test_one_name_serves_all_layers() -> None:
    spec = spec_of(
        edited("[50]", "[5, 4, 3]").replace('["tanh", "x_tanh"]', '["tanh", ["relu", "tanh", "x2_tanh"]]')
    )
    assert spec.grid.activation == (("relu", "tanh", "x2_tanh"), ("tanh", "tanh", "tanh"))
    assert [name_of(names) for names in spec.grid.activation] == ["relu/tanh/x2_tanh", "tanh"]
    assert 'activation = [["relu", "tanh", "x2_tanh"], "tanh"]' in format_spec(spec.document())


def test_learning_rates_by_activation() -> None:
    spec = spec_of(edited("1e-3", '{ tanh = 1e-3, default = 5e-4, "tanh/relu" = 1e-5 }'))
    rates = [spec.train.rate_of(names) for names in (("tanh",), ("relu",), ("tanh", "relu"))]
    assert rates == [1e-3, 5e-4, 1e-5]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            '"x_tanh"',
            '"xtanh"',
            [
                "grid.activation",
                "'xtanh' is not a known activation",
                "allowed: relu, tanh, sigmoid, softplus, x_tanh, x2_tanh",
            ],
        ),
        ('["tanh", "x_tanh"]', '[["tanh", "relu"]]', ["activation[0]: 2 activations for 1 hidden layers"]),
        ('["tanh", "x_tanh"]', "[[]]", ["grid.activation[0]: an empty list"]),
        ('["tanh", "x_tanh"]', "[]", ["grid.activation: an empty list"]),
        ('["tanh", "x_tanh"]', "[1]", ["grid.activation[0]: 1 is not a known activation"]),
        (
            "hidden = [50]",
            "hidden = [50, 40]\nresidual = true",
            ["network: hidden: residual layers of unequal width (50, 40)", "allowed: equal widths"],
        ),
        ("hidden = [50]", "hidden = []", ["network.hidden: an empty list"]),
        ("hidden = [50]", "hidden = [0]", ["network.hidden[0]: 0"]),
        ("hidden = [50]", "hidden = 50", ["network.hidden: 50", "a list"]),
        ("hidden = [50]", "hidden = [50]\ndepth = 2", ["network.depth: unknown key", "hidden, residual"]),
        (
            "1e-3",
            "1e-3\nsnapshots = [20, 500]",
            ["train.snapshots: 500 is beyond the last epoch; allowed: from 0 to 100"],
        ),
        ("1e-3", "1e-3\nsnapshots = [-1]", ["train.snapshots[0]: -1"]),
        ("epochs = 100", "epochs = 0", ["train.epochs: 0"]),
        ("1e-3", "0.0", ["train.learning_rate: 0.0", "above 0"]),
        ("1e-3", "{ tanh = 1e-3 }", ["train.learning_rate: has no rate for x_tanh"]),
        ("1e-3", "{ tank = 1e-3 }", ["train.learning_rate: 'tank' is not a known activation"]),
        ("1e-3", "{ tanh = true }", ["train.learning_rate: tanh: true"]),
        ("1e-3", "{}", ["train.learning_rate: an empty table"]),
        ("learning_rate = 1e-3", "", ["train.learning_rate: required, but missing"]),
        ('"adam"', '"sgd"', ["train.method: 'sgd'", "adam, gd, gradient-flow, normalized-gd"]),
        ("std = [0.005]", "std = [0.0]", ["grid.std[0]: 0.0"]),
        ("learning_rate = 1e-3", f"learning_rate = {10**400}", ["train.learning_rate", "at most 1e+12"]),
        ("low = -4.0", "low = -1e308", ["data.low: -1e+308", "from -1e+09 to 1e+09, below high"]),
        ("std = [0.005]", "std = [1e-31]", ["grid.std[0]: 1e-31", "from 1e-30 to 1000"]),
        ("std = [0.005]", "std = []", ["grid.std: an empty list"]),
        ("seeds = 20", "seeds = 20\nwidth = [10]", ["grid.width: unknown key", "activation, std, seeds"]),
        ('"sum_sin"', '"sin"', ["data.target: 'sin'", "sum_sin, sin_mix"]),
        ('"sum_sin"', '"sin_mix"', ["data: dimension: the target sin_mix has one input"]),
        ("dimension = 5", "dimension = 0", ["data.dimension[0]: 0"]),
        ("dimension = 5", "dimension = []", ["data.dimension: an empty list"]),
        ("high = 2.0", "high = -5.0", ["data: low: -4 is not below high = -5"]),
        ("high = 2.0", 'high = 2.0\nspacing = "even"', ["data: spacing: 'even' needs dimension = 1"]),
        (
            "high = 2.0",
            'high = 2.0\nspacing = "odd"',
            ["data.spacing: 'odd'", "uniform-random, even"],
        ),
        (
            '"function"',
            '"funktion"',
            ["data.kind: 'funktion'", "function, points, digits, mnist, cifar10, file"],
        ),
        ("[train]", "[refine]\ntarget = 0.1\n[train]", ["refine: unknown key"]),
        ("[train]", "[samples]\nseeds = [-1]\n[train]", ["samples.seeds[0]: -1"]),
        ("[train]", "[samples]\nwidth = 5\n[train]", ["samples.width: unknown key; allowed: seeds"]),
        ("[train]", "[trian]", ["trian: unknown key; did you mean 'train'?", "; 1 more mistake"]),
        ("seeds = 20", "seeds = 10000000000", ["grid.seeds"]),
    ],
)
def test_refusals_name_the_key_and_what_is_allowed(old: str, new: str, words: list[str]) -> None:
    message = refusal(edited(old, new))
    assert message.startswith("x.toml: ") and "\n" not in message
    assert "Input should" not in message and "http" not in message
    for word in words:
        assert word in message


def test_functions_belong_to_condensation_studies() -> None:
    text = starter("phase-diagram").replace('kind = "points"', 'kind = "function"')
    assert "data.kind: 'function' is not supported; allowed: points, digits, mnist, cifar10, file" in refusal(
        text
    )


def test_a_study_has_at_most_ten_million_jobs() -> None:
    text = edited("seeds = 20", "seeds = 1000000").replace("[0.005]", "[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]")
    assert "12000000 jobs are too many" in refusal(text)


positive = st.floats(1e-6, 1e6)
names = st.sampled_from(["relu", "tanh", "sigmoid", "softplus", "x_tanh", "x2_tanh"])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    layers = draw(st.integers(1, 3))
    width = draw(st.integers(1, 100))
    entries = st.one_of(names, st.lists(names, min_size=layers, max_size=layers))
    dimension = draw(st.one_of(st.integers(1, 20), st.lists(st.integers(1, 20), min_size=1, max_size=3)))
    rates = st.one_of(positive, st.dictionaries(names, positive).map(lambda table: {**table, "default": 1.0}))
    epochs = draw(st.integers(1, 1000))
    train = {
        "method": draw(st.sampled_from(["adam", "gd", "gradient-flow", "normalized-gd"])),
        "epochs": epochs,
        "learning_rate": draw(rates),
    }
    if draw(st.booleans()):
        train["snapshots"] = draw(st.lists(st.integers(0, epochs), max_size=5))
    return {
        "name": "drawn",
        "kind": "condensation",
        "network": {"hidden": [width] * layers, "residual": draw(st.booleans())},
        "data": {
            "kind": "function",
            "target": "sum_sin",
            "dimension": dimension,
            "low": -draw(positive),
            "high": draw(positive),
        },
        "grid": {
            "activation": draw(st.lists(entries, min_size=1, max_size=4)),
            "std": draw(st.lists(st.floats(1e-30, 1e3), min_size=1, max_size=3)),
            "seeds": draw(st.one_of(st.integers(1, 5), st.lists(st.integers(0, 99), min_size=1, max_size=3))),
        },
        "train": train,
    }


@settings(max_examples=60, deadline=None)
@given(document=documents())
def test_the_normal_form_parses_to_an_equal_spec(document: dict[str, Any]) -> None:
    spec = parse_spec(tomli_w.dumps(document), "x.toml")
    assert parse_spec(format_spec(spec.document()), "y.toml") == spec


# Studies.


def study_of(tmp_path: Path, *edits: tuple[str, str]) -> CondensationStudy:
    text = MINIMAL
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "study.toml"
    path.write_text(text)
    study = read_study(path)
    assert isinstance(study, CondensationStudy)
    return study


def ids(study: CondensationStudy) -> set[str]:
    return {job.job_id for job in study.jobs()}


def test_jobs_are_the_grid_once(tmp_path: Path) -> None:
    study = study_of(tmp_path, ("dimension = 5", "dimension = [1, 5]"), ("[0.005]", "[0.005, 0.01]"))
    assert len(study.jobs()) == len(ids(study)) == 2 * 2 * 2 * 20
    assert {job.dimension for job in study.jobs()} == {1, 5}


def test_job_ids_are_pinned(tmp_path: Path) -> None:
    """A changed id orphans every stored row: it must never change."""
    study = study_of(tmp_path)
    assert study.job(("tanh",), 5, 0.005, 0).job_id == "37b4bf46c05b6741559a"
    flow = study_of(tmp_path, ('"adam"', '"gradient-flow"'))
    assert flow.job(("tanh",), 5, 0.005, 0).job_id == "88f444b179fe01d5be68"


def test_ids_follow_the_content_alone(tmp_path: Path) -> None:
    same = [
        ('"minimal"', '"other"'),
        ("seeds = 20", "seeds = [19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]"),
        ('["tanh", "x_tanh"]', '[["x_tanh"], "tanh"]'),
        ("learning_rate = 1e-3", "learning_rate = { tanh = 1e-3, default = 1e-3 }"),
        ("learning_rate = 1e-3", "learning_rate = 1e-3\naccuracy = 0.01"),
        ("[train]", "[resources]\ncpus_per_task = 2\n[train]"),
    ]
    other = [
        ("hidden = [50]", "hidden = [51]"),
        ("hidden = [50]", "hidden = [50]\nresidual = true"),
        ("high = 2.0", "high = 2.5"),
        ("[0.005]", "[0.006]"),
        ("epochs = 100", "epochs = 101"),
        ("1e-3", "2e-3"),
        ("1e-3", "1e-3\nsnapshots = [7]"),
        ('"adam"', '"gd"'),
        ("1e-3", '1e-3\ndtype = "float32"'),
    ]
    mine = ids(study_of(tmp_path))
    for edit in same:
        assert ids(study_of(tmp_path, edit)) == mine
    for edit in other:
        assert not ids(study_of(tmp_path, edit)) & mine


def test_data_are_drawn_for_every_seed_or_even_for_all(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    sets = [study.data.of(5, seed) for seed in range(20)]
    assert len({data.digest for data in sets}) == 20
    x, y = sets[3].x, sets[3].y
    assert x.shape == (80, 5) and x.min() >= -4 and x.max() <= 2
    np.testing.assert_allclose(y, np.sin(x).sum(axis=1), atol=1e-7)
    np.testing.assert_array_equal(x, np.round(x, 8))
    even = study_of(tmp_path, ("dimension = 5", 'dimension = 1\nspacing = "even"'))
    assert even.data.of(1, 0) is even.data.of(1, 7)
    np.testing.assert_allclose(even.data.of(1, 0).x[:, 0], np.linspace(-4, 2, 80), atol=1e-8)


def test_the_mixed_sine(tmp_path: Path) -> None:
    study = study_of(tmp_path, ('"sum_sin"', '"sin_mix"'), ("dimension = 5", ""))
    data = study.data.of(1, 0)
    x = data.x[:, 0]
    np.testing.assert_allclose(data.y, np.sin(3 * x) + np.sin(6 * x) / 2, atol=1e-7)


@pytest.mark.parametrize(
    "edit",
    [
        ("dimension = 5", "dimension = [1, 3]"),
        ("dimension = 5", 'dimension = 1\nspacing = "even"'),
        ("dimension = 5", "dimension = 5"),
    ],
)
def test_a_stored_study_is_read_back(tmp_path: Path, edit: tuple[str, str]) -> None:
    study = study_of(tmp_path, edit)
    again = restored_study(study.to_toml(), study.data.arrays(), "OUT/study.toml")
    assert isinstance(again, CondensationStudy)
    assert again.spec == study.spec and ids(again) == ids(study)
    row = {"activations": "tanh", "dimension": study.jobs()[0].dimension, "std": 0.005, "seed": 0}
    assert again.stored_job(row) == study.jobs()[0]


def test_test_points_are_kept_and_told_to_be_of_no_use(tmp_path: Path) -> None:
    text = starter("condensation")
    table = 'kind = "digits"\nsamples = 50\ntest_fraction = 0.2\n\n'
    (tmp_path / "s.toml").write_text(re.sub(r'kind = "function"(.|\n)*?(?=\[grid\])', table, text))
    study = read_study(tmp_path / "s.toml")
    assert isinstance(study, CondensationStudy)
    assert study.data.points == 40
    assert "data: no row of a condensation study tells of the test points" in list(study.notes())
    again = restored_study(study.to_toml(), study.data.arrays(), "OUT/study.toml")
    assert isinstance(again, CondensationStudy)
    assert again.data.shared == study.data.shared and ids(again) == ids(study)


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    x, y = np.zeros((2, 3, 1)), np.ones((2, 3))
    with pytest.raises(InputError, match="do not belong together"):
        Datasets.from_arrays({"x": x, "y": y}, "OUT: data")
    with pytest.raises(InputError, match="do not belong together"):
        Datasets.from_arrays({"x": x, "y": y, "dimension": np.array([1]), "seed": np.array([0, 1])}, "OUT")
    points = np.arange(6.0).reshape(2, 3, 1)
    kept = Datasets.from_arrays(
        {"x": points, "y": y, "dimension": np.array([1, 1]), "seed": np.array([0, 1])}, "OUT"
    )
    with pytest.raises(InputError, match="none for dimension 1 and seed 7"):
        kept.of(1, 7)


def test_a_grid_may_grow_with_its_data_and_its_rates(tmp_path: Path) -> None:
    stored = study_of(tmp_path, ("seeds = 20", "seeds = [0, 1]"), ("1e-3", "{ tanh = 1e-3, x_tanh = 2e-3 }"))
    grown = study_of(
        tmp_path, ("seeds = 20", "seeds = [1, 2]"), ('"x_tanh"', '"relu"'), ("1e-3", "{ default = 1e-3 }")
    )
    both = grown.merged_with(stored)
    assert isinstance(both, CondensationStudy)
    assert ids(both) == ids(stored) | ids(grown)
    again = restored_study(both.to_toml(), both.data.arrays(), "OUT/study.toml")
    assert isinstance(again, CondensationStudy) and ids(again) == ids(both)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (("hidden = [50]", "hidden = [40]"), ["network.hidden"]),
        (("epochs = 100", "epochs = 200"), ["train.epochs: 200 differs", "allowed: 100"]),
        (("dimension = 5", "dimension = 4"), ["data.dimension"]),
        (("high = 2.0", "high = 3.0"), ["data.high: 3.0 differs"]),
        (("1e-3", "1e-4"), ["train.learning_rate: 0.0001 for tanh differs", "allowed: 0.001"]),
        (('"minimal"', '"other"'), ["name: 'other' differs"]),
    ],
)
def test_any_other_change_is_refused(tmp_path: Path, edit: tuple[str, str], words: list[str]) -> None:
    stored = study_of(tmp_path)
    with pytest.raises(InputError) as caught:
        study_of(tmp_path, edit, ("seeds = 20", "seeds = [30]")).merged_with(stored)
    for word in words:
        assert word in str(caught.value)


def test_kinds_do_not_mix(tmp_path: Path) -> None:
    phase = tmp_path / "phase.toml"
    phase.write_text(starter("phase-diagram").replace('"starter"', '"minimal"'))
    with pytest.raises(InputError, match="kind: 'condensation' differs"):
        study_of(tmp_path).merged_with(read_study(phase))


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("condensation*.toml")), ids=lambda path: path.stem)
def test_published_sweeps_parse_and_have_many_seeds(path: Path) -> None:
    spec = parse_spec(path.read_text(), str(path))
    assert isinstance(spec, CondensationSpec)
    assert len(spec.grid.seeds) >= 20


def test_planning_knows_what_predictions_cost(tmp_path: Path) -> None:
    """Those of ReLU climb, over all points and coordinates at every snapshot; those of tanh are one sum."""
    few = study_of(tmp_path, ('["tanh", "x_tanh"]', '["tanh", "relu"]'))
    many = study_of(
        tmp_path,
        ("dimension = 5\nlow", "dimension = 500\nsamples = 500\nlow"),
        ('["tanh", "x_tanh"]', '["tanh", "relu"]'),
    )
    for study, least in ((few, 1.05), (many, 5.0)):
        cost = {job.activations[0]: study.cost(job).seconds for job in study.jobs()}
        assert cost["relu"] > least * cost["tanh"]
