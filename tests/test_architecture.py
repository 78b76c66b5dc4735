"""The shape of the package: who imports what."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import phasediag

FILES = {path.stem: path for path in Path(phasediag.__file__).parent.glob("*.py")}
HEAVY = {"torch", "ray"}


def imported(path: Path, at_top: bool) -> Iterator[str]:
    """Names of imported modules: "torch", or ".store" within the package; at the top level only, or anywhere.

    What is imported for the type checker alone does not count.
    """
    tree = ast.parse(path.read_text())
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in tree.body if at_top else ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level and not node.module:
                yield from (f".{alias.name}" for alias in node.names)
            else:
                yield "." * node.level + str(node.module).partition(".")[0]


def test_one_module_imports_ray() -> None:
    assert [name for name, path in FILES.items() if "ray" in imported(path, at_top=False)] == ["driver"]


def test_torch_belongs_to_the_engine() -> None:
    users = {name for name, path in FILES.items() if "torch" in imported(path, at_top=True)}
    assert users == {
        "networks",
        "two_layer",
        "two_layer_cpu",
        "three_layer",
        "three_layer_cpu",
        "flow",
        "descent",
        "line",
    }


def test_there_are_no_import_cycles() -> None:
    graph = {
        name: {one[1:] for one in imported(path, at_top=True) if one.startswith(".")}
        for name, path in FILES.items()
    }
    graph.pop("__main__")
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_reading_fitting_and_plotting_need_little() -> None:
    """Only pandas, pyarrow, numpy, scipy and matplotlib (and what these need)."""
    script = (
        "import sys, phasediag\n"
        "from phasediag import store, analysis\n"
        "phasediag.fit, phasediag.plot_map, phasediag.critical_line\n"
        "print(*{'torch', 'ray', 'pydantic', 'typer', 'rich', 'sklearn', 'tomli_w', 'numba'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert output.stdout.strip() == ""


def test_public_names_are_functions_whatever_was_imported_first() -> None:
    script = (
        "import phasediag.fitting, phasediag.training, phasediag.figures, phasediag\n"
        "print(*(callable(getattr(phasediag, name)) for name in phasediag.__all__ if name[0] != '_'))"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert set(output.stdout.split()) == {"True"}
