"""The TOML file: what it may hold, its normal form, and the messages for what it may not hold."""

import tomllib

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from phasediag.errors import InputError
from phasediag.kinds import parse_spec
from phasediag.phase_diagram.spec import GridSpec
from phasediag.spec.parse import format_spec

MINIMAL = """
name = "minimal"
kind = "phase-diagram"
[network]
depth = 2
[data]
kind = "points"
x = [[-1.0], [0.5]]
y = [1.0, -1.0]
[grid]
width = [100, 1000]
gamma = [0.5, 1.0, 1.75]
gamma_prime = [0.0]
seeds = 2
"""


def edited(old: str, new: str) -> str:
    assert old in MINIMAL
    return MINIMAL.replace(old, new)


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_spec(text, "x.toml")
    return str(caught.value)


def test_defaults_are_those_of_the_format():
    spec = parse_spec(MINIMAL, "x.toml")
    assert spec.network.activation == "relu"
    assert spec.train.model_dump() == {
        "method": "gradient-flow",
        "learning_rate": None,
        "accuracy": 0.01,
        "loss_tolerance": 1e-6,
        "max_evaluations": 20000,
        "dtype": "float32",
    }
    assert spec.resources.model_dump() == {"device": "auto", "cpus_per_task": 1.0, "gpus_per_task": 0.0}
    assert spec.samples.points == ((0.5, 0.0), (1.0, 0.0), (1.75, 0.0))
    assert (spec.samples.width, spec.samples.seed) == (1000, 0)


def test_default_sample_width_is_nearest_on_a_log_scale():
    spec = parse_spec(edited("[100, 1000]", "[400, 2000]"), "x.toml")
    assert spec.samples.width == 2000


def test_samples_may_be_given_in_part():
    spec = parse_spec(MINIMAL + "[samples]\npoints = []", "x.toml")
    assert (spec.samples.points, spec.samples.width) == ((), 1000)


def test_range_includes_both_ends_and_is_rounded():
    spec = parse_spec(edited("[0.5, 1.0, 1.75]", "{ start = 2.0, stop = 0.5, num = 16 }"), "x.toml")
    assert spec.grid.gamma == tuple(round(0.5 + 0.1 * k, 10) for k in range(16))


def test_width_range_is_rounded_to_whole_numbers():
    spec = parse_spec(edited("[100, 1000]", "{ start = 1, stop = 2.2, num = 3 }"), "x.toml")
    assert spec.grid.width == (1, 2)


def test_exponents_that_agree_to_ten_decimals_are_one():
    spec = parse_spec(edited("[0.5, 1.0, 1.75]", "[0.3, 0.30000000000000004, 0.0, -0.0]"), "x.toml")
    assert spec.grid.gamma == (0.0, 0.3)
    assert str(spec.grid.gamma[0]) == "0.0"


def test_points_stand_in_for_the_product():
    text = edited("gamma = [0.5, 1.0, 1.75]\ngamma_prime = [0.0]", "points = [[1, 0], [1.0, -0.0]]")
    assert parse_spec(text, "x.toml").grid.exponents() == {(1.0, 0.0)}


def test_seeds_are_a_number_or_a_list():
    assert parse_spec(MINIMAL, "x.toml").grid.seeds == (0, 1)
    assert parse_spec(edited("seeds = 2", "seeds = [7, 3, 7]"), "x.toml").grid.seeds == (3, 7)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "gamma =",
            "gama =",
            ["grid.gama", "unknown key", "did you mean 'gamma'?", "allowed: width, gamma, "],
        ),
        (
            "depth = 2",
            "depth = 1",
            ["network.depth: 1 is not supported; allowed: a whole number from 2 to 8"],
        ),
        (
            "depth = 2",
            "depth = 9",
            ["network.depth: 9 is not supported; allowed: a whole number from 2 to 8"],
        ),
        (
            '"phase-diagram"',
            '"phase_diagram"',
            [
                "'phase_diagram' is not supported; did you mean 'phase-diagram'? allowed: phase-diagram, condens"
            ],
        ),
        (
            '"points"',
            '"point"',
            ["data.kind: 'point' is not supported; did you mean 'points'? allowed: points, "],
        ),
        (
            "seeds = 2",
            "seeds = 2\n[train]\nmethod = 'gradient_flow'",
            [
                "train.method: 'gradient_flow' is not supported; did you mean 'gradient-flow'? allowed: gradient-"
            ],
        ),
        (
            "seeds = 2",
            "seeds = 2\n[refine]\ntarget = 0",
            ["refine.target: 0 is not supported; allowed: a number from 0.0001 to 1"],
        ),
        (
            "seeds = 2",
            "seeds = 2\n[refine]\nrounds = 3",
            ["refine.target: required, but missing"],
        ),
        (
            "seeds = 2",
            "seeds = 2\n[refine]\ntarget = 0.1\ngamma = 1",
            ["refine.gamma: belongs to [grid]; allowed: target, max_jobs, rounds"],
        ),
        ("seeds = 2", "seeds = 2\ngamma_1 = 0.0", ["grid.gamma_1", "depth 3 and more"]),
        ("depth = 2", "depth = 3\ngamma_1 = 0.0", ["network.gamma_1: belongs to [grid]", "allowed: depth"]),
        ("depth = 2", "depth = 2\nseeds = 3", ["network.seeds: belongs to [grid]"]),
        (
            "seeds = 2",
            "seeds = 2\n[train]\nmethod = 'sgd'\nlearning_rate = 0.1",
            ["train.method: 'sgd'", "allowed: gradient-flow, gd, adam"],
        ),
        (
            "seeds = 2",
            "seeds = 2\n[train]\nlearning_rate = 0.1",
            ["train.learning_rate: is not supported here", "gradient-flow", "the methods gd and adam"],
        ),
        (
            "seeds = 2",
            "seeds = 2\n[train]\nmethod = 'gd'",
            ["train.learning_rate: required by the method gd, but missing", "a finite number above 0"],
        ),
        (
            "seeds = 2",
            "seeds = 2\n[train]\nmethod = 'adam'\nlearning_rate = 0",
            ["train.learning_rate: 0 is not supported; allowed: a finite number above 0"],
        ),
        (
            "seeds = 2",
            "seeds = 2\n[train]\nmethod = 'gd'\nlearning_rate = inf",
            ["train.learning_rate: inf", "a finite number above 0"],
        ),
        (
            "seeds = 2",
            "seeds = 2\n[train]\nmethod = 'gd'\nlearning_rate = '0.1'",
            ["train.learning_rate: '0.1'", "a finite number above 0"],
        ),
        ("seeds = 2", "seeds = 2\n[train]\naccuracy = 0.6", ["train.accuracy: 0.6", "at most 0.5"]),
        (
            "seeds = 2",
            "seeds = 2\n[train]\nloss_tolerance = 1.0",
            ["train.loss_tolerance", "between 0 and 1"],
        ),
        ("seeds = 2", "seeds = 2\n[train]\nmax_evaluations = 0", ["train.max_evaluations: 0", "from 1"]),
        ("seeds = 2", "seeds = 2\n[train]\ndtype = 'float16'", ["train.dtype", "allowed: float32, float64"]),
        ("seeds = 2", "seeds = 2\n[resources]\ndevice = 'gpu'", ["resources.device", "auto, cpu, cuda"]),
        ("seeds = 2", "seeds = 2\n[resources]\ncpus_per_task = 0", ["resources.cpus_per_task: 0"]),
        (
            "seeds = 2",
            "seeds = 2\n[resources]\ngpus_per_task = 1.5",
            ["resources.gpus_per_task: 1.5", "whole"],
        ),
        ("seeds = 2", "seeds = 2\n[samples]\nwidth = 0", ["samples.width: 0", "from 1"]),
        ('"minimal"', '"mini mal"', ["name: 'mini mal'", "letters, digits, - and _"]),
        ('"minimal"', '"' + "a" * 101 + '"', ["name: ", "up to 100 letters"]),
        ("seeds = 2", "seeds = 0", ["grid.seeds: 0"]),
        ("seeds = 2", "seeds = true", ["grid.seeds: true"]),
        ("seeds = 2", "seeds = []", ["grid.seeds: an empty list"]),
        ("seeds = 2", "seeds = [-1]", ["grid.seeds[0]: -1"]),
        ("seeds = 2", "seeds = [2147483648]", ["grid.seeds[0]: 2147483648", "2147483647"]),
        ("seeds = 2", "seeds = 10000000000000", ["grid.seeds: 10000000000000"]),
        ("[100, 1000]", "[]", ["grid.width: an empty list"]),
        ("[100, 1000]", "[0]", ["grid.width[0]: 0"]),
        ("[100, 1000]", "[100, true]", ["grid.width[1]: true"]),
        (
            "[100, 1000]",
            "[1000000000000000001]",
            ["grid.width[0]: 1000000000000000001", "from 1 to 1000000000000000000"],
        ),
        (
            "[100, 1000]",
            "[1e10]",
            ["grid.width: 10000000000 neurons", "GB", "up to 10000000", "network.neurons"],
        ),
        ("[100, 1000]", "[1e3, 1.5]", ["grid.width[1]: 1.5"]),
        (
            "depth = 2",
            "depth = 2\nneurons = 15.5",
            ["network.neurons: 15.5", "a whole number from 10 to 10000000"],
        ),
        ("depth = 2", "depth = 2\nneurons = 9", ["network.neurons: 9", "from 10 to 10000000"]),
        (
            "depth = 2",
            'depth = 2\nneurons = 50\n[train]\nmethod = "gd"\nlearning_rate = 0.1',
            ["network.neurons: is not supported with the method gd", "allowed: with gradient-flow"],
        ),
        ("[100, 1000]", "1000", ["grid.width: 1000", "a list"]),
        ("[100, 1000]", "{ start = 1, stop = 10, num = 0 }", ["grid.width: num: 0"]),
        ("[100, 1000]", "{ start = 1, stop = 10, num = 1 }", ["grid.width: num = 1", "both ends"]),
        ("[100, 1000]", "{ start = 1, stop = 10 }", ["grid.width", "exactly start, stop, num"]),
        ("[100, 1000]", "{ start = nan, stop = 10, num = 3 }", ["grid.width", "finite"]),
        ("[0.5, 1.0, 1.75]", "[nan]", ["grid.gamma[0]: nan"]),
        ("[0.5, 1.0, 1.75]", "[21.0]", ["grid.gamma[0]: 21.0", "from -20 to 20"]),
        ("[0.5, 1.0, 1.75]", "[]", ["grid: no grid point: gamma or gamma_prime is empty"]),
        ("seeds = 2", "seeds = 2\npoints = [[1.0]]", ["grid.points[0][1]", "pairs"]),
        ("[0.5, 1.0, 1.75]", "{ start = 0, stop = 1, num = 3000000 }", ["grid.gamma: num: 3000000"]),
        ("depth = 2", "depth = 2.0", ["network.depth", "2.0"]),
        ("seeds = 2", "seeds = 2\n[train]\nloss_tolerance = 1e-13", ["loss_tolerance", "at least 1e-12"]),
        ('"points"', '"pionts"', ["data.kind: 'pionts'", "allowed: points, digits, mnist, cifar10, file"]),
        ('kind = "points"', "", ["data.kind: required"]),
        ("[[-1.0], [0.5]]", "[-1.0, 0.5]", ["data.x[0]: -1.0", "rows of finite numbers"]),
        ("[[-1.0], [0.5]]", "[[-1.0], [inf]]", ["data.x[1][0]: inf"]),
        ("[[-1.0], [0.5]]", "[[-1.0], [0.5, 1.0]]", ["data: the rows of x differ in length"]),
        ("[[-1.0], [0.5]]", "[[-1.0]]", ["data: x has 1 rows, y 2 numbers"]),
        ("[[-1.0], [0.5]]", "[]", ["data.x: an empty list"]),
        ("y =", "z =", ["data.z: unknown key", "allowed: kind, x, y", "; 1 more mistake"]),
        ("[network]\ndepth = 2", "", ["network: required, but missing", "[network]"]),
        ("[grid]", "[grid", ["not valid TOML", "line 10"]),
    ],
)
def test_refusals_name_the_key_and_what_is_allowed(old, new, words):
    message = refusal(edited(old, new))
    assert message.startswith("x.toml: ")
    assert "\n" not in message
    assert "http" not in message
    assert "Input should" not in message
    for word in words:
        assert word in message


def test_numbers_of_neurons_may_be_written_as_widths_are():
    text = edited("depth = 2", "depth = 2\nneurons = 1e2")
    assert parse_spec(text, "x.toml").network.neurons == 100


def test_more_jobs_than_ten_million_are_refused():
    text = edited("[100, 1000]", "{ start = 1, stop = 100000, num = 100000 }").replace(
        "seeds = 2", "seeds = 100"
    )
    assert "grid: 30000000 jobs are too many; allowed: up to 10000000" in refusal(text)


def test_the_limit_counts_all_grids():
    more = "\n[[more_grids]]\nwidth = {start = 1, stop = 500000, num = 500000}\nseeds = 11\npoints = [[1, 0]]"
    assert "jobs are too many" in refusal(MINIMAL + 2 * more)


@pytest.mark.parametrize(
    "text", ["", "name = 3", "x = " + "[" * 5000, "grid = 0x" + "f" * 9000, "kind = ''\nname = ''"]
)
def test_odd_documents_are_refused_in_one_line(text):
    assert "\n" not in refusal(text)


def test_a_wrong_kind_hides_what_follows_from_it():
    assert "more mistake" not in refusal('name = "c"\nkind = "condensed"\n[network]\nhidden = [50]')


def test_normal_form_has_compact_lists():
    lines = format_spec(parse_spec(MINIMAL, "x.toml").document()).splitlines()
    assert "x = [[-1.0], [0.5]]" in lines
    assert "more_grids" not in "\n".join(lines)


def test_file_samples_stay_open_in_the_normal_form():
    text = edited(
        'kind = "points"\nx = [[-1.0], [0.5]]\ny = [1.0, -1.0]', 'kind = "file"\npath = "a[b, ]c\\n].csv"'
    )
    spec = parse_spec(text, "x.toml")
    assert parse_spec(format_spec(spec.document()), "y.toml") == spec
    assert "samples" not in tomllib.loads(format_spec(spec.document()))["data"]


numbers = st.floats(-1e6, 1e6)
exponents = st.floats(-20, 20)
seeds = st.integers(0, 2**31 - 1)


def axes(values):
    return st.lists(values, min_size=1, max_size=5)


@st.composite
def data_tables(draw):
    kind = draw(st.sampled_from(["points", "digits", "mnist", "file"]))
    if kind == "points":
        shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 3)))
        rows = st.lists(numbers, min_size=shape[1], max_size=shape[1])
        x = draw(st.lists(rows, min_size=shape[0], max_size=shape[0]))
        return {"kind": kind, "x": x, "y": draw(st.lists(numbers, min_size=shape[0], max_size=shape[0]))}
    optional = {"samples": st.integers(1, 10**6), "seed": seeds, "standardize": st.booleans()}
    required = {"kind": st.just(kind)}
    if kind != "digits":
        required["path"] = st.text(st.characters(codec="utf-8"), min_size=1)
    return draw(st.fixed_dictionaries(required, optional=optional))


ranges = st.fixed_dictionaries({"start": exponents, "stop": exponents, "num": st.integers(2, 6)})
grids = st.fixed_dictionaries(
    {
        "width": axes(st.integers(1, 10**7)),
        "gamma": axes(exponents) | ranges,
        "gamma_prime": axes(exponents) | ranges,
        "seeds": axes(seeds) | st.integers(1, 20),
    },
    optional={"points": st.lists(st.tuples(exponents, exponents).map(list), max_size=4)},
)
train_options = {
    "accuracy": st.floats(1e-6, 0.5),
    "loss_tolerance": st.floats(1e-12, 0.5),
    "max_evaluations": st.integers(1, 10**6),
    "dtype": st.sampled_from(["float32", "float64"]),
}
fixed_steps = {"method": st.sampled_from(["gd", "adam"]), "learning_rate": st.floats(1e-300, 1e300)}
trains = st.fixed_dictionaries({}, optional=train_options) | st.fixed_dictionaries(
    fixed_steps, optional=train_options
)
documents = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True),
        "kind": st.just("phase-diagram"),
        "network": st.just({"depth": 2}),
        "data": data_tables(),
        "grid": grids,
    },
    optional={"train": trains, "more_grids": st.lists(grids, min_size=1, max_size=2)},
)


def _deeper(document, depth, gamma_1, neurons):
    represented = document.get("train", {}).get("method", "gradient-flow") == "gradient-flow"
    for grid in (document["grid"], *document.get("more_grids", ())):
        grid["gamma_1"] = gamma_1
        grid["width"] = [width if represented else min(width, 10**5) for width in grid["width"]]
    return {**document, "network": {"depth": depth, **({"neurons": neurons} if represented else {})}}


documents |= st.builds(_deeper, documents, st.integers(3, 8), exponents, st.integers(10, 10**5))


@given(documents)
@settings(max_examples=80, deadline=None)
def test_the_normal_form_parses_to_an_equal_spec(document):
    spec = parse_spec(tomli_w.dumps(document), "x.toml")
    assert parse_spec(format_spec(spec.document()), "y.toml") == spec


@given(grids)
@settings(max_examples=50, deadline=None)
def test_cells_are_distinct_and_no_more_than_the_size(document):
    grid = GridSpec.model_validate(document)
    cells = list(grid.cells())
    assert len(set(cells)) == len(cells) <= grid.size
    assert all(np.isfinite(cell).all() for cell in cells)


json_like = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
paths = st.sampled_from(
    [
        "name",
        "kind",
        "network",
        "data",
        "grid",
        "train",
        "resources",
        "samples",
        "more_grids",
        "grid.width",
        "grid.gamma",
        "grid.seeds",
        "grid.points",
        "data.x",
        "data.kind",
        "samples.points",
        "train.accuracy",
        "odd",
    ]
)


@given(documents, paths, json_like)
@settings(max_examples=150, deadline=None)
def test_anything_else_is_accepted_or_refused_in_one_line(document, path, value):
    *tables, key = path.split(".")
    target = document
    for table in tables:
        target = target.setdefault(table, {})
    target[key] = value
    try:
        spec = parse_spec(tomli_w.dumps(document), "x.toml")
    except InputError as error:
        assert str(error).startswith("x.toml: ")
        assert len(str(error).splitlines()) == 1
    else:
        assert parse_spec(format_spec(spec.document()), "y.toml") == spec


THREE_LAYERS = """
name = "three"
kind = "phase-diagram"
network = { depth = 3 }
data = { kind = "points", x = [[-1.0], [1.0]], y = [0.6, -0.4] }

[grid]
width = [100, 300, 1000]
gamma = [1.0, 1.5, 2.0]
gamma_prime = [0.0]
seeds = 1
"""


def test_three_layers_have_a_third_exponent():
    assert parse_spec(THREE_LAYERS, "x.toml").grid.gamma_1 == 0.0
    spec = parse_spec(THREE_LAYERS + "gamma_1 = 0.25", "x.toml")
    assert spec.grid.gamma_1 == 0.25
    assert "gamma_1 = 0.25" in format_spec(spec.document())
    with pytest.raises(
        InputError, match=r"x.toml: grid.gamma_1: a list of 2 .* allowed: a number from -20 to 20"
    ):
        parse_spec(THREE_LAYERS + "gamma_1 = [0.0, 0.25]", "x.toml")


def test_a_study_is_one_plane():
    further = "\n[[more_grids]]\nwidth = [10]\npoints = [[1.0, 0.0]]\nseeds = 1\ngamma_1 = 0.5"
    with pytest.raises(InputError, match="more_grids: gamma_1 differs"):
        parse_spec(THREE_LAYERS + further, "x.toml")


def test_kept_networks_of_three_layers_are_smaller():
    samples = parse_spec(THREE_LAYERS, "x.toml").samples
    assert samples.width == 300
    assert samples.points == ((1.0, 0.0), (1.5, 0.0), (2.0, 0.0))
    deeper = parse_spec(
        THREE_LAYERS.replace("gamma = [1.0, 1.5, 2.0]", "gamma = [1.0, 1.5, 2.0, 3.3]"), "x.toml"
    )
    assert deeper.samples.points == ((1.0, 0.0), (1.5, 0.0), (2.0, 0.0), (3.3, 0.0))
