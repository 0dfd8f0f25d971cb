"""The ladder of nulls: how much of an exponent each property of the gradient accounts for.

Each rung is the same analysis of a surrogate of the measured gradients (see
``gradquake.avalanche.surrogates``), with the same estimator, statistic, sizes, seeds, snapshots and
graphs. Runs are resampled alike on all rungs, so that the differences between rungs are paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from gradquake.analysis.dimension import crossing_of_null
from gradquake.analysis.resampling import Estimate, difference, shifted
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.shown import Shown
from gradquake.analysis.statistics import STATISTICS, Statistic, check_statistic
from gradquake.analysis.sweep import SweepAnalysis
from gradquake.analysis.transitions import Phase
from gradquake.errors import InputError

__all__ = ["DETAILS", "SPANS", "Attribution", "Ladder", "Span"]

# A phase, or "rise": the exponent's gain from before to after each run's t_g.
Span = Literal["all", "pre", "post", "rise"]
SPANS: tuple[Span, ...] = ("all", "pre", "post", "rise")

# The two rungs whose difference each finer part is. The first is the sum of distribution and
# arrangement; the others split the arrangement, and overlap.
DETAILS = {
    "above_gaussian": ("real", "gaussian"),
    "which_tensor": ("permuted_within_tensor", "permuted"),
    "place_in_tensor": ("real", "permuted_within_tensor"),
    "signs": ("real", "sign_flipped"),
}


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Shown):
    """What accounts for an exponent minus 1, or for its rise: the sum of three parts, or of four.

    Training in-line imprints its graph on the gradient. The parts of such runs are those on an
    independent graph, and the imprint is the fourth.

    Attributes
    ----------
    total : Estimate
        D - 1, or the rise.
    estimator : Estimate
        D_gaussian - 1, or the rise of D_gaussian: the result of the estimator on independent Gaussian
        entries.
    distribution : Estimate
        D_permuted - D_gaussian, paired: due to the distribution of the gradient's entries.
    arrangement : Estimate
        D_real - D_permuted, paired: due to the arrangement of the entries on the graph.
    imprint : Estimate or None
        D_real on the graph of the training minus D_real on an independent graph, paired. None if the
        runs were not trained on their graph, or it cannot be told.
    details : dict
        Finer parts, by their names in ``DETAILS``; those whose rungs were not measured are left out.
    """

    total: Estimate
    estimator: Estimate
    distribution: Estimate
    arrangement: Estimate
    imprint: Estimate | None
    details: dict[str, Estimate]

    @property
    def parts(self) -> dict[str, Estimate]:
        """The parts whose sum is the total, by name."""
        found = {name: getattr(self, name) for name in ("estimator", "distribution", "arrangement")}
        return found if self.imprint is None else {**found, "imprint": self.imprint}

    def _lines(self) -> Mapping[str, str]:
        parts = {"total": self.total, **self.parts, **self.details}
        return {name.replace("_", " "): part.text for name, part in parts.items()}


@dataclass(frozen=True, eq=False, repr=False)
class Ladder(Shown):
    """The analyses of a sweep and of its nulls.

    Attributes
    ----------
    real : SweepAnalysis
        Of the gradients as they are.
    nulls : dict
        Of their surrogates, by rung. An attribution needs "gaussian" and "permuted".
    independent : Ladder, optional
        Of runs trained in-line: the same gradients and surrogates on an independent graph, of the same
        topology and node order, from another seed. None for other runs, or if it cannot be measured.
    """

    real: SweepAnalysis
    nulls: dict[str, SweepAnalysis]
    independent: Ladder | None = None

    def exponent(self, rung: str, phase: Phase, statistic: Statistic) -> Exponent:
        """Return the exponent of a rung; "real" is the data.

        Raises
        ------
        InputError
            For a rung that was not measured, or another phase or statistic.
        """
        return self._rung(rung).exponent(phase, statistic)

    def value(self, rung: str, span: Span, statistic: Statistic) -> Estimate:
        """Return the exponent of a rung over a phase, or its rise: D_post - D_pre, paired.

        Raises
        ------
        InputError
            For a rung that was not measured, or another span or statistic.
        """
        check_statistic(statistic)
        if span not in SPANS:
            raise InputError(f"the span is {span!r}; one of {', '.join(SPANS)} is needed")
        self._rung(rung)
        if span == "rise":
            return self.rise(rung, statistic)
        return self.exponent(rung, span, statistic)

    def rise(self, rung: str, statistic: Statistic) -> Estimate:
        """Return D_post - D_pre of a rung, paired."""
        return difference(self.exponent(rung, "post", statistic), self.exponent(rung, "pre", statistic))

    def mean_above_max(self, rung: str, phase: Phase) -> Estimate:
        """Return gamma - D, paired. Above 0 it contradicts the ansatz, since <s> <= s_max."""
        return difference(self.exponent(rung, phase, "mean"), self.exponent(rung, phase, "max"))

    def attribution(self, span: Span, statistic: Statistic) -> Attribution:
        """Return what accounts for an exponent minus 1, or for its rise.

        Raises
        ------
        InputError
            If the "gaussian" or the "permuted" null was not measured, or as ``value`` does.
        """
        if self.independent is not None:
            return replace(
                self.independent.attribution(span, statistic),
                total=shifted(self.value("real", span, statistic), -_level(span)),
                imprint=self.imprint(span, statistic),
            )
        values = {rung: self.value(rung, span, statistic) for rung in ("real", *self.nulls)}
        for rung in ("gaussian", "permuted"):
            self._rung(rung)

        def part(rungs: tuple[str, str]) -> Estimate:
            return difference(values[rungs[0]], values[rungs[1]])

        return Attribution(
            total=shifted(values["real"], -_level(span)),
            estimator=shifted(values["gaussian"], -_level(span)),
            distribution=part(("permuted", "gaussian")),
            arrangement=part(("real", "permuted")),
            imprint=None,
            details={name: part(rungs) for name, rungs in DETAILS.items() if values.keys() >= {*rungs}},
        )

    def arrangement(self, span: Span, statistic: Statistic) -> Estimate:
        """Return D_real - D_permuted, paired: due to the arrangement of the entries on the graph.

        Of runs trained in-line, on the independent graph if it was measured.
        """
        if self.independent is not None:
            return self.independent.arrangement(span, statistic)
        return difference(self.value("real", span, statistic), self.value("permuted", span, statistic))

    def imprint(self, span: Span, statistic: Statistic) -> Estimate | None:
        """Return D_real on the training's graph minus that on an independent graph, paired.

        None if nothing was measured on an independent graph.
        """
        if self.independent is None:
            return None
        own, other = (on.value("real", span, statistic) for on in (self, self.independent))
        return difference(own, other)

    def crossing_of_null(self, rung: str, statistic: Statistic) -> Estimate:
        """Return when D(t) rises above that of a null.

        Raises
        ------
        InputError
            For a null that was not measured, or another statistic.
        """
        check_statistic(statistic)
        null = self._rung(rung)
        return crossing_of_null(self.real.curves[statistic], null.curves[statistic])

    @property
    def _title(self) -> str:
        return f"Exponents of {self.real.dataset.sizes['run']} runs and of {len(self.nulls)} nulls"

    def _lines(self) -> Mapping[str, str]:
        return {
            f"{STATISTICS[statistic].symbol} {phase}, {rung.replace('_', ' ')}": found.text
            for rung, analysis in (("real", self.real), *self.nulls.items())
            for phase, of_phase in analysis.exponents.items()
            for statistic, found in of_phase.items()
        }

    def _rung(self, rung: str) -> SweepAnalysis:
        measured = {"real": self.real, **self.nulls}
        if rung not in measured:
            raise InputError(f"the rung is {rung!r}; this sweep has {', '.join(measured)}")
        return measured[rung]


def _level(span: Span) -> float:
    """Return the value that is trivial: 1 of an exponent, 0 of a rise."""
    return 0.0 if span == "rise" else 1.0
