"""The columns of a phase diagram's tables, each declared once."""

from __future__ import annotations

from ..storage.schema import (
    COUNTS,
    CURVE,
    FLOAT,
    INT,
    JOB_ID,
    MATRIX,
    ORIGIN,
    STR,
    VECTOR,
    VERSION_COLUMN,
    Column,
    Tables,
    columns,
)

_DEPTH = Column("depth", INT, "layers of weights, 2 to 8; 0 of a torch module, of which nothing is predicted")
_LAYER = Column(
    "layer",
    STR,
    "`W1`: input weights; `W2`, `W3`, …: weights between hidden layers; `a`: output weights",
)
_GAMMA_PRIME = Column("gamma_prime", FLOAT, "the exponent γ′")
_POINT = columns(
    Column("gamma", FLOAT, "the exponent γ"),
    _GAMMA_PRIME,
    Column("gamma_1", FLOAT, "the exponent γ₁ of weights between hidden layers; 0 for two layers"),
)
_WIDTHS = Column("widths", INT, "number of widths in the fit")

IDENTITY = columns(
    JOB_ID,
    _DEPTH,
    _LAYER,
    Column("width", INT, "neurons of a hidden layer, m"),
    Column(
        "neurons",
        INT,
        "simulated neurons of a hidden layer, N, of which each represents m/N; equal to `width` where the network is whole",
        otherwise="width",
    ),
    _POINT,
    Column("seed", INT, "selects the initial weights"),
)
"""Which job, and which of its layers, a row is about."""

MEASURES = columns(
    Column(
        "kernel_change",
        FLOAT,
        "‖K(end) − K(0)‖ / ‖K(0)‖ of the tangent kernel on the data, K(x, x′) = Σ_l c_l ∇_l f(x)·∇_l f(x′) with the rates c_l of the "
        "gradient flow, in the Frobenius norm, where neurons that rest on a kink count as far as they are open; the same in rows of all "
        "layers",
        newer=True,
    ),
    Column(
        "effective_rank",
        FLOAT,
        "stable rank ‖W‖² / ‖W‖₂² of the layer after training, Frobenius norm over operator norm (Rudelson and Vershynin, J. ACM 54, "
        "2007): about m/4 of a random matrix between hidden layers, about 1 of one that acts in one direction; at most the number of "
        "inputs and the bias for `W1`; NaN for `a`",
        newer=True,
    ),
    Column("effective_rank_change", FLOAT, "stable rank of the change of the layer; NaN for `a`", newer=True),
    Column(
        "time",
        FLOAT,
        "time of the gradient flow at its end, in units in which the rate of `a` is 1, as in `samples`; of gd, so much of it as all steps "
        "make up; NaN for adam",
        newer=True,
    ),
    Column(
        "time_half",
        FLOAT,
        "time at which the loss first was half of `loss_initial`; NaN where it never was",
        newer=True,
    ),
    Column(
        "test_loss",
        FLOAT,
        "R on the test points, after training; NaN without test points",
        newer=True,
    ),
    Column(
        "test_error",
        FLOAT,
        "√(Σ (f − y)² / Σ y²) over the test points, after training: 1 of f = 0; NaN without test points",
        newer=True,
    ),
    Column(
        "linear_gap",
        FLOAT,
        "‖f_lin − f‖ / ‖f − f(0)‖ over the data after training, where f_lin is the network linearised in its weights at the start, trained "
        "by the same method for the same time; NaN for adam",
        newer=True,
    ),
    Column("linear_gap_test", FLOAT, "the same over the test points; NaN without test points", newer=True),
)
"""What is measured on a run beside relative change, norms and orientations: columns of the second schema."""

RUNS = columns(
    IDENTITY,
    Column("relative_change", FLOAT, "RD = ‖θ(end) − θ(0)‖ / ‖θ(0)‖ of the layer, in the Frobenius norm"),
    Column("relative_change_spectral", FLOAT, "RD in the operator norm; NaN for `a`"),
    Column(
        "norm_initial",
        FLOAT,
        "Frobenius norm of the layer at the start, where normalised weights are N(0, 1)",
    ),
    Column("norm_final", FLOAT, "Frobenius norm of the layer after training"),
    Column(
        "orientations",
        FLOAT,
        "effective number of directions of the neurons after training, at most 512; few in the condensed regime; "
        "NaN for `a`",
    ),
    MEASURES,
    Column("loss_initial", FLOAT, "R = Σ (f − y)² / 2n over the n points, at the start"),
    Column("loss_final", FLOAT, "R after training"),
    Column(
        "evaluations",
        INT,
        "full-batch forward and backward passes, rejected steps and repeated trainings included",
    ),
    Column(
        "status",
        STR,
        "`converged`; `evaluation_limit`: not converged after `max_evaluations`; `stalled`: stationary above the tolerance, for example "
        "with contradictory labels (where N neurons represent more: in three trainings, each more accurate); `diverged`: the numbers "
        "grew without bound; `failed`: could not be run, has no measures",
    ),
    ORIGIN,
)

FILM = columns(
    Column(
        "onset",
        FLOAT,
        "predicted time of onset: when the loss would have fallen by a tenth, were the residual what it is at the start; NaN where it "
        "never would, as with few neurons whose output grows across the labels, and for adam",
        newer=True,
    ),
    Column(
        "moments",
        CURVE,
        "times of the flow at which the next three columns are measured, from the start to the end; empty for adam",
        newer=True,
    ),
    Column("moment_loss", CURVE, "R at `moments`", newer=True),
    Column(
        "orientations",
        CURVE,
        "effective number of directions of the neurons, as in `runs`, at `moments`",
        newer=True,
    ),
    Column(
        "clusters",
        COUNTS,
        "number of clusters of directions at `moments`: neurons within 10° of a leader, the longest weights first, until nine tenths of "
        "the length of all weights belong to one",
        newer=True,
    ),
    Column("film_time", CURVE, "times of the flow that are frames of the film", newer=True),
    Column(
        "film_orientation",
        MATRIX,
        "by frame, the orientation in radians of at most 2,000 neurons, at even distances in their order; of weights with more than two "
        "components, the cosine with the first principal direction after training",
        newer=True,
    ),
    Column(
        "film_amplitude", MATRIX, "by frame, the length of the input weights of these neurons", newer=True
    ),
)
"""What is seen along the training of a kept network."""

SAMPLES = columns(
    IDENTITY,
    Column("status", STR, "as in `runs`"),
    Column(
        "input_initial",
        MATRIX,
        "incoming weights of the layer's neurons at the start, a row for each neuron, the bias last",
    ),
    Column("input_final", MATRIX, "incoming weights of the layer's neurons after training"),
    Column("output_initial", VECTOR, "output weights a of the network at the start (m)"),
    Column("output_final", VECTOR, "output weights a of the network after training (m)"),
    Column("x", CURVE, "grid on which f is kept; empty for more than one input"),
    Column("f_initial", CURVE, "f on the grid at the start"),
    Column("f_final", CURVE, "f on the grid after training"),
    Column("evaluations", COUNTS, "passes so far, along the training"),
    Column(
        "time",
        CURVE,
        "time of the gradient flow, along the training, in units in which the rate of `a` is 1; NaN for adam, missing in files of "
        "versions before 0.2",
        newer=True,
    ),
    Column("loss", CURVE, "R, along the training"),
    Column(
        "relative_change",
        CURVE,
        "RD of the layer, along the training; between hidden layers up to 2 % too large",
    ),
    FILM,
    VERSION_COLUMN,
)

SLOPES = columns(
    _DEPTH,
    _LAYER,
    _POINT,
    Column(
        "slope",
        FLOAT,
        "S = d log RD / d log m: straight line through all converged runs of all widths and seeds",
    ),
    Column("slope_low", FLOAT, "lower end of the 95 % interval of `slope`"),
    Column("slope_high", FLOAT, "upper end"),
    Column(
        "slope_infinite",
        FLOAT,
        "S in the limit of infinite width, from a fit with corrections to the power law; NaN with fewer than four widths",
    ),
    Column("slope_infinite_low", FLOAT, "lower end of the 95 % interval of `slope_infinite`"),
    Column("slope_infinite_high", FLOAT, "upper end"),
    Column(
        "regime",
        STR,
        "from the interval of `slope_infinite`, or else of `slope`: `linear` if the interval lies below 0, `condensed` if it lies "
        "above, `critical` if it lies within ±0.05, else `undetermined`",
    ),
    Column("predicted_slope", FLOAT, "S as m grows to infinity, by the rule of docs/maps.md"),
    Column(
        "predicted_regime",
        STR,
        "the sign of `predicted_slope`: `linear`, `condensed`, or `critical` within 1e-9 of the predicted line",
    ),
    _WIDTHS,
    Column("runs", INT, "number of runs in the fit"),
    Column("left_out", INT, "runs that are not in the fit: they did not converge, or have no RD above 0"),
)

MEASURE = Column("measure", STR, "the measure whose slopes these are, by its column of `runs`")
MEASURE_SLOPES = columns(MEASURE, SLOPES)
"""Slopes of another measure than the relative change."""

DIFFERENCES = columns(
    Column("depth_a", INT, "layers of weights of A"),
    Column("depth_b", INT, "layers of weights of B"),
    _LAYER,
    _POINT,
    Column("slope_a", FLOAT, "the slope of A over the widths"),
    Column("slope_b", FLOAT, "the slope of B over the widths"),
    Column("difference", FLOAT, "`slope_b` − `slope_a`"),
    Column("difference_low", FLOAT, "lower end of the 95 % interval of `difference`"),
    Column("difference_high", FLOAT, "upper end"),
    Column("slope_infinite_a", FLOAT, "the slope of A at infinite width; NaN with fewer than four widths"),
    Column("slope_infinite_b", FLOAT, "the slope of B at infinite width"),
    Column(
        "difference_infinite",
        FLOAT,
        "the difference at infinite width, fitted to the pairs: close to `slope_infinite_b` − `slope_infinite_a`, but not equal",
    ),
    Column("difference_infinite_low", FLOAT, "lower end of the 95 % interval of `difference_infinite`"),
    Column("difference_infinite_high", FLOAT, "upper end"),
    _WIDTHS,
    Column("runs", INT, "number of pairs of runs in the fit"),
    Column("left_out", INT, "pairs with a run that cannot be used"),
)

LINES = columns(
    _LAYER,
    Column("slope", STR, "the slope that vanishes on the line, `slope` or `slope_infinite`"),
    _GAMMA_PRIME,
    Column("gamma_a", FLOAT, "γ of the critical line of A; NaN where it has none"),
    Column("gamma_low_a", FLOAT, "lower end of the 95 % band of `gamma_a`"),
    Column("gamma_high_a", FLOAT, "upper end"),
    Column("predicted_a", FLOAT, "γ of the predicted line of A; NaN where there is none"),
    Column("gamma_b", FLOAT, "γ of the critical line of B; NaN where it has none"),
    Column("gamma_low_b", FLOAT, "lower end of the 95 % band of `gamma_b`"),
    Column("gamma_high_b", FLOAT, "upper end"),
    Column("predicted_b", FLOAT, "γ of the predicted line of B; NaN where there is none"),
    Column("difference", FLOAT, "`gamma_b` − `gamma_a`"),
    Column("difference_low", FLOAT, "lower end, with the half-widths of both bands in quadrature"),
    Column("difference_high", FLOAT, "upper end"),
)

TABLES = Tables(
    runs=RUNS,
    samples=SAMPLES,
    fitted=SLOPES,
    fitted_name="slopes",
    run_key=("job_id", "layer"),
    order=("depth", "width", "gamma", "gamma_prime", "gamma_1", "seed", "layer"),
    others={"slopes_MEASURE": MEASURE_SLOPES, "differences": DIFFERENCES, "lines": LINES},
)
"""Runs: one row per job and layer. Samples: one row per kept network and layer with input weights. Slopes: one row per point and layer.
Slopes of another measure are what `phasediag fit --measure` writes, one row per point if it belongs to the whole network. Differences and
lines are what a comparison writes: one row per layer and point, and per layer, slope and gamma_prime."""
