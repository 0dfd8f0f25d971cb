"""Results as tables of text for a reader."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from gradquake.analysis import specifications
from gradquake.analysis.collapse import EXPONENT_DECIMALS, Collapse, quality_decimals
from gradquake.analysis.ladder import SPANS, Ladder
from gradquake.analysis.power import Power
from gradquake.analysis.resampling import FEWEST_RUNS, Estimate, Interval, difference
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.tails import ALTERNATIVES, TailFit
from gradquake.analysis.transitions import PHASES, SPLIT_PHASES, Phase
from gradquake.avalanche.surrogates import REAL
from gradquake.errors import printable
from gradquake.scrutiny.scrutinize import NO_MEDIAN, NO_RUN_GROKKED, Scrutiny
from gradquake.scrutiny.topologies import OnTopology
from gradquake.study.configuration import config_key

if TYPE_CHECKING:
    import xarray as xr


# Beside a value whose interval has no width, and the note that explains it.
ONE_VALUE = "(one value)"
ONE_VALUE_NOTE = (
    "\nOne value: every resample of the runs gives the same, since the runs do not differ, so there is "
    "no interval."
)
# What a study holds of a sweep of which it has nulls only.
NOTHING: Mapping[str, Any] = {
    "runs": 0,
    "missing": [],
    "unfinished": [],
    "n_parameters": [],
    "seeds": [],
}

SYMBOLS = {name: f"{statistic.symbol} ({statistic.label})" for name, statistic in STATISTICS.items()}


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    title : str
    header : tuple of str
    rows : sequence of tuples of str
    note : str
        What a reader must know to read it.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""

    def __post_init__(self) -> None:
        """Write control codes, which a study from somebody else may hold, as escapes."""
        put = partial(object.__setattr__, self)
        put("title", printable(self.title))
        put("header", tuple(map(printable, self.header)))
        put("rows", [tuple(map(printable, row)) for row in self.rows])
        put("note", "\n".join(map(printable, self.note.split("\n"))))

    def markdown(self) -> str:
        """Return the table as Markdown, its title as a heading."""
        lines = [f"## {self.title}", ""]
        lines += [self.note, ""] if self.note else []
        lines += [f"| {' | '.join(row)} |" for row in (self.header, ("---",) * len(self.header))]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join(lines) + "\n"


def number(value: float | None, decimals: int | None = None) -> str:
    """Return a number as text, short or with so many decimals; "none" for NaN."""
    if value is None or value != value:
        return "none"
    if decimals is not None:
        return f"{value:.{decimals}f}"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    if abs(value) < 0.001:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def bracketed(
    value: float | None, low: float | None, high: float | None, decimals: int | None = None
) -> str:
    """Return a value and its interval, the value alone where there is no interval."""
    if low is None or low != low:  # NaN: no interval
        return number(value, decimals)
    return f"{number(value, decimals)} [{number(low, decimals)}, {number(high, decimals)}]"


def quality_of(found: Collapse) -> str:
    """Return the S of the best collapse as text, with the decimals that are stable."""
    return number(found.quality, quality_decimals(found.quality))


def with_interval(found: Estimate) -> str:
    """Return an estimate and its interval as text."""
    return _with_ends(found.value, found)


def _with_ends(value: float, interval: Interval) -> str:
    """Return a value and its interval; an interval of no width is told apart."""
    if interval.is_one_value:
        return f"{number(value)} {ONE_VALUE}"
    return bracketed(value, interval.low, interval.high)


def time_with_interval(found: Estimate) -> str:
    """Return an epoch and its interval, or the share of resamples that have no such epoch."""
    low, high = found.low, found.high
    if found.value != found.value:
        return "none"
    if math.isinf(found.value):
        # An epoch minus one that never comes is no number.
        return "never" if found.value > 0 else "not defined"
    if found.is_one_value:
        return f"{found.value:.0f} {ONE_VALUE}"
    if low != low and found.runs < FEWEST_RUNS:
        return f"{found.value:.0f}"
    if low != low:
        return f"{found.value:.0f} ({found.invalid:.0%} of resamples without)"
    return f"{found.value:.0f} [{low:.0f}, {high:.0f}]"


def exponents_table(ladder: Ladder, statistics: Collection[Statistic] = STATISTICS) -> Table:
    """Return the exponents of a sweep beside those of its nulls, and what speaks against the fits."""
    rows = []
    warnings: dict[str, list[str]] = {}
    for statistic in statistics:
        for phase in PHASES:
            found = ladder.exponent("real", phase, statistic)
            of_nulls = [ladder.exponent(rung, phase, statistic) for rung in ladder.nulls]
            none = _no_value(found, *of_nulls)
            if warning := _warnings(found):
                of = f"{SYMBOLS[statistic]} {phase}"
                warnings.setdefault(f"left out. {warning}" if none else warning, []).append(of)
            if none:
                continue
            snapshots = ladder.real.snapshot_interval(phase, statistic)
            rows.append(
                (
                    SYMBOLS[statistic],
                    phase,
                    with_interval(found),
                    "none"
                    if math.isnan(snapshots.low) or snapshots.is_one_value
                    else f"[{number(snapshots.low)}, {number(snapshots.high)}]",
                    number(found.fit.r_squared),
                    *map(with_interval, of_nulls),
                )
            )
    nulls = (rung.replace("_", " ") for rung in ladder.nulls)
    header = ("exponent", "phase", "real", "by snapshots*", "R²", *nulls)
    return Table(
        "Exponents and their nulls",
        header,
        rows,
        "95 % intervals over runs. * from a bootstrap over single snapshots, which takes the snapshots "
        "of one run for independent and is too narrow."
        + "".join(f"\n{', '.join(of)}: {warning}" for warning, of in warnings.items())
        + (ONE_VALUE_NOTE if any(ONE_VALUE in cell for row in rows for cell in row) else "")
        + _unless_grokked(ladder),
    )


def _no_value(*found: Estimate) -> bool:
    return all(of.value != of.value for of in found)


def _unless_grokked(ladder: Ladder) -> str:
    first, _ = ladder.real.grokking_range
    return "" if first == first else f"\n{as_sentence(NO_RUN_GROKKED)}"


def as_sentence(note: str) -> str:
    """Return a note as a sentence of its own."""
    return f"{note[0].upper()}{note[1:]}."


def attribution_table(ladder: Ladder, statistics: Collection[Statistic] = STATISTICS) -> Table:
    """Return what each property of the gradient accounts for."""
    rows = []
    names: list[str] = []
    for statistic in statistics:
        for span in SPANS:
            found = ladder.attribution(span, statistic)
            parts = {
                "estimator": found.estimator,
                "distribution": found.distribution,
                "arrangement": found.arrangement,
                **found.details,
            }
            names = list(parts)
            if _no_value(found.total, *parts.values()):
                continue
            rows.append(
                (
                    SYMBOLS[statistic],
                    "rise" if span == "rise" else f"{span} - 1",
                    with_interval(found.total),
                    *(with_interval(part) for part in parts.values()),
                )
            )
    complete = len(rows) == len(statistics) * len(SPANS)
    return Table(
        "What accounts for the exponent",
        ("exponent", "of what", "measured", *(name.replace("_", " ") for name in names)),
        rows,
        "The exponent minus 1, and its rise from before to after t_g, are each the sum of three: what "
        "the estimator gives on Gaussian gradients, what the distribution of the gradient adds "
        "(permuted minus gaussian), and what its arrangement on the graph adds (real minus permuted). "
        "Above gaussian is the sum of the last two."
        + (" Further columns look into the arrangement, and overlap." if len(names) > 4 else "")
        + ("" if complete else " What cannot be fitted is left out."),
    )


def timing_table(scrutiny: Scrutiny, statistics: Collection[Statistic] = STATISTICS) -> Table:
    """Return when D(t) crosses."""
    rows = []
    for statistic in statistics:
        timing = scrutiny.timing[statistic]
        null = scrutiny.ladder.nulls["permuted"].curves[statistic].crossing
        of_one = (timing.of_one, timing.lag_of_one, timing.aligned.crossing)
        of_null = (timing.of_null, timing.lag_of_null, timing.aligned_of_null)
        by_null = (null, difference(null, scrutiny.grokking), timing.aligned_null.crossing)
        for name, times, p_value in (
            ("1", of_one, number(timing.follows.p_value)),
            ("permuted null", of_null, ""),
            ("1, by the null itself", by_null, ""),
        ):
            rows.append((SYMBOLS[statistic], name, *map(time_with_interval, times), p_value))
    return Table(
        "When D(t) crosses",
        ("exponent", "level", "epoch", "minus median t_g", "aligned: t - t_g", "p (follows t_g)"),
        rows,
        (
            f"Median t_g of all runs {time_with_interval(scrutiny.grokking)}."
            if math.isfinite(scrutiny.grokking.value)
            else as_sentence(NO_MEDIAN)
        )
        + " Aligned: each run read at its own t_g plus an offset. p: the share of exchanges of t_g "
        "among the runs of a scale that give at least the rise D_post - D_pre seen.",
    )


def collapse_table(collapses: Mapping[str, Mapping[str, Mapping[Phase, Collapse]]]) -> Table:
    """Return the quality of the collapse, by sweep and then by rung and phase."""
    rows = [
        (
            sweep,
            rung.replace("_", " "),
            phase,
            quality_of(found),
            bracketed(found.exponent, found.low, found.high, EXPONENT_DECIMALS),
            found.message,
        )
        for sweep, of_sweep in collapses.items()
        for rung, of_rung in of_sweep.items()
        for phase, found in of_rung.items()
    ]
    return Table(
        "Collapse of P(>s) against s / N^D",
        ("sweep", "gradients", "phase", "quality S", "best D [S up by 1]", "note"),
        rows,
        "S after Houdayer and Hartmann (2004): 1 for a collapse within the errors, more for none.",
    )


def contents_table(sweeps: Sequence[Mapping[str, Any]]) -> Table:
    """Return what is in a study (``Study.contents``), by sweep; its nulls stand with the real one."""
    nulls: dict[str, list[str]] = {}
    real: list[tuple[str, Mapping[str, Any], dict[str, str]]] = []
    alone: dict[str, tuple[str, Mapping[str, Any], dict[str, str]]] = {}
    for sweep in sweeps:
        settings = dict(sweep["settings"])
        rung = settings.pop("surrogate", REAL)
        key, texts = config_key(settings), {name: str(value) for name, value in settings.items()}
        if rung == REAL:
            real.append((key, sweep, texts))
        else:
            nulls.setdefault(key, []).append(rung)
            alone[key] = key, NOTHING, texts
    # Nulls without runs of real gradients are listed, too.
    own = {key for key, *_ in real}
    real += [of_nulls for key, of_nulls in alone.items() if key not in own]
    shared: dict[str, set[tuple[str, str]]] = {}
    for _, _, texts in real:
        pairs = {(name, value) for name, value in texts.items() if name != "experiment"}
        experiment = texts.get("experiment", "")
        shared[experiment] = shared.get(experiment, pairs) & pairs
    rows = [
        (
            experiment,
            str(sweep["runs"]),
            str(len(sweep["missing"])),
            str(len(sweep["unfinished"])),
            ", ".join(map(str, sweep["n_parameters"])),
            str(len(sweep["seeds"])),
            ", ".join(nulls.get(key, [])),
            ", ".join(
                f"{name}={value}"
                for name, value in texts.items()
                if name != "experiment" and (name, value) not in shared[experiment]
            ),
        )
        for key, sweep, texts in real
        for experiment in [texts.get("experiment", "")]
    ]
    notes = [
        printable(
            f"All{f' of {experiment}' if experiment else ''}: "
            f"{', '.join(f'{name}={value}' for name, value in sorted(pairs))}."
        )
        for experiment, pairs in shared.items()
    ]
    header = ("experiment", "runs", "missing", "unfinished", "N", "seeds", "nulls", "differ in")
    return Table("Sweeps", header, rows, "\n".join(notes))


def _warnings(found: Exponent) -> str:
    """Say why an exponent is not to be trusted; empty where nothing speaks against it."""
    return " ".join(filter(None, (found.fit.message, *found.cautions)))


def topologies_table(
    on_topologies: Mapping[str, Iterable[OnTopology]], statistics: Collection[Statistic] = STATISTICS
) -> Table:
    """Return exponents, R² and S on every topology, by sweep."""
    rows = []
    for sweep, found in on_topologies.items():
        for on in found:
            for phase in SPLIT_PHASES:
                for statistic in statistics:
                    real, permuted, gaussian = (
                        on.exponent(rung, phase, statistic) for rung in ("real", "permuted", "gaussian")
                    )
                    rows.append(
                        (
                            sweep,
                            on.topology,
                            phase,
                            SYMBOLS[statistic],
                            with_interval(real),
                            number(real.fit.r_squared),
                            quality_of(on.collapses[phase]),
                            with_interval(on.arrangement(phase, statistic)),
                            with_interval(permuted),
                            with_interval(gaussian),
                            _warnings(real),
                        )
                    )
    header = (
        "sweep",
        "topology",
        "phase",
        "exponent",
        "real",
        "R²",
        "S",
        "arrangement",
        "permuted",
        "gaussian",
        "note",
    )
    return Table(
        "The same gradients on every topology",
        header,
        rows,
        "Arrangement: real minus permuted, paired. S: quality of the collapse in that phase.",
    )


def tails_table(fits: Sequence[TailFit]) -> Table:
    """Return the fits to the tails."""
    rows = []
    for fit in fits:
        against = {c.alternative: c for c in fit.comparisons}
        rows.append(
            (
                str(fit.n_parameters),
                number(fit.decades),
                bracketed(fit.exponent, fit.low, fit.high),
                number(fit.xmin),
                f"{fit.n_tail} of {fit.n_avalanches}",
                *(
                    f"{number(against[name].log_likelihood_ratio)} (p = {number(against[name].p_value)})"
                    if name in against
                    else "none"
                    for name in ALTERNATIVES
                ),
            )
        )
    warnings = {fit.n_parameters: fit.message for fit in fits if fit.message}
    note = " ".join(f"N = {n}: {message}" for n, message in warnings.items())
    names = (f"against {name.replace('_', ' ')}" for name in ALTERNATIVES)
    return Table(
        "Power laws fitted to the tails",
        ("N", "decades", "alpha", "from s", "in the tail", *names),
        rows,
        "Log-likelihood ratios: above 0 they favour the power law. " + note,
    )


def power_table(power: Sequence[Power]) -> Table:
    """Return what numbers of runs can tell."""
    rows = [
        (
            str(of.runs),
            str(of.groups),
            SYMBOLS[of.statistic],
            of.phase,
            number(of.value),
            number(of.width),
            number(of.scatter),
            *(
                f"{bracketed(above.value, above.low, above.high)}; "
                f"{round(above.detected * of.groups)} of {of.groups}"
                for above in of.above_null.values()
            ),
        )
        for of in power
    ]
    nulls = list(power[0].above_null) if power else []
    return Table(
        "What numbers of runs can tell",
        (
            "runs a scale", "groups", "exponent", "phase", "mean", "width of the interval", "scatter",
            *(f"minus {name}; detected" for name in nulls),
        ),
        rows,
        "Disjoint groups of so many runs; means over the groups. Detected: the groups whose 95 % "
        "interval of the difference from the null leaves out 0.",
    )  # fmt: skip


def importance_table(table: xr.Dataset) -> Table:
    """Return which choice matters: the share of the variance over specifications, choice by choice."""
    choices = specifications.choices(table)
    rows = []
    for name, found in specifications.dependences(table).items():
        cells = ("none" if cell != cell else f"{cell:.0%}" for cell in found.importance.values())
        rows.append((name, bracketed(found.median, found.low, found.high), *cells))
    return Table(
        "Which choice matters",
        ("result", "median [95 % of specifications]", *choices),
        rows,
        "The share of the variance over specifications that a choice accounts for alone (eta²); the "
        "rest belongs to their interplay.",
    )
