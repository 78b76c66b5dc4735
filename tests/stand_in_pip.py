"""`pip install` as blocks of the documentation call it, without a network: extras of phasediag have to exist, a folder with modules and
entry points is installed in $SITE."""

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def install(folder: Path, site: Path) -> None:
    """What setuptools would do with a folder of modules."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    home = site / f"{name.replace('-', '_')}-{version}.dist-info"
    home.mkdir(parents=True)
    (home / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = project["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *map(" = ".join, points.items()))]
    (home / "entry_points.txt").write_text("\n".join(lines))
    for module in folder.glob("*.py"):
        shutil.copy(module, site)


def main(command: str, *wanted: str) -> None:
    assert command == "install"
    for want in wanted:
        own = re.fullmatch(r"\.(?:\[(\w+)\])?", want)
        if own:
            assert own[1] is None or own[1] in PROJECT["optional-dependencies"], want
        elif want.startswith("./"):
            install(Path(want), Path(os.environ["SITE"]))
        else:
            assert want == "-e", f"{want} would be downloaded"


if __name__ == "__main__":
    main(*sys.argv[1:])
