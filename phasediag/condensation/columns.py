"""The columns of a condensation study's tables, each declared once."""

from __future__ import annotations

from ..storage.schema import (
    BOOL,
    CURVE,
    FLOAT,
    INT,
    JOB_ID,
    MATRIX,
    ORIGIN,
    STR,
    VERSION_COLUMN,
    Column,
    Tables,
    columns,
)

_NETWORK = columns(
    Column("layer", STR, "hidden layer, `H1`, `H2`, …"),
    Column("activation", STR, "activation of this layer"),
    Column("activations", STR, "activations of all layers, separated by `/` where they differ"),
    Column(
        "multiplicity",
        INT,
        "p of this activation: order of its first derivative at 0 that does not vanish; 0 if there is none, as for ReLU",
    ),
    Column("hidden", INT, "neurons of the layer"),
    Column("dimension", INT, "inputs of the network"),
    Column("std", FLOAT, "standard deviation of the initial weights"),
    Column("method", STR, "how the network was trained"),
)
_EPOCH = Column(
    "epoch",
    INT,
    "the snapshot: steps so far; for the gradient flow, time in units of `learning_rate`",
    "steps",
)
_LOSS = Column("loss", FLOAT, "mean of (f − y)² over the data")

IDENTITY = columns(
    JOB_ID,
    _NETWORK,
    Column("seed", INT, "selects the initial weights and, for random data, the sample"),
    _EPOCH,
)
"""Which job, which snapshot and which of its layers a row is about."""

MEASURES = columns(
    _LOSS,
    Column(
        "active_neurons",
        FLOAT,
        "neurons whose input weight (bias included) is at least a tenth as long as the longest of the layer",
    ),
    Column(
        "lines",
        FLOAT,
        "clusters of active neurons at a threshold of 30 degrees, opposite directions taken as one; NaN without a count",
    ),
    Column("orientations", FLOAT, "clusters of active neurons, opposite directions counted separately"),
    Column(
        "aligned_fraction",
        FLOAT,
        "share of active neurons within 10 degrees of the centre of their line; small if there is no condensate",
    ),
    Column(
        "predicted_alignment",
        FLOAT,
        "mean |cos| between active neurons and the nearest direction predicted for gradient flow from the residual of this "
        "snapshot; NaN where there is no prediction",
    ),
    Column("predicted_fraction", FLOAT, "share of active neurons within 10 degrees of such a direction"),
    Column(
        "predicted_alignment_initial",
        FLOAT,
        "as `predicted_alignment`, predicted from the residual at the start",
    ),
    Column("lines_narrow", FLOAT, "`lines` at a threshold of 20 degrees"),
    Column("lines_wide", FLOAT, "`lines` at a threshold of 40 degrees"),
    Column(
        "effective_orientations",
        FLOAT,
        "`orientations` of a phase diagram: directions weighted by length, without clusters",
    ),
    Column(
        "predicted_lines",
        FLOAT,
        "number of directions predicted for gradient flow: with one input or p = 2 all stationary directions, some of which may repel; "
        "else the attracting ones",
    ),
    Column("lines_near_predicted", FLOAT, "lines whose centre is within 10 degrees of such a direction"),
    Column(
        "predicted_fraction_initial",
        FLOAT,
        "as `predicted_fraction`, predicted from the residual at the start",
    ),
    Column(
        "sign_lines",
        FLOAT,
        "number of directions predicted for steps along the sign of the gradient, like Adam's; NaN for other methods",
    ),
    Column("lines_near_sign", FLOAT, "lines whose centre is within 10 degrees of such a direction"),
    Column("sign_fraction", FLOAT, "share of active neurons within 10 degrees of such a direction"),
    Column("sign_fraction_initial", FLOAT, "as `sign_fraction`, predicted from the residual at the start"),
    Column("largest_weight", FLOAT, "length of the longest input weight of the layer"),
    Column(
        "polynomial_misfit",
        FLOAT,
        "one input: largest deviation of f from its best polynomial of degree p, as a share of f's range",
    ),
)
"""What is measured of a layer at a snapshot; NaN where there is nothing to measure."""

RUNS = columns(
    IDENTITY,
    MEASURES,
    Column("evaluations", INT, "full-batch passes of the whole training"),
    Column(
        "status",
        STR,
        "`converged`: trained up to this snapshot; `evaluation_limit`: a gradient flow that ended before it; `diverged`: the loss is "
        "not finite, or a million times its value at the start; `failed`: could not be run, has no measures",
    ),
    ORIGIN,
)

SAMPLES = columns(
    IDENTITY,
    _LOSS,
    Column("input", MATRIX, "incoming weights of the layer's neurons, a row for each neuron, the bias last"),
    Column(
        "output",
        MATRIX,
        "weights from these neurons to the next layer, a row for each neuron",
    ),
    Column("predicted", MATRIX, "unit vectors of the directions predicted for gradient flow, one a row"),
    Column(
        "predicted_sign",
        MATRIX,
        "unit vectors of the directions predicted for steps along the sign of the gradient",
    ),
    Column("x", CURVE, "grid on which f is kept; empty for more than one input"),
    Column("f", CURVE, "f on the grid"),
    Column("residual", CURVE, "f − y at every point of the data"),
    Column("field_at", MATRIX, "one input: places in the plane of weight and bias, one a row"),
    Column("field", MATRIX, "the direction in which gradient flow moves an input weight at these places"),
    Column(
        "epochs",
        CURVE,
        "epochs of the kept losses: in the row of the last epoch and the first layer, empty in others",
        "steps",
    ),
    Column("losses", CURVE, "the loss there"),
    VERSION_COLUMN,
)

COUNTED = columns(
    _NETWORK,
    _EPOCH,
    Column("lines", INT, "an observed number of lines"),
    Column("count", INT, "seeds with this number"),
    Column("seeds", INT, "seeds with any count of lines"),
    Column("share", FLOAT, "`count` / `seeds`"),
    Column("modal", BOOL, "whether this is the most frequent number; among equals, the smallest"),
    Column("left_out", INT, "seeds without a count: diverged, failed, or not trained up to this epoch"),
)

TABLES = Tables(
    runs=RUNS,
    samples=SAMPLES,
    fitted=COUNTED,
    fitted_name="counts",
    run_key=("job_id", "epoch", "layer"),
    order=("activations", "dimension", "std", "method", "seed", "epoch", "layer"),
)
"""Runs: one row per job, snapshot and hidden layer. Samples: one row per kept network, snapshot and hidden layer. Counts: one row per
network, layer, epoch and number of lines that was found."""
