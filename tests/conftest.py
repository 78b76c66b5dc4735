"""Common to all tests: a token for the clusters they start, lest Ray writes one to the home directory; workers find the tests."""

import os
from pathlib import Path

os.environ.setdefault("RAY_AUTH_TOKEN", "b" * 64)
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
)
