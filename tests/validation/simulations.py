"""Simulated sweeps whose answer is known, and how often the intervals and tests find it.

The tests of this folder run them in small, ``benchmarks/simulate_coverage.py`` in full. ``sweep_of`` is
the builder of ``tests/conftest.py``; the sizes of a sweep map N to an array of shape (runs, snapshots).
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order

from gradquake.analysis import scaling, transitions
from gradquake.analysis.dimension import crossing_of_null, curve
from gradquake.analysis.fits import lines, slopes, student_quantile
from gradquake.analysis.group_functions import (
    crossing_of_groups,
    difference_of_groups,
    exponent_of_groups,
    rise_of_groups,
)
from gradquake.analysis.groups import disjoint_groups, mean_of_groups, runs_at_scales
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.resampling import difference, percentile_interval, run_resamples
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.statistics import STATISTICS
from gradquake.analysis.sweep import SweepAnalysis
from gradquake.analysis.timing import follows_grokking
from gradquake.avalanche.topologies import build
from gradquake.experiments import readings
from gradquake.experiments.readings import Reading
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.scrutiny import replay
from gradquake.study.recording import GradientRecord, to_dataset

# --- Sizes of a given dimension ---------------------------------------------------------------------

HIDDEN = (20, 30, 50, 70, 100, 120, 200, 500)
SCALES = tuple(4 * h + 1 for h in HIDDEN)
SNAPSHOTS = 20


def whole(sizes, rng):
    """Round to whole topplings by chance, so that no mean is shifted."""
    return np.floor(sizes + rng.random(sizes.shape))


@dataclass(frozen=True)
class Scatter:
    """How sizes scatter about N^D: a lognormal factor of the run times one of the snapshot.

    The snapshot's is lognormal too, or Pareto with P(> x) = x^-tail. As the factors are alike at every
    N, log max and log mean have the slope D, on average over sweeps. A scatter that ``shrinks`` as
    1 / sqrt(N) keeps the mean size at N^D, but the largest then grows more slowly.
    """

    of_run: float
    of_snapshot: float = 0.0
    tail: float = np.inf
    shrinks: bool = False

    def sizes(self, n, dimension, of_runs, snapshots, rng):
        """Sizes of shape (runs, snapshots); the dimension is a number, or an array that broadcasts.

        ``of_runs`` are the logarithms of the runs' factors in standard deviations, shape (runs, 1).
        """
        shape = (len(of_runs), snapshots)
        shrunk = np.sqrt(SCALES[0] / n) if self.shrinks else 1.0
        run, snapshot = shrunk * self.of_run, shrunk * self.of_snapshot
        if np.isfinite(self.tail):
            own = rng.exponential(1 / self.tail, shape)
        else:
            own = snapshot * rng.standard_normal(shape)
        centre = (run**2 + snapshot**2) / 2 if self.shrinks else 0.0
        return whole(float(n) ** np.asarray(dimension) * np.exp(run * of_runs + own - centre), rng)


SCATTERS = {
    "narrow": Scatter(0.02, 0.1),
    "lognormal": Scatter(0.4, 0.8),
    "run-dominated": Scatter(0.8, 0.2),
    "Pareto tail": Scatter(0.2, tail=2.5),
}
SHRINKING = Scatter(0.4, 0.8, shrinks=True)


def sizes_of(scatter, dimension, runs, rng, snapshots=SNAPSHOTS):
    """The sizes of a sweep; the dimension is a number or one for each snapshot."""
    return {
        n: scatter.sizes(n, dimension, rng.standard_normal((runs, 1)), snapshots, rng) for n in SCALES
    }


def shares_of(hits):
    """The share of hits in each list."""
    return {key: float(np.mean(values)) for key, values in hits.items()}


def exponent_coverage(
    sweep_of, scatter, runs, sweeps, *, snapshot_sweeps=0, dimension=1.1, n_resamples=1_000, seed=23
):
    """How often each interval of an exponent contains D, by (statistic, interval).

    The intervals are "expanded" (the bootstrap's, in use for the mean), "plain" (percentiles of the
    same resamples) and "fit" (Student's t of the residuals, in use for the maximum); "snapshots" (the
    bootstrap over single snapshots, which takes long) in the first ``snapshot_sweeps``. "bias" is the
    mean of the estimate minus D.
    """
    rng = np.random.default_rng(seed)
    found = defaultdict(list)
    for sweep in range(sweeps):
        dataset = sweep_of(sizes_of(scatter, dimension, runs, rng))
        for s in STATISTICS:
            exponent = scaling.exponent(dataset, s, n_resamples=n_resamples, seed=sweep)
            plain = percentile_interval(exponent.resamples)
            expanded = percentile_interval(exponent.resamples, runs)
            found[s, "expanded"].append(expanded.contains(dimension))
            found[s, "plain"].append(plain.contains(dimension))
            found[s, "fit"].append(exponent.fit.low <= dimension <= exponent.fit.high)
            found[s, "bias"].append(exponent.value - dimension)
            if sweep < snapshot_sweeps:
                interval = scaling.snapshot_interval(dataset, s, n_resamples=300, seed=sweep)
                found[s, "snapshots"].append(interval.contains(dimension))
    return shares_of(found)


def difference_coverage(sweep_of, scatter, runs, sweeps, *, n_resamples=1_000, seed=29):
    """How often the paired interval contains the difference of D, by (statistic, difference).

    The two sweeps share the factors of their runs, as data and surrogate do, and have D = 1.1 and
    1.1 or 1.2. (statistic, "apart") is the share for intervals of the difference 0.1 above 0.
    """
    rng = np.random.default_rng(seed)
    found = defaultdict(list)
    for sweep in range(sweeps):
        sizes = [{}, {}, {}]
        for n in SCALES:
            of_runs = rng.standard_normal((runs, 1))
            for of_sweep, dimension in zip(sizes, (1.1, 1.1, 1.2), strict=True):
                of_sweep[n] = scatter.sizes(n, dimension, of_runs, SNAPSHOTS, rng)
        datasets = [sweep_of(of_sweep) for of_sweep in sizes]
        for s in STATISTICS:
            first, *others = (
                scaling.exponent(dataset, s, n_resamples=n_resamples, seed=sweep) for dataset in datasets
            )
            for planted, other in zip((0.0, 0.1), others, strict=True):
                interval = difference(other, first)
                found[s, planted].append(interval.contains(planted))
            found[s, "apart"].append(interval.low > 0)
    return shares_of(found)


# --- What a number of runs measures -----------------------------------------------------------------


def run_values(scatter, dimension, sweeps, runs, rng):
    """The largest and the mean size of each run, by statistic, shape (sweeps, runs, scales)."""
    found = {s: np.empty((sweeps, runs, len(SCALES))) for s in STATISTICS}
    for k, n in enumerate(SCALES):
        sizes = scatter.sizes(n, dimension, rng.standard_normal((sweeps * runs, 1)), SNAPSHOTS, rng)
        found["max"][:, :, k] = sizes.max(axis=1).reshape(sweeps, runs)
        found["mean"][:, :, k] = sizes.mean(axis=1).reshape(sweeps, runs)
    return found


def over_runs(statistic, values, axis):
    """The statistic of the runs along an axis, from that of each run."""
    return values.max(axis=axis) if statistic == "max" else values.mean(axis=axis)


def estimand_coverage(scatter, runs, sweeps, *, dimension=1.1, n_resamples=1_000, seed=41):
    """How often intervals contain the expected exponent of so many runs, by (statistic, interval).

    "expanded" and "fit" as in ``exponent_coverage``, of sweeps of that many runs. (statistic,
    "expected") is the expected exponent, from eight times as many sweeps.
    """
    rng = np.random.default_rng(seed)
    expected = run_values(scatter, dimension, 8 * sweeps, runs, rng)
    measured = run_values(scatter, dimension, sweeps, runs, rng)
    draws = run_resamples([runs] * len(SCALES), n_resamples, seed)
    found = {}
    for s in STATISTICS:
        truth = slopes(SCALES, over_runs(s, expected[s], 1)).mean()
        fits = lines(np.array(SCALES), over_runs(s, measured[s], 1))
        margin = student_quantile(len(SCALES) - 2) * fits.stderr
        hits = []
        for of_sweep in measured[s]:
            drawn = [over_runs(s, of_sweep[of, k], 1) for k, of in enumerate(draws)]
            resampled = slopes(SCALES, np.stack(drawn, axis=-1))
            hits.append(percentile_interval(resampled, runs).contains(truth))
        found[s, "expected"] = float(truth)
        found[s, "expanded"] = float(np.mean(hits))
        found[s, "fit"] = float(np.mean(np.abs(fits.slopes - truth) <= margin))
    return found


def group_coverage(scatter, sweeps, *, runs=200, size=6, dimension=1.1, seed=43, at_once=50):
    """How often the interval over groups contains the expected exponent of a group, by statistic."""
    rng = np.random.default_rng(seed)
    expected = run_values(scatter, dimension, 20_000, size, rng)
    truth = {s: slopes(SCALES, over_runs(s, expected[s], 1)).mean() for s in STATISTICS}
    groups = runs // size
    found = defaultdict(list)
    for _ in range(0, sweeps, at_once):
        measured = run_values(scatter, dimension, at_once, groups * size, rng)
        for s in STATISTICS:
            of_groups = measured[s].reshape(at_once, groups, size, len(SCALES))
            values = slopes(SCALES, over_runs(s, of_groups, 2))
            _, ends, _ = mean_of_groups(values.T)
            found[s] += ((ends.low <= truth[s]) & (truth[s] <= ends.high)).tolist()
    return shares_of(found)


def study_coverage(sweep, nulls=(), *, size=6, orders=6, n_resamples=1_000):
    """How often intervals of real groups of six contain the mean over all groups: rows of results.

    Each row is (name, statistic, the mean over groups, share of "expanded", share of "fit"), of the
    groups that have an interval; "fit" is NaN for differences and crossings. ``nulls`` maps names to
    the nulls of the sweep.
    """
    runs = runs_at_scales(sweep)
    for s in STATISTICS:
        yield from _of_study(sweep, dict(nulls), s, runs, size, orders, n_resamples)


def _of_study(sweep, nulls, s, runs, size, orders, n_resamples):
    phases = {phase: transitions.phase(sweep, phase) for phase in transitions.PHASES}
    single, paired = {}, {"rise": rise_of_groups(sweep, s), "crossing": crossing_of_groups(sweep, s)}
    for phase, where in phases.items():
        single[phase] = sweep, where
        for name, null in nulls.items():
            single[f"{name} null, {phase}"] = null, where
            paired[f"minus {name} null, {phase}"] = difference_of_groups(
                exponent_of_groups(sweep, s, where), exponent_of_groups(null, s, where)
            )
    groups, many = (disjoint_groups(runs, size, o, k) for k, o in enumerate((orders, 300)))
    within = run_resamples([size] * len(runs), n_resamples, 3)
    functions = {name: exponent_of_groups(of, s, where) for name, (of, where) in single.items()} | paired
    for name, of in functions.items():
        truth = np.nanmean(of(many))
        values = of(groups)
        known = [g for g, value in enumerate(values) if np.isfinite(value)]
        intervals = [
            percentile_interval(
                of([runs_of[g][d] for runs_of, d in zip(groups, within, strict=True)]), size
            )
            for g in known
        ]
        hits = [interval.contains(truth) for interval in intervals if np.isfinite(interval.low)]
        fit = np.nan
        if name in single:
            dataset, where = single[name]
            fit = np.mean([_line_holds(dataset, where, s, groups, g, truth) for g in known[:200]])
        yield name, s, truth, np.mean(hits), fit


def _line_holds(dataset, where, s, groups, g, truth):
    """Whether the interval of the line through the sizes of one group contains a number."""
    members = [of_scale[groups[k][g]] for k, (_, of_scale) in enumerate(scale_groups(dataset))]
    part = np.concatenate(members)
    found = scaling.exponent(dataset.isel(run=part), s, where.isel(run=part), n_resamples=2)
    return found.fit.low <= truth <= found.fit.high


# --- D(t) with a crossing ---------------------------------------------------------------------------

# D(t) rises from 0.9 to 1.2 on a logistic curve around the epoch 60. It is 1 where
# 0.3 / (1 + exp(-(t - 60) / 5)) = 0.1, at t = 60 - 5 ln 2.
EPOCHS = np.arange(0, 120, 2)
RISING = 0.9 + 0.3 / (1 + np.exp(-(EPOCHS - 60) / 5))
CROSSING = 60 - 5 * np.log(2)

QUIET = Scatter(0.05, 0.1)
LOUD = Scatter(0.4, 0.8)


def crossing_coverage(sweep_of, scatter, runs, sweeps, *, null=True, n_resamples=400, seed=25):
    """How often a crossing's interval contains the planted epoch, by (statistic, what).

    "expanded" and "plain" are the intervals of the crossing of 1; "of null" that of the crossing of
    another sweep's D(t) = 1, which shares nothing; "D(t)" the share of the epochs at which the interval
    of D(t) contains the planted value; "bias" the mean error of the crossing in epochs, "width" the
    mean width of its interval, and "none" the share of sweeps without an interval.
    """
    rng = np.random.default_rng(seed)
    found = defaultdict(list)
    for sweep in range(sweeps):
        planted, flat = (
            sweep_of(sizes_of(scatter, d, runs, rng, EPOCHS.size), epochs=EPOCHS) for d in (RISING, 1.0)
        )
        for s in STATISTICS:
            rising = curve(planted, s, n_resamples=n_resamples, seed=sweep)
            crossing, d = rising.crossing, rising.dimension
            width = crossing.high - crossing.low
            found[s, "expanded"].append(crossing.contains(CROSSING))
            found[s, "plain"].append(percentile_interval(crossing.resamples).contains(CROSSING))
            inside = (d["low"].values <= RISING) & (d["high"].values >= RISING)
            found[s, "D(t)"].append(inside.mean())
            found[s, "none"].append(np.isnan(width))
            if np.isfinite(crossing.value):
                found[s, "bias"].append(crossing.value - CROSSING)
            if np.isfinite(width):
                found[s, "width"].append(width)
            if null:
                level = curve(flat, s, n_resamples=n_resamples, seed=sweep)
                of_null = crossing_of_null(rising, level)
                found[s, "of null"].append(of_null.contains(CROSSING))
    return shares_of(found)


def follows_rejections(sweep_of, scatter, runs, sweeps, *, own, n_permutations=499, seed=31):
    """How often ``follows_grokking`` gives p <= 0.05, by statistic.

    Each run has a grokking epoch of its own. Its D steps from 0.9 to 1.2 at it if ``own``; otherwise D
    rises at one epoch for all runs.
    """
    rng = np.random.default_rng(seed)
    found = defaultdict(list)
    for sweep in range(sweeps):
        sizes, grokking = {}, {}
        for n in SCALES:
            reached = rng.integers(30, 91, runs)
            course = np.where(reached[:, None] > EPOCHS, 0.9, 1.2) if own else RISING
            sizes[n] = scatter.sizes(n, course, rng.standard_normal((runs, 1)), EPOCHS.size, rng)
            grokking[n] = reached.tolist()
        dataset = sweep_of(sizes, grokking, epochs=EPOCHS)
        for s in STATISTICS:
            test = follows_grokking(dataset, s, n_permutations=n_permutations, seed=sweep)
            found[s].append(test.p_value <= 0.05)
    return shares_of(found)


# --- Gradients --------------------------------------------------------------------------------------

GRADIENT_SCALES = (81, 161, 241, 321, 481, 801)


def normal(n, shape, rng):  # noqa: ARG001
    """Independent standard normal entries."""
    return rng.standard_normal(shape)


def heavy_tailed(n, shape, rng):  # noqa: ARG001
    """Independent entries of Student's t with 2 degrees of freedom: of infinite variance."""
    return rng.standard_t(2, shape)


def heavier_with_n(n, shape, rng):
    """Independent entries z |z|^(p - 1) of normal z, with p from 1 at N = 81 to 2 at N = 801."""
    normals = rng.standard_normal(shape)
    return np.sign(normals) * np.abs(normals) ** (1 + np.log(n / 81) / np.log(801 / 81))


@dataclass(frozen=True)
class Patches:
    """Which of a gradient's largest positive entries are gathered in patches on its graph.

    A patch holds ``size`` nodes that a breadth-first search from a random node reaches first, or all of
    the share in one patch without a size. The share of the N entries is ``share`` (N / 81)^growth.
    """

    share: float
    growth: float = 0.0
    size: int | None = None

    def gathered(self, gradients, graph, rng):
        """The gradients in another order: every row keeps its values, and so its signs."""
        n = graph.n_nodes
        total = round(self.share * (n / 81) ** self.growth * n)
        adjacency = csr_array((np.ones(graph.indices.size), graph.indices, graph.indptr))
        result = np.empty_like(gradients)
        for row, into in zip(gradients, result, strict=True):
            free = np.ones(n, bool)
            while (missing := total - np.count_nonzero(~free)) > 0:
                start = int(rng.choice(np.flatnonzero(free)))
                reached = breadth_first_order(adjacency, start, return_predecessors=False)
                free[reached[free[reached]][: min(missing, self.size or n)]] = False
            descending = np.sort(row)[::-1]
            into[~free] = rng.permutation(descending[:total])
            into[free] = rng.permutation(descending[total:])
        return result


# Up to 5 % of the entries: half of those above the threshold.
GROWING = Patches(0.01, growth=0.7)
ONE_PATCH = Patches(0.05)
MANY_PATCHES = Patches(0.05, size=4)


def gradient_records(draw, number, patches=None, runs=6, snapshots=8):
    """The gradients of the sweep of a given number: no two sweeps share a graph or a draw."""
    records = []
    for n in GRADIENT_SCALES:
        for seed in range(runs * number, runs * (number + 1)):
            run = SyntheticRun(n, seed, epochs=snapshots - 1, every=1)
            rng = np.random.default_rng([seed, n, 37])
            gradients = draw(n, (snapshots, n), rng)
            if patches is not None:
                gradients = patches.gathered(gradients, build(run.topology, n, seed), rng)
            records.append(
                GradientRecord(run.config(), None, np.arange(snapshots), gradients, {"all": n})
            )
    return records


def ladder(records, rungs=("permuted",), n_resamples=1_000):
    """Gradients beside their nulls: the exponents over all snapshots, without the rest."""
    analyses = {}
    for rung in (replay.REAL, *rungs):
        dataset = to_dataset([readings.read(record, Reading(rung)) for record in records])
        exponents = {
            "all": {s: scaling.exponent(dataset, s, n_resamples=n_resamples) for s in STATISTICS}
        }
        analyses[rung] = SweepAnalysis(dataset, exponents, {}, [])
    return Ladder(analyses.pop(replay.REAL), analyses)


def parts(draw, sweeps, patches=None, names=("arrangement",), n_resamples=1_000):
    """Parts of the exponents of simulated sweeps, by (part, statistic): rows (value, low, high)."""
    rungs = ("permuted",) if names == ("arrangement",) else ("permuted", "gaussian")
    found = {(name, s): np.empty((sweeps, 3)) for name in names for s in STATISTICS}
    for number in range(sweeps):
        beside = ladder(gradient_records(draw, number, patches), rungs, n_resamples)
        for (name, s), rows in found.items():
            if name == "arrangement":
                part = beside.arrangement("all", s)
            else:
                part = getattr(beside.attribution("all", s), name)
            rows[number] = part.value, part.low, part.high
    return found


def above(rows):
    """The share of the intervals (value, low, high) that lie above 0."""
    return float((rows[:, 1] > 0).mean())


def without_zero(rows):
    """The share of the intervals (value, low, high) that leave out 0."""
    return float(((rows[:, 1] > 0) | (rows[:, 2] < 0)).mean())
