"""What is measured on modular addition: the runs, and all that is read from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import timing
from gradquake.analysis.collapse import Collapse, best_collapse
from gradquake.analysis.dimension import Curve, curve
from gradquake.analysis.distributions import ccdfs
from gradquake.analysis.early_warning import Separation, area_under_roc
from gradquake.analysis.fits import slopes
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.resampling import Estimate, estimated, percentile_interval
from gradquake.analysis.scales import FEWEST_SCALES, scale_groups
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.sweep import SweepAnalysis, analyze
from gradquake.avalanche.surrogates import RUNGS
from gradquake.errors import require_count
from gradquake.experiments import modular_addition
from gradquake.experiments.modular_addition import WIDTHS, ModularAdditionRun
from gradquake.study.execution import each, execute
from gradquake.study.study import Study

if TYPE_CHECKING:
    import xarray as xr

SEEDS = 3

GROKKING, NO_DECAY, SMALL, LITERAL = "grokking", "no weight decay", "small training set", "literal split"
CONDITIONS: dict[str, dict[str, Any]] = {
    GROKKING: {},
    NO_DECAY: {"weight_decay": 0.0},
    SMALL: {"train_share": 0.2},
    LITERAL: {"split": "literal"},
}
# Those that should not grok.
CONTROLS = (NO_DECAY, SMALL)
ARCHITECTURES = tuple(WIDTHS)

# The accuracies whose first snapshots are told, and of which set.
LEVELS = (("train_accuracy", 0.9), ("train_accuracy", 0.99), ("accuracy", 0.9), ("accuracy", 0.99))
SATURATED = ("train_accuracy", 0.99)

SHARED, SINCE_TRAIN, SINCE_TEST = "shared epochs", "since train saturation", "since grokking"
ALIGNMENTS = (SHARED, SINCE_TRAIN, SINCE_TEST)

# What may warn of grokking: a name, and whether it is one number for all sizes of a seed.
OF_SEED = "D of the seed"
WARNINGS = ("s / N", OF_SEED, "weight norm", "gradient norm", "train loss")

Subject = tuple[str, str]


@dataclass(frozen=True)
class Plan:
    """The runs: every architecture under every condition, at all its widths.

    Parameters
    ----------
    seeds : int
        Seeds at each width.
    widths : mapping of str to tuple of int
        The widths of each architecture.
    settings : mapping
        What every run is given besides, for a smaller experiment: as in ``ModularAdditionRun``.
    """

    seeds: int = SEEDS
    widths: Mapping[str, Sequence[int]] = field(default_factory=lambda: WIDTHS)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_count("seeds", self.seeds, 1)

    def sweep(self, architecture: str, condition: str) -> list[ModularAdditionRun]:
        """Return the runs of an architecture under a condition."""
        settings = {**self.settings, **CONDITIONS[condition]}
        return modular_addition.sweep(
            self.widths[architecture], self.seeds, architecture=architecture, **settings
        )

    @property
    def subjects(self) -> list[Subject]:
        """Every architecture with every condition."""
        return list(product(ARCHITECTURES, CONDITIONS))

    @property
    def runs(self) -> list[ModularAdditionRun]:
        """All runs, the longest first, so that the last to finish are short."""
        runs = [run for subject in self.subjects for run in self.sweep(*subject)]
        return sorted(runs, key=lambda run: -run.width)


@dataclass(frozen=True, eq=False)
class View:
    """D(t) of one sweep on one kind of time, beside its permuted null.

    Attributes
    ----------
    real, null : Curve
    up, down : Estimate
        When D(t) first crosses 1 from below, and from above, and stays for three snapshots.
    left_out : tuple of int
        The widths of which fewer than half of the runs have what time is counted from.
    """

    real: Curve
    null: Curve
    up: Estimate
    down: Estimate
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Found:
    """What one architecture under one condition gave.

    Attributes
    ----------
    ladder : Ladder
        The exponents beside all nulls.
    levels : dict
        By (set, accuracy): the median over all runs of the first snapshot that reaches it; infinite
        where most never do.
    medians : dict
        By (set, accuracy): the median of each width.
    grokked : int
        How many runs reached a test accuracy of 0.9.
    lasted : int
        How many of them stay at 0.85 or above from then on.
    views : dict
        By (alignment, statistic); aligned only where at least half of the runs of three widths have
        what time is counted from.
    truncated : dict
        By width, the share of avalanches that the limit of steps ended.
    collapse : Collapse
        Of the sizes of all snapshots.
    """

    ladder: Ladder
    levels: dict[tuple[str, float], Estimate]
    medians: dict[tuple[str, float], dict[int, float]]
    grokked: int
    lasted: int
    views: dict[tuple[str, Statistic], View]
    truncated: dict[int, float]
    collapse: Collapse

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return int(self.ladder.real.dataset.sizes["run"])


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that the claims on modular addition are judged on.

    Attributes
    ----------
    found : dict
        By (architecture, condition).
    parting : dict
        By (architecture, control, statistic): the first epoch from which the 90 % bands of D(t) of the
        grokking runs and of the control stay apart to the end; NaN where they do not.
    warnings : dict
        By (architecture, name in ``WARNINGS``); NaN where no width has both kinds of runs.
    """

    found: dict[Subject, Found]
    parting: dict[tuple[str, str, Statistic], float]
    warnings: dict[tuple[str, str], Separation]


def measure(
    study: Study, plan: Plan, executor: Executor | None, progress: Callable[[int], object]
) -> None:
    """Train and measure those of the plan's runs that the study does not hold.

    Raises
    ------
    InputError
        Where torch is not installed.
    """
    execute(study, modular_addition.measure, plan.runs, executor, progress)


def gather(study: Study, plan: Plan, executor: Executor | None) -> Evidence:
    """Read everything from the plan's runs, which the study holds."""
    sweeps = {}
    for subject in plan.subjects:
        configs = [run.config() for run in plan.sweep(*subject)]
        nulls = {r: study.dataset_of([{**c, "surrogate": r} for c in configs]) for r in RUNGS}
        sweeps[subject] = (study.dataset_of(configs), nulls)
    parts = [part for sweep in sweeps.values() for part in (sweep[0], *sweep[1].values())]
    analyses = each(analyze, parts, executor)
    ladders = {subject: _ladder(analyses) for subject in sweeps}
    views = _views(
        {subject: (real, nulls["permuted"]) for subject, (real, nulls) in sweeps.items()}, executor
    )
    collapses = each(_collapse, [real for real, _ in sweeps.values()], executor)
    found = {
        subject: _found(sweeps[subject][0], ladders[subject], views[subject], collapse)
        for subject, collapse in zip(sweeps, collapses, strict=True)
    }
    parting = {
        (a, control, statistic): _parting(
            found[a, GROKKING].views[SHARED, statistic], found[a, control].views[SHARED, statistic]
        )
        for a, control, statistic in product(ARCHITECTURES, CONTROLS, STATISTICS)
    }
    todo = [
        ({c: sweeps[a, c][0] for c in (GROKKING, *CONTROLS)}, warning)
        for a, warning in product(ARCHITECTURES, WARNINGS)
    ]
    warned = each(_separation, todo, executor)
    return Evidence(found, parting, dict(zip(product(ARCHITECTURES, WARNINGS), warned, strict=True)))


def first_reaching(dataset: xr.Dataset, name: str, level: float) -> NDArray[np.float64]:
    """Return each run's first snapshot at which a variable is at least ``level``; NaN where none is."""
    reached = dataset[name].values >= level
    epochs: NDArray[np.float64] = dataset["epoch"].values[reached.argmax(axis=1)].astype(np.float64)
    return np.where(reached.any(axis=1), epochs, np.nan)


def _ladder(analyses: Iterator[SweepAnalysis]) -> Ladder:
    real = next(analyses)
    return Ladder(real, {rung: next(analyses) for rung in RUNGS})


def _views(
    pairs: Mapping[Subject, tuple[xr.Dataset, xr.Dataset]], executor: Executor | None
) -> dict[Subject, dict[tuple[str, Statistic], View]]:
    todo: list[tuple[xr.Dataset, Statistic]] = []
    of_views: dict[tuple[Subject, str], list[int]] = {}
    for subject, (real, null) in pairs.items():
        events = {
            SHARED: None,
            SINCE_TRAIN: first_reaching(real, *SATURATED),
            SINCE_TEST: real["grokking_epoch"].values,
        }
        for alignment, event in events.items():
            kept = _with_event(real, event)
            if kept is None:
                continue
            of_views[subject, alignment] = sorted(
                {*real["width"].values.tolist()} - {*real["width"].values[kept].tolist()}
            )
            for statistic, dataset in product(STATISTICS, (real.isel(run=kept), null.isel(run=kept))):
                moved = dataset
                if event is not None:
                    moved = timing.aligned(dataset, event[kept], dataset.attrs["every"])
                todo.append((moved, statistic))
    curves = each(_curve, todo, executor)
    views: dict[Subject, dict[tuple[str, Statistic], View]] = {subject: {} for subject in pairs}
    for (subject, alignment), left_out in of_views.items():
        for statistic in STATISTICS:
            real_curve, null_curve = next(curves), next(curves)
            views[subject][alignment, statistic] = View(
                real_curve,
                null_curve.slim(),
                real_curve.crossing,
                real_curve.crossing_of(1.0, "down"),
                tuple(left_out),
            )
    return views


def _with_event(sweep: xr.Dataset, event: NDArray[np.float64] | None) -> NDArray[np.intp] | None:
    """Return the runs of the widths at which at least half have an event; None for under three."""
    groups = [runs for _, runs in scale_groups(sweep)]
    if event is not None:
        groups = [runs for runs in groups if np.isfinite(event[runs]).mean() >= timing.LEAST_SHARE]
    return np.concatenate(groups) if len(groups) >= FEWEST_SCALES else None


def _curve(item: tuple[xr.Dataset, Statistic]) -> Curve:
    return curve(*item)


def _collapse(sweep: xr.Dataset) -> Collapse:
    return best_collapse(ccdfs(sweep, None))


def _found(
    sweep: xr.Dataset,
    ladder: Ladder,
    views: dict[tuple[str, Statistic], View],
    collapse: Collapse,
) -> Found:
    reached = {level: np.nan_to_num(first_reaching(sweep, *level), nan=np.inf) for level in LEVELS}
    groups = scale_groups(sweep)
    widths = sweep["width"].values
    grokked = sweep["grokking_epoch"].values
    after = sweep["epoch"].values >= np.nan_to_num(grokked, nan=np.inf)[:, None]
    lowest = np.where(after, sweep["accuracy"].values, np.inf).min(axis=1)
    return Found(
        ladder,
        {level: timing.median_over_runs(sweep, values) for level, values in reached.items()},
        {
            level: {int(widths[runs[0]]): float(np.median(values[runs])) for _, runs in groups}
            for level, values in reached.items()
        },
        int(np.isfinite(grokked).sum()),
        int((np.isfinite(grokked) & (lowest >= 0.85)).sum()),
        views,
        {int(widths[runs[0]]): float(sweep["truncated"].values[runs].mean()) for _, runs in groups},
        collapse,
    )


def _parting(grokking: View, control: View) -> float:
    """Return the first epoch from which the 90 % bands of two D(t) stay apart to the end."""
    one, other = (_band(view.real) for view in (grokking, control))
    # Comparisons with NaN are false: without an interval the two are not apart.
    apart = (one[0] > other[1]) | (one[1] < other[0])
    together = np.flatnonzero(~apart)
    first = together[-1] + 1 if together.size else 0
    epochs = grokking.real.dimension["epoch"].values
    return float(epochs[first]) if first < epochs.size else np.nan


def _band(real: Curve) -> NDArray[np.float64]:
    """Return the ends of the 90 % intervals of D(t), shape (2, epochs)."""
    runs = real.dimension.attrs["fewest_runs"]
    ends = [
        percentile_interval(at, runs, 0.90) for block in real.resampled() for at in block.exponents.T
    ]
    return np.array([[interval.low for interval in ends], [interval.high for interval in ends]])


def _separation(item: tuple[dict[str, xr.Dataset], str]) -> Separation:
    sweeps, warning = item
    values, positive, sizes, cells = [], [], [], []
    for condition, sweep in enumerate(sweeps.values()):
        n, grokked = sweep["n_parameters"].values, np.isfinite(sweep["grokking_epoch"].values)
        found = _warning(sweep, warning)
        if warning == OF_SEED:
            # One number for all runs of a seed is one number, and not as many as there are runs.
            seeds = sweep["seed"].values
            rows = [np.flatnonzero(seeds == seed) for seed in np.unique(seeds)]
            found = found[[runs[0] for runs in rows]]
            grokked = np.array([grokked[runs].mean() > 0.5 for runs in rows])
            n = np.zeros(len(rows), np.int64)
        values.append(found)
        positive.append(grokked)
        sizes.append(n)
        cells.append(n * len(sweeps) + condition)
    of_run, label, size, cell = (np.concatenate(part) for part in (values, positive, sizes, cells))
    epochs = next(iter(sweeps.values()))["epoch"].values
    if not any(len(set(label[size == n].tolist())) == 2 for n in size):
        return Separation(epochs, [estimated(np.nan, np.empty(0), 1) for _ in epochs])
    return Separation(epochs, [area_under_roc(at, label, size, cell).slim() for at in of_run.T])


def _warning(sweep: xr.Dataset, warning: str) -> NDArray[np.float64]:
    """Return a number of each run at each snapshot, shape (runs, snapshots)."""
    names = {"weight norm": "weight_norm", "gradient norm": "gradient_norm", "train loss": "loss"}
    if warning in names:
        named: NDArray[np.float64] = sweep[names[warning]].values
        return named
    n = sweep["n_parameters"].values
    share: NDArray[np.float64] = sweep["size"].values / n[:, None]
    if warning == "s / N":
        return share
    # One exponent for all runs of a seed, from the sizes of its one run at every width.
    seeds = sweep["seed"].values
    result = np.empty(share.shape)
    for seed in np.unique(seeds):
        runs = np.flatnonzero(seeds == seed)
        result[runs] = slopes(n[runs], sweep["size"].values[runs].T)
    return result
