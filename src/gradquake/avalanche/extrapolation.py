"""The avalanche of a whole gradient, estimated from a random sample of its entries.

On a random graph whose nodes are exchangeable, the arrangement of a gradient plays no part. Then s / N
depends on the distribution of the entries alone, which a sample shares up to its error.
"""

from __future__ import annotations

import math

import numpy as np

from gradquake.avalanche.cascade import Avalanche
from gradquake.avalanche.graphs import Graph
from gradquake.avalanche.probe import Probe
from gradquake.avalanche.sums import Gradient
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.errors import InputError

__all__ = ["BLOCKS", "check_exchangeable", "extrapolated", "size_error"]

# The sample is cut into this many random blocks, whose sizes give the standard error.
BLOCKS = 16
SMALLEST_BLOCK = 100

# Keeps the random stream of blocks apart from all others of the same seed.
STREAM = 0x626C6F63

# The numbers of an avalanche that are proportional to N.
EXTENSIVE = ("size", "area", "peak")


def check_exchangeable(probe: Probe, sample: int) -> None:
    """Raise InputError unless a sample of this size can stand for a whole on the probe's graph."""
    fitting = [name for name, one in TOPOLOGIES.items() if one.exchangeable]
    if isinstance(probe.graph, Graph) or probe.topology not in fitting:
        raise InputError(
            f"the graph is {probe.topology}, on which the arrangement of a gradient plays a part; a "
            f"sample stands for the whole only on {' and '.join(fitting)}"
        )
    least = BLOCKS * SMALLEST_BLOCK
    if sample < least:
        raise InputError(f"sample is {sample}; at least {least} entries are needed for a standard error")


def extrapolated(found: Avalanche, sample: int, total: int) -> dict[str, float]:
    """Return the numbers of a sample's avalanche by name, the counts scaled to the whole."""
    scaled = {name: round(getattr(found, name) * total / sample) for name in EXTENSIVE}
    return {**found.measured(), **scaled}


def size_error(probe: Probe, sample: Gradient, total: int) -> float:
    """Return the standard error of the extrapolated size.

    It comes from the sizes of ``BLOCKS`` random blocks of the sample, each on a graph of its own number
    of nodes: their standard deviation over the square root of their number, with the correction for a
    sample that is a large part of the whole. It is itself uncertain by 18 %. A sample that is fixed over
    a training deviates alike at all steps, so that a mean over steps does not reduce the error.

    Parameters
    ----------
    probe : Probe
        Its graph must be the name of a topology.
    sample : array, shape (n,)
    total : int
        The number of entries of the whole gradient.
    """
    length = sample.size // BLOCKS
    rng = np.random.default_rng(np.random.SeedSequence((STREAM, probe.seed)))
    blocks = sample[rng.permutation(sample.size)[: BLOCKS * length]].reshape(BLOCKS, length)
    shares = probe.measure_batch(blocks, threads=1).size / length
    error = float(shares.std(ddof=1)) / math.sqrt(BLOCKS)
    return total * error * math.sqrt(1.0 - sample.size / total)
