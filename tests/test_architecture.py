"""The shape of the package: who imports what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import phasediag

ROOT = Path(phasediag.__file__).parent
FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
"""Path by module, "kinds" or "engine.flow"."""
PACKAGES = {name.removesuffix(".__init__") for name in FILES if name.endswith(".__init__")}


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


@cache
def imported(module: str, at_top: bool, hints: bool = False) -> tuple[str, ...]:
    """Names of imported modules: "torch", or ".study" and ".engine.flow" within the package; at the top level only, or anywhere.

    What is imported for the type checker alone counts only with `hints`.
    """
    return tuple(_imported(module, at_top, hints))


def _imported(module: str, at_top: bool, hints: bool) -> Iterator[str]:
    tree = parsed(module)
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in typing and not hints:
            continue
        if at_top and not (id(node) in top or id(node) in typing):
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
    assert [name for name in FILES if "ray" in imported(name, at_top=False)] == ["sweep.ray_cluster"]


def test_torch_belongs_to_what_trains_with_tensors() -> None:
    assert {name for name in FILES if "torch" in imported(name, at_top=True)} == {
        "engine.card_measures",
        "engine.cards",
        "engine.descent",
        "engine.kernels",
        "engine.relu_gpu",
        "engine.threads",
        "condensation.descent",
        "condensation.flow",
        "condensation.networks",
        "modules.alike",
        "modules.data",
        "modules.descent.course",
        "modules.descent.gradients",
        "modules.descent.lanes",
        "modules.descent.optimised",
        "modules.descent.together",
        "modules.descent.train",
        "modules.examples.cnn",
        "modules.examples.mlp",
        "modules.examples.transformer",
        "modules.linearised",
        "modules.measures",
        "modules.networks",
        "modules.probe",
        "modules.training",
        "modules.where.command",
        "modules.where.measuring",
    }


def arrows(at_top: bool, hints: bool) -> dict[str, set[str]]:
    """Which modules every module imports; with `hints`, also those that only the type checker follows."""
    graph = {
        name: {one[1:] for one in imported(name, at_top, hints) if one.startswith(".")} for name in FILES
    }
    for entrance in ("__main__", "__init__"):  # nothing imports them
        graph.pop(entrance)
    return graph


def test_there_are_no_circles_of_files() -> None:
    TopologicalSorter(arrows(at_top=True, hints=True)).prepare()  # raises CycleError


ROOMS = ("spec", "storage", "display", "engine", "sweep", "condensation", "phase_diagram", "modules")
"""Folders from the ground up: none imports from one that stands behind it."""


@pytest.mark.parametrize("folder", ["", *sorted(PACKAGES - {"__init__"})])
def test_there_are_no_circles_of_rooms(folder: str) -> None:
    """What stands side by side in a folder, files and folders, has no circle, wherever in a file the import stands."""
    graph: dict[str, set[str]] = defaultdict(set)
    for name, targets in arrows(at_top=False, hints=True).items():
        here = room(name, folder)
        graph[here] |= {room(target, folder) for target in targets} - {here, ""} if here else set()
    TopologicalSorter(graph).prepare()


def room(module: str, folder: str) -> str:
    """What of a folder holds a module: one of its files or folders; nothing if the module is not in it, or is the door of the folder."""
    inside = module if not folder else module.removeprefix(f"{folder}.")
    outside = bool(folder) and inside == module
    return "" if outside else inside.partition(".")[0].removesuffix("__init__")


def test_no_arrow_runs_up() -> None:
    for name, targets in arrows(at_top=False, hints=True).items():
        here = name.partition(".")[0]
        above = ROOMS[ROOMS.index(here) + 1 :] if here in ROOMS else ()
        assert not {target for target in targets if target.partition(".")[0] in above}, name


KINDS = {"phase-diagram": "phase_diagram", "condensation": "condensation", "module": "modules"}
"""The folder of each kind."""


def test_the_top_has_at_most_ten_names_beside_the_kinds() -> None:
    names = {name.partition(".")[0] for name in FILES} - {"__init__", "__main__", *KINDS.values()}
    assert len(names) <= 10, sorted(names)


def strings(module: str) -> Iterator[str]:
    """The strings in a module's code, docstrings and help texts of parameters left out."""
    tree = parsed(module)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def test_one_module_names_the_kinds() -> None:
    """Beside their own folders. Nor does any other module import from these, but for what the package shows, `locate` and `where`."""
    kinds, folders = set(KINDS), set(KINDS.values())
    naming = {name for name in FILES if kinds & set(strings(name)) and name.partition(".")[0] not in folders}
    assert naming == {"kinds"}
    knowing = {
        name
        for name, targets in arrows(at_top=False, hints=True).items()
        if name.partition(".")[0] not in folders and {one.partition(".")[0] for one in targets} & folders
    }
    assert knowing == {"cli"}
    of_cli = {one for one in imported("cli", at_top=False) if one[1:].partition(".")[0] in folders}
    assert of_cli == {
        ".modules.where.command",
        ".phase_diagram.figures.location",
        ".phase_diagram.locate.networks",
        ".phase_diagram.locate.scales",
    }


def test_no_module_asks_a_frame_or_an_object_for_its_kind() -> None:
    """No check for a column of one kind in `columns`, and no `isinstance` with a class of a kind, outside of its folder."""
    from phasediag.condensation.columns import TABLES as CONDENSATION
    from phasediag.modules.columns import TABLES as MODULES
    from phasediag.phase_diagram.columns import TABLES as PHASE_DIAGRAM

    own = {
        "phase_diagram": {name for table in PHASE_DIAGRAM.by_name().values() for name in table.names},
        "modules": {name for table in MODULES.by_name().values() for name in table.names},
        "condensation": {name for table in CONDENSATION.by_name().values() for name in table.names},
    }
    for module in FILES:
        folder = module.partition(".")[0]
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant):
                asked = ast.unparse(node.comparators[0])
                if (
                    asked.endswith((".columns", ".names"))
                    and node.left.value in own["phase_diagram"] ^ own["condensation"]
                ):
                    assert node.left.value in own.get(folder, ()), f"{module}: {ast.unparse(node)}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                assert folder in own or not re.search("Study|Spec|Kind", ast.unparse(node.args[1])), (
                    ast.unparse(node)
                )


def test_the_seam_between_kinds_and_the_rest_is_typed() -> None:
    """`Any` would switch the type checker off in `Study`, `Trainer`, `Kind` and `Executor`."""
    for module in ("studies", "kinds", "sweep.executor", "sweep.sweep", "sweep.worker", "sweep.local"):
        names = {node.id for node in ast.walk(parsed(module)) if isinstance(node, ast.Name)}
        assert "Any" not in names, module


def test_reading_fitting_and_plotting_need_little() -> None:
    """Only pandas, pyarrow, numpy, scipy and matplotlib (and what these need)."""
    script = (
        "import sys, phasediag\n"
        "from phasediag import kinds\n"
        "from phasediag.sweep import results\n"
        "from phasediag.phase_diagram import comparison, fitting, refinement\n"
        "from phasediag.phase_diagram.figures import all, difference\n"
        "from phasediag.condensation import clusters, counts, directions, figures\n"
        "from phasediag.phase_diagram.report import content\n"
        "from phasediag.condensation.report import content\n"
        "from phasediag.modules.where import figure, verdict\n"
        "[kinds.named(name, '').tables for name in kinds.names()]\n"
        "phasediag.compare, phasediag.fit, phasediag.plot_map, phasediag.critical_line\n"
        "print(*{'torch', 'ray', 'pydantic', 'typer', 'rich', 'sklearn', 'tomli_w', 'numba', 'plotly'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert output.stdout.strip() == ""


def test_public_names_are_functions_whatever_was_imported_first() -> None:
    script = (
        "import phasediag.phase_diagram.fitting, phasediag.studies, phasediag.kinds, phasediag\n"
        "print(*(callable(getattr(phasediag, name)) for name in phasediag.__all__ if name[0] != '_'))"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert set(output.stdout.split()) == {"True"}


def test_importing_everything_scans_no_entry_points() -> None:
    """What other packages bring is looked for when it is asked for: a scan reads the metadata of every installed package."""
    script = (
        "import importlib.metadata as metadata, importlib, sys\n"
        "scanned = metadata.entry_points\n"
        "def scan(**those):\n"
        "    assert not those.get('group', '').startswith('phasediag'), those\n"
        "    return scanned(**those)\n"
        "metadata.entry_points = scan\n"
        f"for name in {sorted(set(FILES) - {'__main__', 'sweep.ray_cluster'})!r}:\n"
        "    importlib.import_module('phasediag.' + name.removesuffix('__init__').rstrip('.') if name != '__init__' else 'phasediag')\n"
        "print('done')"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert output.stdout.strip() == "done"
