"""The words of a report: the result, what fell short, what to do next."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from daskalt.memory.limits import describe_bytes
from daskalt.training.listeners import SCORES
from daskalt.wording import plural

__all__ = ["advise", "find_shortcomings", "next_commands"]

History = Sequence[dict[str, Any]]

STILL_FALLING = 0.01  # of the loss, in the last tenth of the passes
RISEN = 1.05  # validation loss over its best, while the training loss fell
GAPS = {"accuracy": 0.1, "r2": 0.2}  # of a score between training and held-out rows
PLAN_OFF, NEAR_LIMIT = 0.3, 0.85
TOLD_ANYWAY = ("DivergenceWarning", "RefusalWarning")  # by what the history says


def advise(report: dict[str, Any], history: History) -> dict[str, Any]:
    """Return the headline, the shortcomings and the next commands of a run."""
    return {
        "headline": _capital(_headline(report)),
        "shortcomings": list(find_shortcomings(report, history)),
        "next": next_commands(report, history),
    }


def _headline(report: dict[str, Any]) -> str:
    if "held_out" in report:
        rows = plural(report["rows"]["held_out"], "held-out row")
        return f"{_score_words(report['held_out'])} on {rows}"
    last = report["best_pass"]
    held = {k.removeprefix("validation_"): v for k, v in last.items() if "validation_" in k}
    if held:
        return f"{_score_words(held)} on the rows held out for early stopping"
    return f"{_score_words(last)} on the training rows, as the pass met them"


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _score_words(score: dict[str, Any]) -> str:
    name = next((name for name in SCORES if name in score), None)
    return f"loss {score['loss']:.4g}" if name is None else f"{SCORES[name]} {score[name]:.4f}"


def find_shortcomings(report: dict[str, Any], history: History) -> Iterator[str]:
    """Yield what fell short in a run, each with a remedy."""
    yield from _of_passes(report, history)
    yield from _of_scores(report)
    yield from _of_classes(report)
    yield from _of_memory(report)
    yield from (
        warning["words"] for warning in report["warnings"] if warning["kind"] not in TOLD_ANYWAY
    )


def _of_passes(report: dict[str, Any], history: History) -> Iterator[str]:
    watched = [record[report["watched"]] for record in history]
    training = [record["loss"] for record in history]
    ended = report["stop_kind"] != "all made"
    if not ended and _still_falling(watched):
        fall = "" if len(history) == 1 else _fall(watched)
        yield (
            f"The {_loss_words(report)} was still falling{fall} when all "
            f"{plural(len(history), 'pass', 'passes')} were made: give more passes."
            if len(history) > 1
            else "One pass was made, from which nobody can tell whether the loss has settled: give "
            "more passes."
        )
    best = min(watched)
    early = report["parameters"]["changed"].get("early_stopping")  # the best weights were kept
    if not early and watched[-1] > RISEN * best and training[-1] < training[watched.index(best)]:
        yield (
            f"The {_loss_words(report)} was least after pass {watched.index(best) + 1} "
            f"({best:.4g}) and has risen to {watched[-1]:.4g} while the training loss fell: the "
            "network overfits. Set early_stopping, raise alpha, or take fewer passes or units."
        )
    refused = sum(record.get("refused") or 0 for record in history)
    if refused:
        yield (
            f"{plural(refused, 'step')} met numbers that were not finite and were refused. Take "
            "smaller steps, and look for outliers."
        )
    if report["stop_kind"] == "diverged":
        yield (
            f"{_capital(report['stop_reason'])}. Take smaller steps (a "
            "lower learning rate, more damping), or look for outliers."
        )


def _loss_words(report: dict[str, Any]) -> str:
    return "training loss" if report["watched"] == "loss" else "validation loss"


def _still_falling(losses: list[float]) -> bool:
    if len(losses) == 1:
        return True
    before = losses[-1 - max(1, len(losses) // 10)]
    return losses[-1] <= min(losses) and losses[-1] < (1 - STILL_FALLING) * before


def _fall(losses: list[float]) -> str:
    count = max(1, len(losses) // 10)
    share = 1 - losses[-1] / losses[-1 - count]
    return f", by {100 * share:.0f} % in the last {'pass' if count == 1 else f'{count} passes'},"


def _of_scores(report: dict[str, Any]) -> Iterator[str]:
    held = report.get("held_out")
    for name, gap in GAPS.items():
        if held and report["last_pass"].get(name, held.get(name, 0.0)) - held.get(name, 0.0) > gap:
            yield (
                f"{SCORES[name].capitalize()} is {held[name]:.3f} on held-out rows and "
                f"{report['last_pass'][name]:.3f} on training rows: the network has memorised its "
                "training rows, or the held-out rows are of another kind. Raise alpha, take fewer "
                "units, or more rows."
            )


def _of_classes(report: dict[str, Any]) -> Iterator[str]:
    confusion = report.get("confusion")
    if not confusion:
        return
    names = report["classes"]
    missed = [
        name
        for name, rated in zip(names, confusion["classes"], strict=True)
        if rated["rows"] and not rated["predicted"]
    ]
    if missed:
        shown = ", ".join(missed[:5]) + (f" and {len(missed) - 5} more" if len(missed) > 5 else "")
        yield (
            f"Present, but never predicted: {shown}. Classes with few rows count for little: "
            "class_weight='balanced' gives them their share."
        )


def _of_memory(report: dict[str, Any]) -> Iterator[str]:
    plan, measured = report.get("plan"), report["measured"]
    if not plan:
        return
    for who, kind, limit in (
        ("this process", "client_bytes", plan["memory_limit"]),
        ("a worker", "worker_bytes", plan["worker_limit"]),
    ):
        if not plan[kind] or not measured[kind]:
            continue
        ratio = measured[kind] / plan[kind]
        words = f"{describe_bytes(measured[kind])} in {who}"
        if abs(ratio - 1) > PLAN_OFF:
            yield f"Memory peaked at {words}, where {describe_bytes(plan[kind])} were planned."
        if limit and measured[kind] > NEAR_LIMIT * limit:
            yield (
                f"Memory peaked at {words}, near the limit of {describe_bytes(limit)}: set "
                "memory_limit, which makes blocks and steps smaller."
            )


def next_commands(report: dict[str, Any], history: History) -> list[dict[str, str]]:
    """Return what to do next: words, and a command for it."""
    output, data = report["output"], report["data"]
    suffix = "csv" if "columns" in report else "zarr"  # like the rows that it was trained on
    held = data.get("held_out", {}).get("place")
    rows = held if held not in (None, data["training"]["place"]) else f"test.{suffix}"
    new = f"new.{suffix}"
    config = f"{output}/config.yaml"
    commands: list[tuple[str, tuple]] = [
        (
            "Predict rows of your own",
            ("predict", output, new, "--output", "labels.csv"),
        ),
        ("Score rows that have targets", ("evaluate", output, rows)),
    ]
    if report["stop_kind"] == "all made":
        more = 2 * len(history)
        how, words = "--overwrite", "Train anew with"
        if report["resumable"]:
            how, words = "--resume", "Train on to"
        again = ("fit", config, "--passes", more, how)
        commands.append((f"{words} {more} passes", again))
    commands.append(("See what the fit takes", ("plan", config)))
    return [
        {"what": name, "command": shlex.join(["daskalt", *map(str, words)])}
        for name, words in commands
    ]
