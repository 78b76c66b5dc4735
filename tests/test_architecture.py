"""The shape of the package: who imports what."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import phasediag

ROOT = Path(phasediag.__file__).parent
FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
"""Path by module, "store" or "engine.flow"."""
PACKAGES = {name.removesuffix(".__init__") for name in FILES if name.endswith(".__init__")}


def imported(module: str, at_top: bool) -> Iterator[str]:
    """Names of imported modules: "torch", or ".store" and ".engine.flow" within the package; at the top level only, or anywhere.

    What is imported for the type checker alone does not count.
    """
    tree = ast.parse(FILES[module].read_text())
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
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield from (f".{name}" for name in within(module, node))
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).partition(".")[0]


def within(module: str, node: ast.ImportFrom) -> Iterator[str]:
    """The modules of this package that a relative import names."""
    folder = module.split(".")[: -node.level]
    target = ".".join([*folder, *([node.module] if node.module else [])])
    if target and target not in PACKAGES:
        yield target
        return
    for alias in node.names:
        inside = f"{target}.{alias.name}".removeprefix(".")
        yield inside if inside in FILES or inside in PACKAGES else f"{target}.__init__".removeprefix(".")


def test_imports_within_the_package_are_all_known() -> None:
    unknown = {
        name
        for module in FILES
        for name in imported(module, at_top=False)
        if name.startswith(".") and name[1:] not in FILES
    }
    assert not unknown


def test_one_module_imports_ray() -> None:
    assert [name for name in FILES if "ray" in imported(name, at_top=False)] == ["driver"]


def test_torch_belongs_to_the_engines() -> None:
    users = {name for name in FILES if "torch" in imported(name, at_top=True)}
    assert {name.partition(".")[0] for name in users} == {"engine", "condensation"}
    assert {name for name in users if name.startswith("condensation")} == {
        "condensation.networks",
        "condensation.descent",
        "condensation.flow",
    }


def test_there_are_no_import_cycles() -> None:
    graph = {name: {one[1:] for one in imported(name, at_top=True) if one.startswith(".")} for name in FILES}
    graph.pop("__main__")
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_reading_fitting_and_plotting_need_little() -> None:
    """Only pandas, pyarrow, numpy, scipy and matplotlib (and what these need)."""
    script = (
        "import sys, phasediag\n"
        "from phasediag import analysis, comparison, difference_map, store\n"
        "from phasediag.condensation import clusters, counts, directions, figures\n"
        "from phasediag.report import content, page\n"
        "phasediag.compare, phasediag.fit, phasediag.plot_map, phasediag.critical_line\n"
        "print(*{'torch', 'ray', 'pydantic', 'typer', 'rich', 'sklearn', 'tomli_w', 'numba', 'plotly'} & set(sys.modules))"
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
