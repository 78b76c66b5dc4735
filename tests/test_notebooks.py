"""The notebooks of `examples/`, each run as Jupyter runs it. `python tests/test_notebooks.py` stores what they show now."""

import base64
from io import BytesIO
from pathlib import Path

import nbformat
import pytest
from heads import environment
from nbclient import NotebookClient
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
MOST_BYTES = 150_000
"""Of one notebook's pictures: every version of them stays in the repository."""


def executed(path):
    """A notebook with what its cells show when they are run, in a kernel of its own."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, record_timing=False, resources={"metadata": {"path": EXAMPLES}}
    )
    client.execute(env=environment())
    return notebook


def outputs_of(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def shown(notebook):
    """The kinds of output of each cell: pictures, tables, text. Numbers differ between machines."""
    return [
        [sorted(output.get("data", {output.get("name"): ""})) for output in cell.get("outputs", [])]
        for cell in notebook.cells
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_it_stores(path):
    stored = nbformat.read(path, as_version=4)
    assert shown(executed(path)) == shown(stored)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pictures_are_stored_and_small(path):
    kept = [output.get("data", {}) for output in outputs_of(nbformat.read(path, as_version=4))]
    pictures = [len(base64.b64decode(data["image/png"])) for data in kept if "image/png" in data]
    assert len(pictures) > 1 and sum(pictures) < MOST_BYTES


def with_small_pictures(notebook):
    """A notebook whose pictures have 128 colours, which takes a third of the bytes."""
    for data in (output.get("data", {}) for output in outputs_of(notebook)):
        if "image/png" in data:
            picture, small = Image.open(BytesIO(base64.b64decode(data["image/png"]))), BytesIO()
            picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
            data["image/png"] = base64.b64encode(small.getvalue()).decode()
    return notebook


if __name__ == "__main__":
    for path in NOTEBOOKS:
        nbformat.write(with_small_pictures(executed(path)), path)
