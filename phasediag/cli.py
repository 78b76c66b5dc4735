"""The command line. Wiring only: every command parses its arguments, calls the package and prints.

Heavy imports are inside the commands, so that `--help` is quick, and `fit` and `plot` need neither torch nor
Ray.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from .errors import InputError, PhasediagError
from .version import VERSION

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from .plan import Plan
    from .reproduce import Comparison
    from .status import Status
    from .store import Store
    from .study import Study

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_STATUS_LINE_SECONDS = 15.0


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
) -> None:
    """Write a commented starter spec.

    It is a small study that runs in about a minute. An existing file is never overwritten.

    \b
    Example:
      phasediag init study.toml
    """
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(STARTER_SPEC)
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
    import os

    from .plan import make_plan
    from .store import Store
    from .study import read_study

    study = read_study(spec)
    statuses: Mapping[str, str] = {}
    kept: set[str] = set()
    if out is not None:
        store = Store(out)
        store.check_folder()
        study = _united(study, store)
        store = store.of_kind(study.kind)
        statuses, kept = store.statuses(), store.sample_ids()
    slots = max(1, int((os.cpu_count() or 1) / study.spec.resources.cpus_per_task))
    planned = make_plan(study, statuses, kept, slots)
    if as_json:
        _print_json(planned.to_dict())
    else:
        _print_plan(planned)


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
    from .study import read_study

    study = read_study(spec)
    store = Store(out)
    store.check_writable()
    study = _united(study, store)
    store = store.of_kind(study.kind)
    store.statuses()  # foreign files in the folder: refused before anything is written
    try:
        failed = _run(study, store, retry_failed)
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
        _print_status(statuses.read_status(store), as_json)
        return
    final = statuses.wait(store, _StatusLog(quiet=as_json))
    _print_status(final, as_json)
    raise typer.Exit(SOME_FAILED if final.failed or final.missing else DONE)


@app.command()
def fit(out: Out, as_json: Json = False) -> None:
    """Fit the slopes and compare with theory.

    Writes slopes.parquet. Prints how many grid points of each layer are in which regime, and the distance, in
    gamma, of the measured critical line from the predicted one.

    \b
    Example:
      phasediag fit results/study
    """
    from .analysis import fit_folder
    from .store import Store

    slopes = fit_folder(_existing(Store(out)))
    if as_json:
        _print_json(_fit_summary(slopes))
    else:
        _print_fit(slopes)


@app.command()
def plot(out: Out) -> None:
    """Draw every figure from the files alone.

    Fits first if the slopes are not there or not those of the runs.

    \b
    Example:
      phasediag plot results/study
    """
    from .analysis import fit_folder, is_fitted, plot_folder
    from .store import Store

    store = _existing(Store(out))
    if not is_fitted(store):
        fit_folder(store)
        typer.echo(f"wrote {store.name(store.fitted_name)}")
    for name in list(plot_folder(store)):
        typer.echo(f"wrote {store.name(name)}")


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

    What is compared is the relative change of the weights of each layer with the stored one. The exit code is
    0 if they agree (to 1e-4 on the same kind of device, else to the accuracy of the study), 1 if not.

    \b
    Example:
      phasediag reproduce results/study 3f2a --weights weights.npz
    """
    from .reproduce import reproduce as reproduce_job
    from .store import Store

    comparison = reproduce_job(_existing(Store(out)), job_id, weights)
    _print_comparison(comparison)
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
        _print_json({"depth": depth, **exponents, "predicted_regime": regimes})
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


def _united(study: Study, store: Store) -> Study:
    """The study together with what its folder holds already."""
    from .status import stored_study

    return study.merged_with(stored_study(store)) if store.exists() else study


def _run(study: Study, store: Store, retry_failed: bool) -> bool:
    """Trains, fits, plots and sums up; returns whether anything failed."""
    from . import driver
    from .analysis import fit_folder, plot_folder
    from .progress import Progress, format_duration

    started = time.monotonic()
    slopes: list[pd.DataFrame] = []
    with Progress().shown() as progress:

        def finish() -> None:
            progress.phase("fitting")
            slopes.append(fit_folder(store))
            progress.phase("drawing")
            list(plot_folder(store))

        outcome = driver.run(study, store, progress, retry_failed=retry_failed, finish=finish)
    seconds = format_duration(time.monotonic() - started)
    typer.echo(
        f"{outcome.finished} of {outcome.total} jobs finished, {outcome.failed} failed; "
        f"{outcome.trained} run now, in {seconds}"
    )
    _print_fit(slopes[0])
    typer.echo(f"figures: {store.name('figures')}")
    if outcome.failed_samples:
        typer.echo(f"{outcome.failed_samples} networks could not be kept for the figures", err=True)
    if outcome.failed:
        typer.echo(
            f"{outcome.failed} jobs failed; 'phasediag run' tries them again with --retry-failed", err=True
        )
    return bool(outcome.failed or outcome.failed_samples)


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


# Printing.


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(_json_ready(content), indent=2, allow_nan=False))


def _json_ready(content: Any) -> Any:
    """The same with None in the place of numbers that JSON does not have."""
    if isinstance(content, Mapping):
        return {str(key): _json_ready(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_json_ready(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _table(*columns: str) -> Table:
    """An empty table: the first column left-aligned, the others, of numbers, to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def _print_plan(planned: Plan) -> None:
    from .progress import format_duration

    table = _table(planned.grouped_by, "jobs", "finished", "failed", "missing", "batches", "CPU time")
    for row in planned.groups:
        counts = (row.group, row.total, row.finished, row.failed, row.missing, row.batches)
        table.add_row(*map(str, counts), format_duration(row.cpu_seconds))
    _console().print(table)
    typer.echo(
        f"{planned.total} jobs: {planned.finished} finished, {planned.failed} failed, "
        f"{planned.missing} missing; {planned.samples} networks to be kept whole"
    )
    typer.echo(
        f"{planned.batches} batches; predicted: {format_duration(planned.cpu_seconds)} of CPU time, "
        f"{format_duration(planned.wall_seconds)} of training here with {planned.slots} at a time"
    )


def _print_status(status: Status, as_json: bool) -> None:
    if as_json:
        _print_json(status.to_dict())
    else:
        typer.echo(_status_line(status))


def _status_line(status: Status) -> str:
    from .progress import format_duration

    counts = f"{status.finished} done, {status.failed} failed, {status.missing} missing"
    parts = [f"{status.name}: {status.state}, {counts}"]
    if status.rate:
        parts.append(f"{status.rate:.1f} jobs/s")
    if status.seconds_left is not None and status.missing:
        parts.append(f"{format_duration(status.seconds_left)} left")
    return ", ".join(parts)


class _StatusLog:
    """Prints a status now and then, if it has changed."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._shown = ""
        self._time = -math.inf

    def __call__(self, status: Status) -> None:
        line = _status_line(status)
        due = time.monotonic() - self._time >= _STATUS_LINE_SECONDS
        if self._quiet or not due or line == self._shown or status.state != "running":
            return
        self._shown, self._time = line, time.monotonic()
        typer.echo(line)
        sys.stdout.flush()


def _fit_summary(slopes: pd.DataFrame) -> dict[str, Any]:
    from .analysis import line_distances
    from .fitting import regime_counts

    counted = slopes[["runs", "left_out"]].sum()
    return {
        "regimes": regime_counts(slopes),
        "critical_line_distance": line_distances(slopes),
        "runs": int(counted["runs"]),
        "left_out": int(counted["left_out"]),
    }


def _print_fit(slopes: pd.DataFrame) -> None:
    from .fitting import REGIMES

    summary = _fit_summary(slopes)
    table = _table("grid points", *REGIMES)
    for layer, counts in summary["regimes"].items():
        table.add_row(layer, *(str(counts[regime]) for regime in REGIMES))
    _console().print(table)
    lines = _table("critical line, off the predicted one in gamma", "mean", "largest", "rows")
    for layer, by_slope in summary["critical_line_distance"].items():
        for column, distance in by_slope.items():
            lines.add_row(f"{layer}, {_SLOPE_NAMES[column]}", *_distance_cells(distance))
    if lines.row_count:
        _console().print(lines)
    if summary["left_out"]:
        rows = summary["runs"] + summary["left_out"]
        typer.echo(
            f"{summary['left_out']} of {rows} rows are left out of the fits: their runs did not converge"
        )


_SLOPE_NAMES = {"slope": "slope over the widths", "slope_infinite": "slope at infinite width"}


def _distance_cells(distance: Mapping[str, float]) -> tuple[str, str, str]:
    rows = f"{distance['rows']:.0f} of {distance['crossed']:.0f}"
    if not distance["rows"]:
        return "-", "-", rows
    return f"{distance['mean']:.3f}", f"{distance['max']:.3f}", rows


def _print_comparison(comparison: Comparison) -> None:
    job = comparison.job
    typer.echo(
        f"job {job.job_id}: width {job.width}, gamma {job.gamma:g}, gamma' {job.gamma_prime:g}, "
        f"seed {job.seed}"
    )
    table = _table("relative change", "stored", "recomputed", "difference")
    for layer, stored in comparison.stored.items():
        recomputed = comparison.recomputed.get(layer, math.nan)
        table.add_row(layer, f"{stored:.8g}", f"{recomputed:.8g}", f"{comparison.difference(layer):.1e}")
    _console().print(table)
    verdict = "agree" if comparison.agrees else "do not agree"
    devices = f"stored: {comparison.device_stored or 'unknown'}, here: {comparison.device}"
    typer.echo(f"they {verdict} to {comparison.tolerance:g} relative ({devices})")


STARTER_SPEC = """\
# A study for phasediag: which networks to train, on what data. Run it with
#
#     phasediag run THIS_FILE --out OUT
#
# Unknown keys are errors; keys that are commented out show their defaults.

name = "starter"                  # letters, digits, - and _
kind = "phase-diagram"

[network]
depth = 2                         # layers of weights: two for one hidden layer, three for two of equal width
activation = "relu"

[data]
kind = "points"                   # points | digits | mnist | file
x = [[-1.0], [-0.35], [0.3], [1.0]]                 # n rows of d numbers
y = [0.6, -0.4, 0.5, -0.2]                          # n numbers

[grid]                            # every width and every seed at every point (gamma, gamma_prime)
width = [100, 300, 1000]          # the slope over these widths decides the regime
gamma = { start = 0.5, stop = 2.0, num = 7 }        # both ends included; a list works as well
gamma_prime = { start = -0.5, stop = 1.0, num = 7 }
seeds = 2                         # 0 and 1; a list works as well
# points = [[1.1, 0.05]]          # further pairs beside the product of gamma and gamma_prime
#                                 # three layers have a key gamma_1 as well, 0 unless given

# [train]
# method = "gradient-flow"        # or "gd", "adam", with a fixed step: these need learning_rate = 0.1, for example
# accuracy = 0.01                 # of gradient-flow: relative error allowed on the relative change of the weights
# loss_tolerance = 1e-6           # converged: the loss has fallen to this fraction of the loss of f = 0
# max_evaluations = 20000
# dtype = "float32"               # or "float64"

# [resources]                     # of one task
# device = "auto"                 # auto | cpu | cuda
# cpus_per_task = 1
# gpus_per_task = 0.0             # 0.25: four tasks share a GPU

# [samples]                       # networks kept whole, for the figures of functions and features
# points = [[0.5, 0.0], [1.0, 0.0], [1.75, 0.0]]
# width = 1000
# seed = 0
"""
