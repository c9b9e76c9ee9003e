"""The machine and the libraries a benchmark ran on, in one line."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from threadpoolctl import threadpool_info

PACKAGES = ("daskalt", "numpy", "numba", "dask", "distributed", "zarr", "scikit-learn")
PEER_PACKAGES = ("torch", "dask-ml")
# Taken before the benchmark itself keeps the cores busy: OpenMP's waiting threads suffer most
# from neighbours, so a load far from zero means that the peers' seconds cannot be trusted.
LOAD_AT_START = os.getloadavg()


def environment_line():
    """CPU, cores, load, Python, library versions and the BLAS in use."""
    load = ", ".join(f"{number:.2f}" for number in LOAD_AT_START)
    return "; ".join(
        [
            f"{processor()}, {len(os.sched_getaffinity(0))} cores, load at start {load}",
            f"Python {platform.python_version()}",
            ", ".join(filter(None, map(named_version, PACKAGES + PEER_PACKAGES))),
            blas(),
        ]
    )


def warning_if_busy():
    """A warning when other work kept the cores busy at the start, else an empty string."""
    if LOAD_AT_START[0] <= 0.5:
        return ""
    return f"load {LOAD_AT_START[0]:.2f} at the start: other work runs here, do not trust the times"


def processor():
    """The processor's name as the kernel gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def named_version(package):
    """The package with its version, or an empty string when it is not installed."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""


def blas():
    """The BLAS libraries loaded: version, chosen core type and threads of each."""
    found = {
        f"{lib['internal_api']} {lib.get('version') or ''} "
        f"{lib.get('architecture') or ''} {lib['num_threads']} threads"
        for lib in threadpool_info()
        if lib["user_api"] == "blas"
    }
    forced = os.environ.get("OPENBLAS_CORETYPE")
    return ", ".join(sorted(found)) + (f" (OPENBLAS_CORETYPE={forced})" if forced else "")


def blas_threads():
    """Threads of every BLAS and OpenMP library now loaded, by file."""
    return {lib["filepath"]: lib["num_threads"] for lib in threadpool_info()}
