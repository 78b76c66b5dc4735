"""The version of the installed package, as it is written into every row and file."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("phasediag")
except PackageNotFoundError:
    VERSION = "0+unknown"
