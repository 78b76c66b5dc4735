"""What the Parquet files of each kind of study hold: explicit Arrow schemas, versioned in the metadata of every file."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = "1"
VERSION_KEY = b"phasediag_schema"
METADATA = {VERSION_KEY: SCHEMA_VERSION.encode()}

FAILED = "failed"
STATUSES = ("converged", "evaluation_limit", "stalled", "diverged", FAILED)
"""Outcomes of a run. All but the last are finished and never run again."""

STR, INT, FLOAT = pa.string(), pa.int64(), pa.float64()
_MATRIX, _VECTOR = pa.list_(pa.list_(pa.float32())), pa.list_(pa.float32())
_CURVE = pa.list_(FLOAT)


@dataclass(frozen=True)
class Tables:
    """The tables of one kind of study.

    Attributes:
        runs: schema of ``runs/``: what the jobs were, how they ended, what was measured.
        samples: schema of ``samples/``: networks kept whole.
        fitted: schema of what is derived from the runs.
        fitted_name: its file, without the ending.
        run_key: columns that tell a row of ``runs/`` from the others.
        order: columns by which rows of ``runs/`` and of ``samples/`` are sorted, as far as they have them.
    """

    runs: pa.Schema
    samples: pa.Schema
    fitted: pa.Schema
    fitted_name: str
    run_key: tuple[str, ...]
    order: tuple[str, ...]


def _schema(*fields: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema(fields, metadata=METADATA)


_POINT = [("gamma", FLOAT), ("gamma_prime", FLOAT), ("gamma_1", FLOAT)]
_HOW = [("status", STR), ("error", STR), ("wall_seconds", FLOAT), ("device", STR), ("version", STR)]

PHASE_DIAGRAM = Tables(
    runs=_schema(
        ("job_id", STR),
        ("depth", INT),
        ("layer", STR),
        ("width", INT),
        *_POINT,
        ("seed", INT),
        ("relative_change", FLOAT),
        ("relative_change_spectral", FLOAT),
        ("norm_initial", FLOAT),
        ("norm_final", FLOAT),
        ("orientations", FLOAT),
        ("loss_initial", FLOAT),
        ("loss_final", FLOAT),
        ("evaluations", INT),
        *_HOW,
    ),
    samples=_schema(
        ("job_id", STR),
        ("depth", INT),
        ("layer", STR),
        ("width", INT),
        *_POINT,
        ("seed", INT),
        ("status", STR),
        ("input_initial", _MATRIX),
        ("input_final", _MATRIX),
        ("output_initial", _VECTOR),
        ("output_final", _VECTOR),
        ("x", _CURVE),
        ("f_initial", _CURVE),
        ("f_final", _CURVE),
        ("evaluations", pa.list_(INT)),
        ("loss", _CURVE),
        ("relative_change", _CURVE),
        ("version", STR),
    ),
    fitted=_schema(
        ("depth", INT),
        ("layer", STR),
        *_POINT,
        ("slope", FLOAT),
        ("slope_low", FLOAT),
        ("slope_high", FLOAT),
        ("slope_infinite", FLOAT),
        ("slope_infinite_low", FLOAT),
        ("slope_infinite_high", FLOAT),
        ("regime", STR),
        ("predicted_regime", STR),
        ("widths", INT),
        ("runs", INT),
        ("left_out", INT),
    ),
    fitted_name="slopes",
    run_key=("job_id", "layer"),
    order=("depth", "width", "gamma", "gamma_prime", "gamma_1", "seed", "layer"),
)
"""Runs: one row per job and layer. Samples: one row per kept network and layer with input weights, those (m, d + 1, bias last) and
the output weights (m,) before and after training, f before and after on a fine grid x (empty unless d = 1), and the course of the
training. Slopes: one row per grid point and layer."""

_NETWORK = [
    ("job_id", STR),
    ("layer", STR),
    ("activation", STR),
    ("activations", STR),
    ("multiplicity", INT),
    ("hidden", INT),
    ("dimension", INT),
    ("std", FLOAT),
    ("method", STR),
]

CONDENSATION = Tables(
    runs=_schema(
        *_NETWORK,
        ("seed", INT),
        ("epoch", INT),
        ("loss", FLOAT),
        ("active_neurons", FLOAT),
        ("lines", FLOAT),
        ("orientations", FLOAT),
        ("aligned_fraction", FLOAT),
        ("predicted_alignment", FLOAT),
        ("predicted_fraction", FLOAT),
        ("predicted_alignment_initial", FLOAT),
        ("lines_narrow", FLOAT),
        ("lines_wide", FLOAT),
        ("effective_orientations", FLOAT),
        ("predicted_lines", FLOAT),
        ("lines_near_predicted", FLOAT),
        ("predicted_fraction_initial", FLOAT),
        ("sign_lines", FLOAT),
        ("lines_near_sign", FLOAT),
        ("sign_fraction", FLOAT),
        ("sign_fraction_initial", FLOAT),
        ("largest_weight", FLOAT),
        ("polynomial_misfit", FLOAT),
        ("evaluations", INT),
        *_HOW,
    ),
    samples=_schema(
        *_NETWORK,
        ("seed", INT),
        ("epoch", INT),
        ("loss", FLOAT),
        ("input", _MATRIX),
        ("output", _MATRIX),
        ("predicted", _MATRIX),
        ("predicted_sign", _MATRIX),
        ("x", _CURVE),
        ("f", _CURVE),
        ("residual", _CURVE),
        ("field_at", _MATRIX),
        ("field", _MATRIX),
        ("epochs", _CURVE),
        ("losses", _CURVE),
        ("version", STR),
    ),
    fitted=_schema(
        *_NETWORK[1:],
        ("epoch", INT),
        ("lines", INT),
        ("count", INT),
        ("seeds", INT),
        ("share", FLOAT),
        ("modal", pa.bool_()),
        ("left_out", INT),
    ),
    fitted_name="counts",
    run_key=("job_id", "epoch", "layer"),
    order=("activations", "dimension", "std", "method", "seed", "epoch", "layer"),
)
"""Runs: one row per job, snapshot and hidden layer. Samples: one row per kept network, snapshot and hidden layer: input weights (m, k,
bias last) and output weights (m, neurons of the next layer), predicted directions (q, k), f on a fine grid x and the direction field
(of one input), the residual (n,), and in the row of the first layer and the last epoch the loss along the training. Counts: one row per
network, layer, epoch and number of lines that was found, with the number of seeds that have so many."""

_INTERVAL = ("", "_low", "_high")
SLOPE_DIFFERENCES = _schema(
    ("depth_a", INT),
    ("depth_b", INT),
    ("layer", STR),
    *_POINT,
    ("slope_a", FLOAT),
    ("slope_b", FLOAT),
    *((f"difference{end}", FLOAT) for end in _INTERVAL),
    ("slope_infinite_a", FLOAT),
    ("slope_infinite_b", FLOAT),
    *((f"difference_infinite{end}", FLOAT) for end in _INTERVAL),
    ("widths", INT),
    ("runs", INT),
    ("left_out", INT),
)
LINE_DIFFERENCES = _schema(
    ("layer", STR),
    ("slope", STR),
    ("gamma_prime", FLOAT),
    *(
        (f"{name}_{side}", FLOAT)
        for side in "ab"
        for name in ("gamma", "gamma_low", "gamma_high", "predicted")
    ),
    *((f"difference{end}", FLOAT) for end in _INTERVAL),
)
"""Of two studies, `phasediag.comparison.Differences`."""

TABLES = {"phase-diagram": PHASE_DIAGRAM, "condensation": CONDENSATION}
"""By the kind of the study."""
