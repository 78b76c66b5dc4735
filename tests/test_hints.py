"""What messages ask about a name that is not known."""

import pytest

from phasediag.errors import hint

COMMANDS = ["init", "plan", "run", "status", "fit", "plot"]


@pytest.mark.parametrize(
    ("given", "names", "meant"),
    [
        ("rum", COMMANDS, "run"),
        ("rnu", COMMANDS, "run"),
        ("fti", COMMANDS, "fit"),
        ("plto", COMMANDS, "plot"),
        ("Statsu", COMMANDS, "status"),
        ("nkt", ["LeCun", "NTK"], "NTK"),
        ("jpg", ["png", "svg", "pdf"], None),
        ("W3", ["W1", "W2", "a"], None),
        ("train", COMMANDS, None),
        (3, COMMANDS, None),
    ],
)
def test_a_slip_of_the_fingers_is_recognised(given, names, meant):
    assert hint(given, names) == (f"did you mean '{meant}'? " if meant else "")
