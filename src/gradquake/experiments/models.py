"""Models with known exponents: branching process, directed, Oslo and Manna sandpiles, OFC earthquakes.

They make avalanches without a gradient, so that the analysis can be compared with theory. Each avalanche
is one snapshot. The size axis of these sweeps is the linear size L, the field ``width``: it is recorded
as ``n_parameters`` too, so that every exponent is one of L.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.errors import require, require_between, require_count, require_seed
from gradquake.experiments import _kernels_models
from gradquake.experiments.experiment import Experiment, RecordedRun
from gradquake.study.recording import RunRecord

__all__ = [
    "BRANCHING", "DIRECTED_SANDPILE", "EARTHQUAKES", "MANNA", "OSLO", "Avalanches", "BranchingRun",
    "DirectedSandpileRun", "EarthquakeRun", "MannaRun", "ModelRun", "OsloRun", "measure",
]  # fmt: skip

Integers = NDArray[np.int64]

# Distinguishes the stream of draws from any other that a seed feeds.
STREAM = 0x6D6F646C

# Longer arrays of a kernel would only take memory.
AT_ONCE = 1 << 16

# A quarter of a block's force goes to each of four neighbors: nothing is lost inside.
CONSERVATIVE = 0.25


class Avalanches(NamedTuple):
    """The avalanches of a run in order; arrays of shape (avalanches,)."""

    size: Integers
    duration: Integers
    area: Integers

    @classmethod
    def blank(cls, count: int) -> Avalanches:
        """Return arrays to fill."""
        return cls(*(np.zeros(count, np.int64) for _ in cls._fields))


@dataclass(frozen=True, kw_only=True)
class ModelRun(RecordedRun):
    """One run of a model: avalanches in the stationary state.

    Parameters
    ----------
    width : int
        The linear size L, at least 2.
    seed : int
        Seed of the draws, at least 0.
    avalanches : int
        The number of avalanches to record, at least 1, after those of the transient.

    Raises
    ------
    InputError
        For a value out of range.
    """

    width: int
    seed: int
    avalanches: int = 1 << 14

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("width", self.width, 2)
        require_seed(self.seed)
        require_count("avalanches", self.avalanches, 1)

    @property
    def n_parameters(self) -> int:
        """The linear size L, in place of a number of parameters."""
        return self.width

    @property
    def random_state(self) -> NDArray[np.uint64]:
        """The start of the run's random numbers, shape (1,)."""
        entropy = np.random.SeedSequence(self.seed, spawn_key=(STREAM, self.width))
        return entropy.generate_state(1, np.uint64).astype(np.uint64)

    @abstractmethod
    def simulate(self) -> Avalanches:
        """Return the avalanches of the run."""


@dataclass(frozen=True, kw_only=True)
class BranchingRun(ModelRun):
    """A branching process: each member of a family may have two children, independently.

    A family is an avalanche: its size is its members, its duration the generations that have any. Only
    the first L generations are counted, which cuts sizes off near L^2. With one child on average, the
    exponents are tau = 3/2, D = 2, and for durations 2, z = 1 (T. E. Harris, The Theory of Branching
    Processes, Springer 1963); the mean size is L. Families are independent: there is no transient.

    Parameters
    ----------
    width : int
        The number L of generations, at least 2.
    children : float
        The mean number of children, in (0, 2): 1 is critical.
    """

    experiment = "branching"

    children: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between("children", self.children, 0, 2)

    def simulate(self) -> Avalanches:
        """Return the families of the run."""
        found = Avalanches.blank(self.avalanches)
        _kernels_models.branching(self.children / 2, self.width, self.random_state, *found)
        return found


@dataclass(frozen=True, kw_only=True)
class DirectedSandpileRun(ModelRun):
    """The directed Abelian sandpile on L rows of L sites, periodic across, driven on its top row.

    A site with two grains sends one to each of two sites in the next row; grains leave below the last.
    Exactly, D = 3/2, tau = 4/3, and for durations 3/2, z = 1 (D. Dhar and R. Ramaswamy, Phys. Rev. Lett.
    63, 1659 (1989)); the mean size is L/2. In the stationary state each site holds 0 or 1 grain,
    independently and with equal chances. Runs start there, so that there is no transient.
    """

    experiment = "directed_sandpile"

    def simulate(self) -> Avalanches:
        """Return the avalanches of the run."""
        found, state = Avalanches.blank(self.avalanches), self.random_state
        heights = np.random.default_rng(state).integers(0, 2, (self.width, self.width), np.int8)
        _kernels_models.directed_sandpile(heights, state, *found)
        return found


@dataclass(frozen=True, kw_only=True)
class OsloRun(ModelRun):
    """The Oslo rice pile of L sites, driven on its first site.

    A site topples if its slope exceeds its critical slope, 1 or 2 at random, which is drawn anew after
    each toppling (K. Christensen et al., Phys. Rev. Lett. 77, 107 (1996)). The mean size is L. Large
    simulations give D = 9/4, tau = 14/9 and z = 10/7 (P. Grassberger, D. Dhar and P. K. Mohanty, Phys.
    Rev. E 94, 042314 (2016)). The pile starts with slopes of 1. The first L (L + 1) / 2 avalanches are
    left out: then it is stationary, exactly (D. Dhar, Physica A 340, 535 (2004)).
    """

    experiment = "oslo"

    def simulate(self) -> Avalanches:
        """Return the avalanches of the run."""
        state = self.random_state
        slopes = np.ones(self.width, np.int64)
        limits = np.random.default_rng(state).integers(1, 3, self.width)
        _pass(_kernels_models.oslo, self.width * (self.width + 1) // 2, slopes, limits, state)
        found = Avalanches.blank(self.avalanches)
        _kernels_models.oslo(slopes, limits, state, *found)
        return found


@dataclass(frozen=True, kw_only=True)
class MannaRun(ModelRun):
    """The Abelian Manna sandpile on a square of L x L sites, driven at random sites.

    A site with two grains or more sends two of them to neighbors at random; grains leave at the edges.
    D = 2.750(6), tau = 1.273(2) and z = 1.532(8) (H. N. Huynh, G. Pruessner and L. Y. Chew, J. Stat.
    Mech. P09024 (2011), the square lattice). The lattice starts empty. The first 2 L^2 avalanches are
    left out: it holds 0.7 L^2 grains when it is stationary.
    """

    experiment = "manna"

    def simulate(self) -> Avalanches:
        """Return the avalanches of the run."""
        heights, state = np.zeros((self.width + 2, self.width + 2), np.int64), self.random_state
        _pass(_kernels_models.manna, 2 * self.width**2, heights, state)
        found = Avalanches.blank(self.avalanches)
        _kernels_models.manna(heights, state, *found)
        return found


@dataclass(frozen=True, kw_only=True)
class EarthquakeRun(ModelRun):
    """The earthquake model on a square of L x L blocks with open edges.

    All blocks are loaded alike until one reaches force 1 and slips; each neighbor receives ``alpha`` of
    its force (Z. Olami, H. J. S. Feder and K. Christensen, Phys. Rev. Lett. 68, 1244 (1992)). Forces
    start uniform in [0, 1). Avalanches count once the load of a block has reached L^1.3 (the transient
    grows so: S. Lise, J. Phys. A 35, 4641 (2002)), or 4 without dissipation (a block holds 0.6).

    Parameters
    ----------
    alpha : float
        The share of a slipping block's force that each neighbor receives, above 0, at most 0.25, at
        which no force is lost except at the edges.
    """

    experiment = "ofc"

    alpha: float = CONSERVATIVE

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.alpha <= CONSERVATIVE,
            "alpha is not above 0 and at most 0.25; with more, avalanches would not end",
        )

    def simulate(self) -> Avalanches:
        """Return the avalanches of the run."""
        forces = np.full((self.width + 2, self.width + 2), -np.inf)
        rng = np.random.default_rng(self.random_state)
        forces[1:-1, 1:-1] = rng.random((self.width, self.width))
        load = 4.0 if self.alpha == CONSERVATIVE else self.width**1.3
        found = Avalanches.blank(self.avalanches)
        _kernels_models.earthquakes(forces, self.alpha, load, *found)
        return found


def measure(runs: Sequence[ModelRun]) -> list[RunRecord]:
    """Simulate the avalanches of each run.

    Raises
    ------
    InputError
        If no run is given.
    """
    require(len(runs) > 0, "no run was given; at least one is needed")
    return [
        RunRecord(run.config(), None, np.arange(run.avalanches), run.simulate()._asdict())
        for run in runs
    ]


def _pass(kernel: object, count: int, *state: NDArray[np.generic]) -> None:
    """Let a number of avalanches pass that nobody records."""
    for start in range(0, count, AT_ONCE):
        kernel(*state, *Avalanches.blank(min(AT_ONCE, count - start)))  # type: ignore[operator]


# Five sizes, each twice the one before. The largest is the largest power of two, at most 1024, for which
# a run takes less than a second.
LONG = (64, 128, 256, 512, 1024)
BRANCHING = Experiment(BranchingRun, "width", LONG, measure)
DIRECTED_SANDPILE = Experiment(DirectedSandpileRun, "width", LONG, measure)
OSLO = Experiment(OsloRun, "width", (32, 64, 128, 256, 512), measure)
MANNA = Experiment(MannaRun, "width", (8, 16, 32, 64, 128), measure)
EARTHQUAKES = Experiment(EarthquakeRun, "width", (4, 8, 16, 32, 64), measure)
