"""What every column of a study's files means, by the kind of the study and the table. The reference is made from it."""

from __future__ import annotations

import pyarrow as pa

from .schemas import LINE_DIFFERENCES, SLOPE_DIFFERENCES, TABLES

_JOB = {"job_id": "hash of the job's content: the same network has the same id in every study"}
_POINT = {
    "gamma": "the exponent γ",
    "gamma_prime": "the exponent γ′",
    "gamma_1": "the exponent γ₁ of three layers; 0 for two",
}
_CELL = {
    **_JOB,
    "depth": "layers of weights, 2 or 3",
    "layer": "`W1`: input weights; `W2`: weights between the hidden layers, of three layers; `a`: output weights",
    "width": "neurons of a hidden layer, m",
    **_POINT,
    "seed": "of the initial weights",
}
_VERSION = {"version": "the version of phasediag that trained the job"}
_OUTCOME = {
    "error": "why a failed job could not be run; empty otherwise",
    "wall_seconds": "the job's share of the time that its batch took",
    "device": "`cpu`, or `cuda:` and the name of the GPU",
    **_VERSION,
}
_MULTIPLICITY = "p of this activation: order of its first derivative at 0 that does not vanish; 0 where undefined, as for ReLU"
_NETWORK = {
    "layer": "hidden layer, `H1`, `H2`, …",
    "activation": "of this layer",
    "activations": "of all layers, separated by `/` where they differ",
    "multiplicity": _MULTIPLICITY,
    "hidden": "neurons of the layer",
    "dimension": "inputs of the network",
    "std": "standard deviation of the initial weights",
    "method": "how the network was trained",
}
_SEEN = {
    **_JOB,
    **_NETWORK,
    "seed": "of the initial weights and, for random data, of the sample",
    "epoch": "the snapshot: steps so far; of the gradient flow, time in units of `learning_rate`",
    "loss": "mean of (f − y)² over the data",
}

_PHASE_DIAGRAM = {
    "runs": {
        **_CELL,
        "relative_change": "RD = ‖θ(end) − θ(0)‖ / ‖θ(0)‖ of the layer, in the Frobenius norm",
        "relative_change_spectral": "the same in the operator norm; NaN for `a`",
        "norm_initial": "Frobenius norm of the layer at the start, where normalised weights are N(0, 1)",
        "norm_final": "the same after training",
        "orientations": "effective number of directions in which the neurons of the layer end, at most 512: few in the condensed "
        "regime; NaN for `a`",
        "loss_initial": "R = Σ (f − y)² / 2n over the n points, at the start",
        "loss_final": "the same after training",
        "evaluations": "full-batch forward and backward passes, rejected steps included",
        "status": "`converged`; `evaluation_limit`: not yet, after `max_evaluations`; `stalled`: stationary above the tolerance, as with "
        "contradictory labels; `diverged`: the numbers ran away; `failed`: could not be run, has no measures",
        **_OUTCOME,
    },
    "samples": {
        **_CELL,
        "status": "as in `runs`",
        "input_initial": "incoming weights of the layer's neurons at the start, a row for each neuron, the bias last",
        "input_final": "the same after training",
        "output_initial": "output weights a of the network at the start (m)",
        "output_final": "the same after training",
        "x": "grid on which f is kept; empty for more than one input",
        "f_initial": "f on the grid at the start",
        "f_final": "f on the grid after training",
        "evaluations": "passes so far, along the training",
        "loss": "R, along the training",
        "relative_change": "RD of the layer, along the training",
        **_VERSION,
    },
    "slopes": {
        "depth": _CELL["depth"],
        "layer": _CELL["layer"],
        **_POINT,
        "slope": "S = d log RD / d log m: straight line through all converged runs of all widths and seeds",
        "slope_low": "lower end of its 95 % interval",
        "slope_high": "upper end",
        "slope_infinite": "S in the limit of infinite width, with corrections to the power law; NaN with fewer than four widths",
        "slope_infinite_low": "lower end of its 95 % interval",
        "slope_infinite_high": "upper end",
        "regime": "from the interval of `slope_infinite`, or of `slope` where there is none: `linear` if wholly below 0, `condensed` "
        "if wholly above, `critical` if wholly within ±0.05, else `undetermined`",
        "predicted_regime": "`linear`, `condensed`, or `critical` on the line itself; empty where nothing is predicted: for `a`, and "
        "for γ₁ other than 0",
        "widths": "number of widths in the fit",
        "runs": "number of runs in the fit",
        "left_out": "runs that are not in it: those that did not converge, or have no RD above 0",
    },
}

_CONDENSATION = {
    "runs": {
        **_SEEN,
        "active_neurons": "neurons whose input weight (bias included) is at least a tenth as long as the longest of the layer",
        "lines": "clusters of active neurons at a threshold of 30 degrees, opposite directions taken as one; NaN without a count",
        "orientations": "the same with opposite directions told apart",
        "aligned_fraction": "share of active neurons within 10 degrees of the centre of their line: whether there is a condensate at all",
        "predicted_alignment": "mean |cos| between active neurons and the nearest direction predicted for gradient flow from the "
        "residual of this snapshot; NaN where nothing is predicted",
        "predicted_fraction": "share of active neurons within 10 degrees of such a direction",
        "predicted_alignment_initial": "as `predicted_alignment`, predicted from the residual at the start",
        "lines_narrow": "`lines` at a threshold of 20 degrees",
        "lines_wide": "`lines` at a threshold of 40 degrees",
        "effective_orientations": "`orientations` of a phase diagram: directions weighted by length, without clusters",
        "predicted_lines": "number of directions predicted for gradient flow: of one input or of p = 2 all that stand still, of which "
        "some may repel; else those that attract",
        "lines_near_predicted": "lines whose centre is within 10 degrees of such a direction",
        "predicted_fraction_initial": "as `predicted_fraction`, predicted from the residual at the start",
        "sign_lines": "number of directions predicted for steps along the sign of the gradient, as Adam's; NaN for other methods",
        "lines_near_sign": "lines whose centre is within 10 degrees of such a direction",
        "sign_fraction": "share of active neurons within 10 degrees of such a direction",
        "sign_fraction_initial": "the same, predicted from the residual at the start",
        "largest_weight": "length of the longest input weight of the layer",
        "polynomial_misfit": "one input: largest deviation of f from its best polynomial of degree p, as a share of f's range",
        "evaluations": "full-batch passes of the whole training",
        "status": "`converged`: trained up to this snapshot; `evaluation_limit`: a gradient flow that did not get here; `diverged`: the "
        "loss is not finite, or a million times that at the start; `failed`: could not be run, has no measures",
        **_OUTCOME,
    },
    "samples": {
        **_SEEN,
        "input": "incoming weights of the layer's neurons, a row for each neuron, the bias last",
        "output": "weights from these neurons to those of the next layer, a row for each neuron",
        "predicted": "unit vectors of the directions predicted for gradient flow, one a row",
        "predicted_sign": "the same for steps along the sign of the gradient",
        "x": "grid on which f is kept; empty for more than one input",
        "f": "f on the grid",
        "residual": "f − y at every point of the data",
        "field_at": "one input: places in the plane of weight and bias, one a row",
        "field": "the direction in which gradient flow moves an input weight at these places",
        "epochs": "epochs of the kept losses: in the row of the last epoch and the first layer, empty in others",
        "losses": "the loss there",
        **_VERSION,
    },
    "counts": {
        **_NETWORK,
        "epoch": _SEEN["epoch"],
        "lines": "a number of lines that was found",
        "count": "seeds with so many",
        "seeds": "seeds that have a number of lines",
        "share": "`count` / `seeds`",
        "modal": "whether this is the most frequent number; of several, the smallest",
        "left_out": "seeds without a number: diverged, failed, or not trained up to this epoch",
    },
}

_COMPARISON = {
    "differences": {
        "depth_a": "layers of weights of A",
        "depth_b": "layers of weights of B",
        "layer": _CELL["layer"],
        **_POINT,
        "slope_a": "the slope of A over the widths",
        "slope_b": "the slope of B",
        "difference": "`slope_b` − `slope_a`",
        "difference_low": "lower end of its 95 % interval",
        "difference_high": "upper end",
        "slope_infinite_a": "the slope of A at infinite width; NaN with fewer than four widths",
        "slope_infinite_b": "the slope of B at infinite width",
        "difference_infinite": "the difference at infinite width, from the pairs: close to that of these two, but not equal to it",
        "difference_infinite_low": "lower end of its 95 % interval",
        "difference_infinite_high": "upper end",
        "widths": "number of widths in the fit",
        "runs": "number of pairs of runs in the fit",
        "left_out": "pairs of which one or both cannot be used",
    },
    "lines": {
        "layer": _CELL["layer"],
        "slope": "the slope that vanishes on the line, `slope` or `slope_infinite`",
        "gamma_prime": _POINT["gamma_prime"],
        "gamma_a": "γ of the critical line of A; NaN where it has none",
        "gamma_low_a": "lower end of its 95 % band",
        "gamma_high_a": "upper end",
        "predicted_a": "γ of the predicted line of A; NaN where none is predicted",
        "gamma_b": "γ of the critical line of B",
        "gamma_low_b": "lower end of its 95 % band",
        "gamma_high_b": "upper end",
        "predicted_b": "γ of the predicted line of B",
        "difference": "`gamma_b` − `gamma_a`",
        "difference_low": "lower end, with the half-widths of both bands in quadrature",
        "difference_high": "upper end",
    },
}

COLUMNS = {"phase-diagram": _PHASE_DIAGRAM, "condensation": _CONDENSATION, "comparison": _COMPARISON}
"""Kind of study, or comparison -> table -> column -> what it holds, in Markdown."""


def schema_of(kind: str, table: str) -> pa.Schema:
    """The schema of a table in `COLUMNS`."""
    if kind == "comparison":
        return {"differences": SLOPE_DIFFERENCES, "lines": LINE_DIFFERENCES}[table]
    tables = TABLES[kind]
    return {"runs": tables.runs, "samples": tables.samples, tables.fitted_name: tables.fitted}[table]
