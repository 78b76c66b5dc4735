"""What a kind of study is, and which kinds there are.

A kind is one object: its spec, its jobs and their training, its fits and its figures. No other module asks of which kind a study is. The
kinds of the package, and the kinds that other packages bring by an entry point in the group ``phasediag.kinds``, are imported on first
use:

    [project.entry-points."phasediag.kinds"]
    my-kind = "my_package.kind:KIND"          # an instance of a subclass of `Kind`
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pyarrow import fs

from .errors import InputError, choices
from .spec.paths import at_home, hint_beside
from .storage.schema import Tables
from .storage.store import Store

if TYPE_CHECKING:  # reading, fitting and plotting need none of it
    import pandas as pd
    from matplotlib.figure import Figure

    from .display.figures import Drawing
    from .display.page.report import Report
    from .display.terminal import TextTable
    from .spec.tables import Table
    from .studies import AnyStudy, Job, Trainer

SpecT = TypeVar("SpecT", bound="Table")
StudyT = TypeVar("StudyT")
JobT = TypeVar("JobT", bound="Job")

GROUP = "phasediag.kinds"
"""The group of entry points by which packages bring kinds."""
_OWN = {
    "phase-diagram": "phasediag.phase_diagram.kind:KIND",
    "condensation": "phasediag.condensation.kind:KIND",
    "module": "phasediag.modules.kind:KIND",
}
DEFAULT = next(iter(_OWN))
"""The kind of a new study by default."""


class Kind(ABC, Generic[SpecT, StudyT, JobT]):
    """A kind of study. Its methods import what they need: reading, fitting and drawing go without torch and without Ray.

    Attributes:
        name: what ``kind = "..."`` says in a spec.
        tables: the tables of its folders.
    """

    name: str
    tables: Tables

    # From a file to jobs and rows.

    def starter(self) -> str:
        """The commented spec that `phasediag init` writes: the file `starter.toml` beside the module of the kind."""
        return files(type(self).__module__.rpartition(".")[0]).joinpath("starter.toml").read_text("utf-8")

    @abstractmethod
    def spec(self) -> type[SpecT]:
        """What a spec of this kind may hold."""

    @abstractmethod
    def study(self, spec: SpecT, folder: Path, source: str) -> StudyT:
        """The study of a spec that was read from the file `source` in `folder`, with its data.

        Raises:
            InputError: the data cannot be read, or cannot be trained on.
        """

    @abstractmethod
    def restored(self, spec: SpecT, arrays: Mapping[str, NDArray[np.generic]], source: str) -> StudyT:
        """The study of stored results, from its spec and the arrays of `data.npz`.

        Raises:
            InputError: the spec and the arrays contradict each other.
        """

    @abstractmethod
    def trainer(self, study: StudyT) -> Trainer[JobT]:
        """What trains the jobs of a study."""

    # From rows to what is fitted and drawn.

    @abstractmethod
    def fit(self, runs: pd.DataFrame) -> pd.DataFrame:
        """What follows from the rows of ``runs/``: a frame with the columns of ``tables.fitted``."""

    @abstractmethod
    def summary(self, store: Store) -> Mapping[str, object]:
        """The output of `phasediag fit` for a folder, as JSON can hold it."""

    @abstractmethod
    def print_summary(self, summary: Mapping[str, object]) -> None:
        """Prints what `summary` returns, for people."""

    def finding(self, fitted: pd.DataFrame) -> str:
        """The main result in what was fitted, in a few words."""
        return ""

    def thumbnail(self, fitted: pd.DataFrame) -> bytes:
        """A small picture of what was fitted, a PNG; empty if there is nothing to see."""
        return b""

    @abstractmethod
    def figures(self, results: Held) -> Mapping[str, Drawing]:
        """What draws every figure that a folder allows, by the name of its file without the ending."""

    @abstractmethod
    def reproducible(self, rows: pd.DataFrame) -> Reproducible:
        """What of the rows of one job training it again has to give."""

    # What not every kind can do.

    def scaling(self, results: Held, points: Sequence[str]) -> Mapping[str, Drawing]:
        """What draws the figures of `phasediag plot --points`, at these points of the plane as they are typed, by the names of
        their files.

        Raises:
            InputError: a point cannot be read or is not in the study, or the kind has no such figures.
        """
        raise self._lacks("scaling", results.store)

    def report(self, store: Store) -> Report:
        """What makes the interactive page of a folder.

        Raises:
            InputError: the kind has no such page.
        """
        raise self._lacks("report", store)

    def measures(self) -> Sequence[tuple[str, str]]:
        """The measures of this kind that `measure` takes: the name of each, and what it is."""
        return ()

    def measure(self, results: Held, name: str, fitted: bool = False) -> Measured:
        """What a folder says of one measure, by the name of its column.

        Raises:
            InputError: there is no such measure, or none that is `fitted`; the rows have no value of it, or the kind has no measures.
        """
        raise self._lacks("measure", results.store)

    def compare(self, a: Store, b: Store, common: bool) -> Compared:
        """What differs between two folders of this kind; with `common`, of the points that both have.

        Raises:
            InputError: their grids differ, or the kind has no comparison.
        """
        raise self._lacks("compare", a)

    def require(self, what: str, store: Store) -> None:
        """Raises `InputError` if `what`, a method that not every kind has, is none of this one's."""
        if getattr(type(self), what) is getattr(Kind, what):
            raise self._lacks(what, store)

    def _lacks(self, what: str, store: Store) -> InputError:
        """The message for something that this kind cannot do."""
        able = [name for name in names() if getattr(type(named(name)), what) is not getattr(Kind, what)]
        return InputError(
            f"{store.name('study.toml')}: kind: {self.name!r} has no '{what}'; allowed: {', '.join(able)}"
        )


@dataclass(frozen=True)
class Reproducible:
    """The numbers of a job that training it again has to give.

    Attributes:
        network: which network it is, in words.
        measure: what the numbers are.
        numbers: by name.
    """

    network: str
    measure: str
    numbers: Mapping[str, float]


class Held(Protocol):
    """What a folder of results holds."""

    @property
    def store(self) -> Store:
        """The folder."""
        ...

    @property
    def runs(self) -> pd.DataFrame:
        """The rows of ``runs/``."""
        ...

    @property
    def fitted(self) -> pd.DataFrame:
        """What is fitted to exactly these runs."""
        ...

    @property
    def samples(self) -> pd.DataFrame:
        """The networks that were kept whole; without rows if there are none."""
        ...

    @property
    def data(self) -> Mapping[str, NDArray[np.generic]]:
        """The arrays of ``data.npz``; none where the file is missing."""
        ...


class Measured(Protocol):
    """What a folder says of one measure."""

    def summary(self) -> Mapping[str, object]:
        """What is fitted, as JSON can hold it.

        Raises:
            InputError: the measure is not fitted, but shown as values.
        """
        ...

    def tables(self) -> Sequence[TextTable]:
        """What is fitted in numbers, for people."""
        ...

    def figures(self) -> Mapping[str, Drawing]:
        """What draws the figures of the measure, by the names of their files without the ending."""
        ...

    def write(self, store: Store) -> Iterator[str]:
        """Writes what is fitted to a folder; yields the name of each file."""
        ...


class Compared(Protocol):
    """What differs between two studies A and B."""

    @property
    def notes(self) -> Iterable[str]:
        """What to know of the comparison, a line each."""
        ...

    def summary(self) -> Mapping[str, object]:
        """The comparison as JSON can hold it."""
        ...

    def tables(self) -> Sequence[TextTable]:
        """The comparison in numbers, for people."""
        ...

    def remarks(self) -> Sequence[str]:
        """What the tables leave open, a line each."""
        ...

    def figures(self) -> Mapping[str, Figure]:
        """The figures of the comparison, by the names of their files without the ending."""
        ...

    def write(self, store: Store) -> Iterator[str]:
        """Writes tables and figures to a folder; yields the name of each file."""
        ...


AnyKind: TypeAlias = "Kind[Table, AnyStudy, Job]"
"""A kind that is not known here."""


# Which there are.


def names() -> list[str]:
    """The names of all kinds, the package's own first."""
    return [*_OWN, *sorted(_brought().keys() - _OWN.keys())]


def named(name: object, where: str = GROUP) -> AnyKind:
    """The kind of this name, which stands at `where`: a file and a key, or an option, for error messages.

    Raises:
        InputError: there is no such kind, or the package that brings it is broken.
    """
    if isinstance(name, str) and name in _OWN:
        own: AnyKind = resolve_name(_OWN[name])
        return own
    brought = _brought()
    if not isinstance(name, str) or name not in brought:
        from .spec.tables import shown

        raise InputError(f"{where}: {shown(name)} is not supported; {choices(name, names())}")
    try:
        kind: AnyKind = brought[name].load()
    except Exception as error:  # whatever a package of somebody else does
        raise InputError(
            f"{where}: {name!r} cannot be loaded from {brought[name].value} ({type(error).__name__}: {error}); "
            f"allowed: {', '.join(names())}"
        ) from None
    return kind


def _brought() -> dict[str, EntryPoint]:
    """The kinds that packages bring, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


# Studies and their folders.


def parse_spec(text: str, source: str) -> Table:
    """The spec in the TOML `text` of the file `source`, with every default filled in.

    Raises:
        InputError: the text is not TOML, or holds something that is not allowed.
    """
    return _parsed(text, source)[1]


def _parsed(text: str, source: str) -> tuple[AnyKind, Table]:
    """The kind and the spec in a text, as `parse_spec` reads it."""
    from .spec.parse import parse_document, validate

    document = parse_document(text, source)
    if "kind" not in document:
        raise InputError(f"{source}: kind: required, but missing; allowed: {', '.join(names())}")
    kind = named(document["kind"], f"{source}: kind")
    return kind, validate(document, kind.spec(), source)


def read_study(path: str | Path) -> AnyStudy:
    """Reads the TOML file of a study, and its data.

    Raises:
        InputError: the file or its data cannot be read, or hold something that is not allowed.
    """
    if not isinstance(path, str | Path):
        raise InputError(
            f"read_study(): {type(path).__name__}; allowed: the path of a TOML file (of arrays, phasediag.study makes a study)"
        )
    path = at_home(path, "SPEC")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(
            f"{path}: cannot be read ({reason}); {hint_beside(path)}allowed: a TOML file"
        ) from None
    kind, spec = _parsed(text, str(path))
    return kind.study(spec, path.parent, str(path))


def restored_study(text: str, arrays: Mapping[str, NDArray[np.generic]], source: str) -> AnyStudy:
    """The study of stored results: the text of their `study.toml` and the arrays of `data.npz`.

    The file the data came from is not needed any more.

    Raises:
        InputError: the text or the arrays are not valid, or contradict each other.
    """
    kind, spec = _parsed(text, source)
    return kind.restored(spec, arrays, source)


def open_store(out: str | Path, filesystem: fs.FileSystem | None = None) -> Store:
    """The folder `out`, with the tables of the study that it holds, or else those of the default kind.

    Raises:
        InputError: the folder cannot be reached, or its `study.toml` is no study.
    """
    store = Store(out, named(DEFAULT).tables, filesystem)
    return store.with_tables(kind_in(store).tables)


def kind_in(store: Store) -> AnyKind:
    """The kind of the study in a folder; the default where there is none yet.

    Raises:
        InputError: its `study.toml` is no study of any kind.
    """
    document = store.read_document()
    return named(DEFAULT if document is None else document.get("kind"), f"{store.name('study.toml')}: kind")


def stored_study(store: Store) -> AnyStudy:
    """The study of a folder.

    Raises:
        InputError: the folder holds none, or a part of it is missing or damaged.
    """
    text = require_study(store)
    data = store.read_data()
    if data is None:
        raise InputError(
            f"{store.name('data.npz')}: missing; allowed: a folder that 'phasediag run' has written"
        )
    return restored_study(text, data, store.name("study.toml"))


def require_study(store: Store) -> str:
    """The text of the study of a folder. Raises `InputError` if it holds none."""
    text = store.read_study()
    if text is None:
        close = hint_beside(store.out, folders=True)
        files = store.files
        below = sum(files.is_file(f"{name}/study.toml") for name in files.folders())
        among = f"'phasediag list {store.out}' shows {below} below it; " if below else close
        raise InputError(
            f"{store.out}: holds no study; {among}allowed: a folder that 'phasediag run' has written"
        )
    return text
