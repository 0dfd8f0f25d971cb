"""Results as tables of text."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from gradquake.analysis import specifications
from gradquake.analysis.collapse import EXPONENT_DECIMALS, Collapse
from gradquake.analysis.ladder import SPANS, Ladder
from gradquake.analysis.power import Power
from gradquake.analysis.resampling import Estimate, Interval
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.shown import bracketed, number
from gradquake.analysis.specifications import Judged
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.tails import ALTERNATIVES, TailFit
from gradquake.analysis.transitions import PHASES, SPLIT_PHASES, Phase
from gradquake.report.text import ONE_VALUE, Table, quality_of, time_with_interval, with_interval
from gradquake.scrutiny.scrutinize import NO_MEDIAN, NO_RUN_GROKKED, Scrutiny
from gradquake.scrutiny.stability import Stability
from gradquake.scrutiny.topologies import OnTopology

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "SYMBOLS", "attribution_table", "collapse_table", "exponents_table", "importance_table",
    "power_table", "shares_table", "stability_table", "tails_table", "timing_table", "topologies_table",
]  # fmt: skip

IMPRINT_NOTE = (
    " These are measured on an independent graph: the same topology, from another seed. Imprint of the "
    "training: real on the graph that the runs were trained with minus real on the independent graph."
)

ONE_VALUE_NOTE = (
    "\nOne value: every resample of the runs gives the same value, because the runs do not differ. "
    "There is no interval."
)

# The exponent of each statistic, as rows of tables name it.
SYMBOLS = {name: f"{of.symbol} ({of.label})" for name, of in STATISTICS.items()}


def exponents_table(ladder: Ladder, statistics: Collection[Statistic] = STATISTICS) -> Table:
    """Return the exponents of a sweep beside those of its nulls, and the cautions of their fits."""
    rows = []
    warnings: dict[str, list[str]] = {}
    for statistic in statistics:
        for phase in PHASES:
            found = ladder.exponent("real", phase, statistic)
            of_nulls = [ladder.exponent(rung, phase, statistic) for rung in ladder.nulls]
            undefined = _all_undefined(found, *of_nulls)
            if warning := _warnings(found):
                told = f"left out. {warning}" if undefined else warning
                warnings.setdefault(told, []).append(f"{SYMBOLS[statistic]} {phase}")
            if not undefined:
                rows.append(
                    (
                        SYMBOLS[statistic],
                        phase,
                        with_interval(found),
                        _ends(ladder.real.snapshot_interval(phase, statistic)),
                        number(found.fit.r_squared),
                        *map(with_interval, of_nulls),
                    )
                )
    one_value = any(ONE_VALUE in cell for row in rows for cell in row)
    grokked = math.isfinite(ladder.real.grokking_range.first)
    return Table(
        "Exponents and their nulls",
        ("exponent", "phase", "real", "by snapshots*", "R²", *map(_spaced, ladder.nulls)),
        rows,
        "Brackets: 95 % intervals over runs; of D, of its line, as no resample of runs exceeds the "
        "largest size. * Interval over single snapshots: it takes the snapshots "
        "of one run for independent, so it is too narrow."
        + "".join(f"\n{', '.join(of)}: {warning}" for warning, of in warnings.items())
        + (ONE_VALUE_NOTE if one_value else "")
        + ("" if grokked else f"\n{NO_RUN_GROKKED}"),
    )


def attribution_table(ladder: Ladder, statistics: Collection[Statistic] = STATISTICS) -> Table:
    """Return the contribution of each property of the gradient to the exponents."""
    rows = []
    names: list[str] = []
    for statistic in statistics:
        for span in SPANS:
            found = ladder.attribution(span, statistic)
            parts = found.parts | found.details
            names = list(parts)
            if _all_undefined(found.total, *parts.values()):
                continue
            of = "rise" if span == "rise" else f"{span} - 1"
            texts = map(with_interval, (found.total, *parts.values()))
            rows.append((SYMBOLS[statistic], of, *texts))
    complete = len(rows) == len(statistics) * len(SPANS)
    number_of = len(ladder.attribution("all", next(iter(statistics))).parts)
    return Table(
        "What accounts for the exponent",
        ("exponent", "of what", "measured", *map(_spaced, names)),
        rows,
        f"The exponent minus 1 is the sum of {number_of} parts, and so is its rise from before to after "
        "t_g. "
        "Estimator: the value for Gaussian gradients. Distribution: permuted minus Gaussian. "
        "Arrangement on the graph: real minus permuted. Above gaussian: distribution plus "
        "arrangement."
        + (IMPRINT_NOTE if number_of == 4 else "")
        + (" Further columns divide the arrangement, and overlap." if len(names) > number_of + 1 else "")
        + ("" if complete else " Rows without a fit are left out."),
    )


def timing_table(scrutiny: Scrutiny, statistics: Collection[Statistic] = STATISTICS) -> Table:
    """Return the epochs at which D(t) crosses 1 and its null."""
    rows = []
    for statistic in statistics:
        timing = scrutiny.timing[statistic]
        for name, times, p_value in (
            ("1", timing.of_one, number(timing.follows.p_value)),
            ("permuted null", timing.of_null, ""),
            ("1, by the null itself", timing.null_of_one, ""),
        ):
            cells = map(time_with_interval, (times.epoch, times.lag, times.aligned))
            rows.append((SYMBOLS[statistic], name, *cells, p_value))
    median = (
        f"Median t_g of all runs: {time_with_interval(scrutiny.grokking)}."
        if math.isfinite(scrutiny.grokking.value)
        else NO_MEDIAN
    )
    return Table(
        "When D(t) crosses",
        ("exponent", "level", "epoch", "minus median t_g", "aligned: t - t_g", "p (follows t_g)"),
        rows,
        f"{median} Aligned: each run is read at its own t_g plus an offset. None: no crossing. p: t_g "
        "is exchanged among the runs of each size; p is the share of exchanges with at least the "
        "measured rise D_post - D_pre. Crossings of D have the bootstrap of the largest size, which is "
        "too narrow: docs/coverage.md.",
    )


def collapse_table(collapses: Mapping[str, Mapping[str, Mapping[Phase, Collapse]]]) -> Table:
    """Return the quality of the collapse, by sweep and then by rung and phase."""
    rows = [
        (
            sweep,
            _spaced(rung),
            phase,
            quality_of(found),
            bracketed(found.value, found.low, found.high, EXPONENT_DECIMALS),
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
        "S after Houdayer and Hartmann (2004): about 1 if the curves agree within their errors, larger "
        "if they do not. On models with known exponents, this collapse, which rescales s alone, "
        "recovers D only if nothing scales (docs/known-answers.md).",
    )


def topologies_table(
    on_topologies: Mapping[str, Iterable[OnTopology]], statistics: Collection[Statistic] = STATISTICS
) -> Table:
    """Return exponents, R² and S on every topology, by sweep."""
    rungs = ("real", "permuted", "gaussian")
    rows = []
    for sweep, found in on_topologies.items():
        for on in found:
            for phase in SPLIT_PHASES:
                for statistic in statistics:
                    real, permuted, gaussian = (on.exponent(rung, phase, statistic) for rung in rungs)
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
    return Table(
        "The same gradients on every topology",
        (
            "sweep", "topology", "phase", "exponent", "real", "R²", "S", "arrangement", "permuted",
            "gaussian", "note",
        ),
        rows,
        "Arrangement: real minus permuted, paired. S: quality of the collapse in that phase.",
    )  # fmt: skip


def tails_table(fits: Sequence[TailFit]) -> Table:
    """Return the fits to the tails of the size distributions."""
    rows = []
    for fit in fits:
        against = {c.alternative: c for c in fit.comparisons}
        rows.append(
            (
                str(fit.n_parameters),
                number(fit.decades),
                bracketed(fit.value, fit.low, fit.high),
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
    against_each = (f"against {_spaced(name)}" for name in ALTERNATIVES)
    return Table(
        "Power laws fitted to the tails",
        ("N", "decades", "alpha", "from s", "in the tail", *against_each),
        rows,
        "Log-likelihood ratios: a value above 0 favors the power law. On models with known exponents, "
        "the fitted exponent is up to 0.1 too high (docs/known-answers.md). " + note,
    )


def stability_table(scales: Iterable[Stability]) -> Table:
    """Return learning rate times sharpness, and the share of epochs with a rising loss, by scale."""
    rows = [
        (
            str(of.n_parameters),
            *map(with_interval, (of.sharpness, of.at_start, of.largest, of.at_end, of.rises)),
        )
        for of in scales
    ]
    return Table(
        "Was gradient descent stable?",
        (
            "N", "sharpness at t = 0", "times learning rate", "at its largest", "at the end",
            "share of epochs with a rising loss",
        ),
        rows,
        "Sharpness: the largest eigenvalue of the Hessian of the loss. Gradient descent on a parabola "
        "diverges if the learning rate times the sharpness is above 2. Means over runs.",
    )  # fmt: skip


def power_table(power: Sequence[Power]) -> Table:
    """Return the width of intervals and the power to tell real from null, for each number of runs."""
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
        "The runs are divided into disjoint groups; the values are means over the groups. Detected: the "
        "groups in which the 95 % interval of the difference from the null excludes 0.",
    )  # fmt: skip


def shares_table(table: xr.Dataset, holds: Mapping[str, Judged]) -> Table:
    """Return the share of specifications in which each statement is true, of data and null."""
    rows = []
    for name, (found, null) in holds.items():
        of_levels = {
            (choice, level): share
            for choice, by_level in found.by_choice.items()
            for level, share in by_level.items()
        }
        ends = [
            f"{choice} {level}: {of_levels[choice, level]:.0%}"
            + (f" ({null.by_choice[choice][level]:.0%})" if null else "")
            for end in (min, max)
            for choice, level in [end(of_levels, key=of_levels.__getitem__)]
        ]
        rows.append((name, f"{found.overall:.1%}", f"{null.overall:.1%}" if null else "", *ends))
    return Table(
        f"The specification curve: {table['pre'].size:,} ways to measure it",
        ("statement", "holds", "on the permuted null", "holds least often at", "holds most often at"),
        rows,
        "Only the estimates are compared, not their intervals. Brackets: the share on the permuted "
        "null. A statement that holds as often on shuffled gradients says nothing of their order. The "
        "last two columns have the one choice under which the share is smallest, and largest.",
    )


def importance_table(table: xr.Dataset) -> Table:
    """Return the share of the variance over specifications that each choice accounts for."""
    choices = specifications.choices(table)
    rows = []
    for name, found in specifications.dependences(table).items():
        cells = ("none" if math.isnan(cell) else f"{cell:.0%}" for cell in found.importance.values())
        rows.append((name, bracketed(found.median, found.low, found.high), *cells))
    return Table(
        "Which choice matters",
        ("result", "median [95 % of specifications]", *choices),
        rows,
        "The share of the variance over specifications that a choice accounts for alone (eta²). The "
        "rest is due to combinations of choices.",
    )


def _all_undefined(*found: Estimate) -> bool:
    return all(math.isnan(of.value) for of in found)


def _ends(interval: Interval) -> str:
    if math.isnan(interval.low) or interval.is_one_value:
        return "none"
    return f"[{number(interval.low)}, {number(interval.high)}]"


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _warnings(found: Exponent) -> str:
    """Return the message and the cautions of a fit; empty for a good fit."""
    return " ".join(filter(None, (found.fit.message, *found.cautions)))
