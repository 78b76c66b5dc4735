"""The columns of its tables."""

from phasediag.storage.schema import FLOAT, INT, JOB_ID, ORIGIN, STR, Column, Tables, columns

_RATE = Column("rate", FLOAT, "the size of a step")
RUNS = columns(
    JOB_ID,
    _RATE,
    Column("left", FLOAT, "what is left of w"),
    Column("evaluations", INT, "steps"),
    Column("status", STR, "how it ended"),
    ORIGIN,
)
TABLES = Tables(
    runs=RUNS,
    samples=columns(JOB_ID, _RATE),
    fitted=columns(_RATE, Column("speed", FLOAT, "-log(left) per step", "1/step")),
    fitted_name="speeds",
    run_key=("job_id",),
    order=("rate",),
)
