"""How much faster is one cascade than vectorised NumPy around a SciPy product, on one thread."""

from __future__ import annotations

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import gradquake as gq
from peers import SciPyCascade

SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)


def medians(first, second, repeats):
    """Return the median times of two functions called in turn, so that drift hits both."""
    times = np.empty((repeats, 2))
    for row in times:
        for column, function in enumerate((first, second)):
            start = time.perf_counter()
            function()
            row[column] = time.perf_counter() - start
    return np.median(times, axis=0)


def main():
    print(f"{'N':>9}  {'gradquake':>12}  {'peer':>12}  {'ratio':>6}")
    for n in SIZES:
        gradient = np.random.default_rng(0).standard_normal(n)
        probe = gq.Probe(seed=0)
        peer = SciPyCascade(probe.graph(n))
        ours, theirs = probe.measure(gradient), peer.measure(gradient)
        assert (ours.size, ours.duration, ours.area, ours.peak) == theirs[:4]
        repeats = min(1000, max(5, 3 * 10**6 // n))
        fast, slow = medians(
            lambda p=probe, g=gradient: p.measure(g), lambda p=peer, g=gradient: p.measure(g), repeats
        )
        print(f"{n:>9}  {fast * 1e3:>9.3f} ms  {slow * 1e3:>9.3f} ms  {slow / fast:>6.1f}")


if __name__ == "__main__":
    main()
