"""The check `gradient`: map-reduced gradient descent beside scikit-learn and the machine's BLAS."""

import time
import warnings
from statistics import median

import dask
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

import daskalt
from daskalt.kernels.workspace import thread_workspace
from daskalt.network.problem import Rows
from daskalt.solvers.z_step import gradient_step
from pipelines.benchmark.data import scaled
from pipelines.benchmark.tables import Table, at_least, at_most

EPOCH = {200: 1.2, 1_000: 0.7, 2_000: 0.7}  # Adam's epoch over scikit-learn's, by rows a step
RATE, CORES, CHEAP = 0.8, 1.9, 3.0
CORE_SEEDS = 3


def check_gradient(setting):
    """Adam's epoch over scikit-learn's; the rate of full-batch passes; the cost of a gradient."""
    table = Table("gradient", f"gradient descent on 784-{setting.hidden[0]}-10")
    for rows, bound in EPOCH.items():
        ours, theirs = [], []
        for seed in setting.seeds:
            ours.append(our_epoch(setting, seed, rows))
            theirs.append(their_epoch(setting, seed, rows))
        ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
        table.add(
            at_most(ratio, bound, " ×"),
            what=f"Adam's epoch, {rows} rows a step, over scikit-learn's",
            ours=f"{median(ours):.2f} s",
            beside=f"{median(theirs):.2f} s",
            ratio=ratio,
        )
    one, two, machine = full_batch_rates(setting)
    table.add(
        at_least(two / machine, RATE, " ×"),
        what="full-batch gradient pass on two cores, GFLOP/s, over sgemm's",
        ours=f"{two:.0f}",
        beside=f"{machine:.0f}",
        ratio=two / machine,
    )
    table.add(
        at_least(two / one, CORES, " ×"),
        what="full-batch gradient pass, two cores over one, GFLOP/s",
        ours=f"{two:.0f}",
        beside=f"{one:.0f}",
        ratio=two / one,
    )
    for hidden in (setting.hidden, (setting.hidden[0],) * 2):
        gradient, ahead = gradient_and_forward(setting, hidden)
        table.add(
            at_most(gradient / ahead, CHEAP, " ×"),
            what=f"gradient of {'-'.join(map(str, (784, *hidden, 10)))} over its forward pass",
            ours=f"{1e3 * gradient:.1f} ms",
            beside=f"{1e3 * ahead:.1f} ms",
            ratio=gradient / ahead,
        )
    table.notes.append(
        "Epochs: the median pass after the first, ours from Zarr, scikit-learn's from float32 in "
        "memory; one after the other for each seed, the ratio a median over the seeds. Rates: the "
        "best of several passes over rows in memory, matrix products counted, everything timed; "
        "sgemm on two threads, the best of products of 2,048 rows and columns, in the same run. "
        "Gradient and forward pass: of 2,048 rows on one core."
    )
    return table


def our_epoch(setting, seed, rows):
    """Seconds of a later pass of Adam."""
    model = daskalt.MLPClassifier(
        setting.hidden,
        solver="adam",
        batch_size=rows,
        max_iter=setting.passes(4),
        tol=0,
        random_state=seed,
    ).fit(setting.store)
    return median(record["seconds"] for record in model.history_[1:])


def their_epoch(setting, seed, rows):
    """Seconds of a later epoch of scikit-learn's Adam."""
    X, y = scaled(setting.images.x_train), setting.images.y_train
    model = MLPClassifier(setting.hidden, batch_size=rows, max_iter=1, random_state=seed)
    model.set_params(warm_start=True)
    seconds = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(setting.passes(4)):
            start = time.perf_counter()
            model.fit(X, y)
            seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


def full_batch_rates(setting):
    """GFLOP/s of full-batch gradient passes on one core and on two, and of sgemm on two."""
    solver = daskalt.GradientDescent(full_batch=True)
    X, y = setting.images.x_train, setting.images.y_train
    rates, machine = {1: [], 2: []}, []
    for seed in range(CORE_SEEDS):
        for cores in rates:
            with dask.config.set(scheduler="threads", num_workers=cores):
                model = daskalt.MLPClassifier(
                    setting.hidden,
                    solver=solver,
                    scale="none",
                    max_iter=setting.passes(5),
                    tol=0,
                    random_state=seed,
                ).fit(X, y)
            flops = solver.flops(model._fitted.problem.network) * len(X)
            rates[cores].append(flops / min(r["seconds"] for r in model.history_) / 1e9)
        machine.append(sgemm_rate())
    return max(rates[1]), max(rates[2]), max(machine)


def sgemm_rate(size=2048, repeats=10):
    """GFLOP/s of single-precision products on two threads."""
    a, b = np.random.default_rng(0).standard_normal((2, size, size)).astype(np.float32)
    out = np.empty_like(a)
    best = np.inf
    with threadpool_limits(2, user_api="blas"):
        for _ in range(repeats):
            start = time.perf_counter()
            np.matmul(a, b, out=out)
            best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def gradient_and_forward(setting, hidden, rows=2048, repeats=15):
    """Seconds of the gradient of some rows, and of their forward pass alone, on one core."""
    X, y = setting.images.x_train[:rows], setting.images.y_train[:rows]
    model = daskalt.MLPClassifier(hidden, solver="sgd", max_iter=1, random_state=0, tol=0).fit(X, y)
    problem, weights = model._fitted.problem, model._fitted.state.weights
    block = Rows(np.asarray(X), problem.targets.encode(np.asarray(y), problem.dtype), None)

    def gradient():
        return gradient_step(problem, weights, block)

    def ahead():
        workspace = thread_workspace()
        return problem.network.trace(weights, problem.inputs(block.X, workspace), workspace)

    seconds = {gradient: [], ahead: []}
    with threadpool_limits(1, user_api="blas"):
        for _ in range(repeats):
            for function, taken in seconds.items():
                start = time.perf_counter()
                function()
                taken.append(time.perf_counter() - start)
    return median(seconds[gradient]), median(seconds[ahead])
