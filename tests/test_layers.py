"""Imports point only upwards in one list, the reading order of the package."""

import ast
from pathlib import Path

import pytest

import daskalt

ROOT = Path(daskalt.__file__).parent

# The reading order: packages from what is simplest to what stands on all of it, and the modules of
# each. A module may import from those above it alone. A new one goes where it can be read.
TOP = "errors versions wording parameters jit"
PACKAGES = {
    "functions": """
        links activation_passes activations loss loss_passes losses
    """,
    "kernels": """
        workspace scale step thin gram rowwise systems damped_newton admm hessian
    """,
    "compute": """
        signals shelter bars threads statistics graph hands progress
    """,
    "storage": """
        records sealed retries chunks guard store folders groups scratch locks variables
    """,
    "data": """
        traces recent rows decoded readers columns gaps checks ahead graphs table finite
        watch buckets writers staging arranging labelled identity containers choosing memory
        sources recipe opening passes scaling targets spread survey fingerprint
    """,
    "ingest": """
        files casts lines frames medians spool roles faults tally census encoding encoded
        array_files ingest
    """,
    "network": """
        layers network problem initial folding joint sweep scoring
    """,
    "rules": """
        base sgd adaptive schedules line_search
    """,
    "solvers": """
        least_squares base caution grams descent evidence z_step local_steps altmin full_batch
        batch_z_step batch_altmin admm gradient searching conjugate lbfgs newton equivalents
    """,
    "training": """
        reading job tasks pass_graph synchronous occupancy drivers ruin history checkpoint
        preparing keeping monitor listeners fitting
    """,
    "memory": """
        limits plan rehearsal peaks changes planning
    """,
    "estimators": """
        goals export predicting fitted assembly prepared perceptron labelled classifier
        regressor model
    """,
    "assessment": """
        histograms quality displays
    """,
    "runs": """
        examples document sections origins heads rows inputs output account choice parts
        config clusters folder journal report advice charts page running options commands
        cli
    """,
}
ORDER = TOP.split()
for package, modules in PACKAGES.items():
    ORDER += [*(f"{package}.{module}" for module in modules.split()), package]
PLACE = {f"daskalt.{name}": place for place, name in enumerate(ORDER)}


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


def test_the_top_level_has_packages_and_a_few_small_files():
    files = [path for path in ROOT.glob("*.py") if not path.stem.startswith("__")]
    assert sorted(path.stem for path in files) == sorted(TOP.split())
    assert len(files) <= 6
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(PACKAGES)


@pytest.mark.parametrize("module", BELOW_ROOT)
def test_files_and_functions_are_short(module):
    """At most 400 lines a file, and 50 of code in the body of a function outside kernels."""
    text = MODULES[module].read_text()
    assert text.count("\n") <= 400
    if module.startswith("daskalt.kernels."):
        return
    lines = text.split("\n")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            described = ast.get_docstring(node) is not None
            start = node.body[0].end_lineno if described else node.body[0].lineno - 1
            code = [line for line in lines[start : node.end_lineno] if line.strip(" #")]
            assert len(code) <= 50, f"{module}.{node.name} has {len(code)} lines of code"
