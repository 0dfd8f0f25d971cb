"""What the rise D_post - D_pre is made of: how much of it depends on whose t_g splits the runs.

The t_g of a run, at which its snapshots are split, is another epoch at other N. The split can therefore
make a rise, or hide one, without any change at t_g. The same groups of runs are split again at the t_g
of other runs, and with their snapshots in random order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.channels import in_channel
from gradquake.analysis.fits import slopes
from gradquake.analysis.group_functions import rise_of_groups
from gradquake.analysis.groups import GROUP_SIZE, Draws, disjoint_groups, mean_of_groups
from gradquake.analysis.resampling import N_RESAMPLES, Estimate, Interval, percentile_interval
from gradquake.analysis.scales import same_runs, scale_groups
from gradquake.analysis.shown import Shown, bracketed
from gradquake.analysis.statistics import STATISTICS, SplitValues, Statistic, check_statistic
from gradquake.errors import InputError, require, require_count

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["PARTS", "Part", "RiseParts", "Share", "rise_parts"]

Floats = NDArray[np.float64]

# The number of times that the snapshots of each run are shuffled.
N_SHUFFLES = 24

# The most exchanges of t_g within a group.
MOST_EXCHANGES = 20

Part = Literal["split", "epoch", "scale", "own"]
PARTS: tuple[Part, ...] = ("split", "epoch", "scale", "own")


@dataclass(frozen=True, repr=False)
class Share(Interval):
    """A part of the rise as a share of it, with its 95 % interval over groups."""

    value: float

    def _lines(self) -> Mapping[str, str]:
        return {"": bracketed(self.value, self.low, self.high)}


@dataclass(frozen=True, eq=False, repr=False)
class RiseParts(Shown):
    """What makes the rise D_post - D_pre of groups of runs that are split at their t_g: four parts.

    Attributes
    ----------
    rise : Estimate
        The rise itself, the sum of the parts.
    split : Estimate
        The rise if the snapshots of each run are in random order: there is no change in time at all,
        and what is left is that the two phases have different numbers of snapshots at different N.
    epoch : Estimate
        The rise with the t_g of runs of any scale, beyond that of their split: due to the epoch alone.
    scale : Estimate
        The rise with the t_g of other runs of the same scale, beyond that of the split, minus
        ``epoch``: due to t_g being another epoch at other N.
    own : Estimate
        The rise minus that with the t_g of other runs of the same scale: due to the run's own t_g.
    null : Estimate, optional
        The rise of a null of the same runs. It is no part of the sum.
    shares : dict
        Of each part and of the null, by name, the mean over the groups as a share of the mean rise.
    """

    rise: Estimate
    split: Estimate
    epoch: Estimate
    scale: Estimate
    own: Estimate
    shares: dict[Part | Literal["null"], Share]
    null: Estimate | None = None

    def _lines(self) -> Mapping[str, str]:
        null = {} if self.null is None else {"null": self.null.text}
        parts = {name: getattr(self, name).text for name in ("rise", *PARTS)} | null
        return parts | {f"{name} / rise": share.text for name, share in self.shares.items()}


def rise_parts(
    dataset: xr.Dataset,
    statistic: Statistic = "max",
    null: xr.Dataset | None = None,
    *,
    channel: str = "size",
    size: int = GROUP_SIZE,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> RiseParts:
    """Return how much of the rise is due to the split, the epoch, the scale, and each run's own t_g.

    The values are means over disjoint groups of runs, with Student's t intervals (see ``groups``). In a
    group, the runs of a scale take one another's t_g in a circle, by each distance, so that none keeps
    its own. A null with the t_g of its runs tells the share of the split of its sizes.

    Parameters
    ----------
    dataset : xarray.Dataset
        One sweep (see ``gradquake.study.recording``).
    statistic, channel : str
        As in ``scaling.exponent``.
    null : xarray.Dataset, optional
        A null of the same runs in the same order, whose rise is set beside.
    size : int
        The runs of a scale in a group, at least 2.
    n_resamples : int
        Resamples of groups, for the intervals of the shares.
    seed : int
        Of the groups, the shuffles and the resamples.

    Raises
    ------
    InputError
        For another statistic or channel, fewer than two groups, or a null of other runs.
    """
    check_statistic(statistic)
    require_count("the size of a group", size, 2)
    dataset = in_channel(dataset, channel)
    groups = scale_groups(dataset)
    fewest = min(runs.size for _, runs in groups)
    if fewest < 2 * size:
        raise InputError(
            f"a scale has {fewest} runs; the parts of the rise need two groups of {size} runs"
        )
    require(
        null is None or same_runs(null, dataset),
        "the null has other sizes, seeds or snapshots than the sweep; a null of the same runs is needed",
    )
    draws = disjoint_groups([runs.size for _, runs in groups], size, seed=seed)
    found = _rises(dataset, statistic, draws, seed)
    epoch = found.of_any_scale - found.shuffled_of_any_scale
    scale = found.of_scale - found.shuffled - epoch
    parts = [found.own, found.shuffled, epoch, scale, found.own - found.of_scale]
    names: tuple[Any, ...] = PARTS
    if null is not None:
        parts.append(rise_of_groups(null, statistic, channel=channel)(draws))
        names = (*PARTS, "null")
    columns = np.stack(parts, axis=1)
    value, ends, invalid = mean_of_groups(columns)
    estimates = [
        Estimate(low=low, high=high, invalid=of, value=at, runs=size)
        for at, low, high, of in zip(*(a.tolist() for a in (value, *ends, invalid)), strict=True)
    ]
    known = columns[np.isfinite(columns).all(axis=1)]
    taken = np.random.default_rng(seed).integers(len(known), size=(n_resamples, len(known)))
    means = known[taken].mean(axis=1)
    shares = {
        name: Share(
            **vars(percentile_interval(means[:, k] / means[:, 0], len(known))),
            value=float(value[k] / value[0]),
        )
        for k, name in enumerate(names, start=1)
    }
    return RiseParts(**dict(zip(("rise", *names), estimates, strict=True)), shares=shares)


class _Rises(NamedTuple):
    """The rise of each group at its own t_g and at those of others, also with shuffled snapshots."""

    own: Floats
    of_scale: Floats
    of_any_scale: Floats
    shuffled: Floats
    shuffled_of_any_scale: Floats


def _rises(dataset: xr.Dataset, statistic: Statistic, draws: Draws, seed: int) -> _Rises:
    epochs, rng = dataset["epoch"].values, np.random.default_rng(seed)
    before = np.searchsorted(epochs, dataset["grokking_epoch"].fillna(np.inf).values)
    groups, size = scale_groups(dataset), draws[0].shape[1]
    # The runs of each group by their positions in the sweep, shape (scales, groups, size).
    members = np.stack([runs[drawn] for (_, runs), drawn in zip(groups, draws, strict=True)])
    column, scales = np.arange(size), range(len(groups))
    found: list[list[SplitValues]] = []
    for k, ((_, runs), drawn) in enumerate(zip(groups, draws, strict=True)):
        sizes = dataset["size"].values[runs].astype(np.float64)
        of = STATISTICS[statistic]
        others = [np.roll(members[k], by, axis=1) for by in range(1, min(size, MOST_EXCHANGES + 1))]
        # The runs of a group take the t_g of as many scales as there are, in turn.
        any_scale = [members[(k + by + column) % len(groups), :, column].T for by in scales]
        ways = [of.split(sizes, before, order, drawn) for order in (members[k], *others, *any_scale)]
        for by in range(N_SHUFFLES):
            shuffled = rng.permuted(sizes, axis=1)
            ways.append(of.split(shuffled, before, members[k], drawn))
            ways.append(of.split(shuffled, before, any_scale[by % len(groups)], drawn))
        found.append(ways)
    n = [scale for scale, _ in groups]
    rises = np.stack(
        [
            slopes(n, np.stack([at.post for at in way], axis=-1))
            - slopes(n, np.stack([at.pre for at in way], axis=-1))
            for way in zip(*found, strict=True)
        ]
    )
    own, of_others, of_any, shuffled = np.split(
        rises, np.cumsum([1, len(rises) - 1 - len(groups) - 2 * N_SHUFFLES, len(groups)])
    )
    parts = (own, of_others, of_any, shuffled[::2], shuffled[1::2])
    return _Rises(*(part.mean(axis=0) for part in parts))
