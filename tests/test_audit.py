"""Several condensation studies in one table and one figure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from studies import store_of

from phasediag.condensation import audit
from phasediag.condensation.columns import TABLES
from phasediag.condensation.counts import summarise
from phasediag.condensation.figures import names_of_stds
from phasediag.display.figures import render
from phasediag.errors import InputError


def rows(method: str, lines: dict[tuple[str, int], int]) -> list[dict[str, Any]]:
    """Two seeds, three snapshots; x_tanh never condenses at the larger std."""
    found = []
    for (activation, multiplicity), number in lines.items():
        for dimension in (1, 5):
            for std in (0.001, 0.1):
                for seed in (0, 1):
                    for epoch in (0, 10, 100):
                        condensed = epoch == 10 and (std < 0.01 or activation == "tanh")
                        values = {field.name: np.nan for field in TABLES.runs}
                        found.append(
                            values
                            | {
                                "job_id": f"{method}{activation}{dimension}{std}{seed}",
                                "layer": "H1",
                                "activation": activation,
                                "activations": activation,
                                "multiplicity": multiplicity,
                                "hidden": 50,
                                "dimension": dimension,
                                "std": std,
                                "method": method,
                                "seed": seed,
                                "epoch": epoch,
                                "lines": float(number),
                                "aligned_fraction": 0.95 if condensed else 0.1,
                                "predicted_fraction": 0.5,
                                "sign_fraction": 0.9 if method == "adam" else np.nan,
                                "active_neurons": 50.0,
                                "evaluations": 5,
                                "status": "converged",
                                "error": "",
                                "device": "cpu",
                                "version": "0",
                            }
                        )
    return found


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    found = []
    for method, lines in (
        ("adam", {("tanh", 1): 1, ("x_tanh", 2): 4, ("relu", 0): 3}),
        ("normalized-gd", {("tanh", 1): 1, ("x_tanh", 2): 2, ("relu", 0): 3}),
    ):
        store = store_of("condensation", tmp_path / method)
        store.write_study('name = "x"\nkind = "condensation"\n')
        store.publish_runs(rows(method, lines))
        found.append(store.out)
    return found


def test_the_table_tells_where_neurons_condense_and_what_holds_there(folders: list[str]) -> None:
    table = audit.table(summarise(audit.read_runs(folders)))
    found = table.set_index(["method", "activation", "std"])
    assert found.loc[("adam", "x_tanh", 0.001), "condensed"] == "2 of 2"
    assert found.loc[("adam", "x_tanh", 0.1), "condensed"] == "0 of 2"
    assert found.loc[("adam", "x_tanh", 0.001), "lines"] == "4"
    assert found.loc[("adam", "x_tanh", 0.001), "within_bound"] == 0.0
    assert found.loc[("normalized-gd", "x_tanh", 0.001), "within_bound"] == 1.0
    assert found.loc[("adam", "tanh", 0.001), "as_predicted"] == 0.9
    assert found.loc[("normalized-gd", "tanh", 0.001), "as_predicted"] == 0.5


def test_the_figure_has_a_row_for_each_optimiser_and_a_column_for_each_activation(folders: list[str]) -> None:
    figure = audit.figure_of(summarise(audit.read_runs(folders)))
    titled = [ax for ax in figure.axes if ax.get_title()]
    assert len(titled) == 4
    assert [ax.get_title().split("\n")[0] for ax in titled[:3]] == ["tanh", r"$x\,\tanh x$", "ReLU"]
    panels = [ax for ax in figure.axes if len(ax.texts) == 4]
    assert len(panels) == 2 * 3
    assert len(render(figure)["png"]) > 10_000


def test_activations_that_packages_bring_have_columns_of_their_own(folders: list[str]) -> None:
    summary = summarise(audit.read_runs(folders)).replace({"activation": {"x_tanh": "bump", "relu": "also"}})
    figure = audit.figure_of(summary)
    titled = [ax.get_title().split("\n")[0] for ax in figure.axes if ax.get_title()]
    assert titled[:3] == ["tanh", "also", "bump"]
    assert list(audit.table(summary)["activation"].unique()) == ["tanh", "also", "bump"]


def test_scales_are_written_in_powers_of_ten_where_they_are_small() -> None:
    assert names_of_stds([0.005, 0.1]) == ["0.005", "0.1"]
    assert names_of_stds([5e-5, 0.001]) == [r"$5\cdot10^{-5}$", "$10^{-3}$"]


def test_the_program_prints_the_table_and_draws(folders: list[str], tmp_path: Path) -> None:
    out = tmp_path / "audit.svg"
    command = [sys.executable, "-m", "phasediag.condensation.audit", *folders, "-o", str(out)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "within_bound" in result.stdout and f"wrote {out}" in result.stdout
    assert out.read_bytes().startswith(b"<?xml")


def test_folders_that_hold_something_else_are_refused(folders: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing: holds no condensation study"):
        audit.read_runs([*folders, str(tmp_path / "nothing")])
    (tmp_path / "phase").mkdir()
    (tmp_path / "phase" / "study.toml").write_text('kind = "phase-diagram"\n')
    with pytest.raises(InputError, match="phase: holds no condensation study"):
        audit.read_runs([str(tmp_path / "phase")])
    command = [sys.executable, "-m", "phasediag.condensation.audit", folders[0], "-o", "audit.pdf"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stderr == (
        "error: audit.pdf: is not supported; allowed: a .png or .svg file\n"
    )


def test_one_plain_frame_of_two_studies_can_be_counted(folders: list[str]) -> None:
    runs = audit.read_runs(folders)
    assert isinstance(runs, pd.DataFrame) and set(runs["method"]) == {"adam", "normalized-gd"}
