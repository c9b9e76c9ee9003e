"""One fit in a process of its own, for the check `memory`; prints its own account as JSON.

`python -m pipelines.benchmark.memory_fit STORE SEED WIDTH [WIDTH ...]`
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


def main(store, seed, *widths):
    """Fit one pass and print the peaks before and after it, and its seconds."""
    model = daskalt.MLPClassifier(tuple(map(int, widths)), max_iter=1, random_state=int(seed))
    before, start = high_water(), time.perf_counter()
    model.fit(store)
    seconds = time.perf_counter() - start
    print(json.dumps({"before": before, "peak": high_water(), "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
