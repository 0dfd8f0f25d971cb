"""The ladder of nulls: what of an exponent each property of the gradient accounts for.

On every rung stands the same analysis of a surrogate of the very gradients measured (see
``gradquake.avalanche.surrogates``): the same estimator, statistic, sizes, seeds, snapshots and
graphs. Runs are resampled alike on all rungs, so that the differences between them are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradquake.analysis.resampling import Estimate, difference, shifted
from gradquake.analysis.scaling import Exponent, Statistic, check_statistic
from gradquake.analysis.sweep import SweepAnalysis, Window, check_window, crossing_of_null
from gradquake.errors import InputError

# "rise" is what an exponent gains from before to after the grokking epochs.
Span = Literal["all", "pre", "post", "rise"]
SPANS: tuple[Span, ...] = ("all", "pre", "post", "rise")

# What each part of an exponent is the difference of. The first is the sum of the next two; the others
# look into the arrangement, and overlap.
PARTS = {
    "above_gaussian": ("real", "gaussian"),
    "marginal_distribution": ("permuted", "gaussian"),
    "arrangement": ("real", "permuted"),
    "which_tensor": ("permuted_within_tensor", "permuted"),
    "place_in_tensor": ("real", "permuted_within_tensor"),
    "signs": ("real", "sign_flipped"),
}


@dataclass(frozen=True, eq=False)
class Ladder:
    """The analyses of a sweep and of its nulls.

    Attributes
    ----------
    real : SweepAnalysis
        Of the gradients as they are.
    nulls : dict
        Of their surrogates, by rung; at least "gaussian" and "permuted".
    """

    real: SweepAnalysis
    nulls: dict[str, SweepAnalysis]

    def exponent(self, rung: str, window: Window, statistic: Statistic) -> Exponent:
        """Return the exponent of a rung; "real" is the data.

        Raises
        ------
        InputError
            For a rung that was not measured, or another window or statistic.
        """
        check_statistic(statistic)
        check_window(window)
        return self._rung(rung).exponents[window, statistic]

    def value(self, rung: str, span: Span, statistic: Statistic) -> Estimate:
        """Return the exponent of a rung over a window, or its rise: D_post - D_pre, paired.

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

    def part(self, name: str, span: Span, statistic: Statistic) -> Estimate:
        """Return one of ``PARTS`` of an exponent or of its rise, with its paired interval.

        Raises
        ------
        InputError
            For another part, or as ``value`` does.
        """
        if name not in PARTS:
            raise InputError(f"the part is {name!r}; one of {', '.join(PARTS)} is needed")
        upper, lower = PARTS[name]
        return difference(self.value(upper, span, statistic), self.value(lower, span, statistic))

    def attribution(self, span: Span, statistic: Statistic) -> dict[str, Estimate]:
        """Return what accounts for an exponent minus 1, or for its rise.

        "estimator" is D_gaussian - 1 (of the rise: D_gaussian's own rise): what the estimator gives
        where there is nothing to find. With "marginal_distribution", D_permuted - D_gaussian, and
        "arrangement", the correlation excess D_real - D_permuted, it makes up D - 1 (or the rise).
        Parts whose rungs were not measured are left out.
        """
        gaussian = self.value("gaussian", span, statistic)
        offset = 0.0 if span == "rise" else -1.0
        estimator = shifted(gaussian, offset)
        measured = {"real", *self.nulls}
        parts = {
            name: self.part(name, span, statistic)
            for name, rungs in PARTS.items()
            if measured.issuperset(rungs)
        }
        return {"estimator": estimator, **parts}

    def excess(self, span: Span, statistic: Statistic) -> Estimate:
        """Return the correlation excess D_real - D_permuted."""
        return self.part("arrangement", span, statistic)

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

    def _rung(self, rung: str) -> SweepAnalysis:
        measured = {"real": self.real, **self.nulls}
        if rung not in measured:
            raise InputError(f"the rung is {rung!r}; of this sweep {', '.join(measured)} were measured")
        return measured[rung]
