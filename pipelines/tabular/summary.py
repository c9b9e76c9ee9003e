"""What the runs on all tables say: medians, ranks, differences and ratios of seconds."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import gmean, rankdata

from daskalt.wording import plural
from pipelines.benchmark.curves import paired_ratio
from pipelines.benchmark.tables import Table
from pipelines.tabular.methods import METHODS

NEAR = 0.005  # of accuracy or R²: as good as the best


@dataclass(frozen=True)
class Results:
    """Runs of the same methods and seeds on some tables.

    Attributes
    ----------
    measures : dict of str
        What is measured on each table, by its name.
    runs : list of Run
        By table, then by method, then by seed.
    """

    measures: dict
    runs: list

    @cached_property
    def grouped(self):
        """The runs of each (table, method)."""
        groups = defaultdict(list)
        for run in self.runs:
            groups[run.table, run.method].append(run)
        return groups

    @cached_property
    def methods(self):
        """The methods' names."""
        return list(dict.fromkeys(run.method for run in self.runs))

    @property
    def networks(self):
        """The names of the methods that are networks."""
        return [name for name in self.methods if METHODS[name].is_network]

    @property
    def ours(self):
        """The names of daskalt's fits."""
        return [name for name in self.methods if METHODS[name].is_ours]

    @property
    def peers(self):
        """The names of the other networks."""
        return [name for name in self.networks if not METHODS[name].is_ours]

    def medians(self, measure, names):
        """Median of `measure` over the seeds, (tables, names)."""
        return np.array(
            [
                [
                    np.median([getattr(run, measure) for run in self.grouped[table, name]])
                    for name in names
                ]
                for table in self.measures
            ]
        )

    def mean_ranks(self, names):
        """Mean over the tables of the rank among `names`, by name; 1 is best, ties share."""
        ranks = rankdata(-self.medians("score", names), axis=1)
        return dict(zip(names, ranks.mean(axis=0).tolist(), strict=True))

    def differences(self, name, references):
        """The score on each table less that of the best among `references`."""
        (score,) = self.medians("score", [name]).T
        with np.errstate(invalid="ignore"):  # where all of them failed
            return score - self.medians("score", references).max(axis=1)

    def ratios(self, name, ours):
        """Seconds of `name` over those of `ours` within a seed, their median on each table."""
        return np.array(
            [
                paired_ratio(
                    [run.seconds for run in self.grouped[table, name]],
                    [run.seconds for run in self.grouped[table, ours]],
                )
                for table in self.measures
            ]
        )

    def worst(self, values, text):
        """The least of the tables' `values`, and the table where it is."""
        return f"{text.format(np.min(values))} ({list(self.measures)[np.argmin(values)]})"


def summary(results, setting):
    """All tables of the comparison; `setting` is any table's."""
    tables = [score_table(results, setting), second_table(results)]
    if len(results.networks) > 1:
        tables.append(network_table(results))
    if results.ours and len(results.methods) > len(results.ours):
        tables.append(ratio_table(results))
    return tables


def score_table(results, setting):
    """Median scores of all methods."""
    table = Table("scores", f"test rows, medians of {plural(len(setting.seeds), 'seed')}")
    table.notes.append(f"one hidden layer of {setting.hidden} units; --passes is {setting.passes}")
    medians = results.medians("score", results.methods)
    for (name, measure), row in zip(results.measures.items(), medians, strict=True):
        scores = [f"{score:.4f}" for score in row]
        table.add(table=name, measure=measure, **dict(zip(results.methods, scores, strict=True)))
    table.notes += [f"{name}: {METHODS[name].told}" for name in results.methods]
    table.notes += [
        f"{run.method} failed on {run.table}, seed {run.seed}: {run.failure}"
        for run in results.runs
        if run.failure
    ]
    return table


def second_table(results):
    """Median seconds of all methods."""
    table = Table("seconds", "of the whole fit with its own preparation of the rows, medians")
    medians = results.medians("seconds", results.methods)
    for name, row in zip(results.measures, medians, strict=True):
        table.add(table=name, **dict(zip(results.methods, row.tolist(), strict=True)))
    means = geometric_mean(medians)
    table.add(table="geometric mean", **dict(zip(results.methods, means, strict=True)))
    return table


def geometric_mean(values):
    """Geometric mean over the tables, nan where one of them is nan."""
    return gmean(values, axis=0).tolist()


def network_table(results):
    """Mean ranks of the networks, and how far each is from the best."""
    table = Table("networks", f"mean ranks and differences over {len(results.measures)} tables")
    ranks = results.mean_ranks(results.networks)
    references = {"the best": results.networks}
    references |= {"the best peer": results.peers} if results.ours and results.peers else {}
    for name in results.networks:
        cells = {"mean_rank": ranks[name], "beside_peers": rank_beside_peers(results, name)}
        for label, others in references.items():
            differences = results.differences(name, others)
            near = np.count_nonzero(differences >= -NEAR)
            cells[f"within {NEAR} of {label}"] = f"{near} of {len(differences)}"
            cells[f"worst to {label}"] = results.worst(differences, "{:+.4f}")
        if "daskalt" in results.ours:
            differences = results.differences(name, ["daskalt"])
            cells["worst to daskalt"] = results.worst(differences, "{:+.4f}")
        table.add(method=name, **cells)
    table.notes += [
        "Ranks: of the median scores among all networks here, trees left out; 1 is best. Beside "
        "peers: one of daskalt's fits at a time among the other libraries' networks, theirs beside "
        "daskalt's first.",
        f"Within {NEAR}: on how many tables the median is that close to the reference, or above "
        "it. Worst: the least difference of any table.",
    ]
    return table


def rank_beside_peers(results, name):
    """Mean rank among the peers and one of daskalt's fits: `name`, or else the first."""
    ours = [name] if name in results.ours else results.ours[:1]
    return results.mean_ranks([*ours, *results.peers])[name]


def ratio_table(results):
    """How many times as long the others take as daskalt."""
    table = Table("ratios", "seconds of the others over daskalt's")
    for name in results.methods:
        if name in results.ours:
            continue
        cells = {}
        for ours in results.ours:
            ratios = results.ratios(name, ours)
            least = results.worst(ratios, "{:.3g}")
            cells[f"over {ours}"] = f"{geometric_mean(ratios):.3g}, least {least}"
        table.add(method=name, **cells)
    table.notes.append(
        "Geometric means over the tables of the median over seeds of the ratio within a seed."
    )
    return table
