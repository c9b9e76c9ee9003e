"""Imports point only upwards in one list, the reading order of the package."""

import ast
from pathlib import Path

import pytest

import daskalt

ROOT = Path(daskalt.__file__).parent

# Each module may import those above it. A new module goes where it can be read.
ORDER = """
    errors versions signals shelter wording parameters records sealed limits bars jit
    links activation_passes activations loss_passes losses
    kernels.threads kernels.workspace kernels.scale kernels.step kernels.gram
    kernels.rowwise kernels.systems kernels.newton
    kernels.admm kernels.hessian kernels
    statistics reduction
    data.retries data.chunks data.guard data.traces data.recent data.rows data.decoded data.readers
    data.columns data.gaps data.checks data.ahead data.graphs data.table data.finite data.watch
    data.store folders data.groups data.scratch data.locks data.buckets data.writers data.staging
    data.arranging data.labelled data.identity
    data.containers data.choosing data.memory data.sources data.files data.casts data.lines
    data.frames data.medians data.spool data.recipe data.roles data.faults data.tally data.census
    data.encoding data.encoded data.array_files data.ingest data.opening data.passes data.zstore
    data.scaling data.targets data.survey data.fingerprint data
    layers network problem initial folding joint sweep weights progress
    rules.base rules.sgd rules.adaptive rules.schedules rules.line_search rules
    solvers.base solvers.reading solvers.job
    solvers.caution solvers.descent solvers.altmin_map solvers.local_steps solvers.altmin
    solvers.full_batch solvers.batch_map solvers.batch solvers.admm
    solvers.gradient solvers.searching solvers.conjugate solvers.lbfgs solvers.newton
    solvers.equivalents
    solvers.tasks solvers.pass_graph solvers.loop solvers.occupancy solvers.drivers solvers
    scoring ruin history checkpoint preparing keeping monitor listeners plan fitting rehearsal
    peaks changes planning export predicting fitted assembly prepared perceptron classifier
    regressor histograms assessment displays
    model runs.examples runs.document runs.sections runs.origins runs.heads runs.rows
    runs.inputs runs.output runs.account runs.choice runs.parts runs.config runs.clusters
    runs.folder runs.journal runs.report runs.advice runs.charts runs.page runs.running
    runs.options runs.commands runs.cli runs
"""
PLACE = {f"daskalt.{name}": place for place, name in enumerate(ORDER.split())}


def name_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
BELOW_ROOT = sorted(set(MODULES) - {"daskalt", "daskalt.__main__"})


def imports_of(path):
    """The modules that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES or node.module == "daskalt" else node.module


def test_every_module_has_a_place():
    assert sorted(PLACE) == BELOW_ROOT, "add new modules to ORDER in tests/test_layers.py"


@pytest.mark.parametrize("module", BELOW_ROOT)
def test_imports_point_upwards(module):
    ours = [name for name in imports_of(MODULES[module]) if name.split(".")[0] == "daskalt"]
    for name in ours:
        if name == "daskalt.__version__":  # set before anything is imported
            continue
        assert name in PLACE, f"{module} imports {name}, which is no module"
        assert PLACE[name] < PLACE[module], f"{module} imports {name} from below it"


@pytest.mark.parametrize("module", [name for name in BELOW_ROOT if ".kernels" in name])
def test_kernels_know_neither_dask_nor_zarr(module):
    libraries = {name.split(".")[0] for name in imports_of(MODULES[module])}
    assert not libraries & {"dask", "distributed", "zarr", "fsspec"}


@pytest.mark.parametrize("module", BELOW_ROOT)
def test_optional_libraries_are_imported_where_they_are_used(module):
    optional = {"pandas", "pyarrow", "xarray"}
    for node in ast.parse(MODULES[module].read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & optional
