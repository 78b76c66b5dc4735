"""The columns of tables of torch modules: those of phase diagrams, and how a network was trained."""

from __future__ import annotations

from dataclasses import replace

from ..phase_diagram.columns import RUNS as PLANE_RUNS
from ..phase_diagram.columns import TABLES as PLANE_TABLES
from ..storage.schema import ORIGIN, STR, Column, columns

TOGETHER, ALONE = "together", "alone"

_OWN = {
    "layer": "name of a trainable parameter of two or more dimensions",
    "width": "the width that the function was called with",
    "neurons": "equal to `width`",
    "depth": "0: nothing is predicted",
    "gamma_1": "0",
    "relative_change_spectral": "RD in the operator norm, of the layer as a matrix with a row for each of its outputs",
    "norm_initial": "Frobenius norm of the layer at the start",
    "effective_rank": "stable rank ‖W‖² / ‖W‖₂² of the layer after training, Frobenius norm over operator norm (Rudelson and Vershynin, "
    "J. ACM 54, 2007)",
    "effective_rank_change": "stable rank of the change of the layer",
    "orientations": "effective number of directions of the layer's outputs after training, at most 512; few in the condensed regime; "
    "NaN of a single output",
    "kernel_change": "change of the tangent kernel on at most 32 of the points and 10 outputs of each, relative, in the Frobenius norm",
    "loss_initial": "the loss on the training points at the start: Σ (f − y)² / 2n, or the mean cross-entropy",
    "loss_final": "the loss after training",
    "evaluations": "passes over the training points",
    "time": "sum of the learning rates of all steps; NaN of adam",
    "time_half": "`time` when the loss had halved; NaN of adam",
    "status": "`converged`; `evaluation_limit`: not converged after `epochs`; `stalled`: the gradient is zero, with gd; `diverged`: the "
    "loss is no finite number; `failed`: could not be made or trained, has no measures",
    "test_loss": "the loss on the test points, after training; NaN without test points",
    "test_error": "share of wrong classes of the test points; of numbers, root mean square of f − y over the root mean square of y",
    "linear_gap": "‖f_lin − f‖ / ‖f − f(0)‖ over the points after training by gd with mse, where f_lin is the network linearised in its "
    "weights at the start, trained by the same steps; NaN of all else, of dropout and batch norm, and of more than 512 numbers in all",
    "linear_gap_test": "the same over the test points; NaN without test points",
}
_BATCHING = Column(
    "batching",
    STR,
    f"`{TOGETHER}`: trained with others as one tensor operation (torch.func); `{ALONE}`: the module does not allow it, or its rows would "
    "depend on the others",
)

RUNS = columns(
    *(
        replace(column, meaning=_OWN.get(column.name, column.meaning), otherwise="")
        for column in PLANE_RUNS
        if column.name not in ORIGIN.names
    ),
    _BATCHING,
    ORIGIN,
)
TABLES = replace(PLANE_TABLES, runs=RUNS)
"""Runs: one row per job and layer. The other tables are those of a phase diagram."""
