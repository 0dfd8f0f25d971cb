"""When D(t) of a sweep crosses 1 and its null, on shared epochs and relative to grokking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from gradquake.analysis.dimension import Curve, crossing_of_null, curve
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.resampling import Estimate, difference
from gradquake.analysis.shown import Shown, bracketed
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.timing import PermutationTest, follows_grokking
from gradquake.study.execution import each, unpacked

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["STEPS_OF_STATISTIC", "Aligned", "CrossingTimes", "Timing", "Told", "timing_of"]

Result = TypeVar("Result")

# The curves and the crossings that are computed of each statistic.
STEPS_OF_STATISTIC = 4


class Told(Protocol):
    """Passes results on, and reports each to a progress bar."""

    def __call__(self, results: Iterable[Result], /) -> Iterator[Result]:
        """Yield the results."""
        ...


class Aligned(NamedTuple):
    """Sweeps whose epochs are the times since each run's own t_g: real gradients and permuted ones."""

    real: xr.Dataset
    permuted: xr.Dataset


@dataclass(frozen=True, eq=False, repr=False)
class CrossingTimes(Shown):
    """When D(t) crosses a level, on three kinds of time; NaN without a crossing.

    Attributes
    ----------
    epoch : Estimate
        On the epochs that the runs share.
    lag : Estimate
        The same minus the median t_g of all runs.
    aligned : Estimate
        On the time since each run's own t_g.
    """

    epoch: Estimate
    lag: Estimate
    aligned: Estimate

    def _lines(self) -> Mapping[str, str]:
        found = {"epoch": self.epoch, "minus median t_g": self.lag, "aligned": self.aligned}
        return {name: bracketed(time.value, time.low, time.high, 0) for name, time in found.items()}


@dataclass(frozen=True, eq=False, repr=False)
class Timing(Shown):
    """When D(t) of one statistic crosses. The null is the permuted one.

    Attributes
    ----------
    of_one, of_null : CrossingTimes
        When D(t) rises above 1, and above its null.
    null_of_one : CrossingTimes
        When D(t) of the null rises above 1.
    aligned, aligned_null : Curve
        D(t - t_g), of the real gradients and of their null: each run is read at its own t_g plus an
        offset.
    follows : PermutationTest
        Whether the rise D_post - D_pre follows the runs' own t_g.
    """

    of_one: CrossingTimes
    of_null: CrossingTimes
    null_of_one: CrossingTimes
    aligned: Curve
    aligned_null: Curve
    follows: PermutationTest

    def _lines(self) -> Mapping[str, str]:
        return {
            "crosses 1": self.of_one.text,
            "crosses its null": self.of_null.text,
            "null crosses 1": self.null_of_one.text,
            "follows t_g": self.follows.text,
        }


def timing_of(
    sweep: xr.Dataset,
    ladder: Ladder,
    grokking: Estimate,
    aligned: Aligned,
    executor: Executor | None,
    n_resamples: int,
    told: Told,
) -> dict[Statistic, Timing]:
    """Return when D(t) of every statistic crosses; ``grokking`` is the median t_g of all runs."""
    pairs = [(dataset, statistic) for statistic in STATISTICS for dataset in aligned]
    curves = list(told(each(unpacked(partial(curve, n_resamples=n_resamples)), pairs, executor)))
    real, null = ladder.real, ladder.nulls["permuted"]
    shared = [(real.curves[s], null.curves[s]) for s in STATISTICS]
    since = list(zip(curves[::2], curves[1::2], strict=True))
    crossings = list(told(each(unpacked(crossing_of_null), [*shared, *since], executor)))
    found = {}
    for i, statistic in enumerate(STATISTICS):
        (of_real, of_permuted), (aligned_real, aligned_null) = shared[i], since[i]
        of_null, aligned_of_null = crossings[i], crossings[len(STATISTICS) + i]

        def times(epoch: Estimate, aligned: Estimate) -> CrossingTimes:
            return CrossingTimes(epoch, difference(epoch, grokking), aligned)

        found[statistic] = Timing(
            times(of_real.crossing, aligned_real.slim().crossing),
            times(of_null, aligned_of_null),
            times(of_permuted.crossing, aligned_null.slim().crossing),
            aligned_real.slim(),
            aligned_null.slim(),
            follows_grokking(sweep, statistic),
        )
    return found
