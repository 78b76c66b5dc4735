"""Words for regimes, in verdicts and figures."""

from __future__ import annotations

VERBS = {
    "linear": "is lazy",
    "condensed": "condenses",
    "critical": "is critical",
    "undetermined": "is undetermined",
}
