"""A measurement with topplings counted by tensor, as a ratio to one without, in the same run.

    python benchmarks/bench_tensors.py

The two take turns; a ratio is that of their medians.
"""

import time

import numpy as np

from gradquake import Probe
from gradquake.avalanche.tensors import Layers

# The number of entries, of tensors, of gradients in a batch (0: a single call), and of repetitions.
CASES = (
    (2001, 4, 100, 1000),
    (2001, 40, 100, 1000),
    (2001, 4, 0, 5000),
    (200_000, 40, 0, 200),
    (10**7, 12, 0, 15),
    (10**7, 40, 0, 15),
)


def main():
    print(f"{'N':>10} {'tensors':>8} {'batch':>6} {'without':>12} {'with':>12} {'ratio':>6}")
    for n, count, batch, repeats in CASES:
        gradient = np.random.default_rng(0).standard_normal((batch or 1, n)).astype(np.float32)
        probe = Probe(Probe().graph_on(n))
        lengths = np.diff(np.linspace(0, n, count + 1).astype(int)).tolist()
        layers = Layers.of({f"t{k}": length for k, length in enumerate(lengths)}, n)
        times = ([], [])
        for _ in range(repeats):
            for taken, tensors in zip(times, (None, layers), strict=True):
                begin = time.perf_counter()
                if batch:
                    probe.measure_batch(gradient, threads=1, tensors=tensors)
                else:
                    probe.measure(gradient[0], tensors=tensors)
                taken.append(time.perf_counter() - begin)
        without, counted = map(np.median, times)
        ratio = counted / without
        print(f"{n:>10} {count:>8} {batch:>6} {without:>12.3g} {counted:>12.3g} {ratio:>6.3f}")


if __name__ == "__main__":
    main()
