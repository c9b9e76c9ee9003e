"""Checks of speed and convergence: `pass`, `accuracy`, `steps`."""

import math

from pipelines.benchmark import ours
from pipelines.benchmark.alternate import alternate
from pipelines.benchmark.curves import median_of, paired_ratio
from pipelines.benchmark.tables import Table, at_least, at_most
from pipelines.peers import (
    DASK_ML,
    SKLEARN,
    TORCH_ADAM,
    TORCH_EXPERT,
    TORCH_EXPERT_FUSED,
    TORCH_LARGE_STEPS,
    run_peer,
)

ACCURACY = 0.98
# How many times sooner than each peer daskalt must get to ACCURACY.
SOONER = {TORCH_EXPERT: 2, TORCH_EXPERT_FUSED: 2, SKLEARN: 4, DASK_ML: 5, TORCH_ADAM: 5}
OURS, LONGER = "daskalt", "daskalt, max_iter=3"


def check_pass(setting):
    """Seconds of a pass at 1,000 and 2,000 rows a step, against scikit-learn's epoch."""
    passes = setting.passes(3)
    jobs = {f"daskalt, {rows:,} rows a step": fit_job(passes, rows) for rows in (1_000, 2_000)}
    results = alternate({SKLEARN.name: peer_job(SKLEARN, passes=passes)} | jobs, setting)
    peer = [sum(curve.seconds) / passes for curve in results.pop(SKLEARN.name)]
    table = Table("pass", f"seconds a pass over {len(setting.images.x_train):,} rows")
    table.add(method=SKLEARN.name, seconds_a_pass=median_of(peer), alone="", of_peer=1.0)
    for name, fits in results.items():
        ratio = paired_ratio([fit.seconds_a_pass for fit in fits], peer)
        table.add(
            at_most(ratio, 0.5, " ×"),
            method=name,
            seconds_a_pass=median_of(fit.seconds_a_pass for fit in fits),
            alone=median_of(seconds for fit in fits for seconds in fit.passes),
            of_peer=ratio,
        )
    table.notes += [
        f"Seconds a pass: the whole fit shared out over its {passes} passes. Alone: the median "
        "pass without what comes before and after. Of peer: seconds a pass over scikit-learn's.",
        ours.CHARGED,
    ]
    return table


def check_accuracy(setting):
    """Seconds and passes until 98 % of the test rows are right, for every method."""
    peers = [peer for peer in SOONER if not peer.skipped]
    jobs = {OURS: our_job(None), LONGER: our_job(3)}
    jobs |= {peer.name: peer_job(peer, enough=ACCURACY) for peer in peers}
    results = alternate(jobs, setting)
    table = Table("accuracy", f"until {ACCURACY:.1%} of the test rows are right")
    table.curves = [curve for curves in results.values() for curve in curves]
    passes, _ = zip(*(curve.first_reached(ACCURACY) for curve in results[OURS]), strict=True)
    nothing = {"daskalt_sooner_by": math.nan, "in_3_passes_by": math.nan}
    reach_row(table, results[OURS], at_most(median_of(passes), 3, " passes"), nothing)
    reach_row(table, results[LONGER], None, nothing)
    for peer in peers:
        ratio, longer = (
            paired_ratio(times(results[peer.name]), times(results[name])) for name in (OURS, LONGER)
        )
        ratios = {"daskalt_sooner_by": ratio, "in_3_passes_by": longer}
        reach_row(table, results[peer.name], at_least(ratio, SOONER[peer], " ×"), ratios)
    table.notes += [
        *(peer.skipped for peer in SOONER if peer.skipped),
        "Sooner: the peer's seconds over daskalt's, median of the seeds' own ratios. In 3 passes: "
        "the same for a fit told to make three passes, whose steps anneal later.",
        ours.CHARGED,
    ]
    return table


def our_job(passes):
    """A job for `alternate`: the curve of a fit of so many passes; None leaves it the default."""
    name = OURS if passes is None else LONGER

    def job(setting, seed):
        number = 2 if setting.quick else passes
        return ours.curve(setting, seed, number, method=name)

    return job


def reach_row(table, curves, target, ratios):
    """Add a method's line to the table of `check_accuracy`."""
    passes, seconds = zip(*(curve.first_reached(ACCURACY) for curve in curves), strict=True)
    table.add(
        target,
        method=curves[0].method,
        passes=median_of(map(float, passes)),
        seconds=median_of(seconds),
        **ratios,
        seconds_a_pass=median_of(second for curve in curves for second in curve.seconds),
        loss_after_pass_3=median_of(curve.loss_after(3) for curve in curves),
        last_accuracy=median_of(curve.accuracy[-1] for curve in curves),
    )


def times(curves):
    """Seconds to ACCURACY of each run."""
    return [curve.first_reached(ACCURACY)[1] for curve in curves]


def check_steps(setting):
    """Training loss after three passes at 1,000 and 5,000 rows a step."""
    passes, bounds = setting.passes(3), {1_000: 0.02, 5_000: 0.05}

    def job(rows):
        return lambda setting, seed: described(setting, fit_job(passes, rows)(setting, seed))

    jobs = {f"daskalt, {rows:,} rows a step": job(rows) for rows in bounds}
    if not TORCH_LARGE_STEPS.skipped:
        jobs[TORCH_LARGE_STEPS.name + ", 5,000 rows a step"] = peer_summary
    results = alternate(jobs, setting)
    table = Table("steps", f"training loss after {passes} passes")
    targets = iter(bounds.values())
    for name, runs in results.items():
        losses, accuracies, seconds = map(median_of, zip(*runs, strict=True))
        bound = next(targets, None)
        table.add(
            bound and at_most(losses, bound),
            method=name,
            training_loss=losses,
            test_accuracy=accuracies,
            seconds_a_pass=seconds,
        )
    table.notes += filter(None, [TORCH_LARGE_STEPS.skipped])
    return table


def described(setting, fit):
    """(training loss, test accuracy, seconds a pass) of a timed fit."""
    images = setting.images
    loss, accuracy = (
        ours.loss_on_training(fit.model, images),
        ours.accuracy_on_test(fit.model, images),
    )
    return loss, accuracy, fit.seconds_a_pass


def peer_summary(setting, seed):
    """The same of PyTorch at the large step."""
    curve = run_peer(TORCH_LARGE_STEPS, setting, seed)
    return curve.loss[-1], curve.accuracy[-1], sum(curve.seconds) / len(curve.seconds)


def fit_job(passes, batch_size):
    """A job for `alternate`: a timed fit at `batch_size` rows a step."""
    return lambda setting, seed: ours.timed_fit(setting, seed, passes, batch_size=batch_size)


def peer_job(peer, **limits):
    """A job for `alternate`: the curve of a peer."""
    return lambda setting, seed: run_peer(peer, setting, seed, **limits)
