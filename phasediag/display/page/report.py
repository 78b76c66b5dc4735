"""What a page shows of a folder, and how it is drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

Content: TypeAlias = dict[str, Any]
"""What scripts show, as JSON can hold it."""


class Progress(Protocol):
    """How far the sweep of a study is."""

    @property
    def state(self) -> str:
        """complete, running or stopped."""
        ...

    @property
    def total(self) -> int:
        """Number of jobs."""
        ...

    @property
    def finished(self) -> int:
        """Jobs that have rows, without the failed ones."""
        ...

    @property
    def failed(self) -> int:
        """Jobs that could not be run."""
        ...

    @property
    def missing(self) -> int:
        """Jobs without rows."""
        ...


class Report(ABC):
    """The page of one folder. It may be asked again while a sweep goes on: it reads what is new only.

    A page has two parts. Its content shows the whole study, without single runs. The runs are shown a cell at a time: the runs at one
    point of a plane, say.

    Attributes:
        package: the package with the kind's own elements (`body.html`), their style (`body.css`), and its scripts.
        scripts: the names of these scripts, in the order in which they run, after those of every page.
    """

    package: ClassVar[str]
    scripts: ClassVar[tuple[str, ...]]

    @abstractmethod
    def content(self, progress: Progress | None) -> Content:
        """What the page shows of the folder as it is now: of every kind, what `phasediag.sweep.report.frame` returns. ``cells`` lists the
        names of the cells, ``runs`` is their number of runs.

        Args:
            progress: how far its sweep is; None where that is not known.

        Raises:
            InputError: the folder holds no study, or a file of it is damaged.
        """

    @property
    @abstractmethod
    def fitted(self) -> pd.DataFrame:
        """What is fitted to the runs of the last content: a frame with the columns of ``tables.fitted``."""

    @abstractmethod
    def runs(self, cell: str) -> Content:
        """The runs of a cell, as of the last content, column by column; without any where there is no such cell."""
