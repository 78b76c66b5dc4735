"""Studies from arrays: the same jobs as those of a file, and one clear message for every mistake."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import phasediag
from phasediag import InputError
from phasediag.storage.store import Store

X, Y = np.array([-1.0, -0.35, 0.3, 1.0]), np.array([0.6, -0.4, 0.5, -0.2])
GRID = {"width": [20, 40, 80], "gamma": np.linspace(0.5, 1.5, 3), "gamma_prime": [0], "seeds": 2}


def test_a_study_of_arrays_has_the_jobs_and_the_rows_of_the_file_with_the_same_points(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(
        f"""
        name = "study"
        kind = "phase-diagram"
        network = {{ depth = 2 }}
        data = {{ kind = "points", x = {[[x] for x in X.tolist()]}, y = {Y.tolist()} }}
        grid = {{ width = [20, 40, 80], gamma = [0.5, 1.0, 1.5], gamma_prime = [0], seeds = 2 }}
        train = {{ accuracy = 0.05 }}
        """
    )
    of_file = phasediag.read_study(file)
    study = phasediag.study(X, Y, accuracy=0.05, **GRID)
    assert [job.job_id for job in study.jobs()] == [job.job_id for job in of_file.jobs()]
    runs, expected = (phasediag.train(one) for one in (study, of_file))
    assert list(runs.columns) == list(expected.columns)
    numbers = ["job_id", "layer", "status", "evaluations", "relative_change", "loss_final"]
    pd.testing.assert_frame_equal(runs[numbers], expected[numbers], check_exact=True)


def test_training_warns_once_of_what_plan_notes() -> None:
    study = phasediag.study(X, Y, width=[10], gamma=[0.5], gamma_prime=[0.0], seeds=1, neurons=1000)
    with warnings.catch_warnings(record=True, action="always") as caught:
        phasediag.train(study)
    assert [str(warning.message) for warning in caught] == [f"study(): {note}" for note in study.notes()]
    assert [str(warning.message)[:30] for warning in caught] == [
        "study(): grid.width: one width",
        "study(): network.neurons: 1000",
    ]
    assert {(warning.category, warning.filename) for warning in caught} == {(UserWarning, __file__)}


def test_the_folder_of_such_a_study_is_a_spec_with_its_data(tmp_path: Path) -> None:
    study = phasediag.study(X, Y, x_test=[2.0, 3.0], y_test=[1.0, 0.0], **GRID)
    np.testing.assert_array_equal(study.data.x_test, [[2.0], [3.0]])
    store = Store(str(tmp_path), phasediag.kinds.named("phase-diagram").tables)
    store.write_study(study.to_toml())
    store.write_data(study.data.arrays())
    again = phasediag.read_study(tmp_path / "study.toml")
    assert again.data == study.data
    assert again.spec == study.spec
    assert phasediag.kinds.stored_study(store).cells() == study.cells()


@pytest.mark.parametrize(
    ("x", "y"),
    [(X.tolist(), Y.tolist()), (pd.Series(X), pd.Series(Y)), (pd.DataFrame({"x": X}), Y), (X[:, None], Y)],
)
def test_lists_series_and_frames_are_arrays(x: object, y: object) -> None:
    study = phasediag.study(x, y, **GRID)
    assert study.data.x.shape == (4, 1)
    assert study.data == phasediag.study(X, Y, **GRID).data


def test_numbers_of_numpy_and_single_ones_are_axes() -> None:
    study = phasediag.study(
        X,
        Y,
        width=np.array([20, 40]),
        gamma=np.float64(1),
        gamma_prime=0,
        seeds=range(2),
        accuracy=np.float32(0.5),
    )
    assert len(study.jobs()) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": [1.0, float("nan"), 2.0, 3.0]}, r"study\(\): x: row 1 holds nan; allowed: finite numbers"),
        ({"x": X[:3]}, r"study\(\): x \(3, 1\) and y \(4,\) do not agree"),
        ({"x_test": X}, r"study\(\): y_test: missing; allowed: both x_test and y_test, or neither"),
        (
            {"x_test": X, "y_test": Y},
            r"study\(\): 4 of 4 test points are training points, the first in row 1",
        ),
        ({"x_test": [[1.0, 2.0]], "y_test": [1.0]}, r"study\(\): x_test \(1, 2\) has not the inputs of x"),
        ({"x": np.array([object()] * 4)}, r"study\(\): x: object \(4,\); allowed: finite numbers"),
        (
            {"x": np.array([1, 2, 3, 4], object)},
            r"allowed: finite numbers, \(n,\) or \(n, d\), as x.astype\(float\) has them$",
        ),
        ({"x": np.ones((4, 2, 2))}, r"as x.reshape\(len\(x\), -1\) has them$"),
        (
            {"y": Y[:, None]},
            r"study\(\): y: float64 \(4, 1\); allowed: finite numbers, \(n,\), as y.ravel\(\) has them$",
        ),
        ({"y": Y[:, None].astype(object)}, r"as y.astype\(float\).ravel\(\) has them$"),
        ({"x": [], "y": []}, r"study\(\): x \(0, 1\) is empty; allowed: \(n, d\), at least two"),
        ({"depth": 9, "seeds": 0}, r"study\(\): .*; 1 more mistake$"),
        ({"x": [[1.0], [1.0, 2.0]]}, r"study\(\): x: no array \(.*\); allowed: finite numbers"),
        ({"y": ["a", "b", "c", "d"]}, r"study\(\): y: <U1 \(4,\); allowed: finite numbers, \(n,\)$"),
        ({"y": np.ones((4, 2))}, r"study\(\): y: float64 \(4, 2\); allowed: finite numbers, \(n,\)$"),
        ({"y": np.zeros(4)}, r"study\(\): y is zero everywhere"),
        ({"width": [0]}, r"study\(\): width\[0\]: .*allowed: a list of whole numbers from 1 to"),
        ({"gamma": "wide"}, r"study\(\): gamma: .*allowed: a list of numbers"),
        ({"gamma": ()}, r"study\(\): .*no grid point"),
        ({"depth": 9}, r"study\(\): depth: .*allowed: a whole number from 2 to 8"),
        (
            {"accurcy": 0.1},
            r"study\(\): accurcy: not an argument; did you mean 'accuracy'\? allowed: width, gamma",
        ),
        ({"gama": [1]}, r"study\(\): gama: not an argument; did you mean 'gamma'\?"),
        ({"width": None, "widht": [10]}, r"study\(\): widht: not an argument; did you mean 'width'\?"),
        ({"width": None}, r"study\(\): width: required, but missing"),
        ({"accuracy": 2}, r"study\(\): accuracy: .*allowed: a number above 0, at most 0.5"),
        ({"refine": {"targt": 1}}, r"study\(\): refine.targt: .*did you mean 'target'"),
    ],
)
def test_every_mistake_is_one_message(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        phasediag.study(**{"x": X, "y": Y, **GRID, **change})
    assert "\n" not in str(error.value)


def test_a_dict_is_no_file() -> None:
    with pytest.raises(
        InputError, match=r"read_study\(\): dict; allowed: the path of a TOML file \(of arrays"
    ):
        phasediag.read_study({"name": "study"})  # type: ignore[arg-type]


def test_the_name_is_the_function_whatever_has_been_imported() -> None:
    code = "import phasediag.cli, phasediag.studies, phasediag; assert callable(phasediag.study)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_studies_say_what_they_are() -> None:
    assert repr(phasediag.study(X, Y, **GRID)) == "study (phase-diagram), 18 networks on x (4, 1), y (4,)"


def test_a_path_is_no_study() -> None:
    with pytest.raises(
        InputError, match=r"train\(\): str; allowed: a study, as phasediag.read_study returns"
    ):
        phasediag.train("study.toml")  # type: ignore[arg-type]
