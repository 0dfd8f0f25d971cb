"""How much faster are cascades than vectorised NumPy around a SciPy product, on one thread.

One at a time; then batches of the XOR shape, whose fewest bytes (see ``bench_floor.py``) are held
against the bandwidth of copying one gradient in the caches.
"""

from __future__ import annotations

import os
import time
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import gradquake as gq
from peers import SciPyCascade

SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)

# The sizes of the XOR networks, and so many gradients of each.
BATCHED = (81, 201, 481, 801, 2001)
BATCH = 2048


def medians(functions, calls, repeats=7):
    """Return the median time a call of functions called in turn, so that drift hits all of them."""
    times = np.empty((repeats, len(functions)))
    for row in times:
        for column, function in enumerate(functions):
            start = time.perf_counter()
            for _ in range(calls):
                function()
            row[column] = (time.perf_counter() - start) / calls
    return np.median(times, axis=0)


def batches():
    """Compare thousands of cascades, each on a graph of its own, with one call of the peer for each."""
    print(f"{'N':>9}  {'a second and core':>18}  {'peer':>8}  {'ratio':>6}  {'over the floor':>14}")
    for n in BATCHED:
        probe, rng = gq.Probe(seed=0), np.random.default_rng(0)
        graphs = [gq.topologies.barabasi_albert(n, seed=seed) for seed in range(BATCH)]
        stack, gradients = gq.graphs.stack(graphs), rng.standard_normal((BATCH, n))
        peers = [SciPyCascade(graph) for graph in graphs]

        def ours(probe=probe, gradients=gradients, stack=stack):
            return probe.measure_batch(gradients, stack, threads=1)

        def theirs(peers=peers, gradients=gradients):
            return [peer.measure(row) for peer, row in zip(peers, gradients, strict=True)]

        batch = ours()
        assert batch.size.tolist() == [found[0] for found in theirs()]
        fast, slow = medians([ours, theirs], calls=1, repeats=5)
        there = np.empty(n)
        (copy,) = medians([partial(np.copyto, there, gradients[0])], calls=10**4)
        shares = 4 * batch.size.sum()
        fewest = 40 * n * BATCH + 4 * (batch.size.sum() + shares) + 16 * shares
        print(
            f"{n:>9}  {BATCH / fast:>18.0f}  {BATCH / slow:>8.0f}  {slow / fast:>6.1f}  "
            f"{fast / (fewest / (2 * there.nbytes) * copy):>14.1f}"
        )


def main():
    print(f"{'N':>9}  {'gradquake':>12}  {'peer':>12}  {'ratio':>6}")
    for n in SIZES:
        gradient = np.random.default_rng(0).standard_normal(n)
        probe = gq.Probe(seed=0)
        peer = SciPyCascade(probe.graph_on(n))
        ours, theirs = probe.measure(gradient), peer.measure(gradient)
        assert (ours.size, ours.duration, ours.area, ours.peak) == theirs[:4]
        both = [partial(probe.measure, gradient), partial(peer.measure, gradient)]
        fast, slow = medians(both, calls=max(1, min(200, 10**6 // n)))
        print(f"{n:>9}  {fast * 1e3:>9.3f} ms  {slow * 1e3:>9.3f} ms  {slow / fast:>6.1f}")
    batches()


if __name__ == "__main__":
    main()
