"""One fit in a process of its own, for checks of memory; prints its own account as JSON.

`python -m pipelines.benchmark.memory_fit STORE SEED SOLVER PASSES WIDTH [WIDTH ...]`
"""

import json
import sys
import time
from pathlib import Path

import daskalt


def high_water():
    """Highest resident memory of this process so far, in GB.

    From the kernel's VmHWM and not `getrusage`, whose maximum outlives the start of a new
    program and would be that of the benchmark itself.
    """
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise RuntimeError("/proc/self/status has no VmHWM: the memory check needs Linux")


def transferred():
    """Bytes that this process has read from and written to files and pipes so far."""
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    account = dict(line.split(": ") for line in lines)
    return int(account["rchar"]) + int(account["wchar"])


def main(store, seed, solver, passes, *widths):
    """Fit and print the peaks before and after it, its seconds and the bytes it moved."""
    model = daskalt.MLPClassifier(
        tuple(map(int, widths)), solver=solver, max_iter=int(passes), tol=0, random_state=int(seed)
    )
    before, moved, start = high_water(), transferred(), time.perf_counter()
    model.fit(store)
    account = {
        "before": before,
        "peak": high_water(),
        "seconds": time.perf_counter() - start,
        "moved": transferred() - moved,
        "charged": model.cost_["bytes_read"] + model.cost_["bytes_written"],
    }
    print(json.dumps(account))


if __name__ == "__main__":
    main(*sys.argv[1:])
