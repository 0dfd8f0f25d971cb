"""What each group of six runs would conclude alone: its estimate, and the shares of verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from gradquake.analysis.groups import GROUP_SIZE, OfGroups, disjoint_groups
from gradquake.analysis.resampling import N_RESAMPLES, Estimate, estimated, run_resamples

__all__ = ["estimates_of_groups", "verdict_shares"]

T = TypeVar("T")
V = TypeVar("V", bound=str)


def estimates_of_groups(
    of: OfGroups,
    runs_of_scale: Sequence[int],
    *,
    size: int = GROUP_SIZE,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """Return for each disjoint group the estimate that a study of these runs alone would give.

    Its interval is the bootstrap over the runs of the group (see ``resampling``). Equal seeds give
    equal groups and resamples, so that ``difference`` pairs the estimates of two functions.
    """
    groups = disjoint_groups(runs_of_scale, size, seed=seed)
    within = run_resamples([size] * len(groups), n_resamples, seed)
    values = of(groups)
    return [
        estimated(
            float(value),
            of([runs[g][draws] for runs, draws in zip(groups, within, strict=True)]),
            size,
        )
        for g, value in enumerate(values)
    ]


def verdict_shares(rule: Callable[[T], V], groups: Iterable[T]) -> dict[V, float]:
    """Return the share of groups in which each verdict comes out, the most frequent first.

    Parameters
    ----------
    rule : callable
        Takes the estimates of one group, and returns a verdict.
    groups : iterable
        The estimates of each group, in the form that the rule takes: a single ``Estimate``, or a tuple
        or mapping of several, as ``zip`` makes them from lists of ``estimates_of_groups``.
    """
    verdicts = Counter(map(rule, groups))
    return {verdict: count / verdicts.total() for verdict, count in verdicts.most_common()}
