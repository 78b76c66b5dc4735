"""Exceptions of the package. Numerical failure is never one of them: it is a status in the row of its run."""


class PhasediagError(Exception):
    """Base of every exception that this package raises on purpose."""


class InputError(PhasediagError):
    """Bad usage or bad input. The message names the file and the key where there is one, and what is allowed."""
