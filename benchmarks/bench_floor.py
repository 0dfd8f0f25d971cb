"""How near one cascade is to the time that its fewest bytes take at the machine's own copy bandwidth.

The fewest bytes of N entries of w bytes, s topplings and 4 s shares: the threshold reads the gradient
(N w), the cascade reads it and writes the relaxed one (2 N w), a toppling reads where its row begins
and its neighbours (4 bytes each, where they are stored), a share is added to an entry (2 w), and the
angle reads both gradients (2 N w). Bandwidth is that of copying as many entries, each read and written
once.

Without arguments, all cases; ``--case TOPOLOGY N DTYPE THREADS`` measures one, as the other form does
in a process of its own, and prints it as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import gradquake as gq
from gradquake.graphs import TOPOLOGIES, ComputedGraph

SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)
LARGE = [("barabasi_albert", 10**8, dtype, 1) for dtype in ("float32", "float64")] + [
    (topology, n, "float32", threads)
    for n in (10**8, 10**9)
    for topology in ("ring", "square_lattice", "random_regular")
    for threads in (1, 2)
]


def best(function, repeats, calls=1):
    """Return the shortest time of a call: what disturbs a machine only ever adds to it."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        times.append((time.perf_counter() - start) / calls)
    return min(times)


def peak():
    """Return the most memory that this process had so far, the graph and all, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def normal(n, dtype):
    gradient, rng = np.empty(n, dtype), np.random.default_rng(0)
    for start in range(0, n, 10**7):
        part = gradient[start : start + 10**7]
        part[:] = rng.standard_normal(part.size, dtype=dtype)
    return gradient


def floor(avalanche, n, width, stored):
    topplings, shares = avalanche.size, 4 * avalanche.size
    return 5 * n * width + stored * 4 * (topplings + shares) + 2 * width * shares


def measure(topology, n, dtype, threads):
    probe = gq.Probe(topology)
    start = time.perf_counter()
    graph = probe.graph(n)
    drawn = time.perf_counter() - start
    gradient = normal(n, dtype)

    def cascade():
        if threads == 1:
            return probe.measure(gradient, graph)
        return probe.measure_pieces([gradient], graph, threads=threads)

    avalanche = cascade()
    calls = max(1, 2 * 10**5 // n)
    seconds = best(cascade, 1 if n > 10**8 else 3 if n > 10**7 else 7, calls)
    there = np.empty(min(n, 10**8), dtype)
    bandwidth = 2 * there.nbytes / best(lambda: np.copyto(there, gradient[: there.size]), 7, calls)
    stored = not isinstance(graph, ComputedGraph) or "_arrays" in vars(graph)
    fewest = floor(avalanche, n, gradient.itemsize, stored)
    return {
        "topology": topology, "n": n, "dtype": dtype, "threads": threads, "graph_s": drawn,
        "seconds": seconds, "bandwidth": bandwidth, "over_floor": seconds * bandwidth / fewest,
        "bytes_a_parameter": peak() / n,
    }  # fmt: skip


def cases(largest):
    for topology in TOPOLOGIES:
        for n in SIZES:
            # A network has 4 h + 1 parameters.
            size = n // 4 * 4 + 1 if topology == "computational" else n
            for dtype in ("float32", "float64"):
                for threads in (1, 2):
                    yield topology, size, dtype, threads
    yield from (case for case in LARGE if case[1] <= largest)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs=4)
    parser.add_argument("--largest", type=float, default=1e8, help="the largest N; 1e9 needs 20 GiB")
    options = parser.parse_args()
    if options.case:
        topology, n, dtype, threads = options.case
        print(json.dumps(measure(topology, int(float(n)), dtype, int(threads))))
        return
    print(
        f"{'topology':<17}{'N':>11} {'dtype':<8} threads {'time':>11} {'GB/s':>5} {'/floor':>6} bytes/N"
    )
    found = []
    for case in cases(options.largest):
        command = [sys.executable, __file__, "--case", *map(str, case)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found.append(row)
        print(
            f"{row['topology']:<17}{row['n']:>11} {row['dtype']:<8} {row['threads']:>7} "
            f"{row['seconds'] * 1e3:>8.3f} ms {row['bandwidth'] / 1e9:>5.1f} {row['over_floor']:>6.1f} "
            f"{row['bytes_a_parameter']:>7.1f}  graph {row['graph_s']:.1f} s",
            flush=True,
        )
    print("log-log slope of time against N, from 10^4 on:")
    for topology in TOPOLOGIES:
        for dtype in ("float32", "float64"):
            rows = [
                row
                for row in found
                if (row["topology"], row["dtype"], row["threads"]) == (topology, dtype, 1)
                and 9_000 < row["n"] < 2 * 10**8
            ]
            logs = np.log([[row["n"], row["seconds"]] for row in rows])
            slope = np.polyfit(*logs.T, 1)[0]
            print(f"  {topology:<17} {dtype:<8} {slope:.3f} over {rows[0]['n']} to {rows[-1]['n']}")


if __name__ == "__main__":
    main()
