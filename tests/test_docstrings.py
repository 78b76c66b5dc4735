"""Docstrings make sense alone, as an editor or the reference shows them: without the definition above."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "phasediag"
# They hang on a definition above. Longer words may begin with them: "Offsets", "Assigns", "Items".
HANGING = (
    "The same",
    "Those",
    "These",
    "Theirs",
    "Their",
    "Of",
    "As",
    "That",
    "It",
    "Its",
    "Likewise",
    "Ditto",
)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def name_of(path):
    return str(path.relative_to(PACKAGE.parent))


def texts_of(tree):
    """Line and text of every docstring, and of every string under a constant."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value.strip()


def hangs(text):
    return any(text.startswith(word) and not text[len(word) :][:1].isalpha() for word in HANGING)


def public(tree):
    """The public functions, classes and methods of a module, each with its class or None."""
    for node in tree.body:
        if isinstance(node, DEFINITIONS) and not node.name.startswith("_"):
            yield node, tree if isinstance(tree, ast.ClassDef) else None
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def is_interface(node):
    return any(ast.unparse(base).partition("[")[0] in ("ABC", "Protocol") for base in node.bases)


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def test_no_docstring_hangs_on_the_definition_above(trees):
    found = [
        f"{name_of(path)}:{line}: {text.splitlines()[0]}"
        for path, tree in trees.items()
        for line, text in texts_of(tree)
        if hangs(text)
    ]
    assert not found, "\n".join(found)


def test_every_public_definition_has_a_docstring(trees):
    """Methods whose meaning an abstract base or a Protocol of the package tells go without."""
    told = {
        node.name
        for tree in trees.values()
        for node, home in public(tree)
        if home is not None and is_interface(home) and ast.get_docstring(node)
    }
    missing = [
        f"{name_of(path)}:{node.lineno}: {node.name}"
        for path, tree in trees.items()
        if not any(part.startswith("_") for part in path.relative_to(PACKAGE).parts)
        for node, home in public(tree)
        if not ast.get_docstring(node) and not (home is not None and node.name in told)
    ]
    modules = [name_of(path) for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
    assert not missing + modules, "\n".join(missing + modules)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Those of a layer.", True),
        ("Of a layer.", True),
        ("Offsets.", False),
        ("The samest.", False),
        ("Its value.", True),
    ],
)
def test_words_count_as_a_whole(text, expected):
    assert hangs(text) == expected
