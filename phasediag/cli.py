"""The command line. Wiring only: every command parses its arguments, calls the package and prints.

Commands import large packages inside their functions, so that `--help` is quick, and `fit` and `plot` need neither torch nor Ray.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from .display import completion
from .display.streams import check_written, unfailing, unheeded
from .display.terminal import say
from .errors import InputError, PhasediagError, choices, hint
from .spec.paths import at_home
from .sweep.interruption import interruptible

if TYPE_CHECKING:
    from .display.progress import Progress
    from .storage.store import Store
    from .studies import AnyStudy
    from .sweep.executor import Executor
    from .sweep.status import Status
    from .sweep.sweep import Opening, Outcome

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


_UsageError: Any = typer.BadParameter.__base__  # the parser's own, which typer does not export


class _Group(TyperGroup):
    """Turns exceptions into one line on standard error and an exit code."""

    def main(self, *args: Any, **options: Any) -> Any:
        # Interruptible also as the first process of a container, which SIGTERM would not end.
        with unfailing(), interruptible():
            return super().main(*args, **options)

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **options: Any) -> Any:
        nothing = not args  # the parser empties it
        try:
            return super().make_context(info_name, args, parent, **options)
        except _UsageError as error:
            if nothing:
                raise  # what is raised then shows the help
            raise _usage_error(error) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            raise InputError(f"No such command '{args[0]}'; {choices(args[0], self.commands)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            try:
                super().invoke(ctx)
                code = DONE
            except typer.Exit as end:
                code = end.exit_code
            check_written()
        except InputError as error:
            raise _exit(f"error: {error}", BAD_INPUT) from None
        except _UsageError as error:
            raise _usage_error(error) from None
        except (PhasediagError, OSError) as error:
            raise _exit(f"error: {error}", SOME_FAILED) from None
        except KeyboardInterrupt:
            raise _exit("interrupted", INTERRUPTED) from None
        raise typer.Exit(code)


app = typer.Typer(
    name="phasediag",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _path(text: str) -> Path:
    return at_home(text, "FILE")


Out = Annotated[
    str,
    typer.Argument(
        metavar="OUT",
        help="Folder or URI of the results.",
        show_default=False,
        autocompletion=completion.study_folders,
    ),
]
Root = Annotated[
    str,
    typer.Argument(
        metavar="[ROOT]",
        help="Folder or URI below which the studies are: the working directory, if not given.",
        show_default=False,
        autocompletion=completion.study_folders,
    ),
]
SpecFile = Annotated[
    Path,
    typer.Argument(
        parser=_path,
        metavar="SPEC.toml",
        help="The study.",
        show_default=False,
        autocompletion=completion.spec_files,
    ),
]
MeasureName = Annotated[
    str | None,
    typer.Option(
        "--measure",
        metavar="MEASURE",
        help="Of this measure instead of the relative change: kernel_change, say, or another column of the rows.",
        show_default=False,
        autocompletion=lambda ctx: _measure_names(ctx),
    ),
]


def _picture(help_text: str) -> Any:
    """The option of a command that also draws a figure."""
    return typer.Option("--figure", parser=_path, metavar="FILE.png", help=help_text, show_default=False)


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


# Names that the shell offers for an argument, beside those of `display.completion`: some with a line on each.


def _kind_names() -> list[str]:
    from . import kinds

    return kinds.names()


def _sweep_names() -> list[tuple[str, str]]:
    from .spec.sweeps import sweeps

    return [(sweep.name, sweep.title) for sweep in sweeps().values()]


def _figure_names(ctx: typer.Context) -> list[str]:
    out = next(iter(ctx.args), ctx.params.get("out"))  # an option without its value ends the parsing
    return completion.figure_names(out) if out else []


def _measure_names(ctx: typer.Context) -> list[tuple[str, str]]:
    from .kinds import kind_in, open_store

    out = next(iter(ctx.args), ctx.params.get("out"))
    with suppress(InputError, OSError):
        return list(kind_in(open_store(out)).measures()) if out else []
    return []


def _initialisations() -> list[str]:
    from .phase_diagram.locate.scales import initialisations

    return initialisations()


def main() -> None:
    """Entry point of `phasediag` and `python -m phasediag`."""
    os.environ["MPLBACKEND"] = "agg"  # a notebook's own, handed down, need not be installed here
    if sys.argv[1:2] in (["--install-completion"], ["--show-completion"]) and sys.argv[2:]:
        # so typer's options take the name of a shell, and otherwise ignore it
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    app(prog_name="phasediag")


def _print_version(wanted: bool) -> None:
    if wanted:
        from .storage.schema import VERSION

        say(f"phasediag {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Measure phase diagrams of neural networks: train a grid of networks of several widths, fit how the change of
    their weights grows with the width, and draw where the linear regime ends and the condensed regime begins.
    Studies of kind "condensation" count the lines on which input weights gather early in training.

    \b
    Example, from nothing to the figures:
      phasediag init study.toml
      phasediag run study.toml --out results/study
    """


@app.command()
def init(
    file: Annotated[
        Path | None,
        typer.Argument(
            parser=_path,
            metavar="[FILE]",
            help="Where to write it: phasediag.toml, or NAME.toml with --from, if not given.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Kind of study: phase-diagram (default), condensation, module, or a kind of an installed package.",
            show_default=False,
            autocompletion=_kind_names,
        ),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME",
            help="Write this sweep of the package instead of the starter; --list names them.",
            show_default=False,
            autocompletion=_sweep_names,
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the sweeps of the package.")] = False,
) -> None:
    """Write a commented starter spec.

    The starter is a small study that runs in about a minute. With --from, write a sweep of the published maps instead. An existing file is
    never overwritten.

    \b
    Examples:
      phasediag init study.toml
      phasediag init study.toml --kind condensation
      phasediag init --list
      phasediag init --from two_layer_synthetic
    """
    from . import kinds
    from .spec.sweeps import sweep_named
    from .storage.files import check_outside_studies

    if listed:
        _list_sweeps()
        return
    needs = ""
    if origin is None:
        file = file or Path("phasediag.toml")
        starter = kinds.named(kinds.DEFAULT if kind is None else kind, "init: --kind").starter()
    elif kind is not None:
        raise InputError("init: --kind cannot be given together with --from")
    else:
        sweep = sweep_named(origin, "init: --from")
        file = file or Path(f"{sweep.name}.toml")
        starter, needs = sweep.text, sweep.data
    check_outside_studies(file)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(starter)
    except FileExistsError:
        raise InputError(f"{file}: exists already; allowed: a new file") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); allowed: a new file") from None
    out = file.with_suffix("") if file.suffix else file.with_name(f"{file.name}-results")
    say(f"wrote {file}; next: {_run_command(file, out)}")
    if needs:
        say(f"before that, put its data at {file.parent / needs}: data.path in {file} says where they are")


@app.command()
def plan(
    spec: SpecFile,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="Count the finished jobs of this folder.",
            show_default=False,
            autocompletion=completion.study_folders,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Kind of device that costs are predicted for, cpu or cuda. Default: the one that a sweep would use.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the jobs of a study, and their cost.

    Counts all jobs, the missing jobs and their batches. Writes nothing.

    \b
    Example:
      phasediag plan study.toml --out results/study
    """

    from . import devices
    from .display.terminal import print_json
    from .kinds import read_study
    from .sweep.plan import make_plan
    from .sweep.printing import print_plan

    study = read_study(spec)
    statuses: Mapping[str, str] = {}
    kept: set[str] = set()
    if out is not None:
        study, store = _united(study, out)
        statuses, kept = store.statuses(), store.sample_ids()
        study = study.refined(store.runs)
    for note in study.notes():
        say(f"{spec}: {note}", error=True)
    resources = study.spec.resources
    if device not in (None, "cpu", "cuda"):
        raise InputError(f"--device: {device!r}; allowed: cpu, cuda")
    study = study.on(
        device or ("cuda" if resources.device != "cpu" and devices.gpus() else study.planned_device)
    )
    slots = max(1, int(devices.cores() / resources.cpus_per_task))
    if study.planned_device == "cuda":
        slots = max(1, int(max(devices.gpus(), 1) / (resources.gpus_per_task or 1)))
    planned = make_plan(study, statuses, kept, slots)
    if as_json:
        print_json(planned.to_dict())
    else:
        print_plan(planned)


@app.command()
def run(
    spec: SpecFile,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            help="Folder or URI (s3://, gs://) for the results.",
            show_default=False,
            autocompletion=completion.study_folders,
        ),
    ],
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also run failed jobs again.")] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Train in this process, on all of its cores, without Ray.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            parser=_path,
            metavar="FILE",
            help="Append a line of JSON per batch of jobs; - is standard output.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train the missing jobs on Ray, then fit and plot.

    The same command resumes. It joins the Ray cluster of RAY_ADDRESS, or the cluster that it was submitted to;
    otherwise it starts a local Ray. With --local this process trains, for a container or a laptop where Ray cannot start. The folder is
    the same, and a sweep can change from one to the other. The exit code is 0 when all is done, 1 if some jobs failed, 2 for bad
    input, 130 if interrupted.

    \b
    Example:
      phasediag run study.toml --out results/study
      phasediag run study.toml --out results/study --local
    """
    from .kinds import read_study

    study, store = _united(read_study(spec), out, writable=True)
    if log is not None and str(log) != "-":
        store.files.check_outside(log)
    try:
        failed = _run(study, store, _opening(local), retry_failed, log)
    except KeyboardInterrupt:
        resume = _run_command(spec, out, *(["--local"] if local else []))
        raise _exit(f"interrupted; finished rows are kept, resume with: {resume}", INTERRUPTED) from None
    raise typer.Exit(SOME_FAILED if failed else DONE)


@app.command()
def status(
    out: Out,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the sweep to end.")] = False,
    as_json: Json = False,
) -> None:
    """Show the progress of a sweep, from its folder alone.

    With --wait, waits for the sweep to end, even if it has not begun. The exit code is then 0 if it is
    complete, 1 if it ended with failed jobs or its driver is gone with jobs missing.

    \b
    Example:
      phasediag status results/study --wait
    """
    from .kinds import open_store
    from .sweep import status as statuses
    from .sweep.printing import StatusLog, print_status

    store = open_store(out)
    if not wait:
        print_status(statuses.read_status(store), as_json)
        return
    with unheeded():
        final = statuses.wait(store, StatusLog(store.out, quiet=as_json))
        print_status(final, as_json)
    raise typer.Exit(SOME_FAILED if final.failed or final.missing else DONE)


@app.command("list")
def list_(
    root: Root = ".",
    as_json: Json = False,
) -> None:
    """List the studies below a folder, and how far they are.

    Reads folders alone. The result of a phase diagram is the mean distance in gamma between the measured and the predicted
    critical line, of the layer where it is largest. A study that cannot be read has the state "damaged"; standard error says why.

    \b
    Example:
      phasediag list results
    """
    from .sweep.listing import list_studies
    from .sweep.printing import print_listed

    print_listed(list_studies(root), as_json)


@app.command()
def serve(
    root: Root = ".",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Interface to listen on. Others than loopback need a token.")
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None,
        typer.Option(
            parser=_path, metavar="FILE", help="File with the password of the pages.", show_default=False
        ),
    ] = None,
) -> None:
    """Show the studies below a folder in a browser, live.

    Reads folders alone, and writes nothing. Pages follow sweeps while these run.

    \b
    Example:
      phasediag serve results
    """
    from .sweep.serve.server import serve as run_server

    run_server(root, host, port, token_file)


@app.command()
def fit(out: Out, measure: MeasureName = None, as_json: Json = False) -> None:
    """Fit the slopes, or count the lines, and compare with theory.

    For a phase diagram, writes slopes.parquet, and prints the number of grid points in each regime, by layer,
    and the distance, in gamma, between the measured and the predicted critical line. For a condensation study, writes
    counts.parquet, and prints for each layer the epochs in which it has condensed, and the number of lines.

    With --measure, writes slopes_MEASURE.parquet, and prints the regimes by that measure and the distance, in gamma, between the zero
    of its slope and each predicted line.

    \b
    Examples:
      phasediag fit results/study
      phasediag fit results/study --measure kernel_change
    """
    from .display.terminal import print_json, print_table
    from .kinds import kind_in
    from .sweep.load import Results
    from .sweep.results import fit_folder

    store = _existing_and_writable(out)
    kind = kind_in(store)
    if measure is not None:
        found = kind.measure(Results(store), measure, fitted=True)
        list(found.write(store))
        _note_missing(_status_of(store), store.out)
        if as_json:
            print_json(found.summary())
        for table in () if as_json else found.tables():
            print_table(table)
        return
    fit_folder(store)
    _note_missing(_status_of(store), store.out)
    if as_json:
        print_json(kind.summary(store))
    else:
        kind.print_summary(kind.summary(store))


@app.command()
def plot(
    out: Out,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIGURE",
            autocompletion=_figure_names,
            help="Draw only the figures whose names begin so; may be repeated.",
            show_default=False,
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            autocompletion=lambda: ["png", "svg", "pdf"],
            help="png, svg or pdf; may be repeated. Default: PNG and SVG.",
            show_default=False,
        ),
    ] = None,
    points: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GAMMA,GAMMA_PRIME",
            help="Draw the scaling figures alone, at this point of the grid, as scaling_LAYER_points; may be repeated.",
            show_default=False,
        ),
    ] = None,
    measure: MeasureName = None,
) -> None:
    """Draw every figure from the files alone.

    If the slopes, or counts, in the folder are out of date, fits them first. With --points, draws only the
    scaling figures, at points of your choice and into files of their own; with --measure, only the maps of that measure, as
    MEASURE_map or MEASURE_map_LAYER. All other figures stay as they are.

    \b
    Examples:
      phasediag plot results/study
      phasediag plot results/study --only scaling --format pdf
      phasediag plot results/study --points 0.5,0 --points 1.5,0
      phasediag plot results/study --measure kernel_change
    """
    from .sweep.drawing import plot_folder
    from .sweep.load import Results

    if points and measure:
        raise InputError("plot: --points cannot be given together with --measure")
    store = _existing_and_writable(out)
    names = list(plot_folder(Results(store), only or (), formats or (), points or (), measure))
    _note_missing(_status_of(store), store.out)
    for name in names:
        say(f"wrote {store.name(name)}")


@app.command()
def compare(
    out_a: Annotated[
        str,
        typer.Argument(
            metavar="OUT_A",
            help="Study A.",
            show_default=False,
            autocompletion=completion.study_folders,
        ),
    ],
    out_b: Annotated[
        str,
        typer.Argument(
            metavar="OUT_B",
            help="Study B.",
            show_default=False,
            autocompletion=completion.study_folders,
        ),
    ],
    folder: Annotated[
        str | None,
        typer.Option(
            "-o", "--out", metavar="DIR", help="Write tables and figures to this folder.", show_default=False
        ),
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="If the grids differ, compare their common part.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two phase diagrams on one grid.

    Prints, for each layer, the difference of the slopes (B - A), the number of points at which its 95 % interval excludes 0,
    and the distance of the critical lines. Both studies have the same points, widths and seeds; data, depth and
    training may differ. With -o, writes differences.parquet, lines.parquet and a figure of every layer.

    \b
    Example:
      phasediag compare results/study results/other -o comparison
    """
    from .display.terminal import print_json, print_table
    from .kinds import kind_in, open_store

    a, b = (_existing(open_store(out)) for out in (out_a, out_b))
    kind = kind_in(a)
    if kind_in(b).name != kind.name:
        raise InputError(
            f"{b.name('study.toml')}: kind: {kind_in(b).name!r}; allowed: {kind.name!r}, as in {out_a}"
        )
    target = None if folder is None else _folder_of_its_own(folder)
    found = kind.compare(a, b, common)
    for store in (a, b):
        _note_missing(_status_of(store), store.out)
    for note in found.notes:
        say(note, error=True)
    if as_json:
        print_json(found.summary())
    else:
        for side, store in (("A", a), ("B", b)):
            say(f"{side}: {(store.read_document() or {}).get('name')} ({store.out})")
        for table in found.tables():
            print_table(table)
        for remark in found.remarks():
            say(remark)
    if target is not None:
        for name in found.write(target):
            say(f"wrote {target.name(name)}", error=as_json)


@app.command()
def report(
    out: Out,
    file: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            parser=_path,
            metavar="FILE.html",
            help="Where to write it. Default: OUT/report.html.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write one interactive page of a study.

    The file needs nothing else: it opens in any browser, without a network. Of a phase diagram, it shows maps of every
    layer, and for every point the runs, the fit and the kept network; of a condensation study, the lines of every layer
    along the training, the runs and the kept networks. Without -o, outdated slopes or counts in the folder are made
    first; with it, nothing is written to the folder.

    \b
    Example:
      phasediag report results/study -o study.html
    """
    from .display.page.render import standalone
    from .kinds import kind_in, open_store
    from .storage.files import write_file
    from .sweep.load import Results

    store = _existing(open_store(out))
    kind, write = kind_in(store), store.write_report
    kind.require("report", store)  # before anything is written
    name = store.name("report.html")
    if file is not None and file.resolve() != Path(out, "report.html").resolve():
        _check_page(store, file)
        name, write = str(file), partial(write_file, file)
    else:
        store.check_writable("")
        if store.statuses() and Results(store).keep_fit():
            say(f"wrote {store.name(store.fitted_name)}")
    status = _status_of(store)
    write(standalone(kind.report(store), status))
    _note_missing(status, store.out)
    say(f"wrote {name}")


@app.command()
def export(
    out: Out,
    file: Annotated[
        Path,
        typer.Argument(parser=_path, metavar="FILE.parquet", help="Where to write it.", show_default=False),
    ],
) -> None:
    """Write all rows to one sorted file, for an archive.

    Replaces a file of that name. The file holds all rows of runs/. If the sweep is not complete, a line on standard
    error says so.

    \b
    Example:
      phasediag export results/study study.parquet
    """
    from .kinds import open_store

    store = _existing(open_store(out))
    rows = store.export_runs(file)
    _note_missing(_status_of(store), store.out)
    say(f"wrote {file}: {rows} rows")


@app.command()
def reproduce(
    out: Out,
    job_id: Annotated[
        str,
        typer.Argument(
            metavar="JOB_ID", help="Id of the job, or the beginning of the id.", show_default=False
        ),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            parser=_path,
            metavar="FILE.npz",
            help="Write the weights before and after training.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train one job again and compare.

    Compares the relative change of each layer with the stored one; for a condensation study, all measures at every
    snapshot. The exit code is 0 if they agree (to 1e-4 on the same kind of device, else to the accuracy of the study),
    1 if not.

    \b
    Example:
      phasediag reproduce results/study 3f2a --weights weights.npz
    """
    from .kinds import open_store
    from .sweep.printing import print_reproduction
    from .sweep.reproduce import reproduce as reproduce_job

    found = reproduce_job(_existing(open_store(out)), job_id, weights)
    print_reproduction(found)
    if weights is not None:
        say(f"wrote {weights}")
    raise typer.Exit(DONE if found.agrees else SOME_FAILED)


@app.command()
def locate(
    module: Annotated[
        str | None,
        typer.Argument(
            metavar="PACKAGE:FUNCTION",
            help="A function that takes a width and returns a torch module.",
            show_default=False,
        ),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(
            metavar="M[,M,...]",
            help="Widths (hidden neurons) of scales that are given as numbers, or at which to make the module.",
            show_default=False,
        ),
    ] = None,
    alpha: Annotated[
        str | None, typer.Option(metavar="SCALE", help="Scale 1/alpha of the output.", show_default=False)
    ] = None,
    beta_1: Annotated[
        str | None,
        typer.Option(metavar="SCALE", help="Standard deviation of output weights.", show_default=False),
    ] = None,
    beta_2: Annotated[
        str | None,
        typer.Option(
            metavar="SCALE",
            help="Standard deviation of input weights; with three layers and more, of weights between hidden layers.",
            show_default=False,
        ),
    ] = None,
    beta_3: Annotated[
        str | None,
        typer.Option(
            metavar="SCALE",
            help="Standard deviation of input weights, with three layers and more.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="A named initialisation: NTK, mean-field, LeCun, He, Xavier, maximal-update; or PyTorch, Kaiming, Glorot, muP.",
            show_default=False,
            autocompletion=_initialisations,
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(help="Layers of weights, 2 to 8. Default: 3 with --beta-3, else 2.", show_default=False),
    ] = None,
    figure: Annotated[
        Path | None,
        _picture("Draw the point on the predicted maps, as PNG, SVG or PDF."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Locate an initialisation in the phase diagram.

    Prints its exponents and the predicted regime of every layer. Takes the name of an initialisation; a function
    that makes a torch module of a given width, whose scales are measured (nothing is trained); or the scales of a
    network, as formulas of the width m and the number d of inputs, or as numbers at one width or more. Two layers:
    f(x) = (1/alpha) sum_k a_k relu(w_k . (x, 1)), a_k ~ N(0, beta_1^2), w_k ~ N(0, beta_2^2).
    More layers: f(x) = (1/alpha) a . relu(W2 (relu(W1 (x, 1)), beta_3)), and so on, a ~ N(0, beta_1^2),
    W1 ~ N(0, beta_3^2), weights between hidden layers ~ N(0, beta_2^2).

    \b
    Examples:
      phasediag locate --name PyTorch --depth 4
      phasediag locate my_models:make --figure where.png
      phasediag locate --alpha 1 --beta-1 'sqrt(2/m)' --beta-2 'sqrt(2/d)'
      phasediag locate --width 100,1000 --alpha 1 --beta-1 0.1,0.032 --beta-2 1
    """
    from .display.terminal import print_json
    from .phase_diagram.locate.scales import locate_scales, read_widths

    if figure is not None:  # before anything is measured
        from .display.pictures import check_picture

        check_picture(figure)
    scales = {"--alpha": alpha, "--beta-1": beta_1, "--beta-2": beta_2, "--beta-3": beta_3}
    if module is None:
        found = locate_scales(scales, width, name, depth)
    else:
        from .phase_diagram.locate.networks import WIDTHS, load_factory, locate_module

        given = {**scales, "--name": name, "--depth": depth}
        if also := [option for option, value in given.items() if value is not None]:
            raise InputError(f"locate: {', '.join(also)} cannot be given together with {module}")
        widths: Sequence[Any] = WIDTHS if width is None else read_widths(width)
        found = locate_module(load_factory(module), widths=widths)
    if figure is not None:
        from .display.pictures import write_picture
        from .phase_diagram.figures.location import location_map

        write_picture(location_map(found), figure)
    if as_json:
        print_json(found.to_dict())
    else:
        for line in found.lines():
            say(line)


@app.command()
def where(
    module: Annotated[
        str,
        typer.Argument(
            metavar="PACKAGE:FUNCTION",
            help="A function that takes a width and a seed, or the width alone, and returns a torch module.",
            show_default=False,
        ),
    ],
    width: Annotated[
        list[str] | None,
        typer.Option(
            metavar="M",
            help="A width to train at; two and more, or with commas. [default: 64 to 1024]",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Networks of each width.")] = 3,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="A .csv, .parquet or .npz file, 'digits', or PACKAGE:FUNCTION that returns x and y. Default: 16 random points.",
            show_default=False,
        ),
    ] = None,
    optimiser: Annotated[
        str,
        typer.Option(
            help="gd, sgd, adam, or PACKAGE:FUNCTION that takes a module and returns a torch optimiser."
        ),
    ] = "gd",
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Needed by sgd and adam; gd chooses its steps unless given.", show_default=False),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data, at most.")] = 5000,
    batch_size: Annotated[int, typer.Option(help="Points of a minibatch.")] = 128,
    loss_tolerance: Annotated[
        float, typer.Option(help="Training ends at this fraction of the loss of f = 0.")
    ] = 0.01,
    figure: Annotated[
        Path | None,
        _picture("Draw the relative change against the width, as PNG, SVG or PDF."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say in which regime a torch module trains.

    Trains it at several widths and prints, for each of its layers, the slope of the relative change with its interval, and the regime:
    lazy, critical or condensed. Of fully connected ReLU networks also where they lie on the map. `locate` reads the map without training.

    \b
    Examples:
      phasediag where my_models:make --data points.csv
      phasediag where my_models:make --width 64 --width 256 --width 1024 --width 4096 --figure where.png
      phasediag where my_models:cnn --data digits --optimiser adam --learning-rate 1e-3 --epochs 200
    """
    from .display.terminal import print_json
    from .modules.where.command import measured

    if figure is not None:  # before anything is trained
        from .display.pictures import check_picture

        check_picture(figure)
    found = measured(module, width, seeds, data, optimiser, learning_rate, epochs, batch_size, loss_tolerance)
    if figure is not None:
        from .display.pictures import write_picture

        write_picture(found.plot(), figure)
    if as_json:
        print_json(found.to_dict())
    else:
        for line in found.lines():
            say(line)


# What several commands share.


def _list_sweeps() -> None:
    """Prints the name of every sweep that comes with the package and a line on it, and which ones need data."""
    from .display.terminal import new_table, print_table
    from .spec.sweeps import sweeps

    table, brought = new_table("sweep", "title"), defaultdict(list)
    table.columns[1].justify = "left"
    for sweep in sweeps().values():
        table.add_row(sweep.name, sweep.title)
        brought[sweep.data].append(sweep.name)
    print_table(table)
    for data in sorted(brought.keys() - {""}):
        say(f"needs {data} beside the spec, which does not come with it: {', '.join(brought[data])}")


def _run_command(spec: Path, out: str | Path, *options: str) -> str:
    """A command that can be pasted into a shell."""
    paths = [f"./{path}" if str(path).startswith("-") else str(path) for path in (spec, out)]
    return shlex.join(["phasediag", "run", paths[0], "--out", paths[1], *options])


def _usage_error(error: Any) -> typer.Exit:
    """The end of the program after a command line that it cannot read, with a hint if an option is nearly right."""
    where, close = error.ctx.command_path if error.ctx else "phasediag", ""
    if error.ctx and hasattr(error, "option_name"):
        options = [option for parameter in error.ctx.command.params for option in parameter.opts]
        close = hint(error.option_name, options)
    error.possibilities = None  # the parser's own hint
    told = " ".join(error.format_message().split()).rstrip(".?")
    return _exit(f"error: {told}; {close}see '{where} --help'", BAD_INPUT)


def _exit(message: str, code: int) -> typer.Exit:
    """The end of the program: its exit code, with a message on standard error."""
    say(message, error=True)
    return typer.Exit(code)


def _existing(store: Store) -> Store:
    from .kinds import require_study

    require_study(store)
    return store


def _existing_and_writable(out: str) -> Store:
    from .kinds import open_store

    store = _existing(open_store(out))
    store.check_writable("")
    return store


def _folder_of_its_own(out: str) -> Store:
    """A folder to write to that is not the one of a study."""
    from .kinds import DEFAULT, named
    from .storage.store import Store

    store = Store(out, named(DEFAULT).tables)
    store.check_writable("")
    if store.exists():
        raise InputError(f"{out}: holds a study; allowed: another folder")
    return store


def _united(study: AnyStudy, out: str, writable: bool = False) -> tuple[AnyStudy, Store]:
    """The study together with what its folder holds already, and the folder."""
    from .kinds import named, stored_study
    from .storage.store import Store

    store = Store(out, named(study.kind).tables)
    if writable:
        store.files.check_lasting()
        store.check_writable()
    else:
        store.files.check_folder()
    return (study.merged_with(stored_study(store)) if store.exists() else study), store


def _on_ray(study: AnyStudy, progress: Progress) -> AbstractContextManager[Executor]:
    """Ray, which takes a second to import: only where there is something to train."""
    from .sweep.ray_cluster import ray_cluster

    return ray_cluster(study, progress)


def _opening(local: bool) -> Opening:
    """Where a sweep trains: on Ray, or in this process."""
    if not local:
        return _on_ray
    from .sweep.local import this_process

    address = os.environ.get("RAY_ADDRESS")
    if address:
        say(
            f"RAY_ADDRESS is {address}, but --local wins: this process trains; without --local it joins that cluster",
            error=True,
        )
    return this_process


def _check_page(store: Store, file: Path) -> None:
    if file.suffix not in (".html", ".htm"):
        raise InputError(f"{file}: is not supported; allowed: a name that ends in .html")
    store.files.check_outside(file)


def _status_of(store: Store) -> Status | None:
    """How far the sweep is; None where its rows may be read, but its study cannot."""
    from .sweep.status import read_status

    with suppress(InputError):
        return read_status(store)
    return None


def _note_missing(status: Status | None, out: str) -> None:
    """Says so if a sweep is not complete: what is fitted or drawn is then of a part of it."""
    if status is not None and status.missing:
        say(f"{out}: {status.missing} of {status.total} jobs have no rows yet", error=True)


def _run(study: AnyStudy, store: Store, opening: Opening, retry_failed: bool, log_file: Path | None) -> bool:
    """Trains, fits, plots and sums up; returns whether anything failed."""
    from .display.progress import Progress
    from .display.terminal import format_duration
    from .sweep import sweep
    from .sweep.drawing import is_drawn, plot_folder
    from .sweep.load import Results
    from .sweep.log import Log
    from .sweep.results import fit_folder

    started = time.monotonic()

    def begin() -> None:
        for note in study.notes():
            progress.note(f"{study.source}: {note}")

    def finish() -> None:
        if is_drawn(Results(store)):
            return
        progress.phase("fitting")
        fit_folder(store)
        progress.phase("drawing")
        list(plot_folder(Results(store)))

    with closing(Log(log_file)) as log, unheeded(lambda line: log.write("unshown", line=line)):
        with Progress().shown() as progress:
            outcome = sweep.run(
                study,
                store,
                opening,
                progress,
                retry_failed=retry_failed,
                begin=begin,
                finish=finish,
                log=log,
            )
        try:
            _sum_up(outcome, store, format_duration(time.monotonic() - started))
        except InputError as error:  # of the storage: exit 2 is for what was asked for
            raise PhasediagError(str(error)) from None
    return bool(outcome.failed or outcome.failed_samples)


def _sum_up(outcome: Outcome, store: Store, duration: str) -> None:
    from .kinds import kind_in
    from .sweep.printing import print_failed

    say(
        f"{outcome.finished} of {outcome.total} jobs finished, {outcome.failed} failed; "
        f"{outcome.trained} run now, in {duration}"
    )
    kind = kind_in(store)
    kind.print_summary(kind.summary(store))
    say(f"figures: {store.name('figures')}")
    if outcome.failed_samples:
        say(f"{outcome.failed_samples} networks could not be kept for the figures", error=True)
    if outcome.failed:
        print_failed(outcome.failed_ids, store.errors())
