"""Messages in the words of the command line."""

import pytest

from daskalt.runs.commands import describe
from daskalt.wording import plural


@pytest.mark.parametrize(
    ("command", "message", "said"),
    [
        (
            "fit",
            "Pass resume=True (--resume) to go on with it, resume=False (--overwrite) to start "
            "anew\n in its place.",
            "Pass --resume to go on with it, --overwrite to start anew in its place.",
        ),
        ("fit", "resume=True: it is of another fit", "--resume: it is of another fit"),
        ("fit", "Fit again with resume=False.", "Fit again with --overwrite."),
        ("predict", "exists. Pass overwrite=True.", "exists. Pass --overwrite."),
        ("fit", "set z_step='newton'", "set --parameters.solver.z_step newton"),
        (
            "fit",
            "use solver='batch-altmin' or hidden_layer_sizes=[8, 8]",
            "use --parameters.solver batch-altmin or --parameters.hidden_layer_sizes '[8, 8]'",
        ),
        (
            "plan",
            "memory_limit=2000, batch_size=50, dask.config.set(num_workers=1) would take",
            "--parameters.memory_limit 2000, --parameters.batch_size 50, the environment variable "
            "DASK_NUM_WORKERS=1 would take",
        ),
        ("fit", "data.held_out=0.1 and max(tol=1)", "data.held_out=0.1 and max(tol=1)"),
        (
            "fit",
            "Leave it out by exclude='key', or fill it by missing='median'; ident='row'.",
            "Leave it out by --exclude key, or fill it by --data.missing median; --id row.",
        ),
        ("evaluate", "tol=0.1 stays", "tol=0.1 stays"),
        ("fit", "give solver=LBFGS(memory=3) or none", "give solver=LBFGS(memory=3) or none"),
        ("ingest", "give chunk_rows=100", "give --chunk-rows 100"),
    ],
)
def test_arguments_become_options(command, message, said):
    assert describe(ValueError(message), command) == said


def test_counts():
    assert plural(1, "task") == "1 task"
    assert plural(0, "row") == "0 rows"
    assert plural(2000, "pass", "passes") == "2,000 passes"
