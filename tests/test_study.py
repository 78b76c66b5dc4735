"""Jobs and their identity, the union of studies, and studies read back from storage."""

import re
from pathlib import Path

import numpy as np
import pytest

from phasediag.engine.kept import COMPILING_SECONDS
from phasediag.errors import InputError
from phasediag.kinds import named, read_study, restored_study
from phasediag.studies import Hash, Study, hash_of
from phasediag.sweep.plan import make_plan

SWEEPS = Path(__file__).parent.parent / "sweeps"
SPEC = """
name = "small"
kind = "phase-diagram"
[network]
depth = 2
[data]
kind = "points"
x = [[-1.0], [-0.35], [0.3], [1.0]]
y = [0.6, -0.4, 0.5, -0.2]
[grid]
width = [100, 1000]
gamma = [0.5, 1.0, 1.7]
gamma_prime = [0.0, 0.3]
seeds = 2
"""
THREE_WIDTHS = "[100, 1000]", "[100, 300, 1000]"


@pytest.fixture
def study_of(tmp_path):
    def read(*edits: tuple[str, str]) -> Study:
        text = SPEC
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "study.toml"
        path.write_text(text)
        return read_study(path)

    return read


def ids(study: Study) -> set[str]:
    return {job.job_id for job in study.jobs()}


def test_jobs_are_the_grid_once_and_sorted(study_of):
    jobs = study_of().jobs()
    assert len(jobs) == len({job.job_id for job in jobs}) == 2 * 3 * 2 * 2
    cells = [(job.width, job.gamma, job.gamma_prime, job.seed) for job in jobs]
    assert cells == sorted(cells)
    assert {(job.depth, job.gamma_1) for job in jobs} == {(2, 0.0)}


def test_job_ids_are_pinned(study_of):
    """A changed id orphans every stored row: it must never change."""
    study = study_of()
    assert study.data.digest == "2e1ca127bdad754bea6365ae25503acca31856c47400e0ecbbd3995b7019b67e"
    assert study.job(100, 0.5, -0.5, 0).job_id == "ab1b53952d48744556c7"


@pytest.mark.parametrize("number", [0, -3, 10**18, 0.0, -0.5, 0.1 + 0.2, 1e-7, 1e22])
def test_many_contents_have_the_ids_of_each(number):
    common = {"kind": '50 % "%(a)r" µ', "train": {"z": 1e-06, "a": None}, "last": [1, "%s"]}
    numbers = {"a": number, "middle": 7, "z": 0.25}
    assert Hash(common, numbers)(numbers) == hash_of(common | numbers)


def test_ids_do_not_depend_on_names_order_resources_or_rounding_errors(study_of):
    same = study_of(
        ('"small"', '"other"'),
        ("[100, 1000]", "[1000, 100, 100]"),
        ("[0.5, 1.0, 1.7]", "{ start = 1.7, stop = 0.5, num = 2 }"),
        ("seeds = 2", "seeds = [1, 0]\npoints = [[1, -0.0], [1.00000000000001, 0.3]]"),
        ('kind = "phase-diagram"', 'kind = "phase-diagram"\nresources = { device = "cpu" }'),
    )
    assert ids(same) == ids(study_of())


@pytest.mark.parametrize(
    "edit",
    [
        ("y = [0.6,", "y = [0.61,"),
        ("seeds = 2", "seeds = 2\n[train]\naccuracy = 0.02"),
        ("seeds = 2", "seeds = 2\n[train]\ndtype = 'float64'"),
        ("seeds = 2", "seeds = 2\n[train]\nmethod = 'gd'\nlearning_rate = 0.1"),
        ("seeds = 2", "seeds = [2, 3]"),
        ("[100, 1000]", "[101, 1001]"),
    ],
)
def test_ids_depend_on_the_content(study_of, edit):
    assert not ids(study_of(edit)) & ids(study_of())


def test_sample_jobs(study_of):
    study = study_of()
    assert [(job.gamma, job.gamma_prime, job.width, job.seed) for job in study.sample_jobs()] == [
        (0.5, 0.0, 1000, 0),
        (1.0, 0.0, 1000, 0),
        (1.7, 0.0, 1000, 0),
    ]
    assert {job.job_id for job in study.sample_jobs()} <= ids(study)


def test_samples_may_be_off_the_grid_or_none(study_of):
    aside = study_of(("seeds = 2", "seeds = 2\n[samples]\npoints = [[1.2, 0.1]]\nwidth = 50\nseed = 9"))
    (job,) = aside.sample_jobs()
    assert job == aside.job(50, 1.2, 0.1, 9)
    assert job.job_id not in ids(aside)
    assert study_of(("seeds = 2", "seeds = 2\n[samples]\npoints = []")).sample_jobs() == []


def test_stored_studies_need_no_data_file(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(5.0), y=np.arange(5.0))
    text = re.sub(r'kind = "points"\nx.*\ny.*\n', 'kind = "file"\npath = "d.npz"\n', SPEC)
    (tmp_path / "s.toml").write_text(text)
    study = read_study(tmp_path / "s.toml")
    again = restored_study(study.to_toml(), study.data.arrays(), "OUT/study.toml")
    assert (again.spec, again.data) == (study.spec, study.data)
    assert again.jobs() == study.jobs()


def test_stored_studies_keep_their_test_points(study_of):
    study = study_of(
        ("y = [0.6, -0.4, 0.5, -0.2]", "y = [0.6, -0.4, 0.5, -0.2]\nx_test = [[2.0]]\ny_test = [0.1]")
    )
    again = restored_study(study.to_toml(), study.data.arrays(), "OUT/study.toml")
    assert (again.spec, again.data, again.jobs()) == (study.spec, study.data, study.jobs())
    np.testing.assert_array_equal(again.data.x_test, [[2.0]])
    assert not ids(again) & ids(study_of())  # their rows tell of the test points


def test_specs_of_folders_of_earlier_versions_are_the_same_studies(study_of):
    """Their stored specs have no keys of test points."""
    study = study_of()
    text = study.to_toml()
    assert "test" in text and "targets" in text
    earlier = "\n".join(
        line for line in text.splitlines() if not line.startswith(("x_test", "y_test", "targets"))
    )
    stored = restored_study(earlier, study.data.arrays(), "OUT/study.toml")
    assert ids(stored) == ids(study)
    assert study.merged_with(stored).spec == study.spec


@pytest.mark.parametrize(
    ("table", "allowed"),
    [
        ('kind = "digits"', "centred, label"),
        ('kind = "cifar10"\npath = "nowhere"', "centred, label"),
        ('kind = "file"\npath = "nowhere.csv"', "number"),
        ('kind = "points"\nx = [[0.0], [1.0]]\ny = [0, 1]', "number"),
    ],
)
@pytest.mark.parametrize("kind", ["phase-diagram", "condensation"])
def test_networks_with_one_output_are_not_trained_on_classes(tmp_path, kind, table, allowed):
    starter = named(kind).starter()
    text = re.sub(r"\[data\]\n(.|\n)*?(?=\[grid\])", f'[data]\n{table}\ntargets = "class"\n', starter)
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_study(tmp_path / "s.toml")
    assert str(caught.value) == (
        f"{tmp_path / 's.toml'}: data.targets: 'class' needs an output for every class, and networks of kind {kind!r} have one; "
        f"allowed: {allowed}"
    )


def test_stored_points_must_match_their_arrays(study_of):
    study = study_of()
    with pytest.raises(InputError, match="OUT: data: the points differ from the arrays"):
        restored_study(study.to_toml(), {"x": study.data.x + 1.0, "y": study.data.y}, "OUT")


def test_union_keeps_grows_or_appends(study_of):
    stored = study_of()
    part = study_of(("[100, 1000]", "[100]"))
    grown = study_of(("[100, 1000]", "[100, 300, 1000]"))
    beside = study_of(("[0.5, 1.0, 1.7]", "[0.7]"))
    assert part.merged_with(stored).spec.grids == stored.spec.grids
    assert grown.merged_with(stored).spec.grids == grown.spec.grids
    both = beside.merged_with(stored)
    assert both.spec.grids == (stored.spec.grid, beside.spec.grid)
    assert ids(both) == ids(stored) | ids(beside)
    again = restored_study(both.to_toml(), both.data.arrays(), "OUT")
    assert again.spec == both.spec
    assert part.merged_with(again).spec.grids == both.spec.grids
    assert stored.merged_with(both).spec.grids == both.spec.grids


def test_union_allows_other_samples_and_resources(study_of):
    other = study_of(("seeds = 2", "seeds = 2\n[samples]\nwidth = 100\n[resources]\ndevice = 'cpu'"))
    merged = other.merged_with(study_of())
    assert (merged.spec.samples.width, merged.spec.resources.device) == (100, "cpu")


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        (('"small"', '"large"'), "name: 'large'"),
        (("seeds = 2", "seeds = 2\n[train]\naccuracy = 0.02"), "train.accuracy: 0.02"),
        (("seeds = 2", "seeds = 2\n[train]\ndtype = 'float64'"), "train.dtype: 'float64'"),
        (("y = [0.6,", "y = [0.61,"), "data: "),
    ],
)
def test_any_other_change_is_refused(study_of, edit, key):
    with pytest.raises(InputError) as caught:
        study_of(edit).merged_with(study_of())
    assert f"study.toml: {key}" in str(caught.value)
    assert "allowed: " in str(caught.value)


def test_unreadable_files(tmp_path):
    for path in (tmp_path, tmp_path / "missing.toml"):
        with pytest.raises(InputError, match="cannot be read"):
            read_study(path)
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(InputError, match="not UTF-8"):
        read_study(tmp_path / "latin.toml")


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    (tmp_path / "s.toml").write_text(SPEC, encoding="utf-8-sig")
    assert read_study(tmp_path / "s.toml").spec.name == "small"


@pytest.mark.parametrize(
    ("name", "jobs"), [("quickstart", 1352), ("two_layer_synthetic", 3840), ("two_layer_digits", 546)]
)
def test_published_sweeps(name, jobs):
    study = read_study(SWEEPS / f"{name}.toml")
    assert len(study.jobs()) == jobs
    assert {job.job_id for job in study.sample_jobs()} <= ids(study)
    assert len(study.sample_jobs()) == 3


def test_neurons_are_part_of_what_they_represent_and_of_nothing_else(study_of):
    """A network that is whole is the same job as in a study without the key."""
    whole, some = study_of(), study_of(("depth = 2", "depth = 2\nneurons = 100"))
    fewer = study_of(("depth = 2", "depth = 2\nneurons = 50"))
    by_cell = {(job.width, job.gamma, job.gamma_prime, job.seed): job for job in whole.jobs()}
    for job, less in zip(some.jobs(), fewer.jobs(), strict=True):
        same = by_cell[job.width, job.gamma, job.gamma_prime, job.seed]
        assert (job.neurons, less.neurons) == (100, 50)
        assert (job.job_id == same.job_id) == (job.width == 100)
        assert less.job_id not in (same.job_id, job.job_id)
        assert job.mass == job.width / 100


def test_widths_may_be_written_with_exponents(study_of):
    study = study_of(("depth = 2", "depth = 3\nneurons = 20"), ("[100, 1000]", "[1e3, 1e18]"))
    assert study.spec.grid.width == (1000, 10**18)
    assert {job.width for job in study.jobs()} == {1000, 10**18}


@pytest.mark.parametrize(
    ("neurons", "note"),
    [
        (1000, "network.neurons: 1000 changes nothing, no width is larger"),
        (10, ""),
    ],
)
def test_what_may_be_unexpected_is_told(study_of, neurons, note):
    study = study_of(("depth = 2", f"depth = 2\nneurons = {neurons}"), THREE_WIDTHS)
    assert list(study.notes()) == ([note] if note else [])


@pytest.mark.parametrize(
    ("edits", "there", "compiled"),
    [
        ((), (), ("float32",)),
        ((), ("float32",), ()),
        ((), ("float64",), ("float32",)),
        ((("depth = 2", "depth = 2\nneurons = 100"),), (), ("float32", "float64")),
        ((("depth = 2", "depth = 2\nneurons = 10"),), ("float64",), ()),
        ((("seeds = 2", 'seeds = 2\n[train]\nmethod = "gd"\nlearning_rate = 0.1'),), (), ()),
    ],
)
def test_what_is_compiled_first_is_predicted(study_of, monkeypatch, edits, there, compiled):
    monkeypatch.setattr("phasediag.sweep.plan.is_compiled", lambda precision: precision in there)
    planned = make_plan(study_of(*edits), {}, set(), 2)
    assert (planned.compiles, planned.compiling_seconds) == (compiled, len(compiled) * COMPILING_SECONDS)


@pytest.mark.parametrize(
    ("widths", "seeds", "told"),
    [
        ("[100]", 2, "one width gives no slope, so every regime will be undetermined; two widths"),
        (
            "[100, 1000]",
            1,
            "two widths and one seed give slopes without intervals",
        ),
        ("[100, 1000]", 2, "with two widths, the seeds alone give the intervals"),
        ("[100, 300, 1000]", 1, ""),
    ],
)
def test_few_widths_are_told_to_determine_no_slope_or_no_interval(study_of, widths, seeds, told):
    notes = list(study_of(("[100, 1000]", widths), ("seeds = 2", f"seeds = {seeds}")).notes())
    assert [note.startswith(f"grid.width: {told}") for note in notes] == ([True] if told else [])


@pytest.mark.parametrize(
    ("y", "rows", "least"),
    [
        ([1.0, 1.0, 1.0, 1.0], 0, 0.0),  # the same row twice is no contradiction
        ([1.0, 3.0, 1.0, 1.0], 2, 2 / 12),
        ([1.0, 1.0, 2.0, 3.0], 2, 0.5 / 15),
        ([1.0, 3.0, 2.0, 3.0], 4, 2.5 / 23),
        ([1.0, 1.0 + 1e-6, 1.0, 1.0], 2, 1.25e-13),
    ],
)
def test_rows_that_no_network_fits_are_told(study_of, y, rows, least):
    data = ("x = [[-1.0], [-0.35], [0.3], [1.0]]", "x = [[0.1], [0.1], [0.7], [0.7]]")
    edits = THREE_WIDTHS, data, ("y = [0.6, -0.4, 0.5, -0.2]", f"y = {y}")
    study = study_of(*edits)
    assert study.data.contradictions() == (rows, pytest.approx(least, rel=1e-4))
    told = list(study.notes())
    assert len(told) == (least > 1e-6)
    for note in told:
        assert note.startswith(f"data: {rows} of 4 rows ") and note.endswith(f" above {least:.3g}")
    easier = ("seeds = 2", "seeds = 2\n[train]\nloss_tolerance = 0.2")
    assert not list(study_of(*edits, easier).notes())


def test_few_neurons_for_many_points_are_told(study_of):
    x, y = [[float(i)] for i in range(12)], [1.0] * 12
    old = ("x = [[-1.0], [-0.35], [0.3], [1.0]]", f"x = {x}"), ("y = [0.6, -0.4, 0.5, -0.2]", f"y = {y}")
    [note] = study_of(("depth = 2", "depth = 2\nneurons = 10"), THREE_WIDTHS, *old).notes()
    assert note == "network.neurons: 10 for 12 data points: the error of sampling may be large"


def test_deeper_networks_have_an_accuracy_of_their_own(study_of):
    def accuracy(*edits):
        return study_of(*edits).spec.train.accuracy

    deeper = ("depth = 2", "depth = 4")
    assert (accuracy(), accuracy(deeper)) == (0.01, 0.03)
    given = ("seeds = 2", "seeds = 2\n[train]\naccuracy = 0.02")
    assert accuracy(deeper, given) == 0.02
    fixed = ("seeds = 2", 'seeds = 2\n[train]\nmethod = "gd"\nlearning_rate = 0.1')
    assert accuracy(deeper, fixed) == 0.01
