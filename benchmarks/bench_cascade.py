"""How much faster is one cascade than vectorised NumPy around a SciPy product, on one thread."""

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


def main():
    print(f"{'N':>9}  {'gradquake':>12}  {'peer':>12}  {'ratio':>6}")
    for n in SIZES:
        gradient = np.random.default_rng(0).standard_normal(n)
        probe = gq.Probe(seed=0)
        peer = SciPyCascade(probe.graph(n))
        ours, theirs = probe.measure(gradient), peer.measure(gradient)
        assert (ours.size, ours.duration, ours.area, ours.peak) == theirs[:4]
        both = [partial(probe.measure, gradient), partial(peer.measure, gradient)]
        fast, slow = medians(both, calls=max(1, min(200, 10**6 // n)))
        print(f"{n:>9}  {fast * 1e3:>9.3f} ms  {slow * 1e3:>9.3f} ms  {slow / fast:>6.1f}")


if __name__ == "__main__":
    main()
