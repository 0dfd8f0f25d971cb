"""The ladder of nulls: what of an exponent each property of the gradient accounts for.

On every rung stands the same analysis of a surrogate of the very gradients measured (see
``gradquake.surrogates``): the same estimator, statistic, sizes, seeds, snapshots and graphs. Runs are
resampled alike on all rungs, so that the differences between them are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradquake.analysis.resampling import Estimate, difference
from gradquake.analysis.scaling import Exponent, Statistic
from gradquake.analysis.sweep import SweepAnalysis, Window, crossing_of_null

# What each part of an exponent is the difference of; the last three divide the arrangement.
PARTS = {
    "marginal distribution": ("permuted", "gaussian"),
    "arrangement": ("real", "permuted"),
    "which tensor": ("permuted_within_tensor", "permuted"),
    "place in the tensor": ("real", "permuted_within_tensor"),
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
        """Return the exponent of a rung; "real" is the data."""
        analysis = self.real if rung == "real" else self.nulls[rung]
        return analysis.exponents[window, statistic]

    def part(self, name: str, window: Window, statistic: Statistic) -> Estimate:
        """Return one of ``PARTS`` of an exponent, with its paired interval."""
        upper, lower = PARTS[name]
        return difference(
            self.exponent(upper, window, statistic), self.exponent(lower, window, statistic)
        )

    def attribution(self, window: Window, statistic: Statistic) -> dict[str, Estimate]:
        """Return the exponent minus 1 as a sum of three, and the arrangement's own parts.

        "estimator" is D_gaussian - 1: what the estimator gives where there is nothing to find. With
        "marginal distribution", D_permuted - D_gaussian, and "arrangement", the correlation excess
        D_real - D_permuted, it makes up D - 1. Parts whose rungs were not measured are left out.
        """
        gaussian = self.exponent("gaussian", window, statistic)
        estimator = Estimate(
            gaussian.estimate - 1,
            gaussian.interval.shifted(-1),
            gaussian.runs,
            gaussian.resamples - 1,
        )
        measured = {"real", *self.nulls}
        parts = {
            name: self.part(name, window, statistic)
            for name, rungs in PARTS.items()
            if measured.issuperset(rungs)
        }
        return {"estimator": estimator, **parts}

    def excess(self, window: Window, statistic: Statistic) -> Estimate:
        """Return the correlation excess D_real - D_permuted."""
        return self.part("arrangement", window, statistic)

    def crossing_of_null(self, rung: str, statistic: Statistic) -> Estimate:
        """Return when D(t) rises above that of a null."""
        return crossing_of_null(self.real.curves[statistic], self.nulls[rung].curves[statistic])
