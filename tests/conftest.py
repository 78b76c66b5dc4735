"""Common to all tests: a token for the clusters they start, so that Ray writes none to the home directory."""

import os

os.environ.setdefault("RAY_AUTH_TOKEN", "b" * 64)
