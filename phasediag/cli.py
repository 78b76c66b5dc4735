"""The command line. Wiring only: every command parses its arguments, calls the package and prints.

Heavy imports are inside the commands, so that `--help` is quick, and `fit` and `plot` need neither torch nor
Ray.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from . import printing
from .errors import InputError, PhasediagError
from .version import VERSION

if TYPE_CHECKING:
    from .driver import Outcome
    from .status import Status
    from .store import Store
    from .study import Study

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class _Group(TyperGroup):
    """Turns exceptions into one line on standard error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise _exit(f"error: {error}", BAD_INPUT) from None
        except (PhasediagError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise _exit(f"error: {error}", SOME_FAILED) from None
        except KeyboardInterrupt:
            raise _exit("interrupted", INTERRUPTED) from None


app = typer.Typer(
    name="phasediag",
    cls=_Group,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[str, typer.Argument(metavar="OUT", help="Folder or URI of the results.", show_default=False)]
SpecFile = Annotated[Path, typer.Argument(metavar="SPEC.toml", help="The study.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Entry point of `phasediag` and `python -m phasediag`."""
    app(prog_name="phasediag")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"phasediag {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Phase diagrams of neural networks, measured: train a grid of networks of several widths, fit how far
    their weights move as the width grows, and draw where the linear regime ends and the condensed one begins.
    Or, of kind "condensation": count the lines on which their input weights gather early in training.

    \b
    Example, from nothing to the figures:
      phasediag init study.toml
      phasediag run study.toml --out results/study
    """


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path(
        "phasediag.toml"
    ),
    kind: Annotated[
        str, typer.Option(help="What to study: phase-diagram or condensation.")
    ] = "phase-diagram",
) -> None:
    """Write a commented starter spec.

    It is a small study that runs in about a minute. An existing file is never overwritten.

    \b
    Example:
      phasediag init study.toml
      phasediag init study.toml --kind condensation
    """
    from .starters import STARTERS

    if kind not in STARTERS:
        raise InputError(f"init: --kind: {kind!r} is not supported; allowed: {', '.join(STARTERS)}")
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(STARTERS[kind])
    except FileExistsError:
        raise InputError(f"{file}: exists already; allowed: a new file") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); allowed: a new file") from None
    typer.echo(f"wrote {file}; next: phasediag run {file} --out {file.with_suffix('')}")


@app.command()
def plan(
    spec: SpecFile,
    out: Annotated[
        str | None, typer.Option("--out", help="Count what is finished in this folder.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what is to be done, and its cost.

    Counts the jobs, those that are missing and their batches. Writes nothing.

    \b
    Example:
      phasediag plan study.toml --out results/study
    """

    from joblib import cpu_count

    from .plan import make_plan
    from .store import Store
    from .studies import read_study

    study = read_study(spec)
    statuses: Mapping[str, str] = {}
    kept: set[str] = set()
    if out is not None:
        store = Store(out)
        store.check_folder()
        study = _united(study, store)
        store = store.of_kind(study.kind)
        statuses, kept = store.statuses(), store.sample_ids()
        study = study.refined(store.runs)
    slots = max(1, int(cpu_count() / study.spec.resources.cpus_per_task))
    planned = make_plan(study, statuses, kept, slots)
    if as_json:
        printing.print_json(planned.to_dict())
    else:
        printing.print_plan(planned)


@app.command()
def run(
    spec: SpecFile,
    out: Annotated[
        str,
        typer.Option("--out", help="Folder or URI (s3://, gs://) for the results.", show_default=False),
    ],
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also run the jobs again that have failed before.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            metavar="FILE",
            help="Append a line of JSON per batch of jobs; to standard output if it is -.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train what is missing on Ray, then fit and plot.

    Running it again resumes. Joins the Ray cluster of RAY_ADDRESS, or the one it was submitted to; without
    one it starts a local Ray. The exit code is 0 when all is done, 1 if some jobs failed, 2 for bad input,
    130 if interrupted.

    \b
    Example:
      phasediag run study.toml --out results/study
    """
    from .store import Store
    from .studies import read_study

    study = read_study(spec)
    store = Store(out)
    store.check_writable()
    if log is not None and str(log) != "-":
        store.check_outside(log)
    study = _united(study, store)
    store = store.of_kind(study.kind)
    store.statuses()  # foreign files in the folder: refused before anything is written
    try:
        failed = _run(study, store, retry_failed, log)
    except KeyboardInterrupt:
        resume = f"phasediag run {spec} --out {out}"
        raise _exit(f"interrupted; what is finished is kept, resume with: {resume}", INTERRUPTED) from None
    raise typer.Exit(SOME_FAILED if failed else DONE)


@app.command()
def status(
    out: Out,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the sweep to end.")] = False,
    as_json: Json = False,
) -> None:
    """Show how far a sweep is, from its folder alone.

    With --wait, waits for the sweep to end, also for one that has not begun; the exit code is then 0 if it is
    complete, 1 if it ended with failed jobs or its driver is gone with jobs missing.

    \b
    Example:
      phasediag status results/study --wait
    """
    from . import status as statuses
    from .store import Store

    store = Store(out)
    if not wait:
        printing.print_status(statuses.read_status(store), as_json)
        return
    final = statuses.wait(store, printing.StatusLog(store.out, quiet=as_json))
    printing.print_status(final, as_json)
    raise typer.Exit(SOME_FAILED if final.failed or final.missing else DONE)


@app.command()
def fit(out: Out, as_json: Json = False) -> None:
    """Fit the slopes, or count the lines, and compare with theory.

    Of a phase diagram, writes slopes.parquet. Prints how many grid points of each layer are in which regime,
    and the distance, in gamma, of the measured critical line from the predicted one. Of a condensation study, writes
    counts.parquet. Prints for each layer from when to when it has condensed, and on how many lines.

    \b
    Example:
      phasediag fit results/study
    """
    from .analysis import fit_folder, summary

    store = _existing_and_writable(out)
    fit_folder(store)
    _note_missing(_status_of(store), store.out)
    if as_json:
        printing.print_json(summary(store))
    else:
        printing.print_fit(store)


@app.command()
def plot(out: Out) -> None:
    """Draw every figure from the files alone.

    Fits the slopes, or counts the lines, first if those in the folder are not those of its runs.

    \b
    Example:
      phasediag plot results/study
    """
    from .analysis import plot_folder

    store = _existing_and_writable(out)
    _fit_if_stale(store)
    _note_missing(_status_of(store), store.out)
    for name in list(plot_folder(store)):
        typer.echo(f"wrote {store.name(name)}")


@app.command()
def compare(
    out_a: Annotated[str, typer.Argument(metavar="OUT_A", help="Study A.", show_default=False)],
    out_b: Annotated[str, typer.Argument(metavar="OUT_B", help="Study B.", show_default=False)],
    folder: Annotated[
        str | None,
        typer.Option("-o", "--out", metavar="DIR", help="Write tables and figures.", show_default=False),
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="If the grids differ, compare what both have.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two phase diagrams on one grid.

    Prints, for each layer, how much the slopes differ (B - A), at how many points more than their 95 % intervals allow,
    and how far the critical lines lie apart. Both studies have the same points, widths and seeds; data, depth and
    training may differ. With -o, writes differences.parquet, lines.parquet and a figure of every layer.

    \b
    Example:
      phasediag compare results/study results/other -o comparison
    """
    from . import comparison
    from .analysis import stored_runs, write_comparison

    stores = [_phase_diagram(out) for out in (out_a, out_b)]
    target = None if folder is None else _folder_of_its_own(folder)
    names = _same_grid(stores, common)
    for store in stores:
        _note_missing(_status_of(store), store.out)
    runs_a, runs_b = (stored_runs(store) for store in stores)
    found = comparison.compare(runs_a, runs_b, common=True, names=(out_a, out_b))
    _note_layers(out_a, out_b, set(runs_a["layer"]), set(runs_b["layer"]))
    printing.print_differences(found, {"A": (names[0], out_a), "B": (names[1], out_b)}, as_json)
    if target is not None:
        for name in write_comparison(target, found, names):
            typer.echo(f"wrote {target.name(name)}", err=as_json)


@app.command()
def report(
    out: Out,
    file: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.html",
            help="Where to write it: OUT/report.html if not given.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write one interactive page of a phase diagram.

    The file needs nothing else: it opens in any browser, without a network. Maps of every layer, and for every point
    the runs, the fit and the network that was kept. Without -o, slopes are fitted first if those in the folder are not those
    of its runs; with it, nothing is written to the folder.

    \b
    Example:
      phasediag report results/study -o study.html
    """
    from .report.content import gather, require_phase_diagram
    from .report.page import render
    from .store import Store, write_file

    store = _existing(Store(out))
    require_phase_diagram(store)
    if file is not None and file.resolve() != Path(out, "report.html").resolve():
        _check_page(store, file)
        name = str(file)
        write: Callable[[bytes], None] = partial(write_file, file)
    else:
        store.check_writable("")
        if store.statuses():
            _fit_if_stale(store)
        write, name = store.write_report, store.name("report.html")
    status = _status_of(store)
    write(render(gather(store, status)))
    _note_missing(status, store.out)
    typer.echo(f"wrote {name}")


@app.command()
def export(
    out: Out,
    file: Annotated[
        Path, typer.Argument(metavar="FILE.parquet", help="Where to write it.", show_default=False)
    ],
) -> None:
    """Write all rows to one sorted file, for an archive.

    A file of that name is replaced. It holds what runs/ holds, whatever batches the rows came in; of a sweep that
    is not complete, what there is so far, which is said on standard error.

    \b
    Example:
      phasediag export results/study study.parquet
    """
    from .store import Store

    store = _existing(Store(out))
    rows = store.export_runs(file)
    _note_missing(_status_of(store), store.out)
    typer.echo(f"wrote {file}: {rows} rows")


@app.command()
def reproduce(
    out: Out,
    job_id: Annotated[
        str, typer.Argument(metavar="JOB_ID", help="Id of the job, or its beginning.", show_default=False)
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz", help="Write the weights before and after training.", show_default=False
        ),
    ] = None,
) -> None:
    """Train one job again and compare.

    What is compared is the relative change of the weights of each layer, or of a condensation study all measures
    at every snapshot, with the stored ones. The exit code is 0 if they agree (to 1e-4 on the same kind of device,
    else to the accuracy of the study), 1 if not.

    \b
    Example:
      phasediag reproduce results/study 3f2a --weights weights.npz
    """
    from .reproduce import reproduce as reproduce_job
    from .store import Store

    comparison = reproduce_job(_existing(Store(out)), job_id, weights)
    printing.print_comparison(comparison)
    if weights is not None:
        typer.echo(f"wrote {weights}")
    raise typer.Exit(DONE if comparison.agrees else SOME_FAILED)


@app.command()
def locate(
    width: Annotated[float | None, typer.Option(help="Number of hidden neurons.", show_default=False)] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Scale 1/alpha of the output.", show_default=False)
    ] = None,
    beta_1: Annotated[
        float | None, typer.Option(help="Standard deviation of output weights.", show_default=False)
    ] = None,
    beta_2: Annotated[
        float | None,
        typer.Option(help="That of input weights; of three layers, of W2.", show_default=False),
    ] = None,
    beta_3: Annotated[
        float | None, typer.Option(help="That of the input weights W1 of three layers.", show_default=False)
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="A named initialisation: NTK, mean-field, LeCun, He, Xavier or (three layers) maximal-update.",
            show_default=False,
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(help="Layers of weights, 2 or 3: 3 if --beta-3 is given, else 2.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Locate an initialisation in the phase diagram.

    Prints its exponents and the predicted regime of every layer. Takes either the name of an
    initialisation, or the width and the scales of a network: with two layers f(x) = (1/alpha) sum_k a_k
    relu(w_k . (x, 1)) with a_k ~ N(0, beta_1^2) and w_k ~ N(0, beta_2^2); with three layers f(x) = (1/alpha) a .
    relu(W2 (relu(W1 (x, 1)), beta_3)) with a ~ N(0, beta_1^2), W2 ~ N(0, beta_2^2), W1 ~ N(0, beta_3^2).

    \b
    Examples:
      phasediag locate --width 1000 --alpha 1 --beta-1 0.03 --beta-2 1
      phasediag locate --width 100 --alpha 1 --beta-1 0.1 --beta-2 0.1 --beta-3 1
      phasediag locate --name NTK --depth 3
    """
    from .theory import LAYERS, predicted_regime

    depth = _depth_of(depth, beta_3)
    scales = {"--width": width, "--alpha": alpha, "--beta-1": beta_1, "--beta-2": beta_2}
    if depth == 3:
        scales["--beta-3"] = beta_3
    gamma, gamma_prime, gamma_1 = _exponents(scales) if name is None else _named(name, depth, scales)
    regimes = {layer: predicted_regime(layer, depth, gamma, gamma_prime, gamma_1) for layer in LAYERS[depth]}
    exponents = {"gamma": gamma, "gamma_prime": gamma_prime, "gamma_1": gamma_1}
    if as_json:
        printing.print_json({"depth": depth, **exponents, "predicted_regime": regimes})
        return
    typer.echo(f"gamma = {gamma:.6g}\ngamma' = {gamma_prime:.6g}")
    if depth == 3:
        typer.echo(f"gamma_1 = {gamma_1:.6g}")
    for layer, regime in regimes.items():
        typer.echo(f"{layer}: {regime or _why_no_regime(layer)}")


# What several commands share.


def _exit(message: str, code: int) -> typer.Exit:
    """The end of the program: its exit code, with a message on standard error."""
    typer.echo(message, err=True)
    return typer.Exit(code)


def _existing(store: Store) -> Store:
    if not store.exists():
        raise InputError(f"{store.out}: holds no study; allowed: a folder that 'phasediag run' has written")
    return store


def _existing_and_writable(out: str) -> Store:
    from .store import Store

    store = _existing(Store(out))
    store.check_writable("")
    return store


def _phase_diagram(out: str) -> Store:
    from .store import Store

    store = _existing(Store(out))
    if store.kind != "phase-diagram":
        raise InputError(f"{store.name('study.toml')}: kind: {store.kind!r}; allowed: 'phase-diagram'")
    return store


def _folder_of_its_own(out: str) -> Store:
    """A folder to write to that is not the one of a study."""
    from .store import Store

    store = Store(out)
    store.check_writable("")
    if store.exists():
        raise InputError(f"{out}: holds a study; allowed: another folder")
    return store


def _same_grid(stores: Sequence[Store], common: bool) -> tuple[str, str]:
    """The names of two studies, whose grids have to be the same, or to have something in common, whatever is finished."""
    import pandas as pd

    from .comparison import CELL, check_grids
    from .status import stored_study

    a, b = (stored_study(store) for store in stores)
    cells_a, cells_b = (pd.DataFrame(sorted(study.cells()), columns=CELL) for study in (a, b))
    check_grids(cells_a, cells_b, common, [store.out for store in stores])
    return a.spec.name, b.spec.name


def _note_layers(out_a: str, out_b: str, layers_a: set[str], layers_b: set[str]) -> None:
    for out, only in ((out_a, layers_a - layers_b), (out_b, layers_b - layers_a)):
        if only:
            typer.echo(f"left out: {', '.join(sorted(only))}, only in {out}", err=True)


def _fit_if_stale(store: Store) -> None:
    """Fits if what is fitted in the folder is not that of its runs."""
    from .analysis import fit_folder, is_fitted

    if not is_fitted(store):
        fit_folder(store)
        typer.echo(f"wrote {store.name(store.fitted_name)}")


def _check_page(store: Store, file: Path) -> None:
    if file.suffix not in (".html", ".htm"):
        raise InputError(f"{file}: is not supported; allowed: a name that ends in .html")
    store.check_outside(file)


def _status_of(store: Store) -> Status | None:
    """How far the sweep is; None where its rows may be read, but its study cannot."""
    from .status import read_status

    with suppress(InputError):
        return read_status(store)
    return None


def _note_missing(status: Status | None, out: str) -> None:
    """Says so if a sweep is not complete: what is fitted or drawn is then of a part of it."""
    if status is not None and status.missing:
        typer.echo(f"{out}: {status.missing} of {status.total} jobs have no rows yet", err=True)


def _united(study: Study, store: Store) -> Study:
    """The study together with what its folder holds already."""
    from .status import stored_study

    return study.merged_with(stored_study(store)) if store.exists() else study


def _run(study: Study, store: Store, retry_failed: bool, log_file: Path | None) -> bool:
    """Trains, fits, plots and sums up; returns whether anything failed."""
    from . import driver
    from .analysis import fit_folder, plot_folder
    from .log import Log
    from .progress import Progress, format_duration

    started = time.monotonic()
    with closing(Log(log_file)) as log, Progress().shown() as progress:

        def finish() -> None:
            progress.phase("fitting")
            fit_folder(store)
            progress.phase("drawing")
            list(plot_folder(store))

        outcome = driver.run(study, store, progress, retry_failed=retry_failed, finish=finish, log=log)
    try:
        _sum_up(outcome, store, format_duration(time.monotonic() - started))
    except InputError as error:  # of the storage: exit 2 is for what was asked for
        raise PhasediagError(str(error)) from None
    return bool(outcome.failed or outcome.failed_samples)


def _sum_up(outcome: Outcome, store: Store, duration: str) -> None:
    typer.echo(
        f"{outcome.finished} of {outcome.total} jobs finished, {outcome.failed} failed; "
        f"{outcome.trained} run now, in {duration}"
    )
    printing.print_fit(store)
    typer.echo(f"figures: {store.name('figures')}")
    if outcome.failed_samples:
        typer.echo(f"{outcome.failed_samples} networks could not be kept for the figures", err=True)
    if outcome.failed:
        printing.print_failed(outcome.failed_ids, store.errors())


def _depth_of(depth: int | None, beta_3: float | None) -> int:
    if depth not in (None, 2, 3):
        raise InputError(f"locate: --depth: {depth} is not supported; allowed: 2, 3")
    if depth == 2 and beta_3 is not None:
        raise InputError("locate: --beta-3 is not supported with --depth 2; it belongs to three layers")
    return depth or (2 if beta_3 is None else 3)


def _exponents(scales: Mapping[str, float | None]) -> tuple[float, float, float]:
    from .theory import exponents_from_scales

    missing = [option for option, value in scales.items() if value is None]
    if missing:
        raise InputError(f"locate: {', '.join(missing)} missing; needed: {', '.join(scales)}, or --name")
    return exponents_from_scales(*(value for value in scales.values() if value is not None))


def _named(name: str, depth: int, scales: Mapping[str, float | None]) -> tuple[float, float, float]:
    from .theory import NAMED_INITIALISATIONS

    given = [option for option, value in scales.items() if value is not None and option != "--width"]
    if given:
        raise InputError(f"locate: {', '.join(given)} cannot be given together with --name")
    known = NAMED_INITIALISATIONS[depth]
    for candidate, exponents in known.items():
        if candidate.lower() == name.lower():
            return *exponents, 0.0
    raise InputError(f"locate: --name: {name!r} is not known; allowed: {', '.join(known)}")


def _why_no_regime(layer: str) -> str:
    if layer == "a":
        return "no regime is predicted for this layer"
    return "no regime is predicted for gamma_1 other than 0"
